//! One object: what was put, and what the service derives from it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use crate::generated;

/// The bytes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Bytes(Bytes),
    /// Made anew whenever it is read, always the same for the same seed and size: a valid gzip of
    /// a small `CloudTrail` log, so that a million keys cost no memory.
    Generated {
        seed: u64,
        size: u32,
    },
}

impl Body {
    pub fn bytes(&self) -> Bytes {
        match self {
            Body::Bytes(bytes) => bytes.clone(),
            Body::Generated { seed, size } => generated::body(*seed, *size),
        }
    }

    pub fn size(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Generated { size, .. } => u64::from(*size),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::Bytes(Bytes::new())
    }
}

/// How an object is encrypted at rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sse {
    #[default]
    None,
    /// Reading needs `kms:Decrypt` on this key, and the `ETag` is not an MD5.
    Kms { key_arn: String },
}

/// The checksums that S3 stores beside an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChecksumKind {
    Crc64Nvme,
    Crc32,
    Crc32C,
    Sha1,
    Sha256,
}

impl ChecksumKind {
    /// Base64, as the header carries it.
    pub fn of(self, body: &[u8]) -> String {
        use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
        match self {
            ChecksumKind::Crc64Nvme => BASE64.encode(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, body).to_be_bytes()),
            ChecksumKind::Crc32 => crc32(CrcAlgorithm::Crc32IsoHdlc, body),
            ChecksumKind::Crc32C => crc32(CrcAlgorithm::Crc32Iscsi, body),
            ChecksumKind::Sha1 => BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, body)),
            ChecksumKind::Sha256 => BASE64.encode(digest(&SHA256, body)),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            ChecksumKind::Crc64Nvme => "CRC64NVME",
            ChecksumKind::Crc32 => "CRC32",
            ChecksumKind::Crc32C => "CRC32C",
            ChecksumKind::Sha1 => "SHA1",
            ChecksumKind::Sha256 => "SHA256",
        }
    }
}

fn crc32(algorithm: CrcAlgorithm, body: &[u8]) -> String {
    let sum = crc_fast::checksum(algorithm, body);
    BASE64.encode(&sum.to_be_bytes()[4..])
}

/// An object to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSpec {
    pub body: Body,
    pub metadata: BTreeMap<String, String>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub storage_class: String,
    pub sse: Sse,
    /// The checksum that S3 keeps; none for objects from before S3 had checksums.
    pub checksum: Option<ChecksumKind>,
    /// Now, unless given; S3 keeps whole seconds.
    pub modified: Option<Timestamp>,
    /// Derived from the body, unless given.
    pub etag: Option<String>,
    /// The checksum of an object that was uploaded in parts, where it is made of theirs.
    pub composite: Option<String>,
    /// Until when it cannot be removed.
    pub lock: Option<Lock>,
}

/// Object Lock retention as it came with the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub mode: String,
    pub retain_until: Timestamp,
}

impl Default for ObjectSpec {
    fn default() -> Self {
        ObjectSpec {
            body: Body::default(),
            metadata: BTreeMap::new(),
            content_type: None,
            content_encoding: None,
            storage_class: STANDARD.to_owned(),
            sse: Sse::None,
            checksum: Some(ChecksumKind::Crc64Nvme),
            modified: None,
            etag: None,
            composite: None,
            lock: None,
        }
    }
}

pub(crate) const STANDARD: &str = "STANDARD";
const JSON: &str = "application/json";
const GZIP: &str = "gzip";

impl ObjectSpec {
    pub fn bytes(body: impl Into<Bytes>) -> Self {
        ObjectSpec { body: Body::Bytes(body.into()), ..ObjectSpec::default() }
    }

    /// A log as `CloudTrail` writes it: `application/json`, `Content-Encoding: gzip`.
    pub fn log(gzip: impl Into<Bytes>) -> Self {
        ObjectSpec::bytes(gzip).like_a_log()
    }

    /// A log whose body takes no memory; see [`Body::Generated`].
    pub fn generated(seed: u64, size: u32) -> Self {
        let body = Body::Generated { seed, size };
        ObjectSpec { body, ..ObjectSpec::default() }.like_a_log()
    }

    fn like_a_log(self) -> Self {
        self.content_type(JSON).content_encoding(GZIP)
    }

    #[must_use]
    pub fn metadata(mut self, name: &str, value: &str) -> Self {
        self.metadata.insert(name.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn content_type(mut self, value: &str) -> Self {
        self.content_type = Some(value.to_owned());
        self
    }

    #[must_use]
    pub fn content_encoding(mut self, value: &str) -> Self {
        self.content_encoding = Some(value.to_owned());
        self
    }

    #[must_use]
    pub fn storage_class(mut self, value: &str) -> Self {
        self.storage_class = value.to_owned();
        self
    }

    #[must_use]
    pub fn kms(mut self, key_arn: &str) -> Self {
        self.sse = Sse::Kms { key_arn: key_arn.to_owned() };
        self
    }

    #[must_use]
    pub fn checksum(mut self, kind: Option<ChecksumKind>) -> Self {
        self.checksum = kind;
        self
    }

    #[must_use]
    pub fn modified(mut self, at: Timestamp) -> Self {
        self.modified = Some(at);
        self
    }

    #[must_use]
    pub fn etag(mut self, etag: &str) -> Self {
        self.etag = Some(etag.to_owned());
        self
    }
}

/// An object as the bucket holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    pub body: Body,
    /// Without quotes.
    pub etag: String,
    pub modified: Timestamp,
    pub metadata: BTreeMap<String, String>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub storage_class: String,
    pub sse: Sse,
    pub checksum: Option<ChecksumKind>,
    /// The checksum's value where it is one of parts.
    pub composite: Option<String>,
    pub lock: Option<Lock>,
}

impl StoredObject {
    pub(crate) fn new(spec: ObjectSpec, now: Timestamp) -> StoredObject {
        let etag = spec.etag.unwrap_or_else(|| match &spec.sse {
            Sse::None => md5_hex(&spec.body.bytes()),
            Sse::Kms { .. } => opaque_etag(),
        });
        StoredObject {
            etag,
            modified: crate::clock::whole_seconds(spec.modified.unwrap_or(now)),
            body: spec.body,
            metadata: spec.metadata,
            content_type: spec.content_type,
            content_encoding: spec.content_encoding,
            storage_class: spec.storage_class,
            sse: spec.sse,
            checksum: spec.checksum,
            composite: spec.composite,
            lock: spec.lock,
        }
    }

    pub fn size(&self) -> u64 {
        self.body.size()
    }

    /// The stored checksum's value, base64.
    pub fn checksum_value(&self) -> Option<String> {
        let whole = || self.checksum.map(|kind| kind.of(&self.body.bytes()));
        self.composite.clone().or_else(whole)
    }

    pub(crate) fn is_archived(&self) -> bool {
        matches!(self.storage_class.as_str(), "GLACIER" | "DEEP_ARCHIVE")
    }
}

pub(crate) fn md5_hex(body: &[u8]) -> String {
    hex::encode(Md5::digest(body))
}

/// An `ETag` that looks like an MD5 and is none.
fn opaque_etag() -> String {
    hex::encode(fastrand::u128(..).to_be_bytes())
}

/// What the key index keeps: everything, or the few numbers from which everything follows.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Whole(Arc<StoredObject>),
    Generated { seed: u64, size: u32, modified: u32 },
}

/// An object as a listing shows it.
pub(crate) struct Listed<'a> {
    pub etag: Cow<'a, str>,
    pub modified: Timestamp,
    pub size: u64,
    pub checksum: Option<ChecksumKind>,
    pub storage_class: &'a str,
}

impl Entry {
    pub fn new(spec: ObjectSpec, now: Timestamp) -> Entry {
        let modified = spec.modified.unwrap_or(now).as_second();
        match (&spec.body, u32::try_from(modified)) {
            (&Body::Generated { seed, size }, Ok(modified)) if is_plain_generated(&spec) => {
                Entry::Generated { seed, size, modified }
            }
            _ => Entry::Whole(Arc::new(StoredObject::new(spec, now))),
        }
    }

    /// What a listing shows; a generated object is not made for it, only its `ETag`.
    pub fn listed(&self) -> Listed<'_> {
        match self {
            Entry::Whole(object) => Listed {
                etag: Cow::Borrowed(&object.etag),
                modified: object.modified,
                size: object.size(),
                checksum: object.checksum,
                storage_class: &object.storage_class,
            },
            &Entry::Generated { seed, size, modified } => Listed {
                etag: Cow::Owned(md5_hex(&generated::body(seed, size))),
                modified: Timestamp::from_second(i64::from(modified)).unwrap_or_default(),
                size: u64::from(size),
                checksum: Some(ChecksumKind::Crc64Nvme),
                storage_class: STANDARD,
            },
        }
    }

    pub fn object(&self) -> Arc<StoredObject> {
        match *self {
            Entry::Whole(ref object) => Arc::clone(object),
            Entry::Generated { seed, size, modified } => {
                let at = Timestamp::from_second(i64::from(modified)).unwrap_or_default();
                Arc::new(StoredObject::new(ObjectSpec::generated(seed, size), at))
            }
        }
    }
}

/// Whether [`ObjectSpec::generated`] alone would make the same; compared without making it, because
/// a million of these are put at once.
fn is_plain_generated(spec: &ObjectSpec) -> bool {
    matches!(spec.body, Body::Generated { .. })
        && spec.metadata.is_empty()
        && spec.content_type.as_deref() == Some(JSON)
        && spec.content_encoding.as_deref() == Some(GZIP)
        && spec.storage_class == STANDARD
        && spec.sse == Sse::None
        && spec.checksum == Some(ChecksumKind::Crc64Nvme)
        && spec.etag.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn checksums_match_published_values() {
        // The check values of "123456789" in the CRC catalogue.
        let body = b"123456789";
        assert_eq!(ChecksumKind::Crc32.of(body), BASE64.encode(0xcbf4_3926_u32.to_be_bytes()));
        assert_eq!(ChecksumKind::Crc32C.of(body), BASE64.encode(0xe306_9283_u32.to_be_bytes()));
        let nvme = 0xae8b_1486_0a79_9888_u64;
        assert_eq!(ChecksumKind::Crc64Nvme.of(body), BASE64.encode(nvme.to_be_bytes()));
    }

    #[test]
    fn a_kms_object_has_an_etag_that_is_not_its_md5() {
        let spec = ObjectSpec::bytes("x").kms("arn:aws:kms:us-east-1:111111111111:key/k");
        let object = StoredObject::new(spec, Timestamp::UNIX_EPOCH);
        assert_ne!(object.etag, md5_hex(b"x"));
        assert_eq!(object.etag.len(), 32);
    }
}
