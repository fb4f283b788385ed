//! The names of digests: which trail, which home region, which hour.

use jiff::tz::Offset;

use crate::clock::Timestamp;

/// What the name of a digest says, apart from what its folder says.
///
/// `<account>_CloudTrail-Digest_<region>_<trail>_<home region>_<end>Z[_backfill].json.gz`. Trail names may hold `_`,
/// `-` and `.`: a name is read from both of its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'n> {
    /// The trail's name.
    pub trail: &'n str,
    /// The region in which the trail was made.
    pub home: &'n str,
    /// The end of what it covers.
    pub end: Timestamp,
    /// It names logs that the hour's own digest missed.
    pub backfill: bool,
}

impl<'n> Name<'n> {
    /// Reads the last part of a key in the folder of `account` and `region`; `None` for any other name.
    pub fn of(account: &str, region: &str, file: &'n str) -> Option<Self> {
        let rest = file.strip_prefix(account)?.strip_prefix("_CloudTrail-Digest_")?;
        let rest = rest.strip_prefix(region)?.strip_prefix('_')?.strip_suffix(".json.gz")?;
        let (rest, backfill) = match rest.strip_suffix("_backfill") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (rest, end) = rest.rsplit_once('_')?;
        let (trail, home) = rest.rsplit_once('_')?;
        let is_named = !trail.is_empty() && !home.is_empty();
        is_named.then_some(Self { trail, home, end: compact(end)?, backfill })
    }

    /// The key of the chain's own digest that ends at `end`, in `folder` (`…/CloudTrail-Digest/<region>/`).
    pub fn key(&self, folder: &str, account: &str, region: &str, end: Timestamp) -> String {
        let at = Offset::UTC.to_datetime(end);
        let day = at.strftime("%Y/%m/%d");
        let (trail, home, stamp) = (self.trail, self.home, at.strftime("%Y%m%dT%H%M%SZ"));
        format!("{folder}{day}/{account}_CloudTrail-Digest_{region}_{trail}_{home}_{stamp}.json.gz")
    }
}

/// Reads `YYYYMMDDTHHMMSSZ` and nothing else.
fn compact(text: &str) -> Option<Timestamp> {
    let [date @ .., b'Z'] = text.as_bytes() else { return None };
    let is_compact = date.len() == 15
        && date.iter().enumerate().all(|(i, byte)| if i == 8 { *byte == b'T' } else { byte.is_ascii_digit() });
    if !is_compact {
        return None;
    }
    let written = format!(
        "{}-{}-{}T{}:{}:{}Z",
        text.get(0..4)?,
        text.get(4..6)?,
        text.get(6..8)?,
        text.get(9..11)?,
        text.get(11..13)?,
        text.get(13..15)?
    );
    written.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOLDER: &str = "AWSLogs/111111111111/CloudTrail-Digest/eu-west-1/";

    fn file(trail: &str, tail: &str) -> String {
        format!("111111111111_CloudTrail-Digest_eu-west-1_{trail}_us-east-2_{tail}")
    }

    #[test]
    fn a_trail_name_may_hold_what_separates_the_parts() {
        for trail in ["management", "a_b-c.d", "x_20260101T000000Z", "us-east-1_y", "t_backfill"] {
            let file = file(trail, "20261124T031459Z.json.gz");
            let name = Name::of("111111111111", "eu-west-1", &file).unwrap();
            assert_eq!((name.trail, name.home, name.backfill), (trail, "us-east-2", false));
            assert_eq!(name.end.to_string(), "2026-11-24T03:14:59Z");
            let key = format!("{FOLDER}2026/11/24/{file}");
            assert_eq!(name.key(FOLDER, "111111111111", "eu-west-1", name.end), key);
        }
    }

    #[test]
    fn a_backfill_digest_says_so() {
        let file = file("t", "20261124T030000Z_backfill.json.gz");
        assert!(Name::of("111111111111", "eu-west-1", &file).unwrap().backfill);
    }

    #[test]
    fn other_names_are_no_digest_names() {
        for tail in [
            "20261124T0300Z.json.gz",
            "20261124T030000Z.json",
            "20261324T030000Z.json.gz",
            "2026+124T030000Z.json.gz",
            "x.json.gz",
            "2026é124T03000Z.json.gz",
        ] {
            assert_eq!(Name::of("111111111111", "eu-west-1", &file("t", tail)), None, "{tail}");
        }
        assert_eq!(Name::of("222222222222", "eu-west-1", &file("t", "20261124T030000Z.json.gz")), None);
        assert_eq!(Name::of("111111111111", "eu-west-2", &file("t", "20261124T030000Z.json.gz")), None);
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(file in ".{0,80}", prefix in any::<bool>()) {
            let file = if prefix { format!("111111111111_CloudTrail-Digest_eu-west-1_{file}.json.gz") } else { file };
            let _ = Name::of("111111111111", "eu-west-1", &file);
        }
    }
}
