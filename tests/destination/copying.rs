//! Copies that the service makes itself, where the credentials of the destination may read the source.

use fakeaws::{BucketSpec, Fault, ObjectSpec, Op, policies};
use serde_json::json;
use trailsync::config::ObjectLock;
use trailsync::destination::{Destination as _, Item, Published};
use trailsync::object::Metadata;

use crate::account::{B, BUCKET, REGION};
use crate::archive::{ARCHIVE, Archive, PREFIX};
use crate::bench::{Bench as _, InBucket, first, item, publish, version};

const KEY: &str = "AWSLogs/222222222222/CloudTrail/eu-west-1/2026/01/01/a b+\u{e9}.json.gz";

/// A destination whose role may read the source, too, and let the service copy.
async fn copying() -> InBucket {
    let bench = InBucket::with(|shared| Archive::with(shared, BucketSpec::new(ARCHIVE, B, REGION), allowed)).await;
    let world = &bench.shared.world;
    let logs = format!("arn:aws:s3:::{BUCKET}/*");
    let get = json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": logs});
    let policy = policies::with(&policies::write_copies(ARCHIVE, PREFIX), get.clone());
    assert!(world.set_role_policy(&bench.archive.role, policy));
    let mut shared = get;
    shared["Principal"] = json!({"AWS": bench.archive.role});
    world.set_bucket_policy(BUCKET, Some(json!({"Version": "2012-10-17", "Statement": [shared]})));
    bench
}

fn allowed(own: &mut trailsync::config::OwnBucket) {
    own.server_side_copy = true;
}

/// Puts, copies and comparisons so far.
fn requests(bench: &InBucket) -> (u64, u64, u64) {
    let counters = bench.shared.world.counters();
    (counters.total(Op::PutObject), counters.total(Op::CopyObject), counters.total(Op::HeadObject))
}

#[tokio::test]
async fn an_object_is_copied_without_an_upload_with_our_checksum_and_our_metadata_alone() {
    let bench = copying().await;
    let source = ObjectSpec::bytes("one").metadata("signature", "s").metadata("theirs", "x");
    bench.shared.world.put_object(BUCKET, KEY, source);
    let at = bench.open().await;
    assert_eq!(requests(&bench), (2, 1, 0), "that both conditions hold was seen");
    let metadata = Metadata::from([("signature".to_owned(), "s".to_owned())]);
    let one = || async { Item { metadata: Some(metadata.clone()), ..item(&at, KEY, "one").await } };
    assert_eq!(at.publish(vec![one().await]).await.unwrap(), [Published::New]);
    assert_eq!(requests(&bench), (2, 2, 0));
    let stored = bench.object(&first(KEY)).unwrap();
    assert_eq!(stored.checksum, Some(fakeaws::ChecksumKind::Sha256));
    assert_eq!((&stored.body.bytes()[..], &stored.metadata), (&b"one"[..], &metadata));
    assert_eq!(at.publish(vec![one().await]).await.unwrap(), [Published::Same], "what is there stays");
    let later = Item { place: version(KEY), ..one().await };
    assert_eq!(at.publish(vec![later]).await.unwrap(), [Published::New], "a later version is copied to its place");
    assert_eq!(bench.object(&version(KEY)).unwrap().body.bytes(), b"one"[..]);
}

#[tokio::test]
async fn copies_are_locked_as_uploads_are() {
    let spec = BucketSpec { object_lock: true, ..BucketSpec::new(ARCHIVE, B, REGION) };
    let lock = |own: &mut trailsync::config::OwnBucket| {
        allowed(own);
        own.object_lock = Some(ObjectLock { mode: "COMPLIANCE".into(), days: 30 });
    };
    let bench = InBucket::with(|shared| Archive::with(shared, spec, lock)).await;
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", "Action": [
        "s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:PutObjectRetention", "s3:GetBucketObjectLockConfiguration",
        "s3:ListBucketMultipartUploads"]}]});
    assert!(bench.shared.world.set_role_policy(&bench.archive.role, policy));
    let allow = json!({"Effect": "Allow", "Principal": {"AWS": bench.archive.role}, "Action": "s3:GetObject",
        "Resource": format!("arn:aws:s3:::{BUCKET}/*")});
    bench.shared.world.set_bucket_policy(BUCKET, Some(json!({"Version": "2012-10-17", "Statement": [allow]})));
    bench.shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes("one"));
    let at = bench.open().await;
    assert_eq!(publish(&at, KEY, "one").await.unwrap(), Published::New);
    assert_eq!(requests(&bench).1, 2, "copied");
    assert_eq!(bench.object(&first(KEY)).unwrap().lock.as_ref().unwrap().mode, "COMPLIANCE");
}

#[tokio::test]
async fn where_the_source_may_not_be_read_it_is_tried_once_and_everything_is_uploaded() {
    let bench = copying().await;
    bench.shared.world.set_bucket_policy(BUCKET, None);
    let at = bench.open().await;
    for key in ["a.gz", "b.gz", "c.gz"] {
        bench.shared.world.put_object(BUCKET, key, ObjectSpec::bytes("one"));
        assert_eq!(publish(&at, key, "one").await.unwrap(), Published::New);
    }
    assert_eq!(requests(&bench), (5, 3, 0), "a refusal is made sure of with a new session");
}

#[tokio::test]
async fn a_service_that_takes_no_notice_of_a_copy_s_condition_is_never_asked_for_one() {
    let bench = copying().await;
    bench.shared.world.faults().inject(Fault::IgnoresConditions).on(Op::CopyObject).always();
    bench.shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes("two"));
    let at = bench.open().await;
    assert_eq!(publish(&at, KEY, "one").await.unwrap(), Published::New);
    assert_eq!(publish(&at, KEY, "two").await.unwrap(), Published::Other);
    assert_eq!(bench.object(&first(KEY)).unwrap().body.bytes(), b"one"[..], "it stays");
    assert_eq!(requests(&bench).1, 1, "but for the look at our own probe");
}

#[tokio::test]
async fn an_error_inside_the_200_of_a_copy_is_an_error_and_passes_by_itself() {
    let bench = copying().await;
    bench.shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes("one"));
    let at = bench.open().await;
    let id = bench.shared.world.faults().inject(Fault::ErrorInside200).on(Op::CopyObject).times(2);
    assert_eq!(publish(&at, KEY, "one").await.unwrap(), Published::New);
    assert_eq!((bench.shared.world.faults().struck(id), requests(&bench)), (2, (2, 4, 0)));
    bench.shared.world.faults().inject(Fault::ErrorInside200).on(Op::CopyObject).always();
    assert!(publish(&at, "b.gz", "two").await.is_err());
    assert!(bench.object(&first("b.gz")).is_none(), "nothing is taken for stored");
}

#[tokio::test]
async fn a_lost_answer_to_a_copy_is_found() {
    let bench = copying().await;
    bench.shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes("one"));
    let at = bench.open().await;
    bench.shared.world.faults().inject(Fault::LostAnswer).on(Op::CopyObject).times(1);
    assert_eq!(publish(&at, KEY, "one").await.unwrap(), Published::Same);
    assert_eq!(requests(&bench).0, 2, "nothing was uploaded");
}

#[tokio::test]
async fn what_the_source_no_longer_has_or_has_archived_is_uploaded_alone() {
    let bench = copying().await;
    bench.shared.world.put_object(BUCKET, "warm.gz", ObjectSpec::bytes("one"));
    let at = bench.open().await;
    assert_eq!(publish(&at, "warm.gz", "one").await.unwrap(), Published::New);
    assert_eq!(publish(&at, "gone.gz", "one").await.unwrap(), Published::New);
    let archived = ObjectSpec { storage_class: "GLACIER".into(), ..ObjectSpec::bytes("one") };
    bench.shared.world.put_object(BUCKET, "cold.gz", archived);
    bench.shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes("one"));
    assert_eq!(publish(&at, "cold.gz", "one").await.unwrap(), Published::New);
    let before = requests(&bench);
    assert_eq!(publish(&at, KEY, "one").await.unwrap(), Published::New);
    assert_eq!((requests(&bench).0, requests(&bench).1), (before.0, before.1 + 1), "others are copied still");
}

#[tokio::test]
async fn an_object_that_was_replaced_since_it_was_fetched_is_not_taken_for_what_was_fetched() {
    let bench = copying().await;
    bench.shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes("two"));
    let at = bench.open().await;
    assert_eq!(publish(&at, KEY, "one").await.unwrap(), Published::Other, "the mirror stores it beside, and says so");
}
