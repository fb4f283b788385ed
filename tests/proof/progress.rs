//! How far the proof is, and what it costs.

use fakeaws::Op;
use trailsync::clock::shift;
use trailsync::copy_of::CopyOf;
use trailsync::public_keys::PublicKeys;

use crate::account::REGION;
use crate::bench::{Bench, DAY, HOUR};

#[tokio::test]
async fn the_proof_follows_the_digests_without_one_more_request_to_the_bucket() {
    let mut bench = Bench::new().await;
    bench.hours(5).await;
    assert_eq!(bench.through().await, Some(bench.trail.covered));
    assert_eq!(bench.gets(), 10, "a GET for each log and each digest");
    assert!(bench.alarms().await.is_empty() && bench.held().await.is_empty());
    let before = bench.lists();
    bench.prove().await;
    assert_eq!((bench.gets(), bench.lists()), (10, before));
}

#[tokio::test]
async fn keys_that_rotate_in_a_chain_are_fetched_and_exported_with_the_copy() {
    let mut bench = Bench::new().await;
    for _ in 0..60 {
        bench.log(60);
        bench.advance(DAY);
        bench.digest();
    }
    bench.advance(300);
    bench.settle().await;
    assert_eq!(bench.through().await, Some(bench.trail.covered));
    let chain = bench.chains().await.remove(0);
    assert!(bench.ledger.digests_here(chain.id, 10).await.unwrap().is_empty() && chain.state.len() < 2_500);
    let exported = bench.copy.kept(&format!("public-keys/{REGION}.json")).unwrap();
    assert!(PublicKeys::parse(&exported).unwrap().all().len() >= 3);
    let of = CopyOf::parse(&bench.copy.kept("sources/acme.json").unwrap()).unwrap();
    assert_eq!(of.source, "acme");
}

#[tokio::test]
async fn without_keys_mirroring_goes_on_and_the_proof_waits_for_them() {
    let mut bench = Bench::new().await;
    bench.allow_keys(false);
    bench.hours(2).await;
    assert_eq!((bench.through().await, bench.gets()), (None, 4));
    assert!(bench.held().await.contains("public keys"), "{}", bench.held().await);
    let request = bench.ledger.key_requests().await.unwrap().remove(0);
    assert!(request.error.unwrap().contains("cloudtrail:ListPublicKeys"));
    assert!(bench.alarms().await.is_empty(), "nothing is wrong with the copy");
    bench.allow_keys(true);
    bench.advance(600);
    bench.settle().await;
    assert_eq!((bench.through().await, bench.gets()), (Some(bench.trail.covered), 4));
}

#[tokio::test]
async fn a_late_digest_is_a_gap_after_its_grace_and_the_proof_goes_on_when_it_comes() {
    let mut bench = Bench::new().await;
    bench.hours(3).await;
    let proven = bench.through().await;
    bench.log(60);
    bench.advance(HOUR);
    let late = bench.digest();
    let object = bench.hold_back(&late);
    bench.hours(2).await;
    assert_eq!(bench.through().await, proven, "it waits for the digest that is named");
    assert!(bench.alarms().await.is_empty(), "which may still come");
    bench.hours(2).await;
    assert_eq!(bench.through().await, proven);
    let alarms = bench.alarms().await;
    assert_eq!((alarms.len(), alarms[0].kind.as_str()), (1, "gap"));
    assert!(alarms[0].detail.contains(&proven.unwrap().to_string()), "{}", alarms[0].detail);
    assert!(bench.held().await.contains("gap"));
    bench.world.put_object(crate::account::BUCKET, &late, object);
    bench.advance(HOUR / 2);
    bench.settle().await;
    assert_eq!(bench.through().await, Some(bench.trail.covered));
    assert!(bench.alarms().await.is_empty() && bench.held().await.is_empty());
}

#[tokio::test]
async fn a_digest_that_never_comes_names_each_hour_that_has_none() {
    let mut bench = Bench::new().await;
    bench.hours(2).await;
    let end = bench.trail.covered;
    bench.advance(6 * HOUR);
    bench.settle().await;
    let alarms = bench.alarms().await;
    assert_eq!((alarms.len(), alarms[0].kind.as_str()), (1, "gap"));
    for hour in 0..3 {
        assert!(alarms[0].detail.contains(&shift(end, hour * HOUR).to_string()), "{}", alarms[0].detail);
    }
}

#[tokio::test]
async fn a_trail_that_is_stopped_has_ended_and_one_that_starts_again_is_proved_anew() {
    let mut bench = Bench::new().await;
    bench.hours(3).await;
    bench.advance(20 * 60);
    bench.digest();
    bench.advance(30 * HOUR);
    bench.settle().await;
    let chain = bench.chains().await.remove(0);
    assert!(chain.ended && bench.alarms().await.is_empty(), "{:?}", bench.alarms().await);
    bench.trail.last = None;
    bench.trail.covered = bench.now();
    bench.hours(2).await;
    let chain = bench.chains().await.remove(0);
    assert_eq!((chain.ended, chain.proven_through), (false, Some(bench.trail.covered)));
    assert!(bench.alarms().await.is_empty());
}

#[tokio::test]
async fn two_trails_prove_the_same_logs_each_on_its_own() {
    let mut bench = Bench::new().await;
    let mut other = bench.trail.clone();
    other.name = "second";
    for _ in 0..3 {
        let log = bench.log(60);
        let body = bench.world.body(crate::account::BUCKET, &log).unwrap();
        std::mem::swap(&mut bench.trail, &mut other);
        bench.name_log(&log, &body);
        bench.advance(HOUR);
        bench.digest();
        std::mem::swap(&mut bench.trail, &mut other);
        bench.digest();
        bench.advance(300);
    }
    bench.settle().await;
    let chains = bench.chains().await;
    assert_eq!(chains.iter().map(|chain| chain.trail.as_str()).collect::<Vec<_>>(), ["all_of-it.v1", "second"]);
    assert!(chains.iter().all(|chain| chain.proven_through == Some(bench.trail.covered)));
    assert_eq!(bench.gets(), 9);
}

#[tokio::test]
async fn digests_that_were_mirrored_before_there_was_a_proof_are_judged_too_and_once() {
    let mut bench = Bench::new().await;
    bench.hours(3).await;
    for days in 1..8 {
        bench.advance(DAY - 300);
        bench.digest();
        bench.advance(300);
        if days == 7 {
            bench.list().await;
        }
    }
    bench.settle().await;
    let through = bench.through().await;
    assert_eq!(through, Some(bench.trail.covered));
    // What is in the state is what an older version left: no chains, and most days in manifests.
    bench.forget_the_proof().await;
    bench.restart();
    bench.prove().await;
    assert_eq!(bench.through().await, through);
    let judged = bench.prover.turn(&tokio_util::sync::CancellationToken::new()).await.unwrap().judged;
    assert_eq!((judged, bench.world.counters().total(Op::GetObject) > 0), (0, true));
}

#[tokio::test]
async fn with_since_the_proof_begins_at_the_first_digest_after_it() {
    let mut bench = Bench::with("since = \"2026-03-10T14:30:00Z\"").await;
    for _ in 0..5 {
        bench.log(60);
        bench.advance(HOUR);
        bench.digest();
    }
    bench.advance(60);
    bench.settle().await;
    let chain = bench.chains().await.remove(0);
    assert_eq!(chain.proven_from, Some("2026-03-10T14:00:00Z".parse().unwrap()));
    assert_eq!(chain.proven_through, Some(bench.trail.covered));
}

#[tokio::test]
async fn a_restart_at_any_point_judges_nothing_twice_and_forgets_nothing() {
    let mut bench = Bench::new().await;
    for _ in 0..4 {
        bench.hours(1).await;
        bench.restart();
    }
    assert_eq!((bench.through().await, bench.gets()), (Some(bench.trail.covered), 8));
}
