//! What keeps an object, and what a refusal does: never anything to the mirror.

use fakeaws::{Fault, ObjectSpec, Op, policies};
use serde_json::json;
use trailsync::ledger::{Alarm, Failure, Outcome, ScrubCommit, StreamId};
use trailsync::prune::Reason;
use trailsync::record::Record;

use crate::account::{B, BUCKET};
use crate::bench::{Bench, DAY, HOUR, gzip};
use crate::owner::{
    alarmed, allow_deletion, deletes, digests, keys, logs, old, outcome, records, round, rules, settle,
};

#[tokio::test]
async fn a_copy_that_rotted_or_was_lost_keeps_its_original() {
    let bench = old(3).await;
    let mut logs_there = logs(&bench).into_iter();
    let (rotten, lost, whole) = (logs_there.next().unwrap(), logs_there.next().unwrap(), logs_there.next().unwrap());
    let mut bytes = bench.copy.read(&rotten).unwrap();
    bytes[10] ^= 1;
    bench.copy.damage(&rotten, Some(bytes));
    bench.copy.damage(&lost, None);
    let pruned = round(&bench, rules(&bench)).await.unwrap();
    assert_eq!(pruned.kept[&Reason::NotWhole], 2, "{pruned:?}");
    assert_eq!(logs(&bench), [rotten, lost].into());
    assert!(!keys(&bench).contains(&whole));
}

#[tokio::test]
async fn an_object_that_was_overwritten_since_is_kept_and_alarmed() {
    let bench = old(2).await;
    let key = logs(&bench).pop_first().unwrap();
    bench.world.put_object(BUCKET, &key, ObjectSpec::log(gzip(b"{\"Records\":[]}")).modified(bench.now()));
    round(&bench, rules(&bench)).await.unwrap();
    assert_eq!(logs(&bench), [key.clone()].into());
    assert_eq!(outcome(&bench, &key).await, Some(Some(Outcome::Changed)));
    assert_eq!(alarmed(&bench).await, [("deletion".to_owned(), key.clone())]);
    let sent = deletes(&bench);
    let again = round(&bench, rules(&bench)).await.unwrap();
    assert_eq!((again.kept[&Reason::Changed], deletes(&bench)), (1, sent), "{again:?}");
}

#[tokio::test]
async fn a_replaced_object_is_kept_for_good() {
    let bench = old(2).await;
    let key = logs(&bench).pop_first().unwrap();
    bench.world.put_object(BUCKET, &key, ObjectSpec::log(gzip(b"{\"Records\":[]}")).modified(bench.now()));
    bench.advance(31 * DAY);
    settle(&bench).await;
    assert!(records(&bench).await[&key].0.later);
    bench.advance(91 * DAY);
    settle(&bench).await;
    let pruned = round(&bench, rules(&bench)).await.unwrap();
    assert_eq!(pruned.kept[&Reason::Replaced], 1, "{pruned:?}");
    assert_eq!(logs(&bench), [key].into());
}

#[tokio::test]
async fn a_denied_deletion_changes_nothing_and_names_the_permission() {
    let bench = old(3).await;
    allow_deletion(&bench, false);
    let before = keys(&bench);
    let error = round(&bench, rules(&bench)).await.unwrap_err();
    assert_eq!(error.code(), "AccessDenied");
    let said = error.to_string();
    assert!(said.contains("`s3:DeleteObject`") && said.contains(BUCKET), "{said}");
    assert_eq!(keys(&bench), before);
    assert!(records(&bench).await.values().all(|(record, row)| !record.gone && row.is_none()));
    settle(&bench).await;
    assert!(alarmed(&bench).await.is_empty());
    allow_deletion(&bench, true);
    round(&bench, rules(&bench)).await.unwrap();
    assert!(logs(&bench).is_empty());
}

#[tokio::test]
async fn one_object_that_is_denied_is_kept_and_does_not_hold_up_the_rest_for_ever() {
    let bench = old(6).await;
    let key = logs(&bench).pop_first().unwrap();
    bench.world.faults().inject(Fault::AccessDenied).on(Op::DeleteObject).key(&key).always();
    assert_eq!(round(&bench, rules(&bench)).await.unwrap_err().code(), "AccessDenied");
    assert_eq!(outcome(&bench, &key).await, Some(Some(Outcome::Kept)));
    let resumed = crate::owner::pruner(&bench, rules(&bench));
    let stop = tokio_util::sync::CancellationToken::new();
    while resumed.turn(&stop).await.unwrap().more {}
    assert!(logs(&bench).contains(&key));
    assert!(logs(&bench).len() <= rules(&bench).batch, "those of its batch wait for the next round");
}

#[tokio::test]
async fn a_service_that_takes_no_notice_of_the_tag_is_never_asked_for_an_object() {
    let bench = old(2).await;
    bench.world.faults().inject(Fault::IgnoresConditions).on(Op::DeleteObject).always();
    let before = keys(&bench);
    let error = round(&bench, rules(&bench)).await.unwrap_err();
    assert_eq!((error.code(), deletes(&bench)), ("IgnoresIfMatch", 1));
    assert_eq!(keys(&bench), before);
}

#[tokio::test]
async fn objects_that_are_tried_again_or_alarmed_stay() {
    let bench = old(3).await;
    let mut there = logs(&bench).into_iter();
    let (altered, failing) = (there.next().unwrap(), there.next().unwrap());
    let all = records(&bench).await;
    let id = bench.ledger.checkpoints().await.unwrap().into_iter().find(|row| row.kind == "CloudTrail").unwrap().id;
    let row = bench.ledger.scrub("acme").await.unwrap();
    let alarm = Alarm { kind: "altered", subject: altered.clone(), detail: "said".into() };
    let commit = ScrubCommit { raised: vec![(id, alarm)], ..rotten(&bench, id, &failing, &all[&failing].0) };
    bench.ledger.save_scrub(&row, &commit, bench.now()).await.unwrap();
    let pruned = round(&bench, rules(&bench)).await.unwrap();
    assert_eq!((pruned.kept[&Reason::Alarmed], pruned.kept[&Reason::Failing]), (1, 1), "{pruned:?}");
    assert_eq!(logs(&bench), [altered, failing].into());
    assert_eq!(digests(&bench).len(), 3, "theirs, and the newest");
}

#[tokio::test]
async fn a_copy_that_rots_after_its_original_was_deleted_says_that_there_is_none_any_more() {
    let bench = old(2).await;
    let key = logs(&bench).pop_first().unwrap();
    round(&bench, rules(&bench)).await.unwrap();
    // Who may list under a prefix alone is denied what is missing.
    let user = format!("arn:aws:iam::{B}:user/mirror");
    let mut reading = policies::read_own_logs(BUCKET, "", B);
    let statements = reading["Statement"].as_array_mut().unwrap();
    statements.iter_mut().for_each(|statement| statement["Principal"] = json!({ "AWS": user }));
    bench.world.set_bucket_policy(BUCKET, Some(reading));
    let record = records(&bench).await.remove(&key).unwrap().0;
    let id = bench.ledger.checkpoints().await.unwrap().into_iter().find(|row| row.kind == "CloudTrail").unwrap().id;
    let (row, commit) = (bench.ledger.scrub("acme").await.unwrap(), rotten(&bench, id, &key, &record));
    bench.ledger.save_scrub(&row, &commit, bench.now()).await.unwrap();
    settle(&bench).await;
    let alarms = bench.alarms().await;
    let rotten = alarms.iter().find(|alarm| alarm.kind == "rotten" && alarm.subject == key).unwrap();
    assert!(rotten.detail.contains("it was deleted at the source once it was mirrored"), "{}", rotten.detail);
    assert!(bench.ledger.quarantine(9).await.unwrap().is_empty());
    assert!(!alarms.iter().any(|alarm| alarm.kind == "vanished"));
}

/// What the scrub records of a rotten copy.
fn rotten(bench: &Bench, id: StreamId, key: &str, record: &Record) -> ScrubCommit {
    let failure = Failure {
        key: key.to_owned(),
        size: record.size,
        etag: record.etag.clone(),
        modified: record.modified,
        first_failed: bench.now(),
        attempts: 0,
        quarantined: false,
        next_try: bench.now(),
        code: "RottenCopy".into(),
        reason: "said".into(),
    };
    ScrubCommit { fetch: vec![(id, failure)], ..ScrubCommit::default() }
}

#[tokio::test]
async fn nothing_goes_while_the_clocks_disagree_or_ours_is_ahead() {
    let mut bench = old(2).await;
    bench.hours(1).await;
    let before = keys(&bench);
    bench.ours.set(trailsync::clock::shift(bench.now(), 400 * DAY));
    let error = round(&bench, rules(&bench)).await.unwrap_err();
    assert_eq!(error.code(), "ClockSkew");
    assert_eq!(keys(&bench), before);
}

#[tokio::test]
async fn of_two_clocks_that_differ_little_the_earlier_says_how_old_an_object_is() {
    let mut bench = Bench::new().await;
    allow_deletion(&bench, true);
    bench.hours(1).await;
    bench.advance(90 * DAY - HOUR - 300 - 100);
    settle(&bench).await;
    bench.ours.set(trailsync::clock::shift(bench.now(), 200));
    round(&bench, rules(&bench)).await.unwrap();
    assert_eq!(logs(&bench).len(), 1, "by the service's clock it has a hundred seconds left");
    bench.advance(101);
    settle(&bench).await;
    round(&bench, rules(&bench)).await.unwrap();
    assert!(logs(&bench).is_empty());
}
