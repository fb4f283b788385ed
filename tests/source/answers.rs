//! Answers that no proper server gives, byte for byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use trailsync::clock::SystemClock;
use trailsync::config::{Credentials, Endpoints, Source};
use trailsync::error::Class;
use trailsync::role::{Keeper, Process};
use trailsync::source::Source as _;
use trailsync::source::s3::S3Source;

use crate::account::Shared;
use crate::suite::{read, under, whole};
use crate::twins::road;

const DATE: &str = "Date: Wed, 04 Mar 2026 05:06:07 GMT\r\n";

/// A source without a role, at a server that gives `answer` to whatever is asked.
async fn answering(answer: impl Into<Vec<u8>>) -> S3Source {
    answering_in_turn(vec![answer.into()]).await
}

/// The same with answers that are given in turn, again and again.
async fn answering_in_turn(answers: Vec<Vec<u8>>) -> S3Source {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in answers.iter().cycle() {
            let Ok((mut socket, _)) = listener.accept().await else { break };
            let mut request = Vec::new();
            while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                let mut buffer = [0; 4096];
                let read = socket.read(&mut buffer).await.unwrap_or(0);
                request.extend_from_slice(&buffer[..read]);
                if read == 0 {
                    break;
                }
            }
            let _ = socket.write_all(answer).await;
            let _ = socket.shutdown().await;
        }
    });
    reading(|endpoints| endpoints.s3 = Some(format!("http://{address}"))).await
}

/// A source without a role, reached by these endpoints.
pub async fn reading(arrange: impl FnOnce(&mut Endpoints)) -> S3Source {
    let mut source = Shared::own_logs().await.source_without_role();
    arrange(&mut source.endpoints);
    bucket_of(source)
}

/// The bucket of a source, read with some user's key.
pub fn bucket_of(mut source: Source) -> S3Source {
    source.credentials = Credentials::Environment {
        access_key_id: "ID".into(),
        secret_access_key: "SECRET".into(),
        session_token: None,
    };
    let environment = BTreeMap::from([("ID".to_owned(), "AKIA".to_owned()), ("SECRET".to_owned(), "s".to_owned())]);
    let process = Process::new(Arc::new(SystemClock), environment);
    let keeper = Keeper::connect(&source, &process, 1).unwrap();
    road(S3Source::new(&source, keeper, process.http.get(&source.endpoints).unwrap()))
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{DATE}Content-Length: {}\r\n{headers}\r\n{body}", body.len())
}

/// A whole page of a listing.
pub fn page(contents: &str) -> String {
    let entries = contents.matches("<Contents>").count() + contents.matches("<CommonPrefixes>").count();
    http("200 OK", "", &xml(entries, contents))
}

fn xml(entries: usize, contents: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><EncodingType>url</EncodingType>\
         <KeyCount>{entries}</KeyCount><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    )
}

fn object(key: &str) -> String {
    format!(
        "<Contents><Key>{key}</Key><LastModified>2026-03-04T05:06:07.123Z</LastModified>\
         <ETag>&quot;5d41402abc4b2a76b9719d911017c592&quot;</ETag><Size>5</Size></Contents>"
    )
}

fn body(headers: &str, body: &str) -> String {
    let common = "ETag: \"5d41402abc4b2a76b9719d911017c592\"\r\nLast-Modified: Wed, 04 Mar 2026 05:06:07 GMT\r\n";
    http("200 OK", &format!("{common}{headers}"), body)
}

#[tokio::test]
async fn a_listed_key_that_is_not_utf8_is_named_as_it_was_sent() {
    let error = answering(page(&object("p/%FFx"))).await.list(&under("p/")).await.unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Stream, "KeyNotUtf8"));
    assert!(error.to_string().contains("`p/%FFx`"), "{error}");
}

#[tokio::test]
async fn keys_are_decoded_only_when_the_service_says_that_it_encoded_them() {
    let listed = answering(page(&object("p/a%2Bb+c"))).await.list(&under("p/")).await.unwrap();
    assert_eq!(listed.objects[0].key, "p/a+b c");
    assert_eq!(listed.objects[0].modified.to_string(), "2026-03-04T05:06:07.123Z");
    assert_eq!(listed.served_at.unwrap().to_string(), "2026-03-04T05:06:07Z");
    let plain = page(&object("p/a%2Bb+c")).replace("<EncodingType>url</EncodingType>", "");
    let plain = plain.split_once("\r\n\r\n").unwrap().1;
    let listed = answering(http("200 OK", "", plain)).await.list(&under("p/")).await.unwrap();
    assert_eq!(listed.objects[0].key, "p/a%2Bb+c");
}

#[tokio::test]
async fn a_listed_object_without_its_parts_is_a_malformed_answer() {
    for contents in
        ["<Contents><Key>p/a</Key></Contents>", "<Contents></Contents>", "<CommonPrefixes></CommonPrefixes>"]
    {
        let error = answering(page(contents)).await.list(&under("p/")).await.unwrap_err();
        assert_eq!((error.class(), error.code()), (Class::Transient, "MalformedAnswer"), "{contents}");
    }
}

#[tokio::test]
async fn a_page_cut_anywhere_is_not_taken_for_a_whole_one() {
    let whole = xml(2, &(object("p/a") + &object("p/b")));
    for at in 0..whole.len() {
        let cut = answering(http("200 OK", "", &whole[..at])).await.list(&under("p/")).await;
        let error = cut.expect_err("the whole page only");
        assert_eq!((error.class(), error.code()), (Class::Transient, "MalformedAnswer"), "cut at {at}: {error}");
    }
    let fewer = whole.replace("<KeyCount>2</KeyCount>", "<KeyCount>3</KeyCount>");
    answering(http("200 OK", "", &fewer)).await.list(&under("p/")).await.unwrap_err();
    let silent = whole.replace("<IsTruncated>false</IsTruncated>", "");
    answering(http("200 OK", "", &silent)).await.list(&under("p/")).await.unwrap_err();
}

#[tokio::test]
async fn an_error_in_an_answer_that_says_ok_is_an_error() {
    let xml = "<Error><Code>InternalError</Code><Message>no</Message></Error>";
    let error = answering(http("200 OK", "", xml)).await.list(&under("p/")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{error}");
}

#[tokio::test]
async fn an_error_without_a_body_goes_by_its_status() {
    for (status, class) in
        [("502 Bad Gateway", Class::Transient), ("403 Forbidden", Class::Stream), ("307 Moved", Class::Stream)]
    {
        let error = answering(http(status, "", "")).await.list(&under("p/")).await.unwrap_err();
        assert_eq!(error.class(), class, "{error}");
    }
    let error = answering(http("503 Busy", "", "<html>busy")).await.fetch(&whole("p/a")).await.map(drop).unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{error}");
}

#[tokio::test]
async fn regions_that_point_at_each_other_are_followed_once() {
    let to = |region: &str| http("301 Moved", &format!("x-amz-bucket-region: {region}\r\n"), "").into_bytes();
    let bucket = answering_in_turn(vec![to("us-east-1"), to("us-east-2")]).await;
    let error = bucket.list(&under("p/")).await.unwrap_err();
    assert_eq!((error.class(), bucket.requests().lists), (Class::Stream, 2), "{error}");
    assert!(error.to_string().contains("the bucket is in us-east-2"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_transient() {
    let error = answering("hello\r\n\r\n").await.fetch(&whole("p/a")).await.map(drop).unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{error}");
}

#[tokio::test]
async fn metadata_that_is_not_utf8_does_not_make_an_object_unreadable() {
    let mut answer = body("x-amz-meta-good: yes\r\nx-amz-meta-odd: \u{1}", "hello").into_bytes();
    let at = answer.iter().position(|byte| *byte == 1).unwrap();
    answer.splice(at..=at, *b"\xff\xfe\r\n");
    let fetched = answering(answer).await.fetch(&whole("p/a")).await.unwrap();
    assert_eq!(read(fetched.body).await.unwrap(), b"hello");
}

#[tokio::test]
async fn checksums_of_parts_and_nonsense_are_not_said_to_be_checked() {
    for value in ["AAAAAA==-3", "not base64!"] {
        let headers = format!("x-amz-checksum-crc64nvme: {value}\r\nx-amz-checksum-sha256: AAAA\r\n");
        let fetched = answering(body(&headers, "hello")).await.fetch(&whole("p/a")).await.unwrap();
        assert!(!fetched.checksummed, "{value}");
        assert_eq!(read(fetched.body).await.unwrap(), b"hello");
    }
    let unknown = answering(body("x-amz-checksum-xxhash64: AAAAAAAAAAA=\r\n", "hello")).await;
    assert!(!unknown.fetch(&whole("p/a")).await.unwrap().checksummed);
}

#[tokio::test]
async fn encryption_decides_whether_a_tag_is_an_md5() {
    for (headers, md5) in [
        ("", true),
        ("x-amz-server-side-encryption: AES256\r\n", true),
        ("x-amz-server-side-encryption: aws:kms\r\n", false),
        ("x-amz-server-side-encryption: aws:kms:dsse\r\n", false),
        ("x-amz-server-side-encryption: something:new\r\n", false),
        ("x-amz-server-side-encryption-customer-algorithm: AES256\r\n", false),
    ] {
        let fetched = answering(body(headers, "hello")).await.fetch(&whole("p/a")).await.unwrap();
        assert_eq!(fetched.etag_is_md5, md5, "{headers}");
    }
}

#[tokio::test]
async fn trailers_after_a_checksummed_body_are_passed_over() {
    let answer = format!(
        "HTTP/1.1 200 OK\r\n{DATE}Transfer-Encoding: chunked\r\nTrailer: x-odd\r\nx-amz-checksum-crc32: NhCmhg==\r\n\
         ETag: \"e\"\r\nLast-Modified: Wed, 04 Mar 2026 05:06:07 GMT\r\n\r\n5\r\nhello\r\n0\r\nx-odd: 1\r\n\r\n"
    );
    let error = answering(answer).await.fetch(&whole("p/a")).await.map(drop).unwrap_err();
    assert_eq!((error.class(), error.code()), (Class::Transient, "MalformedAnswer"));
    assert!(error.to_string().contains("no length"), "{error}");
}

crate::again_by_the_sdk_alone![
    a_listed_key_that_is_not_utf8_is_named_as_it_was_sent,
    keys_are_decoded_only_when_the_service_says_that_it_encoded_them,
    a_listed_object_without_its_parts_is_a_malformed_answer,
    a_page_cut_anywhere_is_not_taken_for_a_whole_one,
    an_error_in_an_answer_that_says_ok_is_an_error,
    an_error_without_a_body_goes_by_its_status,
    regions_that_point_at_each_other_are_followed_once,
    an_answer_that_is_not_http_is_transient,
    metadata_that_is_not_utf8_does_not_make_an_object_unreadable,
    checksums_of_parts_and_nonsense_are_not_said_to_be_checked,
    encryption_decides_whether_a_tag_is_an_md5,
    trailers_after_a_checksummed_body_are_passed_over,
];
