//! W6: a restart with a million rows in the window: how soon it lists, and what a row takes on disk.

use std::time::Duration;

use anyhow::Result;

use crate::cost::median;
use crate::daemon::Daemon;
use crate::mirror::Mirror;
use crate::prepared::{self, Prepared};
use crate::serve::{Kind, Shape, Spec};
use crate::server::Server;
use crate::table::{Ratio, Results};
use crate::{Setting, now};

const DAY: i64 = 86_400;
const BODIES: u64 = 256;
const ACCOUNTS: u64 = 10;
const REGIONS: usize = 4;
/// The days that stay rows, but for the hours in which one may be sealed.
const WINDOW: i64 = 3 * DAY - 7_200;
const SEALED_DAYS: i64 = 250;
const RUNS: usize = 3;
const LONG: Duration = Duration::from_secs(60);

const MOST_SECONDS: f64 = 1.0;
const MOST_ROW: f64 = 150.0;
const MOST_DAY: f64 = 200.0;

/// Measures the start, and the database.
pub fn run(setting: &Setting) -> Result<Results> {
    let scratch = setting.scratch()?;
    let dir = |name: &str| scratch.path().join(name);
    // What is there without rows, and with sealed days besides.
    let (_, empty) = database(&dir("empty"), &spec(WINDOW, 1))?;
    let (rows, full) = database(&dir("full"), &spec(WINDOW, setting.rows))?;
    let (sealed, days) = database(&dir("days"), &spec(SEALED_DAYS * DAY, u64::try_from(2 * SEALED_DAYS)? * STREAMS))?;
    let per_row = (full - empty) / rows.rows as f64;
    let per_day = (days - empty - per_row * sealed.rows as f64) / sealed.sealed as f64;

    let server = Server::start(spec(WINDOW, setting.rows), scratch.path())?;
    let mirror = Mirror::new(&dir("full"), &server, "")?;
    let (mut first, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..RUNS.min(setting.repeats) {
        server.reset()?;
        let daemon = Daemon::start(&mut mirror.command(&["run"])?)?;
        first.push(daemon.first_listing(&server, LONG)?);
        daemon.rest(&server, STREAMS, Duration::from_secs(2), LONG)?;
        peaks.push(daemon.sample()?.peak_kib as f64 / 1024.0);
        daemon.stop()?;
    }
    let ratio = |what: &str, value, unit, target| Ratio { what: what.into(), value, unit, target };
    Ok(Results {
        workload: "w6",
        about: format!("`trailsync run`, started with {} rows in the window, {STREAMS} streams.", rows.rows),
        rows: vec![],
        ratios: vec![
            ratio("from the start to the first listing of a stream", median(first), " s", Some(MOST_SECONDS)),
            ratio("peak memory until it rests", median(peaks), " MiB", None),
            ratio("database, each object in the window", per_row, " bytes", Some(MOST_ROW)),
            ratio("database, each sealed day", per_day, " bytes", Some(MOST_DAY)),
        ],
        notes: vec![format!(
            "The rows are made through the library, in turns of 250 for each stream; sealed days with {} of them. The \
             first pass begins after discovery has begun, and does not wait for it.",
            sealed.sealed
        )],
    })
}

const STREAMS: u64 = ACCOUNTS * REGIONS as u64;

/// So many objects or more, evenly over the streams.
fn spec(span: i64, objects: u64) -> Spec {
    let to = now() - 1_800;
    let logs = objects.div_ceil(STREAMS);
    let shape = Shape { accounts: ACCOUNTS, regions: REGIONS, logs, from: to - span, to, ending: "json.gz".into() };
    Spec { bucket: crate::w1::BUCKET.into(), shape, bodies: Kind::Genuine(BODIES), get_ms: 0, list_ms: 0, day: None }
}

/// Makes a state; the size of its database.
fn database(dir: &std::path::Path, spec: &Spec) -> Result<(Prepared, f64)> {
    let done = prepared::record(dir, spec)?;
    let size = std::fs::metadata(dir.join("state").join(trailsync::ledger::DATABASE))?.len();
    Ok((done, size as f64))
}
