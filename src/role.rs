//! One role's session, kept alive: who renews it, who gets it, and what is known of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use fastrand::Rng;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::{Clock, Timestamp};
use crate::config::{Role, Source};
use crate::error::{Class, Error, Report};
use crate::policy::{self, SessionPolicy};
use crate::renewal::{Moment, Refusal, Renewals, Session, duration_for};
use crate::source::client::{Failure, HttpClients};

pub mod base;
pub(crate) mod explain;
mod state;
pub mod sts;

pub use state::{LastError, SessionState};
pub use sts::{AssumeRequest, Assumed, AwsSts, Identity, Sts};

/// How many roles are assumed at once in the whole process.
pub const ASSUMED_AT_ONCE: usize = 8;

/// A wall clock that jumps ahead is noticed after this time at the latest, and at once by whoever needs
/// credentials that have ended by it.
const LONGEST_SLEEP: Duration = Duration::from_secs(900);

/// A credential source that hangs is given up after this time.
pub(crate) const LONGEST_BASE: Duration = Duration::from_secs(30);

/// What the keepers of one process share.
#[derive(Clone)]
pub struct Process {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Connections.
    pub http: Arc<HttpClients>,
    /// [`ASSUMED_AT_ONCE`] permits.
    pub assumes: Arc<Semaphore>,
    /// The process's environment, as `main` read it.
    pub environment: Arc<BTreeMap<String, String>>,
}

impl Process {
    /// Shared parts with nothing in flight.
    pub fn new(clock: Arc<dyn Clock>, environment: BTreeMap<String, String>) -> Self {
        Self {
            clock,
            http: Arc::new(HttpClients::default()),
            assumes: Arc::new(Semaphore::new(ASSUMED_AT_ONCE)),
            environment: Arc::new(environment),
        }
    }
}

/// Keeps the credentials of one source alive.
///
/// Requests take [`Keeper::current`] without waiting; [`Keeper::run`] renews ahead of need. At most one
/// renewal of a keeper is in flight, whoever asked for it.
pub struct Keeper {
    source: Source,
    base: SharedCredentialsProvider,
    sts: Arc<dyn Sts>,
    clock: Arc<dyn Clock>,
    assumes: Arc<Semaphore>,
    origin: Instant,
    kept: Mutex<Kept>,
    /// Held while a renewal is in flight.
    flight: tokio::sync::Mutex<()>,
    /// Wakes [`Keeper::run`] when its next renewal may have moved.
    moved: Notify,
    state: watch::Sender<SessionState>,
}

/// What a keeper has in hand.
struct Kept {
    renewals: Renewals,
    credentials: Option<Credentials>,
    caller: Option<Caller>,
    policy: Option<SessionPolicy>,
    last_error: Option<Error>,
    random: Rng,
}

/// Whose credentials assume the role; asked again when they change.
#[derive(Clone)]
struct Caller {
    access_key_id: String,
    arn: Option<String>,
    chained: bool,
}

/// The outcome of an attempt.
struct Obtained {
    credentials: Credentials,
    session: Session,
    clamped: bool,
}

impl Keeper {
    /// A keeper over the real services; it does nothing before [`Keeper::run`] or [`Keeper::ready`].
    ///
    /// `seed` places this role's renewals among the others'.
    ///
    /// # Errors
    /// `Stream` when the endpoints' CA bundle or proxy cannot be used.
    pub fn connect(source: &Source, process: &Process, seed: u64) -> Result<Arc<Self>, Error> {
        Self::connect_with(source, narrowed(source), process, seed)
    }

    /// The same with another session policy.
    ///
    /// # Errors
    /// As for [`Keeper::connect`].
    pub fn connect_with(
        source: &Source,
        policy: Option<SessionPolicy>,
        process: &Process,
        seed: u64,
    ) -> Result<Arc<Self>, Error> {
        let http = process.http.get(&source.endpoints)?;
        let base = base::provider(source, &process.environment, http.clone());
        let sts = Arc::new(AwsSts::new(source, http));
        Ok(Self::with_policy(source, policy, base, sts, process.clock.clone(), process.assumes.clone(), seed))
    }

    /// A keeper over the given base credentials and STS.
    pub fn new(
        source: &Source,
        base: SharedCredentialsProvider,
        sts: Arc<dyn Sts>,
        clock: Arc<dyn Clock>,
        assumes: Arc<Semaphore>,
        seed: u64,
    ) -> Arc<Self> {
        Self::with_policy(source, narrowed(source), base, sts, clock, assumes, seed)
    }

    fn with_policy(
        source: &Source,
        policy: Option<SessionPolicy>,
        base: SharedCredentialsProvider,
        sts: Arc<dyn Sts>,
        clock: Arc<dyn Clock>,
        assumes: Arc<Semaphore>,
        seed: u64,
    ) -> Arc<Self> {
        let mut random = Rng::with_seed(seed);
        let kept = Kept {
            renewals: Renewals::new(random.f64()),
            credentials: None,
            caller: None,
            policy,
            last_error: None,
            random,
        };
        let state = SessionState {
            role_arn: source.role.as_ref().map(|role| role.arn.clone()),
            session_name: source.role.as_ref().map(|role| role.session_name.clone()),
            policy_note: kept.policy.as_ref().and_then(|policy| policy.note.clone()),
            ..SessionState::default()
        };
        Arc::new(Self {
            source: source.clone(),
            base,
            sts,
            clock,
            assumes,
            origin: Instant::now(),
            kept: Mutex::new(kept),
            flight: tokio::sync::Mutex::new(()),
            moved: Notify::new(),
            state: watch::Sender::new(state),
        })
    }

    /// Renews the session ahead of need until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.renew_for_ever()).await;
    }

    async fn renew_for_ever(&self) {
        loop {
            // A failure is recorded and shown in the state; the next attempt comes by itself.
            let _ = self.renew_if_due().await;
            let pause = self.kept().renewals.due_in(self.now()).min(LONGEST_SLEEP);
            tokio::select! {
                () = sleep(pause) => (),
                () = self.moved.notified() => (),
            }
        }
    }

    /// The credentials to sign a request with now, without waiting.
    ///
    /// # Errors
    /// What the last attempt failed with, when there is no session or it is too close to its end.
    pub fn current(&self) -> Result<Credentials, Error> {
        let now = self.now();
        let kept = self.kept();
        let usable = kept.renewals.session().is_some_and(|session| session.is_usable(now));
        match &kept.credentials {
            Some(credentials) if usable => Ok(credentials.clone()),
            _ => {
                // The clock may have jumped past the end while `run` sleeps.
                self.moved.notify_one();
                Err(self.unavailable(&kept))
            }
        }
    }

    /// The credentials to sign a request with, once the first attempt to get any is over.
    ///
    /// Does not wait when there is a session already.
    ///
    /// # Errors
    /// As for [`Keeper::current`].
    pub async fn ready(&self) -> Result<Credentials, Error> {
        if self.kept().credentials.is_none() {
            self.renew_if_due().await?;
        }
        self.current()
    }

    /// Reports that a service refused the credentials with this key id, and renews them if that may help.
    ///
    /// Waits for a renewal that is in flight. `true` means that [`Keeper::current`] now gives others, so that
    /// one more try is sensible. Renews at most once a minute, for `AccessDenied` at most once in 15 minutes.
    ///
    /// # Errors
    /// Why the renewal failed.
    pub async fn refused(&self, access_key_id: &str, code: &str) -> Result<bool, Error> {
        let Some(refusal) = Refusal::from_code(code) else { return Ok(false) };
        let _flight = self.flight.lock().await;
        if self.holds_other_than(access_key_id) {
            return Ok(true);
        }
        if !self.kept().renewals.force(refusal, self.now()) {
            return Ok(false);
        }
        info!(source = %self.source.name, code, "Credentials were refused, renewing them");
        let renewed = self.renew().await;
        self.moved.notify_one();
        renewed.map(|()| self.holds_other_than(access_key_id))
    }

    /// The source whose role it is; `<source>/destination` for that of a bucket of our own.
    pub fn source_name(&self) -> &str {
        &self.source.name
    }

    /// What is known of the session now.
    pub fn state(&self) -> SessionState {
        self.state.borrow().clone()
    }

    /// Follows what is known of the session.
    pub fn observe(&self) -> watch::Receiver<SessionState> {
        self.state.subscribe()
    }

    async fn renew_if_due(&self) -> Result<(), Error> {
        let _flight = self.flight.lock().await;
        if self.kept().renewals.due_in(self.now()).is_zero() { self.renew().await } else { Ok(()) }
    }

    /// Renews now. The caller holds the flight.
    async fn renew(&self) -> Result<(), Error> {
        let attempt = self.attempt().await;
        let now = self.now();
        let mut kept = self.kept();
        let outcome = match attempt {
            Ok(obtained) => {
                self.succeeded(&mut kept, obtained, now);
                Ok(())
            }
            Err(error) => {
                self.failed(&mut kept, &error, now);
                Err(error)
            }
        };
        self.publish(&kept, now);
        outcome
    }

    fn succeeded(&self, kept: &mut Kept, obtained: Obtained, now: Moment) {
        if kept.last_error.take().is_some() {
            info!(source = %self.source.name, failures = kept.renewals.failures(), "Credentials are renewed again");
        }
        kept.renewals.succeeded(obtained.session);
        kept.credentials = Some(obtained.credentials);
        let (chained, clamped) = (kept.caller.as_ref().is_some_and(|caller| caller.chained), obtained.clamped);
        self.state.send_modify(|state| {
            if clamped && !state.clamped {
                warn!(source = %self.source.name, "The caller is a role session itself: sessions last one hour, not the configured duration");
            }
            state.renewals += 1;
            state.obtained = Some(now.wall);
            state.expires = obtained.session.expires;
            state.chained = chained;
            state.clamped = clamped;
        });
    }

    fn failed(&self, kept: &mut Kept, error: &Error, now: Moment) {
        let random = kept.random.f64();
        kept.renewals.failed(error.class(), now, random);
        // Said once, not at each of many attempts that fail alike.
        if kept.last_error.as_ref().is_none_or(|before| before.code() != error.code()) {
            warn!(source = %self.source.name, code = error.code(), "Credentials could not be renewed: {error}");
        }
        kept.last_error = Some(again(error));
    }

    fn publish(&self, kept: &Kept, now: Moment) {
        let due = kept.renewals.due_in(now);
        self.state.send_modify(|state| {
            state.next_renewal = now.wall.checked_add(due).ok();
            state.failures = kept.renewals.failures();
            state.last_error = kept.last_error.as_ref().map(|error| LastError {
                at: now.wall,
                class: error.class(),
                code: error.code().to_owned(),
                text: error.to_string(),
            });
            state.caller_arn = kept.caller.as_ref().and_then(|caller| caller.arn.clone());
            state.policy_note = kept.policy.as_ref().and_then(|policy| policy.note.clone());
        });
    }

    /// Base credentials, then who they are, then the role.
    async fn attempt(&self) -> Result<Obtained, Error> {
        let asked = self.now();
        let base = self.base_credentials().await?;
        let Some(role) = &self.source.role else {
            let expires = base.expiry().and_then(|end| Timestamp::try_from(end).ok());
            return sound(base, Session::new(asked, None, expires), false, "base credentials");
        };
        // The semaphore is never closed.
        let _permit = self.assumes.acquire().await.ok();
        let caller = self.caller(&base).await?;
        let (duration, clamped) = duration_for(role.duration, caller.chained);
        let asked = self.now();
        let assumed = self.assume(role, &base, duration, &caller).await?;
        let session = Session::new(asked, assumed.served_at, Some(assumed.expires));
        sound(assumed.credentials, session, clamped, &role.arn)
    }

    /// The base credentials as they are now: of our own account, before any role is assumed.
    ///
    /// # Errors
    /// `Transient` or `Stream`, with the mend.
    pub async fn base_credentials(&self) -> Result<Credentials, Error> {
        let loaded = timeout(LONGEST_BASE, self.base.provide_credentials()).await;
        let credentials = &self.source.credentials;
        match loaded {
            Ok(Ok(base)) => Ok(base),
            Ok(Err(error)) => Err(explain::base(credentials, &error)),
            Err(_) => Err(explain::base_timeout(credentials)),
        }
    }

    /// Who the base credentials are: asked once for each access key.
    async fn caller(&self, base: &Credentials) -> Result<Caller, Error> {
        let known = self.kept().caller.clone().filter(|caller| caller.access_key_id == base.access_key_id());
        if let Some(caller) = known {
            return Ok(caller);
        }
        let identity = match self.sts.caller_identity(base).await {
            Ok(identity) => Some(identity),
            // Nobody needs a permission for this call, but a VPC endpoint's policy may not let it through.
            Err(failure) if failure.code == "AccessDenied" => None,
            Err(failure) => return Err(explain::identity(failure, &self.source)),
        };
        if let Some(root) = identity.as_ref().filter(|identity| identity.is_root()) {
            return Err(explain::root(root));
        }
        let caller = Caller {
            access_key_id: base.access_key_id().to_owned(),
            chained: base.session_token().is_some() || identity.as_ref().is_some_and(Identity::is_session),
            arn: identity.map(|identity| identity.arn),
        };
        self.kept().caller = Some(caller.clone());
        Ok(caller)
    }

    /// Assumes the role, with a wider session policy if STS finds the packed one too large.
    async fn assume(
        &self,
        role: &Role,
        base: &Credentials,
        duration: Duration,
        caller: &Caller,
    ) -> Result<Assumed, Error> {
        loop {
            let policy = self.kept().policy.clone();
            let json = policy.as_ref().map(|policy| policy.json.as_str());
            let failure = match self.sts.assume(AssumeRequest { role, base, duration, policy: json }).await {
                Ok(assumed) => return Ok(assumed),
                Err(failure) => failure,
            };
            match self.widened(&failure, policy.as_ref()) {
                Some(wider) => self.kept().policy = Some(wider),
                None => return Err(explain::assume(failure, role, &self.source, caller.arn.as_deref())),
            }
        }
    }

    fn widened(&self, failure: &Failure, policy: Option<&SessionPolicy>) -> Option<SessionPolicy> {
        let too_large = failure.code.starts_with("PackedPolicyTooLarge");
        let wider = policy.filter(|_| too_large).and_then(|policy| policy::wider_policy(&self.source, policy))?;
        warn!(source = %self.source.name, "{}", wider.note.as_deref().unwrap_or_default());
        Some(wider)
    }

    fn unavailable(&self, kept: &Kept) -> Error {
        let subject = self.source.role.as_ref().map_or("base credentials", |role| role.arn.as_str());
        let message = match (&kept.last_error, &kept.credentials) {
            (Some(error), _) => return again(error),
            (None, Some(_)) => "the session has come to its end and a new one is being asked for",
            (None, None) => "there is no session yet",
        };
        Error::of(Class::Transient, Report::new("renew credentials", subject, message).code("NoSession"))
    }

    fn holds_other_than(&self, access_key_id: &str) -> bool {
        self.kept().credentials.as_ref().is_some_and(|current| current.access_key_id() != access_key_id)
    }

    fn now(&self) -> Moment {
        Moment { wall: self.clock.now(), monotonic: self.origin.elapsed() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same failure, for one more of those that it keeps waiting.
fn again(error: &Error) -> Error {
    Error::of(error.class(), error.report().clone())
}

/// The session policy that the source's configuration asks for.
fn narrowed(source: &Source) -> Option<SessionPolicy> {
    source.role.as_ref().filter(|role| role.session_policy).map(|_| policy::session_policy(source))
}

/// Refuses a session that was over before it began: using it would fail, renewing it would be a hot loop.
fn sound(credentials: Credentials, session: Session, clamped: bool, subject: &str) -> Result<Obtained, Error> {
    if !session.is_stillborn() {
        return Ok(Obtained { credentials, session, clamped });
    }
    let report = Report::new("renew credentials", subject, "the credentials that were given had already expired")
        .code("AlreadyExpired")
        .mend("check this machine's clock");
    Err(Error::of(Class::Transient, report))
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("source", &self.source.name).field("state", &self.state()).finish()
    }
}
