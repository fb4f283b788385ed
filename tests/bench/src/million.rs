//! `trailsync verify` over a million files: its memory must not grow with them.

use anyhow::Result;

use crate::archive::{Bodies, Plan, write};
use crate::cost::{Cost, median};
use crate::table::{Ratio, Results, Row};
use crate::{Setting, verified};

/// Days that the logs are spread over: a busy account's month in one region, the hardest case for memory.
const DAYS: i64 = 30;
/// Different bodies; each stands under some 250 names.
const BODIES: u64 = 4_096;
/// Runs, whatever is asked for.
const RUNS: usize = 2;
const MOST_MIB: f64 = 64.0;

/// Measures the peak.
pub fn run(setting: &Setting) -> Result<Results> {
    let scratch = setting.scratch()?;
    let plan = Plan { logs: setting.files, hours: DAYS * 24, bodies: Bodies::Linked(BODIES) };
    let archive = write(&plan, &scratch.path().join("copy"))?;
    scratch.settle()?;
    let runs = (0..RUNS).map(|_| verified(scratch.path(), &archive.root, &[])).collect::<Result<Vec<_>>>()?;
    let peak = runs.iter().map(|cost| cost.peak_kib as f64 / 1024.0).fold(0.0, f64::max);
    let row = Row {
        what: "`trailsync verify`".into(),
        runs: runs.len(),
        objects: archive.objects,
        wall_seconds: Some(median(runs.iter().map(|cost| cost.wall_seconds))),
        cpu_seconds: median(runs.iter().map(Cost::cpu_seconds)),
        peak_mib: Some(peak),
        stored_bytes: archive.stored_bytes,
        inflated_bytes: archive.inflated_bytes,
        asked: None,
    };
    let bounded = Ratio { what: "peak memory".into(), value: peak, unit: " MiB", target: Some(MOST_MIB) };
    Ok(Results {
        workload: "verify-million",
        about: format!(
            "A copy of {} logs and digests ({DAYS} days, one account and region, manifests), each a name of its own in a \
             digest and on disk.",
            archive.objects
        ),
        rows: vec![row],
        ratios: vec![bounded],
        notes: vec![format!(
            "The logs have one event each and {BODIES} different bodies, which stand under many names (hard links): this \
             measures memory and names, not inflating."
        )],
    })
}
