//! One world over the twins in memory, for histories that have a name.

use std::ops::{Deref, DerefMut};

use tempfile::TempDir;
use trailsync::clock::{Timestamp, seconds_between};
use trailsync::destination::memory::Memory;
use trailsync::error::Error;
use trailsync::layout::Kind;
use trailsync::ledger::{AlarmRow, Ledger};
use trailsync::mirror::Turn;
use trailsync::source::memory::MemorySource;

use super::history::{Cut, Setup};
use super::world::World;

/// A world whose bucket and copies are at hand.
pub struct Bench {
    pub world: World<MemorySource, Memory>,
    pub bucket: MemorySource,
    pub vault: Memory,
    _manifests: TempDir,
}

impl Deref for Bench {
    type Target = World<MemorySource, Memory>;

    fn deref(&self) -> &Self::Target {
        &self.world
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.world
    }
}

/// The usual setup, at this time.
pub fn setup(start: &str) -> Setup {
    Setup {
        start: start.parse().expect("a time"),
        kind: Kind::named("CloudTrail").expect("a known kind"),
        page_size: 1000,
        in_flight: 4,
        since: None,
        retention: None,
        ledger_days: 3,
    }
}

/// The name that the service gives to an object of this minute.
pub fn name(minute: &str, tail: &str) -> String {
    let time: Timestamp = minute.parse().expect("a time");
    let text = time.to_string().replace([':', '-'], "");
    let (day, clock) = (&text[..8], &text[9..13]);
    let folder = format!("{}/{}/{}/", &day[..4], &day[4..6], &day[6..]);
    format!("{folder}222222222222_CloudTrail_us-east-1_{day}T{clock}Z_{tail}.json.gz")
}

impl Bench {
    /// Nothing is there yet.
    pub async fn new(setup: Setup) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (bucket, vault) = (MemorySource::new(setup.start), Memory::new());
        let ledger = Ledger::in_memory().await.expect("a database");
        let world = World::new(bucket.clone(), vault.clone(), ledger, dir.path(), &setup).await.expect("a world");
        Self { world, bucket, vault, _manifests: dir }
    }

    /// Everything that is there was listed, and nothing is due.
    pub async fn at_rest(setup: Setup) -> Self {
        let mut bench = Self::new(setup).await;
        bench.rest().await;
        bench
    }

    /// Turns until nothing is left to do; what must hold is checked after each.
    pub async fn rest(&mut self) {
        self.world.settle().await.expect("what must hold");
    }

    /// Sets the true time, on every clock that is right.
    pub fn set_time(&mut self, time: &str) {
        let now = self.outside.past().now;
        self.world.advance(seconds_between(now, time.parse().expect("a time")));
    }

    /// One turn of the scheduler's.
    pub async fn turn(&mut self) -> Result<Turn, Error> {
        self.a_turn(true, false).await
    }

    /// One turn; a brief one gives deep listings a page.
    pub async fn a_turn(&mut self, poll: bool, brief: bool) -> Result<Turn, Error> {
        self.world.turn(poll, brief, Cut::Not).await.expect("what must hold").expect("nobody killed it")
    }

    /// LIST requests that a turn makes.
    pub async fn lists_of_a_turn(&mut self) -> u64 {
        let before = self.bucket.requests().lists;
        self.turn().await.expect("a turn");
        self.bucket.requests().lists - before
    }

    pub fn is_mirrored(&self, suffix: &str) -> bool {
        self.vault.read(&self.outside.key(suffix)).is_some()
    }

    pub async fn alarms(&self) -> Vec<AlarmRow> {
        self.ledger.alarms(1000).await.expect("alarms")
    }

    /// The kinds of the alarms of one key.
    pub async fn alarms_of(&self, suffix: &str) -> Vec<String> {
        let key = self.outside.key(suffix);
        self.alarms().await.into_iter().filter(|alarm| alarm.subject == key).map(|alarm| alarm.kind).collect()
    }

    /// Objects that are counted.
    pub async fn counted(&self) -> u64 {
        self.ledger.checkpoints().await.expect("checkpoints")[0].objects
    }

    pub fn listed_through(&self) -> Option<String> {
        self.progress.checkpoint.listed_through.map(|time| time.to_string())
    }
}
