//! What must hold: after every turn, and after a calm end.

use std::collections::{BTreeMap, BTreeSet};

use trailsync::clock::{Timestamp, seconds_between, shift};
use trailsync::content;
use trailsync::destination::sidecar;
use trailsync::layout::Day;
use trailsync::ledger::AlarmRow;
use trailsync::manifest::file_name;
use trailsync::object::{ETag, Gzip};
use trailsync::path::{self, Part};
use trailsync::record::{Record, version_of};
use trailsync::records::Records;
use trailsync::source::memory::Object;

use super::bucket::{Bucket, Vault};
use super::history::{DAY, HOUR};
use super::outside::Life;
use super::world::{Checked, World};

/// As many rows as a history can have.
const ALL: u32 = 100_000;

impl<B: Bucket, V: Vault> World<B, V> {
    /// After a turn that left nothing to do, all that its tiers promise is mirrored, and what was removed is known.
    ///
    /// `began` is when the turn began, `order` what had happened by then.
    pub async fn check_found(&mut self, began: Timestamp, order: u64) -> Checked {
        let backlog = self.backlog.unwrap_or_default();
        let due = |suffix: &str, since: Timestamp, at: u64| {
            let wait = self.found_after(suffix, since.max(self.blurred));
            let waited = seconds_between(since.max(self.blurred), began);
            at <= order && wait.is_some_and(|wait| at <= backlog || waited >= wait)
        };
        if !self.outside.past().lives.iter().any(|(suffix, life)| match (&life.here, &life.gone) {
            (Some(here), _) => !here.settled && due(suffix, here.since, here.order),
            (None, Some(gone)) => !gone.settled && due(suffix, gone.since, gone.order),
            (None, None) => false,
        }) {
            return Ok(());
        }
        let (records, failing) = (self.records().await?, self.failing().await?);
        let files = &self.files_now();
        let mut past = self.outside.past();
        for (suffix, life) in &mut past.lives {
            let (record, key) = (records.get(suffix), self.outside.key(suffix));
            if let Some(here) = &mut life.here {
                let has_outcome =
                    failing.contains(&key) || record.is_some_and(|r| is_mirrored(&key, r, &here.object, files));
                if !here.settled && due(suffix, here.since, here.order) && !has_outcome {
                    let (since, now) = (here.since, began);
                    return Err(format!(
                        "{suffix:?}, there since {since}, is not mirrored after the turn at {now}: {record:?}"
                    ));
                }
                here.settled |= has_outcome && !failing.contains(&key);
            }
            if let Some(gone) = &mut life.gone {
                let is_known = record.is_none_or(|record| record.gone) || self.rules.retention.is_some();
                if !gone.settled && due(suffix, gone.since, gone.order) && !is_known {
                    return Err(format!("{suffix:?}, gone since {}, is not known to be at {began}", gone.since));
                }
                gone.settled |= is_known;
            }
        }
        Ok(())
    }

    /// `listed_through` claims: whatever could be listed before that time, named at most `min_window` before and 25 h
    /// after the time at which it came, has an outcome.
    pub async fn check_listed_through(&mut self) -> Checked {
        let Some(through) = self.progress.checkpoint.listed_through else { return Ok(()) };
        let window = i64::try_from(self.rules.poll.min_window.as_secs()).expect("small");
        let claimed = |suffix: &str, since: Timestamp| {
            since < through && self.is_within(suffix, since, window) && !self.is_before_since(suffix)
        };
        let open = |suffix: &str, life: &Life| {
            life.here.as_ref().is_some_and(|here| !here.settled && claimed(suffix, here.since))
        };
        if !self.outside.past().lives.iter().any(|(suffix, life)| open(suffix, life)) {
            return Ok(());
        }
        let (records, failing) = (self.records().await?, self.failing().await?);
        let files = self.files_now();
        for (suffix, life) in self.outside.past().lives.iter().filter(|(suffix, life)| open(suffix, life)) {
            let (Some(here), key) = (&life.here, self.outside.key(suffix)) else { continue };
            let mirrored = records.get(suffix).is_some_and(|record| is_mirrored(&key, record, &here.object, &files));
            if !mirrored && !failing.contains(&key) {
                let record = records.get(suffix);
                return Err(format!(
                    "listed through {through}, but {suffix:?} of {} has no outcome: {record:?}",
                    here.since
                ));
            }
        }
        Ok(())
    }

    /// Nothing is ever removed or overwritten.
    pub fn check_files_stay(&mut self) -> Checked {
        let now = self.vault.files();
        for (path, bytes) in &self.files {
            if now.get(path) != Some(bytes) {
                return Err(format!("{path:?} was removed or overwritten"));
            }
        }
        self.files = now;
        Ok(())
    }

    /// Whatever a row names stands at the destination, with its bytes.
    pub async fn check_rows_have_files(&self) -> Checked {
        let files = self.vault.files();
        for (suffix, record) in self.records().await? {
            let key = self.outside.key(&suffix);
            let Some(bytes) = files.get(&path_of(&key, &record)) else {
                return Err(format!("{suffix:?} is recorded, and its file is missing: {record:?}"));
            };
            let found = content::of(bytes, key.ends_with(".gz"));
            let inflated = match found.gzip {
                Gzip::Whole { sha256, .. } => Some(sha256),
                _ => None,
            };
            if (found.size, found.sha256, inflated) != (record.size, record.sha256, record.inflated) {
                return Err(format!("{suffix:?} is recorded with other bytes than its file has: {record:?}"));
            }
        }
        Ok(())
    }

    pub async fn check_quarantine_is_empty(&self) -> Checked {
        let left = self.ledger.quarantine(ALL).await.map_err(|e| e.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(format!("still in quarantine: {left:?}")) }
    }

    /// After the calm end.
    pub async fn check_everything(&mut self) -> Checked {
        self.check_quarantine_is_empty().await?;
        self.check_rows_have_files().await?;
        let records = self.records().await?;
        self.check_counts(&records).await?;
        self.check_lives(&records)?;
        self.check_paths(&records)?;
        self.check_alarms(&records).await?;
        self.check_manifests(&records).await?;
        let leftovers = self.vault.leftovers();
        if leftovers.is_empty() { Ok(()) } else { Err(format!("left behind: {leftovers:?}")) }
    }

    async fn check_counts(&self, records: &BTreeMap<String, Record>) -> Checked {
        let rows = self.ledger.checkpoints().await.map_err(|e| e.to_string())?;
        let counted = rows.first().map(|row| row.objects);
        if counted == Some(records.len() as u64) {
            return Ok(());
        }
        Err(format!("{counted:?} objects are counted, and {} are recorded", records.len()))
    }

    fn check_lives(&self, records: &BTreeMap<String, Record>) -> Checked {
        let past = self.outside.past();
        if let Some(stranger) = records.keys().find(|suffix| !past.lives.contains_key(*suffix)) {
            return Err(format!("{stranger:?} was never delivered"));
        }
        for (suffix, life) in &past.lives {
            let (record, key) = (records.get(suffix), self.outside.key(suffix));
            let Some(here) = &life.here else { continue };
            if self.is_before_since(suffix) {
                if record.is_some() {
                    return Err(format!("{suffix:?} is dated before `since`"));
                }
                continue;
            }
            if self.found_after(suffix, here.since).is_none() {
                continue;
            }
            if !record.is_some_and(|record| is_mirrored(&key, record, &here.object, &self.files)) {
                return Err(format!("{suffix:?}, there since {}, is lost: {record:?}", here.since));
            }
        }
        Ok(())
    }

    /// Every file is a version of what was delivered under its key, and has a record unless its row died with us.
    fn check_paths(&self, records: &BTreeMap<String, Record>) -> Checked {
        let past = self.outside.past();
        let mut known: BTreeMap<String, (&str, &Life)> = BTreeMap::new();
        for (suffix, life) in &past.lives {
            let key = self.outside.key(suffix);
            for version in [None].into_iter().chain(life.versions.iter().map(|object| Some(version(object)))) {
                for part in [Part::Object, Part::Metadata] {
                    known.extend(path::of(&key, version.as_deref(), part).map(|path| (path, (suffix.as_str(), life))));
                }
            }
        }
        for (path, bytes) in &self.files {
            let Some((suffix, life)) = known.get(path) else { return Err(format!("{path:?} is nobody's")) };
            let key = self.outside.key(suffix);
            let delivered = match sidecar::parse(bytes).filter(|_| path.ends_with(".json")) {
                Some((of, metadata)) => of == key && life.versions.iter().any(|version| version.metadata == metadata),
                None => life.versions.iter().any(|version| version.bytes == *bytes),
            };
            if !delivered {
                return Err(format!("{path:?} holds what was never delivered"));
            }
            let row_died_with_us = self.died && life.here.is_none();
            if !records.contains_key(*suffix) && !row_died_with_us {
                return Err(format!("{path:?} has no record"));
            }
        }
        Ok(())
    }

    async fn check_alarms(&self, records: &BTreeMap<String, Record>) -> Checked {
        let rows = self.ledger.alarms(ALL).await.map_err(|e| e.to_string())?;
        let past = self.outside.past();
        let raised = |kind: &str, suffix: &str| {
            let key = self.outside.key(suffix);
            rows.iter().any(|alarm| alarm.kind == kind && alarm.subject == key)
        };
        for AlarmRow { kind, subject, .. } in &rows {
            let suffix = subject.strip_prefix(&self.outside.stream.prefix).unwrap_or_default();
            let Some(life) = past.lives.get(suffix) else { return Err(format!("{kind} of {subject:?}?")) };
            let is_just = match kind.as_str() {
                "vanished" => life.was_removed,
                "replaced" => life.was_rewritten(),
                "conflict" => self.died && (life.was_rewritten() || self.outside.stream.kind.keeps_metadata),
                "malformed" => life.versions.iter().any(|object| is_broken(suffix, object)),
                _ => false,
            };
            if !is_just {
                return Err(format!("{suffix:?} did not deserve the alarm {kind:?}"));
            }
        }
        for (suffix, life) in &past.lives {
            let Some(record) = records.get(suffix) else { continue };
            if life.here.is_none() && self.rules.retention.is_none() && !(record.gone && raised("vanished", suffix)) {
                return Err(format!("{suffix:?} vanished without an alarm: {record:?}"));
            }
            if life.here.is_some() && record.gone {
                return Err(format!("{suffix:?} is back, and recorded as gone"));
            }
            let key = self.outside.key(suffix);
            let first = self.files.get(&path_of(&key, &Record { later: false, ..record.clone() }));
            if record.later && first.is_some() && !raised("replaced", suffix) && !raised("conflict", suffix) {
                return Err(format!("{suffix:?} has another version without an alarm"));
            }
            let broken =
                |object: &Object| is_broken(suffix, object) && content::of(&object.bytes, true).sha256 == record.sha256;
            if life.versions.iter().any(broken) && !raised("malformed", suffix) {
                return Err(format!("{suffix:?} is broken without an alarm"));
            }
        }
        Ok(())
    }

    /// Old days are sealed, their files stand beside the copy too, and they count what they hold.
    async fn check_manifests(&self, records: &BTreeMap<String, Record>) -> Checked {
        let (stream, id) = (&self.outside.stream, self.progress.id);
        let now = self.outside.past().now;
        let open = Day::at(shift(now, -i64::from(self.rules.ledger_days) * DAY))..=Day::at(shift(now, 25 * HOUR));
        let left = self.ledger.days_outside(stream, id, open).await.map_err(|e| e.to_string())?;
        if !left.is_empty() {
            return Err(format!("old days that are not sealed: {left:?}"));
        }
        for sealed in self.ledger.sealed_days(stream, id, Day::ODD, ALL).await.map_err(|e| e.to_string())? {
            self.tally.count("sealed");
            self.tally.add("sealed again", u64::from(sealed.generations.last > 1));
            let held = records.keys().filter(|suffix| stream.pack(suffix).0 == sealed.day).count();
            let lines = self.manifests.read(stream, sealed.day, sealed.generations).map_err(|e| e.to_string())?.count();
            if sealed.objects != lines as u64 || lines > held {
                return Err(format!("{}: {held} held, {lines} lines, {} counted", sealed.day, sealed.objects));
            }
            let name = format!("manifests/{}", file_name(stream, sealed.day, sealed.generations.last));
            let ours = std::fs::read(self.manifests.path(stream, sealed.day, sealed.generations.last)).ok();
            if ours.is_none() || self.vault.kept(&name) != ours {
                return Err(format!("{name} beside the copy is not ours"));
            }
        }
        Ok(())
    }

    /// How long after it came, at most, a key is listed; `None`: never, as `since` says.
    fn found_after(&self, suffix: &str, since: Timestamp) -> Option<i64> {
        if self.is_before_since(suffix) || self.is_out_of_reach(suffix) {
            return None;
        }
        let poll = &self.rules.poll;
        let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).expect("small");
        if self.is_within(suffix, since, seconds(poll.min_window)) {
            return Some(0);
        }
        let tier = poll.tiers.iter().find(|tier| self.is_within(suffix, since, seconds(tier.depth)));
        let is_tail = suffix >= self.outside.stream.bound(shift(since, 25 * HOUR)).as_str();
        Some(match tier {
            Some(tier) => seconds(tier.every),
            None if is_tail => seconds(poll.tail_every),
            None => seconds(poll.full_every),
        })
    }

    fn is_within(&self, suffix: &str, since: Timestamp, depth: i64) -> bool {
        let stream = &self.outside.stream;
        suffix > stream.bound(shift(since, -depth)).as_str() && suffix < stream.bound(shift(since, 25 * HOUR)).as_str()
    }

    fn is_before_since(&self, suffix: &str) -> bool {
        self.rules.since.is_some_and(|since| self.outside.stream.dated(suffix).is_some_and(|dated| dated < since))
    }

    /// Keys that sort among the days before `since` are not listed.
    fn is_out_of_reach(&self, suffix: &str) -> bool {
        suffix >= "0" && self.rules.since.is_some_and(|since| suffix <= self.outside.stream.bound(since).as_str())
    }

    pub async fn records(&self) -> Checked<BTreeMap<String, Record>> {
        let mut walk = Records::from(&self.ledger, &self.manifests, &self.outside.stream, self.progress.id, "");
        let mut records = BTreeMap::new();
        while let Some(record) = walk.next().await.map_err(|e| e.to_string())? {
            if records.last_key_value().is_some_and(|(last, _)| *last >= record.suffix) {
                return Err(format!("the records come out of order at {:?}", record.suffix));
            }
            records.insert(record.suffix.clone(), record);
        }
        Ok(records)
    }

    async fn failing(&self) -> Checked<BTreeSet<String>> {
        let rows = self.ledger.quarantine(ALL).await.map_err(|e| e.to_string())?;
        self.tally.add("quarantined", rows.iter().filter(|row| row.quarantined).count() as u64);
        Ok(rows.into_iter().map(|row| row.key).collect())
    }

    fn files_now(&self) -> BTreeMap<String, Vec<u8>> {
        self.vault.files()
    }
}

fn is_mirrored(key: &str, record: &Record, object: &Object, files: &BTreeMap<String, Vec<u8>>) -> bool {
    let etag: &ETag = &object.etag;
    record.etag == *etag && !record.gone && files.get(&path_of(key, record)).is_some_and(|bytes| *bytes == object.bytes)
}

fn path_of(key: &str, record: &Record) -> String {
    path::of(key, record.version().as_deref(), Part::Object).expect("a version of ours has sixteen digits")
}

fn version(object: &Object) -> String {
    version_of(&content::of(&object.bytes, false).sha256)
}

fn is_broken(suffix: &str, object: &Object) -> bool {
    suffix.ends_with(".gz") && matches!(content::of(&object.bytes, true).gzip, Gzip::Broken(_))
}
