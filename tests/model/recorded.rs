//! What is recorded after every turn is true, is kept, and is counted once.

use std::collections::BTreeSet;

use trailsync::clock::{Timestamp, seconds_between};
use trailsync::content;
use trailsync::destination::sidecar;
use trailsync::ledger::Failure;
use trailsync::object::Gzip;
use trailsync::path::Part;
use trailsync::record::Record;

use super::bucket::{Bucket, Vault};
use super::check::{Over, Present, path_of, versions_of};
use super::history::DAY;
use super::outside::Life;
use super::world::{Checked, World};

/// Failures of an object before it is in quarantine.
const TRIES: u32 = 5;
/// So many denials in a row are the stream's.
const DENIED_IN_A_ROW: usize = 20;

impl<B: Bucket, V: Vault> World<B, V> {
    /// Nothing is ever removed, overwritten or forgotten.
    pub fn check_nothing_is_lost(&self, now: &Present) -> Checked {
        if let Some((path, _)) = self.before.files.iter().find(|(path, bytes)| now.files.get(*path) != Some(*bytes)) {
            return Err(format!("{path:?} was removed or overwritten"));
        }
        if let Some(suffix) = self.before.records.keys().find(|suffix| !now.records.contains_key(*suffix)) {
            return Err(format!("the record of {suffix:?} is lost"));
        }
        Ok(())
    }

    /// Records that are new or other than before tell of a version that stood there, and of the file that holds it.
    pub fn check_records(&self, now: &Present) -> Checked {
        let past = self.outside.past();
        for (suffix, record) in now.records.iter().filter(|(suffix, r)| self.before.records.get(*suffix) != Some(*r)) {
            let Some(life) = past.lives.get(suffix) else { return Err(format!("{suffix:?} was never delivered")) };
            if self.is_before_since(suffix) {
                return Err(format!("{suffix:?} is dated before `since`"));
            }
            if let Some(why) = self.falsehood(now, life, record) {
                return Err(format!("{suffix:?} is recorded, and {why}: {record:?}"));
            }
        }
        Ok(())
    }

    fn falsehood(&self, now: &Present, life: &Life, record: &Record) -> Option<&'static str> {
        let key = self.outside.key(&record.suffix);
        if versions_of(life, record).next().is_none() {
            return Some("no such version ever stood there");
        }
        let Some(bytes) = now.files.get(&path_of(&key, record, Part::Object)) else {
            return Some("its file is missing");
        };
        if versions_of(life, record).all(|version| version.bytes != *bytes) {
            return Some("its file holds other bytes");
        }
        let found = content::of(bytes, key.ends_with(".gz"));
        let inflated = match found.gzip {
            Gzip::Whole { sha256, .. } => Some(sha256),
            _ => None,
        };
        if (found.sha256, inflated) != (record.sha256, record.inflated) {
            return Some("its hashes are others");
        }
        let is_beside = |metadata: &Vec<u8>| {
            let same = |kept| versions_of(life, record).any(|version| version.metadata == kept);
            sidecar::parse(metadata).is_some_and(|(of, kept)| of == key && same(kept))
        };
        let beside = now.files.get(&path_of(&key, record, Part::Metadata));
        match self.outside.stream.kind.keeps_metadata {
            true if !beside.is_some_and(is_beside) => Some("its metadata is not beside it"),
            false if beside.is_some() => Some("metadata is beside it"),
            _ => None,
        }
    }

    /// What is said to be gone was gone, each time anew.
    pub fn check_gone(&mut self, now: &Present) -> Checked {
        let past = self.outside.past();
        for suffix in now.records.values().filter(|record| record.gone).map(|record| &record.suffix) {
            if self.before.records.get(suffix).is_some_and(|before| before.gone) {
                continue;
            }
            let missed = self.missed.entry(suffix.clone()).or_default();
            *missed += 1;
            if past.lives.get(suffix).is_none_or(|life| life.removals < *missed) {
                return Err(format!("{suffix:?} is said to be gone once more than it was"));
            }
        }
        Ok(())
    }

    /// What fails is something that stood there and is not mirrored.
    pub fn check_failures(&mut self, now: &Present) -> Checked {
        let past = self.outside.past();
        for (suffix, failure) in &now.failing {
            let life = past.lives.get(suffix);
            let is_version = life.is_some_and(|life| life.versions.iter().any(|object| is_of(failure, object)));
            let is_here = now.records.get(suffix).is_some_and(|record| record.etag == failure.etag && !record.gone);
            let due = failure.attempts >= TRIES || failure.code == "InvalidObjectState";
            let why = match () {
                () if !self.may_fail => "nothing was told to fail",
                () if !is_version => "no such version ever stood there",
                () if is_here => "it is mirrored",
                () if failure.attempts == 0 || failure.quarantined != due => "it is in quarantine too early or late",
                () => continue,
            };
            return Err(format!("{suffix:?} is said to fail, and {why}: {failure:?}"));
        }
        let quarantined = now.failing.iter().filter(|(_, failure)| failure.quarantined);
        let quarantined: Vec<String> = quarantined.map(|(suffix, _)| suffix.clone()).collect();
        self.tally.add("quarantined", quarantined.len() as u64);
        self.quarantined.extend(quarantined);
        Ok(())
    }

    /// What `status` shows is what there is.
    pub fn check_counters(&self, now: &Present) -> Checked {
        let Some(row) = &now.row else { return Err("no checkpoint".into()) };
        let quarantined = now.failing.values().filter(|failure| failure.quarantined).count() as u64;
        let oldest = now.failing.values().map(|failure| failure.modified).min();
        let failing = (now.failing.len() as u64 - quarantined, quarantined, oldest);
        if (row.failing, row.quarantined, row.oldest_missing) != failing {
            return Err(format!("failing are {failing:?}: {row:?}"));
        }
        let past = self.outside.past();
        let sizes = |suffix| past.lives.get(suffix).into_iter().flat_map(|life: &Life| life.sizes());
        let least: u64 = now.records.keys().filter_map(|suffix| sizes(suffix).min()).sum();
        let most: u64 = now.records.keys().filter_map(|suffix| sizes(suffix).max()).sum();
        if row.objects != now.records.len() as u64 || !(least..=most).contains(&row.bytes) {
            let (objects, bytes) = (row.objects, row.bytes);
            let are = now.records.len();
            return Err(format!("{objects} objects of {bytes} bytes are counted, and {are} of {least} to {most} are"));
        }
        Ok(())
    }

    /// The newest object is one whose name was no claim on the future when it came.
    pub fn check_newest(&self, now: &Present) -> Checked {
        let newest = now.row.as_ref().and_then(|row| row.newest_object);
        let past = self.outside.past();
        let dated = now.records.keys().filter_map(|suffix| Some((suffix, self.outside.stream.dated(suffix)?)));
        let (mut least, mut most) = (None, None);
        for (suffix, dated) in dated {
            let came = past.lives.get(suffix).and_then(|life| life.versions.first()).map(|first| first.modified);
            let was_plausible = came.is_some_and(|came| seconds_between(came, dated) <= DAY);
            least = least.max(Some(dated).filter(|_| was_plausible && !self.service_was_wrong));
            most = most.max(Some(dated));
        }
        if (least..=most).contains(&newest) {
            return Ok(());
        }
        Err(format!("the newest object is said to be of {newest:?}, and is of {least:?} to {most:?}"))
    }

    /// All requests are counted, but those that were abandoned; they are recorded with the next commit.
    pub fn check_requests(&self, now: &Present) -> Checked {
        let (lists, gets) = self.wire.requests();
        let made = (self.requests_before.0 + lists, self.requests_before.1 + gets);
        let checkpoint = &self.progress.checkpoint;
        let counted = (checkpoint.lists.values().sum(), checkpoint.gets);
        let recorded = now.row.as_ref().map(|row| (row.lists.values().sum(), row.gets));
        let within = |(lists, gets): (u64, u64), most: (u64, u64)| lists <= most.0 && gets <= most.1;
        let is_whole = counted == made || self.abandoned && within(counted, made);
        if is_whole && recorded.is_some_and(|recorded| within(recorded, counted)) {
            return Ok(());
        }
        Err(format!("{made:?} requests were made, {counted:?} counted, {recorded:?} recorded"))
    }

    /// A power cut takes what was never said to be durable, and no more.
    pub async fn check_power_cut(&mut self) -> Checked {
        let now = self.present().await?;
        self.before.files.retain(|path, _| now.files.contains_key(path));
        self.check_nothing_is_lost(&now)?;
        self.before.records.clear();
        self.check_records(&now)?;
        self.before = now;
        Ok(())
    }

    /// Nothing is done twice, and nothing is done in vain.
    pub fn check_work(&self, now: &Present, over: &Over) -> Checked {
        let past = self.outside.past();
        for suffix in over.happened.fetched.iter().filter_map(|key| self.outside.stream.suffix(key)) {
            let here = past.lives.get(suffix).and_then(|life| life.here.as_ref());
            if here.is_some_and(|here| here.settled && here.order <= over.order) {
                return Err(format!("{suffix:?} was mirrored, and is fetched again"));
            }
        }
        let other = |suffix: &&String| {
            let (before, after) = (self.before.records.get(*suffix), &now.records[*suffix]);
            before.is_none_or(|before| before.sha256 != after.sha256)
        };
        let stored = now.records.keys().filter(other).count() as u64;
        if let Some(turn) = over.turn.filter(|turn| turn.stored != stored && over.happened.meanwhile == 0) {
            return Err(format!("{} objects are said to be stored, and {stored} were", turn.stored));
        }
        let new: Vec<&Failure> = now
            .failing
            .iter()
            .filter(|(suffix, _)| !self.before.failing.contains_key(*suffix))
            .map(|(_, f)| f)
            .collect();
        let codes: BTreeSet<&str> = new.iter().map(|failure| failure.code.as_str()).collect();
        let denied = past.refusing().is_some_and(|code| codes.len() == 1 && codes.contains(code));
        if denied && new.len() >= DENIED_IN_A_ROW {
            return Err(format!("{} objects fail, where everything is withheld", new.len()));
        }
        Ok(())
    }

    /// The source's lifecycle may have removed it at this time.
    pub fn may_expire(&self, modified: Timestamp, at: Timestamp) -> bool {
        self.rules.retention.is_some_and(|retention| seconds_between(modified, at) >= retention - 2 * DAY)
    }
}

fn is_of(failure: &Failure, object: &trailsync::source::memory::Object) -> bool {
    let size = object.bytes.len() as u64;
    (&failure.etag, failure.size, failure.modified) == (&object.etag, size, object.modified)
}
