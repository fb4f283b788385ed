//! How often a stream is polled: as often as something comes.
//!
//! A stream to which something is delivered every few minutes is polled at the configured interval; one that brings
//! something every hour several times an hour; a silent one at the longest interval. What counts is when the source
//! stored objects, not what their names say: a name is minutes older than its delivery, and a late one weeks.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::Poll;
use crate::window::SKEW_SECONDS;

/// Polls in the time from one delivery to the next, as far as the configured interval allows.
const POLLS_A_GAP: i64 = 8;
/// What was delivered within so many seconds is one delivery: siblings come together.
const TOGETHER_SECONDS: i64 = 60;
/// What was delivered earlier says nothing about how things are now.
const FRESH_SECONDS: i64 = 26 * 3600;

/// When something came last, and how long it takes from one delivery to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rhythm {
    last: Option<i64>,
    gap: Option<i64>,
}

impl Rhythm {
    /// All that is known after a start: when an object was stored last.
    pub fn since(last_stored: Option<Timestamp>) -> Self {
        Self { last: last_stored.map(Timestamp::as_second), gap: None }
    }

    /// Takes when the source stored objects that are new.
    pub fn delivered(&mut self, rules: &Poll, times: impl Iterator<Item = Timestamp>, now: Timestamp) {
        let is_fresh = |at: &i64| (now.as_second() - FRESH_SECONDS..=now.as_second() + SKEW_SECONDS).contains(at);
        let mut times: Vec<i64> = times.map(Timestamp::as_second).filter(is_fresh).collect();
        times.sort_unstable();
        for at in times {
            let Some(last) = self.last.filter(|last| is_fresh(last)) else {
                (self.last, self.gap) = (Some(at), None);
                continue;
            };
            if at <= last + TOGETHER_SECONDS {
                continue;
            }
            // A silence of any length is left behind within a few deliveries.
            let gap = (at - last).min(seconds(rules.idle_every) * POLLS_A_GAP);
            self.gap = Some(self.gap.map_or(gap, |known| known.midpoint(gap)));
            self.last = Some(at);
        }
    }

    /// How long to wait for the next poll: a part of the usual gap, or of the silence where that is longer.
    pub fn next_poll(&self, rules: &Poll, now: Timestamp) -> Duration {
        let silence = self.last.map_or(i64::MAX, |last| (now.as_second() - last).max(0));
        let wait = self.gap.unwrap_or(0).max(silence) / POLLS_A_GAP;
        let most = rules.idle_every.max(rules.every);
        Duration::from_secs(u64::try_from(wait).unwrap_or(0)).clamp(rules.every, most)
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / POLLS_A_GAP)
}

/// How long to wait for the next poll when it is only known when an object was stored last.
pub fn next_poll(rules: &Poll, last_stored: Option<Timestamp>, now: Timestamp) -> Duration {
    Rhythm::since(last_stored).next_poll(rules, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;

    fn rules() -> Poll {
        let seconds = |seconds| Duration::from_secs(seconds);
        Poll {
            every: seconds(60),
            idle_every: seconds(900),
            min_window: seconds(1200),
            max_window: seconds(7200),
            tiers: vec![],
            full_every: seconds(30 * 86_400),
            tail_every: seconds(86_400),
            discover_every: seconds(3600),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn after(deliveries: &[i64], now: i64) -> u64 {
        let mut rhythm = Rhythm::default();
        rhythm.delivered(&rules(), deliveries.iter().map(|second| at(*second)), at(now));
        rhythm.next_poll(&rules(), at(now)).as_secs()
    }

    #[test]
    fn busy_streams_are_polled_at_the_configured_interval_and_silent_ones_at_the_longest() {
        let busy: Vec<_> = (0..12).map(|n| n * 5 * MINUTE).collect();
        assert_eq!(after(&busy, 56 * MINUTE), 60);
        assert_eq!(after(&[], 0), 900);
        assert_eq!(next_poll(&rules(), None, at(0)).as_secs(), 900);
        assert_eq!(next_poll(&rules(), Some(at(-2 * HOUR)), at(0)).as_secs(), 900);
    }

    #[test]
    fn an_hourly_stream_is_polled_eight_times_an_hour_and_not_more_often_right_after_a_delivery() {
        let hourly: Vec<_> = (0..8).map(|n| n * HOUR).collect();
        assert_eq!(after(&hourly, 7 * HOUR + MINUTE), 450);
        assert_eq!(after(&hourly, 7 * HOUR + 80 * MINUTE), 600, "it is late: it may have become silent");
    }

    #[test]
    fn a_stream_that_awakes_after_a_long_silence_is_soon_polled_as_a_busy_one() {
        let mut deliveries = vec![0];
        deliveries.extend((0..6).map(|n| 20 * HOUR + n * 5 * MINUTE));
        assert!(after(&deliveries[..2], 20 * HOUR) <= 900);
        assert!(after(&deliveries, 20 * HOUR + 25 * MINUTE) <= 90);
    }

    #[test]
    fn siblings_late_ones_and_wrong_clocks_do_not_make_a_rhythm() {
        assert_eq!(after(&[0, 1, 2, 30, 59], 60), 60, "one delivery, a minute ago");
        assert_eq!(after(&[-40 * 24 * HOUR, -30 * 24 * HOUR], 0), 900, "a first mirror brings what is old");
        assert_eq!(after(&[10 * 365 * 24 * HOUR], 0), 900, "the future tells nothing");
    }

    #[test]
    fn after_a_start_the_time_since_the_last_object_decides() {
        assert_eq!(next_poll(&rules(), Some(at(-5 * MINUTE)), at(0)).as_secs(), 60);
        assert_eq!(next_poll(&rules(), Some(at(-HOUR)), at(0)).as_secs(), 450);
        assert_eq!(next_poll(&rules(), Some(at(HOUR)), at(0)).as_secs(), 60, "our clock went back");
    }
}
