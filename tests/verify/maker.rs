//! Chains written by a hand of our own: its own JSON, names and signatures, sharing nothing with `tests/fakeaws`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use trailsync::copy_of::{self, CopyOf};
use trailsync::destination::Place;
use trailsync::destination::sidecar;
use trailsync::digest::PublicKey;
use trailsync::error::Error;
use trailsync::path::{self, Part};
use trailsync::public_keys::{self, PublicKeys};
use trailsync::verify::archive::{Archive, Bytes, Listed, Standing};
use trailsync::verify::finding::{Finding, Verdict, What};
use trailsync::verify::{Options, Silent, Verified, verify};

pub const ACCOUNT: &str = "123456789012";
pub const BUCKET: &str = "witnessed-trail-logs";
pub const REGION: &str = "us-east-1";
/// 2026-03-01T00:00:00Z
pub const START: i64 = 1_772_323_200;
pub const HOUR: i64 = 3600;

/// Two keys, made once: making one takes a tenth of a second.
pub fn pair(number: usize) -> &'static KeyPair {
    static PAIRS: OnceLock<Vec<KeyPair>> = OnceLock::new();
    &PAIRS.get_or_init(|| (0..3).map(|_| KeyPair::generate(KeySize::Rsa2048).expect("a key")).collect())[number]
}

pub fn fingerprint(number: usize) -> String {
    hex::encode(Md5::digest(pair(number).public_key().as_ref()))
}

pub fn public(number: usize, from: i64, until: i64) -> PublicKey {
    let der = pair(number).public_key().as_ref().to_vec();
    PublicKey::new(der, &fingerprint(number), at(from), at(until)).expect("a key")
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

pub fn hour(number: i64) -> Timestamp {
    at(START + number * HOUR)
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
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

/// A tree in memory: the bytes of each file by its path, shared between copies of it.
#[derive(Clone, Default)]
pub struct Files(pub BTreeMap<String, Arc<Vec<u8>>>);

/// One chain that is written hour by hour.
pub struct Maker {
    pub files: Files,
    pub trail: String,
    pub prefix: String,
    pub key: usize,
    /// Key, hash and signature of the last digest.
    pub last: Option<(String, String, String)>,
    /// Logs of each hour, by its end.
    pub logs: BTreeMap<i64, Vec<String>>,
    pub digests: BTreeMap<i64, String>,
    pub metadata: BTreeMap<String, BTreeMap<String, String>>,
}

impl Maker {
    pub fn new(trail: &str) -> Self {
        let (files, last, logs, digests, metadata) = Default::default();
        Self { files, trail: trail.into(), prefix: String::new(), key: 0, last, logs, digests, metadata }
    }

    /// A whole chain of so many hours, with so many logs in each, keys and description beside it.
    pub fn chain(trail: &str, hours: i64, logs: usize) -> Self {
        let mut maker = Self::new(trail);
        (1..=hours).for_each(|end| maker.hour(end, logs));
        maker.keys(&[public(0, START - 100 * HOUR, START + 1000 * HOUR)]);
        maker.describe(Some(at(START)));
        maker
    }

    pub fn log_key(&self, minute: i64, number: usize) -> String {
        let time = jiff::tz::Offset::UTC.to_datetime(at(START + minute * 60));
        let (day, stamp) = (time.strftime("%Y/%m/%d"), time.strftime("%Y%m%dT%H%MZ"));
        let trail: String =
            self.trail.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b) } else { 'x' }).collect();
        format!(
            "{}AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/{day}/{ACCOUNT}_CloudTrail_{REGION}_{stamp}_{trail}{number:010}.json.gz",
            self.prefix
        )
    }

    pub fn digest_key(&self, end: Timestamp, backfill: bool) -> String {
        let time = jiff::tz::Offset::UTC.to_datetime(end);
        let (day, stamp, trail) = (time.strftime("%Y/%m/%d"), time.strftime("%Y%m%dT%H%M%SZ"), &self.trail);
        let tail = if backfill { "_backfill" } else { "" };
        format!(
            "{}AWSLogs/{ACCOUNT}/CloudTrail-Digest/{REGION}/{day}/{ACCOUNT}_CloudTrail-Digest_{REGION}_{trail}_{REGION}_{stamp}{tail}.json.gz",
            self.prefix
        )
    }

    /// Puts a log of the hour that ends at `end`.
    pub fn log(&mut self, end: i64, number: usize) -> String {
        let minute = (end - 1) * 60 + 5 + i64::try_from(number).expect("few") % 40;
        let key = self.log_key(minute, number);
        let body = format!("{{\"Records\":[{{\"eventID\":\"{key}\",\"n\":\"{}\"}}]}}", "ab".repeat(number % 7 + 20));
        self.put(&key, gzip(body.as_bytes()));
        key
    }

    /// Logs and digest of the hour that ends at `end`.
    pub fn hour(&mut self, end: i64, logs: usize) {
        let keys: Vec<_> = (0..logs).map(|number| self.log(end, number)).collect();
        self.digest(hour(end - 1), hour(end), &keys);
        self.logs.insert(end, keys);
    }

    pub fn digest(&mut self, from: Timestamp, to: Timestamp, logs: &[String]) -> String {
        let (key, last) = (self.digest_key(to, false), self.last.clone());
        let link = self.sign(&key, from, to, logs, last.as_ref(), &[]);
        self.digests.insert((to.as_second() - START) / HOUR, key.clone());
        self.last = Some(link);
        key
    }

    pub fn document(
        &self,
        key: &str,
        from: Timestamp,
        to: Timestamp,
        logs: &[String],
        previous: Option<&(String, String, String)>,
    ) -> String {
        let quoted = |text: Option<&String>| text.map_or("null".into(), |text| format!("\"{text}\""));
        let entries = logs.iter().map(|log| {
            let hash = sha256(&gunzip(&self.files.0[log]));
            format!(
                "{{\"s3Bucket\":\"{BUCKET}\",\"s3Object\":\"{log}\",\"hashValue\":\"{hash}\",\"hashAlgorithm\":\"SHA-256\",\
                 \"newestEventTime\":\"{to}\",\"oldestEventTime\":\"{from}\"}}"
            )
        });
        format!(
            "{{\"awsAccountId\":\"{ACCOUNT}\",\"digestStartTime\":\"{from}\",\"digestEndTime\":\"{to}\",\
             \"digestS3Bucket\":\"{BUCKET}\",\"digestS3Object\":\"{key}\",\"digestPublicKeyFingerprint\":\"{}\",\
             \"digestSignatureAlgorithm\":\"SHA256withRSA\",\"newestEventTime\":null,\"oldestEventTime\":null,\
             \"previousDigestS3Bucket\":{},\"previousDigestS3Object\":{},\"previousDigestHashValue\":{},\
             \"previousDigestHashAlgorithm\":{},\"previousDigestSignature\":{},\"logFiles\":[{}]}}",
            fingerprint(self.key),
            quoted(previous.map(|_| BUCKET.to_owned()).as_ref()),
            quoted(previous.map(|(key, ..)| key)),
            quoted(previous.map(|(_, hash, _)| hash)),
            quoted(previous.map(|_| "SHA-256".to_owned()).as_ref()),
            quoted(previous.map(|(.., signature)| signature)),
            entries.collect::<Vec<_>>().join(",")
        )
    }

    /// Writes a digest, and says what the next one will name.
    pub fn sign(
        &mut self,
        key: &str,
        from: Timestamp,
        to: Timestamp,
        logs: &[String],
        previous: Option<&(String, String, String)>,
        more: &[(&str, &str)],
    ) -> (String, String, String) {
        let document = self.document(key, from, to, logs, previous);
        self.sign_document(key, to, &document, previous.map(|(.., signature)| signature.as_str()), more)
    }

    pub fn sign_document(
        &mut self,
        key: &str,
        to: Timestamp,
        document: &str,
        previous: Option<&str>,
        more: &[(&str, &str)],
    ) -> (String, String, String) {
        let hash = sha256(document.as_bytes());
        let text = format!("{to}\n{BUCKET}/{key}\n{hash}\n{}", previous.unwrap_or("null"));
        let signature = signature(self.key, &text);
        self.put(key, gzip(document.as_bytes()));
        let mut metadata = BTreeMap::from([
            ("signature".to_owned(), signature.clone()),
            ("signature-algorithm".to_owned(), "SHA256withRSA".to_owned()),
        ]);
        metadata.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.set_metadata(key, metadata);
        (key.to_owned(), hash, signature)
    }

    pub fn set_metadata(&mut self, key: &str, metadata: BTreeMap<String, String>) {
        self.files.put(&format!("{key}%_meta.json"), sidecar::render(key, &metadata));
        self.metadata.insert(key.to_owned(), metadata);
    }

    pub fn put(&mut self, key: &str, bytes: Vec<u8>) {
        self.files.put(key, bytes);
    }

    pub fn keys(&mut self, keys: &[PublicKey]) {
        let file = PublicKeys::new(REGION, keys.to_vec()).render();
        self.files.put(&format!(".trailsync/{}", public_keys::file_name(REGION)), file);
    }

    pub fn describe(&mut self, since: Option<Timestamp>) {
        let mut copy = CopyOf::new("prod", BUCKET, self.prefix.trim_end_matches('/'), at(START));
        copy.since = since;
        self.files.put(&format!(".trailsync/{}", copy_of::file_name("prod")), copy.render());
    }

    /// The manifests of the streams of a kind, in the order of their days.
    pub fn manifests(&self, kind: &str) -> Vec<String> {
        let is_of = |path: &&String| {
            let Some(name) = path.strip_prefix(".trailsync/manifests/") else { return false };
            let prefix = format!("{}AWSLogs/{ACCOUNT}{kind}{REGION}/", self.prefix);
            name.starts_with(&format!("prod/{}/", trailsync::key::file_safe(&prefix)))
        };
        self.files.0.keys().filter(is_of).cloned().collect()
    }

    /// A manifest for each day of each stream that is here, each naming the one of the day before.
    pub fn seal(&mut self) {
        let mut days: BTreeMap<(String, String), String> = BTreeMap::new();
        for (path, bytes) in &self.files.0 {
            let Some(at) = path.find("/2026/").filter(|_| !path.starts_with('.') && !path.ends_with("%_meta.json"))
            else {
                continue;
            };
            let (prefix, suffix) = path.split_at(at + 1);
            let inflated = sha256(&gunzip(bytes));
            let line = format!("{suffix}\t{}\tetag\t{}\t{inflated}\t{START}\t-\n", bytes.len(), sha256(bytes));
            days.entry((prefix.to_owned(), suffix[..10].replace('/', "-"))).or_default().push_str(&line);
        }
        let mut before: BTreeMap<String, String> = BTreeMap::new();
        for ((prefix, day), lines) in days {
            let number: i32 = day.replace('-', "").parse().expect("a day");
            let after = before.get(&prefix).map(|named| format!(",\"after\":{named}")).unwrap_or_default();
            let header = format!(
                "{{\"manifest\":1,\"source\":\"prod\",\"prefix\":\"{prefix}\",\"day\":{number},\"generation\":1,\"previous\":null,\"whole\":true{after}}}\n"
            );
            let folder = trailsync::key::file_safe(&prefix);
            let name = format!(".trailsync/manifests/prod/{folder}/{day}.0001.tsv.gz");
            let manifest = gzip(format!("{header}{lines}").as_bytes());
            let hash = sha256(&manifest);
            before.insert(prefix, format!("{{\"day\":{number},\"generation\":1,\"sha256\":\"{hash}\"}}"));
            self.files.put(&name, manifest);
        }
    }
}

pub fn signature(key: usize, text: &str) -> String {
    let mut signature = vec![0; pair(key).public_modulus_len()];
    pair(key).sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).expect("signed");
    hex::encode(signature)
}

impl Files {
    pub fn put(&mut self, path: &str, bytes: Vec<u8>) {
        self.0.insert(path.to_owned(), Arc::new(bytes));
    }

    pub fn take(&mut self, path: &str) {
        self.0.remove(path).unwrap_or_else(|| panic!("no {path}"));
    }

    /// A digest with its metadata.
    pub fn take_digest(&mut self, key: &str) {
        self.take(key);
        self.take(&format!("{key}%_meta.json"));
    }

    pub fn write_to(&self, root: &Path) {
        for (name, bytes) in &self.0 {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, &**bytes).expect("written");
        }
    }

    fn open(&self, path: &str) -> Option<Bytes> {
        let bytes = self.0.get(path)?.clone();
        Some(Box::new(std::io::Cursor::new(bytes.to_vec())))
    }
}

impl Archive for Files {
    fn list(&self, folder: &str) -> Result<Listed, Error> {
        let (mut listed, mut folders) = (Listed::default(), BTreeSet::new());
        // The keys of this maker are their own paths, versions aside.
        let below = self.0.range(folder.to_owned()..).map(|(path, _)| path).take_while(|path| path.starts_with(folder));
        for path in below.filter(|path| !path.starts_with(".trailsync")) {
            let Some(named) = path::identify(path).filter(|named| named.part == Part::Object) else { continue };
            let Some(below) = named.key.strip_prefix(folder) else { continue };
            match below.split_once('/') {
                Some((name, _)) => _ = folders.insert(name.to_owned()),
                None => {
                    listed.objects.push(Standing { name: below.into(), version: named.version.map(Into::into) });
                }
            }
        }
        listed.folders = folders.into_iter().collect();
        listed.objects.sort_unstable();
        Ok(listed)
    }

    fn object(&self, place: &Place) -> Result<Option<Bytes>, Error> {
        Ok(path::of(&place.key, place.version.as_deref(), Part::Object).and_then(|path| self.open(&path)))
    }

    fn metadata(&self, place: &Place) -> Result<Option<Vec<u8>>, Error> {
        let path = path::of(&place.key, place.version.as_deref(), Part::Metadata);
        Ok(path.and_then(|path| self.0.get(&path)).map(|bytes| bytes.to_vec()))
    }

    fn kept(&self, name: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.open(&format!(".trailsync/{name}")))
    }

    fn kept_in(&self, folder: &str) -> Result<(Vec<String>, Vec<String>), Error> {
        let (mut folders, mut files) = (BTreeSet::new(), Vec::new());
        for path in self.0.keys() {
            let Some(below) = path.strip_prefix(&format!(".trailsync/{folder}/")) else { continue };
            match below.split_once('/') {
                Some((name, _)) => _ = folders.insert(name.to_owned()),
                None => files.push(below.to_owned()),
            }
        }
        Ok((folders.into_iter().collect(), files))
    }
}

/// Everything, looked at so many hours after the start.
pub fn options(now: i64) -> Options {
    Options {
        accounts: Vec::new(),
        trails: Vec::new(),
        regions: Vec::new(),
        from: None,
        to: None,
        grace_seconds: 3 * HOUR,
        jobs: 2,
        now: hour(now),
        keys: None,
        sources: Vec::new(),
    }
}

/// Verifies a tree, long after it was made.
pub fn verified(files: &impl Archive) -> Verified {
    verify(files, None, &options(10_000), &Silent).expect("readable")
}

/// What was found, without what is only said.
pub fn found(verified: &mut Verified) -> Vec<(Verdict, What, String)> {
    all(verified).into_iter().filter(|f| f.verdict.is_failure()).map(|f| (f.verdict, f.what, f.key)).collect()
}

pub fn all(verified: &mut Verified) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut see = |finding: &Finding| {
        all.push(finding.clone());
        Ok(())
    };
    verified.tally.findings.each(|_| true, &mut see).expect("in memory");
    all
}
