//! What is remembered of one mirrored object, in the ledger and in manifests alike.

use crate::clock::Timestamp;
use crate::object::{Content, ETag, Gzip, Listed};

/// One mirrored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key without its stream's prefix.
    pub suffix: String,
    /// Length in bytes.
    pub size: u64,
    /// When the source stored it.
    pub modified: Timestamp,
    /// The source's tag of the version that was stored last.
    pub etag: ETag,
    /// SHA-256 of the bytes as stored.
    pub sha256: [u8; 32],
    /// SHA-256 of the inflated bytes, where they are one whole gzip member.
    pub inflated: Option<[u8; 32]>,
    /// It is no longer at the source; the copy stays.
    pub gone: bool,
    /// And that is our own doing: it was deleted there once it was mirrored.
    pub deleted: bool,
    /// These bytes are a later version: they stand beside the first under [`version_of`] their hash.
    pub later: bool,
}

impl Record {
    /// The record of an object that was just read.
    pub fn of(suffix: &str, listed: &Listed, content: &Content) -> Self {
        let inflated = match content.gzip {
            Gzip::Whole { sha256, .. } => Some(sha256),
            _ => None,
        };
        Self {
            suffix: suffix.to_owned(),
            size: content.size,
            modified: listed.modified,
            etag: listed.etag.clone(),
            sha256: content.sha256,
            inflated,
            gone: false,
            deleted: false,
            later: false,
        }
    }

    /// Where its bytes stand beside an earlier version, if they do.
    pub fn version(&self) -> Option<String> {
        self.later.then(|| version_of(&self.sha256))
    }

    /// What is listed is what was stored.
    pub fn matches(&self, listed: &Listed) -> bool {
        self.size == listed.size && self.etag == listed.etag
    }
}

/// The name of a later version: the first 16 hexadecimal digits of the SHA-256 of its bytes.
pub fn version_of(sha256: &[u8; 32]) -> String {
    hex::encode(&sha256[..8])
}
