//! The command line: one file a command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::error::{Class, Error, Report};

pub mod check;
pub mod config;
pub mod health;
pub mod man;
pub mod plan;
pub mod policy;
pub mod prune;
pub mod rebuild;
pub mod retry;
pub mod run;
pub mod scrub;
pub mod status;
pub mod sync;
pub mod telemetry;
pub mod verify;

/// Mirrors AWS CloudTrail logs from somebody else's bucket into your own hands.
#[derive(Debug, Parser)]
#[command(name = "trailsync", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Configuration file [default: /etc/trailsync/trailsync.toml where it exists].
    #[arg(long, short, global = true, env = "TRAILSYNC_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets one option, such as `source.prod.poll.every=30s`; wins over file and environment.
    #[arg(long = "set", global = true, value_name = "OPTION=VALUE", value_parser = parse_setting)]
    pub set: Vec<(String, String)>,
    /// What to log, such as `debug` or `trailsync=debug,warn`.
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// Shape of log lines on stderr: `auto`, `human` or `json`.
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon until SIGTERM or SIGINT.
    Run,
    /// Mirrors everything that is new once, then exits.
    Sync(sync::Options),
    /// Proves, offline, that a copy is complete and unaltered.
    Verify(verify::Options),
    /// Shows how far every account is; works while the daemon is down.
    Status(status::Options),
    /// Walks every hop to every source and says what is missing.
    Check(check::Options),
    /// Says what a run would fetch, and what it would cost, without doing it.
    Plan(plan::Options),
    /// Prints what each side must install: IAM policies for Account A and for you.
    Policy(policy::Options),
    /// Reads every copy again, once, and fetches what rotted or was lost.
    Scrub(scrub::Options),
    /// Deletes at the source what is mirrored, old enough and proven, where that is configured.
    Prune(prune::Options),
    /// Lets objects in quarantine be tried again at once.
    Retry(retry::Options),
    /// Makes the database again from the mirrored tree and its manifests.
    Rebuild(rebuild::Options),
    /// Prints the merged configuration with the origin of every value.
    Config(ConfigOptions),
    /// Asks the daemon of this configuration whether it lives; for container engines.
    Health(health::Options),
    /// Prints completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Writes the man pages into a directory.
    Man(man::Options),
}

/// Options of `trailsync config`.
#[derive(Debug, Args)]
pub struct ConfigOptions {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// The JSON Schema of the configuration file instead.
    #[arg(long, conflicts_with = "json")]
    pub schema: bool,
}

const EXIT_CODES: &str = "Exit codes:
  0   done
  1   something could not be mirrored: it is in the quarantine, or a stream failed;
      a hop of `check` failed; `verify` found something altered, missing or not vouched for;
      `scrub` found damage; `prune` was kept from going on; `health`: the daemon is not well
  2   the command line or the configuration is wrong; nothing was touched
  3   the state or a destination cannot be used: held by another process, missing, damaged, newer
  4   verify: nothing is wrong, but not everything could be proven (no digests, no keys)
  75  no source answered, and it may pass: a network, a throttled or unavailable service";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Something could not be mirrored.
    Incomplete,
    /// The command line or the configuration is wrong.
    Configuration,
    /// State or destination cannot be used.
    State,
    /// Nothing is wrong, but not everything could be proven.
    Unproven,
    /// No source could be reached.
    Unreachable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Incomplete => 1,
            Exit::Configuration => 2,
            Exit::State => 3,
            Exit::Unproven => 4,
            Exit::Unreachable => 75,
        })
    }
}

/// The configuration with these sources only; none named means all.
fn selected(config: &Config, names: &[String], operation: &'static str) -> Result<Config, Error> {
    let mut config = config.clone();
    for name in names {
        if !config.sources.contains_key(name) {
            return Err(no_such_source(&config, operation, name));
        }
    }
    config.sources.retain(|name, _| names.is_empty() || names.contains(name));
    Ok(config)
}

/// A source that was named on the command line and is not configured.
fn no_such_source(config: &Config, operation: &'static str, name: &str) -> Error {
    let known = config.sources.keys().cloned().collect::<Vec<_>>().join(", ");
    let report = Report::new(operation, name, "there is no such source").mend(format!("name one of: {known}"));
    Error::of(Class::Stream, report)
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("expected OPTION=VALUE, such as log.format=json")?;
    Ok((path.trim().to_owned(), value.to_owned()))
}
