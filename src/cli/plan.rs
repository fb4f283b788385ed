//! `trailsync plan`: what a first or next run would do, and what it would cost.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Exit, selected};
use crate::assemble::wanted;
use crate::clock::Timestamp;
use crate::config::{Config, Source, Storage};
use crate::error::{Class, Error, Report};
use crate::key::{Shown, harmless_json};
use crate::ledger::{DATABASE, Ledger};
use crate::manifest::Manifests;
use crate::plan::{Answer, Estimate, Expected, Known, Month, Question, plan};
use crate::role::{Keeper, Process};
use crate::source::s3::S3Source;
use crate::status::{Age, GET_DOLLARS, LIST_DOLLARS};

/// The shape of the JSON; raised when a reader of the old one would stumble.
const SCHEMA: u32 = 1;

/// Options of `trailsync plan`.
#[derive(Debug, Args)]
pub struct Options {
    /// Only these sources.
    pub sources: Vec<String>,
    /// As if everything were listed again, as `sync --full` does.
    #[arg(long)]
    pub full: bool,
    /// LIST requests that may be made for each source, as a rule; beyond them a sample of the days is listed.
    #[arg(long, value_name = "COUNT", default_value_t = 5_000)]
    pub requests: u64,
    /// Objects a second that are reckoned with.
    #[arg(long, value_name = "OBJECTS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// Chooses the days of a sample; the same number chooses the same days.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// One source and what a run would do.
struct Planned {
    source: Source,
    answer: Result<Answer, Error>,
}

/// Prints what a run would do; nothing is fetched, and neither state nor copy is touched.
///
/// # Errors
/// `Stream` when a source is unknown, `Fatal` when there is a state that cannot be read.
pub async fn run(
    config: &Config,
    options: &Options,
    process: &Process,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    let config = selected(config, &options.sources, "plan")?;
    let ledger = match config.state.dir.join(DATABASE).exists() {
        true => Some(Ledger::visit(&config.state.dir).await?),
        false => None,
    };
    let mut tasks = JoinSet::new();
    for source in config.sources.values().cloned() {
        let work = Work {
            process: process.clone(),
            ledger: ledger.clone(),
            manifests: Manifests::under(&config.state.dir),
            full: options.full,
            requests: options.requests,
            seed: options.seed,
        };
        tasks.spawn(async move {
            let answer = work.on(&source).await;
            Planned { source, answer }
        });
    }
    let mut planned = Vec::new();
    while let Some(done) = tasks.join_next().await {
        planned.push(done.map_err(|error| Error::of(Class::Fatal, Report::new("plan", "a source", error)))?);
    }
    if let Some(ledger) = &ledger {
        ledger.close().await;
    }
    planned.sort_by(|a, b| a.source.name.cmp(&b.source.name));
    let first = ledger.is_none();
    let text = match options.json {
        true => harmless_json(&format!("{:#}", as_json(&planned, options.rate, process.clock.now()))) + "\n",
        false => as_text(&planned, options.rate, first),
    };
    // A closed pipe has seen enough.
    let _ = out.write_all(text.as_bytes());
    exit(planned)
}

/// What one source's task needs.
struct Work {
    process: Process,
    ledger: Option<Ledger>,
    manifests: Manifests,
    full: bool,
    requests: u64,
    seed: u64,
}

impl Work {
    async fn on(&self, source: &Source) -> Result<Answer, Error> {
        let keeper = Keeper::connect(source, &self.process, fastrand::u64(..))?;
        keeper.ready().await?;
        // A long look outlives a session.
        let (end, mut renewing) = (CancellationToken::new(), JoinSet::new());
        let (renewed, token) = (keeper.clone(), end.clone());
        renewing.spawn(async move { renewed.run(token).await });
        let bucket = S3Source::new(source, keeper, self.process.http.get(&source.endpoints)?);
        let known = self.ledger.as_ref().map(|ledger| Known { ledger, manifests: &self.manifests });
        let question = Question {
            wanted: wanted(source),
            poll: source.poll.clone(),
            since: source.since,
            now: self.process.clock.now(),
            full: self.full,
            requests: self.requests,
            seed: self.seed,
            known,
        };
        plan(&bucket, &question).await
    }
}

/// 0: all was listed; 75: nothing was, and that may pass by itself; else 1.
fn exit(planned: Vec<Planned>) -> Result<Exit, Error> {
    let (mut failed, mut passing) = (0, 0);
    let all = planned.len();
    for one in planned {
        let (errors, nothing) = match one.answer {
            Ok(answer) => (answer.failed, answer.streams.is_empty()),
            Err(error) if error.class() == Class::Fatal => return Err(error),
            Err(error) => (vec![error], true),
        };
        let may_pass = |error: &Error| matches!(error.class(), Class::Transient | Class::Credentials);
        failed += errors.len();
        passing += usize::from(nothing && !errors.is_empty() && errors.iter().all(may_pass));
    }
    Ok(match () {
        () if passing == all && all > 0 => Exit::Unreachable,
        () if failed > 0 => Exit::Incomplete,
        () => Exit::Done,
    })
}

/// Dollars for one `PutObject` or `CopyObject`: it costs what a LIST request does.
const PUT_DOLLARS: f64 = LIST_DOLLARS;

/// What fetching costs, and storing where that is in a bucket of one's own.
struct Cost {
    lists: f64,
    gets: f64,
    /// Of objects; what is larger than a part takes a few more.
    puts: f64,
    dollars: f64,
    seconds: f64,
}

fn cost(source: &Source, answer: &Answer, rate: u32) -> Cost {
    let (lists, total) = (answer.lists(), answer.total());
    let gets = (total.objects.value - total.archived.value).max(0.0);
    let puts = if matches!(source.destination, Storage::Bucket(_)) { gets } else { 0.0 };
    let dollars = lists * LIST_DOLLARS + gets * GET_DOLLARS + puts * PUT_DOLLARS;
    Cost { lists, gets, puts, dollars, seconds: gets / f64::from(rate) }
}

fn as_json(planned: &[Planned], rate: u32, now: Timestamp) -> Value {
    let sources = planned.iter().map(|planned| match &planned.answer {
        Ok(answer) => source_json(&planned.source, answer, rate),
        Err(error) => json!({ "source": planned.source.name, "failed": [error.to_string()] }),
    });
    let sources: Vec<Value> = sources.collect();
    json!({
        "schema": SCHEMA,
        "at": now.to_string(),
        "confidence": 0.95,
        "objects_per_second": rate,
        "sources": sources,
    })
}

fn source_json(source: &Source, answer: &Answer, rate: u32) -> Value {
    let streams = answer.streams.iter().map(|one| {
        let months = one.months.iter().map(|(month, expected)| {
            let mut value = expected_json(expected);
            value["month"] = json!(month.to_string());
            value
        });
        let mut value = expected_json(&one.total());
        value["organization"] = json!(one.stream.organization);
        value["account"] = json!(one.stream.account);
        value["kind"] = json!(one.stream.kind.folder);
        value["region"] = json!(one.stream.region);
        value["listed_from"] = json!(one.from.map(|from| from.to_string()));
        value["list_requests"] = json!(whole(one.lists));
        value["months"] = months.collect();
        value
    });
    let (cost, mut value) = (cost(source, answer, rate), expected_json(&answer.total()));
    value["source"] = json!(source.name);
    value["list_requests"] = json!(whole(cost.lists));
    value["get_requests"] = json!(whole(cost.gets));
    value["put_requests"] = json!(whole(cost.puts));
    value["request_dollars"] = json!(cost.dollars);
    value["seconds"] = json!(whole(cost.seconds));
    value["sampled"] = json!(is_sampled(answer));
    value["asked_list_requests"] = json!(answer.asked);
    value["streams"] = streams.collect();
    value["failed"] = answer.failed.iter().map(ToString::to_string).collect();
    value
}

fn is_sampled(answer: &Answer) -> bool {
    !answer.total().objects.is_exact()
}

/// Whole numbers; `error` is what the truth may be off by, with 95 % confidence.
fn expected_json(expected: &Expected) -> Value {
    let estimate =
        |estimate: &Estimate| json!({ "value": whole(estimate.value), "error": whole(estimate.margin().ceil()) });
    json!({
        "objects": estimate(&expected.objects),
        "bytes": estimate(&expected.bytes),
        "archived": estimate(&expected.archived),
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts, never negative")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

fn as_text(planned: &[Planned], rate: u32, first: bool) -> String {
    let mut text = String::new();
    for planned in planned {
        match &planned.answer {
            Ok(answer) => text += &source_text(&planned.source, answer, rate, first),
            Err(error) => {
                let name = &planned.source.name;
                text += &format!("{name}: nothing is known: {error}; `trailsync check {name}` says more\n\n");
            }
        }
    }
    text
}

fn source_text(source: &Source, answer: &Answer, rate: u32, first: bool) -> String {
    let (name, total, cost) = (&source.name, answer.total(), cost(source, answer, rate));
    let puts = match cost.puts > 0.0 {
        true => format!(", and {} PUT requests to the bucket of your own,", HumanCount(whole(cost.puts))),
        false => String::new(),
    };
    let run = if first { "A first run" } else { "The next run" };
    let mut text = format!(
        "{name}: {run} fetches {} objects, {}, with {} LIST and {} GET requests{puts} for ${}, in {} at {rate} objects/s.\n",
        count(&total.objects),
        bytes(&total.bytes),
        HumanCount(whole(cost.lists)),
        HumanCount(whole(cost.gets)),
        dollars(cost.dollars),
        Age(i64::try_from(whole(cost.seconds)).unwrap_or(i64::MAX)),
    );
    text += &match is_sampled(answer) {
        true => format!(
            "Estimated from a sample of the days with {} LIST requests; ± holds with 95 % confidence.\n\n",
            HumanCount(answer.asked)
        ),
        false => format!("Counted with {} LIST requests.\n\n", HumanCount(answer.asked)),
    };
    if total.archived.value > 0.0 {
        text += &format!("{} of them are archived: their owner must restore them first.\n\n", count(&total.archived));
    }
    text += &format!("{}\n\n{}\n", streams(answer), months(answer));
    for error in &answer.failed {
        text += &format!("\nnot listed: {error}\n");
    }
    text + "\n"
}

/// To the cent, and small sums to a hundredth of one.
fn dollars(dollars: f64) -> String {
    if dollars < 1.0 { format!("{dollars:.4}") } else { format!("{dollars:.2}") }
}

fn streams(answer: &Answer) -> Table {
    let mut table = new_table(&["account", "kind", "region", "months", "objects", "bytes"]);
    for one in &answer.streams {
        let total = one.total();
        let organization = one.stream.organization.as_ref().map(|o| format!("{o}/")).unwrap_or_default();
        table.add_row([
            format!("{organization}{}", one.stream.account),
            one.stream.kind.folder.to_owned(),
            Shown(&one.stream.region).to_string(),
            span(&one.months),
            count(&total.objects),
            bytes(&total.bytes),
        ]);
    }
    table
}

fn months(answer: &Answer) -> Table {
    let mut all: BTreeMap<Month, Expected> = BTreeMap::new();
    for (month, expected) in answer.streams.iter().flat_map(|one| &one.months) {
        let sum = all.entry(*month).or_default();
        *sum = *sum + *expected;
    }
    let mut table = new_table(&["month", "objects", "bytes"]);
    for (month, expected) in &all {
        table.add_row([month.to_string(), count(&expected.objects), bytes(&expected.bytes)]);
    }
    table
}

/// The first and last month in which there is anything to fetch.
fn span(months: &BTreeMap<Month, Expected>) -> String {
    let mut some = months.iter().filter(|(_, expected)| expected.objects.value > 0.0).map(|(month, _)| month);
    match (some.next(), some.next_back()) {
        (None, _) => "-".to_owned(),
        (Some(only), None) => only.to_string(),
        (Some(first), Some(last)) => format!("{first} to {last}"),
    }
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

fn count(estimate: &Estimate) -> String {
    with_margin(estimate, |number| HumanCount(number).to_string())
}

fn bytes(estimate: &Estimate) -> String {
    with_margin(estimate, |number| HumanBytes(number).to_string())
}

fn with_margin(estimate: &Estimate, show: impl Fn(u64) -> String) -> String {
    let value = show(whole(estimate.value));
    if estimate.is_exact() { value } else { format!("{value} ± {}", show(whole(estimate.margin().ceil()))) }
}
