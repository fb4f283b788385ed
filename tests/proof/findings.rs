//! What the proof finds, and in which words.

use fakeaws::digests::SigningKey;
use fakeaws::{Fault, ObjectSpec, Op};

use crate::account::{B, BUCKET, REGION};
use crate::bench::{Bench, DAY, HOUR, gzip};

#[tokio::test]
async fn a_log_that_comes_twenty_days_late_is_fetched_by_its_digest_without_a_listing() {
    let mut bench = Bench::new().await;
    bench.hours(3).await;
    let late = bench.log(20 * DAY);
    bench.advance(HOUR);
    bench.digest();
    bench.advance(300);
    bench.list().await;
    assert!(bench.copy.read(&late).is_none(), "no poll looks back that far");
    let (gets, lists) = (bench.gets(), bench.lists());
    bench.prove().await;
    assert_eq!(bench.copy.read(&late).as_deref(), bench.world.body(BUCKET, &late).as_deref());
    assert_eq!(bench.through().await, Some(bench.trail.covered));
    assert_eq!(bench.gets(), gets + 1);
    assert!(bench.lists() - lists <= 1, "the poll of the stream that was woken, and no other listing");
    assert!(bench.alarms().await.is_empty());
}

#[tokio::test]
async fn a_log_that_is_named_and_gone_is_missing_until_it_is_here() {
    let mut bench = Bench::new().await;
    bench.hours(2).await;
    let proven = bench.through().await;
    let log = bench.log(60);
    let object = bench.hold_back(&log);
    bench.hours(1).await;
    assert_eq!(bench.through().await, proven);
    assert_eq!(bench.alarmed().await, [("missing".to_owned(), log.clone())]);
    assert!(bench.held().await.contains(&log), "{}", bench.held().await);
    bench.world.put_object(BUCKET, &log, object);
    for _ in 0..3 {
        bench.advance(600);
        bench.settle().await;
    }
    assert_eq!((bench.through().await, bench.alarmed().await), (Some(bench.trail.covered), vec![]));
}

#[tokio::test]
async fn a_log_that_is_named_and_gone_is_missing_too_where_what_is_missing_is_denied() {
    let mut bench = Bench::new().await;
    bench.list_own_logs_only();
    bench.hours(2).await;
    let proven = bench.through().await;
    assert!(proven.is_some());
    let log = bench.log(60);
    let object = bench.hold_back(&log);
    bench.hours(1).await;
    assert_eq!(bench.alarmed().await, [("missing".to_owned(), log.clone())]);
    bench.world.put_object(BUCKET, &log, object);
    for _ in 0..3 {
        bench.advance(600);
        bench.settle().await;
    }
    assert_eq!((bench.through().await, bench.alarmed().await), (Some(bench.trail.covered), vec![]));
}

#[tokio::test]
async fn a_log_that_is_named_and_gone_is_missing_also_when_its_first_try_failed_otherwise() {
    let mut bench = Bench::new().await;
    bench.hours(2).await;
    let log = bench.log(60);
    bench.hold_back(&log);
    bench.world.faults().inject(Fault::InternalError).on(Op::GetObject).key_contains(&log).times(8);
    bench.hours(1).await;
    for _ in 0..4 {
        bench.advance(600);
        bench.settle().await;
    }
    assert_eq!(bench.alarmed().await, [("missing".to_owned(), log)]);
}

#[tokio::test]
async fn a_log_that_was_altered_before_it_came_is_found_and_kept() {
    let mut bench = Bench::new().await;
    bench.hours(2).await;
    let proven = bench.through().await;
    let log = bench.log(60);
    let genuine = bench.world.body(BUCKET, &log).unwrap();
    bench.world.put_object(BUCKET, &log, ObjectSpec::log(gzip(b"{\"Records\":[\"forged\"]}")));
    bench.hours(1).await;
    assert_eq!(bench.through().await, proven);
    assert_eq!(bench.alarmed().await, [("altered".to_owned(), log.clone())]);
    // The source puts the genuine one back: it stands beside the forged one, and counts.
    bench.world.put_object(BUCKET, &log, ObjectSpec::log(genuine));
    for _ in 0..3 {
        bench.advance(600);
        bench.settle().await;
    }
    assert_eq!(bench.through().await, Some(bench.trail.covered));
    assert_eq!(bench.alarmed().await, [("replaced".to_owned(), log)], "that there are two versions stays said");
}

#[tokio::test]
async fn a_log_that_the_source_replaces_later_stays_proved_by_its_first_version() {
    let mut bench = Bench::new().await;
    let log = bench.log(60);
    bench.list().await;
    bench.world.put_object(BUCKET, &log, ObjectSpec::log(gzip(b"{\"Records\":[\"forged\"]}")));
    bench.advance(HOUR);
    bench.digest();
    bench.advance(300);
    bench.settle().await;
    assert_eq!(bench.through().await, Some(bench.trail.covered));
    assert_eq!(bench.alarmed().await, [("replaced".to_owned(), log)]);
}

#[tokio::test]
async fn a_digest_that_was_altered_proves_nothing_and_is_named() {
    let mut bench = Bench::new().await;
    bench.hours(2).await;
    let proven = bench.through().await;
    bench.advance(HOUR);
    let digest = bench.digest();
    let object = bench.hold_back(&digest);
    let mut document = Vec::new();
    let bytes = object.body.bytes();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut document).unwrap();
    let text = String::from_utf8(document).unwrap().replace("\"newestEventTime\":null", "\"newestEventTime\":\"\"");
    bench.world.put_object(
        BUCKET,
        &digest,
        ObjectSpec { body: fakeaws::Body::Bytes(gzip(text.as_bytes()).into()), ..object },
    );
    bench.hours(5).await;
    assert_eq!(bench.through().await, proven);
    assert_eq!(bench.alarmed().await, [("bad_signature".to_owned(), digest)]);
    assert!(bench.held().await.contains("is not what CloudTrail signed"));
}

#[tokio::test]
async fn a_digest_whose_key_nobody_knows_waits_and_is_alarmed_once_cloudtrail_has_said_so() {
    let mut bench = Bench::new().await;
    bench.hours(2).await;
    let proven = bench.through().await;
    bench.advance(HOUR);
    let key = SigningKey::fresh(bench.now());
    let digest = bench.next_digest();
    let digest = bench.put_with(digest, &key);
    bench.advance(300);
    bench.settle().await;
    assert_eq!((bench.through().await, bench.alarmed().await), (proven, vec![("unknown_key".to_owned(), digest)]));
    bench.world.add_public_key(REGION, key.public.clone());
    bench.advance(2 * HOUR);
    bench.settle().await;
    assert_eq!((bench.through().await, bench.alarmed().await), (Some(bench.trail.covered), vec![]));
}

#[tokio::test]
async fn planted_digests_of_other_accounts_and_odd_documents_are_refused_by_name() {
    let mut bench = Bench::new().await;
    bench.hours(2).await;
    let folder = format!("AWSLogs/{B}/CloudTrail-Digest/{REGION}/2026/03/10/{B}_CloudTrail-Digest_{REGION}_");
    for (name, body) in [("x_us-east-2_20260310T120000Z", &b"[]"[..]), ("..\u{202e}_é_20260310T130000Z", b"\xff")] {
        let object = ObjectSpec::log(gzip(body));
        bench.world.put_object(BUCKET, &format!("{folder}{name}.json.gz"), object);
    }
    bench.advance(60);
    bench.settle().await;
    let kinds: Vec<_> = bench.alarmed().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["malformed_digest", "malformed_digest"]);
    let own = bench.chains().await.into_iter().find(|chain| chain.trail == "all_of-it.v1").unwrap();
    assert_eq!(own.proven_through, Some(bench.trail.covered));
}

#[tokio::test]
async fn a_log_that_no_digest_names_is_found_once_its_day_is_proved_and_holds_nothing_back() {
    let mut bench = Bench::new().await;
    bench.hours(3).await;
    let planted = bench.unnamed_log(60);
    bench.hours(20).await;
    assert_eq!(bench.through().await, Some(bench.trail.covered));
    assert_eq!(bench.alarmed().await, [("unreferenced".to_owned(), planted)]);
    let gets = bench.gets();
    bench.hours(1).await;
    assert_eq!(bench.gets(), gets + 2, "it is looked for in the copy alone");
}

#[tokio::test]
async fn a_log_that_comes_late_for_a_compared_day_is_compared_when_the_proof_is_past_its_delivery() {
    let mut bench = Bench::new().await;
    bench.hours(20).await;
    assert!(bench.alarms().await.is_empty());
    // Both are named as of yesterday; the sweep of the last hours finds them.
    let (planted, named) = (bench.unnamed_log(20 * HOUR), bench.log(20 * HOUR));
    bench.advance(HOUR);
    bench.digest();
    bench.advance(6 * HOUR);
    bench.digest();
    bench.settle().await;
    assert!(bench.copy.read(&planted).is_some() && bench.copy.read(&named).is_some());
    bench.hours(2).await;
    assert_eq!(bench.alarmed().await, [("unreferenced".to_owned(), planted)]);
}

#[tokio::test]
async fn where_another_trail_without_digests_writes_it_is_said_once_that_this_is_unknown() {
    let mut bench = Bench::new().await;
    for _ in 0..23 {
        for _ in 0..3 {
            bench.unnamed_log(60);
        }
        bench.hours(1).await;
    }
    let kinds: Vec<_> = bench.alarmed().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["unknown_trail"]);
}

#[tokio::test]
async fn a_backfill_digest_vouches_for_what_its_hour_did_not_name() {
    let mut bench = Bench::new().await;
    bench.hours(3).await;
    let forgotten = bench.unnamed_log(60);
    bench.hours(2).await;
    let backfill = bench.backfill(&forgotten);
    bench.hours(18).await;
    assert_eq!(bench.through().await, Some(bench.trail.covered));
    assert!(bench.alarms().await.is_empty(), "{:?}", bench.alarms().await);
    assert!(bench.copy.read(&backfill).is_some());
}

#[tokio::test]
async fn a_backfill_digest_that_comes_after_the_alarm_ends_it() {
    let mut bench = Bench::new().await;
    bench.hours(3).await;
    let forgotten = bench.unnamed_log(60);
    bench.hours(20).await;
    assert_eq!(bench.alarmed().await, [("unreferenced".to_owned(), forgotten.clone())]);
    bench.backfill(&forgotten);
    bench.hours(1).await;
    assert!(bench.alarms().await.is_empty(), "{:?}", bench.alarms().await);
}

#[tokio::test]
async fn a_named_log_of_a_stream_that_was_never_seen_is_missing_and_does_not_stop_the_proof_of_the_others() {
    let mut bench = Bench::new().await;
    bench.hours(2).await;
    let log = bench.log(60);
    let object = bench.hold_back(&log);
    let insight = log.replace("CloudTrail/", "CloudTrail-Insight/").replace("_CloudTrail_", "_CloudTrail-Insight_");
    bench.world.put_object(BUCKET, &insight, object);
    bench.rename_waiting(&log, &insight);
    assert!(bench.world.delete_object(BUCKET, &insight));
    bench.hours(1).await;
    for _ in 0..3 {
        bench.advance(600);
        bench.settle().await;
    }
    assert_eq!(bench.alarmed().await, [("missing".to_owned(), insight)]);
}
