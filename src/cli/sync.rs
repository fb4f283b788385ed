//! `trailsync sync`: mirrors everything that is new, once.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Exit, selected};
use crate::assemble::{Assembled, Parts, assemble, mirrored_before};
use crate::clock::shift;
use crate::config::Config;
use crate::destination::store::Store;
use crate::discover::{self, discover, undiscovered};
use crate::error::{Class, Error, Report};
use crate::ledger::{Ledger, PassEnd};
use crate::mirror::{Mirror, Progress, Snapshot, Task};
use crate::rhythm::next_poll;
use crate::role::Process;
use crate::scheduler::session_row;
use crate::source::s3::S3Source;

/// Options of `trailsync sync`.
#[derive(Debug, Args)]
pub struct Options {
    /// Only these sources.
    pub sources: Vec<String>,
    /// List everything again, against ledger and manifests.
    #[arg(long)]
    pub full: bool,
    /// No progress bar.
    #[arg(long, short)]
    pub quiet: bool,
}

/// How one source went.
#[derive(Debug, Default)]
struct Outcome {
    streams: usize,
    failed: Vec<Error>,
    unreached: bool,
    /// Its destination cannot be used.
    refused: bool,
}

impl Outcome {
    fn refused(error: Error) -> Self {
        Self { failed: vec![error], refused: true, ..Self::default() }
    }
}

impl Outcome {
    /// Nothing was reached, and trying again later may help: a wrong external ID or bucket does not mend itself.
    fn may_pass(&self) -> bool {
        let passing = |error: &Error| matches!(error.class(), Class::Transient | Class::Credentials);
        self.unreached && self.failed.iter().all(passing)
    }
}

/// Mirrors everything that is new, once; says what was done on `out`.
///
/// # Errors
/// `Fatal` when state or destination cannot be used.
pub async fn sync(
    config: &Config,
    options: &Options,
    process: &Process,
    stop: CancellationToken,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    let config = selected(config, &options.sources, "sync")?;
    let opened = Ledger::open(&config.state.dir, mirrored_before(&config, process).await?).await?;
    let Assembled { ready, waiting } = assemble(&config, &opened.ledger, process).await?;
    let mirrors: Vec<_> = ready.iter().map(|part| part.mirror.clone()).collect();
    let started = Instant::now();
    let bar = (!options.quiet).then(|| Bar::start(mirrors.clone()));
    let mut tasks = JoinSet::new();
    for part in ready {
        tasks.spawn(source(part, options.full, config.concurrency.passes, stop.clone()));
    }
    let mut outcomes: Vec<_> = waiting.into_iter().map(|source| Outcome::refused(source.error)).collect();
    while let Some(outcome) = tasks.join_next().await {
        let panicked = |error| Error::of(Class::Fatal, Report::new("sync", "a source", error));
        outcomes.push(outcome.map_err(panicked)??);
    }
    if let Some(bar) = bar {
        bar.finish().await;
    }
    let sources: Vec<_> = config.sources.keys().map(String::as_str).collect();
    let exit = report(&sources, &outcomes, &opened.ledger, total(&mirrors), started.elapsed(), &stop, out).await?;
    opened.ledger.close().await;
    Ok(exit)
}

async fn source(part: Parts, full: bool, passes: usize, stop: CancellationToken) -> Result<Outcome, Error> {
    let (keeper, end) = (part.keeper.clone(), CancellationToken::new());
    let Some(ready) = stop.run_until_cancelled(keeper.ready()).await else { return Ok(Outcome::default()) };
    let ledger = part.mirror.ledger();
    record_session(&part).await?;
    if let Err(error) = ready {
        let ours = part.mirror.service_clock().ours();
        ledger.alarm(&part.wanted.source, &undiscovered("", &error), ours).await?;
        return Ok(Outcome { failed: vec![error], unreached: true, ..Outcome::default() });
    }
    let mut renewing = JoinSet::new();
    let (renewed, token) = (keeper.clone(), end.clone());
    renewing.spawn(async move { renewed.run(token).await });
    if let Some(archive) = part.archive.clone() {
        let token = end.clone();
        renewing.spawn(async move { archive.run(token).await });
    }
    if let Some(Err(error)) = stop.run_until_cancelled(part.store.prepare()).await {
        record_session(&part).await?;
        return Ok(Outcome { failed: vec![error], unreached: true, ..Outcome::default() });
    }
    let ours = part.mirror.service_clock().ours();
    let found = match stop.run_until_cancelled(discover(part.mirror.source(), &part.wanted)).await {
        Some(Ok(found)) => found,
        Some(Err(error)) => {
            ledger.alarm(&part.wanted.source, &undiscovered("", &error), ours).await?;
            return Ok(Outcome { failed: vec![error], unreached: true, ..Outcome::default() });
        }
        None => return Ok(Outcome::default()),
    };
    ledger.replace_alarms(&part.wanted.source, &discover::ALARMS, &found.alarms(), ours).await?;
    let (streams, unreached) = (found.streams.len(), found.is_nothing());
    let mirror = &part.mirror;
    let turns = iter(found.streams).map(|stream| whole_stream(mirror, stream, full, &stop)).buffer_unordered(passes);
    let mut failed: Vec<_> = found.failed.into_iter().map(|(_, error)| error).collect();
    for result in turns.collect::<Vec<_>>().await {
        match result {
            Ok(()) => {}
            Err(error) if error.class() == Class::Fatal => return Err(error),
            Err(error) => failed.push(error),
        }
    }
    failed.extend(prove(&part, &stop).await?);
    end.cancel();
    while renewing.join_next().await.is_some() {}
    record_session(&part).await?;
    Ok(Outcome { streams, failed, unreached, ..Outcome::default() })
}

/// Proves what is here now; what a digest names and no listing showed is fetched in between.
async fn prove(part: &Parts, stop: &CancellationToken) -> Result<Vec<Error>, Error> {
    let mut failed = Vec::new();
    loop {
        let proved = match part.prover.turn(stop).await {
            Ok(proved) => proved,
            // The mirror is whole without it.
            Err(error) => {
                failed.push(error);
                return Ok(failed);
            }
        };
        let is_over = proved.wake.is_empty() && !proved.more;
        for stream in proved.wake {
            match whole_stream(&part.mirror, stream, false, stop).await {
                Err(error) if error.class() == Class::Fatal => return Err(error),
                ended => failed.extend(ended.err()),
            }
        }
        if is_over || stop.is_cancelled() {
            return Ok(failed);
        }
    }
}

async fn record_session(part: &Parts) -> Result<(), Error> {
    let session = session_row(&part.wanted.source, &part.keeper.observe().borrow());
    part.mirror.ledger().save_session(&session).await?;
    match part.archive_row() {
        Some(archive) => part.mirror.ledger().save_session(&archive).await,
        None => Ok(()),
    }
}

/// Takes turns until nothing more is due.
async fn whole_stream(
    mirror: &Arc<Mirror<S3Source, Store>>,
    stream: crate::layout::Stream,
    full: bool,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut progress = mirror.resume(stream).await?;
    let ended = turns(mirror, &mut progress, full, stop).await;
    // As the daemon would: nobody knows when somebody will run this again, and what is not looked at is unknown.
    let clock = mirror.service_clock();
    let pause = next_poll(mirror.poll_rules(), progress.checkpoint.last_stored_at, clock.now());
    let (ours, pause) = (clock.ours(), i64::try_from(pause.as_secs()).unwrap_or(i64::MAX));
    let end = PassEnd::of(progress.id, ended.as_ref().err(), shift(ours, pause), ours);
    mirror.ledger().passes_ended(&progress.stream.source, std::iter::once(&end)).await?;
    ended
}

async fn turns(
    mirror: &Mirror<S3Source, Store>,
    progress: &mut Progress,
    full: bool,
    stop: &CancellationToken,
) -> Result<(), Error> {
    if full {
        mirror.list_everything(progress).await?;
    }
    let mut poll = true;
    loop {
        let task = Task { poll, until: Instant::now() + Duration::from_secs(60), stop: stop.clone() };
        if !mirror.turn(progress, &task).await?.unfinished || stop.is_cancelled() {
            return Ok(());
        }
        poll = false;
    }
}

fn total(mirrors: &[Arc<Mirror<S3Source, Store>>]) -> Snapshot {
    mirrors.iter().map(|mirror| mirror.meter().snapshot()).fold(Snapshot::default(), |a, b| Snapshot {
        listed: a.listed + b.listed,
        wanted: a.wanted + b.wanted,
        wanted_bytes: a.wanted_bytes + b.wanted_bytes,
        stored: a.stored + b.stored,
        stored_bytes: a.stored_bytes + b.stored_bytes,
        failed: a.failed + b.failed,
        lists: a.lists + b.lists,
        gets: a.gets + b.gets,
    })
}

async fn report(
    sources: &[&str],
    outcomes: &[Outcome],
    ledger: &Ledger,
    did: Snapshot,
    took: Duration,
    stop: &CancellationToken,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    let rows = ledger.checkpoints().await?;
    let rows = rows.iter().filter(|row| sources.contains(&row.source.as_str()));
    let waiting: u64 = rows.map(|row| row.failing + row.quarantined).sum();
    for error in outcomes.iter().flat_map(|outcome| &outcome.failed) {
        warn!(code = error.code(), "{error}");
    }
    let failed = outcomes.iter().map(|outcome| outcome.failed.len()).sum::<usize>();
    let streams: usize = outcomes.iter().map(|outcome| outcome.streams).sum();
    let line = format!(
        "{} objects ({}) stored from {streams} streams in {:.1} s; {} LIST and {} GET requests; {waiting} objects not mirrored; {failed} failures",
        did.stored,
        indicatif::HumanBytes(did.stored_bytes),
        took.as_secs_f64(),
        did.lists,
        did.gets,
    );
    // A closed pipe does not undo what was mirrored.
    let _ = writeln!(out, "{line}");
    Ok(match () {
        () if outcomes.iter().any(|outcome| outcome.refused) => Exit::State,
        () if !outcomes.is_empty() && outcomes.iter().all(Outcome::may_pass) => Exit::Unreachable,
        () if failed > 0 || waiting > 0 || stop.is_cancelled() => Exit::Incomplete,
        () => Exit::Done,
    })
}

/// A bar on a terminal, a line now and then elsewhere.
struct Bar {
    end: CancellationToken,
    task: JoinSet<()>,
}

impl Bar {
    fn start(mirrors: Vec<Arc<Mirror<S3Source, Store>>>) -> Self {
        let end = CancellationToken::new();
        let mut task = JoinSet::new();
        let token = end.clone();
        if io::stderr().is_terminal() {
            task.spawn(draw(mirrors, token));
        } else {
            task.spawn(lines(mirrors, token));
        }
        Self { end, task }
    }

    async fn finish(mut self) {
        self.end.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

async fn draw(mirrors: Vec<Arc<Mirror<S3Source, Store>>>, end: CancellationToken) {
    let template = "{bar:30} {human_pos}/{human_len} objects  {per_sec}  ETA {eta}  {msg}";
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        let now = total(&mirrors);
        bar.set_length(now.wanted);
        bar.set_position(now.stored);
        bar.set_message(format!("{}, {} listed", indicatif::HumanBytes(now.stored_bytes), now.listed));
        if end.run_until_cancelled(tokio::time::sleep(Duration::from_millis(200))).await.is_none() {
            return bar.finish_and_clear();
        }
    }
}

async fn lines(mirrors: Vec<Arc<Mirror<S3Source, Store>>>, end: CancellationToken) {
    while end.run_until_cancelled(tokio::time::sleep(Duration::from_secs(10))).await.is_some() {
        let now = total(&mirrors);
        let line = format!(
            "{} of {} objects stored ({}), {} listed\n",
            now.stored,
            now.wanted,
            indicatif::HumanBytes(now.stored_bytes),
            now.listed
        );
        let _ = io::stderr().write_all(line.as_bytes());
    }
}
