//! A day in the life of a bucket: what is delivered when, on a clock that may run faster than ours.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde::{Deserialize, Serialize};

use super::control;
use super::keys::Keys;
use super::objects::{Bucket, Entry};

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
const BUSY_EVERY: f64 = 5.0 * MINUTE;

/// How a day goes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Day {
    /// When the clock began to run faster, seconds since 1970.
    pub began: f64,
    /// So many times as fast.
    pub rate: f64,
    /// What is delivered in so many hours at first counts for nothing.
    pub warm_up: f64,
    /// It is over after so many more.
    pub hours: f64,
    /// The part of all deliveries that come late by minutes or hours.
    pub late: f64,
}

/// What kind of stream a log came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Pace {
    /// A delivery every five minutes.
    Busy,
    /// One an hour.
    Hourly,
    /// Nothing, for days; then one log.
    Silent,
}

/// What became of the logs that were delivered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Lags {
    /// By kind of stream: seconds from the delivery to the GET.
    pub seconds: BTreeMap<Pace, Vec<f64>>,
    /// Those of logs that were delivered late, from their delivery on.
    pub late: Vec<f64>,
    /// Logs that were not asked for yet.
    pub pending: u64,
    /// Streams of each kind.
    pub streams: BTreeMap<Pace, u64>,
}

/// The deliveries to come.
pub struct Deliveries {
    day: Day,
    due: BinaryHeap<Reverse<Due>>,
    random: fastrand::Rng,
    made: u64,
    pending: BTreeMap<Vec<u8>, Pending>,
    lags: Lags,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    at: f64,
    pace: Pace,
    late: bool,
}

/// One log, or the next delivery of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    /// Milliseconds since 1970.
    at: i64,
    stream: usize,
    pace: Pace,
    /// A log that is late: the time that it is named after.
    named: Option<i64>,
}

impl Deliveries {
    /// The deliveries of a day on these streams: a tenth is busy, three tenths hourly, the rest silent.
    pub fn new(day: Day, keys: &Keys) -> Self {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut due, mut lags) = (BinaryHeap::new(), Lags::default());
        for stream in 0..keys.streams().len() {
            let pace = match stream % 10 {
                0 => Pace::Busy,
                1..=3 => Pace::Hourly,
                _ => Pace::Silent,
            };
            *lags.streams.entry(pace).or_default() += 1;
            let first = match pace {
                Pace::Busy => random.f64() * BUSY_EVERY,
                Pace::Hourly => random.f64() * HOUR,
                // One silent stream in ten wakes up.
                Pace::Silent if random.u8(..10) == 0 => HOUR * (day.warm_up + random.f64() * (day.hours - 0.5)),
                Pace::Silent => continue,
            };
            due.push(Reverse(Due { at: milliseconds(day.began + first), stream, pace, named: None }));
        }
        Self { day, due, random, made: 0, pending: BTreeMap::new(), lags }
    }

    /// Delivers what is due.
    pub fn advance(&mut self, bucket: &mut Bucket) {
        let now = control::precise();
        while let Some(Reverse(due)) = self.due.peek().copied().filter(|Reverse(due)| due.at <= milliseconds(now)) {
            self.due.pop();
            match due.named {
                Some(named) => self.deliver(bucket, due, named, true),
                None => self.siblings(bucket, due),
            }
        }
    }

    /// A delivery: one to three logs of one minute, of which some come later.
    fn siblings(&mut self, bucket: &mut Bucket, due: Due) {
        let named = due.at / 1_000;
        let count = if due.pace == Pace::Busy { self.random.u64(1..=3) } else { 1 };
        for _ in 0..count {
            if self.random.f64() >= self.day.late {
                self.deliver(bucket, due, named, false);
                continue;
            }
            // One late log in twenty is late by hours.
            let hours = self.random.u8(..20) == 0;
            let late = if hours {
                HOUR * (3.0 + 27.0 * self.random.f64())
            } else {
                MINUTE * (5.0 + 115.0 * self.random.f64())
            };
            self.due.push(Reverse(Due { at: due.at + milliseconds(late), named: Some(named), ..due }));
        }
        let every = match due.pace {
            Pace::Busy => BUSY_EVERY,
            Pace::Hourly => HOUR,
            Pace::Silent => return,
        };
        self.due.push(Reverse(Due { at: due.at + milliseconds(every), ..due }));
    }

    fn deliver(&mut self, bucket: &mut Bucket, due: Due, named: i64, late: bool) {
        self.made += 1;
        let mut key = Vec::new();
        let stream = &bucket.keys.streams()[due.stream];
        bucket.keys.name(
            stream,
            named - named.rem_euclid(60),
            200_000 + self.made % 30_000,
            u64::MAX - self.made,
            &mut key,
        );
        let at = due.at as f64 / 1e3;
        bucket.later.insert(key.clone(), Entry { body: self.made as usize, modified: due.at / 1_000 });
        self.pending.insert(key, Pending { at, pace: due.pace, late });
    }

    /// An object was asked for.
    pub fn fetched(&mut self, key: &[u8]) {
        let Some(Pending { at, pace, late }) = self.pending.remove(key) else { return };
        if at < self.day.began + HOUR * self.day.warm_up {
            return;
        }
        let lag = control::precise() - at;
        match late {
            true => self.lags.late.push(lag),
            false => self.lags.seconds.entry(pace).or_default().push(lag),
        }
    }

    /// What became of them.
    pub fn lags(&mut self) -> &Lags {
        self.lags.pending = self.pending.len() as u64;
        &self.lags
    }
}

fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1e3) as i64
}
