//! A trail of A's that signs digests, a mirror of B's in front of it, and a clock that both follow.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fakeaws::digests::{Digest, Link, LogFile, SigningKey};
use fakeaws::{BucketSpec, FakeAws, FakeClock, ObjectSpec, Op, World, policies};
use flate2::Compression;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trailsync::assemble::wanted;
use trailsync::clock::{ManualClock, Timestamp, shift};
use trailsync::config::{self, Input, load};
use trailsync::destination::memory::Memory;
use trailsync::discover::discover;
use trailsync::gate::Gate;
use trailsync::keyring::{CloudTrail, Keyring};
use trailsync::ledger::{AlarmRow, ChainRow, Ledger};
use trailsync::manifest::Manifests;
use trailsync::mirror::{self, Mirror, Permits, Task};
use trailsync::prove::{self, Prover};
use trailsync::role::{Keeper, Process};
use trailsync::share::Share;
use trailsync::source::s3::S3Source;

use crate::account::{A, B, BUCKET, REGION};

pub const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;

/// One trail of A's, of which one account and region are looked at.
#[derive(Clone)]
pub struct Trail {
    pub name: &'static str,
    pub last: Option<Link>,
    /// Delivered since the last digest.
    waiting: Vec<LogFile>,
    pub covered: Timestamp,
}

/// Everything.
pub struct Bench {
    pub world: World,
    pub clock: FakeClock,
    pub ours: ManualClock,
    pub source: config::Source,
    pub ledger: Ledger,
    pub copy: Memory,
    pub mirror: Arc<Mirror<S3Source, Memory>>,
    pub prover: Arc<Prover<S3Source, Memory>>,
    pub trail: Trail,
    user: String,
    keeper: Arc<Keeper>,
    process: Process,
    numbers: u32,
    manifests: TempDir,
    _aws: FakeAws,
}

impl Bench {
    pub async fn new() -> Self {
        Self::with("").await
    }

    /// With further options of the source.
    pub async fn with(more: &str) -> Self {
        let start: Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
        let (clock, ours) = (FakeClock::fixed_at(start), ManualClock::at(start));
        let world = World::new(clock.clone());
        world.add_bucket(BucketSpec::new(BUCKET, A, REGION));
        world.take_any_signing_time();
        let user = format!("arn:aws:iam::{B}:user/mirror");
        let key = world.add_user(B, "mirror", policies::everything());
        world.set_bucket_policy(BUCKET, Some(policies::bucket_read_for(BUCKET, &user)));
        let aws = FakeAws::start(world.clone()).await.unwrap();
        let environment =
            BTreeMap::from([("B_KEY".to_owned(), key.id.clone()), ("B_SECRET".to_owned(), key.secret.clone())]);
        let source = source(&aws.endpoint(), &environment, more, start);
        let process = Process::new(Arc::new(ours.clone()), environment);
        let keeper = Keeper::connect(&source, &process, 7).unwrap();
        let ledger = Ledger::in_memory().await.unwrap();
        let (copy, manifests) = (Memory::new(), tempfile::tempdir().unwrap());
        let (mirror, prover) = parts(&source, &process, &keeper, &ledger, &copy, &manifests);
        let trail = Trail { name: "all_of-it.v1", last: None, waiting: Vec::new(), covered: start };
        keeper.ready().await.unwrap();
        Self {
            world,
            clock,
            ours,
            source,
            ledger,
            copy,
            mirror,
            prover,
            trail,
            user,
            keeper,
            process,
            numbers: 0,
            manifests,
            _aws: aws,
        }
    }

    /// The process ends and starts again, with what is on disk.
    pub fn restart(&mut self) {
        let parts = parts(&self.source, &self.process, &self.keeper, &self.ledger, &self.copy, &self.manifests);
        (self.mirror, self.prover) = parts;
    }

    /// Brings the state to what a version without a proof left.
    pub async fn forget_the_proof(&mut self) {
        self.ledger.forget_proof().await.unwrap();
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn advance(&self, seconds: i64) {
        self.clock.advance(Duration::from_secs(seconds.unsigned_abs()));
        self.ours.set(self.clock.now());
    }

    pub fn allow_keys(&self, allowed: bool) {
        let policy = if allowed { policies::everything() } else { policies::read_all(BUCKET) };
        assert!(self.world.set_user_policy(&self.user, policy));
    }

    /// A log is delivered now, named as of so many seconds ago; the next digest names it.
    pub fn log(&mut self, age: i64) -> String {
        let key = self.unnamed_log(age);
        let body = self.world.body(BUCKET, &key).unwrap();
        self.name_log(&key, &body);
        key
    }

    /// The trail's next digest names this log with these bytes, whether or not they are there.
    pub fn name_log(&mut self, key: &str, gzip: &[u8]) {
        let mut inflated = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip), &mut inflated).unwrap();
        let now = self.now().to_string();
        self.trail.waiting.push(LogFile {
            bucket: BUCKET.into(),
            object: key.to_owned(),
            hash_value: hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &inflated)),
            hash_algorithm: "SHA-256".into(),
            newest_event_time: now.clone(),
            oldest_event_time: now,
        });
    }

    /// The next digest calls a log by another name.
    pub fn rename_waiting(&mut self, from: &str, to: &str) {
        for log in self.trail.waiting.iter_mut().filter(|log| log.object == from) {
            to.clone_into(&mut log.object);
        }
    }

    /// A log that no digest names.
    pub fn unnamed_log(&mut self, age: i64) -> String {
        self.numbers += 1;
        let at = shift(self.now(), -age).to_string();
        let (day, minute) = (at[..10].replace('-', "/"), at[..16].replace(['-', ':'], ""));
        let key = format!(
            "AWSLogs/{B}/CloudTrail/{REGION}/{day}/{B}_CloudTrail_{REGION}_{minute}Z_{:016}.json.gz",
            self.numbers
        );
        let text = format!("{{\"Records\":[{}]}}", self.numbers);
        self.world.put_object(BUCKET, &key, ObjectSpec::log(gzip(text.as_bytes())).modified(self.now()));
        key
    }

    /// The trail's digest up to now.
    pub fn digest(&mut self) -> String {
        let digest = self.next_digest();
        self.put(digest)
    }

    /// The trail's next digest, not delivered yet; the chain goes on behind it all the same.
    pub fn next_digest(&mut self) -> Digest {
        let end = self.now();
        let stamp = end.to_string().replace(['-', ':'], "");
        let day = end.to_string()[..10].replace('-', "/");
        let name = self.trail.name;
        let object = format!(
            "AWSLogs/{B}/CloudTrail-Digest/{REGION}/{day}/{B}_CloudTrail-Digest_{REGION}_{name}_us-east-2_{stamp}.json.gz"
        );
        let digest = Digest {
            aws_account_id: B.into(),
            digest_start_time: self.trail.covered.to_string(),
            digest_end_time: end.to_string(),
            bucket: BUCKET.into(),
            object,
            log_files: std::mem::take(&mut self.trail.waiting),
            ..Digest::default()
        };
        self.trail.covered = end;
        digest.after(self.trail.last.as_ref())
    }

    /// Signs and delivers a digest, with the key of its time.
    pub fn put(&mut self, digest: Digest) -> String {
        let key = SigningKey::of(REGION, self.now());
        self.world.add_public_key(REGION, key.public.clone());
        self.put_with(digest, &key)
    }

    pub fn put_with(&mut self, digest: Digest, key: &SigningKey) -> String {
        let object = digest.object.clone();
        self.trail.last = Some(digest.put(&self.world, key, self.now()));
        object
    }

    /// A backfill digest of the present hour that names one log.
    pub fn backfill(&mut self, log: &str) -> String {
        let before = self.trail.clone();
        let body = self.world.body(BUCKET, log).unwrap();
        self.trail.waiting.clear();
        self.name_log(log, &body);
        let mut digest = self.next_digest();
        digest.object = digest.object.replace(".json.gz", "_backfill.json.gz");
        let digest = digest.after(None);
        let key = self.put(digest);
        let made = self.now().to_string();
        let object = self.hold_back(&key).metadata("backfill-generation-timestamp", &made);
        self.world.put_object(BUCKET, &key, object);
        self.trail = before;
        key
    }

    /// We may list what is our own, as `trailsync policy` prints it: of what is missing we are only told that it is denied.
    pub fn list_own_logs_only(&self) {
        let keys = json!({"Effect": "Allow", "Action": "cloudtrail:ListPublicKeys", "Resource": "*"});
        let policy = policies::with(&policies::read_own_logs(BUCKET, "", B), keys);
        assert!(self.world.set_user_policy(&self.user, policy));
    }

    /// Takes an object out of the bucket, to be delivered later.
    pub fn hold_back(&self, key: &str) -> ObjectSpec {
        let stored = self.world.object(BUCKET, key).unwrap();
        let object =
            ObjectSpec { body: stored.body.clone(), metadata: stored.metadata.clone(), ..ObjectSpec::log(Vec::new()) };
        assert!(self.world.delete_object(BUCKET, key));
        object
    }

    /// So many hours with a log and a digest each.
    pub async fn hours(&mut self, hours: usize) {
        for _ in 0..hours {
            self.log(120);
            self.advance(HOUR);
            self.digest();
            self.advance(300);
            self.settle().await;
        }
    }

    /// Every stream is listed, and what waits is proved, until nothing more happens.
    pub async fn settle(&mut self) {
        self.list().await;
        self.prove().await;
    }

    /// Every stream that can be found takes its turn.
    pub async fn list(&self) {
        let found = discover(self.mirror.source(), &wanted(&self.source)).await.unwrap();
        for stream in found.streams {
            self.take_turn(stream).await;
        }
    }

    /// What waits is proved; what is to be fetched at once is.
    pub async fn prove(&self) {
        for _ in 0..500 {
            let proved = self.prover.turn(&CancellationToken::new()).await.unwrap();
            if proved.wake.is_empty() && !proved.more {
                return;
            }
            for stream in proved.wake {
                self.take_turn(stream).await;
            }
        }
        panic!("the prover does not come to rest");
    }

    pub async fn take_turn(&self, stream: trailsync::layout::Stream) {
        let mut progress = self.mirror.resume(stream).await.unwrap();
        loop {
            let until = Instant::now() + Duration::from_secs(60);
            let task = Task { poll: true, until, stop: CancellationToken::new() };
            if !self.mirror.turn(&mut progress, &task).await.unwrap().unfinished {
                return;
            }
        }
    }

    pub async fn chains(&self) -> Vec<ChainRow> {
        self.ledger.chains().await.unwrap()
    }

    /// How far the only chain is proved.
    pub async fn through(&self) -> Option<Timestamp> {
        let chains = self.chains().await;
        assert_eq!(chains.len(), 1, "{chains:?}");
        chains[0].proven_through
    }

    pub async fn held(&self) -> String {
        self.chains().await[0].held_why.clone().unwrap_or_default()
    }

    pub async fn alarms(&self) -> Vec<AlarmRow> {
        self.ledger.alarms(1000).await.unwrap()
    }

    /// Kinds and subjects of what is alarmed.
    pub async fn alarmed(&self) -> Vec<(String, String)> {
        let mut alarmed: Vec<_> = self.alarms().await.into_iter().map(|alarm| (alarm.kind, alarm.subject)).collect();
        alarmed.sort_unstable();
        alarmed
    }

    pub fn gets(&self) -> u64 {
        self.world.counters().total(Op::GetObject)
    }

    pub fn lists(&self) -> u64 {
        self.world.counters().total(Op::ListObjectsV2)
    }
}

type Made = (Arc<Mirror<S3Source, Memory>>, Arc<Prover<S3Source, Memory>>);

fn parts(
    source: &config::Source,
    process: &Process,
    keeper: &Arc<Keeper>,
    ledger: &Ledger,
    copy: &Memory,
    manifests: &TempDir,
) -> Made {
    let http = process.http.get(&source.endpoints).unwrap();
    let bucket = S3Source::new(source, keeper.clone(), http.clone());
    let rules = mirror::Rules {
        poll: source.poll.clone(),
        since: source.since,
        retention: None,
        ledger_days: 3,
        in_flight: 8,
        pace: 0.01,
        random: || 0.5,
    };
    let permits = Permits { source: Arc::new(Gate::new(8)), process: Share::alone(8) };
    let manifests = Manifests::under(manifests.path());
    let clock = process.clock.clone();
    let mirror =
        Mirror::new(Arc::new(bucket), Arc::new(copy.clone()), ledger.clone(), manifests, clock, rules, permits);
    let mirror = Arc::new(mirror);
    let service = CloudTrail::new(&source.endpoints, keeper.clone(), http);
    let keyring = Keyring::new(&source.name, &source.region, Arc::new(service), ledger.clone());
    let grace = i64::try_from(source.proof.grace.as_secs()).unwrap();
    let rules = prove::Rules { bucket: source.bucket.clone(), wanted: wanted(source), since: source.since, grace };
    (mirror.clone(), Arc::new(Prover::new(mirror, keyring, rules)))
}

fn source(endpoint: &str, environment: &BTreeMap<String, String>, more: &str, now: Timestamp) -> config::Source {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trailsync.toml");
    let text = format!(
        "[source.acme]\nbucket = \"{BUCKET}\"\nregion = \"{REGION}\"\nbucket_owner = \"{A}\"\naccounts = [\"{B}\"]\n\
         destination = {{ path = \"/srv/trails\" }}\n\
         credentials = {{ access_key_id_env = \"B_KEY\", secret_access_key_env = \"B_SECRET\" }}\n\
         endpoints = {{ s3 = \"{endpoint}\", sts = \"{endpoint}\", cloudtrail = \"{endpoint}\", path_style = true }}\n{more}"
    );
    std::fs::write(&path, text).unwrap();
    let input = Input { file: Some(path), environment: environment.clone(), overrides: Vec::new(), now };
    let loaded = load(&input).unwrap_or_else(|refused| panic!("{refused}"));
    loaded.config.sources.into_values().next().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}
