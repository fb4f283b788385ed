//! What the page says, as text; the templates only lay it out and escape it.

use askama::Template;
use indicatif::HumanBytes;
use serde::Deserialize;

use super::chart::Charts;
use super::needs::{Need, needs};
use crate::clock::{Timestamp, seconds_between, shift};
use crate::key::Shown;
use crate::ledger::SessionRow;
use crate::server::history::History;
use crate::status::{self, Age, Condition, Progress, Proof, Proving, Status, Works};

/// Accounts on one page.
const ROWS: usize = 100;
/// Sessions on one page: those in trouble come first, then those that end soonest.
const SESSIONS: usize = 50;

/// Which accounts to show.
#[derive(Debug, Default, Deserialize)]
pub struct Filter {
    /// Part of a source's name or of an account id.
    #[serde(default)]
    pub q: String,
    /// Only accounts in this condition.
    #[serde(default)]
    pub condition: String,
    /// From 1.
    #[serde(default)]
    pub page: String,
}

/// Everything at one glance.
#[derive(Template)]
#[template(path = "overview.html", config = "src/server/askama.toml")]
pub struct Overview {
    frame: Frame,
    class: &'static str,
    shape: &'static str,
    summary: String,
    needs: Vec<Need>,
    more_needs: usize,
    q: String,
    conditions: Vec<(&'static str, bool)>,
    rows: Vec<Row>,
    matching: usize,
    all: usize,
    page: usize,
    pages: usize,
    previous: String,
    next: String,
    charts: Charts,
    sessions: Vec<Session>,
    more_sessions: usize,
}

/// What every page has around its own.
pub struct Frame {
    /// The first word of the title.
    pub title: String,
    /// When the state was read.
    pub at: Timestamp,
    /// The same for people.
    pub as_of: String,
    /// Of trailsync.
    pub version: &'static str,
    /// Alarms that stand.
    pub alarms: u64,
    /// Objects in quarantine, or on their way there.
    pub quarantined: u64,
}

/// An account in a line.
pub struct Row {
    pub key: String,
    pub link: String,
    pub name: String,
    pub class: &'static str,
    pub shape: &'static str,
    pub condition: &'static str,
    /// The hops that fail.
    pub hops: String,
    pub lag: String,
    pub lag_from: String,
    pub listed: String,
    pub proven: String,
    pub held: bool,
    pub newest: String,
    pub objects: u64,
    /// Objects a minute of late; nothing where it is not known.
    pub rate: String,
    pub bytes: String,
    pub failing: u64,
    pub quarantined: u64,
    pub requests: u64,
}

struct Session {
    class: &'static str,
    source: String,
    role: String,
    name: String,
    expires_at: String,
    expires: String,
    renewal_at: String,
    renewal: String,
    renewals: u64,
    failures: u64,
    /// Seconds of its life, and of what is left of it.
    life: i64,
    left: i64,
    why: String,
}

impl Frame {
    /// The frame of a page of this state.
    pub fn of(status: &Status, title: impl Into<String>) -> Self {
        let waiting = status.accounts.iter().map(|account| account.progress.failing + account.progress.quarantined);
        Self {
            title: title.into(),
            at: status.at,
            as_of: moment(status.at),
            version: env!("CARGO_PKG_VERSION"),
            alarms: status.alarm_total(),
            quarantined: waiting.sum(),
        }
    }
}

impl Overview {
    /// The page of this state that the filter selects.
    pub fn of(status: &Status, filter: &Filter, history: &History) -> Self {
        let rates = history.rates();
        let rate = |account: &status::Account| rates.get(&(account.source.clone(), id(account))).copied();
        let matching: Vec<_> = status.accounts.iter().filter(|account| filter.admits(account)).collect();
        let pages = matching.len().div_ceil(ROWS).max(1);
        let page = filter.page.parse().unwrap_or(1).clamp(1, pages);
        let other = |page: usize| if (1..=pages).contains(&page) { filter.query(page) } else { String::new() };
        let (needs, all_needs) = needs(status);
        let mut sessions: Vec<&SessionRow> = status.sessions.iter().collect();
        sessions.sort_by_key(|session| (session.last_error.is_none(), session.expires));
        Self {
            frame: Frame::of(status, status.condition.name()),
            class: class(status.condition),
            shape: shape(status.condition),
            summary: status.summary.clone(),
            more_needs: all_needs - needs.len(),
            needs,
            q: filter.q.clone(),
            conditions: Condition::ALL.map(|one| (one.name(), one.name() == filter.condition)).to_vec(),
            rows: matching
                .iter()
                .skip((page - 1) * ROWS)
                .take(ROWS)
                .map(|one| row(one, rate(one), status.at))
                .collect(),
            matching: matching.len(),
            all: status.accounts.len(),
            page,
            pages,
            previous: other(page - 1),
            next: other(page + 1),
            charts: Charts::of(&history.all(), status.at),
            more_sessions: sessions.len().saturating_sub(SESSIONS),
            sessions: sessions.into_iter().take(SESSIONS).map(|session| session_of(session, status.at)).collect(),
        }
    }
}

impl Filter {
    fn admits(&self, account: &status::Account) -> bool {
        let named = self.q.is_empty() || title(account).contains(self.q.trim());
        named && (self.condition.is_empty() || account.progress.condition.name() == self.condition)
    }

    /// The query of another page of the same selection.
    fn query(&self, page: usize) -> String {
        let encoded = |text: &str| text.bytes().map(encode).collect::<String>();
        format!("/?q={}&condition={}&page={page}", encoded(&self.q), encoded(&self.condition))
    }
}

/// An account's id within its source: with its organization, where there is one.
pub fn id(account: &status::Account) -> String {
    match &account.organization {
        Some(organization) => format!("{organization}:{}", account.account),
        None => account.account.clone(),
    }
}

/// An account as people name it; a source of which no account was ever seen by its own name.
pub fn title(account: &status::Account) -> String {
    match account.account.as_str() {
        "" => account.source.clone(),
        _ => format!("{}/{}", account.source, id(account)),
    }
}

/// An account in a line, as of `at`.
pub fn row(account: &status::Account, rate: Option<f64>, at: Timestamp) -> Row {
    let progress = &account.progress;
    let name = title(account);
    Row {
        key: name.clone(),
        link: if account.account.is_empty() { String::new() } else { format!("/account/{name}") },
        name,
        class: class(progress.condition),
        shape: shape(progress.condition),
        condition: progress.condition.name(),
        hops: hops(account),
        lag: lag(progress),
        lag_from: since(progress.lag_seconds.map(|lag| shift(at, -lag))),
        listed: when(progress.listed_through),
        proven: proven(&progress.proof),
        held: progress.proof.state == Proving::Held,
        newest: when(progress.newest_object),
        objects: progress.objects,
        rate: rate.map(|rate| format!("{rate:.1}")).unwrap_or_default(),
        bytes: HumanBytes(progress.bytes).to_string(),
        failing: progress.failing,
        quarantined: progress.quarantined,
        requests: requests(progress),
    }
}

fn session_of(session: &SessionRow, now: Timestamp) -> Session {
    Session {
        class: if session.last_error.is_some() { "bad" } else { "" },
        source: session.source.clone(),
        role: session.role_arn.clone().unwrap_or_else(|| "none: the bucket policy grants us".into()),
        name: session.session_name.clone().unwrap_or_else(|| "–".into()),
        expires_at: since(session.expires),
        expires: until(session.expires, now),
        renewal_at: since(session.next_renewal),
        renewal: until(session.next_renewal, now),
        renewals: session.renewals,
        failures: session.failures,
        life: session.obtained.zip(session.expires).map_or(0, |(from, to)| seconds_between(from, to).max(0)),
        left: session.expires.map_or(0, |to| seconds_between(now, to).max(0)),
        why: session.last_error.as_deref().map(|why| Shown(why).to_string()).unwrap_or_default(),
    }
}

/// The hops that fail, in a few words.
fn hops(account: &status::Account) -> String {
    let failing = account.health.iter().filter(|health| health.state == Works::Failing);
    failing.map(|health| health.hop.name()).collect::<Vec<_>>().join(", ")
}

/// How far the proof is, and how it stands where it does not simply go on.
pub fn proven(proof: &Proof) -> String {
    match (proof.state, proof.proven_through) {
        (Proving::Proven, Some(through)) => moment(through),
        (state, Some(through)) => format!("{} ({state})", moment(through)),
        (state, None) => state.to_string(),
    }
}

fn requests(progress: &Progress) -> u64 {
    progress.list_requests.values().sum::<u64>() + progress.get_requests
}

/// A class for the colour of a condition; the word stands beside it.
pub fn class(condition: Condition) -> &'static str {
    match condition {
        Condition::Current => "good",
        Condition::CatchingUp | Condition::New => "busy",
        Condition::Unknown | Condition::Late => "warn",
        Condition::Failing => "bad",
    }
}

/// A shape for those who do not see the colour.
pub fn shape(condition: Condition) -> &'static str {
    match condition {
        Condition::Current => "●",
        Condition::CatchingUp | Condition::New => "◐",
        Condition::Unknown | Condition::Late => "▲",
        Condition::Failing => "✖",
    }
}

/// A moment, or that there never was one.
pub fn when(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".into(), moment)
}

/// `YYYY-MM-DD HH:MM:SSZ`
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// For `datetime`, or nothing.
pub fn since(at: Option<Timestamp>) -> String {
    at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

/// The lag for people.
pub fn lag(progress: &Progress) -> String {
    progress.lag_seconds.map_or_else(|| "–".into(), |lag| Age(lag).to_string())
}

/// From now to a moment, either way.
fn until(at: Option<Timestamp>, now: Timestamp) -> String {
    match at.map(|at| seconds_between(now, at)) {
        None => "–".into(),
        Some(seconds @ ..=0) => format!("{} ago", Age(-seconds)),
        Some(seconds) => format!("in {}", Age(seconds)),
    }
}

fn encode(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

#[cfg(test)]
mod tests;
