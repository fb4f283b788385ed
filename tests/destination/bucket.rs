//! What a bucket of one's own promises besides: conditions, parts, retention, credentials of its own.

use fakeaws::{BucketSpec, Fault, Op, Sse, policies};
use serde_json::json;
use trailsync::config::ObjectLock;
use trailsync::content::Asked;
use trailsync::destination::{Destination as _, Item, Published};
use trailsync::error::Class;
use trailsync::object::Metadata;

use crate::account::{A, B, REGION};
use crate::archive::{ARCHIVE, Archive, PREFIX};
use crate::bench::{Bench as _, InBucket, first, item, publish};

const MIB: usize = 1 << 20;

fn noise(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(bytes as u64);
    std::iter::repeat_with(|| random.u8(..)).take(bytes).collect()
}

#[tokio::test]
async fn a_copy_is_the_service_s_own_only_after_its_checksum_and_condition_held() {
    let bench = InBucket::new().await;
    let at = bench.open().await;
    let before = bench.shared.world.counters();
    assert_eq!(before.total(Op::PutObject), 2, "that conditions hold was seen");
    assert_eq!(publish(&at, "AWSLogs/x.gz", "one").await.unwrap(), Published::New);
    let stored = bench.object(&first("AWSLogs/x.gz")).unwrap();
    assert_eq!(stored.checksum, Some(fakeaws::ChecksumKind::Sha256));
    assert_eq!(stored.lock, None);
    let counters = bench.shared.world.counters();
    assert_eq!((counters.total(Op::PutObject), counters.total(Op::HeadObject)), (3, 0));
    publish(&at, "AWSLogs/x.gz", "one").await.unwrap();
    let counters = bench.shared.world.counters();
    assert_eq!((counters.total(Op::HeadObject), counters.total(Op::GetObject)), (1, 0), "the checksum is enough");
}

#[tokio::test]
async fn a_service_that_takes_no_notice_of_conditions_is_refused_before_anything_is_stored() {
    let bench = InBucket::new().await;
    bench.shared.world.faults().inject(Fault::IgnoresConditions).on(Op::PutObject).always();
    let at = bench.open().await;
    let error = at.prepare().await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Stream, "NoConditionalWrites"), "{error}");
    assert!(at.stage(crate::bench::body("x"), 1, Asked::all(false)).await.is_err());
    assert!(bench.copies(&at).is_empty());
    bench.shared.world.faults().clear();
    assert_eq!(publish(&at, "a.gz", "x").await.unwrap(), Published::New, "it goes on by itself");
}

#[tokio::test]
async fn a_copy_without_a_comparable_checksum_is_read_to_be_compared() {
    let bench = InBucket::new().await;
    let at = bench.open().await;
    for (kind, key) in [(None, "a.gz"), (Some(fakeaws::ChecksumKind::Crc64Nvme), "b.gz")] {
        let there = fakeaws::ObjectSpec::bytes("one").checksum(kind);
        bench.shared.world.put_object(ARCHIVE, &format!("{PREFIX}/{key}"), there);
        assert_eq!(publish(&at, key, "one").await.unwrap(), Published::Same);
        assert_eq!(publish(&at, key, "two").await.unwrap(), Published::Other);
    }
    assert_eq!(bench.shared.world.counters().total(Op::GetObject), 4);
}

#[tokio::test]
async fn what_passes_by_itself_is_asked_again_and_a_lost_answer_is_found() {
    for fault in [
        Fault::ConditionalConflict,
        Fault::SlowDown,
        Fault::InternalError,
        Fault::CloseBeforeHeaders,
        Fault::LostAnswer,
        Fault::RequestTimeout,
    ] {
        let bench = InBucket::new().await;
        let at = bench.open().await;
        let lost = fault == Fault::LostAnswer;
        let id = bench.shared.world.faults().inject(fault).on(Op::PutObject).times(2);
        let published = publish(&at, "a.gz", "one").await.unwrap();
        assert_eq!(published, if lost { Published::Same } else { Published::New });
        assert_eq!(bench.copies(&at).len(), 1);
        assert!(bench.shared.world.faults().struck(id) >= 1);
    }
}

#[tokio::test]
async fn what_does_not_pass_fails_the_batch_and_a_second_publish_makes_it_whole() {
    let bench = InBucket::new().await;
    let at = bench.open().await;
    let id = bench.shared.world.faults().inject(Fault::InternalError).on(Op::PutObject).key_contains("b.gz").always();
    let batch = vec![item(&at, "a.gz", "1").await, item(&at, "b.gz", "2").await];
    let error = at.publish(batch).await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Transient, "InternalError"), "{error}");
    assert_eq!(bench.shared.world.faults().struck(id), 4);
    assert_eq!(bench.copies(&at).len(), 1, "one was visible");
    bench.shared.world.faults().clear();
    let batch = vec![item(&at, "a.gz", "1").await, item(&at, "b.gz", "2").await];
    assert_eq!(at.publish(batch).await.unwrap(), [Published::Same, Published::New]);
}

#[tokio::test]
async fn large_copies_go_up_in_parts_and_are_compared_and_never_replaced() {
    let bench = InBucket::new().await;
    let at = bench.open().await;
    let bytes = noise(17 * MIB);
    let metadata = Some(Metadata::from([("signature".to_owned(), "s".to_owned())]));
    let large = |bytes: Vec<u8>| async { Item { metadata: metadata.clone(), ..item(&at, "big.gz", bytes).await } };
    assert_eq!(at.publish(vec![large(bytes.clone()).await]).await.unwrap(), [Published::New]);
    let counters = bench.shared.world.counters();
    assert_eq!((counters.total(Op::UploadPart), counters.total(Op::CompleteMultipartUpload)), (3, 1));
    let stored = bench.object(&first("big.gz")).unwrap();
    assert!(stored.body.bytes() == bytes && stored.composite.as_ref().is_some_and(|sum| sum.ends_with("-3")));
    assert_eq!(stored.metadata["signature"], "s");

    assert_eq!(at.publish(vec![large(bytes.clone()).await]).await.unwrap(), [Published::Same]);
    let mut other = bytes.clone();
    other[9 * MIB] ^= 1;
    assert_eq!(at.publish(vec![large(other).await]).await.unwrap(), [Published::Other]);
    assert!(bench.object(&first("big.gz")).unwrap().body.bytes() == bytes);
    assert!(bench.shared.world.open_uploads(ARCHIVE).is_empty(), "an upload that lost is aborted");
    assert_eq!(bench.staged(), 0);
}

#[tokio::test]
async fn an_error_inside_a_200_is_an_error() {
    let bench = InBucket::new().await;
    let at = bench.open().await;
    let faults = bench.shared.world.faults();
    faults.inject(Fault::ErrorInside200).on(Op::CompleteMultipartUpload).times(2);
    assert_eq!(publish(&at, "big.gz", noise(9 * MIB)).await.unwrap(), Published::New);
    let id = faults.inject(Fault::ErrorInside200).on(Op::CompleteMultipartUpload).always();
    let error = publish(&at, "other.gz", noise(9 * MIB)).await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Transient, "InternalError"), "{error}");
    assert!(faults.struck(id) > 1);
    assert_eq!(bench.copies(&at).len(), 1);
    assert!(bench.shared.world.open_uploads(ARCHIVE).is_empty());
}

#[tokio::test]
async fn a_lost_answer_to_a_completed_upload_is_found() {
    let bench = InBucket::new().await;
    let at = bench.open().await;
    bench.shared.world.faults().inject(Fault::LostAnswer).on(Op::CompleteMultipartUpload).times(1);
    assert_eq!(publish(&at, "big.gz", noise(9 * MIB)).await.unwrap(), Published::Same);
    assert_eq!(bench.copies(&at).len(), 1);
}

#[tokio::test]
async fn parts_that_are_damaged_on_the_way_are_sent_again() {
    let bench = InBucket::new().await;
    let at = bench.open().await;
    bench.shared.world.faults().inject(Fault::SlowDown).on(Op::UploadPart).times(1);
    bench.shared.world.faults().inject(Fault::CloseBeforeHeaders).on(Op::UploadPart).times(2);
    assert_eq!(publish(&at, "big.gz", noise(9 * MIB)).await.unwrap(), Published::New);
}

#[tokio::test]
async fn uploads_that_an_earlier_run_left_open_are_aborted_and_those_of_others_are_not() {
    let bench = InBucket::new().await;
    let at = bench.open().await;
    let faults = bench.shared.world.faults();
    // As if the process had ended: neither the end of the upload nor its abortion comes through.
    faults.inject(Fault::AccessDenied).on(Op::CompleteMultipartUpload).always();
    faults.inject(Fault::AccessDenied).on(Op::AbortMultipartUpload).always();
    for key in ["AWSLogs/222222222222/big\n.gz", ".trailsync/big.gz", "AWSLogs/b.gz"] {
        publish(&at, key, noise(6 * MIB)).await.unwrap_err();
    }
    drop(at);
    faults.clear();
    assert_eq!(bench.shared.world.open_uploads(ARCHIVE).len(), 3);
    let elsewhere = Archive {
        own: trailsync::config::OwnBucket { prefix: format!("{PREFIX}/other"), ..bench.archive.own.clone() },
        role: String::new(),
    };
    let other_spool = tempfile::tempdir().unwrap();
    let other = elsewhere.open(&bench.shared, other_spool.path());
    faults.inject(Fault::AccessDenied).on(Op::CompleteMultipartUpload).always();
    faults.inject(Fault::AccessDenied).on(Op::AbortMultipartUpload).always();
    publish(&other, "AWSLogs/c.gz", noise(6 * MIB)).await.unwrap_err();
    faults.clear();
    assert_eq!(bench.shared.world.open_uploads(ARCHIVE).len(), 4);

    let at = bench.open().await;
    at.prepare().await.unwrap();
    let left = bench.shared.world.open_uploads(ARCHIVE);
    assert_eq!(left, [format!("{PREFIX}/other/AWSLogs/c.gz")], "another's upload goes on");
    assert_eq!(publish(&at, "AWSLogs/b.gz", noise(6 * MIB)).await.unwrap(), Published::New);
}

#[tokio::test]
async fn who_may_not_look_for_open_uploads_may_write_all_the_same() {
    let bench = InBucket::new().await;
    let bucket = format!("arn:aws:s3:::{ARCHIVE}");
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["s3:PutObject", "s3:GetObject"], "Resource": format!("{bucket}/{PREFIX}/*")},
    ]});
    assert!(bench.shared.world.set_role_policy(&bench.archive.role, policy));
    let at = bench.open().await;
    assert_eq!(publish(&at, "a.gz", "x").await.unwrap(), Published::New);
}

#[tokio::test]
async fn copies_are_locked_encrypted_and_classed_as_configured() {
    let key = "arn:aws:kms:eu-west-1:222222222222:key/k";
    let bench = InBucket::with(|shared| {
        Archive::with(shared, BucketSpec::new(ARCHIVE, B, REGION).locked(), |own| {
            own.object_lock = Some(ObjectLock { mode: "COMPLIANCE".into(), days: 30 });
            own.storage_class = Some("STANDARD_IA".into());
            own.sse = Some("aws:kms".into());
            own.kms_key_id = Some(key.into());
        })
    })
    .await;
    let mut policy = policies::write_copies(ARCHIVE, PREFIX);
    let kms = json!({"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": key});
    policy["Statement"].as_array_mut().unwrap().push(kms);
    assert!(bench.shared.world.set_role_policy(&bench.archive.role, policy));
    let at = bench.open().await;
    let before = jiff::Timestamp::now();
    assert_eq!(publish(&at, "small.gz", "x").await.unwrap(), Published::New);
    assert_eq!(publish(&at, "small.gz", "x").await.unwrap(), Published::Same);
    assert_eq!(publish(&at, "large.gz", noise(9 * MIB)).await.unwrap(), Published::New);
    at.keep("manifests/a.gz", vec![1]).await.unwrap();
    let kept = bench.shared.world.object(ARCHIVE, &format!("{PREFIX}/.trailsync/manifests/a.gz")).unwrap();
    for stored in [bench.object(&first("small.gz")).unwrap(), bench.object(&first("large.gz")).unwrap(), kept] {
        let lock = stored.lock.as_ref().expect("a lock");
        let days = lock.retain_until.duration_since(before).as_hours() / 24;
        assert_eq!((lock.mode.as_str(), days), ("COMPLIANCE", 30));
        assert_eq!(stored.storage_class, "STANDARD_IA");
        assert_eq!(stored.sse, Sse::Kms { key_arn: key.into() });
    }
}

#[tokio::test]
async fn a_bucket_without_object_lock_is_refused_where_retention_is_configured() {
    let bench = InBucket::with(|shared| {
        Archive::with(shared, BucketSpec::new(ARCHIVE, B, REGION), |own| {
            own.object_lock = Some(ObjectLock { mode: "GOVERNANCE".into(), days: 1 });
        })
    })
    .await;
    let at = bench.open().await;
    let error = at.prepare().await.unwrap_err();
    assert_eq!(error.class(), Class::Stream);
    assert!(error.to_string().contains("made with Object Lock"), "{error}");
    let staged = at.stage(crate::bench::body("x"), 1, Asked::all(false)).await;
    assert!(staged.is_err() && bench.copies(&at).is_empty(), "nothing is stored that could be deleted");
}

#[tokio::test]
async fn each_denial_names_the_permission_and_stops_the_stream() {
    let bench = InBucket::new().await;
    let at = bench.open().await;
    assert_eq!(publish(&at, "a.gz", "x").await.unwrap(), Published::New);
    for (op, bytes, words) in [
        (Op::PutObject, b"x".to_vec(), "`s3:PutObject` on `arn:aws:s3:::our-archive/trails/acme/"),
        (Op::HeadObject, b"x".to_vec(), "`s3:GetObject` on `arn:aws:s3:::our-archive/trails/acme/a.gz`"),
        (Op::CreateMultipartUpload, noise(6 * MIB), "`s3:PutObject`"),
        (Op::UploadPart, noise(6 * MIB), "`s3:PutObject`"),
    ] {
        bench.shared.world.faults().inject(Fault::AccessDenied).on(op).always();
        let key = if op == Op::HeadObject { "a.gz" } else { "b.gz" };
        let error = publish(&at, key, bytes).await.unwrap_err();
        assert_eq!(error.class(), Class::Stream, "{error}");
        assert!(error.to_string().contains(words) && error.to_string().contains("Archive"), "{error}");
        bench.shared.world.faults().clear();
    }
}

#[tokio::test]
async fn a_bucket_of_another_owner_is_refused() {
    let bench = InBucket::with(|shared| Archive::with(shared, BucketSpec::new(ARCHIVE, A, REGION), |_| {})).await;
    let at = bench.open().await;
    let error = at.prepare().await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Stream, "AccessDenied"));
    assert!(error.to_string().contains("not account 222222222222's"), "{error}");
}

#[tokio::test]
async fn a_session_that_ends_early_is_renewed_and_its_policy_allows_no_more_than_the_work() {
    let bench = InBucket::new().await;
    let (keeper, at) = bench.archive.open_kept(&bench.shared, &bench.spool());
    at.prepare().await.unwrap();
    assert_eq!(publish(&at, "a.gz", "x").await.unwrap(), Published::New);
    bench.shared.world.faults().inject(Fault::ExpiredToken).on(Op::PutObject).times(1);
    assert_eq!(publish(&at, "b.gz", "x").await.unwrap(), Published::New);
    assert_eq!(keeper.state().renewals, 2);
    assert_eq!(keeper.state().role_arn.as_deref(), Some(bench.archive.role.as_str()));

    // The role may do everything from here on: what is refused is refused by the session's own policy.
    assert!(bench.shared.world.set_role_policy(&bench.archive.role, policies::everything()));
    let outside = Archive {
        own: trailsync::config::OwnBucket { prefix: "elsewhere".into(), ..bench.archive.own.clone() },
        role: String::new(),
    };
    let source = bench.shared.source("", "");
    let process = bench.shared.process();
    let spool = tempfile::tempdir().unwrap();
    let opened =
        trailsync::destination::bucket::Bucket::open(&source, &outside.own, keeper, &process, spool.path().into());
    let error = opened.unwrap().paced(0.001).prepare().await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Stream, "AccessDenied"), "{error}");
}

#[tokio::test]
async fn metadata_that_no_header_can_carry_is_the_object_s_own_failure() {
    let bench = InBucket::new().await;
    let at = bench.open().await;
    for (name, value, code) in [
        ("a", "line\nbreak".to_owned(), "InvalidMetadata"),
        ("a b", "x".to_owned(), "InvalidMetadata"),
        ("a", "é".to_owned(), "InvalidMetadata"),
        ("a", "x".repeat(2048), "MetadataTooLarge"),
    ] {
        let odd = Item { metadata: Some(Metadata::from([(name.to_owned(), value)])), ..item(&at, "d.gz", "x").await };
        let good = item(&at, &format!("good-{}.gz", code.len()), "x").await;
        let published = at.publish(vec![odd, good]).await.unwrap();
        assert!(matches!(&published[0], Published::Refused(why) if why.code.as_deref() == Some(code)), "{published:?}");
        assert!(matches!(published[1], Published::New | Published::Same));
    }
}

#[tokio::test]
async fn two_writers_do_no_harm() {
    let bench = InBucket::new().await;
    let (one, spool) = (bench.open().await, tempfile::tempdir().unwrap());
    let other = bench.archive.open(&bench.shared, spool.path());
    let mut batches = (Vec::new(), Vec::new());
    for n in 0..200 {
        batches.0.push(item(&one, &format!("{n}.gz"), format!("{n}")).await);
        batches.1.push(
            item(&other, &format!("{n}.gz"), if n % 50 == 0 { "other".to_owned() } else { format!("{n}") }).await,
        );
    }
    let (first, second) = tokio::join!(one.publish(batches.0), other.publish(batches.1));
    for (n, pair) in first.unwrap().into_iter().zip(second.unwrap()).enumerate() {
        let loser = if n % 50 == 0 { Published::Other } else { Published::Same };
        assert!(pair == (Published::New, loser.clone()) || pair == (loser, Published::New), "{n}: {pair:?}");
    }
    assert_eq!(bench.copies(&one).len(), 200);
}

#[tokio::test]
async fn more_than_fits_in_memory_waits_in_files() {
    let bench = InBucket::new().await;
    let at = bench.open().await;
    let mut batch = Vec::new();
    for n in 0..100 {
        batch.push(item(&at, &format!("{n}.gz"), noise(200_000 + n)).await);
    }
    assert!(bench.staged() > 50 && bench.staged() < 100, "{}", bench.staged());
    assert!(at.publish(batch).await.unwrap().iter().all(|published| *published == Published::New));
    assert_eq!((bench.copies(&at).len(), bench.staged()), (100, 0));
}
