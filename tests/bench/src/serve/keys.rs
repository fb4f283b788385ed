//! Millions of keys that take no memory: each is computed from its number, in key order.

use serde::{Deserialize, Serialize};

use super::calendar;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// So many of the sixteen characters at a name's end say its place in its minute; the others look random.
const PLACE: usize = 3;
const RANDOM: usize = 13;
const REGIONS: [&str; 17] = [
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// What a bucket holds: streams that are all alike, of logs that were delivered evenly.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shape {
    /// Accounts.
    pub accounts: u64,
    /// Regions of each, at most 17.
    pub regions: usize,
    /// Logs of each stream.
    pub logs: u64,
    /// The first minute, seconds since 1970.
    pub from: i64,
    /// The end of the last.
    pub to: i64,
    /// How names end: `json.gz`.
    pub ending: String,
}

/// The keys of a shape, numbered from 0.
#[derive(Debug)]
pub struct Keys {
    shape: Shape,
    streams: Vec<Prefix>,
    minutes: u64,
}

/// What the keys of a stream have in common.
#[derive(Debug)]
pub struct Prefix {
    /// Up to the date's folder: `AWSLogs/…/`.
    pub folder: String,
    /// From the date's folder to the stamp: `<account>_CloudTrail_<region>_`.
    pub name: String,
    /// Account and region.
    pub account: String,
    /// Its region.
    pub region: &'static str,
}

impl Keys {
    /// The keys of this shape.
    pub fn new(shape: Shape) -> Self {
        let stream = |(account, region): (String, &'static str)| Prefix {
            folder: format!("AWSLogs/{account}/CloudTrail/{region}/"),
            name: format!("{account}_CloudTrail_{region}_"),
            account,
            region,
        };
        let accounts = (0..shape.accounts).map(|number| format!("{}", 222_222_222_222 + number));
        let regions = |account: String| {
            let spread = REGIONS.len() / shape.regions.clamp(1, REGIONS.len());
            // A single region is the one that everybody has.
            let first = if shape.regions == 1 { 13 } else { 0 };
            REGIONS[first..].iter().step_by(spread).take(shape.regions).map(move |region| (account.clone(), *region))
        };
        let streams = accounts.flat_map(regions).map(stream).collect();
        let minutes = ((shape.to - shape.from) / 60).max(1).cast_unsigned();
        Self { streams, minutes, shape }
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.streams.len() as u64 * self.shape.logs
    }

    /// The streams, in key order.
    pub fn streams(&self) -> &[Prefix] {
        &self.streams
    }

    /// Writes the key of a number, which must be below [`Keys::len`].
    pub fn write(&self, number: u64, key: &mut Vec<u8>) {
        let (stream, log) = (number / self.shape.logs, number % self.shape.logs);
        let minute = self.minute(log);
        // The first log of this minute.
        let first = (minute * self.shape.logs).div_ceil(self.minutes);
        let place = log - first;
        self.name(&self.streams[stream as usize], self.at(minute), place, number, key);
    }

    /// Writes a key of a stream, named after a time, the `place`th of its minute.
    pub fn name(&self, stream: &Prefix, named: i64, place: u64, seed: u64, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(stream.folder.as_bytes());
        calendar::folder(named, key);
        key.extend_from_slice(stream.name.as_bytes());
        calendar::stamp(named, key);
        key.push(b'_');
        for exponent in (0..PLACE).rev() {
            key.push(DIGITS[(place / 62_u64.pow(exponent as u32) % 62) as usize]);
        }
        // A number's random part is always the same.
        let mut bits = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for _ in 0..RANDOM {
            bits ^= bits >> 29;
            bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
            key.push(DIGITS[((bits >> 32) % 62) as usize]);
        }
        key.push(b'.');
        key.extend_from_slice(self.shape.ending.as_bytes());
    }

    /// When an object was written: minutes after the time of its name.
    pub fn modified(&self, number: u64) -> i64 {
        self.at(self.minute(number % self.shape.logs)) + 240
    }

    /// The number of the first key that is not below this one.
    pub fn lower_bound(&self, key: &[u8]) -> u64 {
        let (mut from, mut to, mut probe) = (0, self.len(), Vec::with_capacity(160));
        // Most often it is in the stream whose folder it starts with.
        let at = self.streams.partition_point(|stream| stream.folder.as_bytes() <= key);
        if at > 0 && key.starts_with(self.streams[at - 1].folder.as_bytes()) {
            from = (at as u64 - 1) * self.shape.logs;
            to = from + self.shape.logs;
        }
        while from < to {
            let middle = from + (to - from) / 2;
            self.write(middle, &mut probe);
            match probe.as_slice() < key {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        from
    }

    fn minute(&self, log: u64) -> u64 {
        log * self.minutes / self.shape.logs
    }

    fn at(&self, minute: u64) -> i64 {
        self.shape.from + 60 * minute.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(accounts: u64, regions: usize, logs: u64, minutes: i64) -> Keys {
        let from = 1_772_323_200;
        Keys::new(Shape { accounts, regions, logs, from, to: from + 60 * minutes, ending: "json.gz".into() })
    }

    #[test]
    fn keys_rise_with_their_numbers_and_are_found_again() {
        for keys in [keys(1, 1, 5_000, 7), keys(10, 4, 300, 3_000), keys(2, 17, 1_000, 999)] {
            let (mut last, mut key) = (Vec::new(), Vec::new());
            for number in 0..keys.len() {
                keys.write(number, &mut key);
                assert!(last < key, "{} < {}", String::from_utf8_lossy(&last), String::from_utf8_lossy(&key));
                assert_eq!(keys.lower_bound(&key), number);
                last.clone_from(&key);
            }
            assert_eq!(keys.lower_bound(b""), 0);
            assert_eq!(keys.lower_bound(b"AWSLogs/9"), keys.len());
        }
    }

    #[test]
    fn a_key_is_named_as_cloudtrail_names_it() {
        let mut key = Vec::new();
        keys(1, 1, 10, 1_440).write(5, &mut key);
        let key = String::from_utf8(key).expect("text");
        let (named, unique) = key.rsplit_once('_').expect("a unique part");
        let start = "AWSLogs/222222222222/CloudTrail/us-east-1/2026/03/01/222222222222_CloudTrail_us-east-1_";
        assert_eq!(named, format!("{start}20260301T1200Z"));
        assert_eq!(unique.len(), "0123456789abcdef.json.gz".len());
    }
}
