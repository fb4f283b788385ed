//! Plays a history: the mirror over a bucket and a place for copies, its clocks, its deaths and its restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll as Polled};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trailsync::clock::{ManualClock, Timestamp, seconds_between, shift};
use trailsync::config::{Poll, Tier};
use trailsync::error::{Class, Error};
use trailsync::gate::Gate;
use trailsync::ledger::Ledger;
use trailsync::manifest::Manifests;
use trailsync::mirror::{Mirror, Permits, Progress, Rules, Task, Turn};
use trailsync::share::Share;

use super::bucket::{Bucket, Vault};
use super::check::{Over, Present};
use super::history::{Cut, DAY, Event, HOUR, MINUTE, Setup};
use super::outside::Outside;
use super::tally::Tally;
use super::wire::{TOO_MANY, Wire, Wired};

/// What went wrong, for people.
pub type Checked<T = ()> = Result<T, String>;

type WiredMirror<B, V> = Mirror<Wired<<B as Bucket>::Source>, Wired<<V as Vault>::Destination>>;

/// A mirror and all that surrounds it.
pub struct World<B: Bucket, V: Vault> {
    pub outside: Outside<B>,
    pub vault: V,
    pub ledger: Ledger,
    pub manifests: Manifests,
    pub rules: Rules,
    pub wire: Wire,
    pub tally: Tally,
    pub mirror: WiredMirror<B, V>,
    pub progress: Progress,
    /// It died, lost power or could not publish: files may stand there that no row names.
    pub died: bool,
    /// What was there after the turn before.
    pub before: Present,
    /// How often an object was found to be gone, by suffix.
    pub missed: BTreeMap<String, u64>,
    /// Something was told to fail that an object can suffer from.
    pub may_fail: bool,
    /// What was ever in quarantine, by suffix.
    pub quarantined: BTreeSet<String>,
    /// A clock was wrong at any time, or the service's was.
    pub clock_was_wrong: bool,
    pub service_was_wrong: bool,
    /// When the clocks were set last, right or wrong.
    pub clocks_set: Timestamp,
    pub ours_ahead: i64,
    pub service_ahead: i64,
    /// LIST and GET requests that were recorded when this process began.
    pub requests_before: (u64, u64),
    /// This process has given up what was under way.
    pub abandoned: bool,
    /// Nothing can be said of when things must be found before this time, as the service's clock was wrong.
    pub blurred: Timestamp,
    /// What was there by then is found by the next turn that leaves nothing to do: the first listing, or a full one
    /// that somebody asked for, began later.
    pub backlog: Option<u64>,
    clock: ManualClock,
    last_turn: Option<Timestamp>,
}

impl<B: Bucket, V: Vault> World<B, V> {
    /// A new mirror; its manifests go below `dir`.
    pub async fn new(bucket: B, vault: V, ledger: Ledger, dir: &Path, setup: &Setup) -> Checked<Self> {
        let outside = Outside::new(bucket, setup);
        let (manifests, rules, tally) = (Manifests::under(dir), rules(setup), outside.tally.clone());
        let wire = Wire::new(tally.clone());
        let clock = ManualClock::at(setup.start);
        let mirror = connect(&outside, &vault, &ledger, &manifests, &clock, &rules, &wire);
        let progress = mirror.resume((*outside.stream).clone()).await.map_err(|e| e.to_string())?;
        outside.bucket.set_time(setup.start);
        Ok(Self {
            outside,
            vault,
            ledger,
            manifests,
            rules,
            wire,
            tally,
            mirror,
            progress,
            died: false,
            before: Present::default(),
            may_fail: true,
            missed: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            clock_was_wrong: false,
            service_was_wrong: false,
            clocks_set: setup.start,
            ours_ahead: 0,
            service_ahead: 0,
            requests_before: (0, 0),
            abandoned: false,
            blurred: Timestamp::MIN,
            backlog: None,
            clock,
            last_turn: None,
        })
    }

    /// One event, and what must hold after it.
    pub async fn play(&mut self, event: &Event) -> Checked {
        self.may_fail |= event.may_fail_objects();
        match event {
            Event::Advance(seconds) => self.advance(*seconds),
            Event::Bucket(change) => self.outside.apply(change),
            Event::Meanwhile(at, change) => {
                let (outside, change) = (self.outside.clone(), change.clone());
                self.tally.count("changed in the middle of a turn");
                self.wire.meanwhile(*at, move || outside.apply(&change));
            }
            // When both are wrong nobody can tell.
            Event::OurClock(ahead) => self.set_clocks(*ahead, 0),
            Event::ServiceClock(ahead) => self.set_clocks(0, *ahead),
            Event::FailList(nth, fault) => self.outside.bucket.fail_list(*nth, fault.clone()),
            Event::FailFetch(nth, fault) => self.outside.bucket.fail_fetch(*nth, fault.clone()),
            Event::FailStage(count) => self.vault.fail_next_stage(*count),
            Event::FailPublish(visible) => {
                self.died = true;
                self.vault.fail_publish_after(*visible);
            }
            Event::Full(full) => {
                self.tally.add("disk full", u64::from(*full));
                self.vault.set_full(*full);
            }
            Event::PageSize(entries) => self.outside.bucket.set_page_size(*entries),
            Event::Turn { poll, brief, cut } => {
                self.turn(*poll, *brief, *cut).await?;
            }
            Event::Restart => self.restart().await?,
            Event::PowerCut => {
                self.died = true;
                self.tally.count("power cut");
                self.vault.cut_power();
                self.restart().await?;
                self.check_power_cut().await?;
            }
            Event::Everything => {
                self.backlog = Some(self.outside.past().order);
                self.mirror.list_everything(&mut self.progress).await.map_err(|e| e.to_string())?;
            }
            Event::Retry => {
                self.ledger.retry(None, "").await.map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }

    /// The clocks are right, nothing fails, and time passes until every tier has had its turn.
    pub async fn calm_down(&mut self) -> Checked {
        self.wire.end();
        self.set_clocks(0, 0);
        self.vault.set_full(false);
        self.vault.fail_next_stage(0);
        self.outside.apply(&super::history::Change::PermitAll);
        for pause in [MINUTE + 1, 16 * MINUTE, DAY + HOUR] {
            self.advance(pause);
            self.settle().await?;
        }
        self.empty_quarantine().await?;
        self.advance(31 * DAY);
        self.settle().await?;
        self.empty_quarantine().await?;
        self.check_everything().await
    }

    /// What fails by a fault that was ordered long ago has another chance a day later, and then another.
    async fn empty_quarantine(&mut self) -> Checked {
        for _ in 0..2 {
            if self.check_quarantine_is_empty().await.is_ok() {
                break;
            }
            self.advance(DAY + HOUR);
            self.settle().await?;
        }
        self.check_quarantine_is_empty().await
    }

    /// Turns until one ends with nothing left to do.
    pub async fn settle(&mut self) -> Checked {
        for _ in 0..60 {
            if let Some(Ok(Turn { unfinished: false, .. })) = self.turn(true, false, Cut::Not).await? {
                return Ok(());
            }
        }
        Err("the mirror does not come to rest".into())
    }

    /// A turn as the scheduler gives it; `None` when it was killed.
    pub async fn turn(&mut self, poll: bool, brief: bool, cut: Cut) -> Checked<Option<Result<Turn, Error>>> {
        let order = self.outside.past().order;
        let began = self.outside.past().now;
        self.backlog.get_or_insert(order);
        self.tally.off(self.ours_ahead, self.service_ahead);
        self.tally.waited(self.last_turn.replace(began).map_or(0, |last| seconds_between(last, began)));
        let until = Instant::now() + if brief { Duration::ZERO } else { Duration::from_secs(600) };
        let task = Task { poll, until, stop: CancellationToken::new() };
        let result = self.cut_short(&task, cut).await;
        let happened = self.wire.happened();
        if self.wire.end() > TOO_MANY {
            return Err("a turn that does not end".into());
        }
        let stopped = task.stop.is_cancelled();
        self.tally.add("stopped", u64::from(stopped));
        self.abandoned |= stopped || matches!(result, Some(Err(_)));
        match &result {
            None => {
                self.died = true;
                self.tally.count("killed");
                self.restart().await?;
            }
            Some(Err(error)) if error.class() == Class::Fatal => return Err(error.to_string()),
            Some(_) => {}
        }
        let turn = result.as_ref().and_then(|result| result.as_ref().ok().copied());
        let complete = poll && !stopped && turn.is_some_and(|turn| !turn.unfinished);
        self.check_turn(&Over { began, order, complete, turn, happened }).await?;
        Ok(result)
    }

    /// Plays a turn until it ends, or until the process dies.
    async fn cut_short(&mut self, task: &Task, cut: Cut) -> Option<Result<Turn, Error>> {
        let (kill_at, stop_at, polls) = match cut {
            Cut::Not => (None, None, u32::MAX),
            Cut::Killed(at) => (Some(at), None, u32::MAX),
            Cut::Dropped(polls) => (None, None, polls * B::POLLS),
            Cut::Stopped(at) => (None, Some((at, task.stop.clone())), u32::MAX),
        };
        self.wire.begin(kill_at, stop_at);
        tokio::select! {
            biased;
            result = Limited { future: pin!(self.mirror.turn(&mut self.progress, task)), polls } => result,
            () = self.wire.killed() => None,
        }
    }

    /// A new process over the same state.
    pub async fn restart(&mut self) -> Checked {
        self.tally.count("restarted");
        self.ledger = self.vault.reopen(self.ledger.clone()).await?;
        self.mirror =
            connect(&self.outside, &self.vault, &self.ledger, &self.manifests, &self.clock, &self.rules, &self.wire);
        let stream = (*self.outside.stream).clone();
        self.progress = self.mirror.resume(stream).await.map_err(|e| e.to_string())?;
        self.requests_before = (self.progress.checkpoint.lists.values().sum(), self.progress.checkpoint.gets);
        self.abandoned = false;
        self.wire.restart();
        Ok(())
    }

    pub fn advance(&mut self, seconds: i64) {
        {
            let mut past = self.outside.past();
            past.now = shift(past.now, seconds);
        }
        self.set_clocks(self.ours_ahead, self.service_ahead);
    }

    pub fn set_clocks(&mut self, ours: i64, service: i64) {
        let now = self.outside.past().now;
        if self.service_ahead != service {
            // What was listed under a clock that was a little ahead counts for so much longer.
            self.blurred = shift(now, self.service_ahead.clamp(0, 4 * DAY));
        }
        if (self.ours_ahead, self.service_ahead) != (ours, service) {
            self.clocks_set = now;
        }
        self.clock_was_wrong |= (ours, service) != (0, 0);
        self.service_was_wrong |= service != 0;
        (self.ours_ahead, self.service_ahead) = (ours, service);
        self.clock.set(shift(now, ours));
        self.outside.bucket.set_time(shift(now, service));
    }
}

fn connect<B: Bucket, V: Vault>(
    outside: &Outside<B>,
    vault: &V,
    ledger: &Ledger,
    manifests: &Manifests,
    clock: &ManualClock,
    rules: &Rules,
    wire: &Wire,
) -> WiredMirror<B, V> {
    let source = Arc::new(Wired { end: outside.bucket.source(), wire: wire.clone() });
    let destination = Arc::new(Wired { end: vault.destination(), wire: wire.clone() });
    let permits = Permits { source: Arc::new(Gate::new(8)), process: Share::alone(8) };
    let clock = Arc::new(clock.clone());
    Mirror::new(source, destination, ledger.clone(), manifests.clone(), clock, rules.clone(), permits)
}

fn rules(setup: &Setup) -> Rules {
    let duration = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
    let tier = |depth, every| Tier { depth: duration(depth), every: duration(every) };
    let poll = Poll {
        every: duration(MINUTE),
        idle_every: duration(15 * MINUTE),
        min_window: duration(20 * MINUTE),
        max_window: duration(2 * HOUR),
        tiers: vec![tier(2 * HOUR, 15 * MINUTE), tier(26 * HOUR, 6 * HOUR), tier(35 * DAY, DAY)],
        full_every: duration(30 * DAY),
        tail_every: duration(DAY),
        discover_every: duration(HOUR),
    };
    let Setup { since, retention, ledger_days, in_flight, .. } = *setup;
    Rules { poll, since, retention, ledger_days, in_flight, pace: 0.0, random: || 0.5 }
}

/// A future that is given up when it has been polled so often.
struct Limited<'f, F> {
    future: Pin<&'f mut F>,
    polls: u32,
}

impl<F: Future> Future for Limited<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled<Self::Output> {
        if self.polls == 0 {
            return Polled::Ready(None);
        }
        self.polls -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}
