//! Deletes at the source what is mirrored, old enough, proven, and whole at the destination at this very moment.
//!
//! This is the one place where data is destroyed, and not ours. Whatever is not known to be right keeps an object
//! ([`decide`]). What is about to be deleted is recorded before it is asked for, and what became of it after: a crash
//! between the two leaves an intent, which the next round resolves. Only the version that was stored is deleted
//! (`If-Match`); a bucket with versions keeps it behind a delete marker. Nothing here waits for the mirror or holds it up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::clock::{Timestamp, seconds_between};
use crate::destination::Destination;
use crate::discover::Wanted;
use crate::error::{Class, Error, Report};
use crate::layout::{Kind, Stream, root};
use crate::ledger::{DeletionCommit, Intent, Outcome, PruneRow, StreamId};
use crate::mirror::Mirror;
use crate::prove::Prover;
use crate::record::Record;
use crate::records::Records;
use crate::source::Remove;

pub mod decide;
mod evidence;
mod honest;
mod send;

pub use decide::{Reason, Terms, Verdict};
use evidence::{Candidate, Known};

/// Seconds from the beginning of one round to that of the next.
const EVERY: i64 = 86_400;

/// What a pruner works by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What is mirrored.
    pub wanted: Wanted,
    /// What may be deleted of it.
    pub terms: Terms,
    /// Requests of one round.
    pub most: u64,
    /// Objects that are decided on, recorded and deleted together.
    pub batch: usize,
    /// Requests of a batch in flight.
    pub in_flight: usize,
    /// Records that one turn walks over.
    pub records_a_turn: u64,
}

/// Deletes at one source.
pub struct Pruner<S, D> {
    mirror: Arc<Mirror<S, D>>,
    prover: Arc<Prover<S, D>>,
    rules: Rules,
    /// The beginning of the round in which the service was found to heed `If-Match`.
    honest: Mutex<Option<Timestamp>>,
}

/// What a turn did, or a walk that only looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Objects that were deleted at the source, or would be.
    pub deleted: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that stay, and why.
    pub kept: BTreeMap<Reason, u64>,
    /// The round goes on.
    pub more: bool,
    /// The round ended because it may not delete more.
    pub capped: bool,
}

impl Pruned {
    fn keep(&mut self, reason: Reason) {
        *self.kept.entry(reason).or_default() += 1;
    }

    /// Adds what another turn did.
    pub fn add(&mut self, other: &Self) {
        self.deleted += other.deleted;
        self.bytes += other.bytes;
        for (reason, count) in &other.kept {
            *self.kept.entry(*reason).or_default() += count;
        }
        (self.more, self.capped) = (other.more, self.capped || other.capped);
    }
}

/// How a stretch of one stream went.
enum Went {
    /// The stream is through.
    Through,
    /// It goes on with another turn.
    Later,
    /// The round may not delete more.
    Capped,
}

impl<S: Remove, D: Destination> Pruner<S, D> {
    /// Deletes what `mirror` mirrors and `prover` proves.
    pub fn new(mirror: Arc<Mirror<S, D>>, prover: Arc<Prover<S, D>>, rules: Rules) -> Self {
        Self { mirror, prover, rules, honest: Mutex::new(None) }
    }

    /// Begins a round anew, wherever the last one stands.
    ///
    /// # Errors
    /// `Fatal` when the state cannot be used.
    pub async fn begin_anew(&self) -> Result<(), Error> {
        let mut row = self.mirror.ledger().prune(&self.rules.wanted.source).await?;
        begin(&mut row, self.ours());
        self.mirror.ledger().save_prune(&row).await
    }

    /// Goes on with the round, or begins one that is due: decides on the next objects and deletes those that may go.
    ///
    /// May be dropped at any await: what was asked for and not recorded is resolved by a later round.
    ///
    /// # Errors
    /// `Fatal` when the state cannot be used; any other is the deletion's own trouble, and nothing more is deleted in
    /// this turn.
    pub async fn turn(&self, stop: &CancellationToken) -> Result<Pruned, Error> {
        let mut row = self.mirror.ledger().prune(&self.rules.wanted.source).await?;
        if !is_due(&row, self.ours()) {
            return Ok(Pruned::default());
        }
        self.mirror.destination().present().await?;
        if row.began.is_none() {
            begin(&mut row, self.ours());
        }
        let mut did = Pruned::default();
        let went = self.walk(&mut row, &mut did, stop).await?;
        if !matches!(went, Went::Later) {
            end(&mut row, self.ours());
        }
        (did.more, did.capped) = (row.began.is_some(), matches!(went, Went::Capped));
        self.mirror.ledger().save_prune(&row).await?;
        Ok(did)
    }

    async fn walk(&self, row: &mut PruneRow, did: &mut Pruned, stop: &CancellationToken) -> Result<Went, Error> {
        for (stream, id) in self.streams(&row.prefix).await? {
            if stream.prefix != row.prefix {
                (row.prefix, row.suffix) = (stream.prefix.clone(), String::new());
            }
            match self.stretch(&stream, id, row, did, stop).await? {
                Went::Through => {}
                went => return Ok(went),
            }
        }
        Ok(Went::Through)
    }

    /// The streams that are mirrored, logs before digests, from one on; all when that one is no longer mirrored.
    async fn streams(&self, from: &str) -> Result<Vec<(Stream, StreamId)>, Error> {
        let (wanted, mut streams) = (&self.rules.wanted, Vec::new());
        let root = root(&wanted.prefix);
        for row in self.mirror.ledger().checkpoints().await? {
            let Some(kind) = Kind::named(&row.kind).filter(|_| row.source == wanted.source) else { continue };
            let stream = Stream::new(&row.source, &root, row.organization.as_deref(), &row.account, kind, &row.region);
            if stream.prefix == row.prefix && wanted.covers(&stream) {
                streams.push((stream, row.id));
            }
        }
        streams.sort_unstable_by(|(a, _), (b, _)| {
            (a.kind.keeps_metadata, &a.prefix).cmp(&(b.kind.keeps_metadata, &b.prefix))
        });
        let at = streams.iter().position(|(stream, _)| stream.prefix == from).unwrap_or(0);
        Ok(streams.split_off(at))
    }

    /// Walks a stream up to the end of a batch, and deletes what may go of it.
    async fn stretch(
        &self,
        stream: &Stream,
        id: StreamId,
        row: &mut PruneRow,
        did: &mut Pruned,
        stop: &CancellationToken,
    ) -> Result<Went, Error> {
        let mut records = Records::from(self.mirror.ledger(), self.mirror.manifests(), stream, id, &after(&row.suffix));
        let (mut batch, mut reached, mut walked) = (Vec::new(), row.suffix.clone(), 0);
        let room = self.rules.most.saturating_sub(row.sent);
        let size = self.rules.batch.min(usize::try_from(room).unwrap_or(usize::MAX));
        if size == 0 {
            return Ok(Went::Capped);
        }
        let is_through = loop {
            let is_full = batch.len() >= size || walked >= self.rules.records_a_turn;
            if stop.is_cancelled() || is_full {
                break false;
            }
            let Some(record) = records.next().await? else { break true };
            walked += 1;
            reached.clone_from(&record.suffix);
            match self.first_look(stream, id, &record).await? {
                Ok(candidate) => batch.push(candidate),
                Err(reason) => did.keep(reason),
            }
        };
        let asked = row.sent;
        let sent = self.prune_batch(stream, id, batch, row, did, stop).await;
        if sent.as_ref().is_ok_and(Option::is_none) {
            return Ok(Went::Later);
        }
        row.suffix = reached;
        if let Err(error) = sent {
            // One object that is refused does not hold up the others for ever: the rest of its batch waits for a round.
            if error.code() == "AccessDenied" && row.sent > asked {
                self.mirror.ledger().save_prune(row).await?;
            }
            return Err(error);
        }
        Ok(if is_through { Went::Through } else { Went::Later })
    }

    /// Decides on a batch, deletes, and records what became of it however that ends; `None` when it was told to stop
    /// before all was asked for.
    async fn prune_batch(
        &self,
        stream: &Stream,
        id: StreamId,
        batch: Vec<Candidate>,
        row: &mut PruneRow,
        did: &mut Pruned,
        stop: &CancellationToken,
    ) -> Result<Option<()>, Error> {
        if batch.is_empty() {
            return Ok(Some(()));
        }
        let mut commit = DeletionCommit::default();
        let known = self.gather(stream, id, batch).await?;
        let known = self.resolve(stream, known, &mut commit).await?;
        let went = self.delete(stream, id, &known, &mut commit, row, stop).await;
        for ended in commit.ended.iter().filter(|ended| ended.outcome == Outcome::Deleted) {
            (did.deleted, did.bytes) = (did.deleted + 1, did.bytes + ended.record.size);
            (row.deleted, row.bytes) = (row.deleted + 1, row.bytes + ended.record.size);
            row.last_deleted = Some(self.ours());
        }
        if !commit.is_empty() {
            self.mirror.ledger().deletions_ended(stream, id, &commit, row, self.ours()).await?;
            crate::failpoint::reached("deletion_recorded");
        }
        let (is_whole, kept) = went?;
        kept.into_iter().for_each(|reason| did.keep(reason));
        Ok(is_whole)
    }

    /// Deletes what may go, and says what keeps the rest; `None` first when it was told to stop before the end.
    async fn delete(
        &self,
        stream: &Stream,
        id: StreamId,
        known: &[Known],
        commit: &mut DeletionCommit,
        row: &mut PruneRow,
        stop: &CancellationToken,
    ) -> Result<(Option<()>, Vec<Reason>), Error> {
        let terms = &self.rules.terms;
        let may_go: Vec<&Known> =
            known.iter().filter(|known| known.decide(stream, terms, self.now()).is_ok()).collect();
        // It tells the service's time as well, by which all are decided on once more.
        let is_any_there = may_go.is_empty() || self.honest(stream, &may_go, row).await?;
        let now = self.now();
        let (mut intents, mut kept) = (Vec::new(), Vec::new());
        for known in known {
            match known.decide(stream, terms, now) {
                Ok(intent) => intents.push(intent),
                Err(reason) => {
                    kept.push(reason);
                    let still_there = Some("it is still there, and may not be deleted now".to_owned());
                    commit.ended.extend(known.is_open().then(|| known.ended(Outcome::Kept, still_there)));
                }
            }
        }
        if !is_any_there {
            self.mirror.ledger().intend(stream, id, &intents, row, self.ours()).await?;
            commit.ended.extend(intents.iter().map(Intent::absent));
            return Ok((Some(()), kept));
        }
        Ok((self.send(stream, id, &intents, commit, row, stop).await?, kept))
    }

    /// Walks over everything and only looks: `would` is told of each object that would be deleted.
    ///
    /// Nothing is asked of the source, and nothing recorded; by our own clock alone, then.
    ///
    /// # Errors
    /// As for [`Pruner::turn`].
    pub async fn look(
        &self,
        stop: &CancellationToken,
        would: &mut (dyn FnMut(&str, &Record) + Send),
    ) -> Result<Pruned, Error> {
        self.mirror.destination().present().await?;
        let mut did = Pruned::default();
        for (stream, id) in self.streams("").await? {
            let mut records = Records::from(self.mirror.ledger(), self.mirror.manifests(), &stream, id, "");
            let mut is_through = false;
            while !is_through && !stop.is_cancelled() {
                let mut batch = Vec::new();
                while batch.len() < self.rules.batch && !is_through {
                    match records.next().await? {
                        None => is_through = true,
                        Some(record) => match self.first_look(&stream, id, &record).await? {
                            Ok(candidate) => batch.push(candidate),
                            Err(reason) => did.keep(reason),
                        },
                    }
                }
                for known in self.gather(&stream, id, batch).await? {
                    match known.decide(&stream, &self.rules.terms, self.now()) {
                        Err(reason) => did.keep(reason),
                        Ok(_) if did.deleted >= self.rules.most => did.capped = true,
                        Ok(intent) => {
                            (did.deleted, did.bytes) = (did.deleted + 1, did.bytes + intent.record.size);
                            would(&format!("{}{}", stream.prefix, intent.record.suffix), &intent.record);
                        }
                    }
                }
            }
        }
        Ok(did)
    }

    /// The earlier of both clocks: nothing is older than either of them says.
    fn now(&self) -> Timestamp {
        let clock = self.mirror.service_clock();
        clock.now().min(clock.ours())
    }

    fn ours(&self) -> Timestamp {
        self.mirror.service_clock().ours()
    }

    fn was_honest(&self, round: Option<Timestamp>) -> bool {
        let honest = self.honest.lock().unwrap_or_else(PoisonError::into_inner);
        honest.is_some() && *honest == round
    }

    fn now_honest(&self, round: Option<Timestamp>) {
        *self.honest.lock().unwrap_or_else(PoisonError::into_inner) = round;
    }
}

/// Whether a round is under way or due; a time in the future was written under a wrong clock.
fn is_due(row: &PruneRow, now: Timestamp) -> bool {
    let rested = |began: Timestamp| seconds_between(began, now) >= EVERY || began > now;
    row.began.is_some() || row.last_began.is_none_or(rested)
}

fn begin(row: &mut PruneRow, now: Timestamp) {
    row.began = Some(now);
    (row.prefix, row.suffix, row.sent) = (String::new(), String::new(), 0);
}

fn end(row: &mut PruneRow, now: Timestamp) {
    (row.last_began, row.last_ended) = (row.began.take(), Some(now));
    row.last_sent = row.sent;
    (row.prefix, row.suffix, row.sent) = (String::new(), String::new(), 0);
}

/// The least key after one; the empty one stands before all.
fn after(suffix: &str) -> String {
    if suffix.is_empty() { String::new() } else { format!("{suffix}\0") }
}

fn trouble(subject: &str, code: &'static str, why: impl std::fmt::Display, mend: &str) -> Error {
    Error::of(Class::Stream, Report::new("delete at the source", subject, why).code(code).mend(mend))
}
