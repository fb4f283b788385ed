//! Compares a page with what is recorded: what is new, changed, gone, or back.

use super::outcome::Want;
use super::{Mirror, Progress, Task};
use crate::clock::{Timestamp, seconds_between};
use crate::destination::Destination;
use crate::error::Error;
use crate::key::Shown;
use crate::ledger::{Alarm, Commit, Failure};
use crate::object::Listed;
use crate::record::Record;
use crate::records::Records;
use crate::source::Source;

/// Changes that are committed at once, so that a million vanished objects do not pile up in memory.
const CHANGES: usize = 1000;
/// Lifecycle rules run once a day, at no fixed hour.
const RETENTION_SLACK: i64 = 2 * 86_400;

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Mirrors what a page shows and is not here; `false` when it was told to stop before the end.
    ///
    /// `end` says that nothing follows the page up to `upto`.
    pub(super) async fn page(
        &self,
        progress: &mut Progress,
        records: &mut Records<'_>,
        listed: &[Listed],
        end: bool,
        upto: Option<&str>,
        task: &Task,
    ) -> Result<bool, Error> {
        let failures = self.failures_among(progress, listed).await?;
        let mut wants = Vec::new();
        let mut commit = Commit::default();
        for object in listed {
            let stream = progress.stream.clone();
            let Some(suffix) = stream.suffix(&object.key) else { continue };
            self.gone_before(progress, records, Some(suffix), &mut commit).await?;
            let known = match records.peek().await? {
                Some(next) if next == suffix => records.next().await?,
                _ => None,
            };
            let failure = failures.iter().find(|failure| failure.key == object.key);
            match self.judge(progress, suffix, object, known, failure) {
                Judged::Here => {}
                Judged::Back(record) => commit.updated.push(record),
                Judged::Wanted(want) => wants.push(*want),
            }
        }
        if end {
            self.gone_before(progress, records, upto, &mut commit).await?;
        }
        if !commit.is_empty() {
            self.commit(progress, &commit).await?;
        }
        Box::pin(self.mirror_all(progress, wants, task)).await
    }

    /// What one listed object is to us.
    fn judge(
        &self,
        progress: &Progress,
        suffix: &str,
        listed: &Listed,
        known: Option<Record>,
        failure: Option<&Failure>,
    ) -> Judged {
        let failed = failure.is_some_and(|failure| failure.etag == listed.etag && failure.size == listed.size);
        match known {
            // Recorded, and yet among what failed: its copy is missing.
            Some(record) if record.matches(listed) && failed => Judged::wanted(listed, Some(record), failure),
            // As it is now: what was put there again is as old as that, and not what we may have deleted.
            Some(record) if record.matches(listed) && record.gone => {
                Judged::Back(Record { gone: false, deleted: false, modified: listed.modified, ..record })
            }
            Some(record) if record.matches(listed) => Judged::Here,
            None if self.is_before_since(progress, suffix) => Judged::Here,
            // It has a schedule of its own, until the source has another version of it.
            _ if failed => Judged::Here,
            known => Judged::wanted(listed, known, failure),
        }
    }

    fn is_before_since(&self, progress: &Progress, suffix: &str) -> bool {
        let dated = || progress.stream.dated(suffix);
        self.rules.since.is_some_and(|since| dated().is_some_and(|dated| dated < since))
    }

    /// Takes the records that sort before `upto`: the listing passed them over, so they are no longer at the source.
    async fn gone_before(
        &self,
        progress: &Progress,
        records: &mut Records<'_>,
        upto: Option<&str>,
        commit: &mut Commit,
    ) -> Result<(), Error> {
        while records.peek().await?.is_some_and(|next| upto.is_none_or(|upto| next < upto)) {
            let Some(record) = records.next().await? else { break };
            if record.gone || self.is_expired(record.modified) {
                continue;
            }
            // What we deleted ourselves, or may have, did not vanish.
            let asked_for = self.ledger.deletion(&progress.stream, progress.id, &record).await?;
            let deleted = asked_for.is_some_and(|row| row.may_be_ours());
            if !deleted {
                commit.alarms.push(vanished(&progress.stream.prefix, &record));
            }
            commit.updated.push(Record { gone: true, deleted, ..record });
            if commit.updated.len() >= CHANGES {
                self.commit(progress, commit).await?;
                *commit = Commit::default();
            }
        }
        Ok(())
    }

    /// The source's own lifecycle was expected to remove it by now.
    pub(super) fn is_expired(&self, modified: Timestamp) -> bool {
        let age = seconds_between(modified, self.service.now());
        self.rules.retention.is_some_and(|retention| age >= retention - RETENTION_SLACK)
    }

    async fn failures_among(&self, progress: &Progress, listed: &[Listed]) -> Result<Vec<Failure>, Error> {
        match (listed.first(), listed.last()) {
            (Some(first), Some(last)) => {
                self.ledger.failures_between(&progress.stream, progress.id, &first.key, &last.key).await
            }
            _ => Ok(Vec::new()),
        }
    }
}

enum Judged {
    Here,
    Back(Record),
    Wanted(Box<Want>),
}

impl Judged {
    fn wanted(listed: &Listed, known: Option<Record>, failure: Option<&Failure>) -> Self {
        Self::Wanted(Box::new(Want { listed: listed.clone(), known, failure: failure.cloned(), beside: false }))
    }
}

/// What is alarmed of a record that a listing passed over.
pub(crate) fn vanished(prefix: &str, record: &Record) -> Alarm {
    let key = format!("{prefix}{}", record.suffix);
    let detail = format!(
        "`{}` is no longer at the source; our copy stays. If the bucket's lifecycle removes objects, set `source_retention`",
        Shown(&key)
    );
    Alarm { kind: "vanished", subject: key, detail }
}
