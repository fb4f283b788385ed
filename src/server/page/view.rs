//! What the page says, as text; the templates only lay it out and escape it.

use std::cmp::Reverse;

use askama::Template;
use indicatif::HumanBytes;
use serde::Deserialize;

use super::calendar::{self, Calendar, Facts};
use super::needs::{Need, needs};
use crate::clock::{Timestamp, seconds_between};
use crate::key::Shown;
use crate::ledger::{QuarantineRow, SessionRow};
use crate::status::{self, Age, Condition, Progress, Proof, Proving, Status};

/// Accounts on one page.
const ROWS: usize = 100;
/// Streams on one page.
const STREAMS: usize = 40;
/// Quarantined objects on one page.
const OBJECTS: usize = 50;

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
    title: String,
    at: Timestamp,
    as_of: String,
    version: &'static str,
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
    sessions: Vec<Session>,
    quarantine: Vec<Object>,
}

/// One account.
#[derive(Template)]
#[template(path = "account.html", config = "src/server/askama.toml")]
pub struct AccountPage {
    title: String,
    at: Timestamp,
    as_of: String,
    version: &'static str,
    row: Row,
    all: Days,
    streams: Vec<Stream>,
    legend: Vec<(&'static str, &'static str)>,
    page: usize,
    pages: usize,
    previous: String,
    next: String,
}

struct Row {
    key: String,
    link: String,
    name: String,
    class: &'static str,
    shape: &'static str,
    condition: &'static str,
    lag: String,
    listed: String,
    proven: String,
    held: bool,
    newest: String,
    objects: u64,
    bytes: String,
    failing: u64,
    quarantined: u64,
    requests: u64,
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
}

struct Object {
    source: String,
    key: String,
    attempts: u32,
    since: String,
    reason: String,
}

struct Stream {
    class: &'static str,
    shape: &'static str,
    name: String,
    condition: &'static str,
    facts: String,
    error: String,
    days: Days,
}

/// A calendar as the page shows it.
struct Days {
    summary: String,
    cells: Vec<Cell>,
}

struct Cell {
    class: &'static str,
    title: String,
}

impl Overview {
    /// The page of this state that the filter selects.
    pub fn of(status: &Status, filter: &Filter) -> Self {
        let matching: Vec<_> = status.accounts.iter().filter(|account| filter.admits(account)).collect();
        let pages = matching.len().div_ceil(ROWS).max(1);
        let page = filter.page.parse().unwrap_or(1).clamp(1, pages);
        let other = |page: usize| if (1..=pages).contains(&page) { filter.query(page) } else { String::new() };
        let (needs, all_needs) = needs(status);
        Self {
            title: status.condition.name().to_owned(),
            at: status.at,
            as_of: moment(status.at),
            version: env!("CARGO_PKG_VERSION"),
            class: class(status.condition),
            shape: shape(status.condition),
            summary: status.summary.clone(),
            more_needs: all_needs - needs.len(),
            needs,
            q: filter.q.clone(),
            conditions: Condition::ALL.map(|one| (one.name(), one.name() == filter.condition)).to_vec(),
            rows: matching.iter().skip((page - 1) * ROWS).take(ROWS).map(|account| row(account)).collect(),
            matching: matching.len(),
            all: status.accounts.len(),
            page,
            pages,
            previous: other(page - 1),
            next: other(page + 1),
            sessions: status.sessions.iter().take(ROWS).map(|session| session_of(session, status.at)).collect(),
            quarantine: status.quarantine.iter().take(OBJECTS).map(object).collect(),
        }
    }
}

impl AccountPage {
    /// The page of one account; `facts` are those of the days of each of its streams.
    pub fn of(account: &status::Account, facts: &[Facts], at: Timestamp, page: usize) -> Self {
        let calendars = account.streams.iter().zip(facts).map(|(one, facts)| Calendar::of(&one.progress, facts, at));
        let calendars: Vec<Calendar> = calendars.collect();
        let all = days(&Calendar::all(&calendars));
        let mut streams: Vec<_> = account.streams.iter().zip(&calendars).collect();
        streams.sort_by_key(|(one, calendar)| Reverse((calendar.worst(), one.progress.condition)));
        let pages = streams.len().div_ceil(STREAMS).max(1);
        let page = page.clamp(1, pages);
        let row = row(account);
        let other = |page: usize| match (1..=pages).contains(&page) {
            true => format!("{}?page={page}", row.link),
            false => String::new(),
        };
        let (previous, next) = (other(page - 1), other(page + 1));
        let shown = streams.iter().skip((page - 1) * STREAMS).take(STREAMS);
        Self {
            title: row.name.clone(),
            at,
            as_of: moment(at),
            version: env!("CARGO_PKG_VERSION"),
            all,
            streams: shown.map(|(one, calendar)| stream(one, calendar)).collect(),
            legend: calendar::State::ALL.map(|state| (state.class(), state.words())).to_vec(),
            row,
            page,
            pages,
            previous,
            next,
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

fn row(account: &status::Account) -> Row {
    let progress = &account.progress;
    let name = title(account);
    Row {
        key: name.clone(),
        link: if account.streams.is_empty() { String::new() } else { format!("/account/{name}") },
        name,
        class: class(progress.condition),
        shape: shape(progress.condition),
        condition: progress.condition.name(),
        lag: lag(progress),
        listed: when(progress.listed_through),
        proven: proven(&progress.proof),
        held: progress.proof.state == Proving::Held,
        newest: when(progress.newest_object),
        objects: progress.objects,
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
    }
}

fn object(object: &QuarantineRow) -> Object {
    Object {
        source: object.source.clone(),
        key: Shown(&object.key).to_string(),
        attempts: object.attempts,
        since: since(object.first_failed),
        reason: Shown(&object.reason).to_string(),
    }
}

fn stream(stream: &status::Stream, calendar: &Calendar) -> Stream {
    let progress = &stream.progress;
    let size = HumanBytes(progress.bytes);
    Stream {
        class: class(progress.condition),
        shape: shape(progress.condition),
        name: format!("{} {}", stream.kind, Shown(&stream.region)),
        condition: progress.condition.name(),
        facts: format!(
            "Listed through {}; proven through {}; {} objects, {size}; lag {}.",
            when(progress.listed_through),
            proven(&progress.proof),
            progress.objects,
            lag(progress)
        ),
        error: progress.error.as_deref().map(|error| Shown(error).to_string()).unwrap_or_default(),
        days: days(calendar),
    }
}

fn days(calendar: &Calendar) -> Days {
    let cell = |cell: &calendar::Cell| Cell {
        class: cell.state.class(),
        title: format!("{}: {}{}", calendar::name(cell.day), cell.state.words(), cell.note),
    };
    Days { summary: calendar.summary.clone(), cells: calendar.cells.iter().map(cell).collect() }
}

/// How far the proof is, and how it stands where it does not simply go on.
fn proven(proof: &Proof) -> String {
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
fn class(condition: Condition) -> &'static str {
    match condition {
        Condition::Current => "good",
        Condition::CatchingUp | Condition::New => "busy",
        Condition::Unknown | Condition::Late => "warn",
        Condition::Failing => "bad",
    }
}

/// A shape for those who do not see the colour.
fn shape(condition: Condition) -> &'static str {
    match condition {
        Condition::Current => "●",
        Condition::CatchingUp | Condition::New => "◐",
        Condition::Unknown | Condition::Late => "▲",
        Condition::Failing => "✖",
    }
}

fn when(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".into(), moment)
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// For `datetime`, or nothing.
pub fn since(at: Option<Timestamp>) -> String {
    at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

fn lag(progress: &Progress) -> String {
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
