//! Asks for deletions, between an intent that is on disk and an outcome that goes there.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Pruner;
use super::evidence::Known;
use crate::destination::Destination;
use crate::error::Error;
use crate::key::Shown;
use crate::layout::Stream;
use crate::ledger::{Alarm, DELETION, DeletionCommit, Ended, Intent, Outcome, PruneRow, StreamId};
use crate::record::Record;
use crate::source::{ListRequest, Remove, RemoveRequest, Removed};

/// How one request went: what is known of the object, and what ends the turn.
struct Answer {
    ended: Option<Ended>,
    alarm: Option<Alarm>,
    error: Option<Error>,
}

impl Answer {
    fn of(record: &Record, outcome: Outcome, detail: Option<String>) -> Self {
        Self { ended: Some(Ended { record: record.clone(), outcome, detail }), alarm: None, error: None }
    }

    fn unknown(error: Error) -> Self {
        Self { ended: None, alarm: None, error: Some(error) }
    }
}

impl<S: Remove, D: Destination> Pruner<S, D> {
    /// Asks for all that is intended; `None` when it was told to stop before the end.
    ///
    /// What it learned is in `commit` however it ends. The first error ends it: requests under way are waited for.
    pub(super) async fn send(
        &self,
        stream: &Stream,
        id: StreamId,
        intents: &[Intent],
        commit: &mut DeletionCommit,
        row: &mut PruneRow,
        stop: &CancellationToken,
    ) -> Result<Option<()>, Error> {
        if intents.is_empty() {
            return Ok(Some(()));
        }
        // The copies were read just now; they must have been read where they belong.
        self.mirror.destination().present().await?;
        row.sent += intents.len() as u64;
        self.mirror.ledger().intend(stream, id, intents, row, self.ours()).await?;
        crate::failpoint::reached("deletion_intended");
        let (mut waiting, mut in_flight, mut failed) = (intents.iter(), FuturesUnordered::new(), None);
        loop {
            while failed.is_none() && !stop.is_cancelled() && in_flight.len() < self.rules.in_flight.max(1) {
                let Some(intent) = waiting.next() else { break };
                in_flight.push(self.remove(stream, intent));
            }
            let Some(answer) = in_flight.next().await else { break };
            commit.ended.extend(answer.ended);
            commit.raised.extend(answer.alarm);
            failed = failed.or(answer.error);
        }
        crate::failpoint::reached("deletion_sent");
        let is_whole = waiting.len() == 0;
        row.sent = row.sent.saturating_sub(waiting.len() as u64);
        commit.unsent.extend(waiting.map(|intent| intent.record.clone()));
        let deleted = commit.ended.iter().filter(|ended| ended.outcome == Outcome::Deleted).count();
        if deleted > 0 {
            info!(source = %stream.source, %stream, objects = deleted, "Deleted {deleted} objects at the source");
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(is_whole.then_some(())),
        }
    }

    /// Looks at the source for what became of earlier requests; gives back what is there, or was never asked for.
    pub(super) async fn resolve(
        &self,
        stream: &Stream,
        all: Vec<Known>,
        commit: &mut DeletionCommit,
    ) -> Result<Vec<Known>, Error> {
        let mut left = Vec::with_capacity(all.len());
        for known in all {
            if known.is_open() && !self.is_there(&known.key(stream)).await? {
                commit.ended.push(known.ended(Outcome::Deleted, Some(FOUND_GONE.to_owned())));
            } else {
                left.push(known);
            }
        }
        Ok(left)
    }

    async fn remove(&self, stream: &Stream, intent: &Intent) -> Answer {
        let record = &intent.record;
        let key = format!("{}{}", stream.prefix, record.suffix);
        let request = RemoveRequest { key: key.clone(), if_match: record.etag.clone() };
        let refused = match self.mirror.source().remove(&request).await {
            Ok(removal) => match removal.removed {
                Removed::Deleted(marker) => return Answer::of(record, Outcome::Deleted, marker),
                Removed::Absent => return absent(intent),
                Removed::Changed => None,
            },
            Err(error) if error.code() == "AccessDenied" => Some(error),
            Err(error) => return Answer::unknown(error),
        };
        // What is not there may be refused as well, and behind a delete marker it is another version.
        match (self.is_there(&key).await, refused) {
            (Err(error), _) => Answer::unknown(error),
            (Ok(false), _) => absent(intent),
            (Ok(true), Some(error)) => {
                let detail = Some(error.code().to_owned());
                Answer { error: Some(error), ..Answer::of(record, Outcome::Kept, detail) }
            }
            (Ok(true), None) => {
                let alarm = Some(changed(&key));
                Answer { alarm, ..Answer::of(record, Outcome::Changed, None) }
            }
        }
    }

    /// Whether anything stands under a key: a listing says so even to those who may not learn it otherwise.
    pub(super) async fn is_there(&self, key: &str) -> Result<bool, Error> {
        let request = ListRequest { prefix: key.to_owned(), ..ListRequest::default() };
        let page = self.mirror.source().list(&request).await?;
        Ok(page.objects.first().is_some_and(|listed| listed.key == key))
    }
}

const FOUND_GONE: &str = "it is gone: an earlier request was carried out";

/// Gone before we asked, or because we asked before.
fn absent(intent: &Intent) -> Answer {
    match intent.is_again {
        true => Answer::of(&intent.record, Outcome::Deleted, Some(FOUND_GONE.to_owned())),
        false => Answer::of(&intent.record, Outcome::Absent, None),
    }
}

fn changed(key: &str) -> Alarm {
    let detail = format!(
        "`{}` is not deleted at the source: another version than the one that was stored stands there; the next full \
         listing fetches it",
        Shown(key)
    );
    warn!(alarm = DELETION, object.key = %Shown(key), "{detail}");
    Alarm { kind: DELETION, subject: key.to_owned(), detail }
}
