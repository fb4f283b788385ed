//! Server-sent events: passes, rates, renewals and alarms as they happen, and a beat that shows that the line is alive.

use std::collections::{BTreeSet, HashMap, VecDeque};
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
use crate::ledger::{AlarmRow, SessionRow, StreamId};
use crate::status::{Account, Condition, Hop, Proving, Status, Works};

/// How often the state is looked at for a listener.
const LOOK: Duration = Duration::from_secs(2);
/// A beat comes this often, whatever else does.
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
    /// Streams that were listed completely since the last look.
    passes: u64,
    sessions: Vec<Session<'s>>,
    accounts: Vec<Row<'s>>,
}

#[derive(Serialize)]
struct Session<'s> {
    source: &'s str,
    obtained: Option<Timestamp>,
    expires: Option<Timestamp>,
    next_renewal: Option<Timestamp>,
    renewals: u64,
    failures: u64,
    last_error: Option<&'s str>,
}

/// An alarm that was raised, or is over.
#[derive(Serialize)]
struct Raised<'s> {
    source: &'s str,
    kind: &'s str,
    subject: &'s str,
    over: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'s str>,
}

#[derive(Serialize)]
struct Row<'s> {
    source: &'s str,
    organization: Option<&'s str>,
    account: &'s str,
    condition: Condition,
    failing_hops: Vec<Hop>,
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
    /// What is still to be sent.
    news: VecDeque<News>,
    _open: OwnedSemaphorePermit,
}

/// The name of an event and its data.
type News = (&'static str, String);

/// What a listener knows.
#[derive(Default)]
struct Told {
    /// A hash of each account as it was told.
    accounts: HashMap<String, u64>,
    /// A hash of everything else, without its time.
    rest: u64,
    /// Objects, and when they were counted.
    objects: Option<(u64, Timestamp)>,
    /// Through when each stream was listed.
    listed: HashMap<StreamId, Option<Timestamp>>,
    /// Renewals and failures of each session.
    sessions: HashMap<String, (u64, u64)>,
    /// Source, kind and subject of the alarms that stand; nothing before the first look.
    alarms: Option<BTreeSet<(String, String, String)>>,
}

/// `status` events hold what changed, the first one everything; `renewal` and `alarm` events one of each; `beat` events
/// the time. `api.md` describes their fields.
pub async fn events(State(context): State<Context>) -> Response {
    let Ok(open) = OPEN.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open: this one asks for the state instead\n")
            .into_response();
    };
    let line = Line {
        context,
        ticks: interval(LOOK),
        told: Told::default(),
        beaten: Instant::now(),
        news: VecDeque::new(),
        _open: open,
    };
    Sse::new(told(line)).into_response()
}

fn told(line: Line) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold(line, |mut line| async move {
        loop {
            if let Some((name, data)) = line.news.pop_front() {
                return Some((Ok(Event::default().event(name).data(data)), line));
            }
            line.ticks.tick().await;
            line.look().await;
        }
    })
}

impl Line {
    async fn look(&mut self) {
        let Ok(status) = self.context.snapshots.latest().await else { return };
        self.news.extend(self.told.news(&status));
        if self.beaten.elapsed() >= BEAT {
            self.beaten = Instant::now();
            self.news.push_back(("beat", status.at.to_string()));
        }
    }
}

impl Told {
    /// What happened since the last look.
    fn news(&mut self, status: &Status) -> Vec<News> {
        let mut news: Vec<News> = self.update(status).map(|update| ("status", update)).into_iter().collect();
        news.extend(self.renewals(status).into_iter().map(|renewal| ("renewal", renewal)));
        news.extend(self.alarms(status).into_iter().map(|alarm| ("alarm", alarm)));
        news
    }

    /// Sessions that were renewed, or could not be.
    fn renewals(&mut self, status: &Status) -> Vec<String> {
        let mut renewed = Vec::new();
        for session in &status.sessions {
            let now = (session.renewals, session.failures);
            if self.sessions.insert(session.source.clone(), now).is_some_and(|before| before != now) {
                renewed.push(text(&self::session(session)));
            }
        }
        renewed
    }

    /// Alarms that were raised, and those that are over; nothing at the first look.
    fn alarms(&mut self, status: &Status) -> Vec<String> {
        let key = |alarm: &AlarmRow| (alarm.source.clone(), alarm.kind.clone(), alarm.subject.clone());
        let standing: BTreeSet<_> = status.alarms.iter().map(key).collect();
        let Some(before) = self.alarms.replace(standing) else { return Vec::new() };
        let now = self.alarms.as_ref();
        let raised = status.alarms.iter().filter(|alarm| !before.contains(&key(alarm)));
        let mut told: Vec<String> = raised
            .map(|AlarmRow { source, kind, subject, detail, .. }| {
                text(&Raised { source, kind, subject, over: false, detail: Some(detail) })
            })
            .collect();
        // Where more stand than are shown, one that is not shown any more may stand all the same.
        if status.alarms.len() as u64 >= status.alarm_total() {
            let over = before.iter().filter(|known| now.is_none_or(|now| !now.contains(*known)));
            told.extend(
                over.map(|(source, kind, subject)| text(&Raised { source, kind, subject, over: true, detail: None })),
            );
        }
        told
    }

    /// Streams that were listed completely since the last look.
    fn passes(&mut self, status: &Status) -> u64 {
        let mut passes = 0;
        for stream in status.accounts.iter().flat_map(|account| &account.streams) {
            let through = stream.progress.listed_through;
            passes += u64::from(self.listed.insert(stream.id, through).is_some_and(|before| before != through));
        }
        passes
    }

    /// What changed; `None` when nothing did.
    fn update(&mut self, status: &Status) -> Option<String> {
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
            passes: self.passes(status),
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
        Some(text(&update))
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

/// Events are lines: JSON has none inside.
fn text(value: &impl Serialize) -> String {
    harmless_json(&serde_json::to_string(value).unwrap_or_default())
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn session(session: &SessionRow) -> Session<'_> {
    Session {
        source: &session.source,
        obtained: session.obtained,
        expires: session.expires,
        next_renewal: session.next_renewal,
        renewals: session.renewals,
        failures: session.failures,
        last_error: session.last_error.as_deref(),
    }
}

fn row(account: &Account, at: Timestamp) -> Row<'_> {
    let progress = &account.progress;
    let failing = account.health.iter().filter(|health| health.state == Works::Failing);
    Row {
        source: &account.source,
        organization: account.organization.as_deref(),
        account: &account.account,
        condition: progress.condition,
        failing_hops: failing.map(|health| health.hop).collect(),
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
    use crate::ledger::{AlarmCount, CheckpointRow};
    use crate::status::Rows;

    fn rows(objects: u64) -> Rows {
        let checkpoint = CheckpointRow {
            source: "acme".into(),
            account: "222222222222".into(),
            kind: "CloudTrail".into(),
            region: "eu-west-1".into(),
            objects,
            listed_through: "2026-03-10T12:00:00Z".parse().ok(),
            ..CheckpointRow::default()
        };
        Rows { sources: vec!["acme".into()], checkpoints: vec![checkpoint], ..Rows::default() }
    }

    fn status(rows: Rows, at: &str) -> Status {
        Status::of(rows, at.parse().unwrap())
    }

    fn one(mut news: Vec<News>, name: &str) -> String {
        assert_eq!(news.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [name]);
        news.remove(0).1
    }

    #[test]
    fn a_listener_is_told_everything_once_and_then_what_changes() {
        let mut told = Told::default();
        let first = one(told.news(&status(rows(3), "2026-03-10T12:00:01Z")), "status");
        assert!(first.contains("\"account\":\"222222222222\"") && first.contains("\"passes\":0"), "{first}");
        assert_eq!(told.news(&status(rows(3), "2026-03-10T12:00:03Z")), [], "time alone is no news");
        let then = one(told.news(&status(rows(13), "2026-03-10T12:00:05Z")), "status");
        assert!(then.contains("\"objects\":13") && then.contains("\"objects_per_second\":5.0"), "{then}");
        let rest = one(told.news(&status(rows(13), "2026-03-10T12:00:07Z")), "status");
        assert!(rest.contains("\"accounts\":[]") && rest.contains("\"objects_per_second\":0.0"), "{rest}");
    }

    #[test]
    fn a_pass_is_a_stream_that_was_listed_further() {
        let mut told = Told::default();
        told.news(&status(rows(3), "2026-03-10T12:00:01Z"));
        let mut further = rows(3);
        further.checkpoints[0].listed_through = "2026-03-10T12:01:00Z".parse().ok();
        let then = one(told.news(&status(further, "2026-03-10T12:01:01Z")), "status");
        assert!(then.contains("\"passes\":1"), "{then}");
    }

    #[test]
    fn renewals_and_alarms_are_told_one_by_one_and_alarms_when_they_are_over() {
        let mut told = Told::default();
        let session =
            |renewals, failures| SessionRow { source: "acme".into(), renewals, failures, ..SessionRow::default() };
        let alarm = AlarmRow {
            source: "acme".into(),
            kind: "altered".into(),
            subject: "key\u{1}".into(),
            first_at: None,
            last_at: None,
            count: 1,
            detail: "it was altered".into(),
        };
        let counts = vec![AlarmCount { source: "acme".into(), kind: "altered".into(), count: 1 }];
        let with = |session, alarms: &[AlarmRow]| {
            let alarm_counts = if alarms.is_empty() { Vec::new() } else { counts.clone() };
            status(
                Rows { sessions: vec![session], alarms: alarms.to_vec(), alarm_counts, ..rows(3) },
                "2026-03-10T12:00:01Z",
            )
        };
        let names = |news: &[News]| news.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(&told.news(&with(session(1, 0), &[]))), ["status"], "the first look tells no past");
        let news = told.news(&with(session(2, 0), std::slice::from_ref(&alarm)));
        assert_eq!(names(&news), ["status", "renewal", "alarm"]);
        assert!(news[1].1.contains("\"renewals\":2"), "{news:?}");
        assert!(news[2].1.contains("\"over\":false") && news[2].1.contains("it was altered"), "{news:?}");
        assert!(!news[2].1.contains('\u{1}'), "{news:?}");
        let news = told.news(&with(session(2, 0), &[]));
        assert_eq!(names(&news), ["status", "alarm"]);
        assert!(news[1].1.contains("\"over\":true"), "{news:?}");
    }
}
