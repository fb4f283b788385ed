//! W1: a whole bucket to disk, beside the peers, a bare loop over the same bytes, and the limit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::bare::Loop;
use crate::cost::{self, median};
use crate::mirror::{self, Mirror, Run};
use crate::peers::Peer;
use crate::scratch::Scratch;
use crate::serve::{Kind, Shape, Spec};
use crate::server::Server;
use crate::table::{Ratio, Results, Row};
use crate::{Setting, now};

pub const BUCKET: &str = "measured-trail-logs";
/// Different bodies; each stands under a few names.
const BODIES: u64 = 4_096;
const PLAIN_BYTES: usize = 4_096;
const HOUR: i64 = 3_600;
/// Turns of the plain variant, whatever is asked for.
const RUNS: usize = 3;
/// Objects in flight of the bare client, as the program's default is.
const IN_FLIGHT: u64 = 32;

/// What is added to the bare loop, at most.
const MOST_MICROS: f64 = 112.0;
const MOST_LOOP: f64 = 1.15;
const MOST_WALL: f64 = 0.5;
const MOST_MIB: f64 = 40.0;
/// 80 % of the throughput without durability.
const MOST_DURABLE: f64 = 1.25;

const TRAILSYNC: &str = "`trailsync sync`";
const UNSYNCED: &str = "`trailsync sync`, durability off";
const LIMIT: &str = "bare GET, file, rename";
const SERVER: &str = "bare GET alone";

/// One way to run it.
#[derive(Clone, Copy)]
struct Variant {
    workload: &'static str,
    bodies: Kind,
    ending: &'static str,
}

/// Logs of a genuine size.
pub fn run(setting: &Setting) -> Result<Results> {
    measure(setting, Variant { workload: "w1", bodies: Kind::Genuine(BODIES), ending: "json.gz" })
}

/// Objects that are hashed once and not inflated.
pub fn plain(setting: &Setting) -> Result<Results> {
    measure(setting, Variant { workload: "w1-plain", bodies: Kind::Plain(BODIES, PLAIN_BYTES), ending: "json" })
}

/// Objects of two days in one stream.
pub fn spec(logs: u64, bodies: Kind, ending: &str) -> Spec {
    let to = now() - HOUR;
    let shape = Shape { accounts: 1, regions: 1, logs, from: to - 48 * HOUR, to, ending: ending.to_owned() };
    Spec { bucket: BUCKET.into(), shape, bodies, get_ms: 0, list_ms: 0, day: None }
}

/// Everything that is run in turns, by its name.
struct Field<'a> {
    setting: &'a Setting,
    scratch: &'a Scratch,
    server: &'a Server,
    peers: Vec<(Peer, PathBuf)>,
    runs: BTreeMap<&'static str, Vec<Run>>,
    loops: Vec<Loop>,
    /// Peers that could not be run, and why.
    skipped: Vec<String>,
}

fn measure(setting: &Setting, variant: Variant) -> Result<Results> {
    let scratch = setting.scratch()?;
    let server = Server::start(spec(setting.logs, variant.bodies, variant.ending), scratch.path())?;
    let mut field = Field {
        setting,
        scratch: &scratch,
        server: &server,
        peers: vec![],
        runs: BTreeMap::new(),
        loops: vec![],
        skipped: vec![],
    };
    for peer in Peer::wanted(setting) {
        match peer.program(setting) {
            Ok(program) => field.peers.push((peer, program)),
            Err(why) => field.skipped.push(format!("SKIPPED: {why}")),
        }
    }
    let turns = if variant.workload == "w1" { setting.repeats } else { RUNS.min(setting.repeats) };
    for turn in 0..turns {
        field.turn(turn, variant)?;
    }
    let about = about(&field, variant)?;
    let (rows, ratios) = (field.rows(), field.ratios());
    let notes = [field.skipped.clone(), field.notes()].concat();
    Ok(Results { workload: variant.workload, about, rows, ratios, notes })
}

fn about(field: &Field<'_>, variant: Variant) -> Result<String> {
    let one = field.loops.first().context("no turn")?;
    let each = |bytes: u64| bytes / one.files.max(1);
    let what = match variant.bodies {
        Kind::Genuine(_) => format!(
            "gzip logs of a genuine size (half of them below {} bytes and {} inside; on average {} and {})",
            one.median_stored,
            one.median_inflated,
            each(one.stored_bytes),
            each(one.inflated_bytes)
        ),
        _ => format!("objects of {PLAIN_BYTES} bytes, no gzip"),
    };
    Ok(format!("{} {what}, from an S3 server on loopback to disk.", field.setting.logs))
}

impl Field<'_> {
    /// Everything once, each turn in another order.
    fn turn(&mut self, turn: usize, variant: Variant) -> Result<()> {
        let mut names: Vec<&'static str> = vec![TRAILSYNC, UNSYNCED, LIMIT, SERVER];
        let slow = |peer: Peer| peer.is_slow() && (turn > 0 || variant.workload != "w1");
        names.extend(self.peers.iter().filter(|(peer, _)| !slow(*peer)).map(|(peer, _)| peer.name()));
        let count = names.len();
        names.rotate_left(turn % count);
        for name in names {
            let dir = self.scratch.path().join(format!("{}-{turn}", name.replace([' ', '`', '-', ','], "")));
            std::fs::create_dir_all(&dir)?;
            self.scratch.settle()?;
            let run = match self.once(name, &dir) {
                Err(error) if self.peers.iter().any(|(peer, _)| peer.name() == name) => {
                    self.peers.retain(|(peer, _)| peer.name() != name);
                    self.runs.remove(name);
                    self.skipped.push(format!("SKIPPED: {name} failed: {error}"));
                    continue;
                }
                run => run?,
            };
            if name == TRAILSYNC {
                self.loops.push(self.bare(&dir.join("copy"), variant)?);
            }
            self.runs.entry(name).or_default().push(run);
        }
        Ok(())
    }

    fn once(&self, name: &str, dir: &Path) -> Result<Run> {
        let (server, scratch) = (self.server, self.scratch.path());
        let (run, root) = match name {
            TRAILSYNC | UNSYNCED => {
                let mirror = Mirror::new(dir, server, "")?;
                let command = mirror.command(&["sync", "--quiet"])?;
                let command = if name == UNSYNCED { cost::without_syncs(&command)? } else { command };
                (mirror::measured(scratch, server, &command)?.0, mirror.copy())
            }
            LIMIT => (mirror::measured(scratch, server, &self.limit(dir, "files")?)?.0, dir.to_owned()),
            SERVER => return Ok(mirror::measured(scratch, server, &self.limit(dir, "nothing")?)?.0),
            name => {
                let found = self.peers.iter().find(|(peer, _)| peer.name() == name);
                let (peer, program) = found.context("a peer")?;
                (mirror::measured(scratch, server, &peer.sync(program, server, dir))?.0, dir.to_owned())
            }
        };
        let files = mirror::count(&root)?;
        ensure!(files == self.setting.logs, "{name}: {files} of {} objects are there", self.setting.logs);
        Ok(run)
    }

    fn limit(&self, dir: &Path, keep: &str) -> Result<Command> {
        let spec = self.scratch.path().join("limit.json");
        std::fs::write(&spec, serde_json::to_vec(&self.server.spec)?)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("limit").arg(spec).arg(self.server.endpoint()).arg(dir);
        command.args(["--in-flight", &IN_FLIGHT.to_string(), "--keep", keep]);
        Ok(command)
    }

    /// The bare loop over a copy: one thread.
    fn bare(&self, root: &Path, variant: Variant) -> Result<Loop> {
        let mut bare = Command::new(std::env::current_exe()?);
        bare.arg("bare").arg(root);
        if !matches!(variant.bodies, Kind::Genuine(_)) {
            bare.arg("--as-stored");
        }
        let (said, cost) = cost::run(self.scratch.path(), &bare)?;
        ensure!(cost.code == Some(0), "the bare loop failed");
        let done: Loop = serde_json::from_slice(&said)?;
        ensure!(done.files == self.setting.logs, "the loop read {} files", done.files);
        Ok(done)
    }

    fn of(&self, name: &str, what: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.get(name).into_iter().flatten().map(what))
    }

    fn rows(&self) -> Vec<Row> {
        let order = [TRAILSYNC, UNSYNCED].into_iter().chain(Peer::ALL.map(Peer::name)).chain([LIMIT, SERVER]);
        let bytes = self.loops.first().map_or((0, 0), |one| (one.stored_bytes, one.inflated_bytes));
        let known = order.filter_map(|name| Some((name, self.runs.get(name)?)));
        let mut rows: Vec<_> = known.map(|(name, runs)| Row::of_runs(name, self.setting.logs, runs, bytes)).collect();
        rows.push(Row {
            what: "bare loop: inflate and hash".into(),
            runs: self.loops.len(),
            objects: self.setting.logs,
            wall_seconds: None,
            cpu_seconds: median(self.loops.iter().map(|one| one.inflating_seconds)),
            peak_mib: None,
            stored_bytes: bytes.0,
            inflated_bytes: bytes.1,
            asked: None,
        });
        rows
    }

    fn ratios(&self) -> Vec<Ratio> {
        let micros = |seconds: f64| seconds * 1e6 / self.setting.logs as f64;
        let ours = micros(self.of(TRAILSYNC, |run| run.cost.cpu_seconds()));
        let bare = micros(median(self.loops.iter().map(|one| one.inflating_seconds)));
        let wall = |name: &str| self.of(name, |run| run.cost.wall_seconds);
        let peers = || self.peers.iter().map(|(peer, _)| peer.name()).filter(|name| self.runs.contains_key(name));
        let fastest = peers().map(wall).fold(f64::INFINITY, f64::min);
        let leanest =
            peers().map(|name| micros(self.of(name, |run| run.cost.cpu_seconds()))).fold(f64::INFINITY, f64::min);
        let peak = self.of(TRAILSYNC, |run| run.cost.peak_kib as f64 / 1024.0);
        let ratio = |what: &str, value: f64, unit, target| Ratio { what: what.into(), value, unit, target };
        let mut ratios = vec![
            ratio("CPU per object", ours, " µs", Some((MOST_MICROS + MOST_LOOP * bare).round())),
            ratio("CPU per object beyond 1.15 × the bare loop", ours - MOST_LOOP * bare, " µs", Some(MOST_MICROS)),
            ratio("peak memory", peak, " MiB", Some(MOST_MIB)),
            ratio("wall, durable ÷ durability off", wall(TRAILSYNC) / wall(UNSYNCED), "", Some(MOST_DURABLE)),
        ];
        if fastest.is_finite() {
            ratios.push(ratio("wall ÷ the fastest peer's", wall(TRAILSYNC) / fastest, "", Some(MOST_WALL)));
            ratios.push(ratio("CPU ÷ the leanest peer's", ours / leanest, "", None));
        }
        let share = self.of(TRAILSYNC, |run| run.server_seconds / run.cost.wall_seconds);
        ratios.push(ratio("the server's CPU meanwhile ÷ wall, of one core", share, "", None));
        let rate = |name: &str| self.setting.logs as f64 / wall(name);
        ratios.push(ratio(
            "rate of the bare client ÷ ours: the server can do more",
            rate(SERVER) / rate(TRAILSYNC),
            "",
            None,
        ));
        ratios
    }

    fn notes(&self) -> Vec<String> {
        vec![
            format!(
                "{BODIES} different bodies, each under a few names. Every run has a new directory; runs are in turns, medians."
            ),
            "Durability off: the same program, with `fsync`, `fdatasync` and `syncfs` answered by a seccomp filter.".into(),
            "Content hashing cannot be switched off in trailsync, so that is not measured; without gzip it is `w1-plain`.".into(),
            "The server (`bench serve`) is one lean process on the same processors; it checks no signatures.".into(),
            "The AWS CLI is slow: it runs once, and not in `w1-plain`. None of the peers verifies content, makes it durable, or remembers it.".into(),
        ]
    }
}
