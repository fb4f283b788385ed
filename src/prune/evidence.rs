//! What is known of an object before it is decided on: asked for in order of what it costs.

use std::collections::{BTreeMap, HashMap};

use super::Pruner;
use super::decide::{self, Copy, Proof, Reason, Standing, Terms, Verdict};
use crate::destination::{Destination, Place};
use crate::error::{Class, Error};
use crate::layout::{Stream, root};
use crate::ledger::{DELETION, Ended, Intent, Outcome, StreamId};
use crate::prove::Log;
use crate::record::Record;
use crate::records::Seek;
use crate::source::Remove;

/// An object that neither its record nor the state keeps, or one whose deletion was asked for and is not known to have
/// happened.
pub(super) struct Candidate {
    record: Record,
    standing: Standing,
}

/// All that is known of an object.
pub(super) struct Known {
    record: Record,
    standing: Standing,
    proof: Proof,
    copy: Copy,
}

impl Known {
    /// Whether it may be deleted now, and what is recorded of that; else what keeps it.
    pub fn decide(&self, stream: &Stream, terms: &Terms, now: crate::clock::Timestamp) -> Result<Intent, Reason> {
        let proof = (&self.proof, stream.kind.keeps_metadata);
        match decide::decide(&self.record, &self.standing, proof, self.copy, terms, now) {
            Verdict::Delete(named) => {
                // A digest vouches for itself.
                let own = || proof.1.then(|| format!("{}{}", stream.prefix, self.record.suffix));
                Ok(Intent { record: self.record.clone(), proof: named.or_else(own), is_again: self.is_open() })
            }
            Verdict::Keep(reason) => Err(reason),
        }
    }

    /// Its deletion was asked for, and it is not known what became of that.
    pub fn is_open(&self) -> bool {
        self.standing.before == Some(None)
    }

    pub fn key(&self, stream: &Stream) -> String {
        format!("{}{}", stream.prefix, self.record.suffix)
    }

    pub fn ended(&self, outcome: Outcome, detail: Option<String>) -> Ended {
        Ended { record: self.record.clone(), outcome, detail }
    }
}

impl<S: Remove, D: Destination> Pruner<S, D> {
    /// Looks at the record and the state alone.
    pub(super) async fn first_look(
        &self,
        stream: &Stream,
        id: StreamId,
        record: &Record,
    ) -> Result<Result<Candidate, Reason>, Error> {
        if let Some(reason) = decide::by_record(record, &self.rules.terms, self.now()) {
            return Ok(Err(reason));
        }
        let (ledger, key) = (self.mirror.ledger(), format!("{}{}", stream.prefix, record.suffix));
        let before = ledger.deletion(stream, id, record).await?.map(|row| row.outcome);
        let alarms = ledger.alarms_about(&stream.source, id, &key).await?;
        let standing = Standing {
            before,
            is_failing: ledger.is_failing(id, &key).await?,
            // Our own, that it could not be deleted, does not keep it: what it found is in `before`.
            alarm: alarms.into_iter().find(|kind| kind != DELETION),
        };
        let kept = decide::by_standing(&standing).filter(|_| before != Some(None));
        Ok(kept.map_or_else(|| Ok(Candidate { record: record.clone(), standing }), Err))
    }

    /// Asks the digests, and reads the copies of what they do not keep.
    pub(super) async fn gather(
        &self,
        stream: &Stream,
        id: StreamId,
        batch: Vec<Candidate>,
    ) -> Result<Vec<Known>, Error> {
        let is_digest = stream.kind.keeps_metadata;
        let mut vouched = if is_digest { HashMap::new() } else { self.vouched(stream, &batch).await? };
        let mut known = Vec::new();
        for Candidate { record, standing } in batch {
            let key = format!("{}{}", stream.prefix, record.suffix);
            let proof = match is_digest {
                true => self.digest(stream, id, &record).await?,
                false => vouched.remove(&key).map_or(Proof::Nothing, Proof::Named),
            };
            let may_go = decide::by_standing(&standing).is_none()
                && decide::by_proof(&proof, is_digest, self.rules.terms.require).is_none();
            let copy = if may_go { self.copy(&key, &record).await? } else { Copy::Unreadable };
            known.push(Known { record, standing, proof, copy });
        }
        Ok(known)
    }

    async fn vouched(&self, stream: &Stream, batch: &[Candidate]) -> Result<HashMap<String, String>, Error> {
        let log = |candidate: &Candidate| {
            let record = &candidate.record;
            let log = Log { modified: record.modified, inflated: record.inflated? };
            Some((format!("{}{}", stream.prefix, record.suffix), log))
        };
        let logs: BTreeMap<String, Log> = batch.iter().filter_map(log).collect();
        if logs.is_empty() { Ok(HashMap::new()) } else { self.prover.vouched(stream, &logs).await }
    }

    async fn digest(&self, stream: &Stream, id: StreamId, record: &Record) -> Result<Proof, Error> {
        let Some(vouching) = self.prover.vouching_of(stream, id, record).await? else { return Ok(Proof::Nothing) };
        if vouching.is_newest {
            return Ok(Proof::Newest);
        }
        let logs: Option<Vec<String>> = vouching.logs.into_iter().map(|(key, _)| key).collect();
        let is_spent = match logs {
            Some(logs) => self.are_gone(&stream.source, logs).await?,
            None => false,
        };
        Ok(if is_spent { Proof::Spent } else { Proof::Needed })
    }

    /// Whether all of these logs are mirrored, and none of them is at the source any more.
    async fn are_gone(&self, source: &str, keys: Vec<String>) -> Result<bool, Error> {
        let root = root(&self.rules.wanted.prefix);
        let mut streams: BTreeMap<String, (Stream, Vec<String>)> = BTreeMap::new();
        for key in keys {
            let Some(stream) = Stream::of_key(source, &root, &key) else { return Ok(false) };
            let Some(suffix) = stream.suffix(&key).map(str::to_owned) else { return Ok(false) };
            streams.entry(stream.prefix.clone()).or_insert_with(|| (stream, Vec::new())).1.push(suffix);
        }
        for (_, (stream, mut suffixes)) in streams {
            suffixes.sort_unstable();
            suffixes.dedup();
            if !self.rules.wanted.covers(&stream) || !self.all_gone(&stream, &suffixes).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn all_gone(&self, stream: &Stream, suffixes: &[String]) -> Result<bool, Error> {
        let ledger = self.mirror.ledger();
        let Some((id, _)) = ledger.known(stream).await? else { return Ok(false) };
        let mut seek = Seek::new(ledger, self.mirror.manifests(), stream, id);
        for suffix in suffixes {
            let Some(record) = seek.find(suffix).await? else { return Ok(false) };
            let before = ledger.deletion(stream, id, &record).await?.and_then(|row| row.outcome);
            if !record.gone && !matches!(before, Some(Outcome::Deleted | Outcome::Absent)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a copy again, whole.
    async fn copy(&self, key: &str, record: &Record) -> Result<Copy, Error> {
        let place = Place { key: key.to_owned(), version: None };
        match self.mirror.destination().sum(&place).await {
            Ok(Some(sum)) if sum.sha256 == record.sha256 && sum.size == record.size => Ok(Copy::Whole),
            Ok(Some(_)) => Ok(Copy::Damaged),
            Ok(None) => Ok(Copy::Lost),
            // That one copy is archived, or its sector is bad, does not keep the others.
            Err(error) if error.class() == Class::Object || matches!(error.code(), "EIO" | "InvalidObjectState") => {
                Ok(Copy::Unreadable)
            }
            Err(error) => Err(error),
        }
    }
}
