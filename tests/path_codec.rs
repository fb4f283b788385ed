//! No key is skipped, none leaves the root, and no two meet: the path codec against millions of hostile keys.
//!
//! `TRAILSYNC_CODEC_KEYS` sets how many random keys are tried (default two million).

use std::env;
use std::ops::RangeInclusive;
use std::thread;

use fastrand::Rng;
use trailsync::path::{self, Part};

#[path = "support/hostile.rs"]
mod hostile;

const KEYS: u64 = 2_000_000;
const THREADS: u64 = 2;
/// Keys that are compared with each other; short ones, so that near misses are common.
const BATCH: u64 = 20_000;

/// What a careless codec trips over. Plain letters are rare on purpose.
const PIECES: [&str; 40] = [
    "/",
    "/",
    "/",
    "//",
    ".",
    ".",
    "..",
    "../",
    "%",
    "%",
    "%_",
    "%25",
    "%2E",
    "%41",
    "%_file",
    "%_dir",
    "%_more",
    "%_empty",
    "%_meta.json",
    "%_v0123456789abcdef",
    "_",
    "a",
    "a",
    "b",
    "A",
    "gz",
    ".gz",
    ".json",
    ".log/",
    "\\",
    "\u{0}",
    "\n",
    "\u{1b}",
    " ",
    "é",
    "e\u{301}",
    "\u{202e}",
    "日",
    "\u{10ffff}",
    ".trailsync",
];

#[test]
fn every_random_key_comes_back_and_stays_inside_the_root() {
    let keys = env::var("TRAILSYNC_CODEC_KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(KEYS);
    thread::scope(|scope| {
        for seed in 0..THREADS {
            scope.spawn(move || {
                let mut rng = Rng::with_seed(0x7261_696c ^ seed);
                for _ in 0..(keys / THREADS).div_ceil(BATCH) {
                    let batch: Vec<_> = (0..BATCH).map(|_| random_key(&mut rng)).collect();
                    check_batch(batch);
                }
            });
        }
    });
}

#[test]
fn every_key_of_the_corpus_comes_back_and_stays_inside_the_root() {
    let keys = hostile::hostile_keys();
    assert!(keys.len() >= 200, "{}", keys.len());
    assert!(keys.iter().all(|key| (1..=1024).contains(&key.len())));
    check_batch(keys);
}

#[test]
fn every_short_key_over_the_worst_characters_differs_from_every_other() {
    let alphabet = ["/", ".", "%", "_", "a", "\\", "é", "\u{0}", ".gz", "%_file", "%_dir", "%_empty"];
    let mut keys = vec![String::new()];
    let mut longest = 0..1;
    for _ in 0..4 {
        let longer: Vec<_> =
            keys[longest].iter().flat_map(|key| alphabet.map(|piece| format!("{key}{piece}"))).collect();
        longest = keys.len()..keys.len() + longer.len();
        keys.extend(longer);
    }
    check_batch(keys);
}

#[test]
fn every_path_that_is_accepted_is_the_path_of_its_key() {
    let mut rng = Rng::with_seed(7);
    let mut accepted = 0;
    for _ in 0..200_000 {
        let mut damaged = path::encode(&random_key(&mut rng));
        damage(&mut damaged, &mut rng);
        if let Some(key) = path::decode(&damaged) {
            assert_eq!(path::encode(&key), damaged);
            accepted += 1;
        }
        if let Some(named) = path::identify(&damaged) {
            assert_eq!(path::of(&named.key, named.version.as_deref(), named.part), Some(damaged));
        }
    }
    assert!(accepted > 1_000, "{accepted}");
}

fn random_key(rng: &mut Rng) -> String {
    // Most are short, so that near misses are common; the others reach the limits of names.
    let pieces: RangeInclusive<usize> = if rng.u8(..32) > 0 { 1..=6 } else { 100..=400 };
    let mut key = String::new();
    for _ in 0..rng.usize(pieces) {
        let piece = PIECES[rng.usize(..PIECES.len())];
        let times = if rng.u8(..100) == 0 { rng.usize(..80) } else { 1 };
        for _ in 0..times {
            if key.len() + piece.len() <= 1024 {
                key.push_str(piece);
            }
        }
    }
    key
}

fn damage(path: &mut String, rng: &mut Rng) {
    let boundaries: Vec<_> = (0..=path.len()).filter(|&at| path.is_char_boundary(at)).collect();
    let at = boundaries[rng.usize(..boundaries.len())];
    match rng.u8(..3) {
        0 => path.insert_str(at, PIECES[rng.usize(..PIECES.len())]),
        1 => path.truncate(at),
        _ => *path = path.split_off(at),
    }
}

/// The promises, for each key alone and for all of them together.
fn check_batch(mut keys: Vec<String>) {
    keys.sort_unstable();
    keys.dedup();
    let mut paths = Vec::with_capacity(keys.len() * 2);
    for (index, key) in keys.iter().enumerate() {
        let plain = path::encode(key);
        assert_eq!(path::decode(&plain).as_deref(), Some(key.as_str()), "{plain}");
        check_names(&plain);
        paths.push(plain);
        // Metadata and versions of every eighth: each costs as much as a key.
        if index % 8 == 0 {
            paths.extend(beside(key));
        }
    }
    check_prefix_free(&paths);
}

fn beside(key: &str) -> [String; 3] {
    let version = Some("0123456789abcdef");
    [(None, Part::Metadata), (version, Part::Object), (version, Part::Metadata)].map(|(version, part)| {
        let path = path::of(key, version, part).expect("a version's digits");
        let named = path::identify(&path).expect("a path of ours");
        assert_eq!((named.key.as_str(), named.version.as_deref(), named.part), (key, version, part));
        check_names(&path);
        path
    })
}

fn check_names(path: &str) {
    for name in path.split('/') {
        assert!((1..=255).contains(&name.len()) && !name.starts_with('.'), "{name:?}");
        assert!(name.chars().all(|c| trailsync::key::harmless(c) && c != '\\'), "{name:?}");
    }
}

/// In the order of names, whatever a path is a prefix of follows it at once.
fn check_prefix_free(paths: &[String]) {
    let mut ordered: Vec<_> = paths.iter().map(|path| path.replace('/', "\0") + "\0").collect();
    ordered.sort_unstable();
    for pair in ordered.windows(2) {
        assert!(!pair[1].starts_with(&pair[0]), "{pair:?}");
    }
}
