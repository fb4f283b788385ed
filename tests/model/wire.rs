//! Stands between the mirror and both ends: counts requests, and lets something happen at the n-th.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trailsync::content::Asked;
use trailsync::destination::{Destination, Item, Place, Published, Reread, Staged, Sum};
use trailsync::error::{Class, Error};
use trailsync::object::Content;
use trailsync::path::Part;
use trailsync::source::{Body, FetchRequest, Fetched, ListPage, ListRequest, Source};

use super::tally::Tally;

/// What happened in a turn.
#[derive(Debug, Clone, Default)]
pub struct Happened {
    /// Listings that were answered.
    pub lists: u64,
    /// Keys that were asked for.
    pub fetched: Vec<String>,
    /// Changes of the bucket in the middle of it.
    pub meanwhile: u64,
}

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
    tally: Tally,
}

#[derive(Default)]
struct State {
    steps: u64,
    /// LIST and GET requests of this process.
    requests: (u64, u64),
    happened: Happened,
    kill_at: Option<u64>,
    stop_at: Option<(u64, CancellationToken)>,
    meanwhile: Vec<(u64, Happening)>,
}

impl Wire {
    pub fn new(tally: Tally) -> Self {
        Self(Arc::new(Shared { tally, ..Shared::default() }))
    }

    /// Something that happens at the n-th request of the next turn, or after that turn.
    pub fn meanwhile(&self, at: u64, happening: impl FnOnce() + Send + 'static) {
        self.state().meanwhile.push((at, Box::new(happening)));
    }

    pub fn begin(&self, kill_at: Option<u64>, stop_at: Option<(u64, CancellationToken)>) {
        let mut state = self.state();
        (state.steps, state.kill_at, state.stop_at) = (0, kill_at, stop_at);
        state.happened = Happened::default();
    }

    /// What happened since the turn began.
    pub fn happened(&self) -> Happened {
        self.state().happened.clone()
    }

    /// LIST and GET requests since the process began.
    pub fn requests(&self) -> (u64, u64) {
        self.state().requests
    }

    /// Another process.
    pub fn restart(&self) {
        self.state().requests = (0, 0);
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
            let due: Vec<(u64, Happening)> = due;
            state.happened.meanwhile += due.len() as u64;
            (state.kill_at == Some(steps) || steps > TOO_MANY, due)
        };
        due.into_iter().for_each(|(_, happening)| happening());
        if die {
            self.0.killed.notify_one();
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
    }

    fn note_fetch(&self, key: &str) {
        let mut state = self.state();
        state.requests.1 += 1;
        state.happened.fetched.push(key.to_owned());
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
        self.wire.state().requests.0 += 1;
        let page = self.end.list(request).await;
        self.wire.0.tally.add_page(&page);
        self.wire.state().happened.lists += u64::from(page.is_ok());
        self.wire.step().await;
        page
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<Fetched, Error> {
        self.wire.step().await;
        self.wire.note_fetch(&request.key);
        let fetched = self.end.fetch(request).await;
        if fetched.as_ref().is_err_and(|error| error.class() != Class::Object) {
            self.wire.0.tally.count("fetch failed");
        }
        self.wire.step().await;
        fetched
    }
}

impl<D: Destination> Destination for Wired<D> {
    type Handle = D::Handle;

    async fn stage(&self, body: Body, expected_size: u64, asked: Asked) -> Result<Staged<D::Handle>, Error> {
        let staged = self.end.stage(body, expected_size, asked).await;
        if let Err(error) = &staged {
            let ours = matches!(error.code(), "EIO" | "ENOSPC");
            self.wire.0.tally.count(if ours { "not staged" } else { "body damaged" });
        }
        staged
    }

    async fn publish(&self, batch: Vec<Item<D::Handle>>) -> Result<Vec<Published>, Error> {
        self.wire.step().await;
        let published = self.end.publish(batch).await;
        if published.is_err() {
            self.wire.0.tally.count("not published");
        }
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

    async fn reread(&self, place: &Place, most: u64) -> Result<Option<Reread>, Error> {
        self.end.reread(place, most).await
    }

    async fn rehash(&self, place: &Place) -> Result<Option<Content>, Error> {
        self.end.rehash(place).await
    }

    async fn sum(&self, place: &Place) -> Result<Option<Sum>, Error> {
        self.end.sum(place).await
    }

    async fn sidecar(&self, place: &Place) -> Result<Option<Vec<u8>>, Error> {
        self.end.sidecar(place).await
    }

    async fn set_aside(&self, place: &Place, part: Part) -> Result<Option<String>, Error> {
        self.end.set_aside(place, part).await
    }

    async fn set_aside_kept(&self, name: &str) -> Result<Option<String>, Error> {
        self.end.set_aside_kept(name).await
    }

    async fn present(&self) -> Result<(), Error> {
        self.end.present().await
    }
}
