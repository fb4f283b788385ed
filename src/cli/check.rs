//! `trailsync check`: every hop of every source, with what is missing.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Exit, selected};
use crate::check::{Finding, Hop, State, buckets, walk};
use crate::config::{Config, Source};
use crate::error::{Class, Error, Report};
use crate::key::{Shown, harmless_json};
use crate::role::Process;

/// The shape of the JSON; raised when a reader of the old one would stumble.
const SCHEMA: u32 = 1;

/// Options of `trailsync check`.
#[derive(Debug, Args)]
pub struct Options {
    /// Only these sources.
    pub sources: Vec<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// Lists the buckets that each source's role can see instead.
    #[arg(long)]
    pub list_buckets: bool,
}

/// One source and what was found.
struct Walked {
    source: Source,
    findings: Vec<Finding>,
}

/// Walks the hops of the selected sources, all at once, and prints what was found.
///
/// # Errors
/// `Stream` when a source is unknown.
pub async fn check(
    config: &Config,
    options: &Options,
    process: &Process,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    let config = selected(config, &options.sources, "check")?;
    if options.list_buckets {
        return list_buckets(&config, options, process, out).await;
    }
    let walked = every_source(&config, process).await?;
    let text = match options.json {
        true => harmless_json(&format!("{:#}", as_json(&walked, process))) + "\n",
        false => as_text(&walked),
    };
    // A closed pipe has seen enough.
    let _ = out.write_all(text.as_bytes());
    Ok(exit(&walked))
}

async fn every_source(config: &Config, process: &Process) -> Result<Vec<Walked>, Error> {
    let mut tasks = JoinSet::new();
    for source in config.sources.values().cloned() {
        let process = process.clone();
        tasks.spawn(async move {
            let findings = walk(&source, &process).await;
            Walked { source, findings }
        });
    }
    let mut walked = Vec::new();
    while let Some(done) = tasks.join_next().await {
        walked.push(done.map_err(|error| Error::of(Class::Fatal, Report::new("check", "a source", error)))?);
    }
    walked.sort_by(|a, b| a.source.name.cmp(&b.source.name));
    Ok(walked)
}

impl Walked {
    fn failed(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.state == State::Failed)
    }

    fn worst(&self) -> State {
        let has = |state| self.findings.iter().any(|finding| finding.state == state);
        [State::Failed, State::Warned].into_iter().find(|state| has(*state)).unwrap_or(State::Passed)
    }

    /// What came after the hop that failed.
    fn not_tried(&self) -> Vec<Hop> {
        let tried = |hop: &Hop| self.findings.iter().any(|finding| finding.hop == *hop);
        let is_asked = |hop: &Hop| *hop != Hop::Delete || self.source.after_mirror.is_some();
        Hop::ALL.into_iter().filter(|hop| !tried(hop) && is_asked(hop)).collect()
    }
}

/// 0: nothing fails; 75: all that fails may pass by itself; 3: all that fails is our own disk; else 1.
fn exit(walked: &[Walked]) -> Exit {
    let failed: Vec<&Finding> = walked.iter().filter_map(Walked::failed).collect();
    match failed.as_slice() {
        [] => Exit::Done,
        failed if failed.iter().all(|finding| finding.hop == Hop::Destination) => Exit::State,
        failed if failed.iter().all(|finding| finding.passing) => Exit::Unreachable,
        _ => Exit::Incomplete,
    }
}

fn as_json(walked: &[Walked], process: &Process) -> Value {
    let sources = walked.iter().map(|walked| {
        json!({
            "source": walked.source.name,
            "bucket": walked.source.bucket,
            "state": walked.worst(),
            "failed_at": walked.failed().map(|finding| finding.hop),
            "hops": walked.findings,
            "not_tried": walked.not_tried(),
        })
    });
    json!({ "schema": SCHEMA, "at": process.clock.now().to_string(), "sources": sources.collect::<Vec<_>>() })
}

fn as_text(walked: &[Walked]) -> String {
    let mut text = summary(walked);
    for walked in walked {
        text += &format!("\n{} ({})\n", walked.source.name, walked.source.bucket);
        walked.findings.iter().for_each(|finding| text += &lines(finding));
        let not_tried: Vec<&str> = walked.not_tried().into_iter().map(Hop::title).collect();
        if !not_tried.is_empty() {
            text += &row("-", "not tried", &not_tried.join(", "));
        }
    }
    text
}

/// One sentence first.
fn summary(walked: &[Walked]) -> String {
    let failing: Vec<String> = walked
        .iter()
        .filter_map(|walked| Some(format!("{} fails at {}", walked.source.name, walked.failed()?.hop.title())))
        .collect();
    let warned = walked.iter().filter(|walked| walked.worst() == State::Warned).count();
    let warnings = match warned {
        0 => String::new(),
        1 => ", 1 of them with a warning".to_owned(),
        many => format!(", {many} of them with warnings"),
    };
    let passing = walked.len() - failing.len();
    let failing = if failing.is_empty() { String::new() } else { format!("; {}", failing.join(", ")) };
    format!("{passing} of {} sources pass{warnings}{failing}.\n", walked.len())
}

fn row(state: &str, hop: &str, text: &str) -> String {
    format!("  {state:<7}  {hop:<16}  {text}\n")
}

fn lines(finding: &Finding) -> String {
    let state = match finding.state {
        State::Passed => "ok",
        State::Skipped => "-",
        State::Warned => "WARNING",
        State::Failed => "FAILED",
    };
    let mut found = Shown(&finding.found).to_string();
    if let Some(code) = &finding.code {
        found = format!("{}: {found}", Shown(code));
    }
    if let Some(id) = &finding.request_id {
        found += &format!(" (request {})", Shown(id));
    }
    let mut text = row(state, finding.hop.title(), &found);
    if matches!(finding.state, State::Passed | State::Skipped) {
        return text;
    }
    let mut detail = |name: &str, value: &str| text += &row("", "", &format!("{name:<8} {}", Shown(value)));
    detail("tried", &finding.tried);
    if let Some(permission) = &finding.permission {
        let condition = permission.condition.as_ref().map(|condition| format!(" with {condition}")).unwrap_or_default();
        let name = if finding.state == State::Failed { "missing" } else { "wanted" };
        detail(name, &format!("{} on {}{condition}", permission.action, permission.resource));
    }
    for (number, cause) in finding.causes.iter().enumerate() {
        detail(if number == 0 { "likely" } else { "" }, &format!("{}. {cause}", number + 1));
    }
    for (number, line) in finding.policy.iter().enumerate() {
        let mend = format!("`{}`: {}, statement {}", line.command, line.attachment.word(), line.sid);
        detail(if number == 0 { "mend" } else { "" }, &mend);
    }
    text
}

async fn list_buckets(
    config: &Config,
    options: &Options,
    process: &Process,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    let (mut text, mut shown, mut refused) = (String::new(), Vec::new(), Vec::new());
    for source in config.sources.values() {
        match buckets(source, process).await {
            Ok(seen) => {
                text += &format!("{}: {} buckets\n", source.name, seen.len());
                for bucket in seen {
                    let region = bucket.region.unwrap_or_default();
                    let created = bucket.created.map(|at| at.to_string()).unwrap_or_default();
                    text += &format!(
                        "  {:<40}  {:<16}  {created}\n",
                        Shown(&bucket.name).to_string(),
                        Shown(&region).to_string()
                    );
                    shown.push(
                        json!({ "source": source.name, "bucket": bucket.name, "region": region, "created": created }),
                    );
                }
            }
            Err(findings) => {
                text += &format!("{}\n", source.name);
                findings.iter().filter(|finding| finding.state == State::Failed).for_each(|f| text += &lines(f));
                refused.push(Walked { source: source.clone(), findings });
            }
        }
    }
    if options.json {
        let refused = as_json(&refused, process)["sources"].take();
        let document = json!({ "schema": SCHEMA, "buckets": shown, "refused": refused });
        text = harmless_json(&format!("{document:#}")) + "\n";
    }
    let _ = out.write_all(text.as_bytes());
    Ok(exit(&refused))
}
