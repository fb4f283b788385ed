//! Runs histories from seeds on several threads; a history that fails is made shorter before it is shown.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use trailsync::destination::memory::Memory;
use trailsync::ledger::Ledger;
use trailsync::source::memory::MemorySource;

use super::history::{Event, History};
use super::world::{Checked, World};

const THREADS: usize = 4;
/// Replays that are spent on making a failing history shorter.
const REPLAYS: usize = 400;

/// Plays the histories of so many seeds over the twins in memory, or the one that `MODEL_SEED` names.
pub fn histories_over_twins(default: u64) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("MODEL_SEED") {
        let history = History::of(seed);
        print!("{}", shown(seed, &history));
        return played(seed).unwrap_or_else(|why| panic!("{why}"));
    }
    let histories = number("MODEL_HISTORIES").unwrap_or(default);
    let began = Instant::now();
    let failures = Mutex::new(Vec::new());
    let (next, stop) = (AtomicU64::new(number("MODEL_FIRST").unwrap_or(0)), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= histories {
                        break;
                    }
                    if let Err(why) = played(seed) {
                        failures.lock().expect("no panic holds it").push((seed, why));
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if let Some((seed, why)) = failures.into_inner().expect("no panic holds it").into_iter().min() {
        println!("after {} histories in {:.0} s", next.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
        panic!("{}\n{why}\nrun it again with MODEL_SEED={seed}", shown(seed, &shortened(History::of(seed), &why)));
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{histories} histories in {seconds:.0} s, {:.0} a second", histories as f64 / seconds);
}

/// Plays one history that once showed a mistake.
pub fn again(seed: u64) {
    played(seed).unwrap_or_else(|why| panic!("{why}"));
}

fn played(seed: u64) -> Checked {
    attempt(&History::of(seed))
}

/// Plays one history on a runtime of its own.
fn attempt(history: &History) -> Checked {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir_in(scratch()).expect("a directory");
    let run = || runtime.block_on(play(history, dir.path()));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panicked: {}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?")))
    })
}

async fn play(history: &History, dir: &std::path::Path) -> Checked {
    let ledger = Ledger::in_memory().await.map_err(|e| e.to_string())?;
    let (bucket, vault) = (MemorySource::new(history.setup.start), Memory::new());
    let mut world = World::new(bucket, vault, ledger.clone(), dir, &history.setup).await?;
    for (number, event) in history.events.iter().enumerate() {
        world.play(event).await.map_err(|why| format!("event {number}: {why}"))?;
    }
    world.calm_down().await.map_err(|why| format!("calm end: {why}"))?;
    ledger.close().await;
    Ok(())
}

/// Leaves out events while the history still fails in the same way.
fn shortened(mut history: History, why: &str) -> History {
    let (mut chunk, mut replays) = (history.events.len().div_ceil(2), 0);
    while chunk > 0 {
        let mut at = 0;
        while at < history.events.len() && replays < REPLAYS {
            let mut shorter = history.clone();
            shorter.events.drain(at..(at + chunk).min(shorter.events.len()));
            replays += 1;
            let fails = attempt(&shorter).is_err_and(|other| gist(&other) == gist(why));
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

fn shown(seed: u64, history: &History) -> String {
    let events: Vec<_> = history.events.iter().enumerate().map(line).collect();
    let why = attempt(history).err().unwrap_or_default();
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
