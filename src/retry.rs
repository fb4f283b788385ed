//! How long to wait before the next try.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

use crate::error::Error;

/// Exponential delays within bounds, one for each failure in a row.
///
/// The randomness is an argument, a number from 0 to 1: the same numbers give the same delays.
#[derive(Debug, Clone)]
pub struct Delays {
    steps: ExponentialBackoff,
    jitter: Jitter,
    failures: u32,
}

/// How a step becomes a delay.
#[derive(Debug, Clone, Copy)]
enum Jitter {
    /// Between half the step and the whole step: spread, but never at once.
    Half,
    /// Between this and the step: spread as widely as can be.
    FullAbove(Duration),
    /// Between the step and twice the step: never sooner than the step.
    Beyond,
}

impl Delays {
    /// Between tries inside one pass: 0.1–0.2 s, doubling to 5–10 s.
    pub fn in_pass() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(10), Jitter::Half)
    }

    /// After the service asked for less (`SlowDown`): 2–4 s, doubling to 20–40 s.
    ///
    /// S3 asks to retry small reads after 2 s, then after 4 s (performance guidelines of the S3 guide).
    pub fn slow_down() -> Self {
        Self::new(Duration::from_secs(2), Duration::from_secs(20), Jitter::Beyond)
    }

    /// Between passes of a stream that failed: 2.5–5 s, doubling to 2.5–5 min.
    pub fn resting() -> Self {
        Self::new(Duration::from_secs(5), Duration::from_secs(300), Jitter::Half)
    }

    /// Between attempts to assume a role: 1–5 s, growing to 1–60 s, spread as widely as can be, so that
    /// hundreds of roles do not come back together after an outage.
    pub fn assuming() -> Self {
        Self::new(Duration::from_secs(5), Duration::from_secs(60), Jitter::FullAbove(Duration::from_secs(1)))
    }

    /// Between attempts to assume a role that was denied: 1–2 min, growing to 2.5–5 min.
    pub fn denied() -> Self {
        Self::new(Duration::from_secs(60), Duration::from_secs(150), Jitter::Beyond)
    }

    /// Between tries to delete at the source, of which nobody waits for the next: 1–2 min, growing to 1–2 h.
    pub fn refused() -> Self {
        Self::new(Duration::from_secs(60), Duration::from_secs(3600), Jitter::Beyond)
    }

    fn new(first: Duration, most: Duration, jitter: Jitter) -> Self {
        let steps = ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            // The crate's own randomness cannot be seeded: it counts the steps, the jitter is ours.
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: most,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { steps, jitter, failures: 0 }
    }

    /// The delay after one more failure; `random` is from 0 to 1.
    pub fn next(&mut self, random: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        // The crate gives `None` only after a total time, which is not set.
        let step = self.steps.next_backoff().unwrap_or(self.steps.max_interval).min(self.steps.max_interval);
        let share = if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 };
        match self.jitter {
            Jitter::Half => step.mul_f64(0.5 + share / 2.0),
            Jitter::FullAbove(least) => least + step.saturating_sub(least).mul_f64(share),
            Jitter::Beyond => step.mul_f64(1.0 + share),
        }
    }

    /// How many failures in a row there were.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures: the next delay is the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.steps.reset();
    }
}

/// Delays inside one pass: quick ones, and slow ones when the service asks for less.
#[derive(Debug, Clone)]
pub struct PassDelays {
    quick: Delays,
    slow: Delays,
}

impl Default for PassDelays {
    fn default() -> Self {
        Self { quick: Delays::in_pass(), slow: Delays::slow_down() }
    }
}

impl PassDelays {
    /// The delay after `error`; `random` is from 0 to 1.
    pub fn after(&mut self, error: &Error, random: f64) -> Duration {
        if is_throttling(error.code()) { self.slow.next(random) } else { self.quick.next(random) }
    }

    /// How many failures in a row there were.
    pub fn failures(&self) -> u32 {
        self.quick.failures() + self.slow.failures()
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.quick.reset();
        self.slow.reset();
    }
}

/// Whether a code asks for fewer requests (the throttling codes of botocore's standard retry mode).
pub fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "RequestLimitExceeded"
            | "TooManyRequestsException"
            | "ProvisionedThroughputExceededException"
            | "TransactionInProgressException"
            | "BandwidthLimitExceeded"
            | "LimitExceededException"
            | "PriorRequestNotComplete"
            | "EC2ThrottledException"
            | "HTTP 429"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Report};

    fn bounds(mut delays: Delays, failures: usize) -> Vec<(u128, u128)> {
        let mut upper = delays.clone();
        (0..failures).map(|_| (delays.next(0.0).as_millis(), upper.next(1.0).as_millis())).collect()
    }

    #[test]
    fn delays_double_within_their_documented_bounds() {
        assert_eq!(bounds(Delays::in_pass(), 3), [(100, 200), (200, 400), (400, 800)]);
        assert_eq!(bounds(Delays::in_pass(), 20).last(), Some(&(5_000, 10_000)));
        assert_eq!(bounds(Delays::slow_down(), 2), [(2_000, 4_000), (4_000, 8_000)]);
        assert_eq!(bounds(Delays::slow_down(), 20).last(), Some(&(20_000, 40_000)));
        assert_eq!(bounds(Delays::resting(), 1), [(2_500, 5_000)]);
        assert_eq!(bounds(Delays::resting(), 20).last(), Some(&(150_000, 300_000)));
        assert_eq!(bounds(Delays::assuming(), 2), [(1_000, 5_000), (1_000, 10_000)]);
        assert_eq!(bounds(Delays::assuming(), 20).last(), Some(&(1_000, 60_000)));
        assert_eq!(bounds(Delays::denied(), 1), [(60_000, 120_000)]);
        assert_eq!(bounds(Delays::refused(), 1), [(60_000, 120_000)]);
        assert_eq!(bounds(Delays::refused(), 20).last(), Some(&(3_600_000, 7_200_000)));
        assert_eq!(bounds(Delays::denied(), 20).last(), Some(&(150_000, 300_000)));
    }

    #[test]
    fn senseless_randomness_stays_within_the_bounds() {
        for random in [f64::NAN, f64::INFINITY, -3.0, 7.0] {
            let delay = Delays::in_pass().next(random).as_millis();
            assert!((100..=200).contains(&delay), "{random} gave {delay} ms");
        }
    }

    #[test]
    fn after_a_success_the_delays_begin_again() {
        let mut delays = Delays::resting();
        let first = delays.next(0.5);
        delays.next(0.5);
        assert_eq!(delays.failures(), 2);
        delays.reset();
        assert_eq!((delays.failures(), delays.next(0.5)), (0, first));
    }

    #[test]
    fn a_service_that_asks_for_less_is_asked_later() {
        let error = |code: &str| Error::of(Class::Transient, Report::new("GetObject", "k", "m").code(code));
        let mut delays = PassDelays::default();
        assert_eq!(delays.after(&error("InternalError"), 0.0), Duration::from_millis(100));
        assert_eq!(delays.after(&error("SlowDown"), 0.0), Duration::from_secs(2));
        assert_eq!(delays.after(&error("SlowDown"), 0.0), Duration::from_secs(4));
        assert_eq!(delays.failures(), 3);
    }
}
