//! How many requests of one source are in flight: a level that finds itself.
//!
//! As TCP finds its window: from a modest start it grows by half while answers come as fast as ever, then by one a
//! round; it falls by three tenths when the service asks for less, or when answers take much longer than they did. It
//! grows no further once answers take noticeably longer: more in flight would only wait in a queue, be it the service's
//! or our own processor's. Nobody has to tune it; the configuration only bounds it.
//!
//! Times are durations since one fixed moment, and arguments: the same answers give the same levels.

use std::time::Duration;

/// The level at which an unknown service is met.
const START: usize = 16;
/// The level goes down to this for slowness; for being asked to, down to one.
const LEAST_FOR_SLOWNESS: f64 = 4.0;
/// What is left of the level after each sign of too much.
const DECREASE: f64 = 0.7;
/// Answers that take so many times as long as ever are no reason to ask for more at a time.
const QUEUED: f64 = 1.6;
/// Answers that take so many times as long, and [`STRAINED_BY`] more, are a reason to ask for less.
///
/// A processor that is busy with our own work delays answers too, by the work of all that is in flight: milliseconds.
/// The fixed part lies far above that, so that it is the service that is answered for.
const STRAINED: f64 = 2.0;
const STRAINED_BY: Duration = Duration::from_millis(250);
/// Answers that make a round, at least and at most.
const ROUND: std::ops::RangeInclusive<usize> = 8..=64;
/// How long the fastest round is remembered, at least; twice this at most.
const MEMORY: Duration = Duration::from_secs(300);

/// What came of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was answered, well or not, and this is how it went: the time counts.
    Came,
    /// The service asked for less.
    Throttled,
    /// Nothing was learned.
    Lost,
}

/// The level of one source.
#[derive(Debug, Clone)]
pub struct Level {
    most: usize,
    level: f64,
    /// Nothing has spoken against more so far: it grows by half a round.
    opening: bool,
    round: Round,
    fastest: Fastest,
}

/// Answers to requests that began since the level changed last.
#[derive(Debug, Clone, Default)]
struct Round {
    since: Duration,
    took: Vec<Duration>,
    /// The level was reached: it is what bounds the rate.
    full: bool,
}

/// The fastest round of the last minutes.
#[derive(Debug, Clone, Copy, Default)]
struct Fastest {
    since: Duration,
    now: Option<Duration>,
    before: Option<Duration>,
}

impl Level {
    /// A level that never exceeds `most`.
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        let level = START.min(most) as f64;
        Self { most, level, opening: true, round: Round::default(), fastest: Fastest::default() }
    }

    /// How many requests may be in flight.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and `most`")]
    pub fn limit(&self) -> usize {
        (self.level as usize).clamp(1, self.most)
    }

    /// Takes what came of a request that began at `began` and ended at `at`, while so many were in flight with it.
    pub fn heard(&mut self, answer: Answer, began: Duration, at: Duration, in_flight: usize) {
        // What began before the level changed says nothing about the level as it is.
        if began < self.round.since {
            return;
        }
        match answer {
            Answer::Throttled => self.lower(1.0, at),
            Answer::Came => {
                self.round.took.push(at.saturating_sub(began));
                self.round.full |= in_flight >= self.limit();
                if self.round.took.len() >= self.limit().clamp(*ROUND.start(), *ROUND.end()) {
                    self.judge(at);
                }
            }
            Answer::Lost => {}
        }
    }

    /// Everything that is under way was kept waiting by us: how long it takes says nothing about the service.
    pub fn kept_waiting(&mut self, at: Duration) {
        self.round = Round { since: at, ..Round::default() };
    }

    fn judge(&mut self, at: Duration) {
        let took = typical(&mut self.round.took);
        let fastest = self.fastest.note(took, at);
        if took > fastest.mul_f64(STRAINED) + STRAINED_BY {
            if self.level <= LEAST_FOR_SLOWNESS {
                // So few cannot be what slows it down: that is how long it takes now.
                self.fastest = Fastest { since: at, now: Some(took), before: None };
                self.kept_waiting(at);
            } else {
                self.lower(LEAST_FOR_SLOWNESS, at);
            }
            return;
        }
        let queued = took > fastest.mul_f64(QUEUED);
        self.opening &= !queued;
        if self.round.full && !queued {
            let more = if self.opening { self.level / 2.0 } else { 1.0 };
            self.level = (self.level + more).min(self.most as f64);
        }
        self.kept_waiting(at);
    }

    fn lower(&mut self, least: f64, at: Duration) {
        self.level = (self.level * DECREASE).max(least.min(self.level)).max(1.0);
        self.opening = false;
        self.kept_waiting(at);
    }
}

impl Fastest {
    /// Takes a round's time and gives the shortest that is remembered.
    fn note(&mut self, took: Duration, at: Duration) -> Duration {
        if at.saturating_sub(self.since) >= MEMORY {
            *self = Self { since: at, now: None, before: self.now };
        }
        let now = self.now.map_or(took, |fastest| fastest.min(took));
        self.now = Some(now);
        self.before.map_or(now, |before| before.min(now))
    }
}

/// A round's time is its first quartile: some requests make a connection first, and a few always take long.
fn typical(took: &mut [Duration]) -> Duration {
    let quartile = took.len() / 4;
    *took.select_nth_unstable(quartile).1
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

    /// A service that answers so many at a time, each after so long, and the rest after those; it refuses a share of
    /// all requests.
    #[derive(Debug, Clone, Copy)]
    struct Service {
        at_once: usize,
        takes: Duration,
        refuses: f64,
    }

    /// What was seen of a run.
    #[derive(Debug, Default)]
    struct Run {
        answered: usize,
        refused: usize,
        levels: Vec<usize>,
    }

    const MS: Duration = Duration::from_millis(1);

    /// Keeps the level full from `from` for `long`, and gives a number from 0 to 1 for each request.
    fn run(level: &mut Level, service: Service, from: Duration, long: Duration, random: &mut fastrand::Rng) -> Run {
        let mut seen = Run::default();
        let mut places: BinaryHeap<Reverse<Duration>> = (0..service.at_once).map(|_| Reverse(from)).collect();
        let mut under_way: BinaryHeap<Reverse<(Duration, Duration, bool)>> = BinaryHeap::new();
        let mut now = from;
        loop {
            while under_way.len() < level.limit() {
                let refused = random.f64() < service.refuses;
                let free = places.pop().map_or(now, |Reverse(free)| free).max(now);
                let takes = service.takes.mul_f64(0.9 + 0.4 * random.f64());
                let ends = if refused { now + 5 * MS } else { free + takes };
                places.push(Reverse(if refused { free } else { ends }));
                under_way.push(Reverse((ends, now, refused)));
            }
            let in_flight = under_way.len();
            let Some(Reverse((ends, began, refused))) = under_way.pop() else { return seen };
            now = ends;
            if now > from + long {
                return seen;
            }
            level.heard(if refused { Answer::Throttled } else { Answer::Came }, began, now, in_flight);
            seen.levels.push(level.limit());
            if refused { seen.refused += 1 } else { seen.answered += 1 }
        }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_service_that_has_room_is_asked_for_as_much_as_may_be_within_a_second() {
        let (mut level, mut random) = (Level::new(128), fastrand::Rng::with_seed(1));
        let service = Service { at_once: 1000, takes: 20 * MS, refuses: 0.0 };
        let seen = run(&mut level, service, seconds(0), seconds(1), &mut random);
        assert_eq!(level.limit(), 128);
        let ideal = 128.0 / (service.takes.as_secs_f64() * 1.1);
        assert!(seen.answered as f64 > ideal / 1.2, "{} answers of {ideal}", seen.answered);
    }

    #[test]
    fn what_would_only_wait_is_not_asked_for_and_the_rate_is_the_services_own() {
        for at_once in [2, 8, 40] {
            let (mut level, mut random) = (Level::new(256), fastrand::Rng::with_seed(2));
            let service = Service { at_once, takes: 20 * MS, refuses: 0.0 };
            let seen = run(&mut level, service, seconds(0), seconds(60), &mut random);
            let ideal = at_once as f64 * 60.0 / (service.takes.as_secs_f64() * 1.1);
            assert!(seen.answered as f64 > ideal * 0.95, "{at_once}: {} answers of {ideal}", seen.answered);
            assert!(level.limit() <= (START * 2).max(at_once * 5 / 2), "{at_once}: the level is {}", level.limit());
        }
    }

    #[test]
    fn a_processor_that_is_busy_with_our_own_work_does_not_lower_the_level() {
        // Two cores, 300 µs an object, 256 in flight: answers wait 38 ms for us.
        let (mut level, mut random) = (Level::new(256), fastrand::Rng::with_seed(3));
        let own = Service { at_once: 2, takes: Duration::from_micros(300), refuses: 0.0 };
        let seen = run(&mut level, own, seconds(0), seconds(30), &mut random);
        let lowest = seen.levels.iter().min().copied().unwrap_or_default();
        assert!(lowest >= START, "the level fell to {lowest}");
        assert!(seen.answered as f64 > 30.0 * 2.0 / 330e-6 * 0.95, "{} answers", seen.answered);
    }

    #[test]
    fn rising_latency_lowers_the_level_and_what_passes_lets_it_rise_again() {
        let (mut level, mut random) = (Level::new(64), fastrand::Rng::with_seed(4));
        let well = Service { at_once: 1000, takes: 30 * MS, refuses: 0.0 };
        run(&mut level, well, seconds(0), seconds(5), &mut random);
        assert_eq!(level.limit(), 64);
        let strained = Service { takes: seconds(1), ..well };
        let seen = run(&mut level, strained, seconds(5), seconds(20), &mut random);
        assert!(seen.levels.iter().any(|level| *level <= 8), "the level is {}", level.limit());
        run(&mut level, well, seconds(25), seconds(60), &mut random);
        assert_eq!(level.limit(), 64);
    }

    #[test]
    fn a_service_that_is_slower_for_good_is_met_as_it_is() {
        let (mut level, mut random) = (Level::new(64), fastrand::Rng::with_seed(5));
        run(&mut level, Service { at_once: 1000, takes: 30 * MS, refuses: 0.0 }, seconds(0), seconds(5), &mut random);
        let slower = Service { at_once: 1000, takes: 800 * MS, refuses: 0.0 };
        run(&mut level, slower, seconds(5), seconds(120), &mut random);
        assert!(level.limit() * 10 >= 64 * 9, "the level is {}", level.limit());
    }

    #[test]
    fn asked_for_less_it_goes_down_and_is_back_within_a_minute() {
        for refuses in [0.3, 1.0] {
            let (mut level, mut random) = (Level::new(64), fastrand::Rng::with_seed(6));
            let well = Service { at_once: 1000, takes: 50 * MS, refuses: 0.0 };
            run(&mut level, well, seconds(0), seconds(10), &mut random);
            let seen = run(&mut level, Service { refuses, ..well }, seconds(10), seconds(600), &mut random);
            let late = &seen.levels[seen.levels.len() / 2..];
            let mean = late.iter().sum::<usize>() as f64 / late.len() as f64;
            assert!(mean < 4.0, "{refuses}: the level stays at {mean:.1}");
            let requests = (seen.answered + seen.refused) as f64;
            assert!(refuses == 1.0 || requests / seen.answered as f64 <= 1.5, "{refuses}: {seen:?}");
            run(&mut level, well, seconds(610), seconds(60), &mut random);
            assert!(level.limit() * 10 >= 64 * 9, "{refuses}: back at {}", level.limit());
        }
    }

    #[test]
    fn many_refusals_of_what_was_in_flight_together_lower_it_once() {
        let mut level = Level::new(32);
        for nth in 0..16 {
            level.heard(Answer::Throttled, seconds(1), seconds(2) + nth * MS, 16);
        }
        assert_eq!(level.limit(), 11);
    }

    #[test]
    fn a_level_that_is_not_reached_does_not_grow() {
        let mut level = Level::new(256);
        for nth in 0..10_000 {
            level.heard(Answer::Came, nth * MS, nth * MS + 20 * MS, 3);
        }
        assert_eq!(level.limit(), START);
    }

    #[test]
    fn what_we_kept_waiting_ourselves_is_no_rising_latency() {
        let mut level = Level::new(32);
        for nth in 0..64 {
            level.heard(Answer::Came, nth * MS, nth * MS + 20 * MS, 32);
        }
        level.kept_waiting(seconds(5));
        for nth in 0..64 {
            level.heard(Answer::Came, nth * MS, seconds(5) + nth * MS, 32);
        }
        assert_eq!(level.limit(), 32);
    }

    proptest! {
        #[test]
        fn whatever_is_heard_the_level_stays_within_its_bounds(
            most in 0usize..300,
            heard in proptest::collection::vec((0u8..4, 0u64..100_000, 0u64..100_000, 0usize..400), 0..400),
        ) {
            let mut level = Level::new(most);
            for (what, began, at, in_flight) in heard {
                let (began, at) = (Duration::from_millis(began), Duration::from_millis(at));
                match what {
                    0 => level.heard(Answer::Throttled, began, at, in_flight),
                    1 => level.heard(Answer::Lost, began, at, in_flight),
                    2 => level.kept_waiting(at),
                    _ => level.heard(Answer::Came, began, at, in_flight),
                }
                prop_assert!((1..=most.max(1)).contains(&level.limit()));
                prop_assert!(level.round.took.len() <= *ROUND.end());
            }
        }
    }
}
