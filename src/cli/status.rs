//! `trailsync status`: how far every account is, from the state alone.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::HumanBytes;
use tokio_util::sync::CancellationToken;

use super::Exit;
use crate::clock::{Clock, Timestamp, seconds_between};
use crate::config::Config;
use crate::error::Error;
use crate::key::{Shown, harmless_json};
use crate::ledger::{Ledger, PruneRow, ScrubRow};
use crate::status::{Account, Age, Condition, Progress, Proof, Proving, Status, Stream, Works};

mod screen;

use screen::Screen;

/// Options of `trailsync status`.
#[derive(Debug, Args)]
pub struct Options {
    /// A line for every kind and region as well.
    #[arg(long, short)]
    pub streams: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// Again and again, until it is interrupted: in place on a terminal, a line for each change elsewhere.
    #[arg(long, short)]
    pub follow: bool,
    /// A JSON document on a line of its own at once and whenever something changes, until it is interrupted.
    #[arg(long, conflicts_with_all = ["follow", "json", "streams"])]
    pub watch_json: bool,
    /// Seconds between two looks with `--follow` and `--watch-json`.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
}

/// Quarantined objects and alarms that are shown; the counts are whole.
const SHOWN: u32 = 20;

/// Prints the state; exits with 1 when an account is failing, late or not known to be well.
///
/// # Errors
/// `Fatal` when there is no state, or it cannot be read.
pub async fn status(
    config: &Config,
    options: &Options,
    clock: &dyn Clock,
    stop: &CancellationToken,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    let ledger = Ledger::look(&config.state.dir).await?;
    let mut screen = Screen::of(options);
    loop {
        let sources = config.sources.keys().cloned().collect();
        let status = Status::of(ledger.status_rows(sources, SHOWN).await?, clock.now());
        let written = out.write_all(screen.next(&status).as_bytes()).and_then(|()| out.flush());
        let pause = tokio::time::sleep(Duration::from_secs(options.every));
        if !screen.goes_on() || written.is_err() || stop.run_until_cancelled(pause).await.is_none() {
            let _ = out.write_all(screen.end().as_bytes()).and_then(|()| out.flush());
            return Ok(if status.condition >= Condition::Unknown { Exit::Incomplete } else { Exit::Done });
        }
    }
}

fn json(status: &Status) -> String {
    serde_json::to_string(status).map(|text| harmless_json(&text) + "\n").unwrap_or_default()
}

fn table(status: &Status, streams: bool) -> String {
    let mut text = format!("{}\n\n", status.summary);
    let mut table = new_table(&[
        "account",
        "state",
        "listed through",
        "proven through",
        "newest object",
        "lag",
        "objects",
        "bytes",
        "failed",
        "quar.",
        "next poll",
        "LIST",
        "GET",
        "price",
    ]);
    for account in &status.accounts {
        table.add_row(row(name(account), &account.progress, status.at));
        for stream in account.streams.iter().filter(|_| streams) {
            table.add_row(row(format!("  {} {}", stream.kind, Shown(&stream.region)), &stream.progress, status.at));
        }
    }
    text += &format!("{table}\n");
    text += &sessions(status);
    text += &troubles(status);
    text
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

/// An account as people name it; a source of which no account was ever seen by its own name.
fn name(account: &Account) -> String {
    let organization = account.organization.as_ref().map(|organization| format!("{organization}/")).unwrap_or_default();
    match account.account.as_str() {
        "" => account.source.clone(),
        id => format!("{}/{organization}{id}", account.source),
    }
}

fn row(name: String, progress: &Progress, now: Timestamp) -> Vec<String> {
    let time = |at: Option<Timestamp>| at.map_or_else(|| "never".into(), |at| at.to_string());
    let next = progress.next_poll.map_or_else(
        || "-".into(),
        |at| match seconds_between(now, at) {
            ..=0 => "now".to_owned(),
            seconds => format!("in {}", Age(seconds)),
        },
    );
    let mut condition = progress.condition.to_string();
    if let Some(sweep) = &progress.sweep {
        condition += &format!(" (listing {sweep})");
    }
    vec![
        name,
        condition,
        time(progress.listed_through),
        proven(&progress.proof),
        time(progress.newest_object),
        progress.lag_seconds.map_or_else(|| "-".into(), |lag| Age(lag).to_string()),
        progress.objects.to_string(),
        HumanBytes(progress.bytes).to_string(),
        progress.failing.to_string(),
        progress.quarantined.to_string(),
        next,
        progress.list_requests.values().sum::<u64>().to_string(),
        progress.get_requests.to_string(),
        format!("${:.4}", progress.request_dollars),
    ]
}

fn proven(proof: &Proof) -> String {
    match (proof.state, proof.proven_through) {
        (Proving::Proven, Some(through)) => through.to_string(),
        (state, Some(through)) => format!("{through} ({state})"),
        (state, None) => state.to_string(),
    }
}

fn sessions(status: &Status) -> String {
    let mut table = new_table(&["source", "role", "session", "expires", "next renewal", "renewals", "failures"]);
    for session in &status.sessions {
        let until = |at: Option<Timestamp>| {
            at.map_or_else(
                || "-".into(),
                |at| match seconds_between(status.at, at) {
                    ..=0 => format!("{} ago", Age(seconds_between(at, status.at))),
                    seconds => format!("in {}", Age(seconds)),
                },
            )
        };
        table.add_row(vec![
            session.source.clone(),
            session.role_arn.clone().unwrap_or_else(|| "none: the bucket policy grants us".into()),
            session.session_name.clone().unwrap_or_else(|| "-".into()),
            until(session.expires),
            until(session.next_renewal),
            session.renewals.to_string(),
            session.failures.to_string(),
        ]);
    }
    format!("\n{table}\n")
}

/// Proofs that stand still: since when, how far they are, why, and what to do next.
fn held_back(account: &Account) -> impl Iterator<Item = String> {
    let is_held = |stream: &&Stream| stream.kind == "CloudTrail-Digest" && stream.progress.proof.state == Proving::Held;
    account.streams.iter().filter(is_held).map(|stream| {
        let proof = &stream.progress.proof;
        let time = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
        format!(
            "proof held back since {}: {}/{} {}: proven through {}, held back by {}; `trailsync verify` shows each finding",
            time(proof.held_since),
            account.source,
            account.account,
            Shown(&stream.region),
            time(proof.proven_through),
            Shown(proof.held_back_by.as_deref().unwrap_or_default()),
        )
    })
}

/// Hops that fail or are about to turn; why they do stands with the streams, sessions and proofs below.
fn conditions(account: &Account) -> Option<String> {
    let time = |at: Option<Timestamp>| at.map_or_else(|| "an unknown time".to_owned(), |at| at.to_string());
    let mut parts = Vec::new();
    for health in &account.health {
        match (health.state, health.turning_since) {
            (Works::Failing, None) => parts.push(format!("{} fails since {}", health.hop, time(health.since))),
            (Works::Failing, turning) => parts.push(format!("{} fails, and mends since {}", health.hop, time(turning))),
            (Works::Good, Some(at)) => parts.push(format!("{} was good, and fails since {at}", health.hop)),
            (Works::Good, None) | (Works::Unknown, _) => {}
        }
    }
    (!parts.is_empty()).then(|| format!("conditions: {}: {}", name(account), parts.join("; ")))
}

/// What the scrub of a source found in this round, or the last; nothing where all was whole.
fn scrubbed(scrub: &ScrubRow) -> Option<String> {
    let (round, objects, findings) = match scrub.began {
        Some(_) => ("in this round so far", scrub.objects, scrub.findings),
        None => ("in the last round", scrub.last_objects, scrub.last_findings),
    };
    let ended = scrub.last_ended.map_or_else(|| "never".to_owned(), |at| at.to_string());
    (findings > 0 || scrub.unmended > 0).then(|| {
        format!(
            "scrub: {}: {findings} of {objects} objects read again {round} were damaged or lost, {} are not mended; \
             last complete round: {ended}",
            scrub.source, scrub.unmended
        )
    })
}

/// What was deleted at a source; nothing where nothing was.
fn pruned(prune: &PruneRow) -> Option<String> {
    let last = prune.last_deleted?;
    let (source, objects, bytes) = (&prune.source, prune.deleted, HumanBytes(prune.bytes));
    Some(format!("deleted at the source: {source}: {objects} objects, {bytes}; the last {last}"))
}

/// What needs the reader: failing streams, alarms, quarantine, with since when and why.
fn troubles(status: &Status) -> String {
    let since = |at: Option<Timestamp>| at.map(|at| format!(" since {at}")).unwrap_or_default();
    let mut lines = Vec::new();
    lines.extend(status.accounts.iter().flat_map(conditions).take(SHOWN as usize));
    for account in &status.accounts {
        let of_stream = account.streams.iter().any(|stream| stream.progress.error.is_some());
        if let (false, Some(why)) = (of_stream, &account.progress.error) {
            let since = since(account.progress.failing_since);
            lines.push(format!("failing{since}: {}: {}", name(account), Shown(why)));
        }
        for stream in account.streams.iter().filter(|stream| stream.progress.error.is_some()) {
            let why = stream.progress.error.as_deref().unwrap_or_default();
            lines.push(format!(
                "failing{}: {}/{} {} {}: {}",
                since(stream.progress.failing_since),
                account.source,
                account.account,
                stream.kind,
                Shown(&stream.region),
                Shown(why)
            ));
        }
    }
    for session in &status.sessions {
        if let Some(error) = &session.last_error {
            lines.push(format!("credentials{}: {}: {}", since(session.last_error_at), session.source, Shown(error)));
        }
    }
    for keys in &status.key_requests {
        let why = keys.error.as_deref().unwrap_or_default();
        let (since, region) = (since(keys.failing_since), Shown(&keys.region));
        lines.push(format!("public keys{since}: {} {region}: {}", keys.source, Shown(why)));
    }
    lines.extend(status.accounts.iter().flat_map(held_back).take(SHOWN as usize));
    lines.extend(status.scrubs.iter().filter_map(scrubbed));
    lines.extend(status.deletions.iter().filter_map(pruned));
    for alarm in status.alarms.iter().take(SHOWN as usize) {
        lines.push(format!(
            "alarm {}{}: {}: {}",
            alarm.kind,
            since(alarm.first_at),
            alarm.source,
            Shown(&alarm.detail)
        ));
    }
    for object in &status.quarantine {
        let state = if object.quarantined { "quarantine" } else { "failing" };
        lines.push(format!(
            "{state}{}: {}: {} tries: {}",
            since(object.first_failed),
            object.source,
            object.attempts,
            Shown(&object.reason)
        ));
    }
    if !status.unknown_folders.is_empty() {
        lines.push(format!("{} folders are not mirrored (`--json` names them)", status.unknown_folders.len()));
    }
    if lines.is_empty() { String::new() } else { format!("\n{}\n", lines.join("\n")) }
}
