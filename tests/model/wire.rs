//! Stands between the mirror and both ends: counts requests, and lets something happen at the n-th.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trailsync::destination::{Destination, Item, Published, Staged};
use trailsync::error::Error;
use trailsync::source::{Body, FetchRequest, Fetched, ListPage, ListRequest, Source};

/// More requests than any turn of a history needs.
pub const TOO_MANY: u64 = 3_000;

type Happening = Box<dyn FnOnce() + Send>;

/// Clones are the same wire.
#[derive(Clone, Default)]
pub struct Wire(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    killed: Notify,
}

#[derive(Default)]
struct State {
    steps: u64,
    kill_at: Option<u64>,
    stop_at: Option<(u64, CancellationToken)>,
    meanwhile: Vec<(u64, Happening)>,
}

impl Wire {
    /// Something that happens at the n-th request of the next turn, or after that turn.
    pub fn meanwhile(&self, at: u64, happening: impl FnOnce() + Send + 'static) {
        self.state().meanwhile.push((at, Box::new(happening)));
    }

    pub fn begin(&self, kill_at: Option<u64>, stop_at: Option<(u64, CancellationToken)>) {
        let mut state = self.state();
        (state.steps, state.kill_at, state.stop_at) = (0, kill_at, stop_at);
    }

    /// What was to happen in the turn and did not happens now.
    pub fn end(&self) -> u64 {
        let late = std::mem::take(&mut self.state().meanwhile);
        late.into_iter().for_each(|(_, happening)| happening());
        self.state().steps
    }

    /// Waits until the process is to die.
    pub async fn killed(&self) {
        self.0.killed.notified().await;
    }

    async fn step(&self) {
        let (die, due) = {
            let mut state = self.state();
            state.steps += 1;
            let steps = state.steps;
            if let Some((_, stop)) = state.stop_at.take_if(|(at, _)| *at <= steps) {
                stop.cancel();
            }
            let (due, later) = std::mem::take(&mut state.meanwhile).into_iter().partition(|(at, _)| *at <= steps);
            state.meanwhile = later;
            (state.kill_at == Some(steps) || steps > TOO_MANY, due)
        };
        due.into_iter().for_each(|(_, happening): (u64, Happening)| happening());
        if die {
            self.0.killed.notify_one();
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic holds it")
    }
}

/// An end of the wire.
pub struct Wired<T> {
    pub end: Arc<T>,
    pub wire: Wire,
}

impl<S: Source> Source for Wired<S> {
    async fn list(&self, request: &ListRequest) -> Result<ListPage, Error> {
        self.wire.step().await;
        let page = self.end.list(request).await;
        self.wire.step().await;
        page
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<Fetched, Error> {
        self.wire.step().await;
        let fetched = self.end.fetch(request).await;
        self.wire.step().await;
        fetched
    }
}

impl<D: Destination> Destination for Wired<D> {
    type Handle = D::Handle;

    async fn stage(&self, body: Body, expected_size: u64, inflate: bool) -> Result<Staged<D::Handle>, Error> {
        self.end.stage(body, expected_size, inflate).await
    }

    async fn publish(&self, batch: Vec<Item<D::Handle>>) -> Result<Vec<Published>, Error> {
        self.wire.step().await;
        let published = self.end.publish(batch).await;
        self.wire.step().await;
        published
    }

    async fn keep(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        self.wire.step().await;
        let kept = self.end.keep(name, bytes).await;
        self.wire.step().await;
        kept
    }

    async fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.end.recall(name).await
    }

    async fn present(&self) -> Result<(), Error> {
        self.end.present().await
    }
}
