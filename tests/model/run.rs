//! Runs histories from seeds on several threads; a history that fails is made shorter before it is shown.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use trailsync::destination::memory::Memory;
use trailsync::ledger::Ledger;
use trailsync::source::memory::MemorySource;

use super::bucket::{Bucket, Vault};
use super::history::{Event, History};
use super::tally::Tally;
use super::world::{Checked, World};

/// Replays that are spent on making a failing history shorter.
const REPLAYS: usize = 400;
/// So many histories have everything in them.
const ENOUGH: u64 = 200;

/// What histories are played over, one after the other.
pub trait Ground {
    fn prepare() -> Self;

    /// Plays one history, and says what happened in it.
    fn play(&self, history: &History) -> Checked<Tally>;
}

/// The twins in memory.
pub struct Twins;

impl Ground for Twins {
    fn prepare() -> Self {
        Self
    }

    fn play(&self, history: &History) -> Checked<Tally> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir_in(scratch()).expect("a directory");
        runtime.block_on(async {
            let ledger = Ledger::in_memory().await.map_err(|e| e.to_string())?;
            play(history, MemorySource::new(history.setup.start), Memory::new(), ledger, dir.path()).await
        })
    }
}

/// Plays the histories of so many seeds, or the one that `<names>_SEED` names.
pub fn histories<G: Ground>(names: &str, default: u64, threads: usize) {
    let number = |what| std::env::var(format!("{names}_{what}")).ok().map(|text| text.parse().expect("a number"));
    if let Some(seed) = number("SEED") {
        let (ground, history) = (G::prepare(), History::of(seed));
        print!("{}", shown(&ground, seed, &history));
        return attempt(&ground, &history).map_or_else(|why| panic!("{why}"), |_| ());
    }
    let (count, first) = (number("HISTORIES").unwrap_or(default), number("FIRST").unwrap_or(0));
    let began = Instant::now();
    let (tally, failures) = (Tally::default(), Mutex::new(Vec::new()));
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let work = || {
        let ground = G::prepare();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
            }
            match attempt(&ground, &History::of(seed)) {
                Ok(happened) => tally.add_all(&happened),
                Err(why) => {
                    failures.lock().expect("no panic holds it").push((seed, why));
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(work)));
    if let Some((seed, why)) = failures.into_inner().expect("no panic holds it").into_iter().min() {
        let ground = G::prepare();
        println!("after {} histories in {:.0} s", next.load(Ordering::Relaxed) - first, began.elapsed().as_secs_f64());
        let shorter = shortened(&ground, History::of(seed), &why);
        panic!("{}\n{why}\nrun it again with {names}_SEED={seed}", shown(&ground, seed, &shorter));
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{count} histories in {seconds:.0} s, {:.1} a second: {tally}", count as f64 / seconds);
    let missing = tally.missing();
    assert!(missing.is_empty() || count < ENOUGH, "these never happened: {missing:?}");
}

fn attempt(ground: &impl Ground, history: &History) -> Checked<Tally> {
    catch_unwind(AssertUnwindSafe(|| ground.play(history))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panicked: {}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?")))
    })
}

/// Plays a history over these; `dir` is where the state is kept.
pub async fn play<B: Bucket, V: Vault>(
    history: &History,
    bucket: B,
    vault: V,
    ledger: Ledger,
    dir: &Path,
) -> Checked<Tally> {
    let mut world = World::new(bucket, vault, ledger, dir, &history.setup).await?;
    world.may_fail = false;
    for (number, event) in history.events.iter().enumerate() {
        world.play(event).await.map_err(|why| format!("event {number}: {why}"))?;
    }
    world.calm_down().await.map_err(|why| format!("calm end: {why}"))?;
    world.ledger.close().await;
    Ok(world.tally)
}

/// Leaves out events while the history still fails in the same way.
fn shortened(ground: &impl Ground, mut history: History, why: &str) -> History {
    let (mut chunk, mut replays) = (history.events.len().div_ceil(2), 0);
    while chunk > 0 {
        let mut at = 0;
        while at < history.events.len() && replays < REPLAYS {
            let mut shorter = history.clone();
            shorter.events.drain(at..(at + chunk).min(shorter.events.len()));
            replays += 1;
            let fails = attempt(ground, &shorter).is_err_and(|other| gist(&other) == gist(why));
            if fails { history = shorter } else { at += chunk }
        }
        chunk /= 2;
    }
    history
}

/// What went wrong, without where and with what.
fn gist(why: &str) -> String {
    let text = why.split_once(": ").map_or(why, |(_, text)| text);
    let mut quoted = false;
    text.chars()
        .filter(|c| {
            quoted ^= *c == '"';
            !quoted && c.is_alphabetic()
        })
        .take(40)
        .collect()
}

fn shown(ground: &impl Ground, seed: u64, history: &History) -> String {
    let events: Vec<_> = history.events.iter().enumerate().map(line).collect();
    let why = attempt(ground, history).err().unwrap_or_default();
    format!("seed {seed}\n{:?}\n{}{why}\n", history.setup, events.concat())
}

fn line((number, event): (usize, &Event)) -> String {
    format!("{number:3} {event:?}\n")
}

/// Memory where there is a file system in it: manifests are synced to it all the time.
fn scratch() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}
