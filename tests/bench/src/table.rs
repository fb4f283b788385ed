//! What was measured, as a Markdown table for people and as JSON for machines.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

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

impl Results {
    /// As people read it.
    pub fn markdown(&self) -> String {
        let mut text = format!("\n## {}\n\n{}\n\n", self.workload, self.about);
        text.push_str(
            "| | runs | wall s | CPU s | CPU µs/object | MB/s a core, stored | MB/s a core, inflated | peak MiB |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for row in &self.rows {
            let rate = |bytes: u64| bytes as f64 / row.cpu_seconds / 1e6;
            let peak = row.peak_mib.map_or_else(String::new, |peak| format!("{peak:.1}"));
            let wall = row.wall_seconds.map_or_else(String::new, |wall| format!("{wall:.2}"));
            let _ = writeln!(
                text,
                "| {} | {} | {wall} | {:.2} | {:.0} | {:.0} | {:.0} | {peak} |",
                row.what,
                row.runs,
                row.cpu_seconds,
                row.cpu_seconds * 1e6 / row.objects as f64,
                rate(row.stored_bytes),
                rate(row.inflated_bytes),
            );
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
