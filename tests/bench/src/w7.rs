//! W7: into a bucket of one's own, uploaded, and copied by the service.

use anyhow::{Result, ensure};

use crate::mirror::{Mirror, Run};
use crate::serve::Kind;
use crate::server::Server;
use crate::table::{Ratio, Results, Row};
use crate::{Setting, w1};

const BODIES: u64 = 4_096;
const RUNS: usize = 3;

/// Measures both ways, in turns.
pub fn run(setting: &Setting) -> Result<Results> {
    let scratch = setting.scratch()?;
    let server = Server::start(w1::spec(setting.logs, Kind::Genuine(BODIES), "json.gz"), scratch.path())?;
    let ways = [("GET and PUT", false), ("GET and CopyObject", true)];
    let mut runs: [Vec<Run>; 2] = Default::default();
    for turn in 0..RUNS.min(setting.repeats) {
        for (which, (_, copies)) in ways.iter().enumerate() {
            let dir = scratch.path().join(format!("mirror-{turn}-{which}"));
            let mirror = Mirror::to(&dir, &server, &destination(&server, &dir, turn, *copies), "")?;
            scratch.settle()?;
            let run = mirror.sync(scratch.path(), &server)?;
            let written = if *copies { run.asked.copies } else { run.asked.puts };
            ensure!(written >= setting.logs, "{written} of {} objects were written", setting.logs);
            runs[which].push(run);
        }
    }
    let rows: Vec<_> = ways
        .iter()
        .zip(&runs)
        .map(|((what, _), runs)| Row::of_runs(format!("`trailsync sync`, {what}"), setting.logs, runs, (0, 0)))
        .collect();
    let each = |of: fn(&Run) -> u64| runs[0].first().map_or(f64::NAN, |run| of(run) as f64 / setting.logs as f64);
    let ratio = |what: &str, value| Ratio { what: what.into(), value, unit: "", target: None };
    let ratios = vec![
        ratio("PUT for each object", each(|run| run.asked.puts)),
        ratio("HEAD and GET besides, for each object", each(|run| run.asked.heads + run.asked.gets) - 1.0),
    ];
    Ok(Results {
        workload: "w7",
        about: format!("{} logs of a genuine size into a bucket of one's own, on the same server.", setting.logs),
        rows,
        ratios,
        notes: vec!["The server makes the SHA-256 of what is put or copied: its CPU is higher than elsewhere.".into()],
    })
}

fn destination(server: &Server, dir: &std::path::Path, turn: usize, copies: bool) -> String {
    let (endpoint, dir) = (server.endpoint(), dir.display());
    format!(
        r#"
[source.measured.destination]
bucket = "our-archive-{turn}-{copies}"
region = "us-east-1"
prefix = "trails"
server_side_copy = {copies}
endpoints = {{ s3 = "{endpoint}", sts = "{endpoint}", path_style = true }}
credentials = {{ access_key_id_file = "{dir}/id", secret_access_key_file = "{dir}/secret" }}
"#
    )
}
