//! Tries objects again that failed before, each on its own schedule.

use std::sync::atomic::AtomicU64;

use super::outcome::{Fetch, Want, is_deleted};
use super::{Mirror, Progress, Task};
use crate::destination::Destination;
use crate::error::Error;
use crate::ledger::Failure;
use crate::object::Listed;
use crate::record::Record;
use crate::records::Seek;
use crate::source::{ListRequest, Source};
use crate::window::Scope;

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

    /// Who may list under a prefix alone is denied what is missing: of what we deleted we know that it is, and of what is
    /// tried again a listing says so. What was listed just now is there, and not asked for twice.
    pub(super) async fn as_known<H>(&self, progress: &mut Progress, want: &Want, fetch: Fetch<H>) -> Fetch<H> {
        let is_denied = matches!(&fetch, Fetch::Failed(error) if error.code() == "AccessDenied");
        if is_denied && (is_deleted(want) || (want.failure.is_some() && self.is_gone(progress, want).await)) {
            return Fetch::Vanished;
        }
        fetch
    }

    /// Whether a listing shows that an object is no longer there. Should it be all the same, the next one finds it new.
    async fn is_gone(&self, progress: &mut Progress, want: &Want) -> bool {
        let key = &want.listed.key;
        let request = ListRequest { prefix: key.clone(), ..ListRequest::default() };
        let lists = AtomicU64::new(0);
        let page = self.list_patiently(&progress.stream, &request, &lists).await;
        progress.listed(Scope::Poll, lists.into_inner());
        let Ok(page) = page else { return false };
        // A key sorts before all others that start with it.
        page.objects.first().map_or(page.next.is_none(), |first| first.key != *key)
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
