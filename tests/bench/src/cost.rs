//! What a process costs: run by a small process of its own, which then asks the system about its only child.
//!
//! The kernel counts a new process's peak from its parent's on, until it runs its own program; this process holds the
//! bodies of whole buckets, so children are not started from here.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::libc;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde::{Deserialize, Serialize};

/// What one run took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cost {
    /// From start to end.
    pub wall_seconds: f64,
    /// Processor time, in the program.
    pub user_seconds: f64,
    /// Processor time, in the system on its behalf.
    pub system_seconds: f64,
    /// The most memory that was resident at once.
    pub peak_kib: i64,
    /// How it ended.
    pub code: Option<i32>,
}

impl Cost {
    /// All processor time.
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// Runs a command to its end; what it said on standard output, and what it cost.
pub fn run(scratch: &Path, command: &Command) -> Result<(Vec<u8>, Cost)> {
    let report = scratch.join("cost.json");
    let mut supervisor = Command::new(std::env::current_exe()?);
    supervisor.arg("cost").arg(&report).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => supervisor.env(name, value),
            None => supervisor.env_remove(name),
        };
    }
    let output = supervisor.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?} could not be measured");
    let cost = serde_json::from_reader(File::open(&report)?).context("what a run cost")?;
    Ok((output.stdout, cost))
}

/// The same command, with durability off: what it asks the system to make durable is answered and not done.
pub fn without_syncs(command: &Command) -> Result<Command> {
    let mut without = Command::new(std::env::current_exe()?);
    without.arg("without-syncs").arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => without.env(name, value),
            None => without.env_remove(name),
        };
    }
    Ok(without)
}

/// Becomes a program that can make nothing durable, and does not know it.
pub fn become_unsynced(program: &[String]) -> Result<()> {
    let (name, arguments) = program.split_first().context("no program")?;
    let numbers = [libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_syncfs, libc::SYS_sync];
    let rules = numbers.into_iter().map(|number| (number, vec![])).collect();
    let (all, these) = (SeccompAction::Allow, SeccompAction::Errno(0));
    let filter: BpfProgram = SeccompFilter::new(rules, all, these, std::env::consts::ARCH.try_into()?)?.try_into()?;
    seccompiler::apply_filter(&filter)?;
    Err(Command::new(name).args(arguments).exec().into())
}

/// The supervisor: runs a program as its only child and writes down what that took.
pub fn supervise(report: &Path, program: &[String]) -> Result<()> {
    let (name, arguments) = program.split_first().context("no program")?;
    let began = Instant::now();
    let status = Command::new(name).args(arguments).status().with_context(|| format!("{name} cannot be run"))?;
    let wall_seconds = began.elapsed().as_secs_f64();
    let usage: Usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let cost = Cost {
        wall_seconds,
        user_seconds: seconds(usage.user_time()),
        system_seconds: seconds(usage.system_time()),
        peak_kib: usage.max_rss(),
        code: status.code(),
    };
    Ok(serde_json::to_writer(File::create(report)?, &cost)?)
}

/// The middle one.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
