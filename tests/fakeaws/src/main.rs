//! `fakeaws serve`: a small AWS for the demo, for benchmarks and for tests of other programs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use fakeaws::scenario::{self, Demo, Described, Million, Ready};
use fakeaws::{FakeAws, FakeClock, World};
use jiff::{SignedDuration, Timestamp};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves S3, STS and `CloudTrail`'s `ListPublicKeys` until it is stopped.
    Serve(Box<Serve>),
}

#[derive(Args)]
struct Serve {
    /// Port on the loopback interface; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// `demo`, `million`, `empty`, or the path of a JSON description.
    #[arg(long, default_value = "demo")]
    scenario: String,

    /// Where to write, once listening: endpoint, keys, roles and buckets, as JSON.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,

    /// How many seconds pass for the services in one real second.
    #[arg(long, default_value_t = 1.0)]
    clock_rate: f64,

    /// The time at which the services start; now, unless given.
    #[arg(long, value_name = "TIME")]
    clock_start: Option<Timestamp>,

    /// Trails deliver live for this many seconds of the services' time; 0 means for ever. Without
    /// it only the demo is live, for ever.
    #[arg(long, value_name = "N")]
    live_seconds: Option<i64>,

    #[command(flatten)]
    demo: DemoOptions,

    #[command(flatten)]
    million: MillionOptions,

    /// Fixes everything that is made up.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
#[command(next_help_heading = "Scenario demo")]
struct DemoOptions {
    /// The trails' prefix.
    #[arg(long, default_value = "")]
    prefix: String,

    /// Hours of logs that are there from the start.
    #[arg(long, default_value_t = 48)]
    history_hours: i64,

    /// How long sessions live, whatever was asked for; 0 grants what is asked for.
    #[arg(long, default_value_t = 20)]
    session_seconds: u64,

    /// Where the trails record.
    #[arg(long, value_delimiter = ',', default_value = "us-east-1,eu-west-1")]
    regions: Vec<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Scenario million")]
struct MillionOptions {
    /// How many logs.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,

    /// Over how many days up to now.
    #[arg(long, default_value_t = 400)]
    days: u32,

    #[arg(long, default_value = scenario::CONSUMER_B)]
    account: String,

    #[arg(long, default_value = "us-east-1")]
    region: String,

    /// Bytes of each log.
    #[arg(long, default_value_t = 300)]
    size: u32,

    /// Logs dated years ahead.
    #[arg(long, default_value_t = 0)]
    planted_future: u64,
}

fn main() -> ExitCode {
    let Command::Serve(options) = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime.and_then(|runtime| runtime.block_on(serve(&options)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("fakeaws: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: &Serve) -> io::Result<()> {
    let (world, mut ready) = build(options)?;
    if let Some(seconds) = live_seconds(options) {
        let until = world
            .clock()
            .now()
            .checked_add(SignedDuration::from_secs(seconds));
        world.go_live((seconds > 0).then_some(until.unwrap_or(Timestamp::MAX)));
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let aws = FakeAws::start_at(world, address).await?;
    ready.endpoint = aws.endpoint();
    ready.publish(aws.world());
    if let Some(path) = &options.ready_file {
        write_whole(path, &ready)?;
    }
    println!("{}", aws.endpoint());
    stopped().await?;
    aws.stop().await;
    Ok(())
}

fn build(options: &Serve) -> io::Result<(World, Ready)> {
    let clock = match (options.clock_start, options.clock_rate) {
        (None, 1.0) => FakeClock::system(),
        (start, rate) => FakeClock::running(start.unwrap_or_else(Timestamp::now), rate),
    };
    match options.scenario.as_str() {
        "demo" => Ok(demo(options).build(clock)),
        "million" => Ok(million(options).build(clock)),
        "empty" => Ok(scenario::empty(clock)),
        path => {
            let description = std::fs::read(path)
                .map_err(|why| io::Error::new(why.kind(), format!("scenario {path}: {why}")))?;
            let described: Described = serde_json::from_slice(&description)?;
            described.build(clock).map_err(io::Error::other)
        }
    }
}

fn demo(options: &Serve) -> Demo {
    let seconds = options.demo.session_seconds;
    Demo {
        prefix: options.demo.prefix.clone(),
        regions: options.demo.regions.clone(),
        history: SignedDuration::from_hours(options.demo.history_hours),
        session_lifetime: (seconds > 0).then(|| Duration::from_secs(seconds)),
        seed: options.seed,
    }
}

fn million(options: &Serve) -> Million {
    let MillionOptions {
        keys,
        days,
        size,
        planted_future,
        ..
    } = options.million;
    Million {
        keys,
        days,
        account: options.million.account.clone(),
        region: options.million.region.clone(),
        planted_future,
        seed: options.seed,
        size,
    }
}

fn live_seconds(options: &Serve) -> Option<i64> {
    let by_itself = (options.scenario == "demo").then_some(0);
    options.live_seconds.or(by_itself)
}

/// Whoever waits for the file never sees a part of it.
fn write_whole(path: &Path, ready: &Ready) -> io::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".part");
    std::fs::write(&staged, serde_json::to_vec_pretty(ready)?)?;
    std::fs::rename(&staged, path)
}

async fn stopped() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminated.recv() => Ok(()),
    }
}
