//! The service's clock: our own, moved by the difference that its answers show.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::{Clock, Timestamp, seconds_between, shift};
use crate::window::SKEW_SECONDS;

/// Tells the service's time between its answers. Windows and sealing use it, not ours.
pub struct ServiceClock {
    ours: Arc<dyn Clock>,
    ahead_seconds: AtomicI64,
}

impl ServiceClock {
    /// Starts with our own time.
    pub fn new(ours: Arc<dyn Clock>) -> Self {
        Self { ours, ahead_seconds: AtomicI64::new(0) }
    }

    /// Takes the time of an answer (the `Date` header). Says whether it is far from what [`ServiceClock::now`] said before.
    pub fn observe(&self, served_at: Timestamp) -> bool {
        let ours = self.ours.now();
        let surprise = seconds_between(self.now(), served_at).abs() > SKEW_SECONDS;
        self.ahead_seconds.store(seconds_between(ours, served_at), Ordering::Relaxed);
        surprise
    }

    /// The service's time, as far as is known.
    pub fn now(&self) -> Timestamp {
        shift(self.ours.now(), self.ahead_seconds.load(Ordering::Relaxed))
    }

    /// Our own time.
    pub fn ours(&self) -> Timestamp {
        self.ours.now()
    }

    /// By how many seconds the service is ahead, where that is more than clocks may differ.
    pub fn skew(&self) -> Option<i64> {
        let ahead = self.ahead_seconds.load(Ordering::Relaxed);
        (ahead.abs() > SKEW_SECONDS).then_some(ahead)
    }
}
