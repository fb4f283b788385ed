//! Server-sent events: the state whenever it changes, and a beat that shows that the line is alive.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, interval};

use super::Context;
use crate::clock::Timestamp;
use crate::key::harmless_json;
use crate::ledger::SessionRow;
use crate::status::{Account, Condition, Proving, Status};

/// How often the state is looked at for a listener.
const LOOK: Duration = Duration::from_secs(2);
/// A beat comes at least this often.
const BEAT: Duration = Duration::from_secs(15);
/// Pages that may be open at once.
const LISTENERS: usize = 32;
/// Accounts in one event: the worst come first.
const ACCOUNTS: usize = 1000;

static OPEN: std::sync::LazyLock<Arc<Semaphore>> = std::sync::LazyLock::new(|| Arc::new(Semaphore::new(LISTENERS)));

/// What a page needs to renew itself: of the accounts those that changed since it was told last.
#[derive(Serialize)]
struct Update<'s> {
    version: u32,
    at: Timestamp,
    condition: Condition,
    summary: &'s str,
    alarms: u64,
    objects: u64,
    objects_per_second: f64,
    sessions: Vec<Session<'s>>,
    accounts: Vec<Row<'s>>,
}

#[derive(Serialize)]
struct Session<'s> {
    source: &'s str,
    expires: Option<Timestamp>,
    next_renewal: Option<Timestamp>,
    renewals: u64,
    failures: u64,
}

#[derive(Serialize)]
struct Row<'s> {
    source: &'s str,
    organization: Option<&'s str>,
    account: &'s str,
    condition: Condition,
    /// Its lag is the time since then.
    lag_from: Option<Timestamp>,
    listed_through: Option<Timestamp>,
    proof: Proving,
    proven_through: Option<Timestamp>,
    newest_object: Option<Timestamp>,
    objects: u64,
    bytes: u64,
    failing: u64,
    quarantined: u64,
    requests: u64,
}

struct Line {
    context: Context,
    ticks: Interval,
    told: Told,
    beaten: Instant,
    _open: OwnedSemaphorePermit,
}

/// What a listener knows.
#[derive(Default)]
struct Told {
    /// A hash of each account as it was told.
    accounts: HashMap<String, u64>,
    /// A hash of everything else, without its time.
    rest: u64,
    /// Objects, and when they were counted.
    objects: Option<(u64, Timestamp)>,
}

/// `status` events hold what changed, the first one everything; `beat` events hold the time.
pub async fn events(State(context): State<Context>) -> Response {
    let Ok(open) = OPEN.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open: this one asks for the state instead\n")
            .into_response();
    };
    let line = Line { context, ticks: interval(LOOK), told: Told::default(), beaten: Instant::now(), _open: open };
    Sse::new(told(line)).into_response()
}

fn told(line: Line) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold(line, |mut line| async move {
        loop {
            line.ticks.tick().await;
            if let Some(event) = line.next().await {
                return Some((Ok(event), line));
            }
        }
    })
}

impl Line {
    async fn next(&mut self) -> Option<Event> {
        let status = self.context.snapshots.latest().await.ok()?;
        if let Some(update) = self.told.news(&status) {
            self.beaten = Instant::now();
            return Some(Event::default().event("status").data(update));
        }
        if self.beaten.elapsed() >= BEAT {
            self.beaten = Instant::now();
            return Some(Event::default().event("beat").data(status.at.to_string()));
        }
        None
    }
}

impl Told {
    /// What changed; `None` when nothing did.
    fn news(&mut self, status: &Status) -> Option<String> {
        let rows = status.accounts.iter().take(ACCOUNTS).map(|account| row(account, status.at));
        let accounts: Vec<Row<'_>> = rows.filter(|row| self.is_new(row)).collect();
        let objects = status.accounts.iter().map(|account| account.progress.objects).sum();
        let mut update = Update {
            version: status.version,
            at: status.at,
            condition: status.condition,
            summary: &status.summary,
            alarms: status.alarm_total(),
            objects,
            objects_per_second: self.rate(objects, status.at),
            sessions: status.sessions.iter().map(session).collect(),
            accounts,
        };
        let (at, accounts) = (std::mem::take(&mut update.at), std::mem::take(&mut update.accounts));
        let rest = hash(&serde_json::to_string(&update).unwrap_or_default());
        (update.at, update.accounts) = (at, accounts);
        if update.accounts.is_empty() && rest == self.rest {
            return None;
        }
        self.rest = rest;
        Some(harmless_json(&serde_json::to_string(&update).unwrap_or_default()))
    }

    fn is_new(&mut self, row: &Row<'_>) -> bool {
        let now = hash(&serde_json::to_string(row).unwrap_or_default());
        let key = format!("{}/{}/{}", row.source, row.organization.unwrap_or_default(), row.account);
        self.accounts.insert(key, now) != Some(now)
    }

    /// Objects a second since the last look, to a tenth.
    fn rate(&mut self, objects: u64, at: Timestamp) -> f64 {
        let before = self.objects.replace((objects, at));
        let Some((before, since)) = before else { return 0.0 };
        let seconds = at.duration_since(since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let stored = objects.saturating_sub(before) as f64;
        if seconds > 0.0 { (stored / seconds * 10.0).round() / 10.0 } else { 0.0 }
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn session(session: &SessionRow) -> Session<'_> {
    Session {
        source: &session.source,
        expires: session.expires,
        next_renewal: session.next_renewal,
        renewals: session.renewals,
        failures: session.failures,
    }
}

fn row(account: &Account, at: Timestamp) -> Row<'_> {
    let progress = &account.progress;
    Row {
        source: &account.source,
        organization: account.organization.as_deref(),
        account: &account.account,
        condition: progress.condition,
        // Whole seconds, so that a lag that only grows with time is no news.
        lag_from: progress.lag_seconds.and_then(|lag| Timestamp::from_second(at.as_second() - lag).ok()),
        listed_through: progress.listed_through,
        proof: progress.proof.state,
        proven_through: progress.proof.proven_through,
        newest_object: progress.newest_object,
        objects: progress.objects,
        bytes: progress.bytes,
        failing: progress.failing,
        quarantined: progress.quarantined,
        requests: progress.list_requests.values().sum::<u64>() + progress.get_requests,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::CheckpointRow;
    use crate::status::Rows;

    fn status(objects: u64, at: &str) -> Status {
        let checkpoint = CheckpointRow {
            source: "acme".into(),
            account: "222222222222".into(),
            kind: "CloudTrail".into(),
            region: "eu-west-1".into(),
            objects,
            listed_through: "2026-03-10T12:00:00Z".parse().ok(),
            ..CheckpointRow::default()
        };
        let rows = Rows { sources: vec!["acme".into()], checkpoints: vec![checkpoint], ..Rows::default() };
        Status::of(rows, at.parse().unwrap())
    }

    #[test]
    fn a_listener_is_told_everything_once_and_then_what_changes() {
        let mut told = Told::default();
        let first = told.news(&status(3, "2026-03-10T12:00:01Z")).unwrap();
        assert!(first.contains("\"account\":\"222222222222\""), "{first}");
        assert_eq!(told.news(&status(3, "2026-03-10T12:00:03Z")), None, "time alone is no news");
        let then = told.news(&status(13, "2026-03-10T12:00:05Z")).unwrap();
        assert!(then.contains("\"objects\":13") && then.contains("\"objects_per_second\":5.0"), "{then}");
        let rest = told.news(&status(13, "2026-03-10T12:00:07Z")).unwrap();
        assert!(rest.contains("\"accounts\":[]") && rest.contains("\"objects_per_second\":0.0"), "{rest}");
    }
}
