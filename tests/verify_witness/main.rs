//! `trailsync verify` against `aws cloudtrail validate-logs`, case by case: who found what.
//!
//! The same files go into moto's S3, where the real AWS CLI validates them, and into a tree, where our program does.
//! They come from two hands that share nothing: `tests/fakeaws`, and `generator.py`. Every row of `expected.txt` is
//! measured anew; where the CLI is right we must say the same of the same files, and where it is silent or wrong we
//! must not be. `TRAILSYNC_REWRITE=1` writes the file anew; look at the difference before you keep it.
//!
//! The CLI is the witness's, see `tests/witness-requirements.txt`; `TRAILSYNC_WITNESS` says where it is, or `skip`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

mod cases;
mod generators;
mod judges;
#[path = "../support/moto.rs"]
mod moto;
mod public_keys;
mod recipe;
mod table;

use cases::Case;
use judges::Said;
use moto::{Moto, witness};
use public_keys::PublicKeys;
use recipe::Made;
use table::Row;

/// Two processors, two at a time.
const JUDGES: usize = 2;

/// A case as one generator made it.
struct Trial<'c> {
    case: &'c Case,
    generator: &'static str,
    made: Made,
    /// The bucket for which it was signed.
    signed_for: String,
    harmed: BTreeSet<String>,
}

fn trials<'c>(cases: &'c [Case], generator: &'static str, programs: &Path) -> Vec<Trial<'c>> {
    let is_possible = |case: &&Case| generator == "script" || !case.python_only;
    let possible: Vec<_> = cases.iter().filter(is_possible).collect();
    let named = |(number, case): (usize, &&Case)| (format!("{generator}-{number:02}"), case.recipes.clone());
    let wanted: Vec<_> = possible.iter().enumerate().map(named).collect();
    let made = match generator {
        "script" => generators::python(programs, &wanted),
        _ => generators::fakeaws(&wanted),
    };
    assert_eq!(made.len(), possible.len());
    let harmed = |(case, mut made): (&'c Case, Made)| {
        let signed_for = made.bucket.clone();
        let harmed = (case.harm)(&mut made).into_iter().collect();
        Trial { case, generator, made, signed_for, harmed }
    };
    possible.into_iter().zip(made).map(harmed).collect()
}

/// Hears both judges about every trial, two trials at a time.
fn heard(trials: &[Trial<'_>], moto: &Moto, keys: &PublicKeys) -> Vec<(Said, Said)> {
    let (next, heard) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..JUDGES {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(trial) = trials.get(number)
                {
                    let aws = judges::aws(moto, keys, trial.case, &trial.made, &trial.signed_for);
                    let ours = judges::trailsync(trial.case, &trial.made);
                    heard.lock().expect("whole").push((number, (aws, ours)));
                }
            });
        }
    });
    let mut heard = heard.into_inner().expect("whole");
    heard.sort_by_key(|(number, _)| *number);
    heard.into_iter().map(|(_, said)| said).collect()
}

#[test]
fn whatever_the_aws_cli_finds_we_find_and_what_it_misses_too() {
    let Some(programs) = witness() else { return };
    let cases = cases::all();
    let mut all = trials(&cases, "fakeaws", &programs);
    all.extend(trials(&cases, "script", &programs));
    let keys = all.iter().map(|trial| (trial.signed_for.clone(), trial.made.keys.clone()));
    let keys = PublicKeys::serve(keys.collect());
    let moto = Moto::start(programs);
    let mut rows = Vec::new();
    for (trial, (aws, ours)) in all.iter().zip(heard(&all, &moto, &keys)) {
        rows.push(Row::new(trial.case.name, trial.generator, &trial.harmed, aws, ours));
    }
    let found = table::text(&rows);
    println!("{found}");
    let wrong: Vec<_> = rows.iter().filter_map(Row::complaint).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify_witness/expected.txt");
    if std::env::var_os("TRAILSYNC_REWRITE").is_some() {
        std::fs::write(&path, &found).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    for (found, kept) in found.lines().zip(kept.lines()) {
        assert_eq!(found, kept, "if this is right, run once with TRAILSYNC_REWRITE=1");
    }
    assert_eq!(found, kept, "if this is right, run once with TRAILSYNC_REWRITE=1");
}
