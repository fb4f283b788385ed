//! Proof: digests are judged as they are mirrored, from the copy itself, and every log that they name is looked for.
//!
//! Nothing is asked of the source but a log that a digest names and that is not here; and nothing that goes wrong here
//! keeps the mirror from its work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::chain::{Gap, Joint};
use crate::clock::{Timestamp, shift};
use crate::copy_of::{self, CopyOf};
use crate::destination::Destination;
use crate::discover::Wanted;
use crate::error::Error;
use crate::key::Shown;
use crate::keyring::Keyring;
use crate::layout::{Kind, Stream, root};
use crate::ledger::{Alarm, ChainRow, Checkpoint, DigestRow, ProofCommit, StreamId};
use crate::mirror::Mirror;
use crate::records::Records;
use crate::source::Source;

mod audit;
pub mod cover;
mod judge;
mod reconcile;
pub mod spans;
mod vouch;

use audit::Proven;
use judge::Verdict;
use spans::{Hole, Spans};
pub use vouch::{Log, Vouching};

/// Digests that one turn judges.
const A_TURN: u32 = 200;
/// Digests of a chain that are looked at for what holds it.
const LOOKED_AT: u32 = 1000;
/// `CloudTrail` redelivers for 30 days: a refused digest explains its hours no longer than this.
const REDELIVERY_SECONDS: i64 = 35 * 86_400;
/// Records that are taken over at once.
const CHUNK: usize = 500;
/// Named logs that one transaction holds.
const NAMES_AT_ONCE: usize = 20_000;
/// In seconds: what is tried again within them is waited for.
const SOON: i64 = 60;
/// Hours of a gap that its alarm names; more are counted.
const NAMED_HOURS: usize = 48;

/// What a prover works by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The bucket that is mirrored.
    pub bucket: String,
    /// What is mirrored of it.
    pub wanted: Wanted,
    /// Nothing that is dated before is mirrored.
    pub since: Option<Timestamp>,
    /// How late a digest may be, in seconds.
    pub grace: i64,
}

/// Proves the copy of one source.
pub struct Prover<S, D> {
    mirror: Arc<Mirror<S, D>>,
    keyring: Keyring,
    rules: Rules,
    root: String,
    /// Which stream comes first, so that none waits for long behind the others.
    next: AtomicUsize,
    /// It is written beside the copy what it is of.
    described: AtomicBool,
}

/// What a turn did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Proved {
    /// Digests that were judged.
    pub judged: u32,
    /// Streams with logs that are to be fetched at once.
    pub wake: Vec<Stream>,
    /// There is more to do now.
    pub more: bool,
    /// Something is waited for that comes soon: a first listing, or a log.
    pub waits: bool,
}

/// What is kept of a chain beside its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ChainState {
    spans: Spans,
    /// Gaps that are alarmed: subject and what was said.
    #[serde(default)]
    gaps: BTreeMap<String, String>,
    /// Digests that their successors do not name as they are: key and what was said.
    #[serde(default)]
    links: BTreeMap<String, String>,
}

/// One stream of digests, and when it was listed.
struct Subject {
    stream: Stream,
    id: StreamId,
    checkpoint: Checkpoint,
    /// Everything that was there at first is mirrored, of its logs, too.
    ready: bool,
}

impl<S: Source, D: Destination> Prover<S, D> {
    /// Proves what `mirror` mirrors, with these keys.
    pub fn new(mirror: Arc<Mirror<S, D>>, keyring: Keyring, rules: Rules) -> Self {
        let root = root(&rules.wanted.prefix);
        Self { mirror, keyring, rules, root, next: AtomicUsize::new(0), described: AtomicBool::new(false) }
    }

    /// Judges the digests that wait, as many as one turn may, and says how far every chain is.
    ///
    /// May be dropped at any await: what was recorded holds, and the rest is judged again.
    ///
    /// # Errors
    /// `Fatal` when the state cannot be used; any other is the prover's own trouble.
    pub async fn turn(&self, stop: &CancellationToken) -> Result<Proved, Error> {
        self.say_what_it_is_of().await?;
        let mut proved = Proved::default();
        let (mut digests, logs): (Vec<_>, Vec<_>) =
            self.streams().await?.into_iter().partition(|stream| stream.kind.keeps_metadata);
        let first = self.next.fetch_add(1, Ordering::Relaxed) % digests.len().max(1);
        digests.rotate_left(first);
        for stream in digests {
            if stop.is_cancelled() {
                break;
            }
            let subject = self.subject(stream, &logs).await?;
            self.prove_stream(&subject, &logs, &mut proved, stop).await?;
        }
        Ok(proved)
    }

    /// Keeps beside the copy what it is a copy of, once in a process, when that has changed.
    async fn say_what_it_is_of(&self) -> Result<(), Error> {
        if self.described.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (wanted, copy) = (&self.rules.wanted, self.mirror.destination());
        let name = copy_of::file_name(&wanted.source);
        let there = copy.recall(&name).await?;
        let known = there.as_ref().and_then(|bytes| CopyOf::parse(bytes).ok());
        let first_written = known.map_or_else(|| self.ours(), |known| known.first_written);
        let mut of = CopyOf::new(&wanted.source, &self.rules.bucket, &wanted.prefix, first_written);
        (of.organization, of.since) = (wanted.organization.clone(), self.rules.since);
        of.kinds.clone_from(&wanted.kinds);
        of.kinds.sort_unstable();
        let bytes = of.render();
        if there.as_ref() != Some(&bytes) {
            copy.keep(&name, bytes).await?;
        }
        self.described.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The streams that are mirrored, as far as they are configured now.
    async fn streams(&self) -> Result<Vec<Stream>, Error> {
        let rows = self.mirror.ledger().checkpoints().await?;
        let own = rows.iter().filter(|row| row.source == self.rules.wanted.source);
        let stream = |row: &crate::ledger::CheckpointRow| {
            let kind = Kind::named(&row.kind)?;
            let organization = row.organization.as_deref();
            let stream = Stream::new(&row.source, &self.root, organization, &row.account, kind, &row.region);
            (stream.prefix == row.prefix && self.rules.wanted.covers(&stream)).then_some(stream)
        };
        Ok(own.filter_map(stream).collect())
    }

    async fn subject(&self, stream: Stream, logs: &[Stream]) -> Result<Subject, Error> {
        let now = self.now();
        let (id, checkpoint) = self.mirror.ledger().checkpoint(&stream).await?;
        let mut ready = checkpoint.memory.covered(i64::MAX, now).is_some();
        for log in logs {
            if ready && is_of(&stream, log) {
                let (_, checkpoint) = self.mirror.ledger().checkpoint(log).await?;
                ready = checkpoint.memory.covered(i64::MAX, now).is_some();
            }
        }
        Ok(Subject { stream, id, checkpoint, ready })
    }

    async fn prove_stream(
        &self,
        subject: &Subject,
        logs: &[Stream],
        proved: &mut Proved,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.import(subject, stop).await?;
        self.keyring.tend(self.mirror.destination(), &subject.stream.region, self.now()).await?;
        for chain in self.mirror.ledger().chains_of(subject.id).await? {
            if !stop.is_cancelled() {
                self.prove_chain(subject, chain, proved, stop).await?;
            }
        }
        if !subject.ready || stop.is_cancelled() {
            return Ok(());
        }
        let state = |chain: ChainRow| serde_json::from_str::<ChainState>(&chain.state).unwrap_or_default().spans;
        let spans: Vec<Spans> = self.mirror.ledger().chains_of(subject.id).await?.into_iter().map(state).collect();
        if let Some(proven) = Proven::by(&spans) {
            proved.more |= self.audit(subject, logs, &proven).await?;
        }
        Ok(())
    }

    /// Gives digests that were mirrored before there was a proof their rows, once.
    async fn import(&self, subject: &Subject, stop: &CancellationToken) -> Result<(), Error> {
        let ledger = self.mirror.ledger();
        if ledger.is_imported(subject.id).await? {
            return Ok(());
        }
        let mut records = Records::from(ledger, self.mirror.manifests(), &subject.stream, subject.id, "");
        loop {
            let mut some = Vec::new();
            while let (true, Some(record)) = (some.len() < CHUNK, records.next().await?) {
                some.push(record);
            }
            if stop.is_cancelled() {
                return Ok(());
            }
            let is_last = some.len() < CHUNK;
            ledger.import_digests(&subject.stream, subject.id, &some, is_last).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn prove_chain(
        &self,
        subject: &Subject,
        mut chain: ChainRow,
        proved: &mut Proved,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let before = chain.clone();
        let mut state: ChainState = serde_json::from_str(&chain.state).unwrap_or_default();
        let mut commit = ProofCommit::default();
        if subject.ready {
            self.judge_due(subject, &chain, &mut state, &mut commit, proved, stop).await?;
        }
        let now = self.now();
        let mut due = self.due(subject, now);
        if subject.ready {
            state.spans.begin(self.rules.since, due);
        }
        let is_soon = |row: &DigestRow| row.tries > 0 && row.next_try.is_some_and(|at| at <= shift(now, SOON));
        proved.waits |= !subject.ready || commit.waiting.iter().any(is_soon);
        let here = match subject.ready {
            true => self.still_here(&chain, &mut commit, &state, now).await?,
            false => Vec::new(),
        };
        if here.len() >= LOOKED_AT as usize {
            // What lies behind these was not looked at: its digests may be here.
            due = due.min(here.last().map_or(due, |row| shift(row.ends, -3600)));
        }
        let gaps = state.spans.gaps(due, &ranges(&here));
        self.alarm_gaps(subject, &chain, &gaps, &mut state, &mut commit);
        alarm_links(subject, &state.spans.holes(), &mut state.links, &mut commit);
        let reach = state.spans.reach();
        (chain.proven_from, chain.proven_through, chain.ended) = (reach.from, reach.through, reach.ended);
        chain.held_why = held(subject, &here, &gaps, &state, reach.through);
        chain.held_since = chain.held_why.as_ref().map(|_| before.held_since.unwrap_or(now));
        chain.state = serde_json::to_string(&state).unwrap_or_default();
        if chain == before && commit.is_empty() {
            return Ok(());
        }
        commit.is_empty_chain = state.spans.is_empty();
        crate::failpoint::reached("proof_judged");
        self.mirror.ledger().save_proof(&subject.stream.source, &chain, &commit, self.ours()).await?;
        crate::failpoint::reached("proof_committed");
        if before.proven_through.is_none() && chain.proven_through.is_some() {
            info!(stream = %subject.stream, trail = %Shown(&chain.trail), "The proof has begun");
        }
        Ok(())
    }

    async fn judge_due(
        &self,
        subject: &Subject,
        chain: &ChainRow,
        state: &mut ChainState,
        commit: &mut ProofCommit,
        proved: &mut Proved,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let limit = A_TURN.saturating_sub(proved.judged);
        let rows = self.mirror.ledger().digests_due(chain.id, self.now(), limit.max(1)).await?;
        if limit == 0 {
            proved.more |= !rows.is_empty();
            return Ok(());
        }
        let more_before = proved.more;
        proved.more |= rows.len() == limit as usize;
        for row in rows {
            if stop.is_cancelled() || commit.cleared.len() > NAMES_AT_ONCE {
                proved.more = true;
                break;
            }
            proved.judged += 1;
            match self.judge(subject, &row).await? {
                Verdict::Whole { span, subjects } => {
                    if let Some(span) = span {
                        state.spans.add(*span);
                    }
                    commit.cleared.extend(subjects);
                    commit.done.push(row);
                }
                Verdict::NoKeys(row) => {
                    // The others would wait for the same.
                    commit.waiting.push(*row);
                    proved.more = more_before;
                    break;
                }
                Verdict::Waits { row, alarms, fetch, unlisted } => {
                    proved.wake.extend(unlisted);
                    proved.wake.extend(fetch.iter().map(|(stream, ..)| stream.clone()));
                    commit.fetch.extend(fetch.into_iter().map(|(_, id, failure)| (id, failure)));
                    commit.raised.extend(alarms);
                    commit.waiting.push(*row);
                }
            }
        }
        Ok(())
    }

    /// Digests that are here and are part of no span; drops those that explain nothing any more.
    async fn still_here(
        &self,
        chain: &ChainRow,
        commit: &mut ProofCommit,
        state: &ChainState,
        now: Timestamp,
    ) -> Result<Vec<DigestRow>, Error> {
        let key = |row: &DigestRow| (row.ends, row.suffix.clone(), row.version.clone());
        let mut here = self.mirror.ledger().digests_here(chain.id, LOOKED_AT).await?;
        here.retain(|row| !commit.done.iter().any(|done| key(done) == key(row)));
        for row in &mut here {
            if let Some(judged) = commit.waiting.iter().find(|judged| key(judged) == key(row)) {
                *row = judged.clone();
            }
        }
        let through = state.spans.reach().through;
        let is_over = |row: &DigestRow| {
            let is_old = row.ends < shift(now, -REDELIVERY_SECONDS);
            row.next_try.is_none() && (is_old || through.is_some_and(|through| row.ends <= through))
        };
        let (over, here): (Vec<_>, Vec<_>) = here.into_iter().partition(is_over);
        commit.done.extend(over);
        Ok(here)
    }

    /// Up to when digests should be here: those that are younger may still come.
    fn due(&self, subject: &Subject, now: Timestamp) -> Timestamp {
        let listed = subject.checkpoint.listed_through.unwrap_or(Timestamp::MIN);
        shift(listed.min(now), -self.rules.grace)
    }

    fn alarm_gaps(
        &self,
        subject: &Subject,
        chain: &ChainRow,
        gaps: &[Gap],
        state: &mut ChainState,
        commit: &mut ProofCommit,
    ) {
        let told = gaps.iter().map(|gap| {
            let subject = format!("{}{} ({}) {}", subject.stream.prefix, chain.trail, chain.home, gap.from);
            (subject, gap_detail(chain, gap))
        });
        let told: BTreeMap<String, String> = told.collect();
        raise_and_clear(&["gap"], subject, &mut state.gaps, told, commit);
    }

    fn now(&self) -> Timestamp {
        self.mirror.service_clock().now()
    }

    fn ours(&self) -> Timestamp {
        self.mirror.service_clock().ours()
    }
}

impl Subject {
    /// Whether its digests name the logs of this stream.
    fn proves(&self, log: &Stream) -> bool {
        is_of(&self.stream, log)
    }
}

fn is_of(digests: &Stream, log: &Stream) -> bool {
    (&log.organization, &log.account, &log.region) == (&digests.organization, &digests.account, &digests.region)
}

impl ProofCommit {
    fn is_empty(&self) -> bool {
        self.done.is_empty()
            && self.waiting.is_empty()
            && self.raised.is_empty()
            && self.cleared.is_empty()
            && self.fetch.is_empty()
    }
}

/// The hours of digests that are here, read or not.
fn ranges(here: &[DigestRow]) -> Vec<(Timestamp, Timestamp)> {
    here.iter().map(|row| (row.starts.unwrap_or_else(|| shift(row.ends, -3600)), row.ends)).collect()
}

fn alarm_links(subject: &Subject, holes: &[Hole], links: &mut BTreeMap<String, String>, commit: &mut ProofCommit) {
    let broken = holes.iter().filter(|hole| matches!(hole.joint, Joint::OtherHash | Joint::OtherSignature));
    let told = broken.map(|hole| {
        let key = hole.before.key.clone();
        let detail =
            format!("the digest `{}` is signed, but it is not the one that the next digest names", Shown(&key));
        (key, detail)
    });
    raise_and_clear(&["altered"], subject, links, told.collect(), commit);
}

/// Raises what is new or changed, clears what is over.
fn raise_and_clear(
    kinds: &'static [&'static str; 1],
    subject: &Subject,
    said: &mut BTreeMap<String, String>,
    told: BTreeMap<String, String>,
    commit: &mut ProofCommit,
) {
    let [kind] = *kinds;
    let over = said.keys().filter(|key| !told.contains_key(*key));
    commit.cleared.extend(over.map(|key| (&kinds[..], key.clone())));
    for (key, detail) in told.iter().filter(|(key, detail)| said.get(*key) != Some(detail)) {
        if !said.contains_key(key) {
            warn!(alarm = kind, stream = %subject.stream, "{detail}");
        }
        commit.raised.push((subject.id, Alarm { kind, subject: key.clone(), detail: detail.clone() }));
    }
    *said = told;
}

fn gap_detail(chain: &ChainRow, gap: &Gap) -> String {
    let hours: Vec<String> = gap.hours().take(NAMED_HOURS).map(|(from, to)| format!("{from} to {to}")).collect();
    let all = gap.hours().take(1_000_000).count();
    let more = if all > hours.len() { format!(" and {} more", all - hours.len()) } else { String::new() };
    format!("no digest of trail {} proves {all} hours: {}{more}", Shown(&chain.trail), hours.join(", "))
}

/// What keeps a chain from going on, in words that follow "held back by".
fn held(
    subject: &Subject,
    here: &[DigestRow],
    gaps: &[Gap],
    state: &ChainState,
    through: Option<Timestamp>,
) -> Option<String> {
    if !subject.ready {
        return Some("the first listing of its streams, which is not complete".to_owned());
    }
    let waits = here.iter().find(|row| row.why.is_some() && through.is_none_or(|through| row.ends > through));
    let gap = gaps.iter().find(|gap| through.is_none_or(|through| gap.from >= through));
    match (waits, gap) {
        (Some(row), gap) if gap.is_none_or(|gap| row.ends <= gap.from) => row.why.clone(),
        (_, Some(gap)) => Some(format!("a gap: no digest for {} to {}", gap.from, gap.to)),
        (Some(row), None) => row.why.clone(),
        (None, None) if state.spans.holes().is_empty() => None,
        (None, None) => {
            let before = through.map_or_else(|| "the first digest".to_owned(), |at| format!("the digest after {at}"));
            Some(format!("{before}, which is named and not here yet"))
        }
    }
}
