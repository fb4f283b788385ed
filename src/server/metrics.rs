//! Metrics for Prometheus: made from one snapshot at each scrape, so that nothing stale is ever served.
//!
//! Moments are exported as Unix times; what never happened has no series, for a zero would silence its alert. Labels
//! are names from our configuration and account ids; never a key.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, with_local_recorder};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::Instant;

use super::{Context, api};
use crate::clock::{Timestamp, shift};
use crate::ledger::{ScrubRow, SessionRow};
use crate::source::client::measure::{DOLLARS, FAILURES_TOTAL, PENDING, REQUEST_SECONDS, REQUESTS_TOTAL};
use crate::status::{Account, Condition, Status, Works};

const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

static LIVE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Begins to collect what a snapshot cannot tell: the latency of requests. A second call changes nothing.
pub fn install_recorder() {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Full(REQUEST_SECONDS.into()), &BUCKETS);
    if let Ok(handle) = builder.and_then(PrometheusBuilder::install_recorder) {
        describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "From a request to the head of its answer.");
        describe_counter!(REQUESTS_TOTAL, "Requests since the process began, failed ones included.");
        describe_counter!(FAILURES_TOTAL, "Requests since the process began that were refused or not answered.");
        describe_gauge!(DOLLARS, "What these requests cost in us-east-1.");
        describe_gauge!(PENDING, "Objects that were listed, are not here, and are being fetched.");
        let _ = LIVE.set(handle);
    }
}

/// The scrape.
pub async fn metrics(State(context): State<Context>) -> Response {
    let status = match context.snapshots.latest().await {
        Ok(status) => status,
        Err(error) => return api::unreadable(&error),
    };
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        describe();
        show(&status);
        show_turn(&context, status.at);
        show_disks(&context);
    });
    let mut text = recorder.handle().render();
    if let Some(live) = LIVE.get() {
        live.run_upkeep();
        text += &live.render();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn describe() {
    for (name, what) in [
        ("trailsync_build_info", "Always 1; the labels tell the version and what it was built for."),
        ("trailsync_snapshot_timestamp_seconds", "When the state was read."),
        ("trailsync_scheduler_turn_timestamp_seconds", "When the slowest scheduler turned last."),
        ("trailsync_condition", "1 for the condition that the account is in, 0 for the others."),
        ("trailsync_health", "1 where a hop works, 0 where it fails; absent where that is not known."),
        ("trailsync_health_since_timestamp_seconds", "Since when a hop is so."),
        ("trailsync_lag_seconds", "Age of the oldest object that is not here, else of the last complete listing."),
        ("trailsync_listed_through_timestamp_seconds", "Every object delivered before has an outcome."),
        ("trailsync_proven_from_timestamp_seconds", "An unbroken chain of digests, and all that they name, from here"),
        ("trailsync_proven_through_timestamp_seconds", "to here; absent where nothing is proven."),
        (
            "trailsync_proof_held_since_timestamp_seconds",
            "Since when the proof stands still; absent while it does not.",
        ),
        ("trailsync_public_keys_failing_since_timestamp_seconds", "Since when public keys cannot be had."),
        ("trailsync_scrub_ended_timestamp_seconds", "When every copy had been read again last."),
        ("trailsync_scrub_unmended", "Damaged copies that are not mended."),
        ("trailsync_newest_object_timestamp_seconds", "The latest time in the name of a stored object."),
        ("trailsync_last_stored_timestamp_seconds", "When an object was stored last."),
        ("trailsync_failing_since_timestamp_seconds", "Since when passes fail; absent while none does."),
        ("trailsync_objects_failing", "Objects in their first tries."),
        ("trailsync_objects_quarantined", "Objects that could not be mirrored; retried daily."),
        ("trailsync_alarms", "Alarms that nobody has cleared."),
        ("trailsync_renewal_failed_timestamp_seconds", "When a renewal failed last; absent after a good one."),
        ("trailsync_credential_expiry_timestamp_seconds", "When the role session ends."),
        ("trailsync_credential_renewal_timestamp_seconds", "When the role session is renewed next."),
        ("trailsync_disk_free_bytes", "Room on the file system of the copy."),
        ("trailsync_disk_total_bytes", "Size of the file system of the copy."),
    ] {
        describe_gauge!(name, what);
    }
    for (name, what) in [
        ("trailsync_objects_total", "Objects stored, each counted once."),
        ("trailsync_bytes_total", "Bytes stored."),
        ("trailsync_requests_total", "Requests to the source."),
        ("trailsync_renewals_total", "Role sessions obtained."),
        ("trailsync_renewal_failures_total", "Tries to obtain one that failed."),
    ] {
        describe_counter!(name, what);
    }
    describe_gauge!("trailsync_request_dollars", "What the requests cost in us-east-1.");
}

fn show(status: &Status) {
    let built =
        [("version", env!("CARGO_PKG_VERSION")), ("os", std::env::consts::OS), ("arch", std::env::consts::ARCH)];
    gauge!("trailsync_build_info", &built).set(1.0);
    moment("trailsync_snapshot_timestamp_seconds", Some(status.at), &[]);
    status.accounts.iter().for_each(show_account);
    status.sessions.iter().for_each(show_session);
    for alarms in &status.alarm_counts {
        let (source, kind) = (alarms.source.clone(), alarms.kind.clone());
        gauge!("trailsync_alarms", "source" => source, "kind" => kind).set(float(alarms.count));
    }
    status.scrubs.iter().for_each(show_scrub);
    show_keys(status);
}

/// The schedulers beat by a clock that only counts; what Prometheus compares with is the wall's.
fn show_turn(context: &Context, at: Timestamp) {
    let turned = context.pulse.age(Instant::now()).map(|age| shift(at, -whole_seconds(age)));
    moment("trailsync_scheduler_turn_timestamp_seconds", turned, &[]);
}

fn whole_seconds(age: Duration) -> i64 {
    i64::try_from(age.as_secs()).unwrap_or(i64::MAX)
}

fn show_scrub(scrub: &ScrubRow) {
    let labels = [("source", scrub.source.clone())];
    moment("trailsync_scrub_ended_timestamp_seconds", scrub.last_ended, &labels);
    gauge!("trailsync_scrub_unmended", &labels).set(float(scrub.unmended));
}

/// Regions come from the bucket; the first trouble of a source stands for all.
fn show_keys(status: &Status) {
    let mut first = BTreeMap::<&str, Timestamp>::new();
    for keys in &status.key_requests {
        if let Some(since) = keys.failing_since {
            first.entry(&keys.source).and_modify(|at| *at = since.min(*at)).or_insert(since);
        }
    }
    for (source, since) in first {
        let labels = [("source", source.to_owned())];
        moment("trailsync_public_keys_failing_since_timestamp_seconds", Some(since), &labels);
    }
}

type Labels = [(&'static str, String)];

fn show_account(account: &Account) {
    let organization = account.organization.clone().unwrap_or_default();
    let labels =
        [("source", account.source.clone()), ("organization", organization), ("account", account.account.clone())];
    let progress = &account.progress;
    for condition in Condition::ALL {
        let is = if progress.condition == condition { 1.0 } else { 0.0 };
        gauge!("trailsync_condition", &with(&labels, "condition", &condition.name().replace(' ', "_"))).set(is);
    }
    if let Some(lag) = progress.lag_seconds {
        gauge!("trailsync_lag_seconds", &labels).set(float(lag));
    }
    moment("trailsync_listed_through_timestamp_seconds", progress.listed_through, &labels);
    let proof = &progress.proof;
    moment("trailsync_proven_from_timestamp_seconds", proof.proven_from, &labels);
    moment("trailsync_proven_through_timestamp_seconds", proof.proven_through, &labels);
    moment("trailsync_proof_held_since_timestamp_seconds", proof.held_since, &labels);
    moment("trailsync_newest_object_timestamp_seconds", progress.newest_object, &labels);
    moment("trailsync_last_stored_timestamp_seconds", progress.last_stored_at, &labels);
    moment("trailsync_failing_since_timestamp_seconds", progress.failing_since, &labels);
    gauge!("trailsync_objects_failing", &labels).set(float(progress.failing));
    gauge!("trailsync_objects_quarantined", &labels).set(float(progress.quarantined));
    gauge!("trailsync_request_dollars", &labels).set(progress.request_dollars);
    counter!("trailsync_objects_total", &labels).absolute(progress.objects);
    counter!("trailsync_bytes_total", &labels).absolute(progress.bytes);
    let lists = progress.list_requests.values().sum();
    for (operation, requests) in [("ListObjectsV2", lists), ("GetObject", progress.get_requests)] {
        counter!("trailsync_requests_total", &with(&labels, "operation", operation)).absolute(requests);
    }
    show_health(account, &labels);
}

fn show_health(account: &Account, labels: &Labels) {
    for health in account.health.iter().filter(|health| health.state != Works::Unknown) {
        let labels = with(labels, "hop", health.hop.name());
        gauge!("trailsync_health", &labels).set(if health.state == Works::Good { 1.0 } else { 0.0 });
        moment("trailsync_health_since_timestamp_seconds", health.since, &labels);
    }
}

fn show_session(session: &SessionRow) {
    let labels = [("source", session.source.clone())];
    let failing = session.last_error.as_ref().and(session.last_error_at);
    moment("trailsync_renewal_failed_timestamp_seconds", failing, &labels);
    moment("trailsync_credential_expiry_timestamp_seconds", session.expires, &labels);
    moment("trailsync_credential_renewal_timestamp_seconds", session.next_renewal, &labels);
    counter!("trailsync_renewals_total", &labels).absolute(session.renewals);
    counter!("trailsync_renewal_failures_total", &labels).absolute(session.failures);
}

fn show_disks(context: &Context) {
    for (source, space) in context.disks.space() {
        gauge!("trailsync_disk_free_bytes", "source" => source.to_owned()).set(float(space.free_bytes));
        gauge!("trailsync_disk_total_bytes", "source" => source.to_owned()).set(float(space.total_bytes));
    }
}

fn moment(name: &'static str, at: Option<Timestamp>, labels: &Labels) {
    if let Some(at) = at {
        gauge!(name, labels).set(float(at.as_second()));
    }
}

fn with(labels: &Labels, name: &'static str, value: &str) -> Vec<(&'static str, String)> {
    labels.iter().cloned().chain([(name, value.to_owned())]).collect()
}

/// Counts and times stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts and times stay far below 2^53")]
fn float(number: impl TryInto<i64>) -> f64 {
    number.try_into().unwrap_or(i64::MAX) as f64
}
