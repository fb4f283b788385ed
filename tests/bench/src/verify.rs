//! `trailsync verify` beside a bare loop over the same bytes, in pairs.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::archive::{Archive, Bodies, Plan, write};
use crate::bare::Loop;
use crate::cost::{self, Cost, median};
use crate::table::{Ratio, Results, Row};
use crate::{Setting, verified};

/// Days that the logs are spread over.
const DAYS: i64 = 10;
/// Runs, whatever more is asked for.
const RUNS: usize = 3;
/// Verification may take so many times as long as the bare loop.
const MOST: f64 = 1.3;

/// One way in which both are run.
struct Way {
    jobs: usize,
    /// With manifests, bytes are hashed as stored, too.
    sealed: bool,
}

/// Both in turns.
#[derive(Default)]
struct Pairs {
    verify: Vec<Cost>,
    bare: Vec<Loop>,
}

/// Measures each way.
pub fn run(setting: &Setting) -> Result<Results> {
    let scratch = setting.scratch()?;
    let plan = Plan { logs: setting.logs, hours: DAYS * 24, bodies: Bodies::Genuine };
    let archive = write(&plan, &scratch.path().join("copy"))?;
    scratch.settle()?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let ways = [Way { jobs, sealed: true }, Way { jobs: 1, sealed: true }, Way { jobs, sealed: false }];
    let mut results =
        Results { workload: "verify", about: about(&archive), rows: vec![], ratios: vec![], notes: notes() };
    for way in ways {
        let manifests = archive.root.join(".trailsync/manifests");
        let aside = scratch.path().join("manifests");
        if !way.sealed {
            std::fs::rename(&manifests, &aside)?;
        }
        let pairs = way.measure(setting, scratch.path(), &archive)?;
        if !way.sealed {
            std::fs::rename(&aside, &manifests)?;
        }
        way.report(&pairs, &archive, &mut results);
    }
    Ok(results)
}

fn about(archive: &Archive) -> String {
    format!(
        "A copy of {} logs and digests ({DAYS} days, one account and region) on disk; half of the logs are smaller than \
         {} bytes, and than {} bytes inside.",
        archive.objects, archive.median_stored, archive.median_inflated
    )
}

fn notes() -> Vec<String> {
    vec![
        "`verify` is the whole process, from start to end; the loop is timed without its start and its walk.".into(),
        "All files were written just before: they are read from the page cache.".into(),
    ]
}

impl Way {
    fn measure(&self, setting: &Setting, scratch: &Path, archive: &Archive) -> Result<Pairs> {
        let mut pairs = Pairs::default();
        for turn in 0..=setting.repeats.min(RUNS) {
            let mut pair = (None, None);
            for first in [turn % 2 == 0, turn % 2 != 0] {
                match first {
                    true => pair.0 = Some(verified(scratch, &archive.root, &["--jobs", &self.jobs.to_string()])?),
                    false => pair.1 = Some(self.bare(scratch, archive)?),
                }
            }
            // The first turn warms the caches.
            if turn > 0 {
                pairs.verify.extend(pair.0);
                pairs.bare.extend(pair.1);
            }
        }
        Ok(pairs)
    }

    fn bare(&self, scratch: &Path, archive: &Archive) -> Result<Loop> {
        let mut bare = Command::new(std::env::current_exe()?);
        bare.arg("bare").arg(&archive.root).args(["--jobs", &self.jobs.to_string()]);
        if self.sealed {
            bare.arg("--stored");
        }
        let (said, cost) = cost::run(scratch, &bare)?;
        ensure!(cost.code == Some(0), "the bare loop failed");
        let done: Loop = serde_json::from_slice(&said)?;
        ensure!(done.files == archive.objects, "the loop read {} of {} files", done.files, archive.objects);
        Ok(done)
    }

    fn report(&self, pairs: &Pairs, archive: &Archive, results: &mut Results) {
        let Some(bare) = pairs.bare.first() else { return };
        let threads = if self.jobs == 1 { "1 thread".to_owned() } else { format!("{} threads", self.jobs) };
        let hashes = if self.sealed { "with manifests" } else { "digests alone" };
        let both = || pairs.verify.iter().zip(&pairs.bare);
        let row = |what: &str, wall_seconds, cpu_seconds, peak_mib| Row {
            what: format!("{what}, {threads}, {hashes}"),
            runs: pairs.bare.len(),
            objects: archive.objects,
            wall_seconds,
            cpu_seconds,
            peak_mib,
            stored_bytes: bare.stored_bytes,
            inflated_bytes: bare.inflated_bytes,
            asked: None,
        };
        let of_verify = |what: fn(&Cost) -> f64| median(pairs.verify.iter().map(what));
        let of_bare = |what: fn(&Loop) -> f64| median(pairs.bare.iter().map(what));
        let peak = of_verify(|cost| cost.peak_kib as f64 / 1024.0);
        results.rows.extend([
            row(
                "`trailsync verify`",
                Some(of_verify(|cost| cost.wall_seconds)),
                of_verify(Cost::cpu_seconds),
                Some(peak),
            ),
            row("bare loop", Some(of_bare(|bare| bare.wall_seconds)), of_bare(|bare| bare.cpu_seconds), None),
            row("of it inflating and hashing", None, of_bare(|bare| bare.inflating_seconds), None),
        ]);
        let mut ratio = |what: &str, value, target| {
            let what = format!("{what}, {threads}, {hashes}");
            results.ratios.push(Ratio { what, value, unit: "", target });
        };
        let walls = both().map(|(verify, bare)| verify.wall_seconds / bare.wall_seconds);
        ratio("verify ÷ bare loop, wall", median(walls), Some(MOST));
        let processor = both().map(|(verify, bare)| verify.cpu_seconds() / bare.cpu_seconds);
        ratio("verify ÷ bare loop, CPU", median(processor), Some(MOST));
        let inside = both().map(|(verify, bare)| verify.cpu_seconds() / bare.inflating_seconds);
        ratio("verify ÷ inflating and hashing alone, without reading, CPU", median(inside), Some(MOST));
    }
}
