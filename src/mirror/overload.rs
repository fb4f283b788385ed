//! What fetching does while the service asks for less: on virtual time, over the real retries, gate and level.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::outcome::{Fetch, Want};
use super::*;
use crate::clock::ManualClock;
use crate::destination::memory::Memory;
use crate::object::Listed;
use crate::source::memory::MemorySource;
use crate::source::{FetchRequest, Fetched, ListPage, ListRequest};

const MOST: usize = 64;
const ANSWER: Duration = Duration::from_millis(100);

/// A bucket that answers after a while, and refuses a share of all requests.
struct Throttling {
    bucket: MemorySource,
    share: Mutex<f64>,
    requests: AtomicU64,
    random: Mutex<fastrand::Rng>,
}

impl Source for Throttling {
    async fn list(&self, request: &ListRequest) -> Result<ListPage, Error> {
        self.bucket.list(request).await
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<Fetched, Error> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let refused = self.random.lock().unwrap().f64() < *self.share.lock().unwrap();
        tokio::time::sleep(if refused { ANSWER / 10 } else { ANSWER }).await;
        if refused {
            let report = Report::new("GetObject", &request.key, "Please reduce your request rate.").code("SlowDown");
            return Err(Error::of(Class::Transient, report));
        }
        self.bucket.fetch(request).await
    }
}

struct Stage {
    mirror: Mirror<Throttling, Memory>,
    want: Listed,
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn set() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let bucket = MemorySource::new(now);
        bucket.put("AWSLogs/object", "bytes");
        let want = bucket.list(&ListRequest::default()).await.unwrap().objects.remove(0);
        let source = Throttling {
            bucket,
            share: Mutex::new(0.0),
            requests: AtomicU64::new(0),
            random: Mutex::new(fastrand::Rng::with_seed(7)),
        };
        let rules = Rules {
            poll: Poll {
                every: Duration::from_secs(60),
                idle_every: Duration::from_secs(840),
                min_window: Duration::from_secs(1200),
                max_window: Duration::from_secs(7200),
                tiers: Vec::new(),
                full_every: Duration::from_secs(86_400),
                tail_every: Duration::from_secs(86_400),
                discover_every: Duration::from_secs(3600),
            },
            since: None,
            retention: None,
            ledger_days: 3,
            in_flight: MOST,
            pace: 1.0,
            random: || 0.5,
        };
        let ledger = Ledger::open(dir.path(), false).await.unwrap().ledger;
        let permits = Permits { source: Arc::new(Gate::new(MOST)), process: Share::alone(MOST) };
        let clock = Arc::new(ManualClock::at(now));
        let manifests = Manifests::under(dir.path());
        let mirror =
            Mirror::new(Arc::new(source), Arc::new(Memory::default()), ledger, manifests, clock, rules, permits);
        // The database has threads of its own, and needs time that passes.
        tokio::time::pause();
        Self { mirror, want, _dir: dir }
    }

    /// Fetches as a pass with ever more to do does, for so long; objects that came, and requests.
    async fn run(&self, refused: f64, long: Duration) -> (u64, u64) {
        *self.mirror.source.share.lock().unwrap() = refused;
        let before = self.mirror.source.requests.load(Ordering::Relaxed);
        let ends = Instant::now() + long;
        let (mut in_flight, mut came) = (FuturesUnordered::new(), 0);
        while Instant::now() < ends {
            while in_flight.len() < MOST {
                let want = Want { listed: self.want.clone(), known: None, failure: None, beside: false };
                in_flight.push(self.mirror.transfer(want));
            }
            tokio::select! {
                Some((_, fetch, _)) = in_flight.next() => came += u64::from(matches!(fetch, Fetch::Got(_))),
                () = tokio::time::sleep_until(ends) => {}
            }
        }
        (came, self.mirror.source.requests.load(Ordering::Relaxed) - before)
    }
}

#[tokio::test]
async fn asked_for_less_in_part_it_asks_for_less_and_is_back_within_a_minute() {
    let stage = Stage::set().await;
    let (warm, second) = (Duration::from_secs(10), Duration::from_secs(1));
    stage.run(0.0, warm).await;
    let (usual, _) = stage.run(0.0, 5 * second).await;
    assert!(usual >= 5 * 10 * MOST as u64 * 9 / 10, "{usual} objects in five seconds");

    let (came, requests) = stage.run(0.3, 600 * second).await;
    assert!(requests as f64 <= 1.5 * came as f64, "{requests} requests for {came} objects");
    assert!(stage.mirror.permits.source.limit() <= MOST / 4, "{} in flight", stage.mirror.permits.source.limit());

    stage.run(0.0, 55 * second).await;
    let (again, _) = stage.run(0.0, 5 * second).await;
    assert!(again * 10 >= usual * 9, "{again} objects a minute after, {usual} before");
}

#[tokio::test]
async fn asked_for_less_altogether_it_hardly_asks_and_is_back_within_a_minute() {
    let stage = Stage::set().await;
    let second = Duration::from_secs(1);
    stage.run(0.0, 10 * second).await;
    let (usual, _) = stage.run(0.0, 5 * second).await;

    let (came, requests) = stage.run(1.0, 600 * second).await;
    assert_eq!(came, 0);
    assert_eq!(stage.mirror.permits.source.limit(), 1);
    assert!(requests * 10 <= usual * 120, "{requests} requests, where {} came in such a time", usual * 120);

    stage.run(0.0, 55 * second).await;
    let (again, _) = stage.run(0.0, 5 * second).await;
    assert!(again * 10 >= usual * 9, "{again} objects a minute after, {usual} before");
}
