//! Where the scrub stands, how fast it goes, and how it stops.

use std::time::Duration;

use fakeaws::Op;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;

#[tokio::test]
async fn a_scrub_goes_on_where_it_stood_and_reads_nothing_twice() {
    let bench = Bench::new(25).await;
    let mut turns = Vec::new();
    loop {
        // Each turn in a process of its own.
        let did = bench.scrubber(10, None).turn(&CancellationToken::new()).await.unwrap();
        turns.push(did.objects);
        if !did.more {
            break;
        }
        let row = bench.ledger.scrub("acme").await.unwrap();
        let read: u64 = turns.iter().sum();
        assert!(row.suffix.is_some_and(|suffix| bench.keys[read as usize - 1].ends_with(&suffix)));
    }
    assert_eq!(turns, [10, 10, 5]);
    let row = bench.ledger.scrub("acme").await.unwrap();
    assert_eq!((row.last_objects, row.last_findings, row.began), (25, 0, None));
    let rests = bench.scrubber(10, None).turn(&CancellationToken::new()).await.unwrap();
    assert_eq!((rests.objects, rests.more), (0, false), "until the next round is due");
}

#[tokio::test]
async fn the_rate_holds() {
    let bench = Bench::new(40).await;
    let rate = 1000;
    let did = bench.scrubber(1000, Some(rate)).turn(&CancellationToken::new()).await.unwrap();
    assert_eq!(did.objects, 40);
    let bytes: u64 = bench.keys.iter().map(|key| std::fs::metadata(bench.path(key)).unwrap().len()).sum();
    let (expected, waited) = (Duration::from_secs_f64(bytes as f64 / rate as f64), bench.waited.total());
    assert!(waited.abs_diff(expected) < Duration::from_millis(1), "{waited:?} for {bytes} bytes");
}

#[tokio::test]
async fn a_scrub_that_is_told_to_stop_records_where_it_stands_and_what_it_found() {
    let bench = Bench::new(5).await;
    std::fs::remove_file(bench.path(&bench.keys[0])).unwrap();
    let did = bench.scrubber(1, None).turn(&CancellationToken::new()).await.unwrap();
    assert_eq!((did.objects, did.findings, did.more, did.wake.len()), (1, 1, true, 1));
    let stop = CancellationToken::new();
    stop.cancel();
    let before = bench.ledger.scrub("acme").await.unwrap();
    let did = bench.scrubber(100, None).turn(&stop).await.unwrap();
    assert_eq!((did.objects, did.more), (0, true));
    assert_eq!(bench.ledger.scrub("acme").await.unwrap(), before);
    assert_eq!((before.findings, before.unmended), (1, 1));
    let alarms = bench.ledger.alarms(10).await.unwrap();
    assert_eq!((alarms[0].kind.as_str(), &alarms[0].subject), ("lost", &bench.keys[0]));
}

#[tokio::test]
async fn a_copy_that_is_whole_costs_no_request() {
    let bench = Bench::new(5).await;
    let requests = || bench.shared.world.counters();
    let before = (requests().total(Op::GetObject), requests().total(Op::ListObjectsV2));
    bench.scrubber(100, None).turn(&CancellationToken::new()).await.unwrap();
    assert_eq!((requests().total(Op::GetObject), requests().total(Op::ListObjectsV2)), before);
}

#[tokio::test]
async fn a_tree_that_is_not_there_is_no_loss_of_its_files() {
    let bench = Bench::new(5).await;
    let (tree, away) = (bench.dir.path().join("tree"), bench.dir.path().join("away"));
    std::fs::rename(&tree, &away).unwrap();
    std::fs::create_dir(&tree).unwrap();
    let error = bench.scrubber(100, None).turn(&CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("another directory stands in its place"), "{error}");
    let row = bench.ledger.scrub("acme").await.unwrap();
    assert_eq!((row.began, row.objects, row.findings), (None, 0, 0));
    assert!(bench.ledger.alarms(10).await.unwrap().is_empty());

    std::fs::remove_dir(&tree).unwrap();
    std::fs::rename(&away, &tree).unwrap();
    let did = bench.scrubber(100, None).turn(&CancellationToken::new()).await.unwrap();
    assert_eq!((did.objects, did.findings), (5, 0), "back in its place, all is whole");
}

#[tokio::test]
async fn what_was_found_while_the_tree_went_away_is_not_recorded() {
    let bench = Bench::new(5).await;
    let (tree, away) = (bench.dir.path().join("tree"), bench.dir.path().join("away"));
    let scrubber = bench.scrubber(100, Some(1 << 20));
    // A lazy unmount in the middle of a turn: the first file is read, then all others seem lost.
    bench.waited.before_each({
        let (tree, away) = (tree.clone(), away.clone());
        move || {
            if !away.exists() {
                std::fs::rename(tree.join("AWSLogs"), &away).unwrap();
                std::fs::rename(&tree, tree.with_extension("gone")).unwrap();
            }
        }
    });
    let error = scrubber.turn(&CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("removed, moved or unmounted"), "{error}");
    let row = bench.ledger.scrub("acme").await.unwrap();
    assert_eq!((row.began, row.findings), (None, 0), "nothing of that turn counts");
    assert!(bench.ledger.alarms(10).await.unwrap().is_empty());
}
