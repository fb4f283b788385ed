//! `trailsync run`: the daemon, until it is told to end.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::Exit;
use crate::assemble::{Assembled, Waiting, assemble, mirrored_before};
use crate::config::Config;
use crate::error::Error;
use crate::ledger::Ledger;
use crate::role::Process;

/// What is under way may take so long to stop.
const GRACE: Duration = Duration::from_secs(9);

/// Runs every source until `stop`, then commits what is published.
///
/// # Errors
/// `Fatal` when state or destination cannot be used, now or later.
pub async fn run(config: &Config, process: &Process, stop: CancellationToken) -> Result<Exit, Error> {
    let opened = Ledger::open(&config.state.dir, mirrored_before(config)).await?;
    let Assembled { ready, waiting } = assemble(config, &opened.ledger, process).await?;
    info!(sources = ready.len(), waiting = waiting.len(), state = %config.state.dir.display(), "trailsync {} runs", env!("CARGO_PKG_VERSION"));
    let mut keepers = JoinSet::new();
    let mut runners = JoinSet::new();
    for part in ready {
        let (keeper, token) = (part.keeper.clone(), stop.clone());
        keepers.spawn(async move { keeper.run(token).await });
        runners.spawn(part.into_runner().run(stop.clone()));
    }
    for source in waiting {
        runners.spawn(run_later(source, stop.clone()));
    }
    let ended = supervise(&mut runners, &stop).await;
    keepers.shutdown().await;
    opened.ledger.close().await;
    ended.map(|()| Exit::Done)
}

/// Runs a source as soon as its destination can be used.
async fn run_later(source: Waiting, stop: CancellationToken) -> Result<(), Error> {
    let Some(part) = source.until_ready(stop.clone()).await? else { return Ok(()) };
    let keeper = part.keeper.clone();
    let mut keepers = JoinSet::new();
    let token = stop.clone();
    keepers.spawn(async move { keeper.run(token).await });
    let ended = part.into_runner().run(stop).await;
    keepers.shutdown().await;
    ended
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
            Some(Err(panicked)) => crate::error::Error::of(
                crate::error::Class::Fatal,
                crate::error::Report::new("run", "a source", panicked),
            ),
        };
        error!(error = %failed, "trailsync must end");
        stop.cancel();
        first = first.and(Err(failed));
    }
}
