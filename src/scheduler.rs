//! When which stream takes its turn: one due-queue a source, a task only while a turn runs.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::shift;
use crate::destination::Destination;
use crate::discover::{self, Found, Wanted, discover, undiscovered};
use crate::error::{Class, Error};
use crate::layout::{Stream, root};
use crate::ledger::{Alarm, DELETION, PassEnd, SessionRow, StreamId};
use crate::mirror::{Mirror, Progress, Task, Turn};
use crate::prove::{Proved, Prover};
use crate::prune::{Pruned, Pruner};
use crate::pulse::Heart;
use crate::retry::{Delays, is_throttling};
use crate::role::SessionState;
use crate::scrub::{Scrubbed, Scrubber};
use crate::share::Share;
use crate::source::Remove;
use crate::trouble::{Say, Trouble};

/// A deep listing gives its place to others after so long.
const SLICE: Duration = Duration::from_secs(20);
/// How often the state is asked for objects that are to be tried again; the heart beats no more seldom.
const LOOK: Duration = Duration::from_secs(10);
/// What waits to be proved is looked at again after so long, and at once when digests were stored.
const PROOF_EVERY: Duration = Duration::from_secs(60);
/// The same while something is waited for that comes soon.
const PROOF_SOON: Duration = Duration::from_secs(5);
/// A scrub that rests, or had trouble, is looked at again after so long.
const SCRUB_EVERY: Duration = Duration::from_secs(300);
/// A deletion at the source that rests is looked at again after so long; after trouble, ever later.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// How passes ended is recorded for many streams together: so long after the first of them, or at so many.
const RECORD_AFTER: Duration = Duration::from_secs(1);
const RECORD_AT: usize = 256;
/// A source that asks for less is asked again after so long, at least and at most.
const THROTTLED_REST: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(40)];
/// A disk without space is looked at again after so long.
const DISK_REST: Duration = Duration::from_secs(20);

/// One source, ready to run.
pub struct Runner<S, D: Destination> {
    /// Mirrors its streams.
    pub mirror: Arc<Mirror<S, D>>,
    /// What to discover.
    pub wanted: Wanted,
    /// When.
    pub poll: crate::config::Poll,
    /// Its share of the passes of all sources.
    pub passes: Share,
    /// Proves what is mirrored.
    pub prover: Arc<Prover<S, D>>,
    /// Reads the copy again, when nothing else is waiting; `None` where that is switched off.
    pub scrubber: Option<Arc<Scrubber<S, D>>>,
    /// Deletes at the source, when nothing else is waiting; `None` where that is not configured.
    pub pruner: Option<Arc<Pruner<S, D>>>,
    /// The role session, to be recorded as it changes.
    pub session: watch::Receiver<SessionState>,
    /// Beats while the loop turns.
    pub heart: Heart,
}

/// A stream that waits for its turn.
struct Waiting {
    progress: Progress,
    due: Instant,
    delays: Delays,
    trouble: Trouble,
}

/// A turn that runs.
struct Running {
    stream: Arc<Stream>,
    delays: Delays,
    trouble: Trouble,
}

type Finished = (Progress, Result<Turn, Error>);

struct Loop<S, D: Destination> {
    runner: Runner<S, D>,
    stop: CancellationToken,
    waiting: HashMap<String, Waiting>,
    due: BinaryHeap<Reverse<(Instant, String)>>,
    backlog: VecDeque<String>,
    /// A permit that was waited for.
    spare: Option<OwnedSemaphorePermit>,
    turns: JoinSet<Finished>,
    running: HashMap<Id, Running>,
    /// The prefixes of those.
    busy: HashSet<String>,
    /// How passes ended that is not recorded yet, and when it is to be.
    ended: HashMap<StreamId, PassEnd>,
    next_record: Option<Instant>,
    discoveries: JoinSet<Result<Found, Error>>,
    next_discovery: Instant,
    discovery_delays: Delays,
    discovery_trouble: Trouble,
    state_trouble: Trouble,
    next_look: Instant,
    proofs: JoinSet<Result<Proved, Error>>,
    next_proof: Instant,
    proof_trouble: Trouble,
    scrubs: JoinSet<Result<Scrubbed, Error>>,
    next_scrub: Instant,
    scrub_trouble: Trouble,
    prunes: JoinSet<Result<Pruned, Error>>,
    next_prune: Instant,
    prune_delays: Delays,
    prune_trouble: Trouble,
    /// Streams that run and are to run again at once: there is something to fetch by its key.
    again: HashSet<String>,
    skewed: bool,
}

impl<S: Remove, D: Destination> Runner<S, D> {
    /// Runs the source until `stop`; then waits for the turns under way to commit what is published.
    ///
    /// # Errors
    /// `Fatal` when the process must end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let mut this = Loop {
            stop,
            waiting: HashMap::new(),
            due: BinaryHeap::new(),
            backlog: VecDeque::new(),
            spare: None,
            turns: JoinSet::new(),
            running: HashMap::new(),
            busy: HashSet::new(),
            ended: HashMap::new(),
            next_record: None,
            discoveries: JoinSet::new(),
            next_discovery: Instant::now(),
            discovery_delays: Delays::resting(),
            discovery_trouble: Trouble::default(),
            state_trouble: Trouble::default(),
            next_look: Instant::now() + LOOK,
            proofs: JoinSet::new(),
            next_proof: Instant::now(),
            proof_trouble: Trouble::default(),
            scrubs: JoinSet::new(),
            next_scrub: Instant::now() + PROOF_SOON,
            scrub_trouble: Trouble::default(),
            prunes: JoinSet::new(),
            next_prune: Instant::now() + PROOF_SOON,
            prune_delays: Delays::refused(),
            prune_trouble: Trouble::default(),
            again: HashSet::new(),
            skewed: false,
            runner: self,
        };
        this.take_known_streams().await?;
        let ended = this.run().await;
        this.discoveries.shutdown().await;
        // What it has judged and not recorded is judged again.
        this.proofs.shutdown().await;
        // It stops after the file that it reads, and what it did not record is read again.
        if !this.stop.is_cancelled() {
            this.scrubs.abort_all();
        }
        while this.scrubs.join_next().await.is_some() {}
        // Requests under way are waited for; of others the intent is kept, and resolved by the next round.
        if !this.stop.is_cancelled() {
            this.prunes.abort_all();
        }
        while this.prunes.join_next().await.is_some() {}
        while let Some(finished) = this.turns.join_next_with_id().await {
            let went = this.turn_ended(finished).await;
            this.survive(went)?;
        }
        let recorded = this.record_ends().await;
        this.survive(recorded)?;
        ended
    }
}

impl<S: Remove, D: Destination> Loop<S, D> {
    async fn run(&mut self) -> Result<(), Error> {
        let stop = self.stop.clone();
        let recorded = self.record_session().await;
        self.survive(recorded)?;
        loop {
            self.runner.heart.beat();
            let recorded = self.record_due_ends().await;
            self.survive(recorded)?;
            let blocked = self.start_turns();
            self.start_discovery();
            self.start_proof();
            if !blocked {
                self.start_scrub();
                self.start_prune();
            }
            let next = self.next_wake();
            let passes = self.runner.passes.clone();
            let wake = if blocked { self.next_look } else { next.min(self.next_look) };
            let wake = self.next_record.map_or(wake, |record| record.min(wake));
            let went = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(finished) = self.turns.join_next_with_id() => self.turn_ended(finished).await,
                Some(found) = self.discoveries.join_next() => self.discovered(found).await,
                Some(proved) = self.proofs.join_next() => self.proved(proved).await,
                Some(scrubbed) = self.scrubs.join_next() => self.scrubbed(scrubbed).await,
                Some(pruned) = self.prunes.join_next() => self.pruned(pruned).await,
                changed = self.runner.session.changed() => match changed {
                    Ok(()) => self.record_session().await,
                    // The keeper ends with the process.
                    Err(_) => {
                        stop.cancelled().await;
                        Ok(())
                    }
                },
                permit = passes.take(), if blocked => {
                    self.spare = Some(permit);
                    Ok(())
                }
                () = sleep_until(wake) => self.look_for_retries().await,
            };
            self.survive(went)?;
        }
    }

    /// A state that cannot be written now, for its disk is full, ends nothing: what was not recorded is done again.
    fn survive(&mut self, went: Result<(), Error>) -> Result<(), Error> {
        match went {
            Err(error) if error.class() != Class::Fatal => {
                if self.state_trouble.failed(error.code(), Instant::now()) != Say::Nothing {
                    warn!(source = %self.runner.wanted.source, %error, "Progress cannot be recorded now");
                }
                Ok(())
            }
            went => went,
        }
    }

    /// Records how passes ended, however busy it is.
    async fn record_due_ends(&mut self) -> Result<(), Error> {
        let is_due = self.next_record.is_some_and(|record| record <= Instant::now());
        if is_due { self.record_ends().await } else { Ok(()) }
    }

    /// Records how passes ended; what cannot be recorded now is kept.
    async fn record_ends(&mut self) -> Result<(), Error> {
        if self.ended.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        self.next_record = Some(now + RECORD_AFTER);
        self.runner.mirror.ledger().passes_ended(&self.runner.wanted.source, self.ended.values()).await?;
        self.ended.clear();
        self.next_record = None;
        self.state_trouble.recovered(now);
        Ok(())
    }

    /// Streams with objects that are to be tried again now are due, unless their passes fail: `trailsync retry` and
    /// whoever wants one object by its key need not wait for an idle stream's poll.
    async fn look_for_retries(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + LOOK;
        let mirror = &self.runner.mirror;
        let wanted = mirror.ledger().streams_to_retry(&self.runner.wanted.source, mirror.service_clock().now()).await?;
        for prefix in wanted {
            if let Some(waiting) = self.waiting.get_mut(&prefix).filter(|waiting| !waiting.trouble.is_on()) {
                waiting.due = waiting.due.min(now);
                self.due.push(Reverse((waiting.due, prefix)));
            }
        }
        Ok(())
    }

    fn next_wake(&self) -> Instant {
        let next = self.due.peek().map_or(self.next_discovery, |Reverse((at, _))| (*at).min(self.next_discovery));
        let next = if self.proofs.is_empty() { next.min(self.next_proof) } else { next };
        let scrubs = self.runner.scrubber.is_some() && self.scrubs.is_empty();
        let next = if scrubs { next.min(self.next_scrub) } else { next };
        let prunes = self.runner.pruner.is_some() && self.prunes.is_empty();
        if prunes { next.min(self.next_prune) } else { next }
    }

    /// Streams that were found before are polled at once, even when discovery fails.
    async fn take_known_streams(&mut self) -> Result<(), Error> {
        let wanted = &self.runner.wanted;
        let root = root(&wanted.prefix);
        let mut known = Vec::new();
        for row in self.runner.mirror.ledger().checkpoints().await? {
            let Some(kind) = crate::layout::Kind::named(&row.kind).filter(|_| row.source == wanted.source) else {
                continue;
            };
            let stream = Stream::new(&row.source, &root, row.organization.as_deref(), &row.account, kind, &row.region);
            if stream.prefix == row.prefix && wanted.covers(&stream) {
                known.push(stream);
            }
        }
        self.take_streams(known).await
    }

    async fn take_streams(&mut self, streams: Vec<Stream>) -> Result<(), Error> {
        for stream in streams {
            let prefix = stream.prefix.clone();
            if self.busy.contains(&prefix) || self.waiting.contains_key(&prefix) {
                continue;
            }
            let progress = self.runner.mirror.resume(stream).await?;
            let delays = Delays::resting();
            self.wait(Waiting { progress, due: Instant::now(), delays, trouble: Trouble::default() });
        }
        Ok(())
    }

    fn wait(&mut self, waiting: Waiting) {
        let prefix = waiting.progress.stream.prefix.clone();
        self.due.push(Reverse((waiting.due, prefix.clone())));
        self.waiting.insert(prefix, waiting);
    }

    /// Polls that are due come first; deep listings take what is left. Says whether a turn waits for a permit.
    fn start_turns(&mut self) -> bool {
        loop {
            let now = Instant::now();
            if !self.has_work(now) {
                self.spare = None;
                return false;
            }
            let Some(permit) = self.spare.take().or_else(|| self.runner.passes.try_take()) else {
                return true;
            };
            let poll = self.next_due(now);
            let Some(prefix) = poll.clone().or_else(|| self.next_in_backlog()) else { continue };
            let Some(Waiting { mut progress, due, delays, trouble }) = self.waiting.remove(&prefix) else { continue };
            // What is not recorded yet is recorded with what this turn adds, and never after it.
            let kept = self.ended.get_mut(&progress.id).and_then(|end| end.checkpoint.take());
            progress.unsaved |= kept.is_some();
            let task = Task {
                poll: poll.is_some(),
                until: slice_end(now, due, poll.is_some(), self.runner.poll.every),
                stop: self.stop.clone(),
            };
            let (mirror, stream) = (self.runner.mirror.clone(), progress.stream.clone());
            let turn = self.turns.spawn(async move {
                let result = mirror.turn_unsaved(&mut progress, &task).await;
                drop(permit);
                (progress, result)
            });
            self.busy.insert(prefix);
            self.running.insert(turn.id(), Running { stream, delays, trouble });
        }
    }

    fn has_work(&mut self, now: Instant) -> bool {
        // One that was overtaken by its poll comes again with it.
        while self.backlog.front().is_some_and(|prefix| !self.waiting.contains_key(prefix)) {
            self.backlog.pop_front();
        }
        self.due.peek().is_some_and(|Reverse((at, _))| *at <= now) || !self.backlog.is_empty()
    }

    /// The stream that is due longest; entries that were overtaken are passed over.
    fn next_due(&mut self, now: Instant) -> Option<String> {
        while let Some(Reverse((at, _))) = self.due.peek() {
            if *at > now {
                return None;
            }
            let Reverse((at, prefix)) = self.due.pop()?;
            if self.waiting.get(&prefix).is_some_and(|waiting| waiting.due == at) {
                return Some(prefix);
            }
        }
        None
    }

    fn next_in_backlog(&mut self) -> Option<String> {
        while let Some(prefix) = self.backlog.pop_front() {
            if self.waiting.contains_key(&prefix) {
                return Some(prefix);
            }
        }
        None
    }

    async fn turn_ended(&mut self, finished: Result<(Id, Finished), JoinError>) -> Result<(), Error> {
        let id = finished.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(running) = self.running.remove(&id) else { return Ok(()) };
        self.busy.remove(&running.stream.prefix);
        match finished {
            Ok((_, (progress, result))) => self.reschedule(running, progress, result).await,
            Err(panicked) => {
                error!(stream = %running.stream, error = %panicked, "A pass ended unexpectedly; the stream goes on from its checkpoint");
                let progress = self.runner.mirror.resume((*running.stream).clone()).await?;
                let due = Instant::now() + self.runner.poll.every;
                self.wait(Waiting { progress, due, delays: running.delays, trouble: running.trouble });
                Ok(())
            }
        }
    }

    async fn reschedule(
        &mut self,
        running: Running,
        mut progress: Progress,
        result: Result<Turn, Error>,
    ) -> Result<(), Error> {
        let Running { stream, mut delays, mut trouble } = running;
        let now = Instant::now();
        let (pause, error) = match result {
            Ok(turn) => {
                if let Some(after) = trouble.recovered(now) {
                    info!(%stream, after_seconds = after.as_secs(), "`{stream}` is mirrored again");
                }
                delays.reset();
                if turn.unfinished {
                    self.backlog.push_back(stream.prefix.clone());
                }
                if turn.stored > 0 && stream.kind.keeps_metadata {
                    self.next_proof = now;
                }
                let now = self.runner.mirror.service_clock().now();
                (progress.rhythm.next_poll(&self.runner.poll, now), None)
            }
            Err(error) if error.class() == Class::Fatal => return Err(error),
            Err(error) => {
                tell(&stream, &error, trouble.failed(error.code(), now));
                (rest(&error, &mut delays), Some(error))
            }
        };
        let clock = self.runner.mirror.service_clock();
        let (ours, next) = (clock.ours(), i64::try_from(pause.as_secs()).unwrap_or(i64::MAX));
        let mut end = PassEnd::of(progress.id, error.as_ref(), shift(ours, next), ours);
        if std::mem::take(&mut progress.unsaved) {
            end.checkpoint = Some(progress.checkpoint.clone());
        }
        let wait = if self.again.remove(&stream.prefix) { Duration::ZERO } else { pause };
        self.wait(Waiting { progress, due: now + wait, delays, trouble });
        // A turn that was stopped says nothing of how the stream is, unless it was complete.
        if !self.stop.is_cancelled() || error.is_some() || end.checkpoint.is_some() {
            self.keep_end(end);
        }
        if error.is_some() || self.ended.len() >= RECORD_AT {
            self.record_ends().await?;
        }
        self.watch_skew().await
    }

    fn keep_end(&mut self, end: PassEnd) {
        self.ended.insert(end.id, end);
        self.next_record.get_or_insert(Instant::now() + RECORD_AFTER);
    }

    fn start_discovery(&mut self) {
        if Instant::now() < self.next_discovery || !self.discoveries.is_empty() {
            return;
        }
        self.next_discovery = Instant::now() + self.runner.poll.discover_every;
        let (mirror, wanted) = (self.runner.mirror.clone(), self.runner.wanted.clone());
        self.discoveries.spawn(async move { discover(mirror.source(), &wanted).await });
    }

    fn start_proof(&mut self) {
        if Instant::now() < self.next_proof || !self.proofs.is_empty() {
            return;
        }
        self.next_proof = Instant::now() + PROOF_EVERY;
        let (prover, stop) = (self.runner.prover.clone(), self.stop.clone());
        self.proofs.spawn(async move { prover.turn(&stop).await });
    }

    /// Whatever goes wrong with the proof is said, and does not touch the mirror.
    async fn proved(&mut self, proved: Result<Result<Proved, Error>, JoinError>) -> Result<(), Error> {
        let (now, ours) = (Instant::now(), self.runner.mirror.service_clock().ours());
        let (source, ledger) = (self.runner.wanted.source.clone(), self.runner.mirror.ledger().clone());
        match proved {
            Ok(Ok(proved)) => {
                if self.proof_trouble.recovered(now).is_some() {
                    info!(%source, "The proof goes on");
                }
                ledger.clear_alarm(&source, "proof", "", ours).await?;
                if proved.more {
                    self.next_proof = now;
                } else if proved.waits {
                    self.next_proof = self.next_proof.min(now + PROOF_SOON);
                }
                self.wake(proved.wake).await
            }
            Ok(Err(error)) => {
                if self.proof_trouble.failed(error.code(), now) != Say::Nothing {
                    warn!(%source, code = error.code(), "The proof waits: {error}");
                    let detail = format!("the proof waits, the mirror goes on: {error}");
                    ledger.alarm(&source, &Alarm { kind: "proof", subject: String::new(), detail }, ours).await?;
                }
                Ok(())
            }
            Err(panicked) => {
                error!(%source, error = %panicked, "The proof ended unexpectedly; it goes on from what was recorded");
                Ok(())
            }
        }
    }

    /// Only while no turn waits for its permit: whatever else is to be done comes first.
    fn start_scrub(&mut self) {
        let Some(scrubber) = self.runner.scrubber.clone() else { return };
        if Instant::now() < self.next_scrub || !self.scrubs.is_empty() {
            return;
        }
        self.next_scrub = Instant::now() + SCRUB_EVERY;
        let stop = self.stop.clone();
        self.scrubs.spawn(async move { scrubber.turn(&stop).await });
    }

    /// Whatever goes wrong with the scrub is said, and does not touch the mirror.
    async fn scrubbed(&mut self, scrubbed: Result<Result<Scrubbed, Error>, JoinError>) -> Result<(), Error> {
        let (now, ours) = (Instant::now(), self.runner.mirror.service_clock().ours());
        let (source, ledger) = (self.runner.wanted.source.clone(), self.runner.mirror.ledger().clone());
        match scrubbed {
            Ok(Ok(scrubbed)) => {
                if self.scrub_trouble.recovered(now).is_some() {
                    info!(%source, "The scrub goes on");
                }
                ledger.clear_alarm(&source, "scrub", "", ours).await?;
                if scrubbed.more {
                    self.next_scrub = now;
                }
                self.wake(scrubbed.wake).await
            }
            Ok(Err(error)) => {
                if self.scrub_trouble.failed(error.code(), now) != Say::Nothing {
                    warn!(%source, code = error.code(), "The scrub waits: {error}");
                    let detail = format!("the scrub waits, the mirror goes on: {error}");
                    ledger.alarm(&source, &Alarm { kind: "scrub", subject: String::new(), detail }, ours).await?;
                }
                Ok(())
            }
            Err(panicked) => {
                error!(%source, error = %panicked, "The scrub ended unexpectedly; it goes on from what was recorded");
                Ok(())
            }
        }
    }

    /// Only while no turn waits for its permit: nothing is in less of a hurry.
    fn start_prune(&mut self) {
        let Some(pruner) = self.runner.pruner.clone() else { return };
        if Instant::now() < self.next_prune || !self.prunes.is_empty() {
            return;
        }
        self.next_prune = Instant::now() + PRUNE_EVERY;
        let stop = self.stop.clone();
        self.prunes.spawn(async move { pruner.turn(&stop).await });
    }

    /// Whatever goes wrong with the deletion at the source is said, and does not touch the mirror.
    async fn pruned(&mut self, pruned: Result<Result<Pruned, Error>, JoinError>) -> Result<(), Error> {
        let (now, ours) = (Instant::now(), self.runner.mirror.service_clock().ours());
        let (source, ledger) = (self.runner.wanted.source.clone(), self.runner.mirror.ledger().clone());
        match pruned {
            Ok(Ok(pruned)) => {
                self.prune_delays.reset();
                if self.prune_trouble.recovered(now).is_some() {
                    info!(%source, "The deletion at the source goes on");
                }
                ledger.clear_alarm(&source, DELETION, "", ours).await?;
                if pruned.more {
                    self.next_prune = now;
                }
                if pruned.capped {
                    info!(%source, "The round may not delete more at the source: `after_mirror.most` is what it may");
                }
                Ok(())
            }
            Ok(Err(error)) => {
                self.next_prune = now + self.prune_delays.next(fastrand::f64());
                if self.prune_trouble.failed(error.code(), now) != Say::Nothing {
                    warn!(%source, code = error.code(), "Nothing is deleted at the source now: {error}");
                    let detail = format!("nothing is deleted at the source now, the mirror goes on: {error}");
                    ledger.alarm(&source, &Alarm { kind: DELETION, subject: String::new(), detail }, ours).await?;
                }
                Ok(())
            }
            Err(panicked) => {
                error!(%source, error = %panicked, "The deletion at the source ended unexpectedly; it goes on from what was recorded");
                Ok(())
            }
        }
    }

    /// Lets streams take their turn at once.
    async fn wake(&mut self, streams: Vec<Stream>) -> Result<(), Error> {
        for stream in &streams {
            if self.busy.contains(&stream.prefix) {
                self.again.insert(stream.prefix.clone());
            } else if let Some(waiting) = self.waiting.get_mut(&stream.prefix) {
                waiting.due = Instant::now();
                self.due.push(Reverse((waiting.due, stream.prefix.clone())));
            }
        }
        self.take_streams(streams).await
    }

    async fn discovered(&mut self, found: Result<Result<Found, Error>, JoinError>) -> Result<(), Error> {
        let now = Instant::now();
        match found {
            Ok(Ok(found)) => {
                self.discovery_went(found.failed.first().map(|(_, error)| error), now);
                self.report(&found).await?;
                self.take_streams(found.streams).await
            }
            Ok(Err(error)) if error.class() == Class::Fatal => Err(error),
            Ok(Err(error)) => {
                self.discovery_went(Some(&error), now);
                let (ledger, ours) = (self.runner.mirror.ledger(), self.runner.mirror.service_clock().ours());
                ledger.alarm(&self.runner.wanted.source, &undiscovered("", &error), ours).await
            }
            Err(panicked) => {
                error!(source = %self.runner.wanted.source, error = %panicked, "Discovery ended unexpectedly");
                Ok(())
            }
        }
    }

    /// What could not be discovered is tried again within seconds, then ever later; the rest on its timer.
    fn discovery_went(&mut self, failed: Option<&Error>, now: Instant) {
        let source = &self.runner.wanted.source;
        match failed {
            Some(error) => {
                if self.discovery_trouble.failed(error.code(), now) != Say::Nothing {
                    warn!(%source, %error, "Part of the bucket cannot be discovered");
                }
                let again = now + self.discovery_delays.next(fastrand::f64());
                self.next_discovery = self.next_discovery.min(again);
            }
            None => {
                self.discovery_delays.reset();
                if self.discovery_trouble.recovered(now).is_some() {
                    info!(%source, "Streams can be discovered again");
                }
            }
        }
    }

    async fn report(&self, found: &Found) -> Result<(), Error> {
        let (ledger, source) = (self.runner.mirror.ledger(), &self.runner.wanted.source);
        let now = self.runner.mirror.service_clock().ours();
        info!(%source, streams = found.streams.len(), unknown_folders = found.unknown.len(), lists = found.lists, "Discovered streams");
        ledger.replace_alarms(source, &discover::ALARMS, &found.alarms(), now).await
    }

    async fn record_session(&mut self) -> Result<(), Error> {
        let session = session_row(&self.runner.wanted.source, &self.runner.session.borrow_and_update());
        self.runner.mirror.ledger().save_session(&session).await
    }

    /// Raises an alarm while the service's clock and ours disagree, and clears it when they agree again.
    async fn watch_skew(&mut self) -> Result<(), Error> {
        let (ledger, clock) = (self.runner.mirror.ledger(), self.runner.mirror.service_clock());
        let (source, ours) = (&self.runner.wanted.source, clock.ours());
        match clock.skew() {
            Some(ahead) if !self.skewed => {
                let detail = format!(
                    "the service's clock is {ahead} s ahead of ours; nothing is sealed until they agree: set this host's clock"
                );
                warn!(%source, ahead_seconds = ahead, "{detail}");
                ledger.alarm(source, &Alarm { kind: "clock_skew", subject: String::new(), detail }, ours).await?;
            }
            None if self.skewed => ledger.clear_alarm(source, "clock_skew", "", ours).await?,
            _ => return Ok(()),
        }
        self.skewed = !self.skewed;
        Ok(())
    }
}

/// A session as the state keeps it.
pub fn session_row(source: &str, state: &SessionState) -> SessionRow {
    SessionRow {
        source: source.to_owned(),
        role_arn: state.role_arn.clone(),
        session_name: state.session_name.clone(),
        caller_arn: state.caller_arn.clone(),
        obtained: state.obtained,
        expires: state.expires,
        next_renewal: state.next_renewal,
        renewals: state.renewals,
        failures: state.failures.into(),
        last_error: state.last_error.as_ref().map(|error| error.text.clone()),
        last_error_at: state.last_error.as_ref().map(|error| error.at),
        chained: state.chained,
    }
}

/// A turn that polls leaves time for the next poll; so does one that goes on with a deep listing.
fn slice_end(now: Instant, due: Instant, poll: bool, every: Duration) -> Instant {
    let next = if poll { now + every } else { due.max(now) };
    next.min(now + SLICE).max(now + Duration::from_millis(200))
}

fn tell(stream: &Stream, error: &Error, say: Say) {
    match say {
        Say::Error => warn!(%stream, operation = error.report().operation, code = error.code(), "{error}"),
        Say::Again(times) => {
            warn!(%stream, operation = error.report().operation, code = error.code(), times, "Still: {error}")
        }
        Say::Nothing => {}
    }
}

/// A full disk is looked at every few seconds; anything else rests ever longer.
fn rest(error: &Error, delays: &mut Delays) -> Duration {
    match error.code() {
        "ENOSPC" | "EDQUOT" | "EROFS" | "DestinationGone" | "SQLITE_13" => DISK_REST,
        code if is_throttling(code) => {
            let [least, most] = THROTTLED_REST;
            delays.next(fastrand::f64()).min(least + (most - least).mul_f64(fastrand::f64()))
        }
        _ => delays.next(fastrand::f64()),
    }
}
