//! Digests: the hourly, signed, chained files by which `CloudTrail` vouches for the logs that it delivered.
//!
//! After "`CloudTrail` digest file structure" and "Custom implementations of `CloudTrail` log file integrity validation"
//! of the `CloudTrail` user guide. Everything here is a rule: bytes and times come in, verdicts go out.

use serde::Deserialize;

use crate::clock::{Timestamp, shift};
use crate::object::Metadata;

mod name;
mod public_key;

pub use name::Name;
pub use public_key::{PublicKey, Refused};

/// A digest may inflate to this much: a thousand times a busy hour's.
pub const MOST_BYTES: u64 = 64 << 20;
/// User metadata that holds the signature, in hexadecimal.
pub const SIGNATURE: &str = "signature";
/// User metadata that names how it was made.
pub const ALGORITHM: &str = "signature-algorithm";
/// User metadata of backfill digests: when they were made, which says which keys may have signed.
pub const BACKFILLED_AT: &str = "backfill-generation-timestamp";

const SIGNED_WITH: &str = "SHA256withRSA";
const HASHED_WITH: &str = "SHA-256";
const HOUR: i64 = 3600;

/// A digest as its document says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The account whose logs it names: 12 digits.
    pub account: String,
    /// The first moment of delivery that it covers.
    pub start: Timestamp,
    /// The last one, where the next digest begins.
    pub end: Timestamp,
    /// Where `CloudTrail` put it.
    pub origin: Origin,
    /// Which public key verifies it.
    pub fingerprint: String,
    /// The digest before, unless this one begins a chain.
    pub previous: Option<Link>,
    /// The logs that were delivered in this time.
    pub logs: Vec<Named>,
    // Signed as written: a time that is formatted again may differ.
    end_text: String,
    previous_signature: Option<String>,
}

/// A bucket and a key in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The bucket's name.
    pub bucket: String,
    /// The whole key.
    pub key: String,
}

/// What a digest says of the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where `CloudTrail` put it.
    pub origin: Origin,
    /// SHA-256 of its inflated bytes.
    pub hash: [u8; 32],
    /// Its signature.
    pub signature: Vec<u8>,
}

/// What a digest says of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Where `CloudTrail` put it.
    pub origin: Origin,
    /// SHA-256 of its inflated bytes.
    pub hash: [u8; 32],
}

/// Why a document is not a digest, in words that follow "malformed:".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Why a digest that can be read cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The key is not at hand.
    #[error("the public key {0} is not known")]
    UnknownKey(String),
    /// The key is at hand, but was not valid then.
    #[error("the public key {0} was valid from {1} to {2}, not when this was signed")]
    KeyOutOfTime(String, Timestamp, Timestamp),
    /// The signature is not that key's over these bytes in this place.
    #[error("the signature does not hold")]
    Signature,
}

/// The document, field by field; "`CloudTrail` digest file contents" lists them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    aws_account_id: String,
    digest_start_time: String,
    digest_end_time: String,
    #[serde(rename = "digestS3Bucket")]
    bucket: String,
    #[serde(rename = "digestS3Object")]
    key: String,
    digest_public_key_fingerprint: String,
    digest_signature_algorithm: String,
    #[serde(rename = "previousDigestS3Bucket")]
    previous_bucket: Option<String>,
    #[serde(rename = "previousDigestS3Object")]
    previous_key: Option<String>,
    previous_digest_hash_value: Option<String>,
    previous_digest_hash_algorithm: Option<String>,
    previous_digest_signature: Option<String>,
    log_files: Vec<LogFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogFile {
    #[serde(rename = "s3Bucket")]
    bucket: String,
    #[serde(rename = "s3Object")]
    key: String,
    hash_value: String,
    hash_algorithm: String,
}

impl Digest {
    /// Reads a digest's inflated bytes.
    ///
    /// # Errors
    /// When it is not JSON, a field is missing, of another type or named twice, a time or hash cannot be read, an
    /// algorithm is not the one that is documented, or some but not all of the previous digest's fields are null.
    pub fn parse(document: &[u8]) -> Result<Self, Malformed> {
        let document: Document = serde_json::from_slice(document).map_err(|error| Malformed(error.to_string()))?;
        if document.digest_signature_algorithm != SIGNED_WITH {
            return Err(malformed("digestSignatureAlgorithm", &document.digest_signature_algorithm, SIGNED_WITH));
        }
        let (start, end) =
            (time("digestStartTime", &document.digest_start_time)?, time("digestEndTime", &document.digest_end_time)?);
        if end < start {
            return Err(Malformed("it ends before it starts".into()));
        }
        Ok(Self {
            previous: document.previous()?,
            logs: document.log_files.into_iter().map(LogFile::named).collect::<Result<_, _>>()?,
            account: document.aws_account_id,
            start,
            end,
            origin: Origin { bucket: document.bucket, key: document.key },
            fingerprint: document.digest_public_key_fingerprint.to_ascii_lowercase(),
            end_text: document.digest_end_time,
            previous_signature: document.previous_digest_signature,
        })
    }

    /// What was signed: end, place, hash of the inflated bytes, and the previous signature or `null`, a line each.
    pub fn signed_text(&self, hash: &[u8; 32]) -> String {
        let Origin { bucket, key } = &self.origin;
        let previous = self.previous_signature.as_deref().unwrap_or("null");
        format!("{}\n{bucket}/{key}\n{}\n{previous}", self.end_text, hex::encode(hash))
    }

    /// Whether `signature` is `CloudTrail`'s over this digest, whose inflated bytes have this hash.
    ///
    /// `key` is the one of its fingerprint and region, where there is one.
    ///
    /// # Errors
    /// Why it cannot be believed.
    pub fn verify(
        &self,
        hash: &[u8; 32],
        signature: &[u8],
        backfilled_at: Option<Timestamp>,
        key: Option<&PublicKey>,
    ) -> Result<(), Doubt> {
        let key = key.ok_or_else(|| Doubt::UnknownKey(self.fingerprint.clone()))?;
        if !key.was_valid_in(self.key_window(backfilled_at)) {
            return Err(Doubt::KeyOutOfTime(self.fingerprint.clone(), key.valid_from, key.valid_until));
        }
        if key.verifies(&self.signed_text(hash), signature) { Ok(()) } else { Err(Doubt::Signature) }
    }

    /// Whether it is what its name and folder say: of this account, up to that time.
    ///
    /// # Errors
    /// What differs.
    pub fn check_name(&self, account: &str, name: &Name<'_>) -> Result<(), Malformed> {
        if self.account != account {
            return Err(malformed("awsAccountId", &self.account, account));
        }
        if self.end.as_second() != name.end.as_second() {
            return Err(malformed("digestEndTime", &self.end_text, &name.end.to_string()));
        }
        Ok(())
    }

    /// When the key that signed this must have been valid, from and to.
    ///
    /// `aws cloudtrail validate-logs` asks for the keys of `[start, end + 2 h]`, and for a backfill digest of an hour
    /// around the time at which it was made.
    pub fn key_window(&self, backfilled_at: Option<Timestamp>) -> (Timestamp, Timestamp) {
        match backfilled_at {
            Some(made) => (shift(made, -HOUR), shift(made, HOUR)),
            None => (self.start, shift(self.end, 2 * HOUR)),
        }
    }
}

/// The signature in an object's user metadata.
///
/// # Errors
/// When there is none, it is not hexadecimal, or it was made another way.
pub fn signature(metadata: &Metadata) -> Result<Vec<u8>, Malformed> {
    let text = metadata.get(SIGNATURE).ok_or_else(|| Malformed("its metadata holds no signature".into()))?;
    let algorithm = metadata.get(ALGORITHM).map_or("", String::as_str);
    if algorithm != SIGNED_WITH {
        return Err(malformed(ALGORITHM, algorithm, SIGNED_WITH));
    }
    // One flipped bit makes a small letter a capital one, and no other number.
    let is_mixed = text.bytes().any(|b| b.is_ascii_uppercase()) && text.bytes().any(|b| b.is_ascii_lowercase());
    let decoded = if is_mixed { None } else { hex::decode(text).ok() };
    decoded.ok_or_else(|| Malformed("its signature is not hexadecimal".into()))
}

/// When a backfill digest was made, by its user metadata.
///
/// # Errors
/// When it does not say, or not as a time.
pub fn backfilled_at(metadata: &Metadata) -> Result<Timestamp, Malformed> {
    let text = metadata.get(BACKFILLED_AT);
    time(BACKFILLED_AT, text.ok_or_else(|| Malformed(format!("its metadata holds no {BACKFILLED_AT}")))?)
}

impl Document {
    fn previous(&self) -> Result<Option<Link>, Malformed> {
        let fields = [
            &self.previous_bucket,
            &self.previous_key,
            &self.previous_digest_hash_value,
            &self.previous_digest_hash_algorithm,
            &self.previous_digest_signature,
        ];
        let [Some(bucket), Some(key), Some(hash), Some(algorithm), Some(signature)] = fields else {
            let all_null = fields.iter().all(|field| field.is_none());
            return if all_null { Ok(None) } else { Err(Malformed("it names its previous digest in part".into())) };
        };
        if algorithm != HASHED_WITH {
            return Err(malformed("previousDigestHashAlgorithm", algorithm, HASHED_WITH));
        }
        let signature =
            hex::decode(signature).map_err(|_| Malformed("previousDigestSignature is not hexadecimal".into()))?;
        let origin = Origin { bucket: bucket.clone(), key: key.clone() };
        Ok(Some(Link { origin, hash: sha256("previousDigestHashValue", hash)?, signature }))
    }
}

impl LogFile {
    fn named(self) -> Result<Named, Malformed> {
        if self.hash_algorithm != HASHED_WITH {
            return Err(malformed("hashAlgorithm of a log", &self.hash_algorithm, HASHED_WITH));
        }
        let hash = sha256("hashValue of a log", &self.hash_value)?;
        Ok(Named { origin: Origin { bucket: self.bucket, key: self.key }, hash })
    }
}

fn time(field: &str, text: &str) -> Result<Timestamp, Malformed> {
    text.parse().map_err(|_| malformed(field, text, "a time such as 2026-11-24T03:00:00Z"))
}

fn sha256(field: &str, text: &str) -> Result<[u8; 32], Malformed> {
    let mut hash = [0; 32];
    match hex::decode_to_slice(text, &mut hash) {
        Ok(()) => Ok(hash),
        Err(_) => Err(malformed(field, text, "64 hexadecimal digits")),
    }
}

fn malformed(field: &str, found: &str, wanted: &str) -> Malformed {
    Malformed(format!("{field} is `{found}`, not {wanted}"))
}

#[cfg(test)]
mod tests;
