//! Scrub: reads the copy again, slowly, and compares it with what was recorded when it came.
//!
//! What rotted or was lost is alarmed and fetched again by the mirror, which puts it right where the source still has
//! the recorded bytes. Nothing here waits for the source, and nothing that goes wrong here touches the mirror.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::clock::Timestamp;
use crate::damage;
use crate::destination::{Destination, Place, sidecar};
use crate::discover::Wanted;
use crate::error::Error;
use crate::key::Shown;
use crate::layout::{Kind, Stream, root};
use crate::ledger::{ScrubCommit, ScrubRow, StreamId};
use crate::mirror::Mirror;
use crate::mirror::mend::unless_unreadable;
use crate::prove::Prover;
use crate::record::Record;
use crate::records::Records;
use crate::source::Source;

mod judge;
mod manifests;
mod pace;

use judge::{Finding, Read};
pub use pace::{Pace, RealTiming, Timing};

/// What one turn reads at most; where it stands is recorded after each.
const TURN_BYTES: u64 = 16 << 20;

/// Alarms that one transaction looks for to clear.
const MENDED: usize = 1000;

/// What a scrub works by.
#[derive(Clone)]
pub struct Rules {
    /// What is mirrored.
    pub wanted: Wanted,
    /// Seconds from the beginning of one round to that of the next.
    pub every: i64,
    /// How fast.
    pub pace: Arc<Pace>,
    /// Objects of one turn.
    pub objects_a_turn: u64,
}

/// Reads the copy of one source again.
pub struct Scrubber<S, D> {
    mirror: Arc<Mirror<S, D>>,
    prover: Arc<Prover<S, D>>,
    rules: Rules,
    objects: AtomicU64,
}

/// What a turn did.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Objects that were read again.
    pub objects: u64,
    /// What was rotten or lost, manifests included.
    pub findings: u64,
    /// Streams with copies that are to be fetched again.
    pub wake: Vec<Stream>,
    /// The round goes on.
    pub more: bool,
}

/// A turn under way.
struct Walk<'s> {
    row: ScrubRow,
    commit: ScrubCommit,
    did: Scrubbed,
    bytes: u64,
    stop: &'s CancellationToken,
}

impl Walk<'_> {
    fn is_over(&self, objects: u64) -> bool {
        let much = self.did.objects >= objects || self.commit.mended.len() >= MENDED;
        self.stop.is_cancelled() || self.bytes >= TURN_BYTES || much
    }

    /// Somebody may have restored what was not mended.
    fn is_whole(&mut self, id: StreamId, subject: impl FnOnce() -> String) {
        if self.row.unmended > 0 {
            self.commit.mended.push((id, subject(), "read again, it is whole".to_owned()));
        }
    }

    fn found(&mut self) {
        self.did.findings += 1;
        self.row.findings += 1;
    }
}

impl<S: Source, D: Destination> Scrubber<S, D> {
    /// Reads again what `mirror` mirrors and `prover` proves.
    pub fn new(mirror: Arc<Mirror<S, D>>, prover: Arc<Prover<S, D>>, rules: Rules) -> Self {
        Self { mirror, prover, rules, objects: AtomicU64::new(0) }
    }

    /// Objects that were read again since this was made.
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Begins a round anew, wherever the last one stands.
    ///
    /// # Errors
    /// `Fatal` when the state cannot be used.
    pub async fn begin_anew(&self) -> Result<(), Error> {
        let mut row = self.mirror.ledger().scrub(&self.rules.wanted.source).await?;
        begin(&mut row, self.ours());
        self.mirror.ledger().save_scrub(&row, &ScrubCommit::default(), self.ours()).await
    }

    /// Goes on with the round, or begins one that is due; records what it found and where it stands.
    ///
    /// May be dropped at any await: what was not recorded is read again.
    ///
    /// # Errors
    /// `Fatal` when the state cannot be used; any other is the scrub's own trouble. Of a destination that is not there,
    /// nothing is said to be lost.
    pub async fn turn(&self, stop: &CancellationToken) -> Result<Scrubbed, Error> {
        let ledger = self.mirror.ledger();
        let mut row = ledger.scrub(&self.rules.wanted.source).await?;
        if !judge::is_due(&row, self.rules.every, self.ours()) {
            return Ok(Scrubbed::default());
        }
        self.mirror.destination().present().await?;
        if row.began.is_none() {
            begin(&mut row, self.ours());
        }
        let mut walk = Walk { row, commit: ScrubCommit::default(), did: Scrubbed::default(), bytes: 0, stop };
        let went = self.walk(&mut walk).await;
        if let Ok(true) = went {
            end(&mut walk.row, self.ours());
        }
        walk.did.more = walk.row.began.is_some();
        // What was found before an error counts all the same, unless it was found where nothing could be.
        self.mirror.destination().present().await?;
        ledger.save_scrub(&walk.row, &walk.commit, self.ours()).await?;
        crate::failpoint::reached("scrubbed");
        went.map(|_| walk.did)
    }

    /// Walks on from where the round stands; `true` at its end.
    async fn walk(&self, walk: &mut Walk<'_>) -> Result<bool, Error> {
        for (stream, id) in self.streams(&walk.row.prefix).await? {
            if stream.prefix != walk.row.prefix {
                (walk.row.prefix, walk.row.day, walk.row.suffix) = (stream.prefix.clone(), -1, None);
            }
            if walk.row.suffix.is_none() {
                if !self.manifests(walk, &stream, id).await? {
                    return Ok(false);
                }
                walk.row.suffix = Some(String::new());
            }
            if !self.objects_of(walk, &stream, id).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The streams that are mirrored, in a fixed order, from one on.
    async fn streams(&self, from: &str) -> Result<Vec<(Stream, StreamId)>, Error> {
        let (wanted, mut streams) = (&self.rules.wanted, Vec::new());
        let root = root(&wanted.prefix);
        for row in self.mirror.ledger().checkpoints().await? {
            let Some(kind) = Kind::named(&row.kind).filter(|_| row.source == wanted.source) else { continue };
            let stream = Stream::new(&row.source, &root, row.organization.as_deref(), &row.account, kind, &row.region);
            if stream.prefix == row.prefix && wanted.covers(&stream) && row.prefix.as_str() >= from {
                streams.push((stream, row.id));
            }
        }
        streams.sort_unstable_by(|(a, _), (b, _)| a.prefix.cmp(&b.prefix));
        Ok(streams)
    }

    /// Reads the objects of a stream again; `false` when it is to go on later.
    async fn objects_of(&self, walk: &mut Walk<'_>, stream: &Stream, id: StreamId) -> Result<bool, Error> {
        // The least key after the last one; the empty one stands before all.
        let from = walk.row.suffix.as_deref().filter(|last| !last.is_empty()).map(|last| format!("{last}\0"));
        let from = from.unwrap_or_default();
        let mut records = Records::from(self.mirror.ledger(), self.mirror.manifests(), stream, id, &from);
        while let Some(record) = records.next().await? {
            if walk.is_over(self.rules.objects_a_turn) {
                return Ok(false);
            }
            let Some(found) = walk.stop.run_until_cancelled(self.look(stream, &record)).await else {
                return Ok(false);
            };
            match found? {
                Some(finding) => self.note(walk, stream, id, &record, &finding),
                None => walk.is_whole(id, || {
                    damage::subject(&format!("{}{}", stream.prefix, record.suffix), record.version().as_deref())
                }),
            }
            walk.row.objects += 1;
            walk.did.objects += 1;
            walk.row.suffix = Some(record.suffix);
            self.objects.fetch_add(1, Ordering::Relaxed);
            self.spent(walk, record.size).await;
        }
        Ok(true)
    }

    async fn spent(&self, walk: &mut Walk<'_>, bytes: u64) {
        walk.bytes += bytes;
        walk.row.bytes += bytes;
        walk.stop.run_until_cancelled(self.rules.pace.spent(bytes)).await;
    }

    /// Reads one object again, and what stands beside it.
    async fn look(&self, stream: &Stream, record: &Record) -> Result<Option<Finding>, Error> {
        let place = Place { key: format!("{}{}", stream.prefix, record.suffix), version: record.version() };
        let copy = self.mirror.destination();
        let read = match copy.sum(&place).await {
            Ok(Some(sum)) => Read::Bytes(sum.sha256, sum.size),
            Ok(None) => Read::Nothing,
            Err(error) if error.code() == "EIO" => Read::Unreadable(error.to_string()),
            Err(error) => return Err(error),
        };
        let finding = judge::object(&record.sha256, record.size, &read);
        if finding.is_some() || !stream.kind.keeps_metadata {
            return Ok(finding);
        }
        let bytes = unless_unreadable(copy.sidecar(&place).await)?;
        let kept = bytes.map(|bytes| sidecar::whole(&bytes, &place.key).is_some());
        let is_signed = if kept == Some(true) { self.prover.is_signed(stream, &place).await? } else { None };
        Ok(judge::metadata(kept, is_signed))
    }

    fn note(&self, walk: &mut Walk<'_>, stream: &Stream, id: StreamId, record: &Record, finding: &Finding) {
        let key = format!("{}{}", stream.prefix, record.suffix);
        let alarm = judge::alarm(&key, record.version().as_deref(), finding);
        warn!(alarm = alarm.kind, source = %stream.source, object.key = %Shown(&key), "{}", alarm.detail);
        walk.found();
        walk.commit.raised.push((id, alarm));
        // By the service's clock, as all that is tried again.
        let now = self.mirror.service_clock().now();
        walk.commit.fetch.push((id, judge::failure(&key, finding, record.size, record.etag.clone(), now)));
        if walk.did.wake.last().is_none_or(|last| last.prefix != stream.prefix) {
            walk.did.wake.push(stream.clone());
        }
    }

    fn ours(&self) -> Timestamp {
        self.mirror.service_clock().ours()
    }
}

fn begin(row: &mut ScrubRow, now: Timestamp) {
    row.began = Some(now);
    (row.prefix, row.day, row.suffix) = (String::new(), -1, None);
    (row.objects, row.bytes, row.findings) = (0, 0, 0);
}

fn end(row: &mut ScrubRow, now: Timestamp) {
    (row.last_began, row.last_ended) = (row.began.take(), Some(now));
    (row.last_objects, row.last_findings) = (row.objects, row.findings);
    (row.prefix, row.day, row.suffix) = (String::new(), -1, None);
}
