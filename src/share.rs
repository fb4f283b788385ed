//! A fair share of what all sources together may have in flight.
//!
//! Half of the whole is kept for the sources, so much for each; the other half is for whoever comes first. A source
//! whose every request hangs holds its own part and at most what is common: never what the others need to go on.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One source's part, and what is common to all.
#[derive(Debug, Clone)]
pub struct Share {
    own: Arc<Semaphore>,
    common: Arc<Semaphore>,
}

impl Share {
    /// Shares for so many sources of `all` permits; every source has one of its own at least.
    pub fn among(sources: usize, all: usize) -> Vec<Self> {
        let own = (all / (2 * sources.max(1))).max(1);
        let common = Arc::new(Semaphore::new(all.saturating_sub(own * sources)));
        let share = || Self { own: Arc::new(Semaphore::new(own)), common: common.clone() };
        std::iter::repeat_with(share).take(sources).collect()
    }

    /// The share of a source that is alone.
    pub fn alone(all: usize) -> Self {
        Self { own: Arc::new(Semaphore::new(all)), common: Arc::new(Semaphore::new(0)) }
    }

    /// A permit, if there is one now.
    pub fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        self.own.clone().try_acquire_owned().or_else(|_| self.common.clone().try_acquire_owned()).ok()
    }

    /// Waits for a permit; may be dropped at any time.
    pub async fn take(&self) -> OwnedSemaphorePermit {
        tokio::select! {
            biased;
            Ok(permit) = self.own.clone().acquire_owned() => permit,
            Ok(permit) = self.common.clone().acquire_owned() => permit,
            // Nobody closes them.
            else => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_takes_all_it_can_leaves_the_others_their_own() {
        let shares = Share::among(3, 64);
        let taken: Vec<_> = std::iter::from_fn(|| shares[0].try_take()).collect();
        assert_eq!(taken.len(), 64 - 2 * 10);
        assert!(shares[1].try_take().is_some() && shares[2].try_take().is_some());
        let more: Vec<_> = std::iter::from_fn(|| shares[1].try_take()).collect();
        assert_eq!(more.len(), 10);
        drop(taken);
        assert!(shares[1].try_take().is_some(), "what was common is free again");
    }

    #[test]
    fn every_source_has_one_however_many_there_are() {
        let shares = Share::among(100, 16);
        let taken: Vec<_> = shares.iter().filter_map(Share::try_take).collect();
        assert_eq!(taken.len(), 100);
        let alone = Share::among(1, 16).remove(0);
        let all: Vec<_> = std::iter::from_fn(|| alone.try_take()).collect();
        assert_eq!(all.len(), 16);
    }

    #[tokio::test]
    async fn who_waits_is_given_what_comes_free_on_either_side() {
        let shares = Share::among(2, 4);
        let (own, common, _rest) = (shares[0].take().await, shares[0].take().await, shares[0].take().await);
        let waiting = shares[0].clone();
        let first = tokio::spawn(async move { waiting.take().await });
        drop(common);
        let held = first.await.unwrap();
        let waiting = shares[0].clone();
        let second = tokio::spawn(async move { waiting.take().await });
        drop(own);
        drop((second.await.unwrap(), held));
    }
}
