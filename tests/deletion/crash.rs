//! What is left behind between the intent, the request and its outcome is resolved, whatever happened.

use fakeaws::{Fault, Op};
use trailsync::layout::Stream;
use trailsync::ledger::{Intent, Outcome};
use trailsync::prune::Reason;

use crate::account::{BUCKET, REGION};
use crate::bench::Bench;
use crate::owner::{alarmed, keys, list_everything, logs, old, outcome, records, round, rules};

/// A process that died right after it had recorded what it was about to ask for.
async fn intend(bench: &Bench, key: &str) {
    let stream = Stream::of_key("acme", "AWSLogs/", key).unwrap();
    let (id, _) = bench.ledger.checkpoint(&stream).await.unwrap();
    let record = records(bench).await.remove(key).unwrap().0;
    let intent = Intent { record, proof: Some("digest".into()), is_again: false };
    let row = bench.ledger.prune("acme").await.unwrap();
    bench.ledger.intend(&stream, id, &[intent], &row, bench.now()).await.unwrap();
}

#[tokio::test]
async fn an_intent_that_was_never_sent_is_decided_on_anew() {
    let mut bench = old(3).await;
    let key = logs(&bench).pop_first().unwrap();
    intend(&bench, &key).await;
    bench.restart();
    assert_eq!(outcome(&bench, &key).await, Some(None));
    round(&bench, rules(&bench)).await.unwrap();
    assert_eq!(outcome(&bench, &key).await, Some(Some(Outcome::Deleted)));
    assert!(logs(&bench).is_empty() && alarmed(&bench).await.is_empty());
}

#[tokio::test]
async fn a_deletion_whose_answer_was_lost_is_ours() {
    let mut bench = old(3).await;
    let key = logs(&bench).pop_first().unwrap();
    bench.world.faults().inject(Fault::LostAnswer).on(Op::DeleteObject).key(&key).times(1);
    round(&bench, rules(&bench)).await.unwrap_err();
    assert_eq!(outcome(&bench, &key).await, Some(None));
    assert!(!keys(&bench).contains(&key));
    bench.restart();
    // A full listing comes first: what may be our doing is not alarmed.
    list_everything(&bench).await;
    assert!(alarmed(&bench).await.is_empty());
    round(&bench, rules(&bench)).await.unwrap();
    list_everything(&bench).await;
    assert!(alarmed(&bench).await.is_empty() && logs(&bench).is_empty());
    assert!(records(&bench).await[&key].0.deleted);
}

#[tokio::test]
async fn a_deletion_whose_answer_was_lost_is_resolved_by_the_next_round() {
    let mut bench = old(3).await;
    let key = logs(&bench).pop_first().unwrap();
    bench.world.faults().inject(Fault::LostAnswer).on(Op::DeleteObject).key(&key).times(1);
    round(&bench, rules(&bench)).await.unwrap_err();
    bench.restart();
    let before = bench.ledger.prune("acme").await.unwrap().deleted;
    round(&bench, rules(&bench)).await.unwrap();
    assert_eq!(outcome(&bench, &key).await, Some(Some(Outcome::Deleted)));
    assert!(bench.ledger.prune("acme").await.unwrap().deleted > before);
}

#[tokio::test]
async fn an_intent_that_may_not_be_carried_out_any_more_is_looked_up() {
    let bench = old(4).await;
    let mut there = logs(&bench).into_iter();
    let (still, gone) = (there.next().unwrap(), there.next().unwrap());
    for key in [&still, &gone] {
        intend(&bench, key).await;
        bench.copy.damage(key, None);
    }
    assert!(bench.world.delete_object(BUCKET, &gone), "by the request of which nothing is known");
    let pruned = round(&bench, rules(&bench)).await.unwrap();
    assert_eq!(pruned.kept[&Reason::NotWhole], 1, "{pruned:?}");
    assert_eq!(outcome(&bench, &still).await, Some(Some(Outcome::Kept)));
    assert_eq!(outcome(&bench, &gone).await, Some(Some(Outcome::Deleted)));
    assert_eq!(logs(&bench), [still.clone()].into(), "{REGION}");
    // Nobody's request is out for it any more: if it goes now, somebody else did it.
    assert!(bench.world.delete_object(BUCKET, &still));
    list_everything(&bench).await;
    assert!(alarmed(&bench).await.contains(&("vanished".to_owned(), still)));
}
