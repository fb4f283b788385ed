//! Whether one object may be deleted at the source. Pure: whatever is not known to be right keeps it.

use std::fmt;

use serde::Serialize;

use crate::clock::{Timestamp, seconds_between};
use crate::config::Require;
use crate::ledger::Outcome;
use crate::object::ETag;
use crate::record::Record;

/// What is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Seconds; younger objects stay.
    pub age: i64,
    /// What must hold of the others.
    pub require: Require,
}

/// What the state says of an object: cheap to know, so it is asked first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// It was to be deleted before, and this is what became of it; `Some(None)`: that is not known.
    pub before: Option<Option<Outcome>>,
    /// It is tried again, or in quarantine.
    pub is_failing: bool,
    /// The kind of an alarm that is on.
    pub alarm: Option<String>,
}

/// What the digests say of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A log that this digest names as it is here; the digest is verified and inside of the proven range.
    Named(String),
    /// A digest that is verified and inside of the proven range, with another after it; all logs that it names are gone.
    Spent,
    /// No such digest names it, or one names other bytes.
    Nothing,
    /// A digest, and a log that it names is still there, or is none of ours to know.
    Needed,
    /// The newest digest of a proven range: the next one is compared with it.
    Newest,
}

/// What stands at the destination, as it was read right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// The recorded bytes, and their metadata where there are any.
    Whole,
    /// Anything else.
    Damaged,
    /// Nothing.
    Lost,
    /// It could not be read now.
    Unreadable,
}

/// What is done with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is deleted; the digest that vouches for it goes into the audit.
    Delete(Option<String>),
    /// It stays.
    Keep(Reason),
}

/// Why an object stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is no longer at the source.
    Gone,
    /// It is not old enough.
    Young,
    /// The source had other bytes under this key before.
    Replaced,
    /// Its entity tag cannot say which version is meant.
    Untagged,
    /// It is in the quarantine, or its copy is fetched again.
    Failing,
    /// An alarm about it is on.
    Alarmed,
    /// Another version was found in its place.
    Changed,
    /// No digest of a proven range names it as it is here.
    Unproven,
    /// A digest of logs that are not deleted.
    Needed,
    /// The newest digest of its chain.
    Newest,
    /// Its copy is damaged or lost.
    NotWhole,
    /// Its copy could not be read.
    Unreadable,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gone => "no longer at the source",
            Self::Young => "younger than `delete_after`",
            Self::Replaced => "replaced at the source before",
            Self::Untagged => "without an entity tag to delete by",
            Self::Failing => "in quarantine, or fetched again",
            Self::Alarmed => "with an alarm that is on",
            Self::Changed => "with another version in their place",
            Self::Unproven => "not named by a digest of a proven range",
            Self::Needed => "digests of logs that are not deleted",
            Self::Newest => "the newest digests of their chains",
            Self::NotWhole => "with a copy that is damaged or lost",
            Self::Unreadable => "with a copy that cannot be read now",
        })
    }
}

/// What keeps an object, as far as its record alone tells.
pub fn by_record(record: &Record, terms: &Terms, now: Timestamp) -> Option<Reason> {
    if record.gone {
        return Some(Reason::Gone);
    }
    if seconds_between(record.modified, now) < terms.age {
        return Some(Reason::Young);
    }
    if record.later {
        return Some(Reason::Replaced);
    }
    (!is_plain(&record.etag)).then_some(Reason::Untagged)
}

/// What keeps an object, as far as the state tells.
pub fn by_standing(standing: &Standing) -> Option<Reason> {
    match standing.before {
        Some(Some(Outcome::Deleted | Outcome::Absent)) => return Some(Reason::Gone),
        Some(Some(Outcome::Changed)) => return Some(Reason::Changed),
        Some(Some(Outcome::Kept) | None) | None => {}
    }
    if standing.is_failing {
        return Some(Reason::Failing);
    }
    standing.alarm.is_some().then_some(Reason::Alarmed)
}

/// What keeps an object, as far as the digests tell. Digests themselves are never deleted without proof.
pub fn by_proof(proof: &Proof, is_digest: bool, require: Require) -> Option<Reason> {
    match (proof, is_digest, require) {
        (Proof::Named(_), false, _) | (Proof::Spent, true, _) | (Proof::Nothing, false, Require::Stored) => None,
        (Proof::Needed, true, _) => Some(Reason::Needed),
        (Proof::Newest, true, _) => Some(Reason::Newest),
        _ => Some(Reason::Unproven),
    }
}

/// Whether an object may be deleted at `now`: only when nothing keeps it.
pub fn decide(
    record: &Record,
    standing: &Standing,
    (proof, is_digest): (&Proof, bool),
    copy: Copy,
    terms: &Terms,
    now: Timestamp,
) -> Verdict {
    let by_copy = match copy {
        Copy::Whole => None,
        Copy::Damaged | Copy::Lost => Some(Reason::NotWhole),
        Copy::Unreadable => Some(Reason::Unreadable),
    };
    let kept = by_record(record, terms, now)
        .or_else(|| by_standing(standing))
        .or_else(|| by_proof(proof, is_digest, terms.require))
        .or(by_copy);
    match (kept, proof) {
        (Some(reason), _) => Verdict::Keep(reason),
        (None, Proof::Named(digest)) => Verdict::Delete(Some(digest.clone())),
        (None, _) => Verdict::Delete(None),
    }
}

/// Tags of S3 are hexadecimal, with a count of parts; `*` would mean every version.
fn is_plain(etag: &ETag) -> bool {
    let text = etag.as_str();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests;
