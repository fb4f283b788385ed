//! Digests go after the logs that they name, and never the newest.

use trailsync::prune::Reason;

use crate::account::BUCKET;
use crate::bench::{Bench, DAY, HOUR};
use crate::owner::{allow_deletion, digests, keys, logs, old, round, rules};

#[tokio::test]
async fn a_digest_stays_while_a_log_that_it_names_is_there() {
    let bench = old(3).await;
    let log = logs(&bench).pop_first().unwrap();
    bench.copy.damage(&log, None);
    let pruned = round(&bench, rules(&bench)).await.unwrap();
    assert_eq!((pruned.kept[&Reason::NotWhole], pruned.kept[&Reason::Needed]), (1, 1), "{pruned:?}");
    assert_eq!(logs(&bench), [log].into());
    assert_eq!(digests(&bench).len(), 2, "its own, and the newest");
}

#[tokio::test]
async fn a_digest_stays_while_it_names_a_log_that_is_not_mirrored() {
    let mut bench = Bench::with("kinds = [\"CloudTrail\", \"CloudTrail-Digest\"]").await;
    allow_deletion(&bench, true);
    let log = bench.log(60);
    bench.rename_waiting(&log, &log.replace("CloudTrail", "CloudTrail-Insight"));
    bench.advance(HOUR);
    bench.digest();
    bench.advance(300);
    bench.settle().await;
    bench.hours(1).await;
    bench.advance(91 * DAY);
    bench.settle().await;
    let pruned = round(&bench, rules(&bench)).await.unwrap();
    assert_eq!(pruned.kept.get(&Reason::Needed), Some(&1), "{pruned:?}");
}

#[tokio::test]
async fn the_chain_goes_on_behind_what_was_deleted() {
    let mut bench = old(3).await;
    round(&bench, rules(&bench)).await.unwrap();
    let through = bench.through().await;
    bench.trail.covered = bench.now();
    bench.hours(2).await;
    assert_eq!(bench.chains().await.len(), 1);
    assert!(bench.through().await >= through);
    assert!(!keys(&bench).is_empty());
}

#[tokio::test]
async fn behind_a_hole_nothing_is_proven_and_nothing_goes() {
    let mut bench = Bench::new().await;
    allow_deletion(&bench, true);
    bench.hours(2).await;
    bench.log(60);
    bench.advance(HOUR);
    let lost = bench.next_digest();
    let held = bench.put(lost);
    assert!(bench.world.delete_object(BUCKET, &held), "the digest of the third hour never arrives");
    bench.hours(2).await;
    bench.advance(91 * DAY);
    bench.settle().await;
    let pruned = round(&bench, rules(&bench)).await.unwrap();
    assert_eq!(logs(&bench).len(), 3, "of the lost hour, and of both behind it: {pruned:?}");
    assert_eq!(digests(&bench).len(), 3, "the newest before the hole, and both behind it");
}
