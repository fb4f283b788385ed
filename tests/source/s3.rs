//! What only S3 does: errors by code, checksums, regions, sessions that are refused, bodies that break.

use std::time::Duration;

use fakeaws::{ChecksumKind, Fault, ObjectSpec, Op, policies};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;
use trailsync::clock::seconds_between;
use trailsync::error::{Class, Error};
use trailsync::source::s3::S3Source;
use trailsync::source::{FetchRequest, ListRequest, Source as _};

use crate::account::{BUCKET, Shared};
use crate::suite::{read, under, whole};
use crate::twins::road;

const KEY: &str = "AWSLogs/222222222222/CloudTrail/eu-west-1/2026/01/01/x.json.gz";
const PREFIX: &str = "AWSLogs/222222222222/";

/// A bucket with one object, and the daemon's view of it.
async fn bucket() -> (Shared, S3Source) {
    let shared = Shared::own_logs().await;
    shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes("0123456789"));
    let bucket = road(shared.bucket(&shared.source("", "accounts = [\"222222222222\"]")));
    bucket.list(&under(PREFIX)).await.expect("a listing");
    (shared, bucket)
}

async fn fetch_error(bucket: &S3Source) -> Error {
    bucket.fetch(&whole(KEY)).await.map(drop).expect_err("an error")
}

#[tokio::test]
async fn failures_have_their_class_and_are_not_retried() {
    let (shared, bucket) = bucket().await;
    for (fault, list, get) in [
        (Fault::InternalError, Class::Transient, Class::Transient),
        (Fault::SlowDown, Class::Transient, Class::Transient),
        (Fault::ServiceUnavailable, Class::Transient, Class::Transient),
        (Fault::RequestTimeout, Class::Transient, Class::Transient),
        (Fault::CloseBeforeHeaders, Class::Transient, Class::Transient),
        (Fault::InvalidObjectState, Class::Stream, Class::Object),
        (Fault::NoSuchKey, Class::Stream, Class::Object),
        (Fault::PreconditionFailed, Class::Stream, Class::Object),
    ] {
        shared.world.faults().clear();
        shared.world.reset_counters();
        shared.world.faults().inject(fault.clone()).always();
        let error = bucket.list(&under(PREFIX)).await.unwrap_err();
        assert_eq!(error.class(), list, "{fault:?}: {error}");
        let error = fetch_error(&bucket).await;
        assert_eq!(error.class(), get, "{fault:?}: {error}");
        assert!(fault == Fault::CloseBeforeHeaders || error.report().request_id.is_some(), "{error}");
        let counters = shared.world.counters();
        assert_eq!((counters.lists(), counters.total(Op::GetObject)), (1, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn a_refused_session_is_renewed_once_and_the_request_made_again() {
    for fault in [Fault::ExpiredToken, Fault::InvalidToken, Fault::AccessDenied] {
        let (shared, bucket) = bucket().await;
        shared.world.faults().inject(fault).on(Op::GetObject).times(1);
        let fetched = bucket.fetch(&whole(KEY)).await.unwrap();
        assert_eq!(read(fetched.body).await.unwrap(), b"0123456789");
        assert_eq!((shared.world.counters().total(Op::AssumeRole), bucket.requests().fetches), (2, 2));
    }
}

#[tokio::test]
async fn a_session_that_stays_refused_is_not_renewed_again_and_again() {
    let (shared, bucket) = bucket().await;
    shared.world.faults().inject(Fault::ExpiredToken).on(Op::GetObject).always();
    for _ in 0..5 {
        let error = fetch_error(&bucket).await;
        assert_eq!((error.class(), error.code()), (Class::Credentials, "ExpiredToken"));
    }
    assert_eq!((shared.world.counters().total(Op::AssumeRole), bucket.requests().fetches), (2, 6));
}

#[tokio::test]
async fn a_session_that_expires_by_the_servers_clock_alone_is_replaced() {
    let (shared, _) = bucket().await;
    let (keeper, bucket) = shared.kept_bucket(&shared.source("", ""));
    let bucket = road(bucket);
    let running = keeper.clone();
    let task = tokio::spawn(async move { running.run(CancellationToken::new()).await });
    bucket.list(&under(PREFIX)).await.unwrap();
    shared.world.clock().advance(Duration::from_secs(2 * 3600));
    // One failure tells each of the SDK's two clients the server's time, and then the session is over.
    let mut codes = Vec::new();
    while let Err(error) = bucket.list(&under(PREFIX)).await {
        codes.push(error.code().to_owned());
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(codes.len() < 20, "{codes:?}");
    }
    assert_eq!((codes[0].as_str(), codes[1].as_str()), ("RequestTimeTooSkewed", "ExpiredToken"));
    assert_eq!(keeper.state().renewals, 2);
    task.abort();
}

#[tokio::test]
async fn revoked_sessions_are_replaced_and_a_removed_role_is_told_as_such() {
    let (shared, bucket) = bucket().await;
    shared.world.clock().advance(Duration::from_secs(2));
    shared.world.revoke_sessions(&shared.role);
    shared.world.clock().advance(Duration::from_secs(2));
    bucket.list(&under(PREFIX)).await.unwrap();

    let shared = Shared::own_logs().await;
    let bucket = road(shared.bucket(&shared.source("", "")));
    bucket.list(&under(PREFIX)).await.unwrap();
    shared.world.remove_role(&shared.role);
    let error = bucket.list(&under(PREFIX)).await.unwrap_err();
    assert_eq!((error.class(), error.report().operation), (Class::Stream, "AssumeRole"), "{error}");
    assert!(error.to_string().contains("check in this order"), "{error}");
}

#[tokio::test]
async fn a_bucket_in_another_region_is_followed_once_and_remembered() {
    let (shared, _) = bucket().await;
    let mut source = shared.source("", "accounts = [\"222222222222\"]");
    source.region = "us-east-2".to_owned();
    let bucket = road(shared.bucket(&source));
    bucket.list(&under(PREFIX)).await.unwrap();
    assert_eq!(bucket.requests().lists, 2);
    bucket.list(&under(PREFIX)).await.unwrap();
    assert_eq!(bucket.requests().lists, 3);
    source.region = "cn-north-1".to_owned();
    let bucket = road(shared.bucket(&source));
    let error = bucket.list(&under(PREFIX)).await.unwrap_err();
    assert_eq!((error.class(), bucket.requests().lists), (Class::Stream, 1), "{error}");
    assert!(error.to_string().contains("set `region = \"eu-west-1\"`"), "{error}");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let (shared, bucket) = bucket().await;
    let other = Shared::own_logs().await;
    for to in [other.aws.endpoint(), "http://169.254.169.254".to_owned()] {
        shared.world.faults().clear();
        shared.world.faults().inject(Fault::Redirect307 { to }).always();
        let error = fetch_error(&bucket).await;
        assert_eq!(error.class(), Class::Stream, "{error}");
        assert_eq!(bucket.list(&under(PREFIX)).await.unwrap_err().class(), Class::Stream);
    }
    assert!(other.world.recent().is_empty());
}

#[tokio::test]
async fn the_bucket_of_somebody_else_is_refused_with_a_hint() {
    let (shared, _) = bucket().await;
    let mut source = shared.source("", "accounts = [\"222222222222\"]");
    source.bucket_owner = Some("999999999999".to_owned());
    let error = road(shared.bucket(&source)).list(&under(PREFIX)).await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Stream, "AccessDenied"));
    assert!(error.to_string().contains("the bucket is not account 999999999999's"), "{error}");
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_named() {
    let shared = Shared::all_logs().await;
    let mut source = shared.source("session_policy = false\n", "");
    source.bucket = "no-such-bucket".to_owned();
    let error = road(shared.bucket(&source)).list(&under(PREFIX)).await.unwrap_err();
    assert_eq!(error.class(), Class::Stream, "{error}");
}

#[tokio::test]
async fn without_a_role_the_buckets_own_policy_is_enough() {
    let shared = Shared::own_logs().await;
    shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes("x"));
    let reader = "arn:aws:iam::222222222222:user/mirror";
    shared.world.set_bucket_policy(BUCKET, Some(policies::bucket_read_for(BUCKET, reader)));
    let all =
        policies::with(&policies::nothing(), serde_json::json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"}));
    assert!(shared.world.set_user_policy(reader, all));
    let bucket = road(shared.bucket(&shared.source_without_role()));
    assert_eq!(bucket.list(&under(PREFIX)).await.unwrap().objects.len(), 1);
    bucket.fetch(&whole(KEY)).await.map(drop).unwrap();
    assert_eq!(shared.world.counters().total(Op::AssumeRole), 0);
}

#[tokio::test]
async fn every_checksum_of_the_whole_object_is_checked_while_it_streams() {
    let (shared, bucket) = bucket().await;
    for kind in
        [ChecksumKind::Crc64Nvme, ChecksumKind::Crc32, ChecksumKind::Crc32C, ChecksumKind::Sha1, ChecksumKind::Sha256]
    {
        shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes(vec![7; 100_000]).checksum(Some(kind)));
        let fetched = bucket.fetch(&whole(KEY)).await.unwrap();
        assert!(fetched.checksummed, "{kind:?}");
        assert_eq!(read(fetched.body).await.unwrap().len(), 100_000);
        for at in [0, 50_000, 99_999] {
            shared.world.faults().inject(Fault::FlippedBit { at }).on(Op::GetObject).times(1);
            let fetched = bucket.fetch(&whole(KEY)).await.unwrap();
            let error = read(fetched.body).await.unwrap_err();
            assert_eq!((error.class(), error.code()), (Class::Transient, "ChecksumMismatch"), "{kind:?} {at}");
        }
    }
}

#[tokio::test]
async fn an_old_object_without_a_checksum_is_not_said_to_be_checked() {
    let (shared, bucket) = bucket().await;
    shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes("hello").checksum(None));
    let fetched = bucket.fetch(&whole(KEY)).await.unwrap();
    assert!(!fetched.checksummed && fetched.etag_is_md5);
    shared.world.faults().inject(Fault::FlippedBit { at: 0 }).on(Op::GetObject).times(1);
    let fetched = bucket.fetch(&whole(KEY)).await.unwrap();
    assert_ne!(read(fetched.body).await.unwrap(), b"hello");
}

#[tokio::test]
async fn under_kms_a_tag_is_no_md5_and_a_missing_permission_names_the_key() {
    let shared = Shared::all_logs().await;
    let key = "arn:aws:kms:eu-west-1:111111111111:key/1";
    shared.allow(policies::with_decrypt(&policies::read_all(BUCKET), key));
    shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes("hello").kms(key));
    let bucket = road(shared.bucket(&shared.source("", "")));
    let fetched = bucket.fetch(&whole(KEY)).await.unwrap();
    assert!(!fetched.etag_is_md5);
    assert_eq!(read(fetched.body).await.unwrap(), b"hello");
    shared.world.faults().inject(Fault::KmsDenied).on(Op::GetObject).always();
    let error = fetch_error(&bucket).await;
    assert_eq!((error.class(), error.code()), (Class::Object, "AccessDenied"));
    assert!(error.to_string().contains("`kms:Decrypt`"), "{error}");
}

#[tokio::test]
async fn a_body_that_breaks_at_any_byte_is_an_error_of_the_body() {
    let (shared, bucket) = bucket().await;
    for at in 0..10 {
        for fault in [Fault::ResetMidBody { after: at }, Fault::ShortBody { by: at + 1 }] {
            shared.world.faults().inject(fault.clone()).on(Op::GetObject).times(1);
            // A reset may overtake the headers.
            let error = match bucket.fetch(&whole(KEY)).await {
                Ok(fetched) => read(fetched.body).await.expect_err("broken"),
                Err(error) => error,
            };
            assert_eq!(error.class(), Class::Transient, "{fault:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_cut_with_its_length_is_found_by_its_checksum() {
    let (shared, bucket) = bucket().await;
    shared.world.faults().inject(Fault::WrongLength { by: 3 }).on(Op::GetObject).times(1);
    let fetched = bucket.fetch(&whole(KEY)).await.unwrap();
    assert_eq!(fetched.size, 7);
    assert_eq!(read(fetched.body).await.unwrap_err().code(), "ChecksumMismatch");
}

#[tokio::test]
async fn a_stalled_body_is_given_up_within_twenty_seconds() {
    let (shared, bucket) = bucket().await;
    shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes(vec![7; 100_000]));
    shared.world.faults().inject(Fault::Stall { after: 5_000 }).on(Op::GetObject).times(1);
    let mut body = bucket.fetch(&whole(KEY)).await.unwrap().body;
    body.next().await.unwrap().unwrap();
    // Nothing but the watch is left to happen, so its time may pass at once.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let error = read(body).await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Transient, "Stalled"));
    assert!(began.elapsed() <= Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_reader_that_is_slow_itself_is_not_taken_for_a_stalled_body() {
    let (shared, bucket) = bucket().await;
    shared.world.put_object(BUCKET, KEY, ObjectSpec::bytes(vec![7; 3_000_000]));
    let mut body = bucket.fetch(&whole(KEY)).await.unwrap().body;
    body.next().await.unwrap().unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3600)).await;
    tokio::time::resume();
    read(body).await.unwrap();
}

#[tokio::test]
async fn a_listing_that_would_never_end_ends_the_stream() {
    let (shared, bucket) = bucket().await;
    for fault in [Fault::ListTokenLoop, Fault::ListNoToken] {
        shared.world.faults().clear();
        shared.world.faults().inject(fault.clone()).always();
        let mut request = under(PREFIX);
        let error = loop {
            match bucket.list(&request).await {
                Ok(page) => request.token = Some(page.next.expect("it claims to go on")),
                Err(error) => break error,
            }
        };
        assert_eq!((error.class(), error.code()), (Class::Stream, "EndlessListing"), "{fault:?}");
    }
    shared.world.faults().clear();
    shared.world.faults().inject(Fault::ListEmptyTruncated).times(1);
    let page = bucket.list(&under(PREFIX)).await.unwrap();
    assert!(page.objects.is_empty());
    let page = bucket.list(&ListRequest { token: page.next, ..under(PREFIX) }).await.unwrap();
    assert_eq!((page.objects.len(), page.next), (1, None));
}

#[tokio::test]
async fn a_page_that_is_no_xml_is_transient_and_a_giant_one_is_cut_short() {
    let (shared, bucket) = bucket().await;
    for (fault, words) in [
        (Fault::ListMalformedXml, "the answer ends in the middle"),
        (Fault::ListGiantXml { bytes: 40_000_000 }, "longer than 8388608 bytes"),
    ] {
        shared.world.faults().clear();
        shared.world.faults().inject(fault.clone()).always();
        let began = std::time::Instant::now();
        let error = bucket.list(&under(PREFIX)).await.unwrap_err();
        assert_eq!((error.class(), error.code()), (Class::Transient, "MalformedAnswer"), "{fault:?}: {error}");
        assert!(error.to_string().contains(words) && error.to_string().len() < 1_000, "{error}");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_giant_page_of_attributes_below_the_limit_takes_seconds_not_minutes() {
    let (shared, bucket) = bucket().await;
    shared.world.faults().inject(Fault::ListGiantXml { bytes: 7_000_000 }).always();
    let began = std::time::Instant::now();
    let _ = bucket.list(&under(PREFIX)).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_services_clock_is_read_from_its_answers() {
    let (shared, bucket) = bucket().await;
    shared.world.faults().inject(Fault::ClockSkew { seconds: 1800 }).times(1);
    let served_at = bucket.list(&under(PREFIX)).await.unwrap().served_at.unwrap();
    let ahead = seconds_between(shared.world.clock().now(), served_at);
    assert!((1790..=1810).contains(&ahead), "{ahead} s");
}

#[tokio::test]
async fn a_pass_of_many_small_objects_at_once_shares_connections() {
    let (shared, bucket) = bucket().await;
    let keys: Vec<String> = (0..500).map(|n| format!("{PREFIX}{n}.json.gz")).collect();
    for key in &keys {
        shared.world.put_object(BUCKET, key, ObjectSpec::bytes(key.clone()));
    }
    let fetched = futures_util::stream::iter(&keys).map(async |key| {
        let fetched = bucket.fetch(&FetchRequest { key: key.clone(), if_match: None }).await?;
        read(fetched.body).await
    });
    let bodies: Vec<_> = fetched.buffered(32).collect().await;
    for (key, body) in keys.iter().zip(bodies) {
        assert_eq!(body.unwrap(), key.as_bytes());
    }
}

crate::again_by_the_sdk_alone![
    failures_have_their_class_and_are_not_retried,
    a_refused_session_is_renewed_once_and_the_request_made_again,
    a_session_that_stays_refused_is_not_renewed_again_and_again,
    a_session_that_expires_by_the_servers_clock_alone_is_replaced,
    revoked_sessions_are_replaced_and_a_removed_role_is_told_as_such,
    a_bucket_in_another_region_is_followed_once_and_remembered,
    a_redirect_to_another_host_is_not_followed,
    the_bucket_of_somebody_else_is_refused_with_a_hint,
    a_bucket_that_does_not_exist_is_named,
    without_a_role_the_buckets_own_policy_is_enough,
    every_checksum_of_the_whole_object_is_checked_while_it_streams,
    an_old_object_without_a_checksum_is_not_said_to_be_checked,
    under_kms_a_tag_is_no_md5_and_a_missing_permission_names_the_key,
    a_body_that_breaks_at_any_byte_is_an_error_of_the_body,
    a_body_that_is_cut_with_its_length_is_found_by_its_checksum,
    a_stalled_body_is_given_up_within_twenty_seconds,
    a_reader_that_is_slow_itself_is_not_taken_for_a_stalled_body,
    a_listing_that_would_never_end_ends_the_stream,
    a_page_that_is_no_xml_is_transient_and_a_giant_one_is_cut_short,
    a_giant_page_of_attributes_below_the_limit_takes_seconds_not_minutes,
    the_services_clock_is_read_from_its_answers,
    a_pass_of_many_small_objects_at_once_shares_connections,
];
