//! Kills at any moment lose nothing: the program is killed hundreds of times, and the copy stays true.
#![cfg(feature = "failpoints")]

#[path = "support/account.rs"]
mod account;
#[path = "support/archive.rs"]
mod archive;
#[path = "support/program.rs"]
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use account::{B, BUCKET, Shared};
use fakeaws::{ObjectSpec, Op};
use jiff::{SignedDuration, Timestamp};
use program::Program;
use serde_json::Value;
use tokio::process::Child;
use trailsync::layout::Stream;
use trailsync::ledger::Ledger;
use trailsync::manifest::Manifests;
use trailsync::path;
use trailsync::records::Records;

/// All points of the mirror; those of the proof are in `tests/proof_program.rs`.
const POINTS: [&str; 10] = [
    "staged",
    "synced",
    "renamed_some",
    "renamed",
    "dirs_synced",
    "keep_synced",
    "keep_renamed",
    "published",
    "committed",
    "manifest_written",
];
const HITS: u32 = 10;
const CYCLES: u32 = 300;
const LOGS: [&str; 16] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-north-1",
    "ap-south-1",
    "sa-east-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
];
const DIGESTS: [&str; 4] = ["us-east-1", "us-west-2", "eu-west-1", "ap-south-1"];
const SIGKILL: i32 = 9;
/// Few passes at once, so that commits are spread over the time in which the program may be killed.
const MORE: &str = "[source.acme.poll]\nevery = \"5s\"\nidle_every = \"5s\"\n[concurrency]\npasses = 2";

/// Account A, which delivers, and all that it ever delivered.
struct Deliveries {
    shared: Shared,
    bodies: BTreeMap<String, Vec<u8>>,
    random: fastrand::Rng,
}

impl Deliveries {
    async fn begin(seed: u64) -> Self {
        Self { shared: Shared::own_logs().await, bodies: BTreeMap::new(), random: fastrand::Rng::with_seed(seed) }
    }

    /// One file into one stream, named by `at`.
    fn deliver(&mut self, stream: usize, at: Timestamp) {
        let (kind, region) = match stream.checked_sub(LOGS.len()) {
            None => ("CloudTrail", LOGS[stream]),
            Some(digests) => ("CloudTrail-Digest", DIGESTS[digests]),
        };
        let name: String = std::iter::repeat_with(|| self.random.alphanumeric()).take(16).collect();
        let (day, minute) = (at.strftime("%Y/%m/%d"), at.strftime("%Y%m%dT%H%MZ"));
        let key = format!("AWSLogs/{B}/{kind}/{region}/{day}/{B}_{kind}_{region}_{minute}_{name}.json.gz");
        let object = ObjectSpec::generated(self.random.u64(..), self.random.u32(250..450));
        let object = if kind == "CloudTrail" { object } else { object.metadata("signature", &name) };
        self.bodies.insert(key.clone(), object.body.bytes().to_vec());
        self.shared.world.put_object(BUCKET, &key, object);
    }

    /// A few fresh files in every stream, and one in each whose day is sealed as soon as it is stored.
    fn deliver_round(&mut self, cycle: u32, old: bool) {
        let sealed: Timestamp = "2020-01-01T12:00:00Z".parse().expect("a time");
        let sealed = sealed + SignedDuration::from_hours(24 * i64::from(cycle));
        for stream in 0..LOGS.len() + DIGESTS.len() {
            for _ in 0..self.random.u32(1..=2) {
                self.deliver(stream, Timestamp::now());
            }
            if old {
                self.deliver(stream, sealed);
            }
        }
    }

    fn deliver_somewhere(&mut self) {
        let stream = self.random.usize(..LOGS.len() + DIGESTS.len());
        self.deliver(stream, Timestamp::now());
    }

    fn gets(&self) -> u64 {
        self.shared.world.counters().total(Op::GetObject)
    }

    /// Delivers while the program runs, until it is killed: by itself where it has been told to, else by
    /// this, after so many GETs and a moment more. `None` when it ended before.
    async fn until_killed(&mut self, child: &mut Child, gets: Option<u64>) -> Option<ExitStatus> {
        let from = self.gets();
        let limit = Instant::now() + Duration::from_secs(20);
        let (mut reached, mut more) = (None, 8);
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                return (status.signal() == Some(SIGKILL)).then_some(status);
            }
            if let Some(wanted) = gets
                && self.gets() >= from + wanted
            {
                let moment = Duration::from_micros(self.random.u64(..15_000));
                let at = *reached.get_or_insert_with(|| Instant::now() + moment);
                if Instant::now() >= at {
                    child.start_kill().expect("killed");
                    return Some(child.wait().await.expect("a child"));
                }
            }
            if more > 0 && self.random.u32(..16) == 0 {
                more -= 1;
                self.deliver_somewhere();
            }
            if Instant::now() >= limit {
                child.start_kill().expect("killed");
                child.wait().await.expect("a child");
                return None;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// What a killed program left behind, as nobody has touched it yet.
struct Remains {
    /// Rows and manifest lines by key: SHA-256 and size.
    records: BTreeMap<String, ([u8; 32], u64)>,
    /// Objects that each stream counts.
    counted: BTreeMap<String, u64>,
    alarms: usize,
}

impl Remains {
    /// Reads a copy of the state, so that looking mends nothing.
    async fn of(program: &Program, with_records: bool) -> Self {
        let copied = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        for (path, bytes) in program::files(&program.state()) {
            let to = copied.path().join(path);
            fs::create_dir_all(to.parent().expect("a parent")).expect("made");
            fs::write(to, bytes).expect("written");
        }
        let (mut records, mut counted) = (BTreeMap::new(), BTreeMap::new());
        // The first kills may come before there is a database; `assert_grown` tells when one was lost.
        let Ok(ledger) = Ledger::look(copied.path()).await else {
            return Self { records, counted, alarms: 0 };
        };
        let manifests = Manifests::under(copied.path());
        for row in ledger.checkpoints().await.expect("readable") {
            let probe = format!("{}x", row.prefix);
            let stream = Stream::of_key(&row.source, "AWSLogs/", &probe).expect("a stream");
            let mut all = Records::from(&ledger, &manifests, &stream, row.id, "");
            while with_records && let Some(record) = all.next().await.expect("readable") {
                let key = format!("{}{}", stream.prefix, record.suffix);
                assert!(records.insert(key, (record.sha256, record.size)).is_none(), "a key is recorded twice");
            }
            counted.insert(row.prefix, row.objects);
        }
        let alarms = ledger.alarms(10).await.expect("readable").len();
        ledger.close().await;
        Self { records, counted, alarms }
    }
}

/// The tree as anybody may see it at any moment.
#[derive(Default)]
struct Seen {
    known: BTreeSet<String>,
}

impl Seen {
    /// Every visible copy has all its bytes; with `all`, those that were right before are read again.
    fn check(&mut self, tree: &Path, bodies: &BTreeMap<String, Vec<u8>>, all: bool) {
        let mut visible = BTreeSet::new();
        visit(tree, String::new(), &mut |path| {
            if !all && self.known.contains(&path) {
                visible.insert(path);
                return;
            }
            let named = path::identify(&path).unwrap_or_else(|| panic!("{path} is nobody's"));
            assert_eq!(named.version, None, "{path} is a second version, and no object was ever replaced");
            if named.part == path::Part::Object {
                let body = bodies.get(&named.key).unwrap_or_else(|| panic!("{path} was never delivered"));
                assert!(fs::read(tree.join(&path)).expect("readable") == *body, "{path} is not whole");
                if named.key.contains("Digest") {
                    let beside = path::of(&named.key, None, path::Part::Metadata).expect("a path");
                    let json = fs::read(tree.join(beside)).expect("an object that is seen has its metadata");
                    serde_json::from_slice::<Value>(&json).expect("whole");
                }
            }
            visible.insert(path);
        });
        assert!(self.known.is_subset(&visible), "a copy disappeared");
        self.known = visible;
    }

    fn objects(&self) -> usize {
        self.known.iter().filter(|path| !path.ends_with("%_meta.json")).count()
    }
}

fn visit(root: &Path, below: String, each: &mut impl FnMut(String)) {
    let Ok(entries) = fs::read_dir(root.join(&below)) else { return };
    for entry in entries {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        if below.is_empty() && name == ".trailsync" {
            continue;
        }
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            visit(root, path, each);
        } else {
            assert!(kind.is_file(), "{path}");
            each(path);
        }
    }
}

fn staged(program: &Program) -> BTreeSet<String> {
    program::files(&program.tree().join(".trailsync/stage")).into_keys().collect()
}

/// Files are a superset of what is recorded, and of what is recorded every byte is right.
fn assert_recorded_is_here(remains: &Remains, deliveries: &Deliveries, seen: &Seen) {
    for (key, (sha256, size)) in &remains.records {
        let body = deliveries.bodies.get(key).expect("delivered");
        assert_eq!((*sha256, *size), (trailsync::manifest::sha256(body), body.len() as u64), "{key}");
        assert!(seen.known.contains(&path::encode(key)), "{key} is recorded and not here");
    }
    for (prefix, counted) in &remains.counted {
        let rows = remains.records.keys().filter(|key| key.starts_with(prefix)).count();
        assert_eq!(rows as u64, *counted, "{prefix} counts objects twice or not at all");
    }
    assert_eq!(remains.alarms, 0, "nothing happened to any object, and somebody is alarmed");
}

/// What was committed once stays committed.
fn assert_grown(before: &Remains, after: &Remains) {
    for (prefix, counted) in &before.counted {
        assert!(after.counted.get(prefix).is_some_and(|now| now >= counted), "{prefix} lost rows that were committed");
    }
}

/// Commits that recorded objects, at least: the streams that gained some.
fn commits_between(before: &Remains, after: &Remains) -> usize {
    let gained = |(prefix, counted): &(&String, &u64)| before.counted.get(*prefix).copied().unwrap_or(0) < **counted;
    after.counted.iter().filter(gained).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_kills_at_any_moment_lose_nothing_and_show_nothing_half() {
    let cycles = std::env::var("KILL_CYCLES").map_or(CYCLES, |text| text.parse().expect("a number"));
    let seed = std::env::var("KILL_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().expect("a number"));
    println!("KILL_SEED={seed}");
    let mut deliveries = Deliveries::begin(seed).await;
    let program = Program::new(&deliveries.shared, "", MORE);
    let mut seen = Seen::default();
    let mut left_staged = BTreeSet::new();
    let mut hits: BTreeMap<&str, u32> = POINTS.iter().map(|point| (*point, 0)).collect();
    let (mut kills, mut commits) = (0, 0);
    let began = Instant::now();
    let mut remains = Remains::of(&program, false).await;
    let mut cycle = 0;
    while cycle < cycles {
        // Two of five cycles end at a named point, at those first that were hit least.
        let point =
            [2, 4].contains(&(cycle % 5)).then(|| POINTS.iter().min_by_key(|point| hits[*point]).expect("a point"));
        deliveries.deliver_round(cycle, point.is_some());
        let command = if point.is_some() {
            &["sync", "-q", "--full"][..]
        } else {
            // The daemon waits until streams are due, so it is killed less often.
            [&["run"][..], &["sync", "-q"]][usize::from(cycle % 6 > 0)]
        };
        let mut command = program.command(command);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        if let Some(point) = point {
            command.env("TRAILSYNC_FAILPOINT", format!("{point}:{}", deliveries.random.u32(10..=19)));
        }
        let mut child = command.spawn().expect("the program starts");
        let gets = point.is_none().then(|| deliveries.random.u64(2..=42));
        let killed = deliveries.until_killed(&mut child, gets).await;
        kills += u32::from(killed.is_some());
        if let (Some(point), Some(_)) = (point, killed) {
            *hits.get_mut(point).expect("a point") += 1;
        }
        let thorough = cycle % 10 == 9;
        let after = Remains::of(&program, thorough).await;
        seen.check(&program.tree(), &deliveries.bodies, thorough);
        if thorough {
            assert_recorded_is_here(&after, &deliveries, &seen);
        }
        assert_grown(&remains, &after);
        let gained = commits_between(&remains, &after);
        commits += gained;
        let staged = staged(&program);
        if gained > 0 {
            assert!(staged.is_disjoint(&left_staged), "the next start left what an earlier process had staged");
        }
        (remains, left_staged) = (after, staged);
        cycle += 1;
        if thorough {
            println!("{cycle} cycles in {:?}: {kills} kills, {commits} commits or more", began.elapsed());
        }
    }
    assert_all_is_here(&program, &deliveries, &mut seen).await;
    println!("{kills} kills in {cycles} cycles, {commits} commits at least, {} objects, {hits:?}", seen.objects());
    assert!(kills >= cycles * 9 / 10, "{kills} of {cycles} cycles ended by a kill");
    assert!(commits >= 5 * cycles as usize, "{commits} commits in {cycles} cycles");
    assert!(hits.values().all(|hits| *hits >= cycles * HITS / CYCLES), "{hits:?}");
}

/// Listed = rows = files = hashes, once the program may end by itself.
async fn assert_all_is_here(program: &Program, deliveries: &Deliveries, seen: &mut Seen) {
    let ended = program.run(&["sync", "-q", "--full"]).await;
    assert!(ended.status.success(), "{ended:?}");
    let remains = Remains::of(program, true).await;
    seen.check(&program.tree(), &deliveries.bodies, true);
    assert_recorded_is_here(&remains, deliveries, seen);
    let listed: Vec<String> = deliveries.shared.world.keys(BUCKET, "");
    assert!(remains.records.keys().eq(&listed), "{} listed, {} recorded", listed.len(), remains.records.len());
    assert_eq!(seen.objects(), listed.len());
    assert!(program.copies() == deliveries.bodies);
    assert_eq!(staged(program), BTreeSet::new(), "something is still staged");
    assert_eq!(program.beside(), ["id", "key", "state", "trailsync.toml", "tree"]);
    let status = program.run(&["status", "--json"]).await;
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["accounts"][0]["objects"], listed.len(), "{}", status["summary"]);
    let gets = deliveries.gets();
    let again = program.run(&["sync", "-q", "--full"]).await;
    assert!(again.status.success() && deliveries.gets() == gets, "what is here was fetched again");
}
