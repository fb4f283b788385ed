//! The time that the services believe it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::sync::Shared;

/// A clock shared by everything in one [`World`](crate::World): clones show the same time.
///
/// Sessions expire, signatures grow stale and `Date` headers are written by this clock and no
/// other, so a test moves all of AWS by moving it.
#[derive(Clone, Debug)]
pub struct FakeClock(Arc<Shared<Pace>>);

#[derive(Debug, Clone, Copy)]
enum Pace {
    /// The machine's clock, moved by what tests added to it.
    System { offset: SignedDuration },
    /// `rate` fake seconds for each real one since `since`; zero stands still.
    Running { from: Timestamp, since: Instant, rate: f64 },
}

impl Pace {
    fn now(self) -> Timestamp {
        match self {
            Pace::System { offset } => Timestamp::now() + offset,
            Pace::Running { from, since, rate } => from + since.elapsed().mul_f64(rate),
        }
    }
}

impl FakeClock {
    /// Real time.
    pub fn system() -> FakeClock {
        FakeClock::with(Pace::System { offset: SignedDuration::ZERO })
    }

    /// Stands at `at` until it is advanced or set.
    pub fn fixed_at(at: Timestamp) -> FakeClock {
        FakeClock::running(at, 0.0)
    }

    /// Starts at `from` and runs `rate` times as fast as real time.
    pub fn running(from: Timestamp, rate: f64) -> FakeClock {
        FakeClock::with(Pace::Running { from, since: Instant::now(), rate: rate.max(0.0) })
    }

    fn with(pace: Pace) -> FakeClock {
        FakeClock(Arc::new(Shared::new(pace)))
    }

    pub fn now(&self) -> Timestamp {
        self.0.read().now()
    }

    /// Jumps forward; the pace stays as it was.
    pub fn advance(&self, by: Duration) {
        let mut pace = self.0.write();
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        match &mut *pace {
            Pace::System { offset } => *offset = offset.saturating_add(by),
            Pace::Running { from, .. } => *from = from.saturating_add(by).unwrap_or(*from),
        }
    }

    /// Jumps to `at`, forward or back; the pace stays as it was.
    pub fn set(&self, at: Timestamp) {
        let mut pace = self.0.write();
        match &mut *pace {
            Pace::System { offset } => *offset = at.duration_since(Timestamp::now()),
            Pace::Running { from, since, .. } => {
                *from = at;
                *since = Instant::now();
            }
        }
    }
}

/// `Tue, 29 Apr 2014 18:30:38 GMT`, as in `Date` and `Last-Modified`.
pub(crate) fn http_date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// `2014-04-29T18:30:38Z`, as STS and policies write times.
pub(crate) fn iso_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2014-04-29T18:30:38.000Z`, as listings write times.
pub(crate) fn iso_millis(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// `20140429T183038Z`, as signatures and digest names write times.
pub(crate) fn compact(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Reads what [`compact`] writes.
pub(crate) fn parse_compact(text: &str) -> Option<Timestamp> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
}

/// For libraries that know no other time.
pub(crate) fn system_time(at: Timestamp) -> std::time::SystemTime {
    at.try_into().unwrap_or(std::time::SystemTime::UNIX_EPOCH)
}

/// S3 keeps whole seconds only.
pub(crate) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_when_told() {
        let start: Timestamp = "2024-01-02T03:04:05Z".parse().expect("a time");
        let clock = FakeClock::fixed_at(start);
        assert_eq!(clock.now(), start);
        clock.clone().advance(Duration::from_secs(60));
        assert_eq!(iso_seconds(clock.now()), "2024-01-02T03:05:05Z");
        clock.set(start);
        assert_eq!(clock.now(), start);
    }

    #[test]
    fn times_are_written_as_the_services_write_them() {
        let at: Timestamp = "2024-01-02T03:04:05Z".parse().expect("a time");
        assert_eq!(http_date(at), "Tue, 02 Jan 2024 03:04:05 GMT");
        assert_eq!(iso_millis(at), "2024-01-02T03:04:05.000Z");
        assert_eq!(compact(at), "20240102T030405Z");
        assert_eq!(parse_compact("20240102T030405Z"), Some(at));
    }
}
