//! What the state takes per object, per sealed day and per idle stream, and how soon it is open again.
//!
//! `GROWTH_ROWS` sets how many objects lie in the window (default 60,000). Of an object, 80 bytes are hashes and the tag.
//! Figures are printed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trailsync::clock::{ManualClock, Timestamp, shift};
use trailsync::config::Poll;
use trailsync::destination::memory::Memory;
use trailsync::gate::Gate;
use trailsync::layout::{Day, Kind, Stream};
use trailsync::ledger::{Checkpoint, Commit, DATABASE, Ledger, PassEnd, SealedDay};
use trailsync::manifest::{Generations, Manifests, sha256};
use trailsync::mirror::{Mirror, Permits, Progress, Rules};
use trailsync::object::ETag;
use trailsync::record::Record;
use trailsync::retry::Delays;
use trailsync::share::Share;
use trailsync::source::memory::MemorySource;
use trailsync::trouble::Trouble;
use trailsync::window::Scope;

const DAY: i64 = 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

fn stream(number: u64) -> Stream {
    let kind = Kind::named("CloudTrail").expect("a kind");
    let region = ["us-east-1", "ap-southeast-2", "eu-central-1", "eu-west-1"][number as usize % 4];
    Stream::new("prod", "AWSLogs/", None, &format!("{:012}", 222_222_222_222 + number / 4), kind, region)
}

/// An object as CloudTrail names it, `second` seconds into the window.
fn record(stream: &Stream, number: u64, second: i64) -> Record {
    let mut random = fastrand::Rng::with_seed(number);
    let unique: String = (0..16).map(|_| random.alphanumeric()).collect();
    let content = sha256(&number.to_be_bytes());
    Record {
        suffix: format!("{}Z_{unique}.json.gz", stream.bound(at(second))),
        size: random.u64(400..60_000),
        modified: at(second + random.i64(0..600)),
        etag: ETag::new(&hex::encode(&content[..16])),
        sha256: content,
        inflated: Some(sha256(&content)),
        gone: false,
        later: false,
        deleted: false,
    }
}

/// Three days of so many objects, evenly over streams and time, as polls would commit them.
async fn fill(ledger: &Ledger, objects: u64, streams: u64, at_once: u64) {
    let known: Vec<_> = (0..streams).map(stream).collect();
    let each = objects / streams;
    for first in (0..each).step_by(at_once as usize) {
        for stream in &known {
            let (id, checkpoint) = ledger.checkpoint(stream).await.expect("a checkpoint");
            let salt: u64 = stream.account.parse().expect("digits");
            let inserted = (first..each.min(first + at_once))
                .map(|n| record(stream, salt * 1_000_000 + n, 3 * DAY * n as i64 / each as i64));
            let mut inserted: Vec<_> = inserted.collect();
            inserted.sort_unstable_by(|a, b| a.suffix.cmp(&b.suffix));
            let commit = Commit { inserted, ..Commit::default() };
            ledger.commit(stream, id, &commit, &checkpoint, at(3 * DAY)).await.expect("committed");
        }
    }
}

fn size(dir: &Path) -> u64 {
    std::fs::metadata(dir.join(DATABASE)).expect("a database").len()
}

fn rows() -> u64 {
    std::env::var("GROWTH_ROWS").map_or(60_000, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn an_object_in_the_window_takes_some_160_bytes_and_the_state_is_open_again_within_a_second() {
    let rows = rows();
    for (streams, at_once) in [(1, 1000), (40, 100), (40, 3)] {
        let dir = tempfile::tempdir().expect("a directory");
        let opened = Ledger::open(dir.path(), false).await.expect("a ledger");
        let empty = size(dir.path());
        fill(&opened.ledger, rows, streams, at_once).await;
        opened.ledger.close().await;
        drop(opened.lock);
        let each = (size(dir.path()) - empty) as f64 / (rows / streams * streams) as f64;
        let began = Instant::now();
        let opened = Ledger::open(dir.path(), true).await.expect("a ledger");
        let known = opened.ledger.checkpoints().await.expect("readable").len();
        let (id, _) = opened.ledger.checkpoint(&stream(0)).await.expect("a checkpoint");
        opened.ledger.page_back(&stream(0), id, 800, Day::at(at(4 * DAY))).await.expect("readable");
        let took = began.elapsed();
        println!("{rows} objects of {streams} streams, {at_once} at once: {each:.1} bytes each, open after {took:?}");
        assert_eq!(known as u64, streams);
        assert!(took.as_secs() < 1, "open after {took:?}");
        opened.ledger.close().await;
        assert!(each <= 165.0, "{each:.1} bytes an object");
    }
}

#[tokio::test]
async fn a_sealed_day_takes_less_than_200_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = Ledger::open(dir.path(), false).await.expect("a ledger");
    let (empty, days, streams) = (size(dir.path()), 400, 10);
    for number in 0..streams {
        let stream = stream(number);
        let (id, _) = opened.ledger.checkpoint(&stream).await.expect("a checkpoint");
        for day in 0..days {
            let generations = Generations { first: 1, last: 1, hash: sha256(&[number as u8, day as u8]) };
            let day = Day::at(shift(at(0), -day * DAY));
            let sealed = SealedDay { day, generations, objects: 5_000 };
            opened.ledger.seal(&stream, id, &sealed, 500_000, &[]).await.expect("sealed");
        }
    }
    opened.ledger.close().await;
    let each = (size(dir.path()) - empty) as f64 / (days as u64 * streams) as f64;
    println!("{} sealed days: {each:.1} bytes each", days as u64 * streams);
    assert!(each <= 200.0, "{each:.1} bytes a sealed day");
}

/// A stream that waits, as the scheduler keeps it.
struct Idle {
    _progress: Progress,
    _due: Instant,
    _delays: Delays,
    _trouble: Trouble,
}

/// Memory of this process that is not its file's, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux");
    line.trim().strip_suffix(" kB").and_then(|kib| kib.trim().parse::<u64>().ok()).expect("a number") * 1024
}

fn mirror(ledger: &Ledger, dir: &Path) -> Mirror<MemorySource, Memory> {
    let rules = Rules {
        poll: Poll {
            every: Duration::from_secs(60),
            idle_every: Duration::from_secs(840),
            min_window: Duration::from_secs(1200),
            max_window: Duration::from_secs(7200),
            tiers: Vec::new(),
            full_every: Duration::from_secs(30 * 86_400),
            tail_every: Duration::from_secs(86_400),
            discover_every: Duration::from_secs(3600),
        },
        since: None,
        retention: None,
        ledger_days: 3,
        in_flight: 8,
        pace: 0.0,
        random: || 0.5,
    };
    let permits = Permits { source: Arc::new(Gate::new(8)), process: Share::alone(8) };
    let (source, clock) = (Arc::new(MemorySource::new(at(0))), Arc::new(ManualClock::at(at(0))));
    let manifests = Manifests::under(dir);
    Mirror::new(source, Arc::new(Memory::default()), ledger.clone(), manifests, clock, rules, permits)
}

/// Where a stream stands after some days.
fn settled() -> Checkpoint {
    let mut settled = Checkpoint::default();
    let tiers = [2 * 3600, 26 * 3600, 35 * DAY].map(Scope::Tier);
    for scope in [Scope::Full, Scope::Poll, Scope::Tail].into_iter().chain(tiers) {
        settled.memory.complete(scope, at(0), at(0));
        settled.lists.insert(scope.name(), 1000);
    }
    settled.lists.insert(Scope::Backfill.name(), 10);
    settled
}

#[tokio::test]
async fn an_idle_stream_takes_less_than_4_kib_and_ten_thousand_are_ready_within_seconds() {
    let dir = tempfile::tempdir().expect("a directory");
    let opened = Ledger::open(dir.path(), false).await.expect("a ledger");
    let (ledger, mirror) = (&opened.ledger, mirror(&opened.ledger, dir.path()));
    let (few, many) = (1_000, 11_000);
    for number in 0..many {
        let (stream, checkpoint) = (stream(number), settled());
        let (id, _) = ledger.checkpoint(&stream).await.expect("a checkpoint");
        let mut end = PassEnd::of(id, None, at(900), at(0));
        end.checkpoint = Some(checkpoint);
        ledger.passes_ended("prod", std::iter::once(&end)).await.expect("recorded");
    }
    let (mut waiting, mut due) = (HashMap::new(), BinaryHeap::new());
    let mut wait = async |range: std::ops::Range<u64>| {
        let began = Instant::now();
        for number in range {
            let progress = mirror.resume(stream(number)).await.expect("a checkpoint");
            assert_eq!(progress.checkpoint.lists.len(), 7, "its checkpoint is read whole");
            let (prefix, now) = (progress.stream.prefix.clone(), Instant::now());
            due.push(Reverse((now, prefix.clone())));
            let (delays, trouble) = (Delays::resting(), Trouble::default());
            waiting.insert(prefix, Idle { _progress: progress, _due: now, _delays: delays, _trouble: trouble });
        }
        (resident(), began.elapsed())
    };
    let (before, _) = wait(0..few).await;
    let (after, took) = wait(few..many).await;
    let each = after.saturating_sub(before) / (many - few);
    println!("{each} bytes an idle stream; {} were ready after {took:?}", many - few);
    assert!(each > 500, "{each} bytes: memory was not measured");
    assert!(each <= 4096, "{each} bytes an idle stream");
    assert!(took.as_secs() < 30, "ready after {took:?}");
    assert_eq!((waiting.len(), due.len()), (many as usize, many as usize));
    opened.ledger.close().await;
}
