//! What a fetched object is to us: new, the same under another tag, or other bytes; and what is alarmed of it.

use tracing::{debug, warn};

use super::outcome::{Got, Want};
use crate::destination::Place;
use crate::key::Shown;
use crate::ledger::{Alarm, Commit};
use crate::record::{Record, version_of};

/// How a fetched object relates to what is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    New,
    /// The bytes are those that are here.
    Tag,
    /// Other bytes than those that are here.
    Bytes,
}

/// One fetched object, and what it changes.
pub(super) struct Story {
    pub change: Change,
    pub record: Record,
    /// Why its gzip is broken at the source, if it is.
    pub broken: Option<&'static str>,
}

impl Story {
    pub fn of<H>(stream: &crate::layout::Stream, want: &Want, got: &Got<H>) -> Self {
        let suffix = stream.suffix(&got.listed.key).unwrap_or_default();
        let mut record = Record::of(suffix, &got.listed, &got.staged.content);
        let change = match &want.known {
            None => Change::New,
            Some(known) if known.sha256 == record.sha256 => Change::Tag,
            Some(_) => Change::Bytes,
        };
        let was_later = change == Change::Tag && want.known.as_ref().is_some_and(|known| known.later);
        record.later = change == Change::Bytes || want.beside || was_later;
        Self { change, record, broken: got.broken }
    }

    pub fn place(&self, key: &str) -> Place {
        Place { key: key.to_owned(), version: self.record.later.then(|| version_of(&self.record.sha256)) }
    }

    pub fn tell(&self, stream: &crate::layout::Stream, want: &Want) {
        let (key, size_bytes) = (Shown(&want.listed.key), self.record.size);
        debug!(source = %stream.source, object.key = %key, size_bytes, "Stored `{key}`");
    }

    /// What is recorded and was not in its place was not counted either.
    pub fn record_into(self, commit: &mut Commit, want: Want, is_new: bool) {
        if let Some(why) = self.broken {
            commit.alarms.push(malformed(&want, why));
        }
        commit.resolved.extend(want.failure.map(|failure| failure.key));
        match self.change {
            Change::New => commit.inserted.push(self.record),
            Change::Tag if is_new => commit.inserted.push(self.record),
            Change::Tag => commit.updated.push(self.record),
            Change::Bytes => {
                commit.alarms.push(replaced(&want.listed.key, &self.record));
                commit.updated.push(self.record);
            }
        }
    }
}

fn alarm(kind: &'static str, key: &str, detail: String) -> Alarm {
    warn!(alarm = kind, object.key = %Shown(key), "{detail}");
    Alarm { kind, subject: key.to_owned(), detail }
}

pub(super) fn vanished_unseen(want: &Want) -> Alarm {
    let key = &want.listed.key;
    alarm("vanished", key, format!("`{}` was listed and was gone before it could be fetched", Shown(key)))
}

pub(super) fn missing(want: &Want) -> Alarm {
    let key = &want.listed.key;
    alarm("missing", key, format!("a digest names `{}`; it is not here, and no longer at the source", Shown(key)))
}

pub(super) fn copy_missing(want: &Want) -> Alarm {
    let key = &want.listed.key;
    let detail = format!("`{}` is in a manifest, but neither in the tree nor at the source any more", Shown(key));
    alarm("missing", key, detail)
}

pub(super) fn conflict(want: &Want) -> Alarm {
    let key = &want.listed.key;
    alarm(
        "conflict",
        key,
        format!(
            "other bytes stand in the place of `{}`, and trailsync did not record them; the object is stored beside them",
            Shown(key)
        ),
    )
}

fn malformed(want: &Want, why: &str) -> Alarm {
    let key = &want.listed.key;
    alarm(
        "malformed",
        key,
        format!("`{}` is not one whole gzip member at the source: {why}; stored as it is", Shown(key)),
    )
}

/// What is alarmed of a record whose bytes are a later version.
pub(crate) fn replaced(key: &str, record: &Record) -> Alarm {
    let version = version_of(&record.sha256);
    alarm(
        "replaced",
        key,
        format!(
            "the source replaced the bytes of `{}`; both versions are kept, the later one as version {version}",
            Shown(key)
        ),
    )
}
