//! A round: what goes, what stays, what is said of it, and what nobody alarms.

use trailsync::config::Require;
use trailsync::ledger::Outcome;
use trailsync::prune::Reason;

use crate::account::BUCKET;
use crate::bench::{Bench, DAY, HOUR};
use crate::owner::{
    alarmed, allow_deletion, deletes, digests, keys, list_everything, logs, look, old, outcome, records, round, rules,
};

#[tokio::test]
async fn logs_that_are_old_and_proven_go_with_their_digests_but_the_newest() {
    let bench = old(4).await;
    let before = keys(&bench);
    let pruned = round(&bench, rules(&bench)).await.unwrap();
    assert_eq!((pruned.deleted, pruned.kept.get(&Reason::Newest)), (7, Some(&1)), "{pruned:?}");
    assert!(logs(&bench).is_empty());
    assert_eq!(digests(&bench).len(), 1);
    for (key, (record, row)) in records(&bench).await {
        assert_eq!(bench.copy.read(&key).is_some(), before.contains(&key), "{key}");
        let is_deleted = !keys(&bench).contains(&key);
        assert_eq!((record.gone, record.deleted), (is_deleted, is_deleted), "{key}");
        let row = row.filter(|_| is_deleted);
        assert_eq!(row.as_ref().and_then(|row| row.outcome), is_deleted.then_some(Outcome::Deleted), "{key}");
        if let Some(row) = row.filter(|_| !key.contains("Digest")) {
            assert!(row.proof.is_some_and(|digest| digest.contains("CloudTrail-Digest")), "{key}");
        }
    }
    let row = bench.ledger.prune("acme").await.unwrap();
    assert_eq!((row.deleted, row.last_sent, row.began), (7, 7, None));
    assert!(row.bytes > 0 && row.last_deleted.is_some());
}

#[tokio::test]
async fn what_we_deleted_has_not_vanished_and_is_not_fetched_again() {
    let bench = old(3).await;
    let (fetched, alarms) = (bench.gets(), alarmed(&bench).await);
    round(&bench, rules(&bench)).await.unwrap();
    list_everything(&bench).await;
    list_everything(&bench).await;
    assert_eq!((bench.gets(), alarmed(&bench).await), (fetched, alarms));
    assert!(records(&bench).await.values().filter(|(record, _)| record.gone).all(|(record, _)| record.deleted));
}

#[tokio::test]
async fn what_others_delete_has_vanished_all_the_same() {
    let bench = old(3).await;
    let key = logs(&bench).pop_first().unwrap();
    assert!(bench.world.delete_object(BUCKET, &key));
    // It is asked for all the same, and was not there: that is not our doing.
    round(&bench, rules(&bench)).await.unwrap();
    assert_eq!(outcome(&bench, &key).await, Some(Some(Outcome::Absent)));
    list_everything(&bench).await;
    assert_eq!(alarmed(&bench).await, [("vanished".to_owned(), key)]);
}

#[tokio::test]
async fn what_is_put_there_again_and_vanishes_then_is_alarmed() {
    let bench = old(2).await;
    let key = logs(&bench).pop_first().unwrap();
    let object = bench.hold_back(&key);
    bench.world.put_object(BUCKET, &key, object.clone());
    round(&bench, rules(&bench)).await.unwrap();
    assert!(!keys(&bench).contains(&key));
    list_everything(&bench).await;
    bench.world.put_object(BUCKET, &key, object.modified(bench.now()));
    list_everything(&bench).await;
    assert!(!records(&bench).await[&key].0.gone);
    assert!(bench.world.delete_object(BUCKET, &key));
    list_everything(&bench).await;
    assert_eq!(alarmed(&bench).await, [("vanished".to_owned(), key)]);
}

#[tokio::test]
async fn younger_objects_stay_until_their_time() {
    let mut bench = old(2).await;
    bench.hours(1).await;
    let before = keys(&bench);
    let pruned = round(&bench, rules(&bench)).await.unwrap();
    assert!(pruned.kept[&Reason::Young] >= 2, "{pruned:?}");
    assert_eq!(before.difference(&keys(&bench)).count() as u64, pruned.deleted);
    assert_eq!(logs(&bench).len(), 1, "the young one");
}

#[tokio::test]
async fn a_log_that_no_digest_names_stays_unless_it_is_accepted_in_writing() {
    let mut bench = Bench::new().await;
    allow_deletion(&bench, true);
    bench.hours(1).await;
    // Outside of what the chain covers: nothing is alarmed of it, and nothing vouches for it.
    let unnamed = bench.unnamed_log(3 * DAY);
    bench.settle().await;
    bench.advance(91 * DAY);
    bench.settle().await;
    let pruned = round(&bench, rules(&bench)).await.unwrap();
    assert_eq!(pruned.kept.get(&Reason::Unproven), Some(&1), "{pruned:?}");
    assert_eq!(logs(&bench), [unnamed.clone()].into());
    let mut stored = rules(&bench);
    stored.terms.require = Require::Stored;
    let digests_before = digests(&bench);
    round(&bench, stored).await.unwrap();
    assert!(logs(&bench).is_empty());
    assert_eq!(digests(&bench), digests_before, "digests never go without proof");
    assert_eq!(records(&bench).await[&unnamed].1.as_ref().unwrap().proof, None);
}

#[tokio::test]
async fn a_dry_run_asks_nothing_and_says_what_a_round_then_does() {
    let bench = old(3).await;
    let log = logs(&bench).pop_first().unwrap();
    bench.copy.damage(&log, Some(b"rotten".to_vec()));
    let (before, requests) = (keys(&bench), bench.world.counters().clone());
    let (would, pruned) = look(&bench, rules(&bench)).await;
    let after = bench.world.counters();
    for op in
        [fakeaws::Op::DeleteObject, fakeaws::Op::GetObject, fakeaws::Op::ListObjectsV2, fakeaws::Op::ListPublicKeys]
    {
        assert_eq!(requests.total(op), after.total(op), "{op:?}");
    }
    assert_eq!(keys(&bench), before);
    assert_eq!((pruned.deleted, pruned.kept[&Reason::NotWhole]), (2, 1), "{pruned:?}");
    assert!(records(&bench).await.values().all(|(record, row)| row.is_none() && !record.gone));
    round(&bench, rules(&bench)).await.unwrap();
    let gone: std::collections::BTreeSet<_> = before.difference(&keys(&bench)).cloned().collect();
    assert!(would.is_subset(&gone), "{would:?} of {gone:?}");
    assert!(gone.difference(&would).all(|key| key.contains("Digest")), "digests follow their logs");
}

#[tokio::test]
async fn a_round_sends_no_more_than_it_may_and_goes_on_with_the_next() {
    let bench = old(6).await;
    let capped = trailsync::prune::Rules { most: 3, ..rules(&bench) };
    let before = keys(&bench).len();
    let pruned = round(&bench, capped.clone()).await.unwrap();
    assert_eq!((pruned.deleted, pruned.capped), (3, true));
    assert_eq!(keys(&bench).len(), before - 3);
    let row = bench.ledger.prune("acme").await.unwrap();
    assert_eq!((row.last_sent, row.began), (3, None));
    let rounds = async {
        let mut rounds = 1;
        while round(&bench, capped.clone()).await.unwrap().deleted > 0 {
            rounds += 1;
        }
        rounds
    };
    assert_eq!(rounds.await, 4, "eleven in threes");
    assert_eq!(keys(&bench).len(), 1);
}

#[tokio::test]
async fn the_daemon_begins_a_round_a_day() {
    let bench = old(2).await;
    let pruner = crate::owner::pruner(&bench, rules(&bench));
    let stop = tokio_util::sync::CancellationToken::new();
    while pruner.turn(&stop).await.unwrap().more {}
    let sent = deletes(&bench);
    assert!(sent > 0);
    bench.advance(23 * HOUR);
    assert_eq!(pruner.turn(&stop).await.unwrap(), trailsync::prune::Pruned::default());
    bench.advance(2 * HOUR);
    let next = pruner.turn(&stop).await.unwrap();
    assert!(!next.kept.is_empty(), "{next:?}");
    assert_eq!(deletes(&bench), sent, "there is nothing left to ask for");
}
