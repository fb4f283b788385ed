//! argv → configuration → logs → command → exit code. Only this file reads the process.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use trailsync::cli::run::Reload;
use trailsync::cli::{self, Cli, Command, Exit};
use trailsync::clock::{Clock as _, SystemClock};
use trailsync::config::{self, Config, Input, Loaded, Log, LogFormat, Purpose};
use trailsync::error::{Class, Error};
use trailsync::role::Process;

const DEFAULT_FILE: &str = "/etc/trailsync/trailsync.toml";
/// Disk work in flight: more threads would only hold more memory.
const BLOCKING_THREADS: usize = 8;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "trailsync", &mut script);
        return finished(std::io::stdout().write_all(&script));
    }
    if let Command::Man(options) = &cli.command {
        return written(&options.directory, cli::man::pages(&options.directory));
    }
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    if let Command::Config(options) = &cli.command
        && options.schema
    {
        return finished(cli::config::print_schema(&mut std::io::stdout().lock()));
    }
    if let Command::Policy(options) = &cli.command
        && options.new_external_id
    {
        return finished(cli::policy::new_external_id(random_bits, &mut std::io::stdout().lock()));
    }
    let purpose = match cli.command {
        Command::Run | Command::Sync(_) | Command::Check(_) | Command::Plan(_) | Command::Prune(_) => Purpose::Mirror,
        _ => Purpose::Look,
    };
    if let Command::Verify(options) = &cli.command
        && options.path.is_some()
        && cli.global.config.is_none()
    {
        // A copy that was carried elsewhere is verified without any configuration.
        let loaded = config::load_for(&input(&cli, environment.clone()), purpose).ok();
        return serve(&cli, loaded.as_ref(), environment);
    }
    let loaded = match config::load_for(&input(&cli, environment.clone()), purpose) {
        Ok(loaded) => loaded,
        Err(refused) => {
            eprintln!("{refused}");
            return Exit::Configuration.into();
        }
    };
    let told = !matches!(cli.command, Command::Status(_) | Command::Retry(_) | Command::Health(_));
    for warning in loaded.warnings.iter().filter(|_| told) {
        eprintln!("warning: {warning}");
    }
    if let Command::Config(options) = &cli.command {
        let form = if options.json { cli::config::Form::Json } else { cli::config::Form::Toml };
        return finished(cli::config::print(&loaded, form, &mut std::io::stdout().lock()));
    }
    serve(&cli, Some(&loaded), environment)
}

fn input(cli: &Cli, environment: BTreeMap<String, String>) -> Input {
    let default = PathBuf::from(DEFAULT_FILE);
    let file = cli.global.config.clone().or_else(|| default.exists().then_some(default));
    let mut overrides = cli.global.set.clone();
    overrides.extend(cli.global.log.iter().map(|filter| ("log.filter".to_owned(), filter.clone())));
    overrides.extend(cli.global.log_format.iter().map(|format| ("log.format".to_owned(), format.clone())));
    Input { file, environment, overrides, now: SystemClock.now() }
}

fn serve(cli: &Cli, loaded: Option<&Loaded>, environment: BTreeMap<String, String>) -> ExitCode {
    let config = loaded.map(|loaded| &loaded.config);
    let quiet = Log { format: LogFormat::Auto, filter: "warn".into() };
    if let Err(mistake) = cli::telemetry::start(config.map_or(&quiet, |config| &config.log)) {
        eprintln!("{mistake}");
        return Exit::Configuration.into();
    }
    // One thread for all that waits: handed from thread to thread, a request costs nearly twice as much. What computes
    // or blocks, hashing, inflating and the disk, has threads of its own.
    let runtime =
        match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("The runtime cannot be started: {error}");
                return Exit::State.into();
            }
        };
    let ended = runtime.block_on(async {
        let stop = stop_on_signals();
        execute(cli, config, environment, stop).await
    });
    // What still blocks in the background has nothing to commit.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("{error}");
            exit_for(&error).into()
        }
    }
}

async fn execute(
    cli: &Cli,
    config: Option<&Config>,
    environment: BTreeMap<String, String>,
    stop: CancellationToken,
) -> Result<Exit, Error> {
    let clock = Arc::new(SystemClock);
    let process = || Process::new(clock.clone(), environment.clone());
    if let Command::Verify(options) = &cli.command {
        return cli::verify::verify(config, options, &process(), &stop, &mut std::io::stdout()).await;
    }
    let Some(config) = config else { return Ok(Exit::Configuration) };
    let mut out = std::io::stdout();
    match &cli.command {
        Command::Run => {
            let reloads = reload_on_hangup(input(cli, environment.clone()));
            cli::run::run_through_reloads(config.clone(), process, reloads, stop).await
        }
        Command::Sync(options) => cli::sync::sync(config, options, &process(), stop, &mut out).await,
        Command::Status(options) => cli::status::status(config, options, clock.as_ref(), &stop, &mut out).await,
        Command::Check(options) => cli::check::check(config, options, &process(), &mut out).await,
        Command::Plan(options) => cli::plan::run(config, options, &process(), &mut out).await,
        Command::Policy(options) => {
            let terminal = out.is_terminal();
            cli::policy::policy(config, options, terminal, &mut out)
        }
        Command::Scrub(options) => cli::scrub::scrub(config, options, &process(), stop, &mut out).await,
        Command::Prune(options) => cli::prune::prune(config, options, &process(), stop, &mut out).await,
        Command::Retry(options) => cli::retry::retry(config, options, &mut out).await,
        Command::Rebuild(options) => cli::rebuild::rebuild(config, options, &process(), &mut out).await,
        Command::Health(options) => cli::health::health(config, options, &mut out).await,
        Command::Verify(_) | Command::Config(_) | Command::Completions { .. } | Command::Man(_) => Ok(Exit::Done),
    }
}

/// The first SIGTERM or SIGINT stops softly; the second ends the process at once.
fn stop_on_signals() -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    if let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                if token.is_cancelled() {
                    std::process::exit(130);
                }
                tracing::info!("Stopping: what is published is committed, the rest is abandoned");
                token.cancel();
            }
        });
    }
    stop
}

/// Reads the configuration again at every SIGHUP.
fn reload_on_hangup(input: Input) -> mpsc::Receiver<Reload> {
    let (sender, receiver) = mpsc::channel(1);
    if let Ok(mut hangup) = signal(SignalKind::hangup()) {
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let input = Input { now: SystemClock.now(), ..input.clone() };
                let loaded = config::load_for(&input, Purpose::Mirror).map(|loaded| loaded.config);
                let loaded = loaded.map_err(|refused| refused.to_string());
                if sender.send(loaded).await.is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

fn exit_for(error: &Error) -> Exit {
    match error.class() {
        Class::Fatal => Exit::State,
        Class::Stream | Class::Object => Exit::Configuration,
        Class::Transient | Class::Credentials => Exit::Unreachable,
    }
}

/// From the generator that TLS uses.
fn random_bits(bits: &mut [u8; 16]) -> std::io::Result<()> {
    aws_lc_rs::rand::fill(bits).map_err(|_| std::io::Error::other("there is no randomness"))
}

fn written(directory: &Path, written: std::io::Result<()>) -> ExitCode {
    if let Err(error) = written {
        eprintln!("{}: {error}", directory.display());
        return Exit::Incomplete.into();
    }
    ExitCode::SUCCESS
}

fn finished(written: std::io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => Exit::Incomplete.into(),
    }
}
