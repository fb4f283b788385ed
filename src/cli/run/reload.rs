//! SIGHUP: another configuration takes the place of the first as a whole, or not at all.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::run;
use crate::cli::Exit;
use crate::config::Config;
use crate::error::Error;
use crate::notify;
use crate::role::Process;
use crate::server::{Server, install_recorder};

/// What SIGHUP brings: a configuration that was read again, or why the old one stays.
pub type Reload = Result<Config, String>;

/// Runs with one configuration after the other, until `stop`.
///
/// A configuration that cannot be used changes nothing. One that can takes the place of the old one as a whole: every
/// source stops as for SIGTERM, and begins anew. The address of the page is listened at from before the first source
/// begins; a reload that does not change it does not let it go.
///
/// # Errors
/// As for [`run`], and `Stream` when the address is taken or its token cannot be read.
pub async fn run_through_reloads(
    first: Config,
    process: impl Fn() -> Process,
    mut reloads: mpsc::Receiver<Reload>,
    stop: CancellationToken,
) -> Result<Exit, Error> {
    install_recorder();
    let mut config = first;
    let mut server = Server::open(&config.http, None).await?;
    loop {
        let round = stop.child_token();
        let (ended, next) = {
            let process = process();
            let running = run(&config, &process, server.clone(), round.clone());
            tokio::pin!(running);
            let next = tokio::select! {
                ended = &mut running => return ended,
                next = next_good(&mut reloads, &config, server.as_ref()) => next,
            };
            info!("The configuration was read again; every source begins anew with it");
            notify::reloading();
            round.cancel();
            (running.await, next)
        };
        ended?;
        if stop.is_cancelled() {
            return Ok(Exit::Done);
        }
        (config, server) = next;
    }
}

/// Waits for a configuration that can be used, and listens where it says.
async fn next_good(
    reloads: &mut mpsc::Receiver<Reload>,
    now: &Config,
    server: Option<&Server>,
) -> (Config, Option<Server>) {
    loop {
        let why = match reloads.recv().await {
            None => std::future::pending().await,
            Some(Err(mistakes)) => mistakes,
            Some(Ok(next)) => match Server::open(&next.http, server).await {
                Ok(server) => return (with_old_log(next, now), server),
                Err(error) => error.to_string(),
            },
        };
        error!("The configuration cannot be used; the old one stays:\n{why}");
        notify::kept("The new configuration cannot be used; the old one stays. See the log");
    }
}

/// How it logs is settled when the process starts.
fn with_old_log(next: Config, now: &Config) -> Config {
    if next.log != now.log {
        warn!("`log` stays as it was at the start; restart trailsync to change it");
    }
    Config { log: now.log.clone(), ..next }
}
