//! From ten streams to ten thousand: memory of one that is idle, and processor time that follows due polls only.

use std::time::Duration;

use anyhow::Result;

use crate::daemon::{Daemon, Sample};
use crate::mirror::Mirror;
use crate::prepared;
use crate::serve::{Counters, Kind, Shape, Spec};
use crate::server::Server;
use crate::table::{Ratio, Results};
use crate::{Setting, now};

const DAY: i64 = 86_400;
const REGIONS: usize = 16;
/// After this silence nothing is due: idle streams are polled every quarter of an hour.
const QUIET: Duration = Duration::from_secs(6);
/// So long nothing is due.
const WATCHED: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(300);
const FEW: u64 = 10;
const MOST_KIB: f64 = 4.0;

/// A daemon with so many streams.
struct Seen {
    streams: u64,
    /// After every stream was polled once.
    polled: Sample,
    asked: Counters,
    /// After it rested.
    rested: Sample,
}

/// Measures both sizes.
pub fn run(setting: &Setting) -> Result<Results> {
    let few = watched(setting, FEW / 2, 2)?;
    let many = watched(setting, setting.streams / REGIONS as u64, REGIONS)?;
    let more = (many.streams - few.streams) as f64;
    let kib = (many.rested.resident_kib as f64 - few.rested.resident_kib as f64) / more;
    let idle = |seen: &Seen| (seen.rested.cpu_seconds - seen.polled.cpu_seconds) / WATCHED.as_secs_f64();
    let requests = many.asked.lists as f64 - few.asked.lists as f64;
    let poll = (many.polled.cpu_seconds - few.polled.cpu_seconds) * 1e6 / requests;
    let ratio = |what: String, value, unit, target| Ratio { what, value, unit, target };
    Ok(Results {
        workload: "growth",
        about: format!("`trailsync run` with {} and with {} streams, everything mirrored.", few.streams, many.streams),
        rows: vec![],
        ratios: vec![
            ratio("memory of an idle stream".into(), kib, " KiB", Some(MOST_KIB)),
            ratio(format!("resident at rest, {} streams", few.streams), mib(few.rested.resident_kib), " MiB", None),
            ratio(format!("resident at rest, {} streams", many.streams), mib(many.rested.resident_kib), " MiB", None),
            ratio("peak while all are polled for the first time".into(), mib(many.rested.peak_kib), " MiB", None),
            ratio("CPU for each LIST while all are polled".into(), poll, " µs", None),
            ratio(format!("CPU while nothing is due, {} streams", few.streams), 1e3 * idle(&few), " ms a second", None),
            ratio(
                format!("CPU while nothing is due, {} streams", many.streams),
                1e3 * idle(&many),
                " ms a second",
                None,
            ),
        ],
        notes: vec![
            "The state is made through the library. A daemon polls every stream when it starts; it is watched for 30 s \
             after that, in which none is due. Resident memory is what the allocator has not given back: a bound from \
             above."
                .into(),
        ],
    })
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn watched(setting: &Setting, accounts: u64, regions: usize) -> Result<Seen> {
    let scratch = setting.scratch()?;
    let to = now() - 3 * 3_600;
    let shape = Shape { accounts, regions, logs: 2, from: to - DAY, to, ending: "json.gz".into() };
    let spec =
        Spec { bucket: crate::w1::BUCKET.into(), shape, bodies: Kind::Genuine(4), get_ms: 0, list_ms: 0, day: None };
    let server = Server::start(spec, scratch.path())?;
    let dir = scratch.path().join("mirror");
    // Nothing of the copy is there to be read again.
    let mirror = Mirror::new(&dir, &server, "[scrub]\nmib_per_second = 0\n")?;
    prepared::record(&dir, &server.spec)?;
    server.reset()?;
    let daemon = Daemon::start(&mut mirror.command(&["run"])?)?;
    daemon.rest(&server, accounts * regions as u64, QUIET, LONG)?;
    let (polled, asked) = (daemon.sample()?, server.counters()?);
    std::thread::sleep(WATCHED);
    let rested = daemon.sample()?;
    daemon.stop()?;
    Ok(Seen { streams: accounts * regions as u64, polled, asked, rested })
}
