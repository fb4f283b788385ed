//! A mirror, a prover and a scrubber over a real tree, with a clock of our own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fakeaws::ObjectSpec;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use trailsync::assemble::wanted;
use trailsync::config::{Destination, Source};
use trailsync::destination::local::Local;
use trailsync::discover::discover;
use trailsync::gate::Gate;
use trailsync::keyring::{CloudTrail, Keyring};
use trailsync::ledger::Ledger;
use trailsync::manifest::Manifests;
use trailsync::mirror::{self, Mirror, Permits, Task};
use trailsync::prove::{self, Prover};
use trailsync::role::Keeper;
use trailsync::scrub::{self, Pace, Scrubber, Timing};
use trailsync::share::Share;
use trailsync::source::s3::S3Source;

use crate::account::{B, BUCKET, REGION, Shared};

/// Time that passes only while somebody waits.
#[derive(Clone, Default)]
pub struct Waited(Arc<Mutex<Duration>>, Arc<Mutex<Option<Does>>>);

type Does = Box<dyn Fn() + Send>;

impl Waited {
    pub fn total(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    /// Does something whenever somebody is about to wait.
    pub fn before_each(&self, does: impl Fn() + Send + 'static) {
        *self.1.lock().unwrap() = Some(Box::new(does));
    }
}

impl Timing for Waited {
    fn now(&self) -> Duration {
        self.total()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        *self.0.lock().unwrap() += duration;
        if let Some(does) = &*self.1.lock().unwrap() {
            does();
        }
        Box::pin(std::future::ready(()))
    }
}

pub struct Bench {
    pub shared: Shared,
    pub ledger: Ledger,
    pub waited: Waited,
    pub dir: TempDir,
    pub keys: Vec<String>,
    source: Source,
    keeper: Arc<Keeper>,
    mirror: Arc<Mirror<S3Source, Local>>,
}

impl Bench {
    /// So many logs of one day, mirrored.
    pub async fn new(logs: usize) -> Self {
        let shared = Shared::own_logs().await;
        let minute = jiff::Timestamp::now().strftime("%Y%m%dT0000Z").to_string();
        let day = format!("{}/{}/{}", &minute[..4], &minute[4..6], &minute[6..8]);
        let key = |n| format!("AWSLogs/{B}/CloudTrail/{REGION}/{day}/{B}_CloudTrail_{REGION}_{minute}_{n:016}.json.gz");
        let keys: Vec<String> = (0..logs).map(key).collect();
        for (n, key) in keys.iter().enumerate() {
            shared.world.put_object(BUCKET, key, ObjectSpec::generated(n as u64, 400));
        }
        let source = shared.source("", &format!("accounts = [\"{B}\"]"));
        let (keeper, bucket) = shared.kept_bucket(&source);
        keeper.ready().await.unwrap();
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let ledger = Ledger::in_memory().await.unwrap();
        let mirror = Arc::new(mirror_of(&source, bucket, &dir, &ledger));
        let bench = Self { shared, ledger, waited: Waited::default(), dir, keys, source, keeper, mirror };
        bench.mirror_all().await;
        bench
    }

    async fn mirror_all(&self) {
        let found = discover(self.mirror.source(), &wanted(&self.source)).await.unwrap();
        for stream in found.streams {
            let mut progress = self.mirror.resume(stream).await.unwrap();
            let until = tokio::time::Instant::now() + Duration::from_secs(60);
            let task = Task { poll: true, until, stop: CancellationToken::new() };
            while self.mirror.turn(&mut progress, &task).await.unwrap().unfinished {}
        }
    }

    /// A scrubber as a new process makes one.
    pub fn scrubber(&self, objects_a_turn: u64, rate: Option<u64>) -> Scrubber<S3Source, Local> {
        let process = self.shared.process();
        let http = process.http.get(&self.source.endpoints).unwrap();
        let service = CloudTrail::new(&self.source.endpoints, self.keeper.clone(), http);
        let keyring = Keyring::new(&self.source.name, &self.source.region, Arc::new(service), self.ledger.clone());
        let wanted = wanted(&self.source);
        let rules = prove::Rules { bucket: BUCKET.into(), wanted: wanted.clone(), since: None, grace: 10_800 };
        let prover = Arc::new(Prover::new(self.mirror.clone(), keyring, rules));
        let pace = Arc::new(Pace::new(rate, self.waited.clone()));
        let rules = scrub::Rules { wanted, every: 3600, pace, objects_a_turn };
        Scrubber::new(self.mirror.clone(), prover, rules)
    }

    pub fn path(&self, key: &str) -> std::path::PathBuf {
        self.dir.path().join("tree").join(key)
    }
}

fn mirror_of(source: &Source, bucket: S3Source, dir: &TempDir, ledger: &Ledger) -> Mirror<S3Source, Local> {
    let options = Destination {
        path: dir.path().join("tree"),
        file_mode: 0o640,
        dir_mode: 0o750,
        group: None,
        allow_volatile: true,
        reserve_mib: Some(0),
    };
    let rules = mirror::Rules {
        poll: source.poll.clone(),
        since: None,
        retention: None,
        ledger_days: 3,
        in_flight: 8,
        pace: 0.01,
        random: || 0.5,
    };
    let permits = Permits { source: Arc::new(Gate::new(8)), process: Share::alone(8) };
    let (local, manifests) = (Local::open(&options).unwrap(), Manifests::under(dir.path()));
    let clock = Arc::new(trailsync::clock::SystemClock);
    Mirror::new(Arc::new(bucket), Arc::new(local), ledger.clone(), manifests, clock, rules, permits)
}
