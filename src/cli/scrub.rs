//! `trailsync scrub`: reads every copy again, once, as fast as the disk allows.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Exit, selected};
use crate::assemble::{Assembled, Parts, Waiting, assemble_paced, mirrored_before};
use crate::config::Config;
use crate::damage;
use crate::destination::store::Store;
use crate::error::{Class, Error, Report};
use crate::key::Shown;
use crate::layout::Stream;
use crate::ledger::Ledger;
use crate::mirror::{Mirror, Task};
use crate::role::Process;
use crate::scrub::Scrubber;
use crate::source::s3::S3Source;

/// Options of `trailsync scrub`.
#[derive(Debug, Args)]
pub struct Options {
    /// Only these sources.
    pub sources: Vec<String>,
    /// Go on with the round that is under way instead of beginning anew.
    #[arg(long)]
    pub resume: bool,
    /// No progress bar.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Damaged copies that one try fetches again; more take another.
const TRIES_AT_ONCE: u64 = 200;
/// Damage that is named on the terminal; the count is whole.
const SHOWN: usize = 20;

/// Reads one source's tree again.
type Tree = Scrubber<S3Source, Store>;

/// How one source went.
#[derive(Default)]
struct Outcome {
    objects: u64,
    findings: u64,
    failed: Vec<Error>,
}

/// Reads every copy again and says on `out` what was found; exits with 1 when anything was.
///
/// # Errors
/// `Fatal` when state or destination cannot be used.
pub async fn scrub(
    config: &Config,
    options: &Options,
    process: &Process,
    stop: CancellationToken,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    let config = selected(config, &options.sources, "scrub")?;
    let opened = Ledger::open(&config.state.dir, mirrored_before(&config, process).await?).await?;
    let Assembled { ready, waiting } = assemble_paced(&config, &opened.ledger, process, None).await?;
    let rows = opened.ledger.checkpoints().await?;
    let all = rows.iter().filter(|row| config.sources.contains_key(&row.source)).map(|row| row.objects).sum();
    let scrubbers: Vec<_> = ready.iter().filter_map(|part| part.scrubber.clone()).collect();
    let (started, end) = (Instant::now(), CancellationToken::new());
    let mut bar = JoinSet::new();
    if !options.quiet && io::stderr().is_terminal() {
        bar.spawn(draw(scrubbers, all, end.clone()));
    }
    let mut tasks = JoinSet::new();
    for part in ready {
        let name = part.source.name.clone();
        match part.scrubber.clone() {
            Some(scrubber) => drop(tasks.spawn(source(part, scrubber, options.resume, stop.clone()))),
            None => warn!(source = %name, "The copies of `{name}` are in a bucket, whose service checks them itself"),
        }
    }
    let refused = |source: Waiting| Outcome { failed: vec![source.error], ..Outcome::default() };
    let mut outcomes: Vec<_> = waiting.into_iter().map(refused).collect();
    while let Some(outcome) = tasks.join_next().await {
        let panicked = |error| Error::of(Class::Fatal, Report::new("scrub", "a source", error));
        outcomes.push(outcome.map_err(panicked)??);
    }
    end.cancel();
    while bar.join_next().await.is_some() {}
    let exit = report(&config, &outcomes, &opened.ledger, started.elapsed(), &stop, out).await?;
    opened.ledger.close().await;
    Ok(exit)
}

/// One round over one source; a source that cannot be reached is read again all the same.
async fn source(part: Parts, scrubber: Arc<Tree>, resume: bool, stop: CancellationToken) -> Result<Outcome, Error> {
    let (keeper, end) = (part.keeper.clone(), CancellationToken::new());
    let mut outcome = Outcome::default();
    let Some(ready) = stop.run_until_cancelled(keeper.ready()).await else { return Ok(outcome) };
    let is_reached = ready.is_ok();
    outcome.failed.extend(ready.err());
    let mut renewing = JoinSet::new();
    let token = end.clone();
    renewing.spawn(async move { keeper.run(token).await });
    if !resume {
        scrubber.begin_anew().await?;
    }
    loop {
        let did = match scrubber.turn(&stop).await {
            Ok(did) => did,
            Err(error) if error.class() == Class::Fatal => return Err(error),
            Err(error) => {
                outcome.failed.push(error);
                break;
            }
        };
        (outcome.objects, outcome.findings) = (outcome.objects + did.objects, outcome.findings + did.findings);
        for stream in did.wake.into_iter().filter(|_| is_reached) {
            match fetch_again(&part.mirror, stream, did.findings, &stop).await {
                Err(error) if error.class() == Class::Fatal => return Err(error),
                ended => outcome.failed.extend(ended.err()),
            }
        }
        if !did.more || stop.is_cancelled() {
            break;
        }
    }
    end.cancel();
    while renewing.join_next().await.is_some() {}
    Ok(outcome)
}

async fn fetch_again(
    mirror: &Mirror<S3Source, Store>,
    stream: Stream,
    findings: u64,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut progress = mirror.resume(stream).await?;
    for _ in 0..=findings / TRIES_AT_ONCE {
        let task = Task { poll: false, until: Instant::now() + Duration::from_secs(60), stop: stop.clone() };
        mirror.try_again(&mut progress, &task).await?;
    }
    Ok(())
}

async fn report(
    config: &Config,
    outcomes: &[Outcome],
    ledger: &Ledger,
    took: Duration,
    stop: &CancellationToken,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    for error in outcomes.iter().flat_map(|outcome| &outcome.failed) {
        warn!(code = error.code(), "{error}");
    }
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let (objects, findings) = (sum(|outcome| outcome.objects), sum(|outcome| outcome.findings));
    let rows = ledger.scrubs().await?;
    let unmended: u64 =
        rows.iter().filter(|row| config.sources.contains_key(&row.source)).map(|row| row.unmended).sum();
    // A closed pipe does not undo what was mended.
    let _ = writeln!(
        out,
        "{objects} objects read again in {:.1} s; {findings} found damaged or lost; {unmended} not mended",
        took.as_secs_f64()
    );
    if unmended > 0 {
        let alarms = ledger.alarms(1000).await?;
        let is_ours = |kind: &str, source: &str| damage::ALARMS.contains(&kind) && config.sources.contains_key(source);
        for alarm in alarms.iter().filter(|alarm| is_ours(&alarm.kind, &alarm.source)).take(SHOWN) {
            let _ = writeln!(out, "{}: {}: {}", alarm.kind, alarm.source, Shown(&alarm.detail));
        }
    }
    let failed = outcomes.iter().any(|outcome| !outcome.failed.is_empty());
    let is_done = findings == 0 && unmended == 0 && !failed && !stop.is_cancelled();
    Ok(if is_done { Exit::Done } else { Exit::Incomplete })
}

async fn draw(scrubbers: Vec<Arc<Tree>>, all: u64, end: CancellationToken) {
    let template = "{bar:30} {human_pos}/{human_len} objects read again  {per_sec}  ETA {eta}";
    let bar = ProgressBar::new(all)
        .with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        bar.set_position(scrubbers.iter().map(|scrubber| scrubber.objects()).sum());
        if end.run_until_cancelled(tokio::time::sleep(Duration::from_millis(200))).await.is_none() {
            return bar.finish_and_clear();
        }
    }
}
