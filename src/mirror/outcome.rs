//! Turns what was fetched into durable copies and committed rows, in groups.

use tokio::time::{Duration, Instant, sleep_until};
use tracing::warn;

use super::flow::Flow;
use super::mend::unmendable;
use super::story::{Change, Story, conflict, copy_missing, missing, vanished_unseen};
use super::{Mirror, Progress, Task};
use crate::clock::{Timestamp, shift};
use crate::damage::Damage;
use crate::destination::{Destination, Item, Published, Staged};
use crate::error::{Class, Error, Report};
use crate::key::Shown;
use crate::ledger::{COPY_MISSING, Commit, Failure, NAMED_BY_DIGEST};
use crate::object::{Listed, Metadata};
use crate::record::Record;
use crate::source::Source;
use crate::source::client::measure::Pending;

/// A group is published and committed at so many objects, bytes, or seconds, whichever comes first. A page makes
/// several, so that one is written to disk while the next is fetched.
pub(super) const GROUP_OBJECTS: usize = 250;
pub(super) const GROUP_BYTES: u64 = 64 << 20;
const GROUP_AGE: Duration = Duration::from_secs(2);
/// So many failures in a row with one code, and none stored: it is not the objects.
const DENIED_IN_A_ROW: u32 = 20;
const TRANSIENT_IN_A_ROW: u32 = 8;
/// Tries, a pass each, before an object is in quarantine; then daily.
const TRIES_BEFORE_QUARANTINE: u32 = 5;
const DAY_SECONDS: i64 = 86_400;

/// An object that is to be mirrored.
#[derive(Debug)]
pub(super) struct Want {
    /// As listed, or as it failed last time.
    pub listed: Listed,
    /// What is recorded of it already.
    pub known: Option<Record>,
    /// Its failures so far.
    pub failure: Option<Failure>,
    /// Other bytes stand in its place: it goes beside them.
    pub beside: bool,
}

/// What fetching gave.
pub(super) enum Fetch<H> {
    Got(Box<Got<H>>),
    /// It was gone when it was asked for.
    Vanished,
    Failed(Error),
}

/// Bytes that are what the source holds.
pub(super) struct Got<H> {
    pub staged: Staged<H>,
    /// As sent, which may be later than listed.
    pub listed: Listed,
    pub metadata: Metadata,
    /// Why its gzip is broken at the source, if it is.
    pub broken: Option<&'static str>,
}

/// Objects that failed for the first time in a row, with nothing stored between them.
#[derive(Debug, Default)]
pub(super) struct Streak {
    code: String,
    count: u32,
}

impl Streak {
    /// Counts a failure; true when it is one too many to be the objects' own.
    fn failed(&mut self, error: &Error) -> bool {
        if self.code != error.code() {
            *self = Self { code: error.code().to_owned(), count: 0 };
        }
        self.count += 1;
        match error.class() {
            Class::Transient => self.count >= TRANSIENT_IN_A_ROW,
            _ => is_denied(&self.code) && self.count >= DENIED_IN_A_ROW,
        }
    }
}

fn is_denied(code: &str) -> bool {
    code.starts_with("KMS.") || matches!(code, "AccessDenied" | "AllAccessDisabled" | "AccountProblem")
}

/// What waits to be published and committed together.
struct Group<H> {
    got: Vec<(Want, Got<H>)>,
    bytes: u64,
    due: Instant,
}

impl<H> Group<H> {
    fn new() -> Self {
        Self { got: Vec::new(), bytes: 0, due: Instant::now() + GROUP_AGE }
    }

    fn is_full(&self) -> bool {
        self.got.len() >= GROUP_OBJECTS || self.bytes >= GROUP_BYTES
    }
}

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Mirrors all that is wanted; `false` when it was told to stop first.
    ///
    /// Failures are committed last, and not at all when they turn out to be the stream's.
    pub(super) async fn mirror_all(
        &self,
        progress: &mut Progress,
        wants: Vec<Want>,
        task: &Task,
    ) -> Result<bool, Error> {
        if wants.is_empty() {
            return Ok(true);
        }
        self.meter.wanted(wants.len(), wants.iter().map(|want| want.listed.size).sum());
        let _pending = Pending::of(&progress.stream.source, wants.len());
        let mut rest = Commit::default();
        let finished = Box::pin(self.fetch_twice(progress, wants, task, &mut rest)).await;
        if finished.is_err() {
            // The failures may be the stream's own; that an object was gone is not, and no listing shows it again.
            rest.failed.clear();
        }
        rest.failed.iter().for_each(|failure| tell_failure(&progress.stream.source, failure));
        if !rest.is_empty() {
            self.commit(progress, &rest).await?;
        }
        finished
    }

    /// Other bytes of an unknown origin may stand in an object's place: it is fetched again, to be stored beside them.
    async fn fetch_twice(
        &self,
        progress: &mut Progress,
        wants: Vec<Want>,
        task: &Task,
        rest: &mut Commit,
    ) -> Result<bool, Error> {
        let (mut again, mut refused) = (Vec::new(), Vec::new());
        let mut finished = Box::pin(self.fetch_all(progress, wants, task, rest, &mut again)).await?;
        if finished && !again.is_empty() {
            finished = Box::pin(self.fetch_all(progress, again, task, rest, &mut refused)).await?;
        }
        let now = self.service.now();
        rest.failed.extend(refused.iter().map(|want| failure_of(want, &occupied(want), now)));
        Ok(finished)
    }

    /// While a group is published and committed, what follows is fetched: one group at a time, in the order in which
    /// its objects came.
    async fn fetch_all(
        &self,
        progress: &mut Progress,
        wants: Vec<Want>,
        task: &Task,
        rest: &mut Commit,
        again: &mut Vec<Want>,
    ) -> Result<bool, Error> {
        let mut flow = Flow::of(wants, self.rules.in_flight, |want| self.transfer(want), &task.stop);
        let mut group = Group::new();
        loop {
            let (want, fetch, gets) = tokio::select! {
                biased;
                next = flow.next() => match next {
                    Some(next) => next,
                    None => break,
                },
                () = sleep_until(group.due), if !group.got.is_empty() => {
                    flow.beside(Box::pin(self.store(progress, &mut group, again))).await?;
                    continue;
                }
            };
            progress.checkpoint.gets += gets;
            let fetch = self.as_known(progress, &want, fetch).await;
            if let Some(error) = self.take(progress, want, fetch, &mut group, rest) {
                Box::pin(self.store(progress, &mut group, again)).await?;
                return Err(error);
            }
            if group.is_full() {
                flow.beside(Box::pin(self.store(progress, &mut group, again))).await?;
            }
        }
        // When it was told to stop: what is fetched is kept; what is under way is abandoned and found again.
        Box::pin(self.store(progress, &mut group, again)).await?;
        Ok(flow.is_finished())
    }

    /// Sorts one outcome into the group or the rest; an error ends the pass.
    fn take(
        &self,
        progress: &mut Progress,
        want: Want,
        fetch: Fetch<D::Handle>,
        group: &mut Group<D::Handle>,
        rest: &mut Commit,
    ) -> Option<Error> {
        match fetch {
            Fetch::Got(got) => {
                progress.streak = Streak::default();
                if group.got.is_empty() {
                    group.due = Instant::now() + GROUP_AGE;
                }
                group.bytes += got.staged.content.size;
                group.got.push((want, *got));
                None
            }
            Fetch::Vanished => {
                // The source's lifecycle may come between listing and fetching, too.
                let code = want.failure.as_ref().map(|failure| failure.code.as_str());
                if let Some(alarm) = unmendable(&want, why_gone(&want)) {
                    rest.alarms.push(alarm);
                } else if code == Some(NAMED_BY_DIGEST) {
                    rest.alarms.push(missing(&want));
                } else if code == Some(COPY_MISSING) {
                    rest.alarms.push(copy_missing(&want));
                } else if !self.is_expired(want.listed.modified) {
                    rest.alarms.push(vanished_unseen(&want));
                }
                rest.resolved.extend(want.failure.map(|failure| failure.key));
                None
            }
            Fetch::Failed(error) if matches!(error.class(), Class::Object | Class::Transient) => {
                self.meter.failed();
                // An object that is tried again says nothing new about the stream: only first failures are counted,
                // or one that is withheld for good would end every turn after its twentieth try.
                if want.failure.is_none() && progress.streak.failed(&error) {
                    return Some(if error.class() == Class::Object { error.into_class(Class::Stream) } else { error });
                }
                rest.alarms
                    .extend(unmendable(&want, &format!("it cannot be fetched now, and is tried again ({error})")));
                rest.failed.push(failure_of(&want, &error, self.service.now()));
                None
            }
            Fetch::Failed(error) => Some(error),
        }
    }

    /// Publishes a group durably, then records it in one transaction.
    async fn store(
        &self,
        progress: &mut Progress,
        group: &mut Group<D::Handle>,
        again: &mut Vec<Want>,
    ) -> Result<(), Error> {
        let taken = std::mem::replace(group, Group::new());
        if taken.got.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::default();
        let (mut stories, mut items) = (Vec::new(), Vec::new());
        for (want, got) in taken.got {
            let story = Story::of(&progress.stream, &want, &got);
            if story.change == Change::Tag && is_damaged(&want) {
                self.mend(progress, want, got, &mut commit).await?;
                continue;
            }
            if story.change == Change::Tag && want.failure.is_none() {
                // The same bytes under another tag are noted; the copy that is here stays as it is. Of one that failed
                // before it is not known whether it is here.
                commit.updated.push(story.record);
                continue;
            }
            let metadata = progress.stream.kind.keeps_metadata.then_some(got.metadata);
            items.push(Item { place: story.place(&want.listed.key), staged: got.staged, metadata });
            stories.push((want, story));
        }
        let published = if items.is_empty() { Vec::new() } else { self.destination.publish(items).await? };
        crate::failpoint::reached("published");
        let (mut objects, mut bytes) = (0, 0);
        for ((want, story), published) in stories.into_iter().zip(published) {
            if story.change == Change::Bytes {
                commit.alarms.extend(unmendable(&want, "the source has other bytes now"));
            }
            match published {
                Published::New | Published::Same => {}
                Published::Other => {
                    commit.alarms.push(conflict(&want));
                    again.push(Want { beside: true, ..want });
                    continue;
                }
                Published::Refused(why) => {
                    commit.failed.push(self.refused(progress, &want, *why));
                    continue;
                }
            }
            // Bytes that turned out to be here, recorded under another tag, were stored before.
            if story.change != Change::Tag || published == Published::New {
                (objects, bytes) = (objects + 1, bytes + story.record.size);
            }
            story.tell(&progress.stream, &want);
            story.record_into(&mut commit, want, published == Published::New);
        }
        self.note_newest(progress, &commit);
        self.commit(progress, &commit).await?;
        crate::failpoint::reached("committed");
        self.permits.source.kept_waiting();
        self.meter.stored(objects, bytes);
        progress.stored += objects as u64;
        Ok(())
    }

    /// The entry of an object that the destination can never take.
    pub(super) fn refused(&self, progress: &Progress, want: &Want, why: Report) -> Failure {
        self.meter.failed();
        let failure = failure_of(want, &Error::of(Class::Object, why), self.service.now());
        warn!(source = %progress.stream.source, object.key = %Shown(&failure.key), attempts = failure.attempts,
            "The destination refuses `{}`: {}", Shown(&failure.key), failure.reason);
        failure
    }

    fn note_newest(&self, progress: &mut Progress, commit: &Commit) {
        let delivered = commit.inserted.iter().map(|record| record.modified);
        progress.rhythm.delivered(&self.rules.poll, delivered, self.service.now());
        let dated = commit.inserted.iter().filter_map(|record| progress.stream.dated(&record.suffix));
        // A name may claim any date; only what is plausible tells how far the copy is.
        let plausible = dated.filter(|dated| *dated <= shift(self.service.now(), crate::window::AHEAD_SECONDS));
        progress.checkpoint.newest_object = plausible.max().max(progress.checkpoint.newest_object);
        if !commit.inserted.is_empty() {
            progress.checkpoint.last_stored_at = Some(self.service.now());
        }
    }
}

fn why_gone(want: &Want) -> &'static str {
    if is_deleted(want) { "it was deleted at the source once it was mirrored" } else { "it is no longer at the source" }
}

pub(super) fn is_deleted(want: &Want) -> bool {
    want.known.as_ref().is_some_and(|known| known.deleted)
}

/// The scrub found its copy damaged.
fn is_damaged(want: &Want) -> bool {
    want.failure.as_ref().is_some_and(|failure| Damage::of_code(&failure.code).is_some())
}

/// Says of a failure that is recorded what becomes of the object, the first time and the last.
fn tell_failure(source: &str, failure: &Failure) {
    if failure.attempts == 1 || failure.quarantined {
        let state = if failure.quarantined { "is in quarantine" } else { "is tried again" };
        warn!(%source, object.key = %Shown(&failure.key), attempts = failure.attempts, error = %failure.reason,
            "`{}` {state}", Shown(&failure.key));
    }
}

/// The next entry of an object that failed: soon, then later, then daily.
pub(super) fn failure_of(want: &Want, error: &Error, now: Timestamp) -> Failure {
    let before = want.failure.as_ref();
    let attempts = before.map_or(1, |failure| failure.attempts.saturating_add(1));
    // Archived storage answers the same for as long as nobody restores it.
    let quarantined = attempts >= TRIES_BEFORE_QUARANTINE || error.code() == "InvalidObjectState";
    let wait = match attempts {
        _ if quarantined => DAY_SECONDS,
        1 => 60,
        2 => 300,
        3 => 900,
        _ => 3600,
    };
    // Damage, and what a digest or a manifest names, stays known as what it is.
    let kept = before
        .map(|failure| failure.code.as_str())
        .filter(|code| Damage::of_code(code).is_some() || [NAMED_BY_DIGEST, COPY_MISSING].contains(code));
    Failure {
        key: want.listed.key.clone(),
        size: want.listed.size,
        etag: want.listed.etag.clone(),
        modified: want.listed.modified,
        first_failed: before.map_or(now, |failure| failure.first_failed),
        attempts,
        quarantined,
        next_try: shift(now, wait),
        code: kept.unwrap_or(error.code()).to_owned(),
        reason: error.to_string(),
    }
}

pub(super) fn occupied(want: &Want) -> Error {
    let why = "other bytes stand in its place, and others again beside them";
    Error::of(Class::Object, Report::new("publish", &want.listed.key, why).code("Conflict"))
}
