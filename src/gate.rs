//! Lets as many requests of a source through as its level allows now.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::error::{Class, Error};
use crate::flow::{Answer, Level};
use crate::retry::is_throttling;

/// The bound of one source: it moves as the service answers.
#[derive(Debug)]
pub struct Gate {
    permits: Semaphore,
    state: Mutex<State>,
    start: Instant,
}

#[derive(Debug)]
struct State {
    level: Level,
    /// Permits that there are, taken or not.
    open: usize,
}

/// Leave to make one request; it ends when this is dropped.
#[derive(Debug)]
pub struct Leave<'g> {
    gate: &'g Gate,
    permit: Option<SemaphorePermit<'g>>,
}

impl Gate {
    /// A gate that never lets more than `most` through at a time.
    pub fn new(most: usize) -> Self {
        let level = Level::new(most);
        let open = level.limit();
        Self { permits: Semaphore::new(open), state: Mutex::new(State { level, open }), start: Instant::now() }
    }

    /// Waits for leave; may be dropped at any time.
    pub async fn pass(&self) -> Leave<'_> {
        // Nobody closes it; if somebody did, requests would be bounded by all sources' bound alone.
        let permit = self.permits.acquire().await.ok();
        Leave { gate: self, permit }
    }

    /// Makes a request and learns from its answer.
    ///
    /// # Errors
    /// The request's own.
    pub async fn timed<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let began = Instant::now();
        let result = request.await;
        self.heard(answer(&result), began);
        result
    }

    /// Learns from the error of a request that needed no leave.
    pub fn failed(&self, error: &Error) {
        if is_throttling(error.code()) {
            self.heard(Answer::Throttled, Instant::now());
        }
    }

    /// What is under way was kept waiting by us: how long it takes says nothing about the service.
    pub fn kept_waiting(&self) {
        let at = self.start.elapsed();
        self.state().level.kept_waiting(at);
    }

    /// How many requests may be in flight now.
    pub fn limit(&self) -> usize {
        self.state().level.limit()
    }

    fn heard(&self, answer: Answer, began: Instant) {
        let (began, at) = (began.saturating_duration_since(self.start), self.start.elapsed());
        let mut state = self.state();
        let in_flight = state.open.saturating_sub(self.permits.available_permits());
        state.level.heard(answer, began, at, in_flight);
        let limit = state.level.limit();
        if limit > state.open {
            self.permits.add_permits(limit - state.open);
            state.open = limit;
        } else {
            // Those that are taken go as they come back.
            state.open -= self.permits.forget_permits(state.open - limit);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let mut state = self.gate.state();
        if state.open > state.level.limit() {
            permit.forget();
            state.open -= 1;
        }
    }
}

/// Objects that cannot be had are answers too; what credentials or the network prevented says nothing.
fn answer<T>(result: &Result<T, Error>) -> Answer {
    match result {
        Ok(_) => Answer::Came,
        Err(error) if is_throttling(error.code()) => Answer::Throttled,
        Err(error) if error.class() == Class::Object => Answer::Came,
        Err(_) => Answer::Lost,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Report;

    fn slow_down() -> Result<(), Error> {
        Err(Error::of(Class::Transient, Report::new("GetObject", "key", "Reduce your request rate").code("SlowDown")))
    }

    #[tokio::test(start_paused = true)]
    async fn leave_that_is_given_back_after_the_level_fell_is_not_given_again() {
        let gate = Gate::new(10);
        let mut taken = Vec::new();
        for _ in 0..10 {
            taken.push(gate.pass().await);
        }
        assert!(gate.timed(async { slow_down() }).await.is_err());
        assert_eq!(gate.limit(), 7);
        taken.truncate(7);
        assert_eq!(gate.permits.available_permits(), 0, "seven are under way, as many as may be");
        taken.truncate(6);
        assert_eq!(gate.permits.available_permits(), 1);
        drop(taken);
        assert_eq!(gate.permits.available_permits(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_that_rises_lets_more_through() {
        let gate = Gate::new(64);
        let work = async |gate: &Gate| {
            for _ in 0..20 {
                let _leave = gate.pass().await;
                let answered = async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok::<(), Error>(())
                };
                assert!(gate.timed(answered).await.is_ok());
            }
        };
        futures_util::future::join_all((0..100).map(|_| work(&gate))).await;
        assert_eq!((gate.limit(), gate.permits.available_permits()), (64, 64));
    }
}
