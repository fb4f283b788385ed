//! What was measured, as a Markdown table for people and as JSON for machines.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::cost::median;
use crate::mirror::Run;
use crate::serve::Counters;

/// One workload's results.
#[derive(Serialize)]
pub struct Results {
    /// Its name.
    pub workload: &'static str,
    /// What was measured, in a sentence or two.
    pub about: String,
    /// Each thing that was run.
    pub rows: Vec<Row>,
    /// Figures beside each other.
    pub ratios: Vec<Ratio>,
    /// What a reader must know besides.
    pub notes: Vec<String>,
}

/// One thing that was run, its medians.
#[derive(Serialize)]
pub struct Row {
    /// What.
    pub what: String,
    /// How often.
    pub runs: usize,
    /// Objects that one run worked on.
    pub objects: u64,
    /// From start to end; nothing for a part of a process.
    pub wall_seconds: Option<f64>,
    /// Processor time.
    pub cpu_seconds: f64,
    /// The most memory that was resident at once; nothing for a part of a process.
    pub peak_mib: Option<f64>,
    /// Bytes as stored that one run worked on.
    pub stored_bytes: u64,
    /// Bytes inside.
    pub inflated_bytes: u64,
    /// What the server was asked in one run, and what that took of its processor time; nothing without a server.
    pub asked: Option<Asked>,
}

/// The other side of a run.
#[derive(Serialize)]
pub struct Asked {
    /// Requests by kind, of the last run.
    pub requests: Counters,
    /// Processor time of the server.
    pub server_seconds: f64,
}

impl Row {
    /// The medians of some runs.
    pub fn of_runs(
        what: impl Into<String>,
        objects: u64,
        runs: &[Run],
        (stored_bytes, inflated_bytes): (u64, u64),
    ) -> Self {
        let of = |what: fn(&Run) -> f64| median(runs.iter().map(what));
        let asked = runs.last().map(|run| Asked { requests: run.asked, server_seconds: of(|run| run.server_seconds) });
        Self {
            what: what.into(),
            runs: runs.len(),
            objects,
            wall_seconds: Some(of(|run| run.cost.wall_seconds)),
            cpu_seconds: of(|run| run.cost.cpu_seconds()),
            peak_mib: Some(of(|run| run.cost.peak_kib as f64 / 1024.0)),
            stored_bytes,
            inflated_bytes,
            asked,
        }
    }
}

/// Two figures beside each other, or one beside its bound.
#[derive(Serialize)]
pub struct Ratio {
    /// Which.
    pub what: String,
    /// How much.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
    /// What it should be at most.
    pub target: Option<f64>,
}

/// Where it was measured.
#[derive(Serialize)]
struct Machine {
    processors: usize,
    model: String,
    kernel: String,
    /// Processes that wanted to run in the last minute: at the start, and now.
    load: [String; 2],
}

const READ: &str = "| | runs | objects | wall s | CPU s | CPU µs/object | peak MiB | MB/s a core, stored | MB/s a core, inflated |\n\
                    | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
const SERVED: &str = "| | runs | objects | wall s | CPU s | CPU µs/object | peak MiB | requests | server's CPU s |\n\
                      | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.digits$}"))
}

impl Asked {
    fn columns(&self) -> String {
        let Counters { lists, gets, heads, puts, copies, sts, others, .. } = self.requests;
        let kinds = [
            ("LIST", lists),
            ("GET", gets),
            ("HEAD", heads),
            ("PUT", puts),
            ("COPY", copies),
            ("STS", sts),
            ("other", others),
        ];
        let made: Vec<_> =
            kinds.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{count} {kind}")).collect();
        format!("{} | {:.2}", made.join(", "), self.server_seconds)
    }
}

impl Results {
    /// As people read it.
    pub fn markdown(&self) -> String {
        let mut text = format!("\n## {}\n\n{}\n\n", self.workload, self.about);
        let with_server = self.rows.iter().any(|row| row.asked.is_some());
        if !self.rows.is_empty() {
            text.push_str(if with_server { SERVED } else { READ });
        }
        for row in &self.rows {
            let (peak, wall) = (figure(row.peak_mib, 1), figure(row.wall_seconds, 2));
            let Row { what, runs, objects, cpu_seconds, .. } = row;
            let micros = cpu_seconds * 1e6 / *objects as f64;
            let _ = write!(text, "| {what} | {runs} | {objects} | {wall} | {cpu_seconds:.2} | {micros:.0} | {peak} | ");
            let rate = |bytes: u64| bytes as f64 / cpu_seconds / 1e6;
            let _ = match (&row.asked, with_server) {
                (Some(asked), _) => writeln!(text, "{} |", asked.columns()),
                (None, true) => writeln!(text, "| |"),
                (None, false) => writeln!(text, "{:.0} | {:.0} |", rate(row.stored_bytes), rate(row.inflated_bytes)),
            };
        }
        text.push('\n');
        for Ratio { what, value, unit, target } in &self.ratios {
            let verdict = |target: f64| if *value <= target { "met" } else { "NOT MET" };
            let target = target.map_or_else(String::new, |most| format!(" (at most {most}{unit}: {})", verdict(most)));
            let _ = writeln!(text, "- {what}: {value:.2}{unit}{target}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }
}

/// Writes all results into a file.
pub fn write(results: &[Results], load_before: String, path: &Path) -> Result<()> {
    #[derive(Serialize)]
    struct File<'a> {
        machine: Machine,
        workloads: &'a [Results],
    }
    let machine = Machine::here(load_before);
    std::fs::write(path, serde_json::to_vec_pretty(&File { machine, workloads: results })?)?;
    Ok(())
}

/// The machine in a line.
pub fn machine(load_before: String) -> String {
    let Machine { processors, model, kernel, load: [before, after] } = Machine::here(load_before);
    format!("{processors} processors ({model}), Linux {kernel}, load {before} before and {after} after")
}

/// Processes that wanted to run in the last minute.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

impl Machine {
    fn here(load_before: String) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo");
        let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            model: model.unwrap_or("unknown").to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: [load_before, load()],
        }
    }
}
