//! What must hold of sealed days: only old ones are, and nothing is lost by it.

use std::collections::BTreeMap;

use trailsync::clock::shift;
use trailsync::layout::Day;
use trailsync::ledger::SealedDay;
use trailsync::manifest::{Entries, file_name, sha256};
use trailsync::record::Record;

use super::bucket::{Bucket, Vault};
use super::check::{ALL, Over, Present};
use super::history::{DAY, HOUR};
use super::world::{Checked, World};

/// Beyond this the clocks disagree.
const SKEW: i64 = 300;

impl<B: Bucket, V: Vault> World<B, V> {
    /// A turn seals days that are old or far ahead, and none while the clocks disagree.
    pub fn check_seals(&self, now: &Present, over: &Over) -> Checked {
        let old = shift(over.began, -i64::from(self.rules.ledger_days) * DAY);
        let open = Day::at(old)..=Day::at(shift(over.began, 25 * HOUR));
        for (day, generation) in &now.sealed {
            let before = self.before.sealed.get(day);
            if before > Some(generation) {
                return Err(format!("{day}: generation {generation} after {before:?}"));
            }
            if before == Some(generation) {
                continue;
            }
            if over.happened.lists == 0 {
                return Err(format!("{day} was sealed, and nobody was asked for the time"));
            }
            if open.contains(day) {
                return Err(format!("{day} was sealed at {}", over.began));
            }
            let apart = self.ours_ahead.abs().max(self.service_ahead.abs());
            if apart > SKEW {
                return Err(format!("{day} was sealed while the clocks were {apart} s apart"));
            }
        }
        if let Some(day) = self.before.sealed.keys().find(|day| !now.sealed.contains_key(*day)) {
            return Err(format!("{day} was sealed, and is not any more"));
        }
        Ok(())
    }

    /// After a calm end: old days are sealed, and their manifests, here and beside the copy, hold what is recorded.
    pub async fn check_manifests(&self, now: &Present) -> Checked {
        let (stream, id) = (&self.outside.stream, self.progress.id);
        let time = self.outside.past().now;
        let open = Day::at(shift(time, -i64::from(self.rules.ledger_days) * DAY))..=Day::at(shift(time, 25 * HOUR));
        let left = self.ledger.days_outside(stream, id, open).await.map_err(|e| e.to_string())?;
        if !left.is_empty() {
            return Err(format!("old days that are not sealed: {left:?}"));
        }
        let mut days: BTreeMap<Day, BTreeMap<&str, &Record>> = BTreeMap::new();
        for (suffix, record) in &now.records {
            days.entry(stream.pack(suffix).0).or_default().insert(suffix, record);
        }
        for sealed in self.ledger.sealed_days(stream, id, Day::ODD, ALL).await.map_err(|e| e.to_string())? {
            self.tally.count("sealed");
            self.tally.add("sealed again", u64::from(sealed.generations.last > 1));
            self.tally.add("written whole again", u64::from(sealed.generations.first > 1));
            let lines = self.lines(&sealed)?;
            let held = days.remove(&sealed.day).unwrap_or_default();
            let from = (sealed.day, Vec::new());
            let rows = self.ledger.records_from(stream, id, sealed.day == Day::ODD, &from, ALL);
            let rows = rows.await.map_err(|e| e.to_string())?;
            let is_row = |suffix: &str| rows.iter().any(|row| row.suffix == suffix);
            let same = |line: &&Record| held.get(line.suffix.as_str()) == Some(line) || is_row(&line.suffix);
            if let Some(line) = lines.values().find(|line| !same(line)) {
                return Err(format!("{} has a line that is recorded otherwise: {line:?}", sealed.day));
            }
            if let Some(suffix) = held.keys().find(|suffix| !lines.contains_key(**suffix) && !is_row(suffix)) {
                return Err(format!("{suffix:?} is recorded neither in {} nor as a row", sealed.day));
            }
            if sealed.objects != lines.len() as u64 {
                return Err(format!("{}: {} lines, {} counted", sealed.day, lines.len(), sealed.objects));
            }
        }
        self.check_order(&now.sealed)
    }

    /// Every manifest but the one that was written last is named, with its hash, by one that was written after it.
    fn check_order(&self, sealed: &BTreeMap<Day, u32>) -> Checked {
        let (mut hashes, mut named) = (BTreeMap::new(), BTreeMap::new());
        for (day, generation) in sealed.iter().flat_map(|(day, last)| (1..=*last).map(|generation| (*day, generation)))
        {
            let path = self.manifests.path(&self.outside.stream, day, generation);
            let header = Entries::open(&path).map_err(|e| e.to_string())?.header().clone();
            hashes.insert((day, generation), hex::encode(sha256(&std::fs::read(&path).map_err(|e| e.to_string())?)));
            named.extend(header.previous.map(|hash| ((day, generation - 1), hash)));
            named.extend(header.after.map(|after| ((Day(after.day), after.generation), after.sha256)));
        }
        if let Some((which, _)) = named.iter().find(|(which, hash)| hashes.get(which) != Some(hash)) {
            return Err(format!("the manifest {which:?} is named by another hash than it has"));
        }
        let unnamed: Vec<_> = hashes.keys().filter(|which| !named.contains_key(*which)).collect();
        if unnamed.len() > 1 {
            return Err(format!("nothing names the manifests {unnamed:?}"));
        }
        Ok(())
    }

    /// The lines of a day, the latest of each key, once every generation was found whole and in its place.
    fn lines(&self, sealed: &SealedDay) -> Checked<BTreeMap<String, Record>> {
        let (stream, day) = (&self.outside.stream, sealed.day);
        let (mut lines, mut previous) = (BTreeMap::new(), None);
        for generation in 1..=sealed.generations.last {
            let name = format!("manifests/{}", file_name(stream, day, generation));
            let path = self.manifests.path(stream, day, generation);
            let bytes = std::fs::read(&path).map_err(|e| format!("{name}: {e}"))?;
            if self.vault.kept(&name).as_ref() != Some(&bytes) {
                return Err(format!("{name} beside the copy is not ours"));
            }
            let entries = Entries::open(&path).map_err(|e| e.to_string())?;
            let header = entries.header();
            let expected = (day.0, generation, &previous, &stream.prefix);
            if (header.day, header.generation, &header.previous, &header.prefix) != expected {
                return Err(format!("{name} is of {header:?}"));
            }
            let whole = header.whole;
            let held = if whole { std::mem::take(&mut lines) } else { BTreeMap::new() };
            for record in entries {
                let record = record.map_err(|e| e.to_string())?;
                lines.insert(record.suffix.clone(), record);
            }
            if generation == sealed.generations.first && !whole {
                return Err(format!("{name} is the first that counts, and not whole"));
            }
            if let Some(lost) = held.keys().find(|suffix| !lines.contains_key(*suffix)) {
                return Err(format!("{name} is whole, and lacks {lost:?}"));
            }
            previous = Some(hex::encode(sha256(&bytes)));
        }
        match previous == Some(hex::encode(sealed.generations.hash)) {
            true => Ok(lines),
            false => Err(format!("the hash of {day} is another")),
        }
    }
}
