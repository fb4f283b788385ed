//! The state as all handlers see it: read once a second at most, whoever asks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::destination::local::Space;
use crate::error::Error;
use crate::ledger::Ledger;
use crate::status::Status;

/// A snapshot may be so old.
const FRESH: Duration = Duration::from_secs(1);
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
}

impl Snapshots {
    /// Snapshots of these sources in this state, by this clock.
    pub fn of(ledger: Ledger, sources: Vec<String>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { ledger, sources, clock, last: Mutex::new(None) }))
    }

    /// The state now, or a second ago. Those who ask at once wait for one reading.
    ///
    /// # Errors
    /// `Fatal` when the state cannot be read.
    pub async fn latest(&self) -> Result<Arc<Status>, Error> {
        let mut last = self.0.last.lock().await;
        if let Some((at, status)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(status.clone());
        }
        let rows = self.0.ledger.status_rows(self.0.sources.clone(), QUARANTINE).await?;
        let status = Arc::new(Status::of(rows, self.0.clock.now()));
        *last = Some((Instant::now(), status.clone()));
        Ok(status)
    }

    /// The state itself, for what a snapshot leaves out.
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
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
