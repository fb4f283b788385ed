//! Which hop of an account's mirroring works: seven conditions with since when and why, which do not flicker.
//!
//! A condition turns only after it was seen otherwise for a while without a break: [`FAILS_AFTER`] until it fails,
//! [`MENDED_AFTER`] until it is good again. What no recent evidence speaks for is unknown, never good.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::{Account, Age, Condition, LATE_SECONDS, Proving, Stream};
use crate::clock::{Timestamp, seconds_between};
use crate::ledger::{AlarmRow, HealthRow, SessionRow};
use crate::renewal::Refusal;

/// Seconds for which a hop that worked must be seen failing.
pub const FAILS_AFTER: i64 = 60;
/// Seconds for which a hop that failed must be seen working.
pub const MENDED_AFTER: i64 = 120;
/// A lag that was too long is good again only below this.
const LAG_MENDED: i64 = LATE_SECONDS * 3 / 4;
/// Kind of the alarm that stands while a destination cannot be used.
const DESTINATION: &str = "destination";

/// A step on an object's way here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// Credentials and role session.
    Auth,
    /// Listing.
    List,
    /// Fetching.
    Get,
    /// Decryption with a KMS key.
    Kms,
    /// Storing here, or in a bucket of our own.
    Write,
    /// Nothing waits for too long.
    Lag,
    /// The proof goes on.
    Proof,
}

/// How a hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Works {
    /// Evidence says that it works.
    Good,
    /// No evidence that is young enough.
    Unknown,
    /// Evidence says that it does not.
    Failing,
}

/// One condition of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Of which hop.
    pub hop: Hop,
    /// How it is.
    pub state: Works,
    /// Since when; `None` while that is unknown.
    pub since: Option<Timestamp>,
    /// Since when it is seen otherwise, without a break: it is about to turn.
    pub turning_since: Option<Timestamp>,
    /// Why it fails, or is about to.
    pub cause: Option<String>,
}

/// What is seen of a hop at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Unknown,
    /// Neither good nor bad enough to turn.
    Between,
    Good,
    Bad(String, Option<Timestamp>),
}

/// What all accounts of a source have in common.
pub(super) struct Common<'r> {
    sessions: &'r [SessionRow],
    alarms: &'r [AlarmRow],
}

impl Hop {
    /// Every one, in the order in which an object takes them.
    pub const ALL: [Self; 7] = [Self::Auth, Self::List, Self::Get, Self::Kms, Self::Write, Self::Lag, Self::Proof];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::List => "list",
            Self::Get => "get",
            Self::Kms => "kms",
            Self::Write => "write",
            Self::Lag => "lag",
            Self::Proof => "proof",
        }
    }

    /// The hop that an error's text blames: errors begin with what was tried (`error.rs`), then the service's code.
    pub fn blamed(text: &str) -> Self {
        let operation = text.split(" of `").next().unwrap_or_default();
        let said = text.split_once("` failed: ").map_or("", |(_, said)| said);
        let code = said.split(": ").next().unwrap_or_default();
        // What would mend a denied GET names KMS as a possibility; only what the service said counts.
        let said = said.split("; ").next().unwrap_or_default();
        match operation {
            "AssumeRole" | "GetCallerIdentity" | "read base credentials" => Self::Auth,
            _ if Refusal::from_code(code) == Some(Refusal::Credentials) => Self::Auth,
            "ListObjectsV2" => Self::List,
            "mirror" if said.contains("ListObjectsV2") => Self::List,
            "GetObject" if code.starts_with("KMS.") || said.contains("kms:") => Self::Kms,
            "GetObject" => Self::Get,
            _ => Self::Write,
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Works {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Failing => "failing",
        }
    }
}

/// The rows of an earlier look, by account and hop.
pub(super) struct Remembered(HashMap<(String, String, String, String), HealthRow>);

impl Remembered {
    pub(super) fn of(rows: Vec<HealthRow>) -> Self {
        let key =
            |row: &HealthRow| (row.source.clone(), row.organization.clone(), row.account.clone(), row.hop.clone());
        Self(rows.into_iter().map(|row| (key(&row), row)).collect())
    }

    /// Gives an account its conditions; what is to be remembered anew is returned.
    pub(super) fn judge(&mut self, account: &mut Account, common: &Common<'_>, now: Timestamp) -> Vec<HealthRow> {
        let mut changes = Vec::new();
        for hop in Hop::ALL {
            let seen = seen(hop, account, common, now);
            let organization = account.organization.clone().unwrap_or_default();
            let key = (account.source.clone(), organization, account.account.clone(), hop.name().to_owned());
            let before = self.0.remove(&key);
            let after = turned(before.as_ref(), &seen, now, || {
                let (source, organization, account, hop) = key;
                HealthRow { source, organization, account, hop, failing: false, since: now, turning: None, cause: None }
            });
            account.health.push(shown(hop, after.as_ref(), &seen));
            if let Some(after) = after.filter(|after| !is_same(before.as_ref(), after)) {
                changes.push(after);
            }
        }
        changes
    }
}

impl<'r> Common<'r> {
    pub(super) fn of(sessions: &'r [SessionRow], alarms: &'r [AlarmRow]) -> Self {
        Self { sessions, alarms }
    }

    fn session(&self, name: &str) -> Option<&SessionRow> {
        self.sessions.iter().find(|session| session.source == name)
    }
}

/// Causes differ by their request ids alone: only a turn is worth a write.
fn is_same(before: Option<&HealthRow>, after: &HealthRow) -> bool {
    before.is_some_and(|before| {
        (before.failing, before.since, before.turning) == (after.failing, after.since, after.turning)
    })
}

/// What a hop is after this look, given what it was before.
fn turned(
    before: Option<&HealthRow>,
    seen: &Seen,
    now: Timestamp,
    new: impl FnOnce() -> HealthRow,
) -> Option<HealthRow> {
    let (bad, cause, began) = match seen {
        Seen::Unknown => return before.cloned(),
        Seen::Between => {
            let row = before.cloned()?;
            return Some(HealthRow { turning: None, ..row });
        }
        Seen::Good => (false, None, now),
        Seen::Bad(cause, since) => (true, Some(cause.clone()), since.unwrap_or(now).min(now)),
    };
    let Some(before) = before else {
        return Some(HealthRow { failing: bad, since: began, cause, ..new() });
    };
    if before.failing == bad {
        let cause = cause.or_else(|| before.cause.clone()).filter(|_| bad);
        return Some(HealthRow { turning: None, cause, ..before.clone() });
    }
    let turning = before.turning.unwrap_or(now);
    let patience = if bad { FAILS_AFTER } else { MENDED_AFTER };
    let cause = cause.or_else(|| before.cause.clone());
    if seconds_between(turning, now) < patience {
        return Some(HealthRow { turning: Some(turning), cause, ..before.clone() });
    }
    let since = if bad { began.min(turning) } else { turning };
    Some(HealthRow { failing: bad, since, turning: None, cause: cause.filter(|_| bad), ..before.clone() })
}

/// What people are told: what was good and cannot be seen now is unknown.
fn shown(hop: Hop, row: Option<&HealthRow>, seen: &Seen) -> Health {
    let unknown = Health { hop, state: Works::Unknown, since: None, turning_since: None, cause: None };
    let Some(row) = row else { return unknown };
    if *seen == Seen::Unknown && !row.failing {
        return unknown;
    }
    let state = if row.failing { Works::Failing } else { Works::Good };
    Health { hop, state, since: Some(row.since), turning_since: row.turning, cause: row.cause.clone() }
}

fn seen(hop: Hop, account: &Account, common: &Common<'_>, now: Timestamp) -> Seen {
    if account.progress.condition == Condition::Unknown {
        return Seen::Unknown;
    }
    match hop {
        Hop::Auth => auth(account, common, now),
        Hop::Lag => lag(account, now),
        Hop::Proof => proof(account),
        Hop::List | Hop::Get | Hop::Kms | Hop::Write => step(hop, account, common),
    }
}

fn auth(account: &Account, common: &Common<'_>, now: Timestamp) -> Seen {
    let session = common.session(&account.source);
    if let Some(bad) = session.and_then(refused).or_else(|| blamed(Hop::Auth, account)) {
        return bad;
    }
    match session {
        Some(session) if session.expires.is_none_or(|end| end > now) && session.obtained.is_some() => Seen::Good,
        _ => Seen::Unknown,
    }
}

fn refused(session: &SessionRow) -> Option<Seen> {
    session.last_error.as_ref().map(|why| Seen::Bad(why.clone(), session.last_error_at))
}

/// What a pass does, one step after the other: of the steps behind one that fails nothing is known.
fn step(hop: Hop, account: &Account, common: &Common<'_>) -> Seen {
    if hop == Hop::Write
        && let Some(bad) = destination(account, common)
    {
        return bad;
    }
    if let Some(bad) = blamed(hop, account) {
        return bad;
    }
    let progress = &account.progress;
    let fails_before =
        Hop::ALL.into_iter().take_while(|before| *before != hop).any(|one| blamed(one, account).is_some());
    let evidence = if hop == Hop::List { progress.listed_through.is_some() } else { progress.objects > 0 };
    if evidence && !fails_before { Seen::Good } else { Seen::Unknown }
}

fn destination(account: &Account, common: &Common<'_>) -> Option<Seen> {
    let is_it = |alarm: &&AlarmRow| alarm.source == account.source && alarm.kind == DESTINATION;
    let alarm = common.alarms.iter().find(is_it).map(|alarm| Seen::Bad(alarm.detail.clone(), alarm.first_at));
    alarm.or_else(|| common.session(&format!("{}/destination", account.source)).and_then(refused))
}

/// The first error that blames this hop: of the account as a whole, or of a stream.
fn blamed(hop: Hop, account: &Account) -> Option<Seen> {
    let streams = account.streams.iter().map(|stream| &stream.progress);
    let failing = streams.chain([&account.progress]).filter_map(|progress| {
        let error = progress.error.as_ref()?;
        (Hop::blamed(error) == hop).then(|| (progress.failing_since, error.clone()))
    });
    failing.min().map(|(since, error)| Seen::Bad(error, since))
}

/// One quarantined object does not put an account out of step: it is shown beside.
fn lag(account: &Account, now: Timestamp) -> Seen {
    let of = |stream: &Stream| {
        let progress = &stream.progress;
        let listed = || progress.listed_through.map(|through| seconds_between(through, now));
        if progress.failing > 0 { progress.lag_seconds } else { listed() }
    };
    let lags: Option<Vec<i64>> = account.streams.iter().map(of).collect();
    match lags.and_then(|lags| lags.into_iter().max()) {
        None => Seen::Unknown,
        Some(lag @ LATE_SECONDS..) => {
            Seen::Bad(format!("what is missing, or was not listed, is {} old", Age(lag)), None)
        }
        Some(LAG_MENDED..) => Seen::Between,
        Some(_) => Seen::Good,
    }
}

fn proof(account: &Account) -> Seen {
    let proof = &account.progress.proof;
    match proof.state {
        Proving::Held => Seen::Bad(proof.held_back_by.clone().unwrap_or_default(), proof.held_since),
        Proving::Proven | Proving::Ended => Seen::Good,
        Proving::Waiting | Proving::Unavailable => Seen::Unknown,
    }
}

#[cfg(test)]
mod tests;
