//! Kills at any moment lose nothing in a bucket either: what is recorded is there, what is there is whole, and no
//! upload stays open.
#![cfg(feature = "failpoints")]

#[path = "support/account.rs"]
mod account;
#[path = "support/archive.rs"]
mod archive;
#[path = "support/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use account::{B, BUCKET, Shared};
use archive::{ARCHIVE, Archive, copies};
use fakeaws::{ObjectSpec, Op};
use jiff::{SignedDuration, Timestamp};
use program::Program;
use trailsync::layout::Stream;
use trailsync::ledger::Ledger;
use trailsync::manifest::{Manifests, sha256};
use trailsync::records::Records;

/// The points that a bucket has of its own, and those around a commit.
const POINTS: [&str; 8] = [
    "bucket_put",
    "bucket_part",
    "bucket_parts",
    "bucket_completed",
    "bucket_kept",
    "published",
    "committed",
    "manifest_written",
];
const CYCLES: u32 = 30;
const SIGKILL: i32 = 9;
const LARGE: usize = 6 << 20;
const REGIONS: [&str; 4] = ["us-east-1", "eu-west-1", "eu-north-1", "ap-south-1"];

struct Deliveries {
    shared: Shared,
    bodies: BTreeMap<String, Vec<u8>>,
    random: fastrand::Rng,
}

impl Deliveries {
    fn deliver(&mut self, kind: &str, region: &str, at: Timestamp, size: usize) {
        let name: String = std::iter::repeat_with(|| self.random.alphanumeric()).take(16).collect();
        let (day, minute) = (at.strftime("%Y/%m/%d"), at.strftime("%Y%m%dT%H%MZ"));
        let key = format!("AWSLogs/{B}/{kind}/{region}/{day}/{B}_{kind}_{region}_{minute}_{name}.json.gz");
        let object = if size > 1_000 {
            // Noise does not compress: the object is as large as what it holds.
            let noise: Vec<u8> = std::iter::repeat_with(|| self.random.u8(..)).take(size).collect();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
            gzip.write_all(&noise).expect("in memory");
            ObjectSpec::log(gzip.finish().expect("in memory"))
        } else {
            ObjectSpec::generated(self.random.u64(..), size as u32)
        };
        let object = object.metadata("signature", &name);
        self.bodies.insert(key.clone(), object.body.bytes().to_vec());
        self.shared.world.put_object(BUCKET, &key, object);
    }

    /// Fresh files in every stream, one whose day is sealed at once, and one that goes up in parts.
    fn deliver_round(&mut self, cycle: u32) {
        let old: Timestamp = "2020-01-01T12:00:00Z".parse().expect("a time");
        let old = old + SignedDuration::from_hours(24 * i64::from(cycle));
        for region in REGIONS {
            for _ in 0..self.random.usize(2..6) {
                self.deliver("CloudTrail", region, Timestamp::now(), 400);
            }
            self.deliver("CloudTrail-Digest", region, old, 300);
        }
        self.deliver("CloudTrail", REGIONS[0], Timestamp::now(), LARGE);
    }

    /// What is in the bucket is whole and was delivered, with the signatures of digests.
    fn check_copies(&self) -> usize {
        let copies = copies(&self.shared);
        for ((key, version), bytes) in &copies {
            assert_eq!(*version, None, "{key} is a second version, and no object was ever replaced");
            assert!(self.bodies.get(key) == Some(bytes), "{key} is not what was delivered");
            if key.contains("Digest") {
                let copy = self.shared.world.object(ARCHIVE, &format!("{}/{key}", archive::PREFIX)).expect("a copy");
                assert!(key.contains(&copy.metadata["signature"]), "{key} has another's signature");
            }
        }
        copies.len()
    }
}

/// Hashes of all that is recorded, read from a copy of the state.
async fn recorded(program: &Program) -> BTreeMap<String, [u8; 32]> {
    let copied = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    for (path, bytes) in program::files(&program.state()) {
        let to = copied.path().join(path);
        std::fs::create_dir_all(to.parent().expect("a parent")).expect("made");
        std::fs::write(to, bytes).expect("written");
    }
    let mut records = BTreeMap::new();
    // The first kills may come before there is a database.
    let Ok(ledger) = Ledger::look(copied.path()).await else { return records };
    let manifests = Manifests::under(copied.path());
    for row in ledger.checkpoints().await.expect("readable") {
        let stream = Stream::of_key(&row.source, "AWSLogs/", &format!("{}x", row.prefix)).expect("a stream");
        let mut all = Records::from(&ledger, &manifests, &stream, row.id, "");
        while let Some(record) = all.next().await.expect("readable") {
            let key = format!("{}{}", stream.prefix, record.suffix);
            assert!(records.insert(key, record.sha256).is_none(), "a key is recorded twice");
        }
    }
    let alarms = ledger.alarms(10).await.expect("readable");
    assert!(alarms.is_empty(), "nothing happened to any object: {alarms:?}");
    ledger.close().await;
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_lose_nothing_and_leave_no_upload_open() {
    let cycles = std::env::var("KILL_ARCHIVE_CYCLES").map_or(CYCLES, |text| text.parse().expect("a number"));
    let seed = std::env::var("KILL_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().expect("a number"));
    println!("KILL_SEED={seed}");
    let shared = Shared::own_logs().await;
    let archive = Archive::new(&shared);
    let program = Program::archiving(&shared, &archive, "");
    let mut deliveries = Deliveries { shared, bodies: BTreeMap::new(), random: fastrand::Rng::with_seed(seed) };
    let (mut kills, mut orphans, mut hits) = (0, 0, BTreeMap::<&str, u32>::new());
    let mut before = BTreeMap::new();
    for cycle in 0..cycles {
        deliveries.deliver_round(cycle);
        // Two of three cycles end at a named point, one anywhere.
        let point = (cycle % 3 != 2).then(|| POINTS[(cycle - cycle / 3) as usize % POINTS.len()]);
        let mut command = program.command(&["sync", "-q", "--full"]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        if let Some(point) = point {
            let most = if point.starts_with("bucket_p") && point != "bucket_put" { 1 } else { 4 };
            command.env("TRAILSYNC_FAILPOINT", format!("{point}:{}", deliveries.random.u32(1..=most)));
        }
        let mut child = command.spawn().expect("the program starts");
        let puts = |deliveries: &Deliveries| {
            let counters = deliveries.shared.world.counters();
            counters.total(Op::PutObject) + counters.total(Op::UploadPart)
        };
        let (from, wanted) = (puts(&deliveries), deliveries.random.u64(1..20));
        let limit = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
            if (point.is_none() && puts(&deliveries) >= from + wanted) || Instant::now() >= limit {
                child.start_kill().expect("killed");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        if status.signal() == Some(SIGKILL) {
            kills += 1;
            *hits.entry(point.unwrap_or("anywhere")).or_default() += 1;
        }
        orphans += deliveries.shared.world.open_uploads(ARCHIVE).len();
        deliveries.check_copies();
        let (after, copies) = (recorded(&program).await, copies(&deliveries.shared));
        for (key, hash) in &after {
            let copy = copies.get(&(key.clone(), None)).unwrap_or_else(|| panic!("{key} is recorded and not there"));
            assert_eq!(sha256(copy), *hash, "{key}");
        }
        assert!(before.keys().all(|key| after.contains_key(key)), "what was committed stays committed");
        before = after;
    }
    let open = deliveries.shared.world.open_uploads(ARCHIVE).len();
    let ended = program.run(&["sync", "-q", "--full"]).await;
    assert!(ended.status.success(), "{ended:?}");
    let counted = format!("Aborted {open} uploads that an earlier run had left open");
    assert!(open == 0 || String::from_utf8_lossy(&ended.stderr).contains(&counted), "{ended:?}");
    assert_eq!(deliveries.check_copies(), deliveries.bodies.len());
    assert_eq!(recorded(&program).await.len(), deliveries.bodies.len());
    assert_eq!(deliveries.shared.world.open_uploads(ARCHIVE), Vec::<String>::new(), "an upload was left open");
    assert_eq!(program::files(&program.state().join("spool")).len(), 0, "something still waits");
    println!("{kills} kills in {cycles} cycles, {orphans} uploads found open after them, {hits:?}");
    assert!(kills >= cycles * 8 / 10, "{kills} of {cycles} cycles ended by a kill");
    assert!(orphans > 0, "no kill came while an upload was open");
    assert!(POINTS.iter().all(|point| hits.contains_key(point) || cycles < CYCLES), "{hits:?}");
}
