//! `trailsync run`, watched from outside, and ended as systemd ends it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::serve::precise;
use crate::server::Server;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A daemon that runs.
pub struct Daemon {
    child: Child,
    /// When it was started, seconds since 1970.
    pub started: f64,
}

/// What the system says of it.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Processor time since its start.
    pub cpu_seconds: f64,
    /// Resident now.
    pub resident_kib: u64,
    /// The most that ever was.
    pub peak_kib: u64,
}

impl Daemon {
    /// Starts one.
    pub fn start(command: &mut Command) -> Result<Self> {
        let started = precise();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        Ok(Self { child, started })
    }

    /// What it takes, now.
    pub fn sample(&self) -> Result<Sample> {
        let read = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", self.child.id()));
        let status = read("status")?;
        let kib = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            Ok(line.with_context(|| format!("no {name}"))?.parse()?)
        };
        // The name in brackets may hold anything; user and system time are the 12th and 13th after it.
        let stat = read("stat")?;
        let after = stat.rsplit_once(')').context("stat")?.1;
        let ticks = after.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        let per_second = sysconf(SysconfVar::CLK_TCK)?.context("clock ticks")?;
        Ok(Sample {
            cpu_seconds: ticks as f64 / per_second as f64,
            resident_kib: kib("VmRSS:")?,
            peak_kib: kib("VmHWM:")?,
        })
    }

    /// Waits until the server saw the first listing of a stream; how long after the start that was.
    pub fn first_listing(&self, server: &Server, most: Duration) -> Result<f64> {
        let began = Instant::now();
        loop {
            let seen = server.counters()?.first_listing;
            if seen > 0.0 {
                return Ok(seen - self.started);
            }
            ensure!(began.elapsed() < most, "no stream was listed within {most:?}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until it has listed each of so many streams, and asks for nothing any more for so long.
    pub fn rest(&self, server: &Server, streams: u64, quiet: Duration, most: Duration) -> Result<()> {
        let (began, mut changed) = (Instant::now(), Instant::now());
        let (mut last, mut listed) = (0, 0);
        while listed < streams || changed.elapsed() < quiet {
            let counters = server.counters()?;
            let asked = counters.lists;
            listed = asked - counters.folders;
            if asked != last {
                (last, changed) = (asked, Instant::now());
            }
            ensure!(began.elapsed() < most, "it did not come to rest within {most:?}");
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Ends it with SIGTERM; it must end well.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
