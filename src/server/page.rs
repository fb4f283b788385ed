//! The status pages: whole without JavaScript, live with it.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{Context, api};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::ledger::{Ledger, StreamId};
use crate::prove::cover::Cover;
use crate::status::{Account, Status, Stream};

mod calendar;
mod chart;
mod day;
mod lists;
mod needs;
mod stories;
mod streams;
mod view;

use calendar::Facts;
use lists::{AlarmsPage, ENTRIES, QuarantinePage};
use streams::{AccountPage, DayPage, FAULTS, StreamPage};
pub use view::id;
use view::{Filter, Overview};

/// How long a browser may keep an asset.
const KEPT: &str = "max-age=3600";
/// The kind whose objects prove the others.
const DIGESTS: &str = "CloudTrail-Digest";
/// Alarms that are over, on the first page of alarms.
const OVER: u32 = 50;
/// Days that are counted at once: each reads a day's records.
static COUNTING: Semaphore = Semaphore::const_new(2);

/// Which page of a list.
#[derive(Debug, Default, Deserialize)]
pub struct Paging {
    /// From 1.
    #[serde(default)]
    page: String,
}

impl Paging {
    fn number(&self) -> u32 {
        self.page.parse::<u32>().unwrap_or(1).clamp(1, 1_000_000)
    }

    fn offset(&self) -> u32 {
        (self.number() - 1).saturating_mul(ENTRIES)
    }
}

/// Everything at one glance, worst first.
pub async fn overview(State(context): State<Context>, Query(filter): Query<Filter>) -> Response {
    match context.snapshots.recent().await {
        Ok(status) => rendered(&Overview::of(&status, &filter, context.snapshots.history())),
        Err(error) => api::unreadable(&error),
    }
}

/// One account: its streams, and a calendar of days for each.
pub async fn account(
    State(context): State<Context>,
    Path((source, account)): Path<(String, String)>,
    Query(filter): Query<Filter>,
) -> Response {
    let page = async {
        let status = context.snapshots.recent().await?;
        let Some(found) = account_of(&status, &source, &account) else { return Ok(missing("no such account")) };
        let mut facts = Vec::with_capacity(found.streams.len());
        for stream in &found.streams {
            facts.push(facts_of(context.snapshots.ledger(), found, stream, status.at).await?);
        }
        let history = context.snapshots.history().account(&source, &account);
        let page = filter.page.parse().unwrap_or(1);
        Ok(rendered(&AccountPage::of(&status, found, &facts, &history, page)))
    };
    answer(page.await)
}

/// One stream: its days, month by month.
pub async fn stream(
    State(context): State<Context>,
    Path((source, account, stream)): Path<(String, String, i64)>,
) -> Response {
    let page = async {
        let status = context.snapshots.recent().await?;
        let Some((account, stream)) = stream_of(&status, &source, &account, stream) else {
            return Ok(missing("no such stream"));
        };
        let facts = facts_of(context.snapshots.ledger(), account, stream, status.at).await?;
        Ok(rendered(&StreamPage::of(&status, account, stream, &facts)))
    };
    answer(page.await)
}

/// One day of a stream, hour by hour: counted when it is asked for.
pub async fn day(
    State(context): State<Context>,
    Path((source, account, stream, day)): Path<(String, String, i64, String)>,
) -> Response {
    let page = async {
        let status = context.snapshots.recent().await?;
        let Some((account, one)) = stream_of(&status, &source, &account, stream) else {
            return Ok(missing("no such stream"));
        };
        let Some(day) = calendar::named(&day) else { return Ok(missing("no such day: ask for YYYY-MM-DD")) };
        let Some(stream) = day::stream(&source, one) else { return Ok(missing("a kind that is not known")) };
        let ledger = context.snapshots.ledger();
        let faults = ledger.faults(&source, one.id, &one.prefix, day, FAULTS + 1).await?;
        let Ok(_one_of_few) = COUNTING.acquire().await else { return Ok(missing("it ends")) };
        let counted = day::count(ledger, &context.manifests, &stream, one.id, day).await?;
        let facts = facts_of(ledger, account, one, status.at).await?;
        let hours = day::hours(&stream, &one.progress, &facts.cover, day, &counted, &faults, status.at);
        Ok(rendered(&DayPage::of(&status, (account, one), day, &counted, &hours, &faults)))
    };
    answer(page.await)
}

/// Alarms with their stories; those that are over on the first page.
pub async fn alarms(State(context): State<Context>, Query(paging): Query<Paging>) -> Response {
    let page = async {
        let status = context.snapshots.recent().await?;
        let ledger = context.snapshots.ledger();
        let standing = ledger.alarm_page(true, ENTRIES + 1, paging.offset()).await?;
        let over = if paging.number() == 1 { ledger.alarm_page(false, OVER, 0).await? } else { Vec::new() };
        Ok(rendered(&AlarmsPage::of(&status, &standing, &over, paging.number())))
    };
    answer(page.await)
}

/// What could not be mirrored, and why.
pub async fn quarantine(State(context): State<Context>, Query(paging): Query<Paging>) -> Response {
    let page = async {
        let status = context.snapshots.recent().await?;
        let objects = context.snapshots.ledger().quarantine_page(ENTRIES + 1, paging.offset()).await?;
        Ok(rendered(&QuarantinePage::of(&status, &objects, paging.number())))
    };
    answer(page.await)
}

fn account_of<'s>(status: &'s Status, source: &str, id: &str) -> Option<&'s Account> {
    status.accounts.iter().find(|account| account.source == source && view::id(account) == id)
}

fn stream_of<'s>(status: &'s Status, source: &str, id: &str, stream: i64) -> Option<(&'s Account, &'s Stream)> {
    let account = account_of(status, source, id)?;
    Some((account, account.streams.iter().find(|one| one.id == StreamId(stream))?))
}

fn answer(page: Result<Response, Error>) -> Response {
    page.unwrap_or_else(|error| api::unreadable(&error))
}

fn missing(what: &'static str) -> Response {
    (StatusCode::NOT_FOUND, format!("404: {what}\n")).into_response()
}

/// What the days of a stream are judged by: its objects, what is wrong with them, and the digests of its region.
async fn facts_of(ledger: &Ledger, account: &Account, stream: &Stream, at: Timestamp) -> Result<Facts, Error> {
    let digests = account.streams.iter().find(|other| other.kind == DIGESTS && other.region == stream.region);
    let chains = match digests {
        Some(digests) => ledger.chains_of(digests.id).await?,
        None => Vec::new(),
    };
    Ok(Facts {
        objects: ledger.objects_by_day(stream.id, calendar::first_day(at)).await?,
        first: ledger.first_day(stream.id).await?,
        marks: ledger.marks(&account.source, stream.id, &stream.prefix).await?,
        cover: Cover::of(&chains, at),
    })
}

/// Style, script and icon; nothing comes from another host.
pub async fn asset(Path(name): Path<String>) -> Response {
    let (kind, bytes) = match name.as_str() {
        "page.css" => ("text/css; charset=utf-8", include_str!("assets/page.css")),
        "live.js" => ("text/javascript; charset=utf-8", include_str!("assets/live.js")),
        "icon.svg" => ("image/svg+xml", include_str!("assets/icon.svg")),
        _ => return (StatusCode::NOT_FOUND, "404\n").into_response(),
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, KEPT)], bytes).into_response()
}

fn rendered(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
