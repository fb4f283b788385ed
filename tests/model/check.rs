//! What must hold after every turn: what is found when, and what is claimed.

use std::collections::BTreeMap;

use trailsync::clock::{Timestamp, seconds_between, shift};
use trailsync::config::Tier;
use trailsync::layout::Day;
use trailsync::ledger::{CheckpointRow, Failure};
use trailsync::mirror::Turn;
use trailsync::object::ETag;
use trailsync::path::{self, Part};
use trailsync::record::Record;
use trailsync::records::Records;
use trailsync::source::memory::Object;

use super::bucket::{Bucket, Vault};
use super::history::{HOUR, MINUTE};
use super::outside::Life;
use super::wire::Happened;
use super::world::{Checked, World};

/// As many rows as a history can have.
pub const ALL: u32 = 100_000;

/// What stands, and what is recorded.
#[derive(Default)]
pub struct Present {
    /// By suffix.
    pub records: BTreeMap<String, Record>,
    /// By suffix.
    pub failing: BTreeMap<String, Failure>,
    /// By path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Generations by sealed day.
    pub sealed: BTreeMap<Day, u32>,
    pub row: Option<CheckpointRow>,
}

/// A turn that is over.
pub struct Over {
    /// The true time of it.
    pub began: Timestamp,
    /// What had happened to the bucket when it began.
    pub order: u64,
    /// It polled, was not told to stop, and left nothing to do.
    pub complete: bool,
    /// What it says of itself; nothing when it died or failed.
    pub turn: Option<Turn>,
    pub happened: Happened,
}

impl<B: Bucket, V: Vault> World<B, V> {
    /// After each turn.
    pub async fn check_turn(&mut self, over: &Over) -> Checked {
        let now = self.present().await?;
        self.check_nothing_is_lost(&now)?;
        self.check_records(&now)?;
        self.check_gone(&now)?;
        self.check_failures(&now)?;
        self.check_counters(&now)?;
        self.check_newest(&now)?;
        self.check_work(&now, over)?;
        self.check_seals(&now, over)?;
        self.check_claims(&now)?;
        if over.complete && self.service_ahead == 0 {
            self.check_found(&now, over)?;
            self.check_progress(&now, over)?;
            self.check_requests(&now)?;
        }
        self.settle_lives(&now);
        self.before = now;
        Ok(())
    }

    /// All that can be seen from outside of the mirror.
    pub async fn present(&self) -> Checked<Present> {
        let (stream, id) = (&self.outside.stream, self.progress.id);
        let failures = self.ledger.failures_between(stream, id, "", "\u{10ffff}\u{10ffff}").await;
        let sealed = self.ledger.sealed_days(stream, id, Day::ODD, ALL).await.map_err(|e| e.to_string())?;
        let rows = self.ledger.checkpoints().await.map_err(|e| e.to_string())?;
        Ok(Present {
            records: self.records().await?,
            failing: failures
                .map_err(|e| e.to_string())?
                .into_iter()
                .map(|failure| (failure.key.strip_prefix(&stream.prefix).unwrap_or(&failure.key).to_owned(), failure))
                .collect(),
            files: self.vault.files(),
            sealed: sealed.into_iter().map(|sealed| (sealed.day, sealed.generations.last)).collect(),
            row: rows.into_iter().next(),
        })
    }

    pub async fn check_quarantine_is_empty(&self) -> Checked {
        let left = self.ledger.quarantine(ALL).await.map_err(|e| e.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(format!("still in quarantine: {left:?}")) }
    }

    /// Everything that is recorded, in its order.
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

    /// After a turn that left nothing to do, all that its tiers promise is mirrored, and what was removed is known.
    fn check_found(&self, now: &Present, over: &Over) -> Checked {
        let (began, backlog) = (over.began, self.backlog.unwrap_or_default());
        let due = |suffix: &str, since: Timestamp, at: u64| {
            let wait = self.found_after(suffix, since.max(self.blurred));
            let waited = seconds_between(since.max(self.blurred), began);
            at <= over.order && wait.is_some_and(|wait| at <= backlog || waited >= wait)
        };
        for (suffix, life) in &self.outside.past().lives {
            let record = now.records.get(suffix);
            if let Some(here) = life.here.as_ref().filter(|here| !here.settled && due(suffix, here.since, here.order))
                && !self.has_outcome(now, suffix, &here.object)
            {
                let since = here.since;
                return Err(format!(
                    "{suffix:?}, there since {since}, is not mirrored after the turn at {began}: {record:?}"
                ));
            }
            if let Some(gone) = life.gone.as_ref().filter(|gone| due(suffix, gone.since, gone.order))
                && !record.is_none_or(|record| record.gone || self.may_expire(record.modified, began))
            {
                return Err(format!("{suffix:?}, gone since {}, is not known to be at {began}", gone.since));
            }
        }
        Ok(())
    }

    /// `listed_through` claims: whatever could be listed before that time, named at most `min_window` before and 25 h
    /// after the time at which it came, has an outcome. It never claims what is still to come, and takes nothing back.
    fn check_claims(&self, now: &Present) -> Checked {
        let Some(through) = self.progress.checkpoint.listed_through else { return Ok(()) };
        let past = self.outside.past();
        if through > past.now {
            return Err(format!("listed through {through}, and it is {}", past.now));
        }
        let before = self.before.row.as_ref().and_then(|row| row.listed_through);
        if !self.service_was_wrong && before.is_some_and(|before| before > through) {
            return Err(format!("listed through {through}, and {before:?} before"));
        }
        let window = seconds(self.rules.poll.min_window);
        for (suffix, life) in &past.lives {
            let Some(here) = life.here.as_ref().filter(|here| !here.settled && here.since < through) else { continue };
            let is_claimed = self.is_within(suffix, here.since, window) && !self.is_before_since(suffix);
            // Failing for the first times is no outcome yet; what was once in quarantine had one.
            let is_failing = now.failing.contains_key(suffix) && !self.quarantined.contains(suffix);
            if is_claimed && (is_failing || !self.has_outcome(now, suffix, &here.object)) {
                let record = now.records.get(suffix);
                return Err(format!(
                    "listed through {through}, but {suffix:?} of {} has no outcome: {record:?}",
                    here.since
                ));
            }
        }
        Ok(())
    }

    /// While nothing fails and the clocks are right, what is claimed keeps up with what is done.
    fn check_progress(&self, now: &Present, over: &Over) -> Checked {
        let failing = |present: &Present| present.row.as_ref().is_none_or(|row| row.failing > 0);
        let before = self.before.row.as_ref().and_then(|row| row.listed_through);
        let is_recent = before.is_some_and(|before| seconds_between(before, over.began) <= 26 * HOUR);
        // After a day and more, or a wrong clock, no poll makes up for all: a tier does, which is due a little later.
        let lag = if is_recent && !self.clock_was_wrong { 0 } else { 15 * MINUTE };
        let right_since = self.clocks_set.max(self.blurred);
        let steady = self.ours_ahead == 0 && seconds_between(right_since, over.began) >= 15 * MINUTE;
        if !steady || failing(now) || failing(&self.before) {
            return Ok(());
        }
        let through = now.row.as_ref().and_then(|row| row.listed_through);
        if through.is_some_and(|through| through >= shift(over.began, -lag)) {
            return Ok(());
        }
        Err(format!("listed through {through:?} only, after a turn at {} that left nothing to do", over.began))
    }

    /// Notes what is seen to be mirrored.
    fn settle_lives(&self, now: &Present) {
        for (suffix, life) in &mut self.outside.past().lives {
            let Some(here) = life.here.as_mut().filter(|here| !here.settled) else { continue };
            let record = now.records.get(suffix);
            let key = self.outside.key(suffix);
            here.settled = record.is_some_and(|record| is_mirrored(&key, record, &here.object, &now.files));
            if let Some(record) = record.filter(|_| here.settled)
                && life.mirrored.last() != Some(&record.sha256)
            {
                life.mirrored.push(record.sha256);
            }
        }
    }

    fn has_outcome(&self, now: &Present, suffix: &str, object: &Object) -> bool {
        let mirrored = |record| is_mirrored(&self.outside.key(suffix), record, object, &now.files);
        now.failing.contains_key(suffix) || now.records.get(suffix).is_some_and(mirrored)
    }

    /// How long after it came, at most, a key is listed; `None`: never, as `since` says.
    pub fn found_after(&self, suffix: &str, since: Timestamp) -> Option<i64> {
        if self.is_before_since(suffix) || self.is_out_of_reach(suffix) {
            return None;
        }
        let poll = &self.rules.poll;
        if self.is_within(suffix, since, seconds(poll.min_window)) {
            return Some(0);
        }
        let reaches = |tier: &&Tier| self.is_within(suffix, since, seconds(tier.depth));
        let is_tail = suffix >= self.outside.stream.bound(shift(since, 25 * HOUR)).as_str();
        Some(match poll.tiers.iter().find(reaches) {
            Some(tier) => seconds(tier.every),
            None if is_tail => seconds(poll.tail_every),
            None => seconds(poll.full_every),
        })
    }

    fn is_within(&self, suffix: &str, since: Timestamp, depth: i64) -> bool {
        let stream = &self.outside.stream;
        suffix > stream.bound(shift(since, -depth)).as_str() && suffix < stream.bound(shift(since, 25 * HOUR)).as_str()
    }

    pub fn is_before_since(&self, suffix: &str) -> bool {
        self.rules.since.is_some_and(|since| self.outside.stream.dated(suffix).is_some_and(|dated| dated < since))
    }

    /// Keys that sort among the days before `since` are not listed.
    fn is_out_of_reach(&self, suffix: &str) -> bool {
        suffix >= "0" && self.rules.since.is_some_and(|since| suffix <= self.outside.stream.bound(since).as_str())
    }
}

pub fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).expect("small")
}

pub fn is_mirrored(key: &str, record: &Record, object: &Object, files: &BTreeMap<String, Vec<u8>>) -> bool {
    let etag: &ETag = &object.etag;
    let bytes = || files.get(&path_of(key, record, Part::Object));
    record.etag == *etag && !record.gone && bytes().is_some_and(|bytes| *bytes == object.bytes)
}

pub fn path_of(key: &str, record: &Record, part: Part) -> String {
    path::of(key, record.version().as_deref(), part).expect("a version of ours has sixteen digits")
}

/// What is wrong with a key through the times, or nothing.
pub fn versions_of<'l>(life: &'l Life, record: &'l Record) -> impl Iterator<Item = &'l Object> {
    life.versions.iter().filter(|version| {
        version.etag == record.etag && version.bytes.len() as u64 == record.size && version.modified == record.modified
    })
}
