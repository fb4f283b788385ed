//! Random histories of a trail, its copy and its trouble: whatever is deleted is stored, old, proven and whole.
//!
//! Each history follows from its seed. What may go is known from what the test itself delivered, signed, altered and
//! damaged, and from nothing that the program recorded. `DELETION_HISTORIES` sets how many are played (default 6),
//! `DELETION_FIRST` the seed that they begin with.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fakeaws::{Fault, ObjectSpec, Op};
use jiff::Timestamp;
use trailsync::config::Require;
use trailsync::prune::Rules;

use crate::account::BUCKET;
use crate::bench::{Bench, DAY, HOUR, gzip};
use crate::owner::{alarmed, allow_deletion, keys, list_everything, round, rules, settle};

const STEPS: usize = 45;
const AGE: i64 = 90 * DAY;

/// A digest that the trail signed.
struct Signed {
    key: String,
    /// The logs that it names, and the bytes that they had.
    names: BTreeMap<String, Bytes>,
    delivered: bool,
}

struct History {
    bench: Bench,
    random: fastrand::Rng,
    /// Digests by chain, each in its order.
    chains: Vec<Vec<Signed>>,
    waiting: BTreeMap<String, Bytes>,
    held: Vec<(String, ObjectSpec)>,
    /// What somebody else deleted.
    vanished: BTreeSet<String>,
    logs: u64,
    digests: u64,
    kept_by_us: u64,
}

/// What the bucket holds: bytes, and when they were stored.
type Held = BTreeMap<String, (Bytes, Timestamp)>;

impl History {
    async fn new(seed: u64) -> Self {
        let bench = Bench::new().await;
        allow_deletion(&bench, true);
        let random = fastrand::Rng::with_seed(seed);
        let (chains, waiting, held) = (vec![Vec::new()], BTreeMap::new(), Vec::new());
        Self { bench, random, chains, waiting, held, vanished: BTreeSet::new(), logs: 0, digests: 0, kept_by_us: 0 }
    }

    async fn step(&mut self) {
        match self.random.u32(0..100) {
            0..40 => self.hour().await,
            40..52 => self.grow_old().await,
            52..56 => self.damage(),
            56..59 => self.overwrite(),
            59..62 => self.remove(),
            62..66 => self.deliver_late(),
            66..70 => self.bench.restart(),
            70..75 => self.trouble(),
            75..80 => list_everything(&self.bench).await,
            80..85 => settle(&self.bench).await,
            _ => self.prune().await,
        }
    }

    /// Some logs, most of them named, and a digest, most of them delivered.
    async fn hour(&mut self) {
        for _ in 0..self.random.usize(0..4) {
            let age = self.random.i64(30..600);
            if self.random.u8(..) < 25 {
                self.bench.unnamed_log(age);
            } else {
                let key = self.bench.log(age);
                self.waiting.insert(key.clone(), self.bench.world.body(BUCKET, &key).unwrap());
            }
        }
        self.bench.advance(HOUR);
        let key = self.bench.digest();
        let delivered = self.random.u8(..) > 12;
        let names = std::mem::take(&mut self.waiting);
        if !delivered {
            self.held.push((key.clone(), self.bench.hold_back(&key)));
        }
        self.chains.last_mut().unwrap().push(Signed { key, names, delivered });
        self.bench.advance(300);
        if self.random.bool() {
            settle(&self.bench).await;
        }
    }

    /// Logging stops for weeks, and a new chain begins behind them.
    async fn grow_old(&mut self) {
        settle(&self.bench).await;
        self.bench.advance(self.random.i64(20..100) * DAY);
        self.bench.trail.last = None;
        self.bench.trail.covered = self.bench.now();
        self.chains.push(Vec::new());
    }

    fn any_key(&mut self) -> Option<String> {
        let keys = keys(&self.bench).into_iter().collect::<Vec<_>>();
        self.random.choice(keys.iter()).cloned()
    }

    fn damage(&mut self) {
        let Some(key) = self.any_key() else { return };
        let bytes = self.bench.copy.read(&key).filter(|_| self.random.bool());
        let flipped = bytes.map(|mut bytes| {
            let at = self.random.usize(0..bytes.len());
            bytes[at] ^= 1;
            bytes
        });
        self.bench.copy.damage(&key, flipped);
    }

    fn overwrite(&mut self) {
        let Some(key) = self.any_key() else { return };
        let text = format!("{{\"Records\":[\"{}\"]}}", self.random.u64(..));
        let object = ObjectSpec::log(gzip(text.as_bytes())).modified(self.bench.now());
        self.bench.world.put_object(BUCKET, &key, object);
    }

    fn remove(&mut self) {
        let Some(key) = self.any_key() else { return };
        assert!(self.bench.world.delete_object(BUCKET, &key));
        self.vanished.insert(key);
    }

    fn deliver_late(&mut self) {
        let Some((key, object)) = self.held.pop() else { return };
        self.bench.world.put_object(BUCKET, &key, object.modified(self.bench.now()));
        let all = self.chains.iter_mut().flatten();
        all.filter(|signed| signed.key == key).for_each(|signed| signed.delivered = true);
    }

    fn trouble(&mut self) {
        let fault = match self.random.u8(0..4) {
            0 => Fault::LostAnswer,
            1 => Fault::ServiceUnavailable,
            2 => Fault::CloseBeforeHeaders,
            _ => Fault::AccessDenied,
        };
        let nth = self.random.u64(1..6);
        self.bench.world.faults().inject(fault).on(Op::DeleteObject).nth(nth);
    }

    fn held(&self) -> Held {
        let held = |key: String| {
            let object = self.bench.world.object(BUCKET, &key).unwrap();
            (key, (object.body.bytes(), object.modified))
        };
        keys(&self.bench).into_iter().map(held).collect()
    }

    /// A round under random terms; what is gone after it is held against what may go.
    async fn prune(&mut self) {
        let mut rules = Rules { most: self.random.u64(1..40), ..rules(&self.bench) };
        if self.random.u8(..) < 40 {
            rules.terms.require = Require::Stored;
        }
        let (before, alarms) = (self.held(), alarmed(&self.bench).await);
        let went = round(&self.bench, rules.clone()).await;
        let after = keys(&self.bench);
        let gone: Vec<_> = before.iter().filter(|(key, _)| !after.contains(*key)).collect();
        assert!(gone.len() as u64 <= rules.most, "{went:?}");
        for (key, (bytes, modified)) in gone {
            assert_eq!(self.bench.copy.read(key).as_deref(), Some(&bytes[..]), "{key} is not here as it was there");
            assert!(modified.duration_until(self.bench.now()).as_secs() >= AGE, "{key} is young");
            let about = |(kind, subject): &&(String, String)| subject == key && kind != "deletion";
            assert!(!alarms.iter().any(|alarm| about(&alarm)), "{key} was alarmed: {alarms:?}");
            if key.contains("CloudTrail-Digest") {
                assert!(self.is_spent(key, &after), "the digest {key} was needed");
                self.digests += 1;
            } else {
                assert!(rules.terms.require == Require::Stored || self.is_proven(key, bytes), "{key} is not proven");
                self.logs += 1;
            }
        }
        self.kept_by_us += after.len() as u64;
    }

    /// The digests of each chain up to the first that is not delivered. The proof begins with the first that there is:
    /// what comes before all others may have left the bucket long ago.
    fn unbroken(&self) -> impl Iterator<Item = (usize, usize, &Signed)> {
        let begins = self.chains.iter().position(|chain| chain.iter().any(|signed| signed.delivered));
        self.chains.iter().enumerate().flat_map(move |(at, chain)| {
            let is_first = begins == Some(at);
            let chain = chain.iter().skip_while(move |signed| is_first && !signed.delivered);
            let unbroken: Vec<&Signed> = chain.take_while(|signed| signed.delivered).collect();
            let whole = unbroken.len();
            unbroken.into_iter().enumerate().map(move |(at, signed)| (at, whole, signed))
        })
    }

    fn is_proven(&self, key: &str, bytes: &Bytes) -> bool {
        self.unbroken()
            .any(|(_, _, signed)| signed.names.get(key) == Some(bytes) && self.bench.copy.read(&signed.key).is_some())
    }

    /// It has its place in a chain, is not the newest there, and no log that it names is left.
    fn is_spent(&self, key: &str, after: &BTreeSet<String>) -> bool {
        self.unbroken().any(|(at, whole, signed)| {
            signed.key == key && at + 1 < whole && signed.names.keys().all(|log| !after.contains(log))
        })
    }

    /// At a calm end only what somebody else deleted has vanished, and what we asked for is known.
    async fn end(&mut self) {
        self.bench.world.faults().clear();
        for _ in 0..2 {
            self.prune().await;
            list_everything(&self.bench).await;
        }
        for (kind, subject) in alarmed(&self.bench).await {
            assert!(kind != "vanished" || self.vanished.contains(&subject), "{subject} is alarmed, and was our doing");
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn no_history_deletes_what_is_not_stored_old_proven_and_whole() {
    let (mut logs, mut digests, mut kept) = (0, 0, 0);
    let first = setting("DELETION_FIRST", 1);
    let histories = setting("DELETION_HISTORIES", 6);
    for seed in first..first + histories {
        println!("history {seed}");
        let mut history = History::new(seed).await;
        for _ in 0..STEPS {
            history.step().await;
        }
        history.end().await;
        (logs, digests, kept) = (logs + history.logs, digests + history.digests, kept + history.kept_by_us);
    }
    println!("{logs} logs and {digests} digests were deleted, {kept} times something was kept");
    assert!(logs > 5 * histories && digests > histories && kept > histories, "they show too little");
}
