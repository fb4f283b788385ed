//! The state as all handlers see it: read once a second at most, whoever asks.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::history::History;
use crate::clock::Clock;
use crate::destination::local::Space;
use crate::error::Error;
use crate::ledger::Ledger;
use crate::status::Status;

/// A snapshot may be so old.
const FRESH: Duration = Duration::from_secs(1);
/// A page says how old it is, and may be older: one that is open is told what changed in between.
const RECENT: Duration = Duration::from_secs(20);
/// Quarantined objects that are shown; the counts are whole.
const QUARANTINE: u32 = 200;

/// Reads the state when somebody asks and the last reading is too old.
#[derive(Clone)]
pub struct Snapshots(Arc<Shared>);

struct Shared {
    ledger: Ledger,
    sources: Vec<String>,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<(Instant, Arc<Status>)>>,
    /// One reads at a time.
    reading: tokio::sync::Mutex<()>,
    /// Somebody was shown an old one.
    wanted: Notify,
    history: History,
}

impl Snapshots {
    /// Snapshots of these sources in this state, by this clock.
    pub fn of(ledger: Ledger, sources: Vec<String>, clock: Arc<dyn Clock>) -> Self {
        let (last, reading, wanted) = (Mutex::new(None), tokio::sync::Mutex::new(()), Notify::new());
        Self(Arc::new(Shared { ledger, sources, clock, last, reading, wanted, history: History::default() }))
    }

    /// The state now, or a second ago. Those who ask at once wait for one reading.
    ///
    /// # Errors
    /// `Fatal` when the state cannot be read.
    pub async fn latest(&self) -> Result<Arc<Status>, Error> {
        if let Some(status) = self.within(FRESH) {
            return Ok(status);
        }
        let _reading = self.0.reading.lock().await;
        if let Some(status) = self.within(FRESH) {
            return Ok(status);
        }
        let rows = self.0.ledger.status_rows(self.0.sources.clone(), QUARANTINE).await?;
        let status = Arc::new(Status::of(rows, self.0.clock.now()));
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), status.clone()));
        Ok(status)
    }

    /// The state at once, if it was read in the last seconds; what is old is then read for the next who asks.
    ///
    /// # Errors
    /// As for [`Snapshots::latest`].
    pub async fn recent(&self) -> Result<Arc<Status>, Error> {
        if let Some(status) = self.within(RECENT) {
            self.0.wanted.notify_one();
            return Ok(status);
        }
        self.latest().await
    }

    /// Reads what somebody was shown an old one of, until `stop`.
    pub async fn renew(self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.0.wanted.notified()).await.is_some() {
            if let Err(error) = self.latest().await {
                debug!(%error, "The state cannot be read for the page");
            }
        }
    }

    /// What earlier snapshots said.
    pub fn history(&self) -> &History {
        &self.0.history
    }

    /// The state itself, for what a snapshot leaves out.
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    fn within(&self, age: Duration) -> Option<Arc<Status>> {
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, status)| status.clone())
    }
}

/// Where each source's copy stands.
#[derive(Clone, Default)]
pub struct Disks(Arc<Vec<(String, PathBuf)>>);

impl Disks {
    /// These sources' roots.
    pub fn of(roots: Vec<(String, PathBuf)>) -> Self {
        Self(Arc::new(roots))
    }

    /// The room on each that can be looked at now.
    pub fn space(&self) -> impl Iterator<Item = (&str, Space)> {
        self.0.iter().filter_map(|(name, root)| Some((name.as_str(), Space::at(root).ok()?)))
    }
}
