//! What must hold after a calm end: everything that was ever there is accounted for.

use std::collections::{BTreeMap, BTreeSet};

use trailsync::content;
use trailsync::destination::sidecar;
use trailsync::ledger::AlarmRow;
use trailsync::object::Gzip;
use trailsync::path::{self, Part};
use trailsync::record::{Record, version_of};
use trailsync::source::memory::Object;

use super::bucket::{Bucket, Vault};
use super::check::{ALL, Present, is_mirrored, path_of};
use super::outside::Life;
use super::world::{Checked, World};

impl<B: Bucket, V: Vault> World<B, V> {
    pub async fn check_everything(&mut self) -> Checked {
        self.before = Present::default();
        let now = self.present().await?;
        self.check_records(&now)?;
        self.check_counters(&now)?;
        if !now.failing.is_empty() {
            return Err(format!("still failing: {:?}", now.failing));
        }
        self.check_lives(&now)?;
        self.check_paths(&now)?;
        let alarms = self.ledger.alarms(ALL).await.map_err(|e| e.to_string())?;
        self.check_alarms_are_just(&alarms)?;
        self.check_alarms_are_raised(&now, &alarms)?;
        self.check_manifests(&now).await?;
        let leftovers = self.vault.leftovers();
        if leftovers.is_empty() { Ok(()) } else { Err(format!("left behind: {leftovers:?}")) }
    }

    fn check_lives(&self, now: &Present) -> Checked {
        for (suffix, life) in &self.outside.past().lives {
            let Some(here) = life.here.as_ref().filter(|here| self.found_after(suffix, here.since).is_some()) else {
                continue;
            };
            let (record, key) = (now.records.get(suffix), self.outside.key(suffix));
            if !record.is_some_and(|record| is_mirrored(&key, record, &here.object, &now.files)) {
                return Err(format!("{suffix:?}, there since {}, is lost: {record:?}", here.since));
            }
        }
        Ok(())
    }

    /// Every file is a version of what was delivered under its key, and has a record unless its row died with us.
    fn check_paths(&self, now: &Present) -> Checked {
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
        for (path, bytes) in &now.files {
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
            if !now.records.contains_key(*suffix) && !row_died_with_us {
                return Err(format!("{path:?} has no record"));
            }
        }
        Ok(())
    }

    /// None is raised for nothing, or more often than there was a reason.
    fn check_alarms_are_just(&self, rows: &[AlarmRow]) -> Checked {
        let past = self.outside.past();
        for AlarmRow { kind, subject, count, .. } in rows {
            let suffix = subject.strip_prefix(&self.outside.stream.prefix).unwrap_or_default();
            let Some(life) = past.lives.get(suffix) else { return Err(format!("{kind} of {subject:?}?")) };
            let reasons = match kind.as_str() {
                // A listing before it went may show another version, which is gone when it is asked for; then the
                // record is found to be gone, too.
                // A service whose clock is years behind cannot be told that anything expired.
                "vanished" if self.service_was_wrong => 2 * life.removals,
                "vanished" => 2 * life.early_removals,
                "replaced" => life.rewrites(),
                // Each time that it is tried again.
                "conflict" if self.died && (life.rewrites() > 0 || self.outside.stream.kind.keeps_metadata) => u64::MAX,
                "malformed" => life.versions.iter().filter(|object| is_broken(suffix, object)).count() as u64,
                _ => 0,
            };
            if *count > reasons {
                return Err(format!("{suffix:?} did not deserve the alarm {kind:?} {count} times, but {reasons}"));
            }
        }
        Ok(())
    }

    fn check_alarms_are_raised(&self, now: &Present, rows: &[AlarmRow]) -> Checked {
        let past = self.outside.past();
        for (suffix, life) in &past.lives {
            let (Some(record), key) = (now.records.get(suffix), self.outside.key(suffix)) else { continue };
            let raised = |kind: &str| {
                let of = |alarm: &&AlarmRow| alarm.kind == kind && alarm.subject == key;
                rows.iter().find(of).map_or(0, |alarm| alarm.count)
            };
            let gone = life.gone.is_some();
            let first = now.files.get(&path_of(&key, &Record { later: false, ..record.clone() }, Part::Object));
            let broken =
                |object: &Object| is_broken(suffix, object) && content::of(&object.bytes, true).sha256 == record.sha256;
            let missed = self.missed.get(suffix).copied().unwrap_or_default();
            let why = match () {
                () if gone && self.rules.retention.is_none() && !record.gone => "it is gone, and not known to be",
                () if raised("vanished") < missed => "it vanished without an alarm",
                () if !gone && record.gone => "it is back, and recorded as gone",
                () if raised("replaced") + 1 < life.mirrored.len() as u64 => "it was replaced without an alarm",
                () if record.later && first.is_some() && raised("replaced") + raised("conflict") == 0 => {
                    "it has another version without an alarm"
                }
                () if life.versions.iter().any(broken) && raised("malformed") == 0 => "it is broken without an alarm",
                () => continue,
            };
            return Err(format!("of {suffix:?}: {why}: {record:?}"));
        }
        let known: BTreeSet<&str> = ["vanished", "replaced", "malformed", "conflict"].into();
        match rows.iter().find(|alarm| !known.contains(alarm.kind.as_str())) {
            None => Ok(()),
            Some(alarm) => Err(format!("an alarm that nobody knows: {alarm:?}")),
        }
    }
}

fn version(object: &Object) -> String {
    version_of(&content::of(&object.bytes, false).sha256)
}

fn is_broken(suffix: &str, object: &Object) -> bool {
    suffix.ends_with(".gz") && matches!(content::of(&object.bytes, true).gzip, Gzip::Broken(_))
}
