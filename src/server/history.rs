//! Lag and throughput of the last hours, in memory: of everything together, and of each account. Bounded, and gone with
//! the process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::status::Status;

/// How far back it reaches.
pub const HOURS: i64 = 6;
/// Seconds that one point of an account stands for.
pub const STEP: i64 = 60;
/// Points of a series.
const POINTS: usize = (HOURS * 3600 / STEP) as usize;
/// Accounts that have a series of their own: 12 bytes a point, some 4 KiB an account.
const ACCOUNTS: usize = 2000;

/// What happened in one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Point {
    /// The longest lag that was seen, in seconds; `None` when none was known.
    pub lag: Option<u32>,
    /// Objects that were stored.
    pub objects: u32,
    /// KiB that were stored.
    pub kib: u32,
}

/// Points one step apart, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    points: VecDeque<Point>,
    /// Number of the step of the last point, counted from the epoch.
    last: i64,
    /// Totals when they were looked at last.
    seen: Option<(u64, u64)>,
}

/// The last hours of everything and of each account.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    all: Series,
    accounts: HashMap<(String, String), Series>,
}

impl History {
    /// Takes what a snapshot says; several looks in one step are one point.
    pub fn look(&self, status: &Status) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let progresses = || status.accounts.iter().map(|account| &account.progress);
        let lag = progresses().filter_map(|progress| progress.lag_seconds).max();
        let (objects, bytes) = progresses().fold((0, 0), |(o, b), p| (o + p.objects, b + p.bytes));
        kept.all.look(status.at, lag, objects, bytes);
        for account in &status.accounts {
            let key = (account.source.clone(), super::page::id(account));
            let room = kept.accounts.len() < ACCOUNTS;
            let progress = &account.progress;
            let series = match kept.accounts.get_mut(&key) {
                Some(series) => series,
                None if room => kept.accounts.entry(key).or_default(),
                None => continue,
            };
            series.look(status.at, progress.lag_seconds, progress.objects, progress.bytes);
        }
    }

    /// All accounts together: the longest lag, and the sum of what was stored.
    pub fn all(&self) -> Series {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// Objects a minute of each account of late, by its source and its id within it.
    pub fn rates(&self) -> HashMap<(String, String), f64> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.accounts.iter().map(|(key, series)| (key.clone(), series.rate())).collect()
    }

    /// One account, by its source and its id within it.
    pub fn account(&self, source: &str, id: &str) -> Series {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.accounts.get(&(source.to_owned(), id.to_owned())).cloned().unwrap_or_default()
    }
}

impl Series {
    fn look(&mut self, at: Timestamp, lag: Option<i64>, objects: u64, bytes: u64) {
        let step = at.as_second().div_euclid(STEP);
        self.reach(step);
        // What was stored before the first look is not of this step.
        let (before, bytes_before) = self.seen.replace((objects, bytes)).unwrap_or((objects, bytes));
        let Some(point) = self.points.back_mut() else { return };
        let lag = lag.map(|lag| u32::try_from(lag.max(0)).unwrap_or(u32::MAX));
        point.lag = point.lag.max(lag);
        point.objects = point.objects.saturating_add(narrow(objects.saturating_sub(before)));
        point.kib = point.kib.saturating_add(narrow(bytes.saturating_sub(bytes_before).div_ceil(1024)));
    }

    /// Makes `step` the last; those in which nobody looked are empty. A clock that goes back adds to the last one.
    fn reach(&mut self, step: i64) {
        if self.points.is_empty() {
            (self.points, self.last) = (VecDeque::from([Point::default()]), step);
        }
        let missing = usize::try_from(step - self.last).unwrap_or(0).min(POINTS);
        for _ in 0..missing {
            if self.points.len() == POINTS {
                self.points.pop_front();
            }
            self.points.push_back(Point::default());
        }
        self.last = self.last.max(step);
    }

    /// Objects a minute, over the last five.
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    fn rate(&self) -> f64 {
        let of_late = self.points.iter().rev().take(5);
        let count = of_late.len().max(1) as f64;
        of_late.map(|point| f64::from(point.objects)).sum::<f64>() / count
    }

    /// Each point with the time at which its step began.
    pub fn points(&self) -> impl Iterator<Item = (Timestamp, Point)> {
        let first = self.last + 1 - i64::try_from(self.points.len()).unwrap_or(0);
        let at = move |index: usize| {
            Timestamp::from_second((first + i64::try_from(index).unwrap_or(0)) * STEP).unwrap_or_default()
        };
        self.points.iter().enumerate().map(move |(index, point)| (at(index), *point))
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(600_000 + second).unwrap()
    }

    #[test]
    fn looks_of_one_step_are_one_point_and_what_was_there_before_does_not_count() {
        let mut series = Series::default();
        series.look(at(0), Some(5), 1_000_000, 0);
        series.look(at(10), Some(90), 1_000_007, 2048);
        series.look(at(20), Some(7), 1_000_008, 2049);
        let points: Vec<_> = series.points().collect();
        assert_eq!(points, [(at(0), Point { lag: Some(90), objects: 8, kib: 3 })]);
    }

    #[test]
    fn steps_in_which_nobody_looked_are_empty_and_old_ones_go() {
        let mut series = Series::default();
        series.look(at(0), Some(1), 0, 0);
        series.look(at(3 * STEP), Some(2), 4, 0);
        let points: Vec<_> = series.points().map(|(_, point)| (point.lag, point.objects)).collect();
        assert_eq!(points, [(Some(1), 0), (None, 0), (None, 0), (Some(2), 4)]);
        series.look(at(10_000 * STEP), Some(3), 9, 0);
        assert_eq!(series.points().count(), POINTS);
        assert_eq!(series.points().last(), Some((at(10_000 * STEP), Point { lag: Some(3), objects: 5, kib: 0 })));
    }

    #[test]
    fn the_rate_is_that_of_the_last_minutes() {
        let mut series = Series::default();
        for (minute, objects) in [(0, 0), (1, 10), (2, 30), (3, 30)] {
            series.look(at(minute * STEP), None, objects, 0);
        }
        assert!((series.rate() - 7.5).abs() < 1e-9, "{}", series.rate());
    }

    #[test]
    fn a_clock_that_goes_back_loses_nothing() {
        let mut series = Series::default();
        series.look(at(STEP), Some(1), 5, 0);
        series.look(at(0), Some(1), 9, 0);
        assert_eq!(series.points().map(|(_, point)| point.objects).collect::<Vec<_>>(), [4]);
    }
}
