//! Judges one digest: genuine or not, and whether all that it names is here.

use aws_lc_rs::digest::{SHA256, digest as hash_of};
use tracing::warn;

use super::reconcile::Reconciled;
use super::spans::Span;
use super::{Prover, Subject};
use crate::clock::{Timestamp, shift};
use crate::destination::{Destination, Place, Reread};
use crate::digest::{self, Digest, MOST_BYTES, Name};
use crate::error::Error;
use crate::key::Shown;
use crate::keyring::Found;
use crate::layout::Stream;
use crate::ledger::{Alarm, DigestRow, Failure, StreamId};
use crate::source::Source;

/// A log that is not here is looked for again after so long, by how often it was looked for.
const WAITS: [i64; 5] = [0, 60, 300, 900, 3600];
const LONGEST_WAIT: i64 = 6 * 3600;
/// What no listing can have shown yet is waited for.
const LISTING_WAIT: i64 = 30;
/// Keys that cannot be asked for rest on their own schedule; an unknown one is asked for hourly.
const KEY_WAIT: i64 = 60;
const UNKNOWN_KEY_WAIT: i64 = 3600;

/// Alarms that a genuine digest ends: of the logs that it names and that are here, and its own.
const OF_LOGS: &[&str] = &["unreferenced", "missing", "altered"];
const OF_DIGESTS: &[&str] = &["unknown_key", "bad_signature", "malformed_digest"];

/// What became of one digest.
pub(super) enum Verdict {
    /// It is genuine, and all that it names is here.
    Whole {
        /// What it adds to its chain; a backfill digest adds nothing.
        span: Option<Box<Span>>,
        /// Alarms that it ends.
        subjects: Vec<(&'static [&'static str], String)>,
    },
    /// The keys of its region cannot be asked for.
    NoKeys(Box<DigestRow>),
    /// It waits for something, or was refused.
    Waits {
        row: Box<DigestRow>,
        alarms: Vec<(StreamId, Alarm)>,
        fetch: Vec<(Stream, StreamId, Failure)>,
        /// Streams that are to be listed.
        unlisted: Vec<Stream>,
    },
}

/// A digest that can be read, with what it was signed with.
pub(super) struct Read {
    pub digest: Digest,
    pub hash: [u8; 32],
    pub signature: Vec<u8>,
    pub backfilled_at: Option<Timestamp>,
}

/// Why a digest cannot be believed: the kind of alarm, and words.
pub(super) struct Refused(&'static str, String);

impl<S: Source, D: Destination> Prover<S, D> {
    /// Judges a digest from its copy.
    pub(super) async fn judge(&self, subject: &Subject, row: &DigestRow) -> Result<Verdict, Error> {
        let key = format!("{}{}", subject.stream.prefix, row.suffix);
        let version = (!row.version.is_empty()).then(|| row.version.clone());
        let place = Place { key: key.clone(), version };
        let copy = self.mirror.destination().reread(&place, MOST_BYTES).await?;
        let read = match self.read(&subject.stream, &key, copy) {
            Ok(read) => read,
            Err(refused) => return Ok(refuse(subject, &key, row.clone(), refused)),
        };
        let row = DigestRow { starts: Some(read.digest.start), ..row.clone() };
        let window = read.digest.key_window(read.backfilled_at);
        let (copy, region, now) = (self.mirror.destination(), &subject.stream.region, self.now());
        let public_key = match self.keyring.find(copy, region, &read.digest.fingerprint, window, now).await? {
            Found::Key(public_key) => public_key,
            Found::Waits => return Ok(no_keys(row, now)),
            Found::Unknown => return Ok(unknown_key(subject, &key, row, &read.digest.fingerprint, now)),
        };
        let verified = read.digest.verify(&read.hash, &read.signature, read.backfilled_at, Some(&public_key));
        if let Err(doubt) = verified {
            let why = format!("the digest `{}` is not what CloudTrail signed: {doubt}", Shown(&key));
            return Ok(refuse(subject, &key, row, Refused("bad_signature", why)));
        }
        let found = self.reconcile(&read.digest, row.tries).await?;
        Ok(self.whole_or_waiting(&key, row, &read, found))
    }

    /// Whether the signature that is kept beside a digest's copy fits it; `None` where that cannot be told: it is no
    /// digest, or the key that it names is not here.
    ///
    /// # Errors
    /// As for [`Prover::turn`].
    pub async fn is_signed(&self, stream: &Stream, place: &Place) -> Result<Option<bool>, Error> {
        let copy = self.mirror.destination().reread(place, MOST_BYTES).await?;
        let read = match self.read(stream, &place.key, copy) {
            Ok(read) => read,
            Err(Refused("bad_signature", _)) => return Ok(Some(false)),
            Err(_) => return Ok(None),
        };
        let keys = self.mirror.ledger().public_keys(&stream.region).await?;
        let mut named = keys.iter().filter(|key| key.fingerprint == read.digest.fingerprint).peekable();
        if named.peek().is_none() {
            return Ok(None);
        }
        let fits = |key| read.digest.verify(&read.hash, &read.signature, read.backfilled_at, Some(key)).is_ok();
        Ok(Some(named.any(fits)))
    }

    /// Reads a copy as the digest that its name says it is.
    pub(super) fn read(&self, stream: &Stream, key: &str, copy: Option<Reread>) -> Result<Read, Refused> {
        let malformed = |why: &dyn std::fmt::Display| {
            Refused("malformed_digest", format!("the digest `{}` cannot be used: {why}", Shown(key)))
        };
        let copy = copy.ok_or_else(|| malformed(&"its copy is gone"))?;
        let bytes = copy.inflated.map_err(|why| malformed(&why))?;
        let digest = Digest::parse(&bytes).map_err(|error| malformed(&error))?;
        let file = key.rsplit_once('/').map_or(key, |(_, file)| file);
        let name =
            Name::of(&stream.account, &stream.region, file).ok_or_else(|| malformed(&"its name is no digest's"))?;
        digest.check_name(&stream.account, &name).map_err(|error| malformed(&error))?;
        if self.here(&digest.origin.key).as_deref() != Some(key) {
            return Err(malformed(&format_args!("it was written as `{}`", Shown(&digest.origin.key))));
        }
        let signature = digest::signature(&copy.metadata)
            .map_err(|error| Refused("bad_signature", format!("the digest `{}` is unsigned: {error}", Shown(key))))?;
        let backfilled_at = name.backfill.then(|| digest::backfilled_at(&copy.metadata)).transpose();
        let backfilled_at = backfilled_at.map_err(|error| malformed(&error))?;
        let mut hash = [0; 32];
        hash.copy_from_slice(hash_of(&SHA256, &bytes).as_ref());
        Ok(Read { digest, hash, signature, backfilled_at })
    }

    /// Where an object stands here that `CloudTrail` put at `key`: a bucket that was copied may have another prefix.
    pub(super) fn here(&self, key: &str) -> Option<String> {
        if key.starts_with(&self.root) {
            return Some(key.to_owned());
        }
        key.split_once("AWSLogs/").map(|(_, rest)| format!("{}{rest}", self.root))
    }

    fn whole_or_waiting(&self, key: &str, row: DigestRow, read: &Read, found: Reconciled) -> Verdict {
        let is_backfill = read.backfilled_at.is_some();
        let Some(why) = found.why else {
            let span = (!is_backfill).then(|| Box::new(Span::of(&read.digest, &read.hash, &read.signature)));
            let mut subjects: Vec<_> = found.named.into_iter().map(|log| (OF_LOGS, log)).collect();
            subjects.push((OF_DIGESTS, key.to_owned()));
            return Verdict::Whole { span, subjects };
        };
        let step = WAITS.get(row.tries as usize).copied().unwrap_or(LONGEST_WAIT);
        let tries = row.tries.saturating_add(u32::from(found.counts));
        let wait = if found.counts { step } else { LISTING_WAIT };
        let row = DigestRow { tries, next_try: Some(shift(self.now(), wait)), why: Some(why), ..row };
        Verdict::Waits { row: Box::new(row), alarms: found.alarms, fetch: found.fetch, unlisted: found.unlisted }
    }
}

fn no_keys(row: DigestRow, now: Timestamp) -> Verdict {
    let why = "public keys, which cannot be asked for".to_owned();
    Verdict::NoKeys(Box::new(DigestRow { next_try: Some(shift(now, KEY_WAIT)), why: Some(why), ..row }))
}

fn unknown_key(subject: &Subject, key: &str, row: DigestRow, fingerprint: &str, now: Timestamp) -> Verdict {
    let detail = format!(
        "the digest `{}` names the public key {}, which CloudTrail in {} does not have",
        Shown(key),
        Shown(fingerprint),
        Shown(&subject.stream.region)
    );
    // Said once; it is asked for again all the same.
    let alarm = (row.tries == 0).then(|| alarm(subject, "unknown_key", key, detail.clone()));
    let next_try = Some(shift(now, UNKNOWN_KEY_WAIT));
    let row = DigestRow { tries: row.tries.saturating_add(1), next_try, why: Some(detail), ..row };
    Verdict::Waits { row: Box::new(row), alarms: alarm.into_iter().collect(), fetch: Vec::new(), unlisted: Vec::new() }
}

/// It is never judged again: its bytes do not change.
fn refuse(subject: &Subject, key: &str, row: DigestRow, Refused(kind, why): Refused) -> Verdict {
    let alarms = vec![alarm(subject, kind, key, why.clone())];
    let row = DigestRow { next_try: None, tries: row.tries.saturating_add(1), why: Some(why), ..row };
    Verdict::Waits { row: Box::new(row), alarms, fetch: Vec::new(), unlisted: Vec::new() }
}

fn alarm(subject: &Subject, kind: &'static str, key: &str, detail: String) -> (StreamId, Alarm) {
    warn!(alarm = kind, object.key = %Shown(key), "{detail}");
    (subject.id, Alarm { kind, subject: key.to_owned(), detail })
}
