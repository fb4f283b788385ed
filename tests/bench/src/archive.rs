//! Writes a copy as the program would have made it: logs, signed and chained digests, metadata, keys, manifests.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use fakeaws::digests::{Digest, Link, LogFile, SigningKey};
use fakeaws::log_body;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use trailsync::copy_of::{self, CopyOf};
use trailsync::destination::sidecar;
use trailsync::digest::PublicKey;
use trailsync::layout::{Day, Kind, Stream};
use trailsync::manifest::{Claim, Header, Manifests};
use trailsync::object::{ETag, Metadata};
use trailsync::path::{self, Part};
use trailsync::public_keys::{self, PublicKeys};
use trailsync::record::Record;

pub const ACCOUNT: &str = "123456789012";
pub const BUCKET: &str = "measured-trail-logs";
pub const REGION: &str = "us-east-1";
pub const TRAIL: &str = "measured";
/// 2026-03-01T00:00:00Z
const START: i64 = 1_772_323_200;
const HOUR: i64 = 3_600;
const DAY_HOURS: i64 = 24;

/// With so many events half of the logs are below 25 KB, as genuine ones are.
const MEDIAN_EVENTS: f64 = 23.0;
/// The spread of their logarithm: of 55 genuine logs the smallest had one event, the largest 394.
const SPREAD: f64 = 1.4;
const MOST_EVENTS: f64 = 400.0;
/// These events repeat themselves more than genuine ones: packed less tightly they are as large.
const LEVEL: u32 = 2;

/// What logs hold.
#[derive(Debug, Clone, Copy)]
pub enum Bodies {
    /// Each its own, as large as genuine ones: half of them below 25 KB inflated, some a hundred times as large.
    Genuine,
    /// So many different ones of one event each, every one of them under many names: hard links.
    Linked(u64),
}

/// What is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many logs.
    pub logs: u64,
    /// Over how many hours, each with its digest.
    pub hours: i64,
    /// What they hold.
    pub bodies: Bodies,
}

/// A copy that was written.
pub struct Archive {
    /// Its root.
    pub root: PathBuf,
    /// Logs and digests.
    pub objects: u64,
    /// Bytes of them, as stored.
    pub stored_bytes: u64,
    /// Bytes inside.
    pub inflated_bytes: u64,
    /// Half of the logs are smaller as stored.
    pub median_stored: u64,
    /// Half of the logs are smaller inside.
    pub median_inflated: u64,
    /// From the first hour.
    pub from: Timestamp,
    /// To the last.
    pub to: Timestamp,
}

#[derive(Clone)]
struct Log {
    key: String,
    body: Body,
}

/// A body without its bytes.
#[derive(Clone)]
struct Body {
    size: u64,
    sha256: [u8; 32],
    inside: u64,
    inflated: [u8; 32],
}

/// Writes a copy below `root`, which is new.
pub fn write(plan: &Plan, root: &Path) -> Result<Archive> {
    let linked = match plan.bodies {
        Bodies::Genuine => Vec::new(),
        Bodies::Linked(count) => different(&root.with_extension("bodies"), count)?,
    };
    let mut writer = Writer { plan, root, linked, key: SigningKey::of(REGION, at(0)), last: None, records: Vec::new() };
    let (mut sizes, mut objects, mut stored_bytes, mut inflated_bytes) = (Vec::new(), 0, 0, 0);
    for day in (0..plan.hours).step_by(DAY_HOURS as usize) {
        let hours: Vec<_> = (day..plan.hours.min(day + DAY_HOURS)).collect();
        let logs = writer.logs_of(&hours)?;
        for (hour, logs) in hours.iter().zip(&logs) {
            let digest = writer.digest(*hour, logs)?;
            for body in logs.iter().map(|log| &log.body).chain([&digest]) {
                stored_bytes += body.size;
                inflated_bytes += body.inside;
                objects += 1;
            }
            sizes.extend(logs.iter().map(|log| (log.body.size, log.body.inside)));
        }
        writer.seal("CloudTrail", logs.iter().flatten().map(|log| (log.key.clone(), log.body.clone())))?;
        // The digest of a day's last hour is named by the next day.
        writer.seal_digests(at(hours[0]))?;
    }
    writer.seal_digests(at(plan.hours))?;
    writer.describe()?;
    let median = |values: &mut dyn Iterator<Item = u64>| {
        let mut values: Vec<_> = values.collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Ok(Archive {
        root: root.to_owned(),
        objects,
        stored_bytes,
        inflated_bytes,
        median_stored: median(&mut sizes.iter().map(|size| size.0)),
        median_inflated: median(&mut sizes.iter().map(|size| size.1)),
        from: at(0),
        to: at(plan.hours),
    })
}

struct Writer<'a> {
    plan: &'a Plan,
    root: &'a Path,
    linked: Vec<(PathBuf, Body)>,
    key: Arc<SigningKey>,
    last: Option<Link>,
    /// Digests that no manifest names yet.
    records: Vec<(Timestamp, String, Body)>,
}

impl Writer<'_> {
    /// The logs of some hours, written by all processors.
    fn logs_of(&self, hours: &[i64]) -> Result<Vec<Vec<Log>>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let part = |hours: &[i64]| hours.iter().map(|hour| self.logs_in(*hour)).collect::<Result<Vec<_>>>();
        std::thread::scope(|scope| {
            let parts = hours.chunks(hours.len().div_ceil(threads)).map(|hours| scope.spawn(move || part(hours)));
            let parts: Vec<_> = parts.collect();
            let mut all = Vec::with_capacity(hours.len());
            for part in parts {
                all.extend(part.join().map_err(|_| io::Error::other("a thread panicked"))??);
            }
            Ok(all)
        })
    }

    fn logs_in(&self, hour: i64) -> Result<Vec<Log>> {
        let Plan { logs, hours, .. } = *self.plan;
        let until = |hour: i64| logs * hour.unsigned_abs() / hours.unsigned_abs();
        let numbers = until(hour)..until(hour + 1);
        let mut folder = PathBuf::new();
        let mut written = Vec::with_capacity((numbers.end - numbers.start) as usize);
        for number in numbers {
            let minute = 5 + (number % 40).cast_signed();
            let named = at(hour) + SignedDuration::from_mins(minute);
            let path = self.root.join(log_key(named, number));
            if let Some(parent) = path.parent().filter(|parent| **parent != *folder) {
                fs::create_dir_all(parent)?;
                folder = parent.to_owned();
            }
            let body = self.body(number, named, &path).with_context(|| path.display().to_string())?;
            written.push(Log { key: log_key(named, number), body });
        }
        Ok(written)
    }

    fn body(&self, number: u64, named: Timestamp, path: &Path) -> Result<Body> {
        if let Some((body, about)) = self.linked.get((number % self.linked.len().max(1) as u64) as usize) {
            fs::hard_link(body, path)?;
            return Ok(about.clone());
        }
        let (bytes, body) = made(&genuine(number, named));
        fs::write(path, bytes)?;
        Ok(body)
    }

    /// Writes the digest of an hour, and its metadata.
    fn digest(&mut self, hour: i64, logs: &[Log]) -> Result<Body> {
        let (from, to) = (at(hour), at(hour + 1));
        let key = digest_key(to);
        let entry = |log: &Log| LogFile {
            bucket: BUCKET.to_owned(),
            object: log.key.clone(),
            hash_value: hex::encode(log.body.inflated),
            hash_algorithm: "SHA-256".to_owned(),
            newest_event_time: to.to_string(),
            oldest_event_time: from.to_string(),
        };
        let digest = Digest {
            aws_account_id: ACCOUNT.to_owned(),
            digest_start_time: from.to_string(),
            digest_end_time: to.to_string(),
            bucket: BUCKET.to_owned(),
            object: key.clone(),
            digest_public_key_fingerprint: self.key.public.fingerprint.clone(),
            digest_signature_algorithm: "SHA256withRSA".to_owned(),
            log_files: logs.iter().map(entry).collect(),
            ..Digest::default()
        };
        let (bytes, body) = made(&serde_json::to_vec(&digest.after(self.last.as_ref()))?);
        let (hash, previous) = (hex::encode(body.inflated), self.last.as_ref().map_or("null", |last| &last.signature));
        let signature = self.key.sign(&format!("{to}\n{BUCKET}/{key}\n{hash}\n{previous}"));
        let metadata = [("signature", signature.as_str()), ("signature-algorithm", "SHA256withRSA")];
        let metadata: Metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        self.put(&key, &bytes)?;
        let beside = path::of(&key, None, Part::Metadata).context("a path of metadata")?;
        self.put(&beside, &sidecar::render(&key, &metadata))?;
        self.last = Some(Link { bucket: BUCKET.to_owned(), object: key.clone(), hash, signature });
        self.records.push((to, key, body.clone()));
        Ok(body)
    }

    /// Seals the digests of the days before this one.
    fn seal_digests(&mut self, before: Timestamp) -> Result<()> {
        let day = Day::at(before);
        let is_last = before == at(self.plan.hours);
        let sealed: Vec<_> = self.records.extract_if(.., |(to, ..)| is_last || Day::at(*to) < day).collect();
        let mut days: Vec<_> = sealed.iter().map(|(to, ..)| Day::at(*to)).collect();
        days.dedup();
        for day in days {
            let of_day = sealed.iter().filter(|(to, ..)| Day::at(*to) == day);
            self.seal("CloudTrail-Digest", of_day.map(|(_, key, body)| (key.clone(), body.clone())))?;
        }
        Ok(())
    }

    /// The manifest of one day of one stream.
    fn seal(&self, kind: &str, objects: impl Iterator<Item = (String, Body)>) -> Result<()> {
        let kind = Kind::named(kind).context("a kind")?;
        let stream = Stream::new("measured", "AWSLogs/", None, ACCOUNT, kind, REGION);
        let record = |(key, body): (String, Body)| {
            Some(Record {
                suffix: stream.suffix(&key)?.to_owned(),
                size: body.size,
                modified: at(0),
                etag: ETag::new(&hex::encode(&body.sha256[..16])),
                sha256: body.sha256,
                inflated: Some(body.inflated),
                gone: false,
                deleted: false,
                later: false,
            })
        };
        let mut records: Vec<_> = objects.filter_map(record).collect();
        records.sort_unstable_by(|one, other| one.suffix.cmp(&other.suffix));
        let Some(day) = records.first().and_then(|record| Day::of(&record.suffix)) else { return Ok(()) };
        let prefix = stream.prefix.clone();
        let header = Header {
            manifest: 1,
            source: stream.source.clone(),
            prefix,
            day: day.0,
            generation: 1,
            previous: None,
            whole: true,
            after: None,
        };
        let manifests = Manifests::under(&self.root.join(".trailsync"));
        manifests.write(&stream, &header, &records, &Claim::default().claimed())?;
        Ok(())
    }

    /// What the copy says of itself.
    fn describe(&self) -> Result<()> {
        let public = &self.key.public;
        let until = at(self.plan.hours) + SignedDuration::from_hours(DAY_HOURS);
        let key = PublicKey::new(public.der.clone(), &public.fingerprint, public.valid_from, until);
        let keys = PublicKeys::new(REGION, vec![key.map_err(|why| io::Error::other(why.to_string()))?]).render();
        self.put(&format!(".trailsync/{}", public_keys::file_name(REGION)), &keys)?;
        let copy = CopyOf::new("measured", BUCKET, "", at(0)).render();
        self.put(&format!(".trailsync/{}", copy_of::file_name("measured")), &copy)
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, bytes).with_context(|| path.display().to_string())
    }
}

/// Bodies that stand under many names, in a folder beside the copy.
fn different(folder: &Path, count: u64) -> Result<Vec<(PathBuf, Body)>> {
    fs::create_dir_all(folder)?;
    let write = |number: u64| {
        let path = folder.join(format!("{number}.gz"));
        let (bytes, body) = made(&log_body::of_events(number, 1, ACCOUNT, REGION, at(0)).text);
        fs::write(&path, bytes)?;
        Ok((path, body))
    };
    (0..count).map(write).collect()
}

/// A log as large as a genuine one.
pub fn genuine(number: u64, named: Timestamp) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number ^ 0x7ab1e);
    // Box and Muller's way to a normal distribution.
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
    let events = (MEDIAN_EVENTS * (SPREAD * normal).exp()).round().clamp(1.0, MOST_EVENTS);
    log_body::of_events(number, events as u32, ACCOUNT, REGION, named).text
}

/// The bytes of a gzip file, and what is known of them.
fn made(text: &[u8]) -> (Vec<u8>, Body) {
    let bytes = gzip(text);
    let sha256 = |bytes: &[u8]| {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        hash
    };
    let (size, inside) = (bytes.len() as u64, text.len() as u64);
    let body = Body { size, sha256: sha256(&bytes), inside, inflated: sha256(text) };
    (bytes, body)
}

/// Packs a log about as tightly as genuine ones are.
pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    written.expect("a vector takes every write")
}

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(START + hour * HOUR).unwrap_or(Timestamp::MAX)
}

/// The key of a log, which is its path in a copy, too.
pub fn log_key(named: Timestamp, number: u64) -> String {
    let mut random = fastrand::Rng::with_seed(number);
    let unique: String = std::iter::repeat_with(|| random.alphanumeric()).take(16).collect();
    let time = Offset::UTC.to_datetime(named);
    let (day, stamp) = (time.strftime("%Y/%m/%d"), time.strftime("%Y%m%dT%H%MZ"));
    format!("AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/{day}/{ACCOUNT}_CloudTrail_{REGION}_{stamp}_{unique}.json.gz")
}

fn digest_key(end: Timestamp) -> String {
    let time = Offset::UTC.to_datetime(end);
    let (day, stamp) = (time.strftime("%Y/%m/%d"), time.strftime("%Y%m%dT%H%M%SZ"));
    format!(
        "AWSLogs/{ACCOUNT}/CloudTrail-Digest/{REGION}/{day}/{ACCOUNT}_CloudTrail-Digest_{REGION}_{TRAIL}_{REGION}_{stamp}.json.gz"
    )
}
