//! What is known of one object: as listed, as read, as recorded.

use std::collections::BTreeMap;

use crate::clock::Timestamp;

/// An entity tag without its quotes, exactly as the service gave it otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ETag(String);

impl ETag {
    /// Takes the tag as sent in a header or a listing, with or without quotes.
    pub fn new(text: &str) -> Self {
        let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        Self(bare.to_owned())
    }

    /// The tag without quotes; empty when the service gave none.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The MD5 that this tag claims to be, where its form allows it: 32 hexadecimal digits, no part count.
    ///
    /// Whether the claim holds depends on the encryption: under SSE-KMS and SSE-C the tag is no MD5
    /// (`API_Object` of the S3 reference).
    pub fn as_md5(&self) -> Option<[u8; 16]> {
        let mut md5 = [0; 16];
        hex::decode_to_slice(&self.0, &mut md5).ok().map(|()| md5)
    }
}

/// An object as `ListObjectsV2` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The whole key.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// The tag of the listed version.
    pub etag: ETag,
    /// When the service stored it.
    pub modified: Timestamp,
    /// The storage class when it is not readable at once (`GLACIER`, `DEEP_ARCHIVE`).
    pub archived: Option<String>,
}

/// What the bytes of an object turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Length in bytes, as stored.
    pub size: u64,
    /// SHA-256 of the bytes as stored.
    pub sha256: [u8; 32],
    /// MD5 of the bytes as stored, where it was asked for: to compare with a single-part tag.
    pub md5: Option<[u8; 16]>,
    /// What inflating them gave.
    pub gzip: Gzip,
}

/// What inflating the bytes of an object gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gzip {
    /// Its key does not end in `.gz`; nothing was inflated.
    NotExpected,
    /// One whole gzip member and nothing after it.
    Whole {
        /// SHA-256 of the inflated bytes, which is what a digest names.
        sha256: [u8; 32],
        /// Length of the inflated bytes.
        size: u64,
    },
    /// Not one whole gzip member, and why: cut short, wrong checksum, trailing data, inflates too far.
    Broken(&'static str),
}

/// User metadata of an object, lower-case names without `x-amz-meta-`.
pub type Metadata = BTreeMap<String, String>;
