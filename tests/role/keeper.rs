//! The keeper in virtual time.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trailsync::clock::shift;
use trailsync::error::Class;
use trailsync::role::Keeper;

use crate::support::{CANARY, FakeSts, Reply, TokioClock, keeper, permits, role, source, user};

const MINUTE: u64 = 60;

/// Runs a keeper in the background until the set is dropped.
fn start(keeper: &Arc<Keeper>) -> JoinSet<()> {
    let (mut tasks, keeper) = (JoinSet::new(), keeper.clone());
    tasks.spawn(async move { keeper.run(CancellationToken::new()).await });
    tasks
}

async fn minutes(n: u64) {
    sleep(Duration::from_secs(n * MINUTE)).await;
}

fn key(keeper: &Keeper) -> String {
    keeper.current().expect("a session").access_key_id().to_owned()
}

#[tokio::test(start_paused = true)]
async fn before_the_first_session_one_waits_and_afterwards_never() {
    let (keeper, _, sts) = keeper(3600);
    assert_eq!(keeper.current().unwrap_err().class(), Class::Transient);
    let _running = start(&keeper);
    let first = keeper.ready().await.unwrap();
    assert_eq!((first.access_key_id(), sts.assumes()), (key(&keeper).as_str(), 1));
    let state = keeper.state();
    assert_eq!(state.expires.unwrap(), shift(state.obtained.unwrap(), 3600));
    assert_eq!(state.caller_arn.as_deref(), Some("arn:aws:iam::222222222222:user/mirror"));
    assert_eq!((state.renewals, state.failures, state.last_error), (1, 0, None));
    assert!(state.next_renewal.unwrap() > shift(state.obtained.unwrap(), 1790));
}

#[tokio::test(start_paused = true)]
async fn without_a_running_task_whoever_needs_the_first_session_gets_it() {
    let (keeper, _, sts) = keeper(3600);
    let both = tokio::join!(keeper.ready(), keeper.ready());
    assert_eq!(both.0.unwrap(), both.1.unwrap());
    assert_eq!(sts.assumes(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_remaining_life_is_not_noticed() {
    let (keeper, _, sts) = keeper(3600);
    let _running = start(&keeper);
    minutes(29).await;
    let first = key(&keeper);
    sts.fails(503, "ServiceUnavailable");
    for _ in 0..29 {
        minutes(1).await;
        assert_eq!(key(&keeper), first);
    }
    let state = keeper.state();
    assert!(state.failures > 10 && state.last_error.unwrap().text.contains("ServiceUnavailable"));
    sts.heals();
    minutes(1).await;
    assert_ne!(key(&keeper), first);
    assert_eq!((keeper.state().failures, keeper.state().last_error), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_longer_outage_pauses_with_its_reason_and_heals_within_a_minute() {
    let (keeper, _, sts) = keeper(3600);
    let _running = start(&keeper);
    minutes(1).await;
    sts.fails(503, "ServiceUnavailable");
    minutes(60).await;
    let error = keeper.current().unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Transient, "ServiceUnavailable"));
    sts.heals();
    minutes(1).await;
    keeper.current().unwrap();
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_over_already_make_no_hot_loop() {
    let (keeper, _, sts) = keeper(3600);
    sts.answers(|_, _| Reply::Lasting(0));
    let _running = start(&keeper);
    minutes(30).await;
    assert!(sts.assumes() < 120, "{} attempts in half an hour", sts.assumes());
    assert_eq!(keeper.current().unwrap_err().code(), "AlreadyExpired");
}

#[tokio::test(start_paused = true)]
async fn sessions_of_fifteen_seconds_are_always_there_and_of_two_make_no_hot_loop() {
    let (keeper, _, sts) = keeper(3600);
    sts.answers(|_, _| Reply::Lasting(15));
    let _running = start(&keeper);
    keeper.ready().await.unwrap();
    for _ in 0..600 {
        sleep(Duration::from_secs(1)).await;
        keeper.current().unwrap();
    }
    assert!((40..=90).contains(&sts.assumes()), "{} sessions in ten minutes", sts.assumes());
    sts.answers(|_, _| Reply::Lasting(2));
    minutes(1).await;
    let before = sts.assumes();
    minutes(10).await;
    assert!(sts.assumes() - before <= 120, "{} sessions in ten minutes", sts.assumes() - before);
}

#[tokio::test(start_paused = true)]
async fn a_denied_role_is_tried_at_most_once_a_minute_and_disturbs_no_other() {
    let clock = TokioClock::new();
    let sts = FakeSts::new(&clock);
    sts.answers(|arn, _| match arn.ends_with("role/bad") {
        true => Reply::Failure(403, "AccessDenied", Duration::ZERO),
        false => Reply::Session,
    });
    let permits = permits();
    let of = |name: &str, seed| {
        let source = source(name, &role(name, 3600));
        Keeper::new(&source, user(), Arc::new(sts.clone()), Arc::new(clock.clone()), permits.clone(), seed)
    };
    let (good, bad) = (of("good", 1), of("bad", 2));
    let _running = (start(&good), start(&bad));
    minutes(60).await;
    good.current().unwrap();
    assert_eq!(good.state().renewals, 2);
    let attempts = sts.assumes() - 2;
    assert!((10..=60).contains(&attempts), "{attempts} attempts in an hour");
    let error = bad.current().unwrap_err();
    assert_eq!(error.class(), Class::Stream);
    for words in ["(1) the role's trust policy", "no `sts:ExternalId`", "`sts:AssumeRole` on", "(4) the role exists"] {
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_renewed_once_however_many_ask() {
    let (keeper, _, sts) = keeper(3600);
    let _running = start(&keeper);
    let refused = keeper.ready().await.unwrap().access_key_id().to_owned();
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        let (keeper, refused) = (keeper.clone(), refused.clone());
        asking.spawn(async move { keeper.refused(&refused, "ExpiredToken").await });
    }
    while let Some(answer) = asking.join_next().await {
        assert!(answer.unwrap().unwrap(), "everybody may try again");
    }
    assert_eq!(sts.assumes(), 2);
    assert_ne!(key(&keeper), refused);
    assert!(keeper.refused(&refused, "ExpiredToken").await.unwrap(), "the refused key is not the current one");
    assert_eq!(sts.assumes(), 2);
}

#[tokio::test(start_paused = true)]
async fn renewals_are_forced_once_a_minute_and_after_a_denial_once_in_fifteen() {
    let (keeper, _, sts) = keeper(3600);
    keeper.ready().await.unwrap();
    let force = async |code: &str| keeper.refused(&key(&keeper), code).await.unwrap();
    assert!(force("InvalidToken").await);
    assert!(!force("ExpiredToken").await);
    minutes(1).await;
    assert!(force("AccessDenied").await);
    minutes(14).await;
    assert!(!force("AccessDenied").await);
    assert!(force("ExpiredToken").await);
    minutes(2).await;
    assert!(force("AccessDenied").await);
    assert!(!force("SlowDown").await);
    assert_eq!(sts.assumes(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_forced_renewal_that_fails_keeps_the_session_and_is_tried_again() {
    let (keeper, _, sts) = keeper(3600);
    let _running = start(&keeper);
    keeper.ready().await.unwrap();
    let refused = key(&keeper);
    sts.fails(503, "ServiceUnavailable");
    assert_eq!(keeper.refused(&refused, "ExpiredToken").await.unwrap_err().class(), Class::Transient);
    assert_eq!(key(&keeper), refused);
    sts.heals();
    sleep(Duration::from_secs(10)).await;
    assert_ne!(key(&keeper), refused);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_ahead_costs_one_renewal() {
    let (keeper, clock, sts) = keeper(3600);
    let _running = start(&keeper);
    minutes(5).await;
    clock.jump(3600);
    assert_eq!(keeper.current().unwrap_err().code(), "NoSession");
    sleep(Duration::from_secs(1)).await;
    keeper.current().unwrap();
    minutes(20).await;
    assert_eq!(sts.assumes(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_back_prolongs_nothing() {
    let (keeper, clock, sts) = keeper(3600);
    let _running = start(&keeper);
    minutes(5).await;
    clock.jump(-3600);
    sts.fails(503, "ServiceUnavailable");
    minutes(53).await;
    keeper.current().unwrap();
    minutes(2).await;
    keeper.current().unwrap_err();
    sts.heals();
    minutes(2).await;
    keeper.current().unwrap();
    minutes(25).await;
    assert_eq!(keeper.state().renewals, 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_all_along_changes_nothing() {
    for skew in [-960, 960, -86_400, 86_400] {
        let (keeper, clock, sts) = keeper(3600);
        clock.jump(skew);
        let _running = start(&keeper);
        minutes(1).await;
        for _ in 0..240 {
            keeper.current().unwrap();
            minutes(1).await;
        }
        assert!((5..=8).contains(&sts.assumes()), "{} sessions in four hours", sts.assumes());
    }
}

#[tokio::test(start_paused = true)]
async fn the_root_user_is_refused_with_the_mend_and_without_an_attempt() {
    let (keeper, _, sts) = keeper(3600);
    sts.caller("arn:aws:iam::222222222222:root");
    let error = keeper.ready().await.unwrap_err();
    assert_eq!(error.class(), Class::Stream);
    assert!(error.to_string().contains("create an IAM user or role in account 222222222222"), "{error}");
    assert_eq!(sts.assumes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_chained_caller_gets_an_hour_and_the_state_says_so() {
    for arn in
        ["arn:aws:sts::222222222222:assumed-role/Instance/i-0abc", "arn:aws-cn:sts::222222222222:federated-user/joe"]
    {
        let (keeper, _, sts) = keeper(43_200);
        sts.caller(arn);
        keeper.ready().await.unwrap();
        assert_eq!(sts.seen.lock().unwrap().durations, [3600]);
        assert!(keeper.state().chained && keeper.state().clamped);
    }
    let (unchained, _, sts) = keeper(43_200);
    unchained.ready().await.unwrap();
    assert_eq!(sts.seen.lock().unwrap().durations, [43_200]);
    assert!(!unchained.state().chained && !unchained.state().clamped);
}

#[tokio::test(start_paused = true)]
async fn a_session_token_means_chaining_even_if_nobody_may_say_who_it_is() {
    let clock = TokioClock::new();
    let sts = FakeSts::new(&clock);
    sts.caller("");
    let base = Credentials::new("ASIABASE", CANARY, Some(CANARY.into()), None, "test");
    let source = source("acme", &role("acme", 7200));
    let base = SharedCredentialsProvider::new(base);
    let keeper = Keeper::new(&source, base, Arc::new(sts.clone()), Arc::new(clock), permits(), 1);
    keeper.ready().await.unwrap();
    assert_eq!(sts.seen.lock().unwrap().durations, [3600]);
    assert_eq!(keeper.state().caller_arn, None);
}

#[tokio::test(start_paused = true)]
async fn a_session_policy_that_is_too_large_when_packed_is_replaced_by_a_wider_one() {
    let clock = TokioClock::new();
    let sts = FakeSts::new(&clock);
    let attempts = std::sync::atomic::AtomicU32::new(0);
    sts.answers(move |_, _| match attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Reply::Failure(400, "PackedPolicyTooLarge", Duration::ZERO),
        _ => Reply::Session,
    });
    let more = format!("accounts = [\"333333333333\"]\n{}", role("acme", 3600));
    let source = source("acme", &more);
    let keeper = Keeper::new(&source, user(), Arc::new(sts.clone()), Arc::new(clock), permits(), 1);
    keeper.ready().await.unwrap();
    let note = keeper.state().policy_note.unwrap();
    assert!(note.contains("the session may read the whole prefix"), "{note}");
    let policies = sts.seen.lock().unwrap().policies.clone();
    assert!(policies[0].as_ref().unwrap().contains("arn:aws:s3:::trail-logs/AWSLogs/*"), "{policies:?}");
}

/// Base credentials that change, fail, or end.
#[derive(Debug, Clone)]
struct Rotating(Arc<std::sync::Mutex<Result<Credentials, &'static str>>>);

impl Rotating {
    fn set(&self, next: Result<Credentials, &'static str>) {
        *self.0.lock().unwrap() = next;
    }
}

impl ProvideCredentials for Rotating {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let now = self.0.lock().unwrap().clone();
        future::ProvideCredentials::ready(now.map_err(CredentialsError::invalid_configuration))
    }
}

fn pair(id: &str) -> Credentials {
    Credentials::new(id, CANARY, None, None, "test")
}

#[tokio::test(start_paused = true)]
async fn who_the_caller_is_is_asked_again_only_when_the_base_credentials_change() {
    let (clock, base) = (TokioClock::new(), Rotating(Arc::new(std::sync::Mutex::new(Ok(pair("AKIA1"))))));
    let sts = FakeSts::new(&clock);
    let source = source("acme", &role("acme", 3600));
    let provider = SharedCredentialsProvider::new(base.clone());
    let keeper = Keeper::new(&source, provider, Arc::new(sts.clone()), Arc::new(clock), permits(), 1);
    let _running = start(&keeper);
    minutes(180).await;
    assert_eq!(sts.seen.lock().unwrap().identities, 1);
    base.set(Ok(pair("AKIA2")));
    sts.caller("arn:aws:iam::222222222222:user/other");
    minutes(60).await;
    assert_eq!(sts.seen.lock().unwrap().identities, 2);
    assert_eq!(keeper.state().caller_arn.as_deref(), Some("arn:aws:iam::222222222222:user/other"));
}

#[tokio::test(start_paused = true)]
async fn base_credentials_that_cannot_be_read_are_named_as_the_hop_that_failed() {
    let (clock, base) = (TokioClock::new(), Rotating(Arc::new(std::sync::Mutex::new(Err("the disk is gone")))));
    let sts = FakeSts::new(&clock);
    let source = source("acme", &role("acme", 3600));
    let provider = SharedCredentialsProvider::new(base);
    let keeper = Keeper::new(&source, provider, Arc::new(sts.clone()), Arc::new(clock), permits(), 1);
    let error = keeper.ready().await.unwrap_err();
    assert!(error.to_string().starts_with("read base credentials of `default chain` failed"), "{error}");
    assert!(error.to_string().contains("the disk is gone"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn without_a_role_base_credentials_are_served_and_renewed_before_they_end() {
    let (clock, base) = (TokioClock::new(), Rotating(Arc::new(std::sync::Mutex::new(Err("later")))));
    let ending = |id: &str, minutes: i64| {
        let end = shift(clock.true_time(), minutes * 60);
        Credentials::new(id, CANARY, Some(CANARY.into()), Some(end.try_into().unwrap()), "test")
    };
    base.set(Ok(ending("ASIA1", 60)));
    let sts = FakeSts::new(&clock);
    let provider = SharedCredentialsProvider::new(base.clone());
    let source = source("acme", "");
    let keeper = Keeper::new(&source, provider, Arc::new(sts.clone()), Arc::new(clock.clone()), permits(), 1);
    let _running = start(&keeper);
    assert_eq!(keeper.ready().await.unwrap().access_key_id(), "ASIA1");
    base.set(Ok(ending("ASIA2", 120)));
    minutes(46).await;
    assert_eq!(key(&keeper), "ASIA2");
    // An instance's credentials stay the same until shortly before their end.
    for _ in 0..70 {
        minutes(1).await;
        keeper.current().unwrap();
    }
    base.set(Ok(ending("ASIA3", 60)));
    minutes(2).await;
    assert_eq!((key(&keeper).as_str(), sts.assumes()), ("ASIA3", 0));
    // A key pair without an end is read again, as its file may have been rotated.
    base.set(Ok(pair("AKIA1")));
    minutes(46).await;
    assert_eq!(key(&keeper), "AKIA1");
    base.set(Ok(pair("AKIA2")));
    minutes(4).await;
    assert_eq!(key(&keeper), "AKIA2");
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_shown_holds_a_secret() {
    let (keeper, _, sts) = keeper(3600);
    let credentials = keeper.ready().await.unwrap();
    sts.fails(403, "InvalidClientTokenId");
    let error = keeper.refused(credentials.access_key_id(), "ExpiredToken").await.unwrap_err();
    let shown = format!("{keeper:?} {:?} {credentials:?} {error} {error:?}", keeper.state());
    assert!(!shown.contains(CANARY), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn whoever_observes_sees_each_renewal() {
    let (keeper, _, _) = keeper(3600);
    let mut states = keeper.observe();
    let _running = start(&keeper);
    for renewals in 1..=3 {
        states.wait_for(|state| state.renewals == renewals).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_task_at_once_even_in_the_middle_of_an_attempt() {
    let (keeper, _, sts) = keeper(3600);
    sts.answers(|_, _| Reply::Failure(503, "ServiceUnavailable", Duration::from_secs(3600)));
    let stop = CancellationToken::new();
    let (running, stopped) = (keeper.clone(), stop.clone());
    let task = tokio::spawn(async move { running.run(stopped).await });
    minutes(1).await;
    assert_eq!(sts.assumes(), 1);
    stop.cancel();
    tokio::time::timeout(Duration::from_millis(10), task).await.expect("at once").unwrap();
}
