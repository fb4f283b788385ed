//! What a file that was read again means, compared with what was recorded of it.

use crate::clock::{Timestamp, seconds_between};
use crate::damage::{self, Damage};
use crate::key::Shown;
use crate::ledger::{Alarm, Failure, ScrubRow};
use crate::object::ETag;

/// What reading a file again gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A file with this SHA-256 and length.
    Bytes([u8; 32], u64),
    /// Nothing stands there.
    Nothing,
    /// The storage cannot read it any more, and how it says so.
    Unreadable(String),
}

/// What is wrong with a file, in words that follow its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In one word.
    pub damage: Damage,
    /// What was recorded, and what was found.
    pub why: String,
}

/// Judges an object by the hash that was recorded when it came.
pub fn object(recorded: &[u8; 32], size: u64, read: &Read) -> Option<Finding> {
    let (damage, found) = match read {
        Read::Bytes(found, _) if found == recorded => return None,
        Read::Bytes(found, size) => (Damage::Rotten, format!("found SHA-256 {} in {size} bytes", hex::encode(found))),
        Read::Nothing => (Damage::Lost, "found nothing".to_owned()),
        Read::Unreadable(why) => (Damage::Rotten, format!("it cannot be read: {why}")),
    };
    Some(Finding { damage, why: format!("recorded SHA-256 {} in {size} bytes, {found}", hex::encode(recorded)) })
}

/// Judges the metadata beside an object: by their form, and by whether the signature in them holds where that is known.
pub fn metadata(kept: Option<bool>, is_signed: Option<bool>) -> Option<Finding> {
    let (damage, why) = match (kept, is_signed) {
        (None, _) => (Damage::LostMetadata, "the metadata beside it are gone"),
        (Some(false), _) => (Damage::RottenMetadata, "the metadata beside it are not a file that trailsync wrote"),
        (Some(true), Some(false)) => {
            (Damage::RottenMetadata, "its bytes are those that came, and the signature beside it does not fit them")
        }
        (Some(true), _) => return None,
    };
    Some(Finding { damage, why: why.to_owned() })
}

/// Where a manifest can be had from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manifest {
    /// Both files are as recorded.
    Whole,
    /// The one beside the copy is damaged or gone.
    FromState,
    /// The one in the state directory is.
    FromCopy,
    /// Both are.
    Neither,
}

/// Judges the two files of one manifest by their hashes.
pub fn manifest(expected: &[u8; 32], state: Option<[u8; 32]>, copy: Option<[u8; 32]>) -> Manifest {
    match (state.as_ref() == Some(expected), copy.as_ref() == Some(expected)) {
        (true, true) => Manifest::Whole,
        (true, false) => Manifest::FromState,
        (false, true) => Manifest::FromCopy,
        (false, false) => Manifest::Neither,
    }
}

/// Whether a round is under way or due; a time in the future was written under a wrong clock.
pub fn is_due(row: &ScrubRow, every: i64, now: Timestamp) -> bool {
    let rested = |began: Timestamp| seconds_between(began, now) >= every || began > now;
    row.began.is_some() || row.last_began.is_none_or(rested)
}

/// What is said of a damaged object while it is fetched again.
pub fn alarm(key: &str, version: Option<&str>, finding: &Finding) -> Alarm {
    let subject = damage::subject(key, version);
    let what = if finding.damage.alarm() == "lost" { "is not here any more" } else { "is damaged" };
    let detail = format!("the copy of `{}` {what}: {}; it is fetched again by its key", Shown(&subject), finding.why);
    Alarm { kind: finding.damage.alarm(), subject, detail }
}

/// Lets a damaged object be fetched again at once. It is not the source that is late: its age begins now.
pub fn failure(key: &str, finding: &Finding, size: u64, etag: ETag, now: Timestamp) -> Failure {
    Failure {
        key: key.to_owned(),
        size,
        etag,
        modified: now,
        first_failed: now,
        attempts: 0,
        quarantined: false,
        next_try: now,
        code: finding.damage.code().to_owned(),
        reason: format!("`{}` is damaged here and is fetched again by its key: {}", Shown(key), finding.why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recorded_hash_is_whole() {
        let finding = |read: &Read| object(&[1; 32], 7, read).map(|finding| finding.damage);
        assert_eq!(finding(&Read::Bytes([1; 32], 7)), None);
        assert_eq!(finding(&Read::Bytes([2; 32], 7)), Some(Damage::Rotten));
        assert_eq!(finding(&Read::Nothing), Some(Damage::Lost));
        assert_eq!(finding(&Read::Unreadable("EIO".into())), Some(Damage::Rotten));
        let why = object(&[1; 32], 7, &Read::Bytes([2; 32], 6)).unwrap().why;
        assert!(why.contains(&"01".repeat(32)) && why.contains(&"02".repeat(32)) && why.contains("6 bytes"), "{why}");
    }

    #[test]
    fn metadata_are_judged_by_form_and_by_signature() {
        let damage = |kept, signed| metadata(kept, signed).map(|finding| finding.damage);
        assert_eq!(damage(None, None), Some(Damage::LostMetadata));
        assert_eq!(damage(Some(false), None), Some(Damage::RottenMetadata));
        assert_eq!(damage(Some(true), Some(false)), Some(Damage::RottenMetadata));
        assert_eq!(damage(Some(true), Some(true)), None);
        assert_eq!(damage(Some(true), None), None, "no key to judge by");
    }

    #[test]
    fn a_manifest_is_restored_from_the_side_that_has_it() {
        let (good, bad) = (Some([1; 32]), Some([2; 32]));
        assert_eq!(manifest(&[1; 32], good, good), Manifest::Whole);
        assert_eq!(manifest(&[1; 32], good, None), Manifest::FromState);
        assert_eq!(manifest(&[1; 32], bad, good), Manifest::FromCopy);
        assert_eq!(manifest(&[1; 32], bad, bad), Manifest::Neither);
    }

    #[test]
    fn a_round_rests_until_its_time_and_goes_on_where_it_was_left() {
        let at = |seconds| Timestamp::from_second(seconds).ok();
        let row = |began, last_began| ScrubRow { began, last_began, ..ScrubRow::default() };
        let due = |row: &ScrubRow| is_due(row, 100, Timestamp::from_second(1000).unwrap());
        assert!(due(&row(None, None)) && due(&row(at(1), at(999))) && due(&row(None, at(900))));
        assert!(!due(&row(None, at(901))));
        assert!(due(&row(None, at(2000))), "a clock that was wrong");
    }
}
