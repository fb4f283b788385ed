//! Genuine CloudTrail files, delivered out of order and late as CloudTrail delivers them, are mirrored byte for byte.
//!
//! The files are not part of the repository: they stand in `../shared/data/cloudtrail-real`, or where
//! `TRAILSYNC_REAL_LOGS` says. Where they are absent the tests say so and prove nothing.

mod support {
    pub mod account;
}

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use fakeaws::{ObjectSpec, Op};
use support::account::{BUCKET, Shared};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trailsync::clock::{Clock as _, ManualClock, Timestamp, seconds_between, shift};
use trailsync::config;
use trailsync::destination::local::Local;
use trailsync::error::Error;
use trailsync::gate::Gate;
use trailsync::layout::{Day, Stream};
use trailsync::ledger::{Ledger, Opened};
use trailsync::manifest::Manifests;
use trailsync::mirror::{Mirror, Permits, Progress, Rules, Task};
use trailsync::record::Record;
use trailsync::share::Share;
use trailsync::source::s3::S3Source;
use trailsync::source::{FetchRequest, Fetched, ListPage, ListRequest, Source};

const FILES: usize = 55;
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// One genuine file.
struct Log {
    key: String,
    bytes: Vec<u8>,
    named: Timestamp,
}

impl Log {
    fn sha256(&self) -> Vec<u8> {
        digest(&SHA256, &self.bytes).as_ref().to_vec()
    }

    /// What a digest file would name, computed without any of the mirror's code.
    fn inflated(&self) -> Vec<u8> {
        let mut text = Vec::new();
        flate2::read::MultiGzDecoder::new(&self.bytes[..]).read_to_end(&mut text).expect("genuine gzip");
        digest(&SHA256, &text).as_ref().to_vec()
    }
}

fn folder() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/cloudtrail-real");
    std::env::var_os("TRAILSYNC_REAL_LOGS").map_or_else(|| beside.into(), PathBuf::from)
}

/// The files under their true keys, in key order; none where the folder is absent.
fn logs() -> Vec<Log> {
    let folder = folder();
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("SKIPPED: the genuine CloudTrail files are not at {}: NOTHING IS PROVEN HERE", folder.display());
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut logs: Vec<_> = paths.filter(|path| path.extension().is_some_and(|ext| ext == "gz")).map(read).collect();
    logs.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(logs.len(), FILES, "the folder does not hold what it held when these tests were written");
    logs
}

/// `<account>_CloudTrail_<region>_<YYYYMMDDTHHmmZ>_<unique>.json.gz`
fn read(path: PathBuf) -> Log {
    let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let [account, kind, region, time, _] = name.splitn(5, '_').collect::<Vec<_>>()[..] else { panic!("{name}") };
    let (year, month, day) = (&time[..4], &time[4..6], &time[6..8]);
    let key = format!("AWSLogs/{account}/{kind}/{region}/{year}/{month}/{day}/{name}");
    let named = format!("{year}-{month}-{day}T{}:{}:00Z", &time[9..11], &time[11..13]).parse().expect("a time");
    Log { bytes: std::fs::read(&path).expect("readable"), key, named }
}

/// The bucket, whose answers are dated by the simulated clock: signatures need the machine's own time.
struct Dated {
    bucket: S3Source,
    clock: ManualClock,
}

impl Source for Dated {
    async fn list(&self, request: &ListRequest) -> Result<ListPage, Error> {
        let page = self.bucket.list(request).await?;
        assert!(page.served_at.is_some(), "the real answer is dated, too");
        Ok(ListPage { served_at: Some(self.clock.now()), ..page })
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<Fetched, Error> {
        self.bucket.fetch(request).await
    }
}

/// The bucket, the mirror and the time that both of them see.
struct Bench {
    shared: Shared,
    clock: ManualClock,
    mirror: Mirror<Dated, Local>,
    progress: Progress,
    opened: Opened,
    manifests: Manifests,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new(stream: Stream, start: Timestamp) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let shared = Shared::all_logs().await;
        let source = shared.source("", "");
        let tree = source.destination.tree().expect("a tree");
        let tree = config::Destination { path: dir.path().join("copy"), allow_volatile: true, ..tree.clone() };
        let (keeper, bucket) = shared.kept_bucket(&source);
        keeper.ready().await.expect("a session");
        let opened = Ledger::open(&dir.path().join("state"), false).await.expect("a ledger");
        let manifests = Manifests::under(&dir.path().join("state"));
        let clock = ManualClock::at(start);
        let mirror = Mirror::new(
            Arc::new(Dated { bucket, clock: clock.clone() }),
            Arc::new(Local::open(&tree).expect("a tree")),
            opened.ledger.clone(),
            manifests.clone(),
            Arc::new(clock.clone()),
            rules(&source),
            Permits { source: Arc::new(Gate::new(8)), process: Share::alone(8) },
        );
        let progress = mirror.resume(stream).await.expect("a checkpoint");
        Self { shared, clock, mirror, progress, opened, manifests, dir }
    }

    fn deliver(&self, log: &Log) {
        let object = ObjectSpec::log(log.bytes.clone()).modified(self.clock.now());
        self.shared.world.put_object(BUCKET, &log.key, object);
    }

    async fn turn(&mut self) {
        let mut poll = true;
        loop {
            let until = Instant::now() + Duration::from_secs(60);
            let task = Task { poll, until, stop: CancellationToken::new() };
            let turn = self.mirror.turn(&mut self.progress, &task).await.unwrap_or_else(|error| panic!("{error}"));
            if !turn.unfinished {
                break;
            }
            poll = false;
        }
        assert_eq!(self.mirror.service_clock().skew(), None, "the clocks are moved together");
    }

    async fn row(&self, key: &str) -> Option<Record> {
        let suffix = self.progress.stream.suffix(key).expect("a key of the stream");
        self.opened.ledger.record(&self.progress.stream, self.progress.id, suffix).await.expect("readable")
    }

    fn copy(&self, key: &str) -> PathBuf {
        self.dir.path().join("copy").join(key)
    }

    /// What stands in manifests, in key order.
    async fn sealed(&self) -> Vec<Record> {
        let (stream, id) = (&self.progress.stream, self.progress.id);
        let mut records = Vec::new();
        for sealed in self.opened.ledger.sealed_days(stream, id, Day::ODD, 100).await.expect("readable") {
            let lines = self.manifests.read(stream, sealed.day, sealed.generations).expect("a manifest");
            records.extend(lines.map(|line| line.expect("a line")));
        }
        records
    }
}

fn rules(source: &config::Source) -> Rules {
    let poll = source.poll.clone();
    Rules { poll, since: None, retention: None, ledger_days: 3, in_flight: 8, pace: 0.0, random: || 0.5 }
}

/// When each file arrives: within 15 minutes of its name, in any order; one in eight hours or more than a day late.
fn deliveries(logs: &[Log], seed: u64) -> Vec<(Timestamp, usize)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut arrivals: Vec<_> = (0..logs.len())
        .map(|index| {
            let late = random.u8(..8) == 0;
            let after = if late { random.i64(2 * HOUR..40 * HOUR) } else { random.i64(MINUTE..15 * MINUTE) };
            (shift(logs[index].named, after), index)
        })
        .collect();
    arrivals.sort_unstable();
    let order: Vec<_> = arrivals.iter().map(|(_, index)| *index).collect();
    assert!(!order.is_sorted(), "seed {seed} delivers in key order, which proves nothing");
    arrivals
}

/// Plays one order of delivery, a turn a minute while there is traffic, then a turn every quarter of an hour.
async fn mirrored(logs: &[Log], seed: u64) -> Bench {
    let stream = Stream::of_key("acme", "AWSLogs/", &logs[0].key).expect("a stream");
    let (start, busy) = (shift(logs[0].named, -5 * MINUTE), shift(logs[FILES - 1].named, 20 * MINUTE));
    let mut bench = Bench::new(stream, start).await;
    let mut waiting = deliveries(logs, seed).into_iter().peekable();
    let mut here = Vec::new();
    let mut now = start;
    while now < shift(start, 2 * DAY + 12 * HOUR) {
        bench.clock.set(now);
        while let Some((_, index)) = waiting.next_if(|(at, _)| *at <= now) {
            bench.deliver(&logs[index]);
            here.push(index);
        }
        bench.turn().await;
        for index in here.iter().filter(|index| seconds_between(logs[**index].named, now) < HOUR) {
            assert!(bench.row(&logs[*index].key).await.is_some(), "seed {seed}, {now}: not found by the next poll");
        }
        now = shift(now, if now < busy { MINUTE } else { 15 * MINUTE });
    }
    assert_eq!(here.len(), FILES, "everything was delivered");
    bench
}

fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { BTreeSet::from([path]) }).collect()
}

#[tokio::test]
async fn genuine_files_delivered_in_any_order_are_all_mirrored_and_each_is_fetched_once() {
    let logs = logs();
    if logs.is_empty() {
        return;
    }
    for seed in 1..=6 {
        let bench = mirrored(&logs, seed).await;
        for log in &logs {
            let copy =
                std::fs::read(bench.copy(&log.key)).unwrap_or_else(|why| panic!("seed {seed}: {}: {why}", log.key));
            assert_eq!(copy, log.bytes, "seed {seed}: {}", log.key);
        }
        let expected: BTreeSet<_> = logs.iter().map(|log| bench.copy(&log.key)).collect();
        assert_eq!(
            files_below(&bench.dir.path().join("copy/AWSLogs")),
            expected,
            "seed {seed}: nothing else stands there"
        );
        let counters = bench.shared.world.counters();
        assert_eq!(counters.total(Op::GetObject), FILES as u64, "seed {seed}: each GET exactly once");
        assert!(bench.opened.ledger.alarms(10).await.expect("readable").is_empty(), "seed {seed}: nothing to alarm");
    }
}

#[tokio::test]
async fn what_is_recorded_of_genuine_files_is_what_an_independent_reader_finds_in_them() {
    let logs = logs();
    if logs.is_empty() {
        return;
    }
    let mut bench = mirrored(&logs, 42).await;
    let mut rows = Vec::new();
    for log in &logs {
        let row = bench.row(&log.key).await.unwrap_or_else(|| panic!("no row of {}", log.key));
        assert_eq!(row.size, log.bytes.len() as u64, "{}", log.key);
        assert_eq!(row.sha256.to_vec(), log.sha256(), "{}", log.key);
        assert_eq!(row.inflated.map(|hash| hash.to_vec()), Some(log.inflated()), "{}", log.key);
        rows.push(row);
    }
    assert!(bench.sealed().await.is_empty(), "the day is still open");

    let later = shift(bench.clock.now(), 5 * DAY);
    bench.clock.set(later);
    bench.turn().await;
    assert_eq!(bench.sealed().await, rows, "sealed, the same is known of every file");
    assert_eq!(bench.row(&logs[0].key).await, None, "and the rows are gone");
    assert_eq!(bench.shared.world.counters().total(Op::GetObject), FILES as u64, "no file was fetched for it");
}
