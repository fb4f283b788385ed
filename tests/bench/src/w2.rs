//! W2: the same with the service's latency: how near to what the requests in flight allow.

use anyhow::{Result, ensure};

use crate::cost::median;
use crate::mirror::{self, Mirror, Run};
use crate::serve::{Kind, Spec};
use crate::server::Server;
use crate::table::{Ratio, Results, Row};
use crate::{Setting, w1};

const BODIES: u64 = 4_096;
const GET_MS: u64 = 20;
const LIST_MS: u64 = 50;
const MOST: f64 = 1.2;
/// It takes as long as it takes: more runs change little.
const RUNS: usize = 3;

/// Measures the wall.
pub fn run(setting: &Setting) -> Result<Results> {
    let scratch = setting.scratch()?;
    let spec = Spec { get_ms: GET_MS, list_ms: LIST_MS, ..w1::spec(setting.logs, Kind::Genuine(BODIES), "json.gz") };
    let server = Server::start(spec, scratch.path())?;
    let mut runs: Vec<Run> = Vec::new();
    for turn in 0..RUNS.min(setting.repeats) {
        let mirror = Mirror::new(&scratch.path().join(format!("mirror-{turn}")), &server, "")?;
        scratch.settle()?;
        runs.push(mirror.sync(scratch.path(), &server)?);
        ensure!(mirror::count(&mirror.copy())? == setting.logs, "not every object is there");
    }
    let in_flight = median(runs.iter().map(|run| run.asked.most_gets as f64));
    let latency = median(runs.iter().map(|run| run.asked.get_seconds / run.asked.gets as f64));
    let least = |latency: f64| setting.logs as f64 * latency / in_flight;
    let row = Row::of_runs("`trailsync sync`", setting.logs, &runs, (0, 0));
    let wall = row.wall_seconds.unwrap_or(f64::NAN);
    let ratio = |what: String, value, unit, target| Ratio { what, value, unit, target };
    Ok(Results {
        workload: "w2",
        about: format!(
            "{} logs of a genuine size, {GET_MS} ms for each GET and {LIST_MS} ms for each LIST.",
            setting.logs
        ),
        rows: vec![row],
        ratios: vec![
            ratio("GETs in flight at once, at most".into(), in_flight, "", None),
            ratio("a GET, as the server saw it".into(), latency * 1e3, " ms", None),
            ratio(
                format!("wall ÷ (objects × {GET_MS} ms ÷ in flight)"),
                wall / least(GET_MS as f64 / 1e3),
                "",
                Some(MOST),
            ),
            ratio("the same with the latency that the server saw".into(), wall / least(latency), "", None),
        ],
        notes: vec!["The server's timer is of whole milliseconds: a GET takes up to 1 ms longer than is asked.".into()],
    })
}
