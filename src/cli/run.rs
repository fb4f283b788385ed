//! `trailsync run`: the daemon, until it is told to end.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Exit;
use crate::assemble::{Assembled, Parts, Waiting, archive_name, assemble, mirrored_before};
use crate::config::Config;
use crate::error::{Class, Error, Report};
use crate::ledger::Ledger;
use crate::manifest::Manifests;
use crate::notify;
use crate::pulse::{Heart, Pulse};
use crate::role::Process;
use crate::scheduler::session_row;
use crate::server::{Context, Disks, Server, Snapshots, watch};

mod reload;

pub use reload::{Reload, run_through_reloads};

/// What is under way may take so long to stop.
const GRACE: Duration = Duration::from_secs(9);

/// Runs every source until `stop`, then commits what is published.
///
/// # Errors
/// `Fatal` when state or destination cannot be used, now or later.
pub async fn run(
    config: &Config,
    process: &Process,
    server: Option<Server>,
    stop: CancellationToken,
) -> Result<Exit, Error> {
    let opened = Ledger::open(&config.state.dir, mirrored_before(config, process).await?).await?;
    let pulse = Pulse::default();
    // Nothing is ready before every scheduler has its own.
    let first = pulse.heart();
    let mut beside = beside(config, process, &opened.ledger, &pulse, server, &stop).await;
    let ended = mirror(config, process, &opened.ledger, first, &pulse, &stop).await;
    stop.cancel();
    while beside.join_next().await.is_some() {}
    opened.ledger.close().await;
    ended.map(|()| Exit::Done)
}

/// Mirrors every source until `stop`.
async fn mirror(
    config: &Config,
    process: &Process,
    ledger: &Ledger,
    first: Heart,
    pulse: &Pulse,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let Assembled { ready, waiting } = assemble(config, ledger, process).await?;
    info!(sources = ready.len(), waiting = waiting.len(), state = %config.state.dir.display(), "trailsync {} runs", env!("CARGO_PKG_VERSION"));
    let mut keepers = JoinSet::new();
    let mut runners = JoinSet::new();
    for part in ready {
        let (keeper, token) = (part.keeper.clone(), stop.clone());
        keepers.spawn(async move { keeper.run(token).await });
        keep_archive(&mut keepers, &part, ledger, stop);
        runners.spawn(part.into_runner(pulse.heart()).run(stop.clone()));
    }
    for source in waiting {
        runners.spawn(run_later(source, pulse.clone(), stop.clone()));
    }
    drop(first);
    let ended = supervise(&mut runners, stop).await;
    keepers.shutdown().await;
    ended
}

/// What runs beside the sources and ends with them: the page, and what systemd is told.
async fn beside(
    config: &Config,
    process: &Process,
    ledger: &Ledger,
    pulse: &Pulse,
    server: Option<Server>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let sources = config.sources.keys().cloned().collect();
    let snapshots = Snapshots::of(ledger.beside(&config.state.dir).await, sources, process.clock.clone());
    let mut beside = JoinSet::new();
    beside.spawn(notify::run(pulse.clone(), snapshots.clone(), stop.clone()));
    beside.spawn(watch(snapshots.clone(), ledger.clone(), stop.clone()));
    if let Some(server) = server {
        beside.spawn(snapshots.clone().renew(stop.clone()));
        let trees = config.sources.values().filter_map(|source| Some((source, source.destination.tree()?)));
        let roots = trees.map(|(source, tree)| (source.name.clone(), tree.path.clone()));
        let (disks, manifests) = (Disks::of(roots.collect()), Manifests::under(&config.state.dir));
        let context = Context { snapshots, pulse: pulse.clone(), disks, manifests };
        beside.spawn(server.run(context, stop.clone()));
    }
    beside
}

/// Runs a source as soon as its destination can be used.
async fn run_later(source: Waiting, pulse: Pulse, stop: CancellationToken) -> Result<(), Error> {
    let Some(part) = source.until_ready(stop.clone()).await? else { return Ok(()) };
    let keeper = part.keeper.clone();
    let mut keepers = JoinSet::new();
    let token = stop.clone();
    keepers.spawn(async move { keeper.run(token).await });
    keep_archive(&mut keepers, &part, part.mirror.ledger(), &stop);
    let ended = part.into_runner(pulse.heart()).run(stop).await;
    keepers.shutdown().await;
    ended
}

/// Renews the session of a destination, shows it in the state, and does what the destination needs first.
fn keep_archive(keepers: &mut JoinSet<()>, part: &Parts, ledger: &Ledger, stop: &CancellationToken) {
    let (store, name) = (part.store.clone(), archive_name(&part.source.name));
    let Some(keeper) = part.archive.clone() else { return };
    let (renewed, token, ledger) = (keeper.clone(), stop.clone(), ledger.clone());
    keepers.spawn(async move { renewed.run(token).await });
    keepers.spawn(async move {
        let mut session = keeper.observe();
        loop {
            let row = session_row(&name, &session.borrow_and_update());
            if let Err(error) = ledger.save_session(&row).await {
                warn!(%error, "The session of the destination is not shown in the state");
            }
            if session.changed().await.is_err() {
                return;
            }
        }
    });
    keepers.spawn(async move {
        // It is tried again with the first copy, whose pass then says why it cannot go on.
        if let Err(error) = store.prepare().await {
            warn!(code = error.code(), %error, "The destination is not ready");
        }
    });
}

/// Waits for the sources; the first that cannot go on ends all.
async fn supervise(runners: &mut JoinSet<Result<(), Error>>, stop: &CancellationToken) -> Result<(), Error> {
    let mut first = Ok(());
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::pin!(deadline);
    loop {
        let ended = tokio::select! {
            ended = runners.join_next() => ended,
            () = &mut deadline => {
                error!("Some passes did not stop in time; what they had not committed is found again");
                runners.shutdown().await;
                return first;
            }
        };
        let failed = match ended {
            None => return first,
            Some(Ok(Ok(()))) => continue,
            Some(Ok(Err(failed))) => failed,
            Some(Err(panicked)) => Error::of(Class::Fatal, Report::new("run", "a source", panicked)),
        };
        error!(error = %failed, "trailsync must end");
        stop.cancel();
        first = first.and(Err(failed));
    }
}
