//! What both generators are asked for, and what they give.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub const ACCOUNT: &str = "123456789012";
pub const REGION: &str = "us-east-1";
pub const TRAIL: &str = "management_events-1.eu";
pub const HOURS: i64 = 6;
/// What `since` of the copy is, too.
pub const START: &str = "2024-03-05T00:00:00Z";

/// One trail in one account and region.
#[derive(Debug, Clone, Serialize)]
pub struct Recipe {
    pub prefix: String,
    pub organization: Option<String>,
    pub account: String,
    pub region: String,
    pub home: String,
    pub trail: String,
    pub start: Timestamp,
    pub hours: i64,
    pub twist: Option<Twist>,
}

/// What is unusual about a chain, though all of it is signed. Hours count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Twist {
    /// Nothing was logged in this hour.
    Quiet { hour: i64 },
    /// Another key signs from here on.
    Rotate { hour: i64 },
    /// Logging was stopped in this hour, and started again after the next one.
    Stop { hour: i64 },
    /// A log of this hour came nine days late, with a digest of its own.
    Backfill { hour: i64 },
    /// The digest names none before it.
    Begins { hour: i64 },
    /// The digest names the one before it with a wrong hash.
    WrongHash { hour: i64 },
    /// The digest says that a log's hash is an MD5.
    BogusAlgorithm { hour: i64 },
    /// The digest was exchanged afterwards for another signed one, which names a log less.
    Replaced { hour: i64 },
    /// The digest was signed with a key that nobody publishes.
    Foreign { hour: i64 },
    /// The digest was signed with SHA-1; fakeaws cannot do that.
    Weak { hour: i64 },
    /// The keys are published as `SubjectPublicKeyInfo`.
    Spki,
}

/// An object of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub body: Vec<u8>,
    pub metadata: BTreeMap<String, String>,
}

/// A public key, as `ListPublicKeys` shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Key {
    pub region: String,
    pub fingerprint: String,
    /// DER in base64.
    pub value: String,
    pub from: Timestamp,
    pub until: Timestamp,
}

/// What a generator made: everything that is in one bucket, and the keys to it.
#[derive(Debug, Clone, Default)]
pub struct Made {
    pub bucket: String,
    pub objects: BTreeMap<String, Object>,
    pub keys: Vec<Key>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            organization: None,
            account: ACCOUNT.into(),
            region: REGION.into(),
            home: REGION.into(),
            trail: TRAIL.into(),
            start: START.parse().expect("a time"),
            hours: HOURS,
            twist: None,
        }
    }
}

impl Made {
    /// The hourly digests of a trail in its region, in order.
    pub fn chain(&self, trail: &str, region: &str) -> Vec<String> {
        let of = format!("_CloudTrail-Digest_{region}_{trail}_");
        let is_hourly = |key: &&String| key.contains(&of) && !key.ends_with("_backfill.json.gz");
        self.objects.keys().filter(is_hourly).cloned().collect()
    }

    /// The digest of an hour of the usual trail, counted from 1.
    pub fn digest(&self, hour: usize) -> String {
        self.chain(TRAIL, REGION)[hour - 1].clone()
    }

    pub fn digests(&self) -> Vec<String> {
        self.objects.keys().filter(|key| key.contains("/CloudTrail-Digest/")).cloned().collect()
    }

    pub fn document(&self, digest: &str) -> Value {
        serde_json::from_slice(&gunzip(&self.objects[digest].body)).expect("a digest")
    }

    /// The logs that a digest names.
    pub fn named(&self, digest: &str) -> Vec<String> {
        let document = self.document(digest);
        let logs = document["logFiles"].as_array().expect("a list").iter();
        logs.map(|log| log["s3Object"].as_str().expect("a key").to_owned()).collect()
    }

    /// A log of an hour of the usual trail.
    pub fn log(&self, hour: usize) -> String {
        self.named(&self.digest(hour)).pop().expect("a log")
    }

    pub fn take(&mut self, key: &str) -> Object {
        self.objects.remove(key).unwrap_or_else(|| panic!("no {key}"))
    }

    pub fn body(&mut self, key: &str) -> &mut Vec<u8> {
        &mut self.objects.get_mut(key).unwrap_or_else(|| panic!("no {key}")).body
    }

    pub fn metadata(&mut self, key: &str) -> &mut BTreeMap<String, String> {
        &mut self.objects.get_mut(key).unwrap_or_else(|| panic!("no {key}")).metadata
    }

    /// Changes the text inside an object, and packs it again.
    pub fn rewrite(&mut self, key: &str, change: impl FnOnce(String) -> String) {
        let body = self.body(key);
        let text = String::from_utf8(gunzip(body)).expect("text");
        let changed = change(text.clone());
        assert_ne!(text, changed, "{key}");
        *body = gzip(changed.as_bytes());
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).expect("in memory");
    gzip.finish().expect("in memory")
}

pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut inside = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut inside).expect("gzip");
    inside
}
