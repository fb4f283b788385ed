//! What verified digests inside of the proven range vouch for: asked before an original is deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{ChainState, Prover};
use crate::chain::HOUR_SECONDS;
use crate::clock::{Timestamp, shift};
use crate::destination::{Destination, Place};
use crate::digest::{MOST_BYTES, Name};
use crate::error::Error;
use crate::layout::{Day, Kind, Stream};
use crate::ledger::StreamId;
use crate::public_keys::PublicKeys;
use crate::record::Record;
use crate::records::Records;
use crate::source::Source;

/// A log that is to be vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// When the source stored it.
    pub modified: Timestamp,
    /// SHA-256 of its inflated bytes.
    pub inflated: [u8; 32],
}

/// A digest that was verified again just now and lies inside of the proven range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouching {
    /// The logs that it names, by their keys here; `None` for one that has no place here.
    pub logs: Vec<(Option<String>, [u8; 32])>,
    /// Nothing of its range comes after it.
    pub is_newest: bool,
}

/// The chains of a stream of digests: number, trail, home region, proven ranges.
type Chains = Vec<(i64, String, String, Vec<(Timestamp, Timestamp)>)>;

impl<S: Source, D: Destination> Prover<S, D> {
    /// For each log of a stream that a verified digest inside of the proven range names with this very hash, that
    /// digest's key. A log that digests name with different hashes is not among them.
    ///
    /// # Errors
    /// As for [`Prover::turn`].
    pub async fn vouched(
        &self,
        stream: &Stream,
        logs: &BTreeMap<String, Log>,
    ) -> Result<HashMap<String, String>, Error> {
        let mut vouched = HashMap::new();
        let Some((digests, id)) = self.digests_of(stream).await? else { return Ok(vouched) };
        let chains = self.proven_chains(id).await?;
        let hours = hours(logs.values().map(|log| log.modified));
        let mut contradicted = BTreeSet::new();
        for day in days(&hours) {
            let (ledger, manifests) = (self.mirror.ledger(), self.mirror.manifests());
            let mut records = Records::from(ledger, manifests, &digests, id, &day.folder());
            while let Some(record) = records.next().await?.filter(|record| Day::of(&record.suffix) == Some(day)) {
                let name = named(&digests, &record.suffix);
                if !name.is_some_and(|name| hours.contains(&hour(name.end))) {
                    continue;
                }
                let Some(vouching) = self.vouching(&digests, &chains, &record).await? else { continue };
                let key = format!("{}{}", digests.prefix, record.suffix);
                take(vouching, &key, logs, &mut vouched, &mut contradicted);
            }
        }
        vouched.retain(|key, _| !contradicted.contains(key));
        Ok(vouched)
    }

    /// What one digest vouches for; `None` when it is not verified, not yet judged whole, or outside of the proven range.
    ///
    /// # Errors
    /// As for [`Prover::turn`].
    pub async fn vouching_of(&self, stream: &Stream, id: StreamId, record: &Record) -> Result<Option<Vouching>, Error> {
        let chains = self.proven_chains(id).await?;
        self.vouching(stream, &chains, record).await
    }

    /// The stream of the digests that name the logs of a stream.
    async fn digests_of(&self, logs: &Stream) -> Result<Option<(Stream, StreamId)>, Error> {
        let Some(kind) = Kind::named("CloudTrail-Digest") else { return Ok(None) };
        let organization = logs.organization.as_deref();
        let stream = Stream::new(&logs.source, &self.root, organization, &logs.account, kind, &logs.region);
        if !self.rules.wanted.covers(&stream) {
            return Ok(None);
        }
        Ok(self.mirror.ledger().known(&stream).await?.map(|(id, _)| (stream, id)))
    }

    async fn proven_chains(&self, id: StreamId) -> Result<Chains, Error> {
        let ranges = |state: &str| serde_json::from_str::<ChainState>(state).unwrap_or_default().spans.proven();
        let chains = self.mirror.ledger().chains_of(id).await?;
        Ok(chains.into_iter().map(|chain| (chain.id, chain.trail, chain.home, ranges(&chain.state))).collect())
    }

    /// Judges a digest's copy once more: by its signature, its chain's ranges, and what was found of it before.
    async fn vouching(&self, stream: &Stream, chains: &Chains, record: &Record) -> Result<Option<Vouching>, Error> {
        let Some(name) = named(stream, &record.suffix) else { return Ok(None) };
        let chain = chains.iter().find(|(_, trail, home, _)| trail == name.trail && home == name.home);
        let Some((chain, _, _, ranges)) = chain.filter(|_| !record.later) else { return Ok(None) };
        if self.mirror.ledger().is_unjudged(*chain, &record.suffix).await? {
            return Ok(None);
        }
        let key = format!("{}{}", stream.prefix, record.suffix);
        let place = Place { key: key.clone(), version: None };
        let copy = self.mirror.destination().reread(&place, MOST_BYTES).await?;
        let Ok(read) = self.read(stream, &key, copy) else { return Ok(None) };
        if record.inflated != Some(read.hash) {
            return Ok(None);
        }
        let is_inside =
            |(from, through): &&(Timestamp, Timestamp)| *from <= read.digest.start && read.digest.end <= *through;
        let Some((_, through)) = ranges.iter().find(is_inside) else { return Ok(None) };
        let window = read.digest.key_window(read.backfilled_at);
        // With the keys that are here: it was judged by them before, and nothing is asked for.
        let keys = PublicKeys::new(&stream.region, self.mirror.ledger().public_keys(&stream.region).await?);
        let key = keys.of(&read.digest.fingerprint, window);
        if key.is_none() || read.digest.verify(&read.hash, &read.signature, read.backfilled_at, key).is_err() {
            return Ok(None);
        }
        let logs = read.digest.logs.iter().map(|log| (self.here(&log.origin.key), log.hash)).collect();
        Ok(Some(Vouching { logs, is_newest: read.digest.end >= *through }))
    }
}

/// Sorts what a digest names into logs that are what it says, and logs that are not.
fn take(
    vouching: Vouching,
    digest: &str,
    logs: &BTreeMap<String, Log>,
    vouched: &mut HashMap<String, String>,
    contradicted: &mut BTreeSet<String>,
) {
    for (named, hash) in vouching.logs {
        let Some(named) = named else { continue };
        match logs.get(&named) {
            Some(log) if log.inflated == hash => {
                vouched.insert(named, digest.to_owned());
            }
            Some(_) => {
                contradicted.insert(named);
            }
            None => {}
        }
    }
}

/// A digest's name, as it can be read from a key.
fn named<'r>(stream: &Stream, suffix: &'r str) -> Option<Name<'r>> {
    let file = suffix.rsplit_once('/').map_or(suffix, |(_, file)| file);
    Name::of(&stream.account, &stream.region, file)
}

/// The hours in which a digest of what was delivered at these times can end: it covers an hour, and clocks differ.
fn hours(delivered: impl Iterator<Item = Timestamp>) -> BTreeSet<i64> {
    delivered.flat_map(|at| hour(shift(at, -HOUR_SECONDS))..=hour(shift(at, 2 * HOUR_SECONDS))).collect()
}

fn days(hours: &BTreeSet<i64>) -> BTreeSet<Day> {
    let time = |hour: &i64| Timestamp::from_second(hour * HOUR_SECONDS).ok();
    hours.iter().filter_map(time).map(Day::at).collect()
}

fn hour(at: Timestamp) -> i64 {
    at.as_second().div_euclid(HOUR_SECONDS)
}
