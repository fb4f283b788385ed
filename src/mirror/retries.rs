//! Tries objects again that failed before, each on its own schedule.

use super::outcome::Want;
use super::{Mirror, Progress, Task};
use crate::destination::Destination;
use crate::error::Error;
use crate::ledger::Failure;
use crate::object::Listed;
use crate::record::Record;
use crate::records::Seek;
use crate::source::Source;

/// Objects that one turn tries again.
const RETRIES_A_TURN: u32 = 200;

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Tries again what is due; takes each object as the source has it now.
    pub(super) async fn retry_failures(&self, progress: &mut Progress, task: &Task) -> Result<(), Error> {
        let mut due =
            self.ledger.failures_due(&progress.stream, progress.id, self.service.now(), RETRIES_A_TURN).await?;
        due.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let mut wants = Vec::with_capacity(due.len());
        let stream = progress.stream.clone();
        let mut seek = Seek::new(&self.ledger, &self.manifests, &stream, progress.id);
        for failure in due {
            let known = seek.find(stream.suffix(&failure.key).unwrap_or_default()).await?;
            wants.push(want(failure, known));
        }
        self.mirror_all(progress, wants, task).await.map(|_| ())
    }
}

fn want(failure: Failure, known: Option<Record>) -> Want {
    let listed = Listed {
        key: failure.key.clone(),
        size: failure.size,
        etag: failure.etag.clone(),
        modified: failure.modified,
        archived: None,
    };
    Want { listed, known, failure: Some(failure), beside: false }
}
