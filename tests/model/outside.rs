//! The world outside of us: the bucket, and the reference of all that was ever in it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use flate2::Compression;
use flate2::write::GzEncoder;
use trailsync::clock::{Timestamp, seconds_between, shift};
use trailsync::error::Class;
use trailsync::layout::Stream;
use trailsync::object::ETag;
use trailsync::source::memory::Object;

use super::bucket::Bucket;
use super::history::{Change, Content, DAY, Name, Setup};
use super::tally::Tally;

/// Clones are the same world.
pub struct Outside<B> {
    pub bucket: B,
    pub stream: Arc<Stream>,
    pub tally: Tally,
    retention: Option<i64>,
    past: Arc<Mutex<Past>>,
}

impl<B: Clone> Clone for Outside<B> {
    fn clone(&self) -> Self {
        let (bucket, stream, past) = (self.bucket.clone(), self.stream.clone(), self.past.clone());
        Self { bucket, stream, tally: self.tally.clone(), retention: self.retention, past }
    }
}

/// All that ever was.
pub struct Past {
    /// The true time.
    pub now: Timestamp,
    /// Counts what was done to the bucket.
    pub order: u64,
    /// By suffix.
    pub lives: BTreeMap<String, Life>,
    serial: u64,
    refusing: Option<(&'static str, Timestamp)>,
}

/// One key through the times.
#[derive(Default)]
pub struct Life {
    /// What stands there now.
    pub here: Option<Here>,
    /// What stood there, if it was removed; and since when it is missing.
    pub gone: Option<Gone>,
    /// Every version that ever stood there.
    pub versions: Vec<Object>,
    /// How often it was removed, and how often before its time.
    pub removals: u64,
    pub early_removals: u64,
    /// The hashes of what was seen to be mirrored, one after the other.
    pub mirrored: Vec<[u8; 32]>,
}

pub struct Here {
    pub object: Object,
    /// From when on it can be listed.
    pub since: Timestamp,
    pub order: u64,
    /// It was seen to be mirrored.
    pub settled: bool,
}

pub struct Gone {
    pub object: Object,
    pub since: Timestamp,
    pub order: u64,
}

impl Life {
    /// How often other bytes than before were put there.
    pub fn rewrites(&self) -> u64 {
        self.versions.windows(2).filter(|pair| pair[0].bytes != pair[1].bytes).count() as u64
    }

    pub fn sizes(&self) -> impl Iterator<Item = u64> {
        self.versions.iter().map(|version| version.bytes.len() as u64)
    }
}

impl<B: Bucket> Outside<B> {
    pub fn new(bucket: B, setup: &Setup) -> Self {
        let stream = Stream::new("prod", "AWSLogs/", None, "222222222222", setup.kind, "us-east-1");
        let tally = Tally::default();
        let past = Past { now: setup.start, order: 0, lives: BTreeMap::new(), serial: 0, refusing: None };
        bucket.set_page_size(setup.page_size);
        Self { bucket, stream: Arc::new(stream), tally, retention: setup.retention, past: Arc::new(Mutex::new(past)) }
    }

    pub fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().expect("no panic holds it")
    }

    pub fn key(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.stream.prefix)
    }

    /// Does it to the bucket and remembers it.
    pub fn apply(&self, change: &Change) {
        let mut past = self.past();
        past.order += 1;
        match change {
            Change::Deliver { name, content } => {
                let suffix = self.suffix(&mut past, name);
                self.deliver(&mut past, suffix, *content);
            }
            Change::Siblings { count, age } => {
                self.tally.add("same minute", u64::from(*count > 1));
                for _ in 0..*count {
                    let suffix = self.suffix(&mut past, &Name::Dated(*age));
                    self.deliver(&mut past, suffix, Content::Whole);
                }
            }
            Change::Rewrite(nth) => {
                if let Some(suffix) = past.nth_here(*nth) {
                    self.tally.count("replaced");
                    self.deliver(&mut past, suffix, Content::Whole);
                }
            }
            Change::RewriteLatest => {
                if let Some(suffix) = past.latest_here() {
                    self.tally.count("replaced");
                    self.deliver(&mut past, suffix, Content::Whole);
                }
            }
            Change::Retag(nth) => self.alter(&mut past, *nth, |object, serial| {
                object.etag = ETag::new(&format!("{serial:x}-2"));
                object.etag_is_md5 = false;
            }),
            Change::Remove(nth) => {
                if let Some(suffix) = past.nth_here(*nth) {
                    self.tally.count("removed");
                    self.remove(&mut past, &suffix);
                    past.lives.entry(suffix).or_default().early_removals += 1;
                }
            }
            Change::PutBack(nth) => self.put_back(&mut past, *nth),
            Change::Expire => self.expire(&mut past),
            Change::Refuse(nth, code) => {
                self.tally.count("refused");
                self.mark(&mut past, *nth, |object| object.error = Some((Class::Object, (*code).to_owned())));
            }
            Change::Archive(nth) => {
                self.tally.count("archived");
                self.mark(&mut past, *nth, |object| object.archived = Some("GLACIER".into()));
            }
            Change::RefuseAll(code) => {
                past.refusing = Some((code, past.now));
                self.mark_all(&mut past, |object| object.error = Some((Class::Object, (*code).to_owned())));
            }
            Change::PermitAll => {
                let withheld = past.refusing.take().is_some_and(|(_, since)| seconds_between(since, past.now) >= DAY);
                self.tally.add("key withheld for a day", u64::from(withheld));
                self.mark_all(&mut past, |object| (object.error, object.archived) = (None, None));
            }
        }
    }

    /// Delivers other bytes than ever before under a key of the stream.
    pub fn deliver_as(&self, suffix: &str) {
        let mut past = self.past();
        past.order += 1;
        self.deliver(&mut past, suffix.to_owned(), Content::Whole);
    }

    /// Removes a key before its time.
    pub fn tamper(&self, suffix: &str) {
        let mut past = self.past();
        past.order += 1;
        self.remove(&mut past, suffix);
        past.lives.entry(suffix.to_owned()).or_default().early_removals += 1;
    }

    fn suffix(&self, past: &mut Past, name: &Name) -> String {
        past.serial += 1;
        self.tally.named(name);
        match name {
            Name::Odd(suffix) => (*suffix).to_owned(),
            Name::InDay(age, name) => format!("{}{name}", self.day_folder(shift(past.now, -age))),
            Name::Dated(age) => {
                let at = shift(past.now, -age);
                let (account, kind, region) = (&self.stream.account, self.stream.kind.folder, &self.stream.region);
                let folder = self.day_folder(at);
                // The tail does not grow with time: siblings come out of order.
                let tail = past.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let minute = jiff_minute(at);
                if self.stream.kind.keeps_metadata {
                    format!("{folder}{account}_{kind}_{region}_trail_us-east-1_{minute}07Z.{tail:x}.json.gz")
                } else {
                    format!("{folder}{account}_{kind}_{region}_{minute}Z_{tail:016x}.json.gz")
                }
            }
        }
    }

    fn day_folder(&self, at: Timestamp) -> String {
        let text = at.to_string();
        format!("{}/{}/{}/", &text[..4], &text[5..7], &text[8..10])
    }

    fn deliver(&self, past: &mut Past, suffix: String, content: Content) {
        past.serial += 1;
        let is_passed = past.lives.keys().next_back().is_some_and(|last| suffix < *last);
        self.tally.add("out of order", u64::from(is_passed && !past.lives.contains_key(&suffix)));
        let bytes = match content {
            Content::Empty => Vec::new(),
            Content::Broken => format!("no gzip {}", past.serial).into_bytes(),
            _ => gzip(past.serial),
        };
        // The service stamps an object before it can be listed.
        let modified = shift(past.now, -i64::try_from(past.serial % 4).expect("small"));
        let mut object = Object::new(bytes, modified);
        if content == Content::Encrypted {
            object.etag = ETag::new(&format!("{:032x}", past.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            object.etag_is_md5 = false;
        }
        if self.stream.kind.keeps_metadata {
            object.metadata.insert("signature".into(), format!("{:x}", past.serial));
        }
        object.error = past.refusing.map(|(code, _)| (Class::Object, code.to_owned()));
        self.tally.add("broken or empty", u64::from(matches!(content, Content::Broken | Content::Empty)));
        self.put(past, suffix, object);
    }

    fn put(&self, past: &mut Past, suffix: String, mut object: Object) {
        // What neither tag nor gzip vouches for has a checksum, as all objects have since S3 keeps them by default.
        object.checksummed |= past.serial.is_multiple_of(2) || !object.etag_is_md5 && !suffix.ends_with(".gz");
        self.bucket.put(&self.key(&suffix), object.clone());
        let (since, order) = (past.now, past.order);
        let life = past.lives.entry(suffix).or_default();
        life.versions.push(object.clone());
        life.gone = None;
        life.here = Some(Here { object, since, order, settled: false });
    }

    /// Another version that is told apart by its tag, not by its bytes.
    fn alter(&self, past: &mut Past, nth: usize, alter: impl FnOnce(&mut Object, u64)) {
        let Some(suffix) = past.nth_here(nth) else { return };
        past.serial += 1;
        self.tally.count("another tag");
        let serial = past.serial;
        let Some(mut object) = past.lives[&suffix].here.as_ref().map(|here| here.object.clone()) else { return };
        alter(&mut object, serial);
        object.modified = past.now;
        self.put(past, suffix, object);
    }

    fn remove(&self, past: &mut Past, suffix: &str) {
        self.bucket.remove(&self.key(suffix));
        let (since, order) = (past.now, past.order);
        let Some(life) = past.lives.get_mut(suffix) else { return };
        life.gone = life.here.take().map(|here| Gone { object: here.object, since, order });
        life.removals += 1;
    }

    fn put_back(&self, past: &mut Past, nth: usize) {
        let gone: Vec<_> = past.lives.iter().filter(|(_, life)| life.gone.is_some()).map(|(s, _)| s.clone()).collect();
        if gone.is_empty() {
            return;
        }
        self.tally.count("put back");
        let suffix = gone[nth % gone.len()].clone();
        let object = past.lives[&suffix].gone.as_ref().map(|gone| gone.object.clone());
        if let Some(mut object) = object {
            object.modified = past.now;
            self.put(past, suffix, object);
        }
    }

    fn expire(&self, past: &mut Past) {
        let Some(retention) = self.retention else { return };
        let before = shift(past.now, -retention);
        let is_old = |life: &Life| life.here.as_ref().is_some_and(|here| here.object.modified <= before);
        let old: Vec<_> = past.lives.iter().filter(|(_, life)| is_old(life)).map(|(s, _)| s.clone()).collect();
        self.tally.add("expired", old.len() as u64);
        old.iter().for_each(|suffix| self.remove(past, suffix));
    }

    /// Changes how a version is served, not what it is.
    fn mark(&self, past: &mut Past, nth: usize, mark: impl Fn(&mut Object)) {
        let Some(suffix) = past.nth_here(nth) else { return };
        let key = self.key(&suffix);
        if let Some(here) = past.lives.get_mut(&suffix).and_then(|life| life.here.as_mut()) {
            mark(&mut here.object);
            self.bucket.put(&key, here.object.clone());
        }
    }

    fn mark_all(&self, past: &mut Past, mark: impl Fn(&mut Object)) {
        for (suffix, life) in &mut past.lives {
            life.gone.iter_mut().for_each(|gone| mark(&mut gone.object));
            if let Some(here) = &mut life.here {
                mark(&mut here.object);
                self.bucket.put(&format!("{}{suffix}", self.stream.prefix), here.object.clone());
            }
        }
    }
}

impl Past {
    /// With which code everything is refused.
    pub fn refusing(&self) -> Option<&'static str> {
        self.refusing.map(|(code, _)| code)
    }

    fn latest_here(&self) -> Option<String> {
        let here = self.lives.iter().filter_map(|(suffix, life)| Some((life.here.as_ref()?.order, suffix)));
        here.max().map(|(_, suffix)| suffix.clone())
    }

    fn nth_here(&self, nth: usize) -> Option<String> {
        let here: Vec<_> = self.lives.iter().filter(|(_, life)| life.here.is_some()).map(|(s, _)| s).collect();
        (!here.is_empty()).then(|| here[nth % here.len()].clone())
    }
}

fn jiff_minute(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{}{}{}T{}{}", &text[..4], &text[5..7], &text[8..10], &text[11..13], &text[14..16])
}

fn gzip(serial: u64) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    // Sizes differ, so that no two are taken for one another where bytes are counted.
    let noise: u64 = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let filler = format!("{noise:016x}").repeat(1 + serial as usize % 3);
    write!(gzip, "{{\"Records\":[{serial},\"{}\"]}}", &filler[serial as usize % 16..]).expect("memory takes it");
    gzip.finish().expect("memory takes it")
}
