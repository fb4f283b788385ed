//! One turn of one stream: list, fetch, store, commit, seal. Source, destination and ledger meet here and nowhere else.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::clock::{Clock, Timestamp, shift};
use crate::config::Poll;
use crate::destination::Destination;
use crate::error::{Class, Error, Report};
use crate::gate::Gate;
use crate::layout::{Day, Stream};
use crate::ledger::{Checkpoint, Ledger, Range, StreamId};
use crate::manifest::{DAMAGED, Manifests};
use crate::rhythm::Rhythm;
use crate::service_clock::ServiceClock;
use crate::share::Share;
use crate::source::Source;
use crate::window::{self, AHEAD_SECONDS, SKEW_SECONDS, Scope};

mod ahead;
mod compare;
mod flow;
pub(crate) mod mend;
mod meter;
mod outcome;
#[cfg(test)]
mod overload;
mod restore;
mod retries;
mod seal;
mod story;
mod sweep;
mod transfer;
mod walk;

pub(crate) use compare::vanished;
pub use meter::{Meter, Snapshot};
use outcome::Streak;
pub(crate) use story::replaced;
use walk::Manner;

/// What a mirror works by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// When and how far back.
    pub poll: Poll,
    /// Nothing that is dated before is mirrored.
    pub since: Option<Timestamp>,
    /// Age in seconds at which objects are expected to leave the source.
    pub retention: Option<i64>,
    /// Days whose objects stay rows.
    pub ledger_days: u32,
    /// Objects of one pass in flight.
    pub in_flight: usize,
    /// Multiplies the delays between tries; 1 outside tests.
    pub pace: f64,
    /// A number from 0 to 1, for jitter.
    pub random: fn() -> f64,
}

/// Bounds on what is in flight: of this source, and of all sources together.
#[derive(Debug, Clone)]
pub struct Permits {
    /// Requests of this source; it finds its own level.
    pub source: Arc<Gate>,
    /// Its share of the objects of all sources.
    pub process: Share,
}

/// Mirrors the streams of one source.
pub struct Mirror<S, D> {
    source: Arc<S>,
    destination: Arc<D>,
    ledger: Ledger,
    manifests: Manifests,
    service: ServiceClock,
    rules: Rules,
    permits: Permits,
    meter: Meter,
}

/// A stream and how far it is.
#[derive(Debug)]
pub struct Progress {
    /// Which stream.
    pub stream: Arc<Stream>,
    /// Its number in the database.
    pub id: StreamId,
    /// How far it is.
    pub checkpoint: Checkpoint,
    /// How often something comes.
    pub rhythm: Rhythm,
    /// The checkpoint says more than what was committed: a listing that found nothing new is complete.
    pub unsaved: bool,
    streak: Streak,
    stored: u64,
    /// The service has told its time in this turn.
    told: bool,
}

/// What a turn is to do, and for how long.
#[derive(Debug, Clone)]
pub struct Task {
    /// Poll first.
    pub poll: bool,
    /// Leave a deep listing where it is at this time, after the page under way.
    pub until: Instant,
    /// Start nothing more, commit what is published.
    pub stop: CancellationToken,
}

/// What a turn did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Objects that were stored.
    pub stored: u64,
    /// A deep listing is under way or due: another turn goes on with it.
    pub unfinished: bool,
}

impl<S: Source, D: Destination> Mirror<S, D> {
    /// A mirror from `source` to `destination` that keeps its progress in `ledger`.
    pub fn new(
        source: Arc<S>,
        destination: Arc<D>,
        ledger: Ledger,
        manifests: Manifests,
        clock: Arc<dyn Clock>,
        rules: Rules,
        permits: Permits,
    ) -> Self {
        let service = ServiceClock::new(clock);
        Self { source, destination, ledger, manifests, service, rules, permits, meter: Meter::default() }
    }

    /// Where the stream stands.
    ///
    /// # Errors
    /// `Fatal` when the state cannot be read.
    pub async fn resume(&self, stream: Stream) -> Result<Progress, Error> {
        // Thousands of streams are known at a start: nothing is written for those.
        let (id, checkpoint) = match self.ledger.known(&stream).await? {
            Some(known) => known,
            None => self.ledger.checkpoint(&stream).await?,
        };
        let rhythm = Rhythm::since(checkpoint.last_stored_at);
        let (stream, streak) = (Arc::new(stream), Streak::default());
        Ok(Progress { stream, id, checkpoint, rhythm, unsaved: false, streak, stored: 0, told: false })
    }

    /// Lists what is due, mirrors what is new, and seals what is old.
    ///
    /// May be dropped at any await: what was committed holds, and the rest is found again.
    ///
    /// # Errors
    /// Of the class that says what to do: `Transient` and `Stream` let the stream rest, `Fatal` ends the process.
    pub async fn turn(&self, progress: &mut Progress, task: &Task) -> Result<Turn, Error> {
        let ended = self.turn_unsaved(progress, task).await;
        let saved = self.save(progress).await;
        ended.and_then(|turn| saved.map(|()| turn))
    }

    /// Commits what a turn left to its caller.
    async fn save(&self, progress: &mut Progress) -> Result<(), Error> {
        if progress.unsaved {
            self.commit(progress, &crate::ledger::Commit::default()).await?;
            progress.unsaved = false;
        }
        Ok(())
    }

    /// The same, but leaves it to the caller to commit that a poll was complete, with those of other streams: until
    /// then a restart lists again from where the last one began. Objects are committed at once, as ever.
    ///
    /// # Errors
    /// As for [`Mirror::turn`].
    pub async fn turn_unsaved(&self, progress: &mut Progress, task: &Task) -> Result<Turn, Error> {
        // Boxed, as are the futures within: each would else be a part of the one around it, and an unoptimized build
        // moves them over a stack that has no room for that.
        match Box::pin(self.turn_once(progress, task)).await {
            Err(error) if error.code() == DAMAGED && self.restore_manifests(progress).await? > 0 => {
                Box::pin(self.turn_once(progress, task)).await
            }
            ended => ended,
        }
    }

    async fn turn_once(&self, progress: &mut Progress, task: &Task) -> Result<Turn, Error> {
        // A turn that finds nothing new must not say that all is well when the copies are gone.
        self.destination.present().await?;
        let before = progress.stored;
        progress.told = false;
        if task.poll {
            Box::pin(self.poll(progress, task)).await?;
            Box::pin(self.retry_failures(progress, task)).await?;
        }
        let unfinished = Box::pin(self.sweep(progress, task)).await?;
        if !unfinished && !task.stop.is_cancelled() {
            Box::pin(self.seal(progress, None)).await?;
        }
        Ok(Turn { stored: progress.stored - before, unfinished })
    }

    /// Tries again what is due, of objects that failed or were damaged, and lists nothing.
    ///
    /// # Errors
    /// As for [`Mirror::turn`].
    pub async fn try_again(&self, progress: &mut Progress, task: &Task) -> Result<(), Error> {
        self.retry_failures(progress, task).await
    }

    /// Lists the latest minutes; again when the first page shows that the clocks had parted.
    async fn poll(&self, progress: &mut Progress, task: &Task) -> Result<(), Error> {
        for wary in [true, false] {
            let now = self.service.now();
            let page_from = self.ledger.page_back(&progress.stream, progress.id, PAGE_BACK, Day::at(now)).await?;
            let window = window::poll_window(&progress.checkpoint.memory, &self.rules.poll, now, page_from);
            let mut range = Range {
                after: Some(progress.stream.bound(self.not_before_since(window.from))),
                until: Some(progress.stream.bound(shift(now, AHEAD_SECONDS))),
                ..Range::default()
            };
            let manner = Manner { scope: Scope::Poll, until: None, wary };
            let walked = Box::pin(self.walk(progress, manner, &mut range, task)).await?;
            if walked.surprised {
                debug!(stream = %progress.stream, "The service's clock is not where it was: polling again");
                continue;
            }
            if walked.finished && window.complete {
                let began = walked.answered.map_or(now, |answered| answered.min(now));
                let trusted = self.trusted(began);
                if let Some(tier) =
                    window::tier_reached(&progress.checkpoint.memory, &self.rules.poll, window.from, now)
                {
                    progress.checkpoint.memory.complete(tier, began, trusted);
                }
                self.listed_through(progress, Scope::Poll, began, trusted).await?;
                progress.unsaved = true;
            }
            break;
        }
        Ok(())
    }

    /// Remembers a complete listing, in which every object has been recorded one way or the other.
    async fn complete(
        &self,
        progress: &mut Progress,
        scope: Scope,
        began: Timestamp,
        trusted: Timestamp,
        since: Option<i64>,
    ) -> Result<(), Error> {
        self.listed_through(progress, scope, began, trusted).await?;
        if matches!(scope, Scope::Full | Scope::Backfill) {
            progress.checkpoint.memory.looked_since(since);
        }
        self.commit(progress, &crate::ledger::Commit::default()).await
    }

    async fn listed_through(
        &self,
        progress: &mut Progress,
        scope: Scope,
        began: Timestamp,
        trusted: Timestamp,
    ) -> Result<(), Error> {
        progress.checkpoint.memory.complete(scope, began, trusted);
        let (failing, _) = self.ledger.failures_count(&progress.stream, progress.id).await?;
        if failing == 0 && scope != Scope::Tail {
            // A long listing ends after shorter ones that began later: what they reached holds, unless it lies in
            // the future, where only a wrong clock can have put it.
            let latest = shift(self.service.now(), SKEW_SECONDS);
            let known = progress.checkpoint.listed_through.filter(|known| *known <= latest);
            progress.checkpoint.listed_through = known.max(Some(began.min(trusted)));
        }
        Ok(())
    }

    async fn commit(&self, progress: &Progress, commit: &crate::ledger::Commit) -> Result<(), Error> {
        let now = self.service.ours();
        self.ledger.commit(&progress.stream, progress.id, commit, &progress.checkpoint, now).await
    }

    /// Up to when both clocks agree that it is past.
    fn trusted(&self, now: Timestamp) -> Timestamp {
        if self.service.skew().is_some() { now.min(self.service.ours()) } else { now }
    }

    fn not_before_since(&self, from: Timestamp) -> Timestamp {
        self.rules.since.map_or(from, |since| from.max(since))
    }

    /// What this mirror has done since it was made.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// When streams are polled.
    pub fn poll_rules(&self) -> &Poll {
        &self.rules.poll
    }

    /// The service's clock as this source sees it.
    pub fn service_clock(&self) -> &ServiceClock {
        &self.service
    }

    /// The source, for discovery.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Where copies are, for the proof.
    pub fn destination(&self) -> &D {
        &self.destination
    }

    /// The manifests of sealed days.
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// The state.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// A poll looks back as far as so many objects reach, so that they and what is new fit one page of 1,000.
const PAGE_BACK: u32 = 800;

fn internal(stream: &Stream, why: impl std::fmt::Display) -> Error {
    Error::of(Class::Stream, Report::new("mirror", stream.to_string(), why))
}
