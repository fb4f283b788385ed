//! `trailsync verify`: proves offline that a copy is complete and unaltered.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use jiff::civil::Date;
use jiff::tz::Offset;
use tokio_util::sync::CancellationToken;

use super::Exit;
use crate::clock::Timestamp;
use crate::config::{Config, OwnBucket, Source, Storage};
use crate::copy_of::CopyOf;
use crate::destination::bucket;
use crate::error::{Class, Error, Report};
use crate::layout::root;
use crate::ledger::Ledger;
use crate::role::Process;
use crate::verify::archive::{Archive, Tree};
use crate::verify::recorded::Rows;
use crate::verify::rows::LedgerRows;
use crate::verify::vault::Vault;
use crate::verify::{self, Conclusion, Progress, Silent, Verified, html, json, table};

/// Options of `trailsync verify`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Root of the copy, or `s3://<bucket>/<prefix>` of a configured destination [default: all that are configured].
    pub path: Option<PathBuf>,
    /// Only this account; may be given more than once.
    #[arg(long = "account", value_name = "ID")]
    pub accounts: Vec<String>,
    /// Only this trail; what no digest names is then not judged.
    #[arg(long = "trail", value_name = "NAME")]
    pub trails: Vec<String>,
    /// Only this region.
    #[arg(long = "region", value_name = "REGION")]
    pub regions: Vec<String>,
    /// From this time or day on; earlier digests are not expected.
    #[arg(long, value_name = "TIME", value_parser = parse_from)]
    pub from: Option<Timestamp>,
    /// Up to this time, or the end of this day; the copy should reach up to here.
    #[arg(long, value_name = "TIME", value_parser = parse_to)]
    pub to: Option<Timestamp>,
    /// How late a digest may be, such as `3h` or `90m`.
    #[arg(long, value_name = "DURATION", default_value = "3h", value_parser = parse_grace)]
    pub grace: i64,
    /// Files read at a time [default: one for each processor, 16 from a bucket].
    #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// Trust the key files of this directory instead of the copy's own.
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Write an evidence report, one HTML file, there.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// No progress bar.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Objects that are fetched at a time from a bucket.
const AT_ONCE: usize = 16;

/// A copy to verify, and what is known of it from here.
struct Target {
    place: Storehouse,
    sources: Vec<Source>,
}

/// Where a copy is.
enum Storehouse {
    Tree(PathBuf),
    Bucket(Box<OwnBucket>),
}

impl Storehouse {
    fn shown(&self) -> String {
        match self {
            Self::Tree(path) => path.display().to_string(),
            Self::Bucket(own) => url(own),
        }
    }

    fn is_of(&self, source: &Source) -> bool {
        match (self, &source.destination) {
            (Self::Tree(path), Storage::Tree(tree)) => is_same(path, &tree.path),
            (Self::Bucket(one), Storage::Bucket(other)) => url(one) == url(other) && one.endpoints == other.endpoints,
            _ => false,
        }
    }
}

/// The bucket and what stands before its keys, as the AWS CLI writes it.
fn url(own: &OwnBucket) -> String {
    format!("s3://{}/{}", own.bucket, own.prefix).trim_end_matches('/').to_owned()
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().ok().is_some_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// Verifies one copy or all that are configured; the exit code tells scripts how it went.
///
/// # Errors
/// `Fatal` when a copy cannot be read, `Stream` for options that make no sense.
pub async fn verify(
    config: Option<&Config>,
    options: &Options,
    process: &Process,
    stop: &CancellationToken,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    if options.from.zip(options.to).is_some_and(|(from, to)| from >= to) {
        return Err(misused("--from", "it is not before --to"));
    }
    let mut report = match &options.report {
        Some(path) => Some((BufWriter::new(create(path)?), path)),
        None => None,
    };
    let (mut worst, now) = (Exit::Done, process.clock.now());
    for target in targets(config, options)? {
        let path = target.place.shown();
        let wanted = wanted(options, &target, now);
        let Some(mut verified) = one(config, target, wanted.clone(), process, options.quiet, stop).await? else {
            return Err(Error::of(Class::Transient, Report::new("verify", path, "it was interrupted")));
        };
        let exit = match verified.conclusion() {
            Conclusion::Proven => Exit::Done,
            Conclusion::Findings => Exit::Incomplete,
            Conclusion::Unproven => Exit::Unproven,
        };
        worst = if worst == Exit::Incomplete || exit == Exit::Done { worst } else { exit };
        show(options, &path, &mut verified, out).map_err(|error| unwritten("the result", &error))?;
        if let Some((file, name)) = &mut report {
            let written = html::write(&path, &wanted, &mut verified, file).and_then(|()| file.flush());
            written.map_err(|error| unwritten(&name.display().to_string(), &error))?;
        }
    }
    Ok(worst)
}

fn targets(config: Option<&Config>, options: &Options) -> Result<Vec<Target>, Error> {
    let configured: Vec<&Source> = config.iter().flat_map(|config| config.sources.values()).collect();
    let places: Vec<Storehouse> = match &options.path {
        Some(path) => vec![named(path, &configured)?],
        None => configured.iter().map(|source| place_of(source)).collect(),
    };
    let mut targets: Vec<Target> = Vec::new();
    for place in places {
        let sources: Vec<Source> =
            configured.iter().filter(|source| place.is_of(source)).map(|source| (*source).clone()).collect();
        let is_known = sources.first().is_some_and(|source| targets.iter().any(|target| target.place.is_of(source)));
        if !is_known {
            targets.push(Target { place, sources });
        }
    }
    if targets.is_empty() {
        return Err(misused("PATH", "no destination is configured; say which copy to verify"));
    }
    Ok(targets)
}

fn place_of(source: &Source) -> Storehouse {
    match &source.destination {
        Storage::Tree(tree) => Storehouse::Tree(tree.path.clone()),
        Storage::Bucket(own) => Storehouse::Bucket(own.clone()),
    }
}

/// The copy at a path, or in a bucket whose credentials are configured.
fn named(path: &Path, configured: &[&Source]) -> Result<Storehouse, Error> {
    let Some(wanted) = path.to_str().filter(|path| path.starts_with("s3://")) else {
        return Ok(Storehouse::Tree(path.to_owned()));
    };
    let is_it = |own: &OwnBucket| url(own) == wanted.trim_end_matches('/');
    let own = configured.iter().filter_map(|source| source.destination.bucket()).find(|own| is_it(own));
    let unknown =
        || misused("PATH", &format!("no source has `{wanted}` as its destination: configure one, or name a tree"));
    own.map(|own| Storehouse::Bucket(Box::new(own.clone()))).ok_or_else(unknown)
}

fn wanted(options: &Options, target: &Target, now: Timestamp) -> verify::Options {
    let jobs = match target.place {
        Storehouse::Tree(_) => std::thread::available_parallelism().map_or(1, usize::from),
        Storehouse::Bucket(_) => AT_ONCE,
    };
    verify::Options {
        accounts: options.accounts.clone(),
        trails: options.trails.clone(),
        regions: options.regions.clone(),
        from: options.from,
        to: options.to,
        grace_seconds: options.grace,
        jobs: options.jobs.map_or(jobs, usize::from),
        now,
        keys: options.keys.clone(),
        sources: target.sources.iter().map(|source| copy_of(source, now)).collect(),
    }
}

/// What a configured source's copy is of, where the copy itself does not say.
fn copy_of(source: &Source, now: Timestamp) -> CopyOf {
    let mut copy = CopyOf::new(&source.name, &source.bucket, &source.prefix, now);
    copy.since = source.since;
    copy
}

/// Verifies one copy off the async threads; `None` when it was interrupted.
async fn one(
    config: Option<&Config>,
    target: Target,
    wanted: verify::Options,
    process: &Process,
    quiet: bool,
    stop: &CancellationToken,
) -> Result<Option<Verified>, Error> {
    let rows = rows(config, &target).await;
    match &target.place {
        Storehouse::Tree(path) => judge(Tree::open(path)?, rows, wanted, quiet, stop).await,
        Storehouse::Bucket(own) => {
            let opened = stop.run_until_cancelled(open(&target.sources, own, process)).await;
            let Some(vault) = opened.transpose()? else { return Ok(None) };
            judge(vault, rows, wanted, quiet, stop).await
        }
    }
}

async fn open(sources: &[Source], own: &OwnBucket, process: &Process) -> Result<Vault, Error> {
    let Some(source) = sources.first() else { return Err(misused("PATH", "no source is configured for it")) };
    let reading = bucket::reading(source, own, process)?;
    Vault::open(reading, sources.iter().map(|source| root(&source.prefix)).collect()).await
}

async fn judge<A: Archive + Send + 'static>(
    archive: A,
    rows: Option<LedgerRows>,
    wanted: verify::Options,
    quiet: bool,
    stop: &CancellationToken,
) -> Result<Option<Verified>, Error> {
    let work = tokio::task::spawn_blocking(move || {
        let rows = rows.as_ref().map(|rows| rows as &dyn Rows);
        match Bar::start(quiet) {
            Some(bar) => verify::verify(&archive, rows, &wanted, &bar),
            None => verify::verify(&archive, rows, &wanted, &Silent),
        }
    });
    match stop.run_until_cancelled(work).await {
        None => Ok(None),
        Some(done) => {
            let panicked = |error| Error::of(Class::Fatal, Report::new("verify", "the copy", error));
            done.map_err(panicked)?.map(Some)
        }
    }
}

/// The rows of the days that are not sealed yet, where the copy is ours and its database can be read.
async fn rows(config: Option<&Config>, target: &Target) -> Option<LedgerRows> {
    let names: Vec<_> = target.sources.iter().map(|source| source.name.clone()).collect();
    if names.is_empty() {
        return None;
    }
    let opened = match Ledger::look(&config?.state.dir).await {
        Ok(ledger) => LedgerRows::of(ledger, &names).await,
        Err(error) => Err(error),
    };
    match opened {
        Ok(rows) => Some(rows),
        Err(error) => {
            tracing::warn!("Verifying without the database, by the copy alone: {error}");
            None
        }
    }
}

fn show(options: &Options, path: &str, verified: &mut Verified, out: &mut dyn Write) -> io::Result<()> {
    let written = match options.json {
        true => json::write(path, verified, out),
        false => table::write(verified, out),
    };
    match written.and_then(|()| out.flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A progress bar on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn start(quiet: bool) -> Option<Self> {
        if quiet || !io::stderr().is_terminal() {
            return None;
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Some(Self(bar))
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn read(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn at(&self, place: &str) {
        let read = HumanBytes(self.0.position());
        let place = crate::key::Shown(place);
        self.0.set_message(format!("{place}: {read} read, {} s", HumanCount(self.0.elapsed().as_secs())));
    }
}

fn parse_from(text: &str) -> Result<Timestamp, String> {
    parse_time(text, 0)
}

fn parse_to(text: &str) -> Result<Timestamp, String> {
    parse_time(text, 1)
}

/// A time with its offset, or a day in UTC: its start, or that of a day after it.
fn parse_time(text: &str, days: i64) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let day = text.parse::<Date>().ok().and_then(|date| date.checked_add(jiff::Span::new().days(days)).ok());
    let start = day.and_then(|day| Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok());
    start.filter(|_| text.len() == "2026-11-24".len()).ok_or_else(|| {
        "expected a day such as 2026-11-24, or a time with its offset such as 2026-11-24T03:00:00Z".to_owned()
    })
}

fn parse_grace(text: &str) -> Result<i64, String> {
    let mistake = || "expected a duration such as 3h, 90m or 0s".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(mistake)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(mistake()),
    };
    number.parse::<u32>().map(|number| i64::from(number) * seconds).map_err(|_| mistake())
}

fn create(path: &Path) -> Result<File, Error> {
    File::create(path).map_err(|error| unwritten(&path.display().to_string(), &error))
}

fn misused(option: &str, why: &str) -> Error {
    Error::of(Class::Stream, Report::new("verify", option, why))
}

fn unwritten(subject: &str, error: &io::Error) -> Error {
    Error::of(Class::Fatal, Report::new("write", subject, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_carry_their_offset_and_days_are_whole() {
        let of = |text| parse_from(text).map(|time| time.to_string());
        assert_eq!(of("2026-11-24T03:00:00+02:00").as_deref(), Ok("2026-11-24T01:00:00Z"));
        assert_eq!(of("2026-11-24").as_deref(), Ok("2026-11-24T00:00:00Z"));
        assert_eq!(parse_to("2026-11-24").map(|time| time.to_string()).as_deref(), Ok("2026-11-25T00:00:00Z"));
        for text in ["2026-11-24T03:00:00", "yesterday", "", "2026-13-01"] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn grace_has_a_unit() {
        assert_eq!(parse_grace("90m"), Ok(5_400));
        assert_eq!(parse_grace("0s"), Ok(0));
        assert!(["", "h", "3", "3 h", "-1h", "é"].iter().all(|text| parse_grace(text).is_err()));
    }
}
