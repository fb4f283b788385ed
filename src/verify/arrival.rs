//! One digest as it is read from the copy: document, signature, and whether it stands where it was signed for.

use super::archive::{Archive, whole};
use super::finding::Verdict;
use super::recorded::Stored;
use super::work::judge_bytes;
use crate::clock::Timestamp;
use crate::content::Checker;
use crate::destination::{Place, sidecar};
use crate::digest::{self, BACKFILLED_AT, Digest, MOST_BYTES, Name};
use crate::object::{Gzip, Metadata};

/// A digest and all that can be said of it alone.
pub struct Arrival {
    /// Its key in the copy.
    pub key: String,
    /// The end of its time, by its name.
    pub end: Timestamp,
    /// The document, or what is wrong with it.
    pub document: Result<Document, (Verdict, String)>,
    /// Its signature, or what is wrong with its metadata.
    pub signature: Result<Vec<u8>, (Verdict, String)>,
    /// Its metadata are signed text in a file that changed: still usable, but not as they were.
    pub metadata_changed: bool,
    /// When a backfill digest was made.
    pub backfilled_at: Option<Timestamp>,
    /// Its bytes changed around a document that did not.
    pub around: Option<(Verdict, String)>,
    /// Bytes as stored, and inside.
    pub bytes: (u64, u64),
}

/// A digest's document.
pub struct Document {
    /// What it says.
    pub digest: Digest,
    /// SHA-256 of its bytes.
    pub hash: [u8; 32],
    /// What stood before `AWSLogs/` where it was signed for.
    pub prefix: String,
}

/// Which digest is to be read.
pub struct Asked<'a> {
    /// Its key in the copy.
    pub key: String,
    /// What its name says.
    pub name: &'a Name<'a>,
    /// What stands before `AWSLogs/` in the copy.
    pub prefix: &'a str,
    /// The account of its folder.
    pub account: &'a str,
    /// What it was when it was stored.
    pub stored: Option<Stored>,
}

/// Reads a digest and its metadata.
pub fn read<A: Archive>(archive: &A, checker: &mut Checker, asked: Asked<'_>) -> Arrival {
    let place = Place { key: asked.key.clone(), version: None };
    let mut arrival = Arrival {
        key: asked.key.clone(),
        end: asked.name.end,
        document: Err((Verdict::Missing, "it went while it was looked at".into())),
        signature: Err((Verdict::Missing, String::new())),
        metadata_changed: false,
        backfilled_at: None,
        around: None,
        bytes: (0, 0),
    };
    match archive.object(&place).and_then(|file| file.map(|file| whole(file, &place.key)).transpose()) {
        Ok(None) => {}
        Ok(Some(bytes)) => arrival.take(&bytes, checker, &asked),
        Err(error) => arrival.document = Err((Verdict::Unreadable, error.to_string())),
    }
    match archive.metadata(&place) {
        Ok(bytes) => arrival.take_metadata(bytes.as_deref(), asked.name.backfill),
        Err(error) => arrival.signature = Err((Verdict::Unreadable, error.to_string())),
    }
    arrival
}

impl Arrival {
    fn take(&mut self, bytes: &[u8], checker: &mut Checker, asked: &Asked<'_>) {
        // A slice is read without errors.
        let Ok(checked) = checker.check(&mut &*bytes, asked.stored.is_some(), true) else { return };
        let (verdict, why) = judge_bytes(None, asked.stored, &checked);
        let Gzip::Whole { sha256, size } = checked.gzip else {
            self.document = Err((verdict, why));
            return;
        };
        self.bytes = (checked.size, size);
        let document = inflate(bytes, size).and_then(|text| document(&text, sha256, asked));
        self.document = match document {
            Err(_) if verdict != Verdict::Valid => Err((verdict, why)),
            Ok(document) => {
                self.around = (verdict != Verdict::Valid).then_some((verdict, why));
                Ok(document)
            }
            refused => refused,
        };
    }

    fn take_metadata(&mut self, bytes: Option<&[u8]>, backfill: bool) {
        let Some(bytes) = bytes else {
            self.signature = Err((Verdict::Missing, "its metadata, which hold its signature, are not here".into()));
            return;
        };
        self.metadata_changed = !sidecar::is_whole(bytes);
        let altered = |why: String| (Verdict::Altered, why);
        let Some((key, metadata)) = sidecar::parse(bytes) else {
            self.signature = Err(altered("its metadata cannot be read".into()));
            return;
        };
        self.signature = match key == self.key || tail(&key) == tail(&self.key) {
            true => signature(&metadata, backfill).map_err(|why| match self.metadata_changed {
                true => altered(why),
                false => (Verdict::Malformed, why),
            }),
            false => Err(altered("its metadata are those of another object".into())),
        };
        self.backfilled_at = digest::backfilled_at(&metadata).ok();
    }
}

fn signature(metadata: &Metadata, backfill: bool) -> Result<Vec<u8>, String> {
    if backfill && !metadata.contains_key(BACKFILLED_AT) {
        return Err(format!("its metadata hold no {BACKFILLED_AT}"));
    }
    digest::signature(metadata).map_err(|malformed| malformed.0)
}

fn inflate(bytes: &[u8], size: u64) -> Result<Vec<u8>, (Verdict, String)> {
    use std::io::Read as _;
    if size > MOST_BYTES {
        return Err((Verdict::Malformed, format!("it is larger than any digest: {size} bytes")));
    }
    let mut text = Vec::new();
    match flate2::read::GzDecoder::new(bytes).take(MOST_BYTES).read_to_end(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err((Verdict::Malformed, error.to_string())),
    }
}

fn document(text: &[u8], hash: [u8; 32], asked: &Asked<'_>) -> Result<Document, (Verdict, String)> {
    let malformed = |why: digest::Malformed| (Verdict::Malformed, why.to_string());
    let digest = Digest::parse(text).map_err(malformed)?;
    let here = asked.key.strip_prefix(asked.prefix).unwrap_or(&asked.key);
    let before = digest.origin.key.strip_suffix(here).filter(|before| before.is_empty() || before.ends_with('/'));
    let Some(prefix) = before.map(str::to_owned) else {
        let why = format!("it is another digest, the one that belongs at {}", digest.origin.key);
        return Err((Verdict::Altered, why));
    };
    digest.check_name(asked.account, asked.name).map_err(malformed)?;
    Ok(Document { digest, hash, prefix })
}

/// A key from `AWSLogs/` on: the same wherever a copy stands.
pub fn tail(key: &str) -> &str {
    match key.find("/AWSLogs/") {
        Some(at) if !key.starts_with("AWSLogs/") => &key[at + 1..],
        _ => key,
    }
}
