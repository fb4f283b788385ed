//! Whether the schedulers still turn: what liveness and the watchdog go by, and nothing about AWS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A scheduler that has not beaten for this long is stuck; with nothing to do it beats every ten seconds, too.
pub const STUCK: Duration = Duration::from_secs(60);

/// The last beat of every scheduler.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Mutex<Beats>>);

#[derive(Debug, Default)]
struct Beats {
    next: u64,
    last: BTreeMap<u64, Option<Instant>>,
}

/// One scheduler's own; when it is dropped, nothing is waited for any more.
#[derive(Debug)]
pub struct Heart {
    pulse: Pulse,
    number: u64,
}

impl Pulse {
    /// A scheduler that has not beaten yet.
    pub fn heart(&self) -> Heart {
        let mut beats = self.beats();
        let number = beats.next;
        beats.next += 1;
        beats.last.insert(number, None);
        Heart { pulse: self.clone(), number }
    }

    /// Every scheduler has begun.
    pub fn began(&self) -> bool {
        self.beats().last.values().all(Option::is_some)
    }

    /// How long ago the slowest scheduler beat; `None` while one has not begun.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let beats = self.beats();
        beats.last.values().try_fold(Duration::ZERO, |age, beat| Some(age.max(now.saturating_duration_since((*beat)?))))
    }

    /// No scheduler is stuck.
    pub fn is_alive(&self, now: Instant) -> bool {
        let beats = self.beats();
        beats.last.values().flatten().all(|beat| now.saturating_duration_since(*beat) < STUCK)
    }

    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heart {
    /// The scheduler turned.
    pub fn beat(&self) {
        self.pulse.beats().last.insert(self.number, Some(Instant::now()));
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.pulse.beats().last.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_stuck_scheduler_is_enough_to_be_stuck() {
        let pulse = Pulse::default();
        let (a, b) = (pulse.heart(), pulse.heart());
        assert!(!pulse.began() && pulse.is_alive(Instant::now()));
        a.beat();
        b.beat();
        assert!(pulse.began());
        tokio::time::advance(STUCK).await;
        a.beat();
        assert_eq!(pulse.age(Instant::now()), Some(STUCK));
        assert!(!pulse.is_alive(Instant::now()));
        b.beat();
        assert!(pulse.is_alive(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_not_begun_hides_no_other_that_is_stuck() {
        let pulse = Pulse::default();
        let (a, late) = (pulse.heart(), pulse.heart());
        a.beat();
        tokio::time::advance(STUCK).await;
        assert!(!pulse.began() && !pulse.is_alive(Instant::now()));
        drop(late);
        assert!(pulse.began() && !pulse.is_alive(Instant::now()));
        drop(a);
        assert!(pulse.is_alive(Instant::now()), "nothing is waited for");
    }
}
