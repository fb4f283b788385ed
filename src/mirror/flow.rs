//! The transfers of one pass: so many under way at a time, and those that ended while something else was awaited.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::vec;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::outcome::{Fetch, GROUP_BYTES, GROUP_OBJECTS, Want};

/// What a transfer ends with: what was wanted, what came of it, and with how many requests.
type Ended<H> = (Want, Fetch<H>, u64);

/// Transfers that go on for as long as this is awaited.
pub(super) struct Flow<'a, H, F, B> {
    waiting: vec::IntoIter<Want>,
    under_way: FuturesUnordered<F>,
    most: usize,
    begin: B,
    /// They ended beside something else, and are taken up before what ends next.
    arrived: VecDeque<Ended<H>>,
    arrived_bytes: u64,
    stop: &'a CancellationToken,
}

impl<'a, H, F: Future<Output = Ended<H>>, B: Fn(Want) -> F> Flow<'a, H, F, B> {
    /// Begins nothing yet. At most `most` are under way at a time, and none is begun after `stop`.
    pub(super) fn of(wants: Vec<Want>, most: usize, begin: B, stop: &'a CancellationToken) -> Self {
        Self {
            waiting: wants.into_iter(),
            under_way: FuturesUnordered::new(),
            most: most.max(1),
            begin,
            arrived: VecDeque::new(),
            arrived_bytes: 0,
            stop,
        }
    }

    /// The next one that ended; `None` at the end, or when told to stop and all that arrived was taken up.
    ///
    /// May be dropped at any await.
    pub(super) async fn next(&mut self) -> Option<Ended<H>> {
        if let Some(ended) = self.arrived.pop_front() {
            self.arrived_bytes -= ended.0.listed.size;
            return Some(ended);
        }
        self.start();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            ended = self.under_way.next() => ended,
        }
    }

    /// Awaits something else, while transfers go on: as many as another group holds, in objects and in bytes.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            self.start();
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(ended) = self.under_way.next() => {
                    self.arrived_bytes += ended.0.listed.size;
                    self.arrived.push_back(ended);
                }
            }
        }
    }

    /// Nothing of what was wanted is left.
    pub(super) fn is_finished(&self) -> bool {
        self.waiting.len() == 0 && self.under_way.is_empty() && self.arrived.is_empty()
    }

    fn start(&mut self) {
        while self.under_way.len() < self.most
            && self.arrived.len() < GROUP_OBJECTS
            && self.arrived_bytes < GROUP_BYTES
            && !self.stop.is_cancelled()
            && let Some(want) = self.waiting.next()
        {
            self.under_way.push((self.begin)(want));
        }
    }
}
