//! Tries objects again that failed before, each on its own schedule.

use super::outcome::Want;
use super::{Mirror, Progress, Task};
use crate::destination::Destination;
use crate::error::Error;
use crate::layout::Day;
use crate::ledger::Failure;
use crate::object::Listed;
use crate::record::Record;
use crate::records::Records;
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
        let mut cursor: Option<(Option<Day>, Records<'_>)> = None;
        for failure in due {
            let suffix = stream.suffix(&failure.key).unwrap_or_default().to_owned();
            let day = Day::of(&suffix);
            // One walk serves all keys of a day; another day begins at its own first key, and so does every odd key:
            // whole years may lie between two of them.
            let records = match &mut cursor {
                Some((at, records)) if day.is_some() && *at == day => records,
                _ => {
                    &mut cursor
                        .insert((day, Records::from(&self.ledger, &self.manifests, &stream, progress.id, &suffix)))
                        .1
                }
            };
            let known = known(records, &suffix).await?;
            wants.push(want(failure, known));
        }
        self.mirror_all(progress, wants, task).await.map(|_| ())
    }
}

async fn known(records: &mut Records<'_>, suffix: &str) -> Result<Option<Record>, Error> {
    while records.peek().await?.is_some_and(|next| next < suffix) {
        records.next().await?;
    }
    match records.peek().await? {
        Some(next) if next == suffix => records.next().await,
        _ => Ok(None),
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
