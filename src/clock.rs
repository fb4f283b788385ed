//! Wall time as an argument: only the process edge reads the system's clock.

use std::sync::{Arc, Mutex};

pub use jiff::Timestamp;

/// Says what time it is. The program's one way to learn the wall clock's time.
pub trait Clock: Send + Sync + 'static {
    /// The present time, UTC.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still until it is told otherwise; clones share the time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Shows `now` from here on; going back is allowed.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = now;
    }

    /// Moves on by so many seconds; negative goes back.
    pub fn advance(&self, seconds: i64) {
        self.set(shift(self.now(), seconds));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// `time` moved by so many seconds, held within what a timestamp can say.
pub fn shift(time: Timestamp, seconds: i64) -> Timestamp {
    let target = time.as_second().saturating_add(seconds);
    let bounded = target.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::new(bounded, time.subsec_nanosecond()).unwrap_or(time)
}

/// Whole seconds from `earlier` to `later`; negative when they are the other way round.
pub fn seconds_between(earlier: Timestamp, later: Timestamp) -> i64 {
    later.as_second() - earlier.as_second()
}
