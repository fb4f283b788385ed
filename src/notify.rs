//! What systemd is told: ready, in what state, still alive, stopping. Without systemd, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::pulse::Pulse;
use crate::server::Snapshots;

/// How often the one-line status is renewed.
const STATUS_EVERY: Duration = Duration::from_secs(15);

/// Tells systemd that all began, then how it goes, until `stop`.
///
/// The watchdog is fed only while every scheduler turns (`systemd.service(5)`, `WatchdogSec=`).
pub async fn run(pulse: Pulse, snapshots: Snapshots, stop: CancellationToken) {
    let every = sd_notify::watchdog_enabled().map_or(STATUS_EVERY, |limit| (limit / 2).min(STATUS_EVERY));
    let mut ticks = interval(every.min(Duration::from_secs(1)));
    let (mut ready, mut told) = (false, Instant::now());
    loop {
        tokio::select! {
            () = stop.cancelled() => return tell(&[NotifyState::Stopping, NotifyState::Status("Stopping")]),
            _ = ticks.tick() => {}
        }
        if !ready && pulse.began() {
            ready = true;
            tell(&[NotifyState::Ready]);
            ticks = interval(every);
        } else if !ready || told.elapsed() < every.mul_f64(0.5) {
            continue;
        }
        told = Instant::now();
        if pulse.is_alive(told) {
            tell(&[NotifyState::Watchdog]);
        } else {
            warn!("A scheduler does not turn any more; the watchdog is not fed");
        }
        match snapshots.latest().await {
            Ok(status) => tell(&[NotifyState::Status(&status.summary)]),
            Err(error) => debug!(%error, "No status for systemd"),
        }
    }
}

/// Tells systemd that the configuration is being read again.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "The monotonic clock cannot be read"),
    }
}

/// Tells systemd that the old configuration stays, and why.
pub fn kept(why: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(why)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd was not told");
    }
}
