//! Looks at the state every few seconds: conditions that turned are remembered, and figures are kept for the charts.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Snapshots;
use crate::ledger::Ledger;

/// How often.
const EVERY: Duration = Duration::from_secs(10);

/// Watches until `stop`; `ledger` is the one that may be written.
///
/// What could not be written is written with the next look, for it is compared with what is remembered.
pub async fn watch(snapshots: Snapshots, ledger: Ledger, stop: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let status = match snapshots.latest().await {
            Ok(status) => status,
            Err(error) => {
                debug!(%error, "The state cannot be looked at");
                continue;
            }
        };
        snapshots.history().look(&status);
        if !status.health_changes.is_empty()
            && let Err(error) = ledger.save_health(&status.health_changes).await
        {
            debug!(%error, "Conditions that turned cannot be remembered now");
        }
    }
}
