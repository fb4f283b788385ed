//! `make bench`: what trailsync costs, beside a bare loop and beside its peers, in one run on one machine.
//!
//! Each workload is one file with a function that takes the [`Setting`] and gives [`Results`]; [`WORKLOADS`] lists them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

mod archive;
mod bare;
mod cost;
mod million;
mod scratch;
mod table;
mod verify;
mod witness;

use cost::Cost;
use scratch::Scratch;
use table::Results;

/// What one file here measures.
type Workload = fn(&Setting) -> Result<Results>;

/// A workload by its name, in the order in which they run.
const WORKLOADS: [(&str, Workload); 4] =
    [("page", page::run), ("verify", verify::run), ("verify-million", million::run), ("verify-aws", witness::run)];

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Task>,
    #[command(flatten)]
    setting: Setting,
}

/// What every workload is told.
#[derive(clap::Args)]
pub struct Setting {
    /// Workloads to run [default: all].
    pub workloads: Vec<String>,
    /// Logs of a genuine size.
    #[arg(long, env = "BENCH_LOGS", default_value_t = 20_000)]
    pub logs: u64,
    /// Files in the workload of a million.
    #[arg(long, env = "BENCH_FILES", default_value_t = 1_000_000)]
    pub files: u64,
    /// How often each thing is run.
    #[arg(long, env = "BENCH_REPEATS", default_value_t = 5)]
    pub repeats: usize,
    /// Where to write: on the file system that is to be measured.
    #[arg(long, env = "BENCH_DIR", default_value = "target/bench")]
    pub dir: PathBuf,
    /// Leave what was written.
    #[arg(long, env = "BENCH_KEEP")]
    pub keep: bool,
    /// The private environment in which the AWS CLI is installed.
    #[arg(long, env = "TRAILSYNC_WITNESS", default_value = "target/witness")]
    pub witness: PathBuf,
}

#[derive(Subcommand)]
enum Task {
    /// The bare loop over a copy; what it took, as JSON.
    Bare {
        root: PathBuf,
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        #[arg(long)]
        stored: bool,
    },
    /// Runs a program and writes what it cost into a file.
    Cost {
        report: PathBuf,
        #[arg(last = true)]
        program: Vec<String>,
    },
}

impl Setting {
    /// A directory of this run.
    pub fn scratch(&self) -> Result<Scratch> {
        Scratch::new(&std::path::absolute(&self.dir)?, self.keep)
    }
}

fn main() -> Result<()> {
    let Cli { command, setting } = Cli::parse();
    match command {
        None => measure(&setting),
        Some(Task::Cost { report, program }) => cost::supervise(&report, &program),
        Some(Task::Bare { root, jobs, stored }) => {
            Ok(serde_json::to_writer(std::io::stdout(), &bare::run(&root, jobs, stored)?)?)
        }
    }
}

fn measure(setting: &Setting) -> Result<()> {
    let known = |name: &String| WORKLOADS.iter().any(|(known, _)| known == name);
    if let Some(name) = setting.workloads.iter().find(|name| !known(name)) {
        anyhow::bail!("there is no workload {name}: there are {}", WORKLOADS.map(|(name, _)| name).join(", "));
    }
    let load = table::load();
    let mut all = Vec::new();
    for (name, run) in WORKLOADS {
        if setting.workloads.is_empty() || setting.workloads.iter().any(|wanted| wanted == name) {
            let results = run(setting).with_context(|| format!("workload {name}"))?;
            println!("{}", results.markdown());
            all.push(results);
        }
    }
    println!("{}", table::machine(load.clone()));
    let path = setting.dir.join("results.json");
    table::write(&all, load, &path)?;
    println!("The same as JSON: {}", path.display());
    Ok(())
}

/// The program under test, built with this one.
fn program() -> Result<Command> {
    let beside = std::env::current_exe()?.with_file_name("trailsync");
    ensure!(beside.exists(), "{} is missing: build it with `cargo build --release`", beside.display());
    let mut program = Command::new(beside);
    // What this run is told in the environment is no option of the program.
    std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"TRAILSYNC_")).for_each(|(name, _)| {
        program.env_remove(name);
    });
    Ok(program)
}

/// Verifies a copy with the program; it must be proven, whatever it costs.
pub fn verified(scratch: &Path, root: &Path, options: &[&str]) -> Result<Cost> {
    let mut verify = program()?;
    verify.args(["verify", "--quiet", "--json"]).arg(root).args(options);
    let (said, cost) = cost::run(scratch, &verify)?;
    let said = String::from_utf8_lossy(&said);
    let summary = said.lines().last().unwrap_or_default();
    ensure!(cost.code == Some(0) && summary.contains("\"proven\""), "{} is not proven: {summary}", root.display());
    Ok(cost)
}
