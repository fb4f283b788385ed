//! What a poll costs follows what is new, not what is there: a large bucket, mirrored already.
//!
//! The state is made through the library, as a daemon that has run for a year would have left it: sealed days, rows of
//! the last days, remembered listings. `MILLION_KEYS` sets how large the bucket is, and `INITIAL_KEYS` how large the one
//! is that is mirrored from nothing. The defaults let an unoptimized build end in minutes; set 1000000 and 100000 to
//! measure what is promised. Figures are printed.
//!
//! Memory is what the program holds for itself. The pages of its own file are not counted: an unoptimized build maps
//! tens of MiB of them that a released one does not have, and the system may drop them at any time. `make bench`
//! measures a released build with everything that is resident.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fakeaws::scenario::{CONSUMER_B, MILLION_BUCKET, Million, Ready};
use fakeaws::{FakeAws, FakeClock, ObjectSpec, Op, World};
use tokio_util::sync::CancellationToken;
use trailsync::assemble::{Parts, assemble};
use trailsync::clock::{SystemClock, Timestamp, shift};
use trailsync::config::{Config, Input, load};
use trailsync::layout::{Day, Kind, Stream};
use trailsync::ledger::{Commit, Ledger, SealedDay};
use trailsync::manifest::{Claim, Generations, Header, Manifests, sha256};
use trailsync::mirror::{Progress, Task, Turn};
use trailsync::object::ETag;
use trailsync::record::Record;
use trailsync::role::Process;
use trailsync::window::{Memory, Scope};

const LARGE: u64 = 200_000;
const NEW: u64 = 100;
/// Of the 64 MiB that are promised, the rest is room for a released program's own file.
const MEMORY_KIB: u64 = 40 * 1024;
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn million() -> Million {
    Million { keys: number("MILLION_KEYS", LARGE), ..Million::default() }
}

/// A bucket, its server, and what the operator of a mirror configured.
struct Bench {
    aws: FakeAws,
    config: Config,
    file: PathBuf,
    stream: Stream,
    /// What is mirrored already, in key order.
    keys: Vec<String>,
    now: Timestamp,
    batches: u64,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// A bucket that nobody has mirrored.
    async fn fresh(million: &Million) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (world, ready) = million.build(FakeClock::system());
        let aws = FakeAws::start(world).await.expect("a server");
        let file = configuration(&ready, &aws.endpoint(), dir.path());
        let input =
            Input { file: Some(file.clone()), environment: BTreeMap::new(), overrides: vec![], now: Timestamp::now() };
        let config = load(&input).unwrap_or_else(|refused| panic!("{refused}")).config;
        let kind = Kind::named("CloudTrail").expect("a kind");
        let stream = Stream::new("million", "AWSLogs/", None, CONSUMER_B, kind, &million.region);
        let now = Timestamp::now();
        Self { aws, config, file, stream, keys: Vec::new(), now, batches: 0, _dir: dir }
    }

    /// A bucket of which everything but what is dated ahead is mirrored, sealed and remembered.
    async fn mirrored(million: &Million) -> Self {
        let mut bench = Self::fresh(million).await;
        let ahead = format!("{}{}", bench.stream.prefix, bench.stream.bound(shift(bench.now, HOUR)));
        bench.keys = bench.world().keys(MILLION_BUCKET, &bench.stream.prefix);
        bench.keys.truncate(bench.keys.partition_point(|key| *key < ahead));
        assert_eq!(bench.keys.len() as u64, million.keys);
        // A tree that holds nothing is not where mirrored objects are.
        for source in bench.config.sources.values() {
            std::fs::create_dir_all(source.destination.tree().expect("a tree").path.join(".trailsync/manifests"))
                .expect("a tree");
        }
        let opened = Ledger::open(&bench.config.state.dir, false).await.expect("a ledger");
        bench.record_everything(&opened.ledger).await;
        opened.ledger.close().await;
        bench
    }

    async fn record_everything(&self, ledger: &Ledger) {
        let (stream, manifests) = (&self.stream, Manifests::under(&self.config.state.dir));
        let (id, mut checkpoint) = ledger.checkpoint(stream).await.expect("a checkpoint");
        checkpoint.memory = remembered(self.now, None);
        checkpoint.listed_through = Some(self.now);
        let open = Day::at(shift(self.now, -3 * DAY));
        let day_of = |key: &String| stream.suffix(key).and_then(Day::of).expect("a dated key");
        for keys in self.keys.chunk_by(|a, b| day_of(a) == day_of(b)) {
            let day = day_of(&keys[0]);
            let records: Vec<_> = keys.iter().map(|key| self.record(key)).collect();
            let bytes = records.iter().map(|record| record.size).sum();
            if day >= open {
                let commit = Commit { inserted: records, ..Commit::default() };
                ledger.commit(stream, id, &commit, &checkpoint, self.now).await.expect("committed");
                continue;
            }
            let (source, prefix) = (stream.source.clone(), stream.prefix.clone());
            let header = Header {
                manifest: 1,
                source,
                prefix,
                day: day.0,
                generation: 1,
                previous: None,
                whole: true,
                after: None,
            };
            let claim = Claim::default();
            let written = manifests.write(stream, &header, &records, &claim.claimed()).expect("written");
            let generations = Generations { first: 1, last: 1, hash: written.hash };
            let sealed = SealedDay { day, generations, objects: records.len() as u64 };
            ledger.seal(stream, id, &sealed, written.bytes.len() as u64, &[]).await.expect("sealed");
            ledger.add_sealed(stream, id, sealed.objects, bytes).await.expect("counted");
        }
    }

    /// Length and tag are the source's own; the hash of the bytes plays no part in a listing.
    fn record(&self, key: &str) -> Record {
        let object = self.world().object(MILLION_BUCKET, key).expect("an object");
        Record {
            suffix: self.stream.suffix(key).expect("a key of the stream").to_owned(),
            size: object.size(),
            modified: object.modified,
            etag: ETag::new(&object.etag),
            sha256: sha256(key.as_bytes()),
            inflated: Some(sha256(object.etag.as_bytes())),
            gone: false,
            later: false,
            deleted: false,
        }
    }

    fn world(&self) -> &World {
        self.aws.world()
    }

    /// A hundred objects that are minutes old.
    fn deliver(&mut self) {
        self.batches += 1;
        let (now, batch) = (Timestamp::now(), self.batches);
        let objects = (0..NEW).map(|n| {
            let bound = self.stream.bound(shift(now, -MINUTE * i64::try_from(n % 10).expect("small")));
            let key = format!("{}{bound}Z_new{batch:02}x{n:010}.json.gz", self.stream.prefix);
            (key, ObjectSpec::generated(batch * 1_000 + n, 300).modified(now))
        });
        self.world().put_objects(MILLION_BUCKET, objects.collect::<Vec<_>>());
    }

    /// The pages that hold what was mirrored before and is dated `back` seconds ago or later.
    fn pages(&self, back: i64) -> u64 {
        let from = format!("{}{}", self.stream.prefix, self.stream.bound(shift(self.now, -back)));
        let objects = self.keys.len() - self.keys.partition_point(|key| *key < from);
        (objects as u64 + NEW * self.batches).div_ceil(1_000)
    }

    /// LIST and GET requests since the counters were reset.
    fn requests(&self) -> (u64, u64) {
        let counters = self.world().counters();
        (counters.total(Op::ListObjectsV2), counters.total(Op::GetObject))
    }
}

fn configuration(ready: &Ready, endpoint: &str, work: &Path) -> PathBuf {
    let file = |name: &str, text: &str| {
        let path = work.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        path
    };
    let key = &ready.keys["mirror"];
    let (id, secret) = (file("id", &key.access_key_id), file("secret", &key.secret_access_key));
    let text = format!(
        r#"
[http]
listen = "off"
[state]
dir = "{work}/state"
[source.million]
bucket = "{MILLION_BUCKET}"
region = "{}"
accounts = ["{CONSUMER_B}"]
destination = {{ path = "{work}/copy", allow_volatile = true }}
endpoints = {{ s3 = "{endpoint}", sts = "{endpoint}", path_style = true }}
credentials = {{ access_key_id_file = "{}", secret_access_key_file = "{}" }}
[source.million.role]
arn = "{}"
session_name = "trailsync"
"#,
        ready.region,
        id.display(),
        secret.display(),
        ready.roles["million"].arn,
        work = work.display(),
    );
    file("trailsync.toml", &text)
}

/// The listings of a daemon that runs: each tier is as fresh as its interval lets it be, but for the one that is `due`.
fn remembered(now: Timestamp, due: Option<Scope>) -> Memory {
    let mut memory = Memory::default();
    let scopes = [
        (Scope::Full, 10 * DAY, 31 * DAY),
        (Scope::Tier(35 * DAY), 5 * HOUR, 8 * DAY),
        (Scope::Tier(26 * HOUR), 3 * HOUR, 7 * HOUR),
        (Scope::Tier(2 * HOUR), 5 * MINUTE, 20 * MINUTE),
        (Scope::Tail, HOUR, 2 * DAY),
        (Scope::Poll, MINUTE, MINUTE),
    ];
    for (scope, fresh, stale) in scopes {
        // A deeper listing counts for the shallower: where one is due, none above it may be newer.
        let is_due = due.is_some_and(|due| depth(scope) >= depth(due) && scope != Scope::Full || scope == due);
        let age = match due {
            Some(Scope::Tier(wanted)) if is_due && scope != Scope::Tier(wanted) => 23 * HOUR,
            _ if is_due => stale,
            _ => fresh,
        };
        memory.complete(scope, shift(now, -age), shift(now, -age));
    }
    memory
}

fn depth(scope: Scope) -> i64 {
    match scope {
        Scope::Tier(depth) => depth,
        Scope::Full | Scope::Backfill => i64::MAX,
        Scope::Poll => 0,
        Scope::Tail => -1,
    }
}

async fn turn(parts: &Parts, progress: &mut Progress, poll: bool) -> Turn {
    let task =
        Task { poll, until: tokio::time::Instant::now() + Duration::from_secs(600), stop: CancellationToken::new() };
    parts.mirror.turn(progress, &task).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Polls a bucket of which all is mirrored but a hundred objects; then lists each of `scopes` as if it were due.
async fn measured(title: &str, bench: &mut Bench, scopes: &[Scope]) {
    let opened = Ledger::open(&bench.config.state.dir, false).await.expect("a ledger");
    let process = Process::new(Arc::new(SystemClock), BTreeMap::new());
    let parts = assemble(&bench.config, &opened.ledger, &process).await.expect("assembled").ready.remove(0);
    parts.keeper.ready().await.expect("a session");
    let mut progress = parts.mirror.resume(bench.stream.clone()).await.expect("a checkpoint");
    let mut table =
        format!("{title}: {} objects mirrored, {NEW} new\n  listing     LIST   GET  seconds\n", bench.keys.len());
    let mut row = |name: &str, (lists, gets): (u64, u64), began: Instant| {
        let _ = writeln!(table, "  {name:<10} {lists:>5} {gets:>5} {:>8.2}", began.elapsed().as_secs_f64());
    };

    bench.deliver();
    bench.world().reset_counters();
    let began = Instant::now();
    let did = turn(&parts, &mut progress, true).await;
    row("poll", bench.requests(), began);
    let (lists, gets) = bench.requests();
    assert_eq!(did, Turn { stored: NEW, unfinished: false }, "{title}: one turn finds what is new");
    assert!(lists <= 3, "{title}: a poll took {lists} LIST requests");
    assert_eq!(gets, NEW, "{title}: each new object is fetched once, and nothing else");

    for scope in scopes {
        let now = Timestamp::now();
        progress.checkpoint.memory = remembered(now, Some(*scope));
        bench.world().reset_counters();
        let began = Instant::now();
        if *scope == Scope::Full {
            parts.mirror.list_everything(&mut progress).await.expect("begun");
        }
        while turn(&parts, &mut progress, false).await.unfinished {}
        let (lists, gets) = bench.requests();
        row(&scope.name(), (lists, gets), began);
        // From when on: the depth before the last listing that counts.
        let most = match scope {
            Scope::Tier(depth) => bench.pages(depth + 8 * DAY),
            _ => bench.pages(10_000 * DAY),
        };
        assert!((1..=most + 2).contains(&lists), "{title}: {scope:?} took {lists} LIST requests for {most} pages");
        assert_eq!(gets, 0, "{title}: {scope:?} finds everything recorded");
    }
    println!("{table}");
    progress.checkpoint.memory = remembered(Timestamp::now(), None);
    let (stream, now) = (&progress.stream, Timestamp::now());
    opened.ledger.commit(stream, progress.id, &Commit::default(), &progress.checkpoint, now).await.expect("committed");
    assert!(opened.ledger.alarms(10).await.expect("readable").is_empty(), "{title}: nothing to alarm");
    opened.ledger.close().await;
}

/// Runs `trailsync sync`; what it said, and the most memory that it held at a time, in KiB.
async fn sync(bench: &Bench) -> (String, u64) {
    let file = bench.file.clone();
    let run = move || {
        let mut trailsync = Command::new(env!("CARGO_BIN_EXE_trailsync"));
        // What tests are told in the environment is no option of the program.
        let names = std::env::vars_os().map(|(name, _)| name);
        names.filter(|name| name.as_encoded_bytes().starts_with(b"TRAILSYNC_")).for_each(|name| {
            trailsync.env_remove(name);
        });
        let mut child = trailsync
            .arg("--config")
            .arg(file)
            .args(["--log", "warn", "sync", "--quiet"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("trailsync runs");
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        while child.try_wait().expect("asked").is_none() {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            peak = peak.max(resident(&text, "RssAnon:") + resident(&text, "RssShmem:"));
            std::thread::sleep(Duration::from_millis(5));
        }
        let done = child.wait_with_output().expect("ended");
        assert!(done.status.success(), "{}", done.status);
        (String::from_utf8_lossy(&done.stdout).trim().to_owned(), peak)
    };
    tokio::task::spawn_blocking(run).await.expect("joined")
}

/// A line of `/proc/<pid>/status`, in KiB; nothing once the process has ended.
fn resident(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

fn assert_small(title: &str, peak: u64) {
    println!("{title}: at most {:.1} MiB of its own resident", peak as f64 / 1024.0);
    assert!(peak > 1024, "{title}: memory was not measured");
    assert!(peak < MEMORY_KIB, "{title}: {peak} KiB of its own resident");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_of_a_large_bucket_over_400_days_costs_what_is_new_and_little_memory() {
    let mut bench = Bench::mirrored(&million()).await;
    measured("400 days", &mut bench, &[Scope::Tier(26 * HOUR), Scope::Tier(35 * DAY), Scope::Full]).await;
    bench.deliver();
    let (said, peak) = sync(&bench).await;
    println!("400 days, as a process: {said}");
    assert!(said.starts_with("100 objects"), "{said}");
    assert_small("400 days, a poll", peak);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_of_a_large_bucket_inside_35_days_costs_what_is_new_and_little_memory() {
    let mut bench = Bench::mirrored(&Million { days: 35, ..million() }).await;
    measured("35 days", &mut bench, &[Scope::Tier(26 * HOUR), Scope::Tier(35 * DAY)]).await;
    bench.deliver();
    let (said, peak) = sync(&bench).await;
    println!("35 days, as a process: {said}");
    assert!(said.starts_with("100 objects"), "{said}");
    assert_small("35 days, a poll", peak);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_dated_years_ahead_change_nothing_in_what_a_poll_costs() {
    let planted = number("MILLION_KEYS", LARGE);
    let mut bench = Bench::mirrored(&Million { keys: 20_000, days: 35, planted_future: planted, ..million() }).await;
    measured(&format!("{planted} keys planted in the future"), &mut bench, &[Scope::Tier(26 * HOUR)]).await;
}

/// Once every number of rows of a transaction stayed prepared as a statement of its own, and a first mirror grew by
/// almost a KiB an object.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_mirror_of_some_thousand_objects_needs_little_memory() {
    let keys = number("INITIAL_KEYS", 20_000);
    let bench = Bench::fresh(&Million { keys, days: 35, ..million() }).await;
    let (said, peak) = sync(&bench).await;
    println!("first mirror: {said}");
    assert!(said.starts_with(&format!("{keys} objects")), "{said}");
    assert_small("first mirror", peak);
}
