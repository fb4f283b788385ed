//! Credentials never run out in use: a month of a hundred roles, in virtual time, with the real keeper.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use trailsync::clock::{Timestamp, seconds_between, shift};
use trailsync::role::Keeper;

#[path = "support/keeper.rs"]
mod support;
use support::{FakeSts, Reply, TokioClock, permits, role, source, user};

const DAY: i64 = 86_400;
const DAYS: i64 = 30;
const ROLES: usize = 100;
const OUTAGE: i64 = 45 * 60;

/// After an outage a role may still wait for its next try (60 s), for one that hangs (20 s), and in line.
const RECOVERY: i64 = 60 + 20 + 15;

/// When STS is down, and how.
#[derive(Clone)]
struct Outages(Arc<Vec<(Timestamp, Timestamp, Duration)>>);

impl Outages {
    /// About one a day of 45 minutes at random, and one day on which 45 of each 60 minutes are down.
    fn random(start: Timestamp) -> Self {
        let mut all = Vec::new();
        let mut at = 0;
        while at < DAYS * DAY {
            let bad_day = (10 * DAY..11 * DAY).contains(&at);
            at += if bad_day { 900 } else { fastrand::i64(2 * 3600..40 * 3600) };
            let hangs = Duration::from_secs(if fastrand::bool() { 20 } else { 0 });
            all.push((shift(start, at), shift(start, at + OUTAGE), hangs));
            at += OUTAGE;
        }
        Self(Arc::new(all))
    }

    fn at(&self, now: Timestamp) -> Option<Duration> {
        self.0.iter().find(|(from, to, _)| *from <= now && now < *to).map(|(_, _, hangs)| *hangs)
    }

    /// Whether an outage explains that a role has no session at `now`, which was to have renewed by `renewal`:
    /// it had begun by then, and is not long over.
    fn explains(&self, renewal: Timestamp, now: Timestamp) -> bool {
        self.0.iter().any(|(from, to, _)| *from <= shift(renewal, RECOVERY) && now <= shift(*to, RECOVERY))
    }
}

/// How long each role's sessions last: mostly an hour, some the shortest and some the longest there are.
fn lifetime(n: usize) -> u64 {
    match n % 10 {
        0 | 1 => 900,
        2 => 43_200,
        _ => 3600,
    }
}

#[test]
fn a_month_of_a_hundred_roles_with_outages_never_uses_expired_credentials() {
    // Time only, no sockets: an idle runtime then moves its clock on without asking the kernel.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(month());
}

async fn month() {
    fastrand::seed(20_260_101);
    let began = std::time::Instant::now();
    let clock = TokioClock::new();
    let outages = Outages::random(clock.true_time());
    let sts = FakeSts::new(&clock);
    let down = outages.clone();
    sts.answers(move |_, now| match down.at(now) {
        Some(hangs) => Reply::Failure(503, "ServiceUnavailable", hangs),
        None => Reply::Session,
    });
    let (permits, stop, mut tasks) = (permits(), CancellationToken::new(), JoinSet::new());
    let mut keepers = Vec::new();
    for n in 0..ROLES {
        let name = format!("role{n}");
        let source = source(&name, &role(&name, lifetime(n)));
        let (sts, clock) = (Arc::new(sts.clone()), Arc::new(clock.clone()));
        let keeper = Keeper::new(&source, user(), sts, clock, permits.clone(), n as u64);
        let (running, stopped) = (keeper.clone(), stop.clone());
        tasks.spawn(async move { running.run(stopped).await });
        keepers.push(keeper);
    }
    sleep(Duration::from_secs(60)).await;

    let (mut served, mut paused) = (0_u64, 0_u64);
    let mut renewal = vec![clock.true_time(); ROLES];
    while seconds_between(clock.start(), clock.true_time()) < DAYS * DAY {
        sleep(Duration::from_secs(fastrand::u64(400..800))).await;
        let now = clock.true_time();
        for (n, keeper) in keepers.iter().enumerate() {
            match keeper.current() {
                Ok(credentials) => {
                    let ends = sts.seen.lock().unwrap().ends[credentials.access_key_id()];
                    let margin = (lifetime(n) / 10).min(60) as i64;
                    assert!(
                        seconds_between(now, ends) >= margin - 1,
                        "role {n} was given a session in its last breath"
                    );
                    renewal[n] = shift(ends, -(lifetime(n) as i64) / 4);
                    served += 1;
                }
                Err(error) => {
                    assert!(outages.explains(renewal[n], now), "role {n} without session at {now}: {error}");
                    paused += 1;
                }
            }
        }
    }

    let renewals: u64 = keepers.iter().map(|keeper| keeper.state().renewals).sum();
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let seen = sts.seen.lock().unwrap();
    println!(
        "{renewals} renewals in {} attempts, {served} requests served, {paused} paused, {:?}",
        seen.assumes,
        began.elapsed()
    );
    assert!(renewals >= 72_000, "{renewals} renewals");
    assert_eq!(seen.most_by_role, 1, "at most one AssumeRole in flight for a role");
    assert!(seen.most_in_flight <= 8, "{} AssumeRole in flight", seen.most_in_flight);
    assert!(served > 20 * paused, "sessions of an hour survive most outages: {served} served, {paused} paused");
}

#[tokio::test(start_paused = true)]
async fn five_hundred_roles_that_start_together_assume_eight_at_a_time_and_renew_apart() {
    let clock = TokioClock::new();
    let sts = FakeSts::new(&clock);
    let (permits, stop, mut tasks) = (permits(), CancellationToken::new(), JoinSet::new());
    let began = Instant::now();
    for n in 0..500 {
        let name = format!("role{n}");
        let source = source(&name, &role(&name, 3600));
        let keeper = Keeper::new(&source, user(), Arc::new(sts.clone()), Arc::new(clock.clone()), permits.clone(), n);
        let stopped = stop.clone();
        tasks.spawn(async move { keeper.run(stopped).await });
    }
    sleep(Duration::from_secs(30)).await;
    assert_eq!(sts.assumes(), 500, "all have a session {:?} after the start", began.elapsed());
    sleep(Duration::from_secs(3000)).await;
    stop.cancel();
    let seen = sts.seen.lock().unwrap();
    assert_eq!((seen.most_in_flight, seen.most_by_role), (8, 1));
    let renewed: Vec<_> = seen.times[500..].iter().map(|at| seconds_between(seen.times[0], *at) / 60).collect();
    assert!(renewed.len() >= 500);
    for minute in 30..45 {
        let count = renewed.iter().filter(|at| **at == minute).count();
        assert!((10..=70).contains(&count), "{count} renewals in minute {minute}");
    }
}
