//! Ten thousand flipped bits: each is found, and nobody else is blamed.

use std::collections::BTreeMap;

use trailsync::verify::finding::{Finding, Verdict, What};

use crate::maker::*;

const FLIPS: usize = 10_000;

/// Whether a finding is about the file that was changed.
fn is_about(path: &str, finding: &Finding) -> bool {
    match path.strip_suffix("%_meta.json") {
        Some(key) => finding.what == What::Metadata && finding.key == key,
        None => finding.what != What::Metadata && finding.key == path,
    }
}

#[test]
fn ten_thousand_flipped_bits_are_all_found_and_none_is_blamed_on_another_file() {
    let mut maker = Maker::chain("flip_t-1.x", 5, 2);
    maker.seal();
    let whole = maker.files.clone();
    assert_eq!(found(&mut verified(&whole)), []);
    // Every kind of file gets its share; manifests are only one layer of many and have their own test.
    let paths: Vec<_> = whole.0.keys().filter(|path| !path.contains("/manifests/")).collect();
    let mut random = fastrand::Rng::with_seed(20_261_124);
    let (mut kinds, mut verdicts) = (BTreeMap::new(), BTreeMap::new());
    for number in 0..FLIPS {
        let path = paths[number % paths.len()];
        let bit = random.usize(..whole.0[path].len() * 8);
        let mut files = whole.clone();
        let mut bytes = whole.0[path].to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        files.put(path, bytes);
        let findings: Vec<_> = all(&mut verified(&files)).into_iter().filter(|f| f.verdict.is_failure()).collect();
        assert!(
            findings.iter().any(|finding| is_about(path, finding)),
            "bit {bit} of {path} was not found: {findings:?}"
        );
        for finding in &findings {
            assert!(is_about(path, finding), "bit {bit} of {path} was blamed on another: {finding:?}");
            *verdicts.entry(finding.verdict).or_insert(0) += 1;
        }
        *kinds.entry(findings[0].what.word()).or_insert(0) += 1;
    }
    println!("{FLIPS} flips: {kinds:?}, called {verdicts:?}");
    assert!(kinds.len() == 5, "logs, digests, metadata, keys and description: {kinds:?}");
}

#[test]
fn without_manifests_every_flip_that_changes_what_is_inside_is_found() {
    let maker = Maker::chain("t", 4, 2);
    let whole = maker.files.clone();
    let log = &maker.logs[&2][0];
    let inside = gunzip(&whole.0[log]);
    let mut unseen = 0;
    for bit in 0..whole.0[log].len() * 8 {
        let mut files = whole.clone();
        let mut bytes = whole.0[log].to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        files.put(log, bytes.clone());
        let findings = found(&mut verified(&files));
        if findings.is_empty() {
            assert_eq!(gunzip(&bytes), inside, "bit {bit}");
            unseen += 1;
        } else {
            assert!(findings.iter().all(|(verdict, _, key)| key == log && *verdict != Verdict::Missing), "bit {bit}");
        }
    }
    assert!(unseen < 64, "{unseen} bits of the header do not change what is inside");
}
