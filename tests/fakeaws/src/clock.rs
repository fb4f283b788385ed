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
    Running {
        from: Timestamp,
        since: Instant,
        rate: f64,
    },
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
        FakeClock::with(Pace::System {
            offset: SignedDuration::ZERO,
        })
    }

    /// Stands at `at` until it is advanced or set.
    pub fn fixed_at(at: Timestamp) -> FakeClock {
        FakeClock::running(at, 0.0)
    }

    /// Starts at `from` and runs `rate` times as fast as real time.
    pub fn running(from: Timestamp, rate: f64) -> FakeClock {
        FakeClock::with(Pace::Running {
            from,
            since: Instant::now(),
            rate: rate.max(0.0),
        })
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
    let (year, month, day) = civil(at);
    let second = at.as_second().rem_euclid(86_400);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let milli = at.as_nanosecond().div_euclid(1_000_000).rem_euclid(1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// The date by plain arithmetic (Howard Hinnant's `civil_from_days`): a formatter would take most
/// of the time that listing a million keys takes.
pub(crate) fn civil(at: Timestamp) -> (i64, i64, i64) {
    let days = at.as_second().div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
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
    fn dates_by_arithmetic_are_the_formatters() {
        let mut at: Timestamp = "1999-12-31T23:59:59Z".parse().expect("a time");
        for _ in 0..20_000 {
            let (year, month, day) = civil(at);
            let expected = at.strftime("%Y-%m-%d").to_string();
            assert_eq!(format!("{year:04}-{month:02}-{day:02}"), expected);
            assert_eq!(
                iso_millis(at),
                at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
            );
            at += SignedDuration::from_hours(23);
        }
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
