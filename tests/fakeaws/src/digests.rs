//! Digests: the signed, chained files by which `CloudTrail` vouches for what it delivered.
//!
//! After "`CloudTrail` digest file structure" and "Custom implementations of log file integrity
//! validation" in the user guide.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::log_body::gzip;
use crate::object::ObjectSpec;
use crate::public_keys::PublicKey;
use crate::sync::Shared;
use crate::world::World;

/// A digest file's document, field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    pub aws_account_id: String,
    pub digest_start_time: String,
    pub digest_end_time: String,
    #[serde(rename = "digestS3Bucket")]
    pub bucket: String,
    #[serde(rename = "digestS3Object")]
    pub object: String,
    pub digest_public_key_fingerprint: String,
    pub digest_signature_algorithm: String,
    pub newest_event_time: Option<String>,
    pub oldest_event_time: Option<String>,
    #[serde(rename = "previousDigestS3Bucket")]
    pub previous_bucket: Option<String>,
    #[serde(rename = "previousDigestS3Object")]
    pub previous_object: Option<String>,
    pub previous_digest_hash_value: Option<String>,
    pub previous_digest_hash_algorithm: Option<String>,
    pub previous_digest_signature: Option<String>,
    pub log_files: Vec<LogFile>,
}

/// A digest's entry for one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogFile {
    #[serde(rename = "s3Bucket")]
    pub bucket: String,
    #[serde(rename = "s3Object")]
    pub object: String,
    /// Of the uncompressed log.
    pub hash_value: String,
    pub hash_algorithm: String,
    pub newest_event_time: String,
    pub oldest_event_time: String,
}

/// What the next digest of a chain says about this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub bucket: String,
    pub object: String,
    pub hash: String,
    pub signature: String,
}

impl Digest {
    /// Names what came before; `None` makes a starting digest.
    #[must_use]
    pub fn after(mut self, previous: Option<&Link>) -> Digest {
        self.previous_bucket = previous.map(|link| link.bucket.clone());
        self.previous_object = previous.map(|link| link.object.clone());
        self.previous_digest_hash_value = previous.map(|link| link.hash.clone());
        self.previous_digest_hash_algorithm = previous.map(|_| "SHA-256".to_owned());
        self.previous_digest_signature = previous.map(|link| link.signature.clone());
        self
    }

    /// Signs the document and puts it into its bucket, as it arrived at `at`.
    ///
    /// # Panics
    /// If there is no such bucket.
    pub fn put(mut self, world: &World, key: &SigningKey, at: Timestamp) -> Link {
        self.digest_public_key_fingerprint
            .clone_from(&key.public.fingerprint);
        "SHA256withRSA".clone_into(&mut self.digest_signature_algorithm);
        let document = serde_json::to_vec(&self).expect("strings and lists serialize");
        let hash = sha256_hex(&document);
        let signature = key.sign(&self.to_sign(&hash));
        let object = ObjectSpec::log(gzip(&document))
            .metadata("signature", &signature)
            .metadata("signature-algorithm", "SHA256withRSA")
            .modified(at);
        world.put_object(&self.bucket, &self.object, object);
        Link {
            bucket: self.bucket,
            object: self.object,
            hash,
            signature,
        }
    }

    fn to_sign(&self, hash: &str) -> String {
        let previous = self.previous_digest_signature.as_deref().unwrap_or("null");
        format!(
            "{}\n{}/{}\n{hash}\n{previous}",
            self.digest_end_time, self.bucket, self.object
        )
    }
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// A private key, and what `ListPublicKeys` shows of it.
pub struct SigningKey {
    pair: KeyPair,
    pub public: PublicKey,
}

const ROTATION_DAYS: i64 = 25;
const VALIDITY_DAYS: i64 = 30;
const DAY: i64 = 86_400;

impl SigningKey {
    /// The key that signs in a region at a time. Keys change every 25 days and stay valid for 30;
    /// each belongs to one region. The same key is used by every world of the process, because
    /// making one takes a tenth of a second.
    pub fn of(region: &str, at: Timestamp) -> Arc<SigningKey> {
        type Ring = Shared<BTreeMap<(String, i64), Arc<SigningKey>>>;
        static RING: OnceLock<Ring> = OnceLock::new();
        let period = at.as_second().div_euclid(ROTATION_DAYS * DAY);
        let mut ring = RING.get_or_init(Shared::default).write();
        let key = ring.entry((region.to_owned(), period));
        Arc::clone(key.or_insert_with(|| Arc::new(SigningKey::new(period * ROTATION_DAYS * DAY))))
    }

    /// A key of its own, valid from then on for thirty days; nobody publishes it.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn fresh(valid_from: Timestamp) -> SigningKey {
        SigningKey::new(valid_from.as_second())
    }

    fn new(valid_from: i64) -> SigningKey {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("the system has randomness");
        let from = Timestamp::from_second(valid_from).unwrap_or(Timestamp::MIN);
        let until = from.saturating_add(SignedDuration::from_secs(VALIDITY_DAYS * DAY));
        let until = until.unwrap_or(Timestamp::MAX);
        let public = PublicKey::new(pair.public_key().as_ref().to_vec(), from, until);
        SigningKey { pair, public }
    }

    /// Lower-case hexadecimal, as the metadata of a digest has it.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn sign(&self, text: &str) -> String {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .expect("the buffer has the modulus' length");
        hex::encode(signature)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}
