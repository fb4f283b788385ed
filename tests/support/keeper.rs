//! A keeper in virtual time: wall clock, base credentials and STS that follow tokio's paused clock.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use trailsync::clock::{Clock, Timestamp, shift};
use trailsync::config::{Input, Source, load};
use trailsync::role::{ASSUMED_AT_ONCE, AssumeRequest, Assumed, Identity, Keeper, Sts};
use trailsync::source::client::Failure;

pub const CANARY: &str = "canary-4c1d-never-to-be-seen";

/// A source with a role, from the configuration that an operator would write.
pub fn source(name: &str, more: &str) -> Source {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("trailsync.toml");
    let text = format!(
        r#"
[source.{name}]
bucket = "trail-logs"
region = "eu-west-1"
destination = {{ path = "/srv/trails/{name}" }}
{more}
"#
    );
    std::fs::write(&path, text).expect("written");
    let input = Input {
        file: Some(path),
        environment: BTreeMap::new(),
        overrides: Vec::new(),
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
    };
    let loaded = load(&input).unwrap_or_else(|refused| panic!("{refused}"));
    loaded.config.sources.into_values().next().expect("a source")
}

/// The role part of a source.
pub fn role(name: &str, seconds: u64) -> String {
    format!(
        "[source.{name}.role]\narn = \"arn:aws:iam::111111111111:role/{name}\"\nsession_name = \"trailsync\"\nduration = \"{seconds}s\"\n"
    )
}

/// Tokio's clock as a wall clock that tests can make jump.
#[derive(Clone)]
pub struct TokioClock {
    origin: Instant,
    start: Timestamp,
    jump: Arc<Mutex<i64>>,
}

impl TokioClock {
    pub fn new() -> Self {
        let start = "2026-01-01T00:00:00Z".parse().expect("a time");
        Self { origin: Instant::now(), start, jump: Arc::default() }
    }

    /// The time at which it began.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// Time as the services see it, which does not jump.
    pub fn true_time(&self) -> Timestamp {
        self.start + self.origin.elapsed()
    }

    /// This machine's clock jumps; negative goes back.
    pub fn jump(&self, seconds: i64) {
        *self.jump.lock().unwrap() += seconds;
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        shift(self.true_time(), *self.jump.lock().unwrap())
    }
}

/// What the twin of STS does and has seen.
#[derive(Default)]
pub struct Seen {
    pub assumes: u64,
    pub identities: u64,
    pub in_flight: usize,
    pub most_in_flight: usize,
    pub by_role: BTreeMap<String, usize>,
    pub most_by_role: usize,
    /// When sessions end, by access key id.
    pub ends: BTreeMap<String, Timestamp>,
    pub durations: Vec<u64>,
    pub policies: Vec<Option<String>>,
    pub times: Vec<Timestamp>,
}

/// How the twin answers.
type Answer = dyn Fn(&str, Timestamp) -> Reply + Send + Sync;

/// The twin's answer to one `AssumeRole`.
pub enum Reply {
    /// A session of what was asked for.
    Session,
    /// A session of this many seconds; none or negative is over already.
    Lasting(i64),
    /// This code, after this long.
    Failure(u16, &'static str, Duration),
}

/// A twin of STS in virtual time.
#[derive(Clone)]
pub struct FakeSts {
    pub seen: Arc<Mutex<Seen>>,
    clock: TokioClock,
    identity: Arc<Mutex<String>>,
    answer: Arc<Mutex<Arc<Answer>>>,
}

impl FakeSts {
    pub fn new(clock: &TokioClock) -> Self {
        Self {
            seen: Arc::default(),
            clock: clock.clone(),
            identity: Arc::new(Mutex::new("arn:aws:iam::222222222222:user/mirror".to_owned())),
            answer: Arc::new(Mutex::new(Arc::new(|_: &str, _| Reply::Session))),
        }
    }

    pub fn answers(&self, answer: impl Fn(&str, Timestamp) -> Reply + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    pub fn fails(&self, status: u16, code: &'static str) {
        self.answers(move |_, _| Reply::Failure(status, code, Duration::ZERO));
    }

    pub fn heals(&self) {
        self.answers(|_, _| Reply::Session);
    }

    pub fn caller(&self, arn: &str) {
        *self.identity.lock().unwrap() = arn.to_owned();
    }

    pub fn assumes(&self) -> u64 {
        self.seen.lock().unwrap().assumes
    }

    fn begin(&self, role: &str) {
        let mut seen = self.seen.lock().unwrap();
        seen.assumes += 1;
        seen.in_flight += 1;
        seen.most_in_flight = seen.most_in_flight.max(seen.in_flight);
        let now = self.clock.true_time();
        seen.times.push(now);
        let own = seen.by_role.entry(role.to_owned()).or_default();
        *own += 1;
        let own = *own;
        seen.most_by_role = seen.most_by_role.max(own);
    }

    fn end(&self, role: &str) {
        let mut seen = self.seen.lock().unwrap();
        seen.in_flight -= 1;
        *seen.by_role.get_mut(role).expect("begun") -= 1;
    }

    async fn answer(&self, request: AssumeRequest<'_>) -> Result<Assumed, Failure> {
        sleep(Duration::from_millis(fastrand::u64(20..200))).await;
        let answer = self.answer.lock().unwrap().clone();
        let now = self.clock.true_time();
        let asked = i64::try_from(request.duration.as_secs()).unwrap();
        let lasting = match answer(&request.role.arn, now) {
            Reply::Session => asked,
            Reply::Lasting(seconds) => seconds,
            Reply::Failure(status, code, after) => {
                sleep(after).await;
                return Err(failure(status, code));
            }
        };
        let mut seen = self.seen.lock().unwrap();
        seen.durations.push(request.duration.as_secs());
        seen.policies.push(request.policy.map(str::to_owned));
        let id = format!("ASIA{:016}", seen.durations.len());
        let expires = shift(now, lasting);
        seen.ends.insert(id.clone(), expires);
        let credentials = Credentials::new(id, CANARY, Some(CANARY.to_owned()), None, "fake");
        Ok(Assumed { credentials, expires, served_at: Some(now) })
    }
}

impl Sts for FakeSts {
    fn caller_identity<'a>(&'a self, _: &'a Credentials) -> BoxFuture<'a, Result<Identity, Failure>> {
        Box::pin(async {
            self.seen.lock().unwrap().identities += 1;
            let arn = self.identity.lock().unwrap().clone();
            match arn.as_str() {
                "" => Err(failure(403, "AccessDenied")),
                arn => Ok(Identity { account: "222222222222".to_owned(), arn: arn.to_owned() }),
            }
        })
    }

    fn assume<'a>(&'a self, request: AssumeRequest<'a>) -> BoxFuture<'a, Result<Assumed, Failure>> {
        Box::pin(async move {
            self.begin(&request.role.arn);
            let answer = self.answer(request).await;
            self.end(&request.role.arn);
            answer
        })
    }
}

pub fn failure(status: u16, code: &str) -> Failure {
    Failure { status: Some(status), code: code.to_owned(), message: "said the twin".to_owned(), ..Failure::default() }
}

/// An IAM user's key pair.
pub fn user() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new("AKIAUSER", CANARY, None, None, "test"))
}

/// Eight permits, as one process has.
pub fn permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ASSUMED_AT_ONCE))
}

/// A keeper of one role with sessions of `seconds`, its clock and its STS.
pub fn keeper(seconds: u64) -> (Arc<Keeper>, TokioClock, FakeSts) {
    let clock = TokioClock::new();
    let sts = FakeSts::new(&clock);
    let source = source("acme", &role("acme", seconds));
    let keeper = Keeper::new(&source, user(), Arc::new(sts.clone()), Arc::new(clock.clone()), permits(), 7);
    (keeper, clock, sts)
}
