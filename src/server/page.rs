//! The status page: whole without JavaScript, live with it.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::{Context, api};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::ledger::Ledger;
use crate::prove::cover::Cover;
use crate::status::{Account, Stream};

mod calendar;
mod needs;
mod view;

use calendar::Facts;
use view::{AccountPage, Filter, Overview};

/// How long a browser may keep an asset.
const KEPT: &str = "max-age=3600";
/// The kind whose objects prove the others.
const DIGESTS: &str = "CloudTrail-Digest";

/// Everything at one glance, worst first.
pub async fn overview(State(context): State<Context>, Query(filter): Query<Filter>) -> Response {
    match context.snapshots.recent().await {
        Ok(status) => rendered(&Overview::of(&status, &filter)),
        Err(error) => api::unreadable(&error),
    }
}

/// One account: its streams, and a calendar of days for each.
pub async fn account(
    State(context): State<Context>,
    Path((source, account)): Path<(String, String)>,
    Query(filter): Query<Filter>,
) -> Response {
    let status = match context.snapshots.recent().await {
        Ok(status) => status,
        Err(error) => return api::unreadable(&error),
    };
    let Some(found) = status.accounts.iter().find(|a| a.source == source && view::id(a) == account) else {
        return (StatusCode::NOT_FOUND, "404: no such account\n").into_response();
    };
    let mut facts = Vec::with_capacity(found.streams.len());
    for stream in &found.streams {
        match facts_of(context.snapshots.ledger(), found, stream, status.at).await {
            Ok(days) => facts.push(days),
            Err(error) => return api::unreadable(&error),
        }
    }
    rendered(&AccountPage::of(found, &facts, status.at, filter.page.parse().unwrap_or(1)))
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
