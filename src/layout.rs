//! How each log service names its objects: where to look, from which key on.
//!
//! Rules from "Getting and viewing your CloudTrail log files" and "CloudTrail digest file structure" of the
//! CloudTrail user guide: `[prefix/]AWSLogs/[o-id/]<account>/<kind>/<region>/YYYY/MM/DD/<name>`.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::Offset;

use crate::clock::Timestamp;

/// What the order of names inside a day says about age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Names start with account, kind and region and then the minute of delivery.
    Minute,
    /// Only the day folder says anything: a listing starts at the start of a day.
    Day,
}

/// One kind of log: a folder under the account.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The folder's name.
    pub folder: &'static str,
    /// What key order says about age.
    pub order: Order,
    /// Objects carry their signature in user metadata, which is kept beside the copy.
    pub keeps_metadata: bool,
}

/// Every kind that is known; a new one is one row.
pub const KINDS: [Kind; 5] = [
    Kind { folder: "CloudTrail", order: Order::Minute, keeps_metadata: false },
    Kind { folder: "CloudTrail-Digest", order: Order::Day, keeps_metadata: true },
    Kind { folder: "CloudTrail-Insight", order: Order::Minute, keeps_metadata: false },
    Kind { folder: "CloudTrail-NetworkActivity", order: Order::Day, keeps_metadata: false },
    Kind { folder: "CloudTrail-Aggregated", order: Order::Day, keeps_metadata: false },
];

impl Kind {
    /// The kind of this folder name.
    pub fn named(folder: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.folder == folder)
    }
}

/// The unit of progress: one (source, organization, account, kind, region).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Name of the source.
    pub source: String,
    /// `o-…`, where an organization's trail writes.
    pub organization: Option<String>,
    /// 12 digits.
    pub account: String,
    /// What is logged.
    pub kind: &'static Kind,
    /// The region's folder; another account may have chosen it.
    pub region: String,
    /// The key prefix of all its objects, with a slash at the end.
    pub prefix: String,
    template: String,
}

impl Stream {
    /// The stream at `root` (`[prefix/]AWSLogs/`).
    pub fn new(source: &str, root: &str, org: Option<&str>, account: &str, kind: &'static Kind, region: &str) -> Self {
        let organization = org.map(|org| format!("{org}/")).unwrap_or_default();
        Self {
            source: source.to_owned(),
            organization: org.map(str::to_owned),
            account: account.to_owned(),
            kind,
            region: region.to_owned(),
            prefix: format!("{root}{organization}{account}/{}/{region}/", kind.folder),
            template: format!("{account}_{}_{region}_", kind.folder),
        }
    }

    /// The stream that a key under `root` belongs to; `None` for keys outside of every known kind.
    pub fn of_key(source: &str, root: &str, key: &str) -> Option<Self> {
        let mut parts = key.strip_prefix(root)?.split('/');
        let first = parts.next()?;
        let (organization, account) = if is_organization(first) { (Some(first), parts.next()?) } else { (None, first) };
        let (kind, region) = (Kind::named(parts.next()?)?, parts.next()?);
        let (is_stream, in_folder) = (is_account(account), parts.next().is_some());
        (is_stream && in_folder).then(|| Self::new(source, root, organization, account, kind, region))
    }

    /// What follows the stream's prefix in a key, or `None` for a key of another stream.
    pub fn suffix<'k>(&self, key: &'k str) -> Option<&'k str> {
        key.strip_prefix(&self.prefix)
    }

    /// The suffix that sorts after everything dated before `time` and before everything dated at it or later.
    ///
    /// For kinds ordered by day it is the start of that day.
    pub fn bound(&self, time: Timestamp) -> String {
        let utc = Offset::UTC.to_datetime(time);
        let day = format!("{:04}/{:02}/{:02}/", utc.year(), utc.month(), utc.day());
        match self.kind.order {
            Order::Day => day,
            Order::Minute => format!(
                "{day}{}{:04}{:02}{:02}T{:02}{:02}",
                self.template,
                utc.year(),
                utc.month(),
                utc.day(),
                utc.hour(),
                utc.minute()
            ),
        }
    }

    /// The time in an object's name, to the minute or second that it tells; `None` for an odd name.
    pub fn dated(&self, suffix: &str) -> Option<Timestamp> {
        let day = Day::of(suffix)?;
        let name = &suffix[Day::FOLDER..];
        match name.strip_prefix(&self.template).and_then(name_time) {
            Some(time) => Some(time),
            None => last_name_time(name).or_else(|| day.start()),
        }
    }

    /// A suffix as the ledger keeps it: day and name, in the same order, without what the stream repeats.
    pub fn pack(&self, suffix: &str) -> (Day, Vec<u8>) {
        let Some(day) = Day::of(suffix) else { return (Day::ODD, suffix.as_bytes().to_vec()) };
        let name = &suffix[Day::FOLDER..];
        let (class, rest) = match name.strip_prefix(&self.template) {
            Some(rest) => (PLAIN, rest),
            None if name < self.template.as_str() => (BEFORE, name),
            None => (AFTER, name),
        };
        (day, [&[class], rest.as_bytes()].concat())
    }

    /// Where in packed order the suffixes from `from` on begin, among dated ones and among odd ones.
    pub fn places_from(&self, from: &str) -> [(Day, Vec<u8>); 2] {
        let odd = (Day::ODD, from.as_bytes().to_vec());
        let dated = match self.pack(from) {
            (Day::ODD, _) => (Day::first_after(from), Vec::new()),
            place => place,
        };
        [dated, odd]
    }

    /// The inverse of [`Stream::pack`]; `None` for bytes that it cannot have made.
    pub fn unpack(&self, day: Day, name: &[u8]) -> Option<String> {
        if day == Day::ODD {
            return String::from_utf8(name.to_vec()).ok();
        }
        let (class, rest) = name.split_first()?;
        let rest = std::str::from_utf8(rest).ok()?;
        let template = if *class == PLAIN { self.template.as_str() } else { "" };
        Some(format!("{}{template}{rest}", day.folder()))
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.source)?;
        if let Some(organization) = &self.organization {
            write!(f, "{organization}/")?;
        }
        write!(f, "{}/{}/{}", self.account, self.kind.folder, crate::key::Shown(&self.region))
    }
}

// Days from 0001-01-01 to 9999-12-31.
const DAYS: i32 = 3_652_059;

// Name classes of a packed day: they keep names that do not start with the template on their side of it.
const BEFORE: u8 = 0;
const PLAIN: u8 = 1;
const AFTER: u8 = 2;

/// A UTC day as the number YYYYMMDD; [`Day::ODD`] stands for keys without a valid day folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// Keys without a valid `YYYY/MM/DD/` folder.
    pub const ODD: Day = Day(0);
    const FOLDER: usize = "YYYY/MM/DD/".len();

    /// The day of a suffix that starts with a valid `YYYY/MM/DD/`.
    pub fn of(suffix: &str) -> Option<Day> {
        let bytes = suffix.as_bytes().get(..Self::FOLDER)?;
        let [y1, y2, y3, y4, b'/', m1, m2, b'/', d1, d2, b'/'] = bytes else { return None };
        let number = decimal(&[*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2])?;
        let day = Day(number);
        day.date().map(|_| day)
    }

    /// The day at a time.
    pub fn at(time: Timestamp) -> Day {
        let utc = Offset::UTC.to_datetime(time);
        Day(i32::from(utc.year()) * 10_000 + i32::from(utc.month()) * 100 + i32::from(utc.day()))
    }

    /// Its first moment.
    pub fn start(self) -> Option<Timestamp> {
        Offset::UTC.to_timestamp(self.date()?.at(0, 0, 0, 0)).ok()
    }

    /// `YYYY/MM/DD/`, or nothing for odd keys.
    pub fn folder(self) -> String {
        match self {
            Day::ODD => String::new(),
            Day(n) => format!("{:04}/{:02}/{:02}/", n / 10_000, n / 100 % 100, n % 100),
        }
    }

    /// The first day whose folder sorts after `text`, which is in no day folder.
    fn first_after(text: &str) -> Day {
        let (mut low, mut high) = (0_i64, i64::from(DAYS));
        while low < high {
            let middle = (low + high) / 2;
            if Day::nth(middle).folder().as_str() > text { high = middle } else { low = middle + 1 }
        }
        Day::nth(low)
    }

    /// The n-th day from the start of year 1; a day after all others past the end of year 9999.
    fn nth(n: i64) -> Day {
        let first = Date::constant(1, 1, 1);
        let date = (n < i64::from(DAYS)).then(|| first.checked_add(jiff::Span::new().days(n)).ok()).flatten();
        date.map_or(Day(100_000_000), |d| {
            Day(i32::from(d.year()) * 10_000 + i32::from(d.month()) * 100 + i32::from(d.day()))
        })
    }

    fn date(self) -> Option<Date> {
        let (year, month, day) = (self.0 / 10_000, self.0 / 100 % 100, self.0 % 100);
        Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok().filter(|_| year > 0)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Day::ODD => f.write_str("odd"),
            Day(n) => write!(f, "{:04}-{:02}-{:02}", n / 10_000, n / 100 % 100, n % 100),
        }
    }
}

fn decimal(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0_i32, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i32::from(digit - b'0')))
}

/// The time at the start of a name: `YYYYMMDDTHHmmZ` or `YYYYMMDDTHHmmSSZ`.
fn name_time(name: &str) -> Option<Timestamp> {
    let (digits, _) = name.split_once('Z')?;
    let (date, time) = digits.split_once('T')?;
    if date.len() != 8 || !matches!(time.len(), 4 | 6) {
        return None;
    }
    let day = Day(decimal(date.as_bytes())?).date()?;
    let part = |at: usize| decimal(time.as_bytes().get(at..at + 2)?).and_then(|n| i8::try_from(n).ok());
    let second = if time.len() == 6 { part(4)? } else { 0 };
    let time = jiff::civil::Time::new(part(0)?, part(2)?, second, 0).ok()?;
    Offset::UTC.to_timestamp(day.to_datetime(time)).ok()
}

/// The time at the end of a digest's name, which may hold any number of `_` before it.
fn last_name_time(name: &str) -> Option<Timestamp> {
    name.rsplit('_').find_map(name_time)
}

/// What a folder under `AWSLogs/` is.
#[derive(Debug, PartialEq, Eq)]
pub enum Folder<'f> {
    /// Twelve digits.
    Account(&'f str),
    /// `o-` and 10 to 32 letters and digits.
    Organization(&'f str),
    /// Anything else: counted and reported.
    Unknown(&'f str),
}

impl<'f> Folder<'f> {
    /// Tells what a folder directly under `AWSLogs/` (or under an organization) is.
    pub fn of(name: &'f str) -> Self {
        if is_account(name) {
            Self::Account(name)
        } else if is_organization(name) {
            Self::Organization(name)
        } else {
            Self::Unknown(name)
        }
    }
}

/// Twelve digits.
pub fn is_account(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|b| b.is_ascii_digit())
}

/// `o-` and 10 to 32 lower-case letters and digits (`API_Organization` of the Organizations reference).
pub fn is_organization(name: &str) -> bool {
    name.strip_prefix("o-").is_some_and(|id| {
        (10..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

/// `[prefix/]AWSLogs/`, under which everything is found.
pub fn root(prefix: &str) -> String {
    if prefix.is_empty() { "AWSLogs/".into() } else { format!("{prefix}/AWSLogs/") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(kind: &str) -> Stream {
        Stream::new("prod", "AWSLogs/", None, "222222222222", Kind::named(kind).unwrap(), "us-east-1")
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_bound_of_a_minute_sorts_before_its_siblings_and_after_the_minute_before() {
        let stream = stream("CloudTrail");
        let bound = stream.bound(time("2023-07-10T12:05:30Z"));
        assert_eq!(bound, "2023/07/10/222222222222_CloudTrail_us-east-1_20230710T1205");
        assert!(*bound < *"2023/07/10/222222222222_CloudTrail_us-east-1_20230710T1205Z_1dM7GQM67kudSyGD.json.gz");
        assert!(*bound > *"2023/07/10/222222222222_CloudTrail_us-east-1_20230710T1204Z_zzzzzzzzzzzzzzzz.json.gz");
    }

    #[test]
    fn digests_are_listed_from_the_start_of_a_day_and_tell_their_second() {
        let stream = stream("CloudTrail-Digest");
        assert_eq!(stream.bound(time("2023-07-10T12:05:30Z")), "2023/07/10/");
        let name = "2023/07/10/222222222222_CloudTrail-Digest_us-east-1_my_trail.v1_eu-west-1_20230710T110507Z_backfill.json.gz";
        assert_eq!(stream.dated(name), Some(time("2023-07-10T11:05:07Z")));
    }

    #[test]
    fn names_tell_their_minute_with_or_without_the_underscore() {
        let stream = stream("CloudTrail");
        let at = Some(time("2014-06-20T12:55:00Z"));
        assert_eq!(
            stream.dated("2014/06/20/222222222222_CloudTrail_us-east-1_20140620T1255ZHdkvFTXOA3Vnhbc.json.gz"),
            at
        );
        assert_eq!(
            stream.dated("2014/06/20/222222222222_CloudTrail_us-east-1_20140620T1255Z_HdkvFTXOA3Vnhbc.json.gz"),
            at
        );
        assert_eq!(stream.dated("2014/06/20/notes.txt"), Some(time("2014-06-20T00:00:00Z")));
        assert_eq!(stream.dated("2014/06/31/notes.txt"), None);
        assert_eq!(stream.dated("notes.txt"), None);
    }

    #[test]
    fn a_key_tells_its_stream() {
        let of = |key| Stream::of_key("prod", "p/AWSLogs/", key).map(|stream| stream.to_string());
        let plain = "p/AWSLogs/222222222222/CloudTrail/us-east-1/2023/07/10/a.json.gz";
        assert_eq!(of(plain).as_deref(), Some("prod/222222222222/CloudTrail/us-east-1"));
        let organization = "p/AWSLogs/o-abcdefghij/222222222222/CloudTrail-Digest/us-east-1/x";
        assert_eq!(of(organization).as_deref(), Some("prod/o-abcdefghij/222222222222/CloudTrail-Digest/us-east-1"));
        assert_eq!(of("p/AWSLogs/222222222222/Config/us-east-1/2023/x"), None);
        assert_eq!(of("p/AWSLogs/222222222222/CloudTrail/us-east-1"), None);
    }

    #[test]
    fn folders_are_told_apart_by_shape() {
        assert_eq!(Folder::of("012345678901"), Folder::Account("012345678901"));
        assert_eq!(Folder::of("o-abcdefghij"), Folder::Organization("o-abcdefghij"));
        assert_eq!(Folder::of("o-short"), Folder::Unknown("o-short"));
        assert_eq!(Folder::of(".."), Folder::Unknown(".."));
    }

    fn suffixes() -> impl Strategy<Value = String> {
        let odd = "[ -~é\u{ffff}/]{0,20}";
        let dated = "20(1|2)[0-9]/(0[1-9]|1[0-9])/[0-3][0-9]/(222222222222_CloudTrail_us-east-1_)?[0-3A-Z_~é]{0,6}";
        prop_oneof![odd, dated]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn packing_loses_nothing_and_keeps_the_order_of_keys(a in suffixes(), b in suffixes()) {
            let stream = stream("CloudTrail");
            let (packed_a, packed_b) = (stream.pack(&a), stream.pack(&b));
            prop_assert_eq!(stream.unpack(packed_a.0, &packed_a.1), Some(a.clone()));
            let [dated, odd] = stream.places_from(&a);
            let place = if packed_b.0 == Day::ODD { odd } else { dated };
            prop_assert_eq!(packed_b >= place, b >= a);
            if (packed_a.0 == Day::ODD) == (packed_b.0 == Day::ODD) {
                prop_assert_eq!(packed_a.cmp(&packed_b), a.as_bytes().cmp(b.as_bytes()));
            }
        }
    }
}
