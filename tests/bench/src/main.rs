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
mod daemon;
mod growth;
mod limit;
mod million;
mod mirror;
mod page;
mod peers;
mod prepared;
mod scratch;
mod serve;
mod server;
mod table;
mod verify;
mod w1;
mod w2;
mod w3;
mod w4;
mod w5;
mod w6;
mod w7;
mod witness;

use bare::Hashes;
use cost::Cost;
use scratch::Scratch;
use table::Results;

/// What one file here measures.
type Workload = fn(&Setting) -> Result<Results>;

/// A workload by its name, in the order in which they run.
const WORKLOADS: [(&str, Workload); 13] = [
    ("w1", w1::run),
    ("w1-plain", w1::plain),
    ("w2", w2::run),
    ("w3", w3::run),
    ("w4", w4::run),
    ("w5", w5::run),
    ("w6", w6::run),
    ("w7", w7::run),
    ("page", page::run),
    ("growth", growth::run),
    ("verify", verify::run),
    ("verify-million", million::run),
    ("verify-aws", witness::run),
];

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
    /// Objects that are mirrored already in W3; again with ten times as many.
    #[arg(long, env = "BENCH_MIRRORED", default_value_t = 1_000_000)]
    pub mirrored: u64,
    /// The same for the peers, which take minutes for a million.
    #[arg(long, env = "BENCH_PEER_OBJECTS", default_value_t = 50_000)]
    pub peer_objects: u64,
    /// Mirror W3's bucket for real, too.
    #[arg(long, env = "BENCH_MIRROR_FIRST")]
    pub mirror_first: bool,
    /// Large objects in W4.
    #[arg(long, env = "BENCH_LARGE", default_value_t = 200)]
    pub large: u64,
    /// Accounts of the day in W5, with 17 regions each.
    #[arg(long, env = "BENCH_ACCOUNTS", default_value_t = 100)]
    pub accounts: u64,
    /// Hours of it.
    #[arg(long, env = "BENCH_HOURS", default_value_t = 24)]
    pub hours: u32,
    /// How many times as fast its clocks run.
    #[arg(long, env = "BENCH_RATE", default_value_t = 240)]
    pub rate: u32,
    /// Rows in W6.
    #[arg(long, env = "BENCH_ROWS", default_value_t = 1_000_000)]
    pub rows: u64,
    /// Streams of the larger daemon in `growth`.
    #[arg(long, env = "BENCH_STREAMS", default_value_t = 10_000)]
    pub streams: u64,
    /// How often each thing is run.
    #[arg(long, env = "BENCH_REPEATS", default_value_t = 5)]
    pub repeats: usize,
    /// Where to write: on the file system that is to be measured.
    #[arg(long, env = "BENCH_DIR", default_value = "target/bench")]
    pub dir: PathBuf,
    /// Leave what was written.
    #[arg(long, env = "BENCH_KEEP")]
    pub keep: bool,
    /// Leave the peers out: what is measured is trailsync, and the bare loops.
    #[arg(long, env = "BENCH_WITHOUT_PEERS")]
    pub without_peers: bool,
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
        /// Also hashes the bytes as stored.
        #[arg(long)]
        stored: bool,
        /// Hashes the bytes as stored, and inflates nothing.
        #[arg(long)]
        as_stored: bool,
    },
    /// A lean server of S3 and STS on loopback, until standard input ends.
    Serve { spec: PathBuf },
    /// Fetches everything that such a server has, with as little as can be.
    Limit {
        spec: PathBuf,
        endpoint: String,
        root: PathBuf,
        #[arg(long, default_value_t = 32)]
        in_flight: u64,
        #[arg(long, default_value = "files")]
        keep: limit::Keep,
    },
    /// Makes a state in which everything of a specification is mirrored.
    Prepare { spec: PathBuf, dir: PathBuf },
    /// Runs a program that can make nothing durable.
    WithoutSyncs {
        #[arg(last = true)]
        program: Vec<String>,
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
        Some(Task::Serve { spec }) => serve::run(&spec),
        Some(Task::Limit { spec, endpoint, root, in_flight, keep }) => {
            limit::run(&spec, &endpoint, &root, in_flight, keep)
        }
        Some(Task::Prepare { spec, dir }) => {
            Ok(serde_json::to_writer(std::io::stdout(), &prepared::prepare(&spec, &dir)?)?)
        }
        Some(Task::WithoutSyncs { program }) => cost::become_unsynced(&program),
        Some(Task::Bare { root, jobs, stored, as_stored }) => {
            let hashes = match (as_stored, stored) {
                (true, _) => Hashes::Stored,
                (false, true) => Hashes::Both,
                (false, false) => Hashes::Inside,
            };
            Ok(serde_json::to_writer(std::io::stdout(), &bare::run(&root, jobs, hashes)?)?)
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

/// The time, seconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The program under test, built with this one.
pub fn program() -> Result<Command> {
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
