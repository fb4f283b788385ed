//! How fast the copy is read again: so many bytes a second, all sources together.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

/// A clock that only goes on, and a way to wait by it.
pub trait Timing: Send + Sync + 'static {
    /// How long it has been going.
    fn now(&self) -> Duration;
    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's own.
pub struct RealTiming(Instant);

impl Default for RealTiming {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Timing for RealTiming {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Holds all who read the copy again to one rate.
pub struct Pace {
    /// `None`: as fast as the disk.
    bytes_per_second: Option<u64>,
    /// What was read so far is paid by then.
    paid: Mutex<Duration>,
    timing: Box<dyn Timing>,
}

impl Pace {
    /// So many bytes a second, by this clock.
    pub fn new(bytes_per_second: Option<u64>, timing: impl Timing) -> Self {
        Self { bytes_per_second, paid: Mutex::default(), timing: Box::new(timing) }
    }

    /// Waits until so many bytes more are paid for. May be dropped: the debt stays.
    pub async fn spent(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let wait = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            *paid = paid_by(*paid, self.timing.now(), bytes, rate);
            paid.saturating_sub(self.timing.now())
        };
        if !wait.is_zero() {
            self.timing.sleep(wait).await;
        }
    }
}

/// When so many bytes more are paid for; what was not used before is not saved up.
fn paid_by(paid: Duration, now: Duration, bytes: u64, rate: u64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "a pause to the microsecond")]
    let cost = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
    paid.max(now).saturating_add(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_is_not_saved_up_and_debt_is_not_forgiven() {
        let seconds = Duration::from_secs;
        assert_eq!(paid_by(seconds(0), seconds(100), 2048, 1024), seconds(102));
        assert_eq!(paid_by(seconds(102), seconds(101), 1024, 1024), seconds(103));
        assert_eq!(paid_by(seconds(5), seconds(5), 0, 1024), seconds(5));
    }
}
