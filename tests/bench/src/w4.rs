//! W4: few large objects: bytes a processor second, and memory that does not follow their size.

use anyhow::{Result, ensure};

use crate::mirror::{self, Mirror, Run};
use crate::scratch::Scratch;
use crate::serve::Kind;
use crate::server::Server;
use crate::table::{Ratio, Results, Row};
use crate::{Setting, w1};

const MIB: f64 = 1024.0 * 1024.0;
const SIZE: usize = 20 << 20;
/// Logs repeat themselves: this many bytes inside make about twenty MiB as stored.
const INSIDE: usize = 160 << 20;
/// Different bodies.
const BODIES: u64 = 2;
const RUNS: usize = 2;
/// Inflating takes much longer, and is only shown beside.
const INFLATED_SHARE: u64 = 5;
const LEAST_HASHED: f64 = 500.0;
const MOST_MIB: f64 = 40.0;

/// Measures both ways.
pub fn run(setting: &Setting) -> Result<Results> {
    let scratch = setting.scratch()?;
    let objects = setting.large;
    let plain = one(setting, &scratch, Kind::Plain(BODIES, SIZE), "json", objects)?;
    let packed = one(setting, &scratch, Kind::Large(BODIES, INSIDE), "json.gz", objects.div_ceil(INFLATED_SHARE))?;
    let rate = |row: &Row| row.stored_bytes as f64 / MIB / row.cpu_seconds;
    let peak = |row: &Row| row.peak_mib.unwrap_or(f64::NAN);
    let ratio = |what: &str, value, unit, target| Ratio { what: what.into(), value, unit, target };
    Ok(Results {
        workload: "w4",
        about: format!("{objects} objects of 20 MiB to disk, durably."),
        ratios: vec![
            ratio("CPU for 500 MiB, hashed", LEAST_HASHED / rate(&plain), " s", Some(1.0)),
            ratio("MiB a CPU second, hashed", rate(&plain), "", None),
            ratio("MiB as stored a CPU second, hashed, inflated and hashed inside", rate(&packed), "", None),
            ratio("peak memory", peak(&plain).max(peak(&packed)), " MiB", Some(MOST_MIB)),
        ],
        rows: vec![plain, packed],
        notes: vec![
            "Content hashing cannot be switched off in trailsync: the target without it (1,200 MiB a CPU second) is not \
             measured."
                .into(),
        ],
    })
}

fn one(setting: &Setting, scratch: &Scratch, kind: Kind, ending: &str, objects: u64) -> Result<Row> {
    let server = Server::start(w1::spec(objects, kind, ending), scratch.path())?;
    let mut runs: Vec<Run> = Vec::new();
    for turn in 0..RUNS.min(setting.repeats) {
        let dir = scratch.path().join(format!("{ending}-{turn}"));
        let mirror = Mirror::new(&dir, &server, "")?;
        scratch.settle()?;
        runs.push(mirror.sync(scratch.path(), &server)?);
        ensure!(mirror::count(&mirror.copy())? == objects, "not every object is there");
        // Gigabytes, and nothing reuses the directory.
        std::fs::remove_dir_all(mirror.copy())?;
    }
    let bytes = runs.first().map_or(0, |run| run.asked.sent_bytes);
    let inside = if matches!(kind, Kind::Large(..)) { objects * INSIDE as u64 } else { 0 };
    let what = if inside == 0 { "`trailsync sync`, no gzip" } else { "`trailsync sync`, gzip" };
    Ok(Row::of_runs(what, objects, &runs, (bytes, inside)))
}
