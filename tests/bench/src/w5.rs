//! W5: a day in the life of a daemon: requests and their price, processor time, and how far it is behind.
//!
//! The program, its HTTP, its database and its disk are the real ones, and so is its scheduler: only its clocks run
//! faster, by a small library that is loaded before it (`clock.c`), and so do the server's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::Setting;
use crate::cost;
use crate::daemon::{Daemon, Sample};
use crate::mirror::Mirror;
use crate::serve::{Counters, Day, Kind, Lags, Pace, Shape, Spec, precise};
use crate::server::Server;
use crate::table::{Ratio, Results};

const REGIONS: usize = 17;
const HOUR: f64 = 3_600.0;
const DAY: i64 = 86_400;
const BODIES: u64 = 256;
const LATE: f64 = 0.05;
/// The machine's clock is fast by so much.
const AHEAD: f64 = 240.0;
/// Hours in which it mirrors what is there and comes to its rest: they count for nothing.
const WARM_UP: f64 = 2.0;

/// S3's prices in us-east-1, dollars a request.
const LIST_PRICE: f64 = 0.005 / 1_000.0;
const GET_PRICE: f64 = 0.0004 / 1_000.0;
const MINUTES: f64 = 1_440.0;
const MONTH: f64 = 30.0;

const MOST_PRICE: f64 = 0.2;
const MOST_P50: f64 = 40.0;
const MOST_P99: f64 = 90.0;
const MOST_FIRST: f64 = 900.0;

/// What was seen from the end of the warm-up to the end of the day.
struct Seen {
    days: f64,
    asked: Counters,
    cpu_seconds: f64,
    end: Sample,
    lags: Lags,
}

/// Lives the day.
pub fn run(setting: &Setting) -> Result<Results> {
    let scratch = setting.scratch()?;
    let about = format!(
        "{} accounts × {REGIONS} regions, a poll a minute: a tenth of the streams has a delivery of one to three logs every \
         5 minutes, three tenths one an hour, the rest is silent and one in ten of it wakes up once; {:.0} % of the logs \
         come late, by minutes or hours; our clock is {AHEAD:.0} s fast. {} hours at {} times the speed.",
        setting.accounts,
        LATE * 100.0,
        setting.hours,
        setting.rate
    );
    let mut results = Results { workload: "w5", about, rows: vec![], ratios: vec![], notes: notes() };
    match library(scratch.path()) {
        Ok(library) => {
            let seen = live(setting, scratch.path(), &library)?;
            seen.report(&mut results);
        }
        Err(why) => results.notes.push(format!("SKIPPED: {why}")),
    }
    Ok(results)
}

fn notes() -> Vec<String> {
    vec![
        "Real: the daemon and its scheduler, HTTP, database, files. Its clocks and the server's run faster (LD_PRELOAD); \
         the processor does not, so that every delay of ours counts so many times in the lag. Durability is off: so \
         would a disk's."
            .into(),
        "Lag is from the delivery of a log to its GET, by the server's clock. The first two hours count for nothing.".into(),
        "Prices of us-east-1: $0.005 for 1,000 LIST, $0.0004 for 1,000 GET.".into(),
    ]
}

/// Builds the library that lets clocks run faster.
fn library(scratch: &Path) -> Result<PathBuf> {
    let (source, library) = (scratch.join("clock.c"), scratch.join("clock.so"));
    std::fs::write(&source, include_str!("clock.c"))?;
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    ensure!(compiler.status().is_ok_and(|status| status.success()), "there is no C compiler for the faster clock");
    Ok(library)
}

fn live(setting: &Setting, scratch: &Path, library: &Path) -> Result<Seen> {
    let (began, rate, hours) = (precise(), f64::from(setting.rate), f64::from(setting.hours));
    let day = Day { began, rate, warm_up: WARM_UP, hours, late: LATE };
    let now = began as i64;
    let (from, to) = (now - 40 * DAY, now - 20 * DAY);
    let shape = Shape { accounts: setting.accounts, regions: REGIONS, logs: 2, from, to, ending: "json.gz".into() };
    let bodies = Kind::Genuine(BODIES);
    let bucket = crate::w1::BUCKET.to_owned();
    let server = Server::start(Spec { bucket, shape, bodies, get_ms: 0, list_ms: 0, day: Some(day) }, scratch)?;
    let mirror = Mirror::new(&scratch.join("mirror"), &server, "")?;
    let mut command = mirror.command(&["run"])?;
    command
        .env("LD_PRELOAD", library)
        .env("BENCH_CLOCK_BEGAN", format!("{:.0}", began * 1e9))
        .env("BENCH_CLOCK_AHEAD", format!("{:.0}", AHEAD * 1e9))
        .env("BENCH_CLOCK_RATE", setting.rate.to_string());
    // A disk that takes its time would be as many times slower.
    let daemon = Daemon::start(&mut cost::without_syncs(&command)?)?;
    until(began + WARM_UP * HOUR / rate);
    server.reset()?;
    let (first, from) = (daemon.sample()?, precise());
    until(began + (WARM_UP + hours) * HOUR / rate);
    let (end, asked, until) = (daemon.sample()?, server.counters()?, precise());
    let lags = server.lags()?;
    daemon.stop()?;
    let days = (until - from) * rate / DAY as f64;
    Ok(Seen { days, asked, cpu_seconds: end.cpu_seconds - first.cpu_seconds, end, lags })
}

fn until(time: f64) {
    std::thread::sleep(Duration::from_secs_f64((time - precise()).max(0.0)));
}

impl Seen {
    fn report(&self, results: &mut Results) {
        let a_day = |count: u64| count as f64 / self.days;
        let streams: u64 = self.lags.streams.values().sum();
        let (lists, gets) = (a_day(self.asked.lists), a_day(self.asked.gets));
        let each_minute = streams as f64 * MINUTES;
        let busy = self.lags.seconds.get(&Pace::Busy).map_or(&[][..], Vec::as_slice);
        let hourly = self.lags.seconds.get(&Pace::Hourly).map_or(&[][..], Vec::as_slice);
        let silent = self.lags.seconds.get(&Pace::Silent).map_or(&[][..], Vec::as_slice);
        let mut add = |what: &str, value: f64, unit, target| {
            results.ratios.push(Ratio { what: what.into(), value, unit, target });
        };
        add("LIST ÷ polling every stream each minute", lists / each_minute, "", Some(MOST_PRICE));
        add("lag on busy streams, p50", quantile(busy, 0.5), " s", Some(MOST_P50));
        add("lag on busy streams, p99", quantile(busy, 0.99), " s", Some(MOST_P99));
        add("lag on busy streams, most", quantile(busy, 1.0), " s", None);
        add("first log on a silent stream, most", quantile(silent, 1.0), " s", Some(MOST_FIRST));
        add("lag on hourly streams, p50", quantile(hourly, 0.5), " s", None);
        add("lag on hourly streams, p99", quantile(hourly, 0.99), " s", None);
        add("logs delivered late: from their delivery, p50", quantile(&self.lags.late, 0.5), " s", None);
        add("logs delivered late: from their delivery, p99", quantile(&self.lags.late, 0.99), " s", None);
        add("LIST a day", lists, "", None);
        add("of them discovery", a_day(self.asked.folders), "", None);
        add("GET a day", gets, "", None);
        add("STS a day", a_day(self.asked.sts), "", None);
        add("LIST, dollars a month", lists * LIST_PRICE * MONTH, "", None);
        add("GET, dollars a month", gets * GET_PRICE * MONTH, "", None);
        add("CPU a day", self.cpu_seconds / self.days, " s", None);
        add("peak memory", self.end.peak_kib as f64 / 1024.0, " MiB", None);
        let seen = (busy.len(), hourly.len(), silent.len(), self.lags.late.len());
        results.notes.push(format!(
            "Logs: {} on busy streams, {} on hourly ones, {} first ones on silent ones, {} late; {} not fetched when the \
             day ended.",
            seen.0, seen.1, seen.2, seen.3, self.lags.pending
        ));
    }
}

/// So much of the values is no larger.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = (part * values.len() as f64).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
