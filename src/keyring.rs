//! The public keys of a source's regions: asked for before they expire, kept for ever, exported beside the copy.
//!
//! Keys belong to the region whose digests they sign, and change every few weeks. They are asked for when a region is
//! first seen, daily, and when a digest names one that is not here.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::clock::{Timestamp, seconds_between, shift};
use crate::config::shape;
use crate::destination::Destination;
use crate::digest::PublicKey;
use crate::error::Error;
use crate::key::Shown;
use crate::layout::Day;
use crate::ledger::{KeyRequestRow, Ledger};
use crate::public_keys::{PublicKeys, file_name};
use crate::retry::Delays;

mod service;

pub(crate) use service::client;
pub use service::{CloudTrail, Given, ListPublicKeys};

const DAY_SECONDS: i64 = 86_400;
/// The first question reaches back as far as late delivery does; keys from before are asked for by their digests.
const FIRST_DAYS: i64 = 35;
/// A key is valid for a month: asked for daily, it is seen however short its life.
const EVERY_SECONDS: i64 = DAY_SECONDS;
/// An answer for a day is not asked for again before.
const SAME_DAY_SECONDS: i64 = 3600;
/// Days whose answers are remembered.
const DAYS: usize = 1000;

/// The keys of one source's regions.
pub struct Keyring {
    source: String,
    partition: &'static str,
    service: Arc<dyn ListPublicKeys>,
    ledger: Ledger,
    regions: Mutex<BTreeMap<String, Region>>,
}

/// What is at hand of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is here.
    Key(PublicKey),
    /// `CloudTrail` was asked, and has no such key.
    Unknown,
    /// `CloudTrail` cannot be asked now; the reason is in the state.
    Waits,
}

/// One region's keys, and when they were asked for.
struct Region {
    keys: PublicKeys,
    exported: bool,
    answered: Option<Timestamp>,
    failing_since: Option<Timestamp>,
    /// Nothing is asked before, after a failure.
    not_before: Option<Timestamp>,
    delays: Delays,
    /// When the keys of a whole day were given.
    days: BTreeMap<Day, Timestamp>,
}

impl Keyring {
    /// The keys of a source that reads a bucket in `bucket_region`, asked of `service`.
    pub fn new(source: &str, bucket_region: &str, service: Arc<dyn ListPublicKeys>, ledger: Ledger) -> Self {
        let partition = shape::partition(bucket_region);
        Self { source: source.to_owned(), partition, service, ledger, regions: Mutex::default() }
    }

    /// Sees to it that the keys of a region are here, and beside the copy; asks for them when that is due.
    ///
    /// # Errors
    /// Of ledger and destination. That `CloudTrail` does not answer is no error: it is in the state.
    pub async fn tend<D: Destination>(&self, copy: &D, region: &str, now: Timestamp) -> Result<(), Error> {
        let mut regions = self.regions.lock().await;
        let at = self.region(&mut regions, region).await?;
        if self.may_ask(at, region, now) && is_due(at.answered, now) {
            let from = at.answered.map_or(-FIRST_DAYS * DAY_SECONDS, |last| seconds_between(now, last) - DAY_SECONDS);
            self.ask(at, region, (shift(now, from.min(0)), shift(now, 2 * 3600)), now).await?;
        }
        export(copy, at, region).await
    }

    /// The key that a digest names, asked for when it is not here: `window` is when it must have been valid.
    ///
    /// # Errors
    /// As for [`Keyring::tend`].
    pub async fn find<D: Destination>(
        &self,
        copy: &D,
        region: &str,
        fingerprint: &str,
        window: (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Result<Found, Error> {
        let mut regions = self.regions.lock().await;
        let at = self.region(&mut regions, region).await?;
        if let Some(key) = at.keys.of(fingerprint, window) {
            return Ok(Found::Key(key.clone()));
        }
        if !self.is_askable(region) || was_answered(at, window, now) {
            return Ok(Found::Unknown);
        }
        if !self.may_ask(at, region, now) || !self.ask(at, region, window, now).await? {
            return Ok(Found::Waits);
        }
        export(copy, at, region).await?;
        Ok(at.keys.of(fingerprint, window).map_or(Found::Unknown, |key| Found::Key(key.clone())))
    }

    async fn region<'r>(
        &self,
        regions: &'r mut BTreeMap<String, Region>,
        region: &str,
    ) -> Result<&'r mut Region, Error> {
        let loaded = match regions.remove(region) {
            Some(loaded) => loaded,
            None => self.load(region).await?,
        };
        Ok(regions.entry(region.to_owned()).or_insert(loaded))
    }

    async fn load(&self, region: &str) -> Result<Region, Error> {
        let row = self.ledger.key_request(&self.source, region).await?;
        Ok(Region {
            keys: PublicKeys::new(region, self.ledger.public_keys(region).await?),
            exported: false,
            answered: row.as_ref().and_then(|row| row.answered),
            failing_since: row.and_then(|row| row.failing_since),
            not_before: None,
            delays: Delays::resting(),
            days: BTreeMap::new(),
        })
    }

    /// A region is a folder's name that another account chose: only one of our partition's becomes part of a host.
    fn is_askable(&self, region: &str) -> bool {
        shape::region(region) && shape::partition(region) == self.partition
    }

    fn may_ask(&self, at: &Region, region: &str, now: Timestamp) -> bool {
        // A time further ahead than any delay was set under another clock.
        let rests = |until| (1..=DAY_SECONDS).contains(&seconds_between(now, until));
        self.is_askable(region) && !at.not_before.is_some_and(rests)
    }

    /// Asks, and records how it went: `true` when there was an answer.
    async fn ask(
        &self,
        at: &mut Region,
        region: &str,
        window: (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Result<bool, Error> {
        let (from, to) = whole_days(window);
        // Keys of the future are nobody's to give.
        let to = to.min(shift(now, 2 * 3600));
        let window = (from.min(to), to);
        match self.service.list(region, window).await {
            Ok(given) => {
                self.take(at, region, given, window, now).await?;
                Ok(true)
            }
            Err(error) => {
                let wait = at.delays.next(fastrand::f64());
                at.not_before = Some(shift(now, i64::try_from(wait.as_secs()).unwrap_or(0).max(1)));
                if at.failing_since.is_none() {
                    warn!(source = %self.source, region = %Shown(region), code = error.code(), "{error}");
                }
                at.failing_since = at.failing_since.or(Some(now));
                self.record(at, region, Some(&error)).await?;
                Ok(false)
            }
        }
    }

    async fn take(
        &self,
        at: &mut Region,
        region: &str,
        given: Given,
        (from, to): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Result<(), Error> {
        for why in &given.refused {
            warn!(source = %self.source, region = %Shown(region), "A public key is not taken: {}", Shown(why));
        }
        let known = at.keys.all().len();
        self.ledger.add_public_keys(region, &given.keys).await?;
        at.keys = at.keys.clone().with(given.keys);
        if at.keys.all().len() > known {
            at.exported = false;
            info!(source = %self.source, region = %Shown(region), keys = at.keys.all().len(), "Public keys were fetched");
        }
        if at.days.len() >= DAYS {
            at.days.clear();
        }
        at.days.extend(days(from, to).map(|day| (day, now)));
        if seconds_between(to, now) < EVERY_SECONDS {
            at.answered = Some(now);
        }
        (at.not_before, at.failing_since) = (None, None);
        at.delays.reset();
        self.record(at, region, None).await
    }

    async fn record(&self, at: &Region, region: &str, error: Option<&Error>) -> Result<(), Error> {
        let row = KeyRequestRow {
            source: self.source.clone(),
            region: region.to_owned(),
            answered: at.answered,
            error: error.map(ToString::to_string),
            error_code: error.map(|error| error.code().to_owned()),
            failing_since: at.failing_since,
        };
        self.ledger.save_key_request(&row).await
    }
}

/// Writes the keys beside the copy, with those that are there already: a key is never forgotten.
async fn export<D: Destination>(copy: &D, at: &mut Region, region: &str) -> Result<(), Error> {
    if at.exported || at.keys.all().is_empty() {
        return Ok(());
    }
    let name = file_name(region);
    let there = copy.recall(&name).await?;
    let kept = there.as_ref().and_then(|bytes| PublicKeys::parse(bytes).ok());
    let all = at.keys.clone().with(kept.iter().flat_map(PublicKeys::all).cloned());
    let bytes = all.render();
    if there.as_ref() != Some(&bytes) {
        copy.keep(&name, bytes).await?;
    }
    at.exported = true;
    Ok(())
}

fn is_due(answered: Option<Timestamp>, now: Timestamp) -> bool {
    answered.is_none_or(|last| !(0..EVERY_SECONDS).contains(&seconds_between(last, now)))
}

fn was_answered(at: &Region, (from, to): (Timestamp, Timestamp), now: Timestamp) -> bool {
    let is_fresh = |asked: &Timestamp| (0..SAME_DAY_SECONDS).contains(&seconds_between(*asked, now));
    days(from, to).all(|day| at.days.get(&day).is_some_and(is_fresh))
}

/// The days that a window touches, whole: one answer then serves all digests of a day.
fn whole_days((from, to): (Timestamp, Timestamp)) -> (Timestamp, Timestamp) {
    let start = Day::at(from).start().unwrap_or(from);
    (start, Day::at(to).start().map_or(to, |day| shift(day, DAY_SECONDS - 1)))
}

/// A window is days long, or five weeks; a document that says otherwise gets no more.
fn days(from: Timestamp, to: Timestamp) -> impl Iterator<Item = Day> {
    let first = Day::at(from).start().unwrap_or(from);
    (0..=400).map(move |n| shift(first, n * DAY_SECONDS)).take_while(move |at| *at <= to).map(Day::at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_becomes_whole_days() {
        let window = whole_days((time("2026-03-01T23:30:00Z"), time("2026-03-02T01:00:00Z")));
        assert_eq!(window, (time("2026-03-01T00:00:00Z"), time("2026-03-02T23:59:59Z")));
        assert_eq!(days(window.0, window.1).collect::<Vec<_>>(), [Day(20_260_301), Day(20_260_302)]);
        assert_eq!(days(Timestamp::MIN, Timestamp::MAX).count(), 401);
    }

    #[test]
    fn keys_are_due_daily_and_when_the_last_answer_lies_in_the_future() {
        let now = time("2026-03-02T00:00:00Z");
        assert!(is_due(None, now) && is_due(Some(shift(now, 60)), now));
        assert!(!is_due(Some(shift(now, -86_399)), now) && is_due(Some(shift(now, -86_400)), now));
    }
}
