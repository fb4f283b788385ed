//! W3: a large bucket that is mirrored already, and a hundred new objects: what that costs must not follow its age.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Result, ensure};

use crate::cost::median;
use crate::mirror::{self, Mirror, Run};
use crate::peers::Peer;
use crate::prepared;
use crate::scratch::Scratch;
use crate::serve::{Delivery, Keys, Kind, Shape, Spec, make};
use crate::server::Server;
use crate::table::{Ratio, Results, Row};
use crate::{Setting, now};

const NEW: u64 = 100;
/// The new objects' names lie within so many minutes.
const MINUTES: i64 = 10;
const DAY: i64 = 86_400;
/// The bucket is so old.
const DAYS: i64 = 400;
const BODIES: u64 = 256;
const RUNS: usize = 3;

const MOST_LISTS: f64 = 3.0;
const MOST_SECONDS: f64 = 0.2;
const MOST_MIB: f64 = 40.0;

/// A bucket, and into how many streams it falls.
struct Bucket {
    accounts: u64,
    regions: usize,
    objects: u64,
}

impl Bucket {
    fn streams(&self) -> u64 {
        self.accounts * self.regions as u64
    }

    fn spec(&self) -> Spec {
        let to = now() - 1_800;
        let logs = self.objects / self.streams();
        let from = to - DAYS * DAY;
        let shape = Shape { accounts: self.accounts, regions: self.regions, logs, from, to, ending: "json.gz".into() };
        let bodies = Kind::Genuine(BODIES);
        Spec { bucket: crate::w1::BUCKET.into(), shape, bodies, get_ms: 0, list_ms: 0, day: None }
    }
}

/// Measures a poll, of one stream and of forty, and again at ten times the objects; then the peers.
pub fn run(setting: &Setting) -> Result<Results> {
    let mut results = Results {
        workload: "w3",
        about: format!("A bucket of {DAYS} days, mirrored already, and {NEW} new objects."),
        rows: vec![],
        ratios: vec![],
        notes: notes(),
    };
    let sizes = [setting.mirrored, 10 * setting.mirrored];
    for objects in sizes {
        for (accounts, regions) in [(1, 1), (10, 4)] {
            let bucket = Bucket { accounts, regions, objects };
            ours(setting, &bucket, &mut results)?;
        }
    }
    if setting.mirror_first {
        really(setting, &mut results)?;
    }
    peers(setting, &mut results)?;
    Ok(results)
}

fn notes() -> Vec<String> {
    vec![
        "trailsync's state of what is mirrored is made through its library, as a daemon of that age would have left it \
         (`--mirror-first` mirrors it for real); the copy has no files, which no poll reads."
            .into(),
        "One `trailsync sync` is a whole process: it starts, assumes the role, discovers the streams (its LIST requests \
         with a delimiter are counted apart), and polls each stream once."
            .into(),
        "The peers' tree has files of the right length and time; `rclone` compares times, for which it asks for the head \
         of each object, unless `--size-only` is given."
            .into(),
    ]
}

fn ours(setting: &Setting, bucket: &Bucket, results: &mut Results) -> Result<()> {
    let scratch = setting.scratch()?;
    let server = Server::start(bucket.spec(), scratch.path())?;
    let mirror = Mirror::new(&scratch.path().join("mirror"), &server, "")?;
    prepared::record(&scratch.path().join("mirror"), &server.spec)?;
    polls(setting, &scratch, &server, &mirror, bucket, results)
}

fn polls(
    setting: &Setting,
    scratch: &Scratch,
    server: &Server,
    mirror: &Mirror,
    bucket: &Bucket,
    results: &mut Results,
) -> Result<()> {
    let (mut fresh, mut idle): (Vec<Run>, Vec<Run>) = (Vec::new(), Vec::new());
    scratch.settle()?;
    for _ in 0..RUNS.min(setting.repeats) {
        server.deliver(Delivery { objects: NEW, minutes: MINUTES })?;
        let run = mirror.sync(scratch.path(), server)?;
        ensure!(run.asked.gets == NEW, "{} of {NEW} new objects were fetched", run.asked.gets);
        fresh.push(run);
        let run = mirror.sync(scratch.path(), server)?;
        ensure!(run.asked.gets == 0, "{} objects were fetched again", run.asked.gets);
        idle.push(run);
    }
    let (objects, streams) = (bucket.objects, bucket.streams());
    let what = |new: &str| format!("`trailsync sync`, {streams} streams, {objects} mirrored, {new}");
    // What is worked on is what is new, whatever is there.
    results.rows.push(Row::of_runs(what("100 new"), NEW, &fresh, (0, 0)));
    results.rows.push(Row::of_runs(what("nothing new"), NEW, &idle, (0, 0)));
    let mut ratio = |what: &str, value: f64, unit, target| {
        let what = format!("{what}, {streams} streams, {objects} mirrored");
        results.ratios.push(Ratio { what, value, unit, target });
    };
    let lists = |runs: &[Run]| median(runs.iter().map(|run| (run.asked.lists - run.asked.folders) as f64));
    let peak = fresh.iter().map(|run| run.cost.peak_kib as f64 / 1024.0).fold(0.0, f64::max);
    ratio("LIST a stream, nothing new", lists(&idle) / streams as f64, "", Some(1.0));
    ratio("LIST for 100 new, beyond one a stream", lists(&fresh) - streams as f64, "", Some(MOST_LISTS - 1.0));
    ratio("CPU, 100 new", median(fresh.iter().map(|run| run.cost.cpu_seconds())), " s", Some(MOST_SECONDS));
    ratio("peak memory", peak, " MiB", Some(MOST_MIB));
    Ok(())
}

/// The same after a first run that mirrored everything.
fn really(setting: &Setting, results: &mut Results) -> Result<()> {
    let bucket = Bucket { accounts: 1, regions: 1, objects: setting.mirrored };
    let scratch = setting.scratch()?;
    let server = Server::start(bucket.spec(), scratch.path())?;
    let mirror = Mirror::new(&scratch.path().join("mirror"), &server, "")?;
    let first = mirror.sync(scratch.path(), &server)?;
    results.rows.push(Row::of_runs("`trailsync sync`, the first", bucket.objects, &[first], (0, 0)));
    polls(setting, &scratch, &server, &mirror, &bucket, results)
}

fn peers(setting: &Setting, results: &mut Results) -> Result<()> {
    let bucket = Bucket { accounts: 1, regions: 1, objects: setting.peer_objects };
    let scratch = setting.scratch()?;
    let server = Server::start(bucket.spec(), scratch.path())?;
    let tree = scratch.path().join("tree");
    for peer in Peer::wanted(setting) {
        let program = match peer.program(setting) {
            Ok(program) => program,
            Err(why) => {
                results.notes.push(format!("SKIPPED: {why}"));
                continue;
            }
        };
        if !tree.exists() {
            files(&tree, &server.spec)?;
        }
        server.deliver(Delivery { objects: NEW, minutes: MINUTES })?;
        scratch.settle()?;
        match mirror::measured(scratch.path(), &server, &peer.sync(&program, &server, &tree)) {
            Ok((run, _)) => {
                let what = format!("{}, {} mirrored, 100 new", peer.name(), bucket.objects);
                results.rows.push(Row::of_runs(what, NEW, &[run], (0, 0)));
            }
            Err(error) => results.notes.push(format!("SKIPPED: {} failed: {error}", peer.name())),
        }
    }
    Ok(())
}

/// A tree as a peer would have left it: each file as long as its object, and as old. They have no contents.
fn files(root: &Path, spec: &Spec) -> Result<()> {
    let (keys, bodies) = (Keys::new(spec.shape.clone()), make(spec.bodies)?);
    let (mut key, mut folder) = (Vec::new(), std::path::PathBuf::new());
    for number in 0..keys.len() {
        keys.write(number, &mut key);
        let path = root.join(std::str::from_utf8(&key)?);
        if let Some(parent) = path.parent().filter(|parent| **parent != *folder) {
            std::fs::create_dir_all(parent)?;
            folder = parent.to_owned();
        }
        let file = File::create(&path)?;
        file.set_len(bodies[(number % bodies.len() as u64) as usize].bytes.len() as u64)?;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(keys.modified(number).cast_unsigned()))?;
    }
    Ok(())
}
