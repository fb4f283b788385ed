//! When a role session is renewed: pure decisions over times.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::Class;
use crate::retry::Delays;

/// Roles chained onto other roles get no longer sessions than this (`AssumeRole` of the STS reference).
pub const CHAINED_MAX: Duration = Duration::from_secs(3600);

/// Credentials are not used in the last minute of their life, or in its last tenth if that is shorter.
const MARGIN_MAX: Duration = Duration::from_secs(60);

/// However short a session is, its role is not assumed again sooner than this.
const LEAST_BETWEEN: Duration = Duration::from_secs(5);

/// Credentials without an end are read again this often, because their files may have been rotated.
const ENDLESS_RELOAD: Duration = Duration::from_secs(300);

/// A refusal forces at most one renewal in this time.
const FORCED_EVERY: Duration = Duration::from_secs(60);

/// `AccessDenied` says little about the credentials: it forces at most one renewal in this time.
const DENIED_EVERY: Duration = Duration::from_secs(900);

/// A point in time on both of the machine's clocks.
///
/// The wall clock may jump; the monotonic one may stand still while the machine sleeps. Ages are the
/// larger of what the two say, so that the earlier deadline wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub wall: Timestamp,
    /// The monotonic clock, from an origin that never changes.
    pub monotonic: Duration,
}

impl Moment {
    /// How long ago `earlier` was, by the clock that says longer.
    fn since(&self, earlier: &Self) -> Duration {
        let wall = Duration::try_from(self.wall.duration_since(earlier.wall)).unwrap_or(Duration::ZERO);
        wall.max(self.monotonic.saturating_sub(earlier.monotonic))
    }
}

/// The times of one session; the credentials themselves are kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// When they were asked for.
    pub obtained: Moment,
    /// The server's `Expiration`; `None` for a key pair that has no end.
    pub expires: Option<Timestamp>,
    /// Their actual life, from `obtained` on, whatever our own wall clock shows.
    lifetime: Option<Duration>,
}

impl Session {
    /// A session that was asked for at `obtained` and ends when the server's clock shows `expires`.
    ///
    /// `served_at` is the server's clock when it answered; without it ours is believed.
    pub fn new(obtained: Moment, served_at: Option<Timestamp>, expires: Option<Timestamp>) -> Self {
        let begin = served_at.unwrap_or(obtained.wall);
        let lifetime = expires.map(|end| Duration::try_from(end.duration_since(begin)).unwrap_or(Duration::ZERO));
        Self { obtained, expires, lifetime }
    }

    /// What is left of its life; `None` when it has no end.
    pub fn remaining(&self, now: Moment) -> Option<Duration> {
        self.lifetime.map(|lifetime| lifetime.saturating_sub(now.since(&self.obtained)))
    }

    /// Whether requests may still be signed with it: not in the last `min(60 s, lifetime / 10)`.
    pub fn is_usable(&self, now: Moment) -> bool {
        let margin = self.lifetime.unwrap_or(Duration::MAX) / 10;
        self.remaining(now).is_none_or(|left| left > margin.min(MARGIN_MAX))
    }

    /// Whether it was over before it began, so that it is no answer at all.
    pub fn is_stillborn(&self) -> bool {
        self.lifetime.is_some_and(|lifetime| lifetime.is_zero())
    }

    /// The age at which it is renewed: a fraction of its actual life.
    fn renewal_age(&self, fraction: f64) -> Duration {
        let life = self.lifetime.unwrap_or(ENDLESS_RELOAD);
        life.mul_f64(fraction).max(LEAST_BETWEEN)
    }
}

/// Why a renewal is asked for before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The service did not accept the credentials (`ExpiredToken`, `InvalidToken`, `InvalidAccessKeyId`).
    Credentials,
    /// The service accepted them and denied the request, which a revoked session looks like.
    AccessDenied,
}

impl Refusal {
    /// What a service's code says about the credentials, or `None` when it says nothing.
    pub fn from_code(code: &str) -> Option<Self> {
        match code {
            "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidToken"
            | "InvalidAccessKeyId"
            | "TokenRefreshRequired"
            | "InvalidClientTokenId"
            | "UnrecognizedClientException" => Some(Self::Credentials),
            "AccessDenied" | "AccessDeniedException" => Some(Self::AccessDenied),
            _ => None,
        }
    }
}

/// When one role's session is renewed: what happened so far, and what follows from it.
#[derive(Debug, Clone)]
pub struct Renewals {
    fraction: f64,
    session: Option<Session>,
    transient: Delays,
    denied: Delays,
    /// When to try again after a failure.
    retry_at: Option<Duration>,
    last_forced: Option<Duration>,
    last_denied: Option<Duration>,
}

impl Renewals {
    /// Nothing obtained yet. `random`, from 0 to 1, places this role within 50–75 % of a session's life.
    pub fn new(random: f64) -> Self {
        Self {
            fraction: 0.5 + 0.25 * random.clamp(0.0, 1.0),
            session: None,
            transient: Delays::assuming(),
            denied: Delays::denied(),
            retry_at: None,
            last_forced: None,
            last_denied: None,
        }
    }

    /// The current session's times.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// How many attempts in a row have failed.
    pub fn failures(&self) -> u32 {
        self.transient.failures() + self.denied.failures()
    }

    /// How long until the next attempt; zero means now.
    pub fn due_in(&self, now: Moment) -> Duration {
        if let Some(at) = self.retry_at {
            return at.saturating_sub(now.monotonic);
        }
        match &self.session {
            None => Duration::ZERO,
            Some(session) => session.renewal_age(self.fraction).saturating_sub(now.since(&session.obtained)),
        }
    }

    /// A new session has begun.
    pub fn succeeded(&mut self, session: Session) {
        self.session = Some(session);
        self.retry_at = None;
        self.transient.reset();
        self.denied.reset();
    }

    /// An attempt failed: the session stays, and the next attempt comes after a delay.
    ///
    /// What waiting may mend is tried again after 1–60 s, everything else after one minute at least.
    pub fn failed(&mut self, class: Class, now: Moment, random: f64) {
        let delay = match class {
            Class::Transient => self.transient.next(random),
            _ => self.denied.next(random),
        };
        self.retry_at = Some(now.monotonic + delay);
    }

    /// Whether a refusal may force a renewal now; if so, it is remembered as having done so.
    ///
    /// At most once a minute, after `AccessDenied` at most once in 15 minutes.
    pub fn force(&mut self, refusal: Refusal, now: Moment) -> bool {
        let rested = |last: Option<Duration>, least| last.is_none_or(|at| now.monotonic.saturating_sub(at) >= least);
        let allowed = rested(self.last_forced, FORCED_EVERY)
            && (refusal == Refusal::Credentials || rested(self.last_denied, DENIED_EVERY));
        if allowed {
            self.last_forced = Some(now.monotonic);
            if refusal == Refusal::AccessDenied {
                self.last_denied = Some(now.monotonic);
            }
        }
        allowed
    }
}

/// The duration to ask for, and whether it had to be cut: chained roles are refused more than an hour.
pub fn duration_for(wanted: Duration, chained: bool) -> (Duration, bool) {
    let clamped = chained && wanted > CHAINED_MAX;
    (if clamped { CHAINED_MAX } else { wanted }, clamped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::shift;

    fn at(seconds: u64) -> Moment {
        let wall = shift("2026-01-01T00:00:00Z".parse().unwrap(), seconds.try_into().unwrap());
        Moment { wall, monotonic: Duration::from_secs(seconds) }
    }

    fn session(seconds: u64) -> Session {
        Session::new(at(0), None, Some(at(seconds).wall))
    }

    fn renewals(random: f64, seconds: u64) -> Renewals {
        let mut renewals = Renewals::new(random);
        renewals.succeeded(session(seconds));
        renewals
    }

    #[test]
    fn a_session_is_renewed_between_half_and_three_quarters_of_its_actual_life() {
        assert_eq!(renewals(0.0, 3600).due_in(at(0)), Duration::from_secs(1800));
        assert_eq!(renewals(1.0, 3600).due_in(at(0)), Duration::from_secs(2700));
        assert_eq!(renewals(0.0, 900).due_in(at(400)), Duration::from_secs(50));
        assert_eq!(renewals(0.0, 43_200).due_in(at(30_000)), Duration::ZERO);
        assert_eq!(Renewals::new(0.3).due_in(at(0)), Duration::ZERO);
    }

    #[test]
    fn credentials_are_not_used_in_their_last_minute_or_tenth() {
        assert!(session(3600).is_usable(at(3539)));
        assert!(!session(3600).is_usable(at(3540)));
        assert!(session(15).is_usable(at(13)));
        assert!(!session(15).is_usable(at(14)));
        assert!(session(0).is_stillborn() && !session(0).is_usable(at(0)));
    }

    #[test]
    fn the_clock_that_says_later_decides() {
        let suspended = Moment { wall: at(3600).wall, monotonic: Duration::from_secs(10) };
        let set_back = Moment { wall: shift(at(0).wall, -7200), monotonic: Duration::from_secs(3600) };
        for now in [suspended, set_back] {
            assert!(!session(3600).is_usable(now));
            assert_eq!(renewals(1.0, 3600).due_in(now), Duration::ZERO);
        }
    }

    #[test]
    fn the_lifetime_is_measured_by_the_servers_clock_when_ours_is_wrong() {
        let server = shift(at(0).wall, 5 * 3600);
        let session = Session::new(at(0), Some(server), Some(shift(server, 3600)));
        assert_eq!(session.remaining(at(0)), Some(Duration::from_secs(3600)));
        assert!(!session.is_usable(at(3550)));
    }

    #[test]
    fn very_short_sessions_do_not_make_a_hot_loop() {
        assert_eq!(renewals(0.0, 15).due_in(at(0)), Duration::from_millis(7500));
        assert_eq!(renewals(0.0, 2).due_in(at(0)), Duration::from_secs(5));
        assert_eq!(renewals(0.0, 0).due_in(at(1)), Duration::from_secs(4));
    }

    #[test]
    fn a_key_pair_without_an_end_is_always_usable_and_read_again() {
        let mut renewals = Renewals::new(0.0);
        renewals.succeeded(Session::new(at(0), None, None));
        assert!(renewals.session().unwrap().is_usable(at(1_000_000)));
        assert_eq!(renewals.due_in(at(0)), Duration::from_secs(150));
    }

    #[test]
    fn failures_keep_the_session_and_come_back_with_growing_delays() {
        let mut renewals = renewals(0.0, 3600);
        renewals.failed(Class::Transient, at(1800), 1.0);
        assert_eq!(renewals.due_in(at(1800)), Duration::from_secs(5));
        renewals.failed(Class::Transient, at(1805), 1.0);
        assert_eq!(renewals.due_in(at(1805)), Duration::from_secs(10));
        assert!(renewals.session().unwrap().is_usable(at(1805)));
        renewals.failed(Class::Stream, at(1815), 0.0);
        assert_eq!((renewals.due_in(at(1815)), renewals.failures()), (Duration::from_secs(60), 3));
        renewals.succeeded(Session::new(at(1900), None, Some(at(5500).wall)));
        assert_eq!((renewals.due_in(at(1900)), renewals.failures()), (Duration::from_secs(1800), 0));
    }

    #[test]
    fn refusals_force_one_renewal_a_minute_and_denials_one_in_fifteen() {
        let mut renewals = renewals(0.0, 3600);
        assert!(renewals.force(Refusal::Credentials, at(0)));
        assert!(!renewals.force(Refusal::Credentials, at(59)));
        assert!(renewals.force(Refusal::AccessDenied, at(60)));
        assert!(!renewals.force(Refusal::Credentials, at(61)));
        assert!(!renewals.force(Refusal::AccessDenied, at(959)));
        assert!(renewals.force(Refusal::Credentials, at(200)));
        assert!(renewals.force(Refusal::AccessDenied, at(960)));
    }

    #[test]
    fn only_codes_about_credentials_ask_for_a_new_session() {
        assert_eq!(Refusal::from_code("ExpiredToken"), Some(Refusal::Credentials));
        assert_eq!(Refusal::from_code("AccessDenied"), Some(Refusal::AccessDenied));
        assert_eq!(Refusal::from_code("SlowDown"), None);
    }

    #[test]
    fn chained_sessions_are_clamped_to_an_hour() {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        assert_eq!(duration_for(hours(12), true), (hours(1), true));
        assert_eq!(duration_for(hours(12), false), (hours(12), false));
        assert_eq!(duration_for(hours(1), true), (hours(1), false));
    }
}
