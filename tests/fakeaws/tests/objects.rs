//! Objects as S3 keeps, lists and returns them.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fakeaws::{AccessKey, BucketSpec, ChecksumKind, FakeAws, Fault, ObjectSpec, Op, policies};
use serde_json::json;
use support::{Answer, B, Call, OWNER, at, exchange, path_of, serve, world};

const KMS_KEY: &str = "arn:aws:kms:us-east-1:111111111111:key/k";

async fn bucket() -> (FakeAws, AccessKey) {
    let world = world();
    world.add_bucket(BucketSpec::new("logs", OWNER, "us-east-1"));
    let key = world.add_user(OWNER, "admin", policies::everything());
    (serve(&world).await, key)
}

fn list(aws: &FakeAws, key: &AccessKey, parameters: &[(&str, &str)]) -> Answer {
    let mut call = Call::new(aws, key, "GET", "/logs?list-type=2");
    for (name, value) in parameters {
        call = call.query(name, value);
    }
    call.send()
}

/// Everything a listing says, page by page: keys and common prefixes in order.
fn walk(aws: &FakeAws, key: &AccessKey, parameters: &[(&str, &str)]) -> Vec<String> {
    let (mut found, mut token) = (Vec::new(), None::<String>);
    loop {
        let mut all = parameters.to_vec();
        all.push(("encoding-type", "url"));
        if let Some(token) = &token {
            all.push(("continuation-token", token));
        }
        let answer = list(aws, key, &all);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut page: Vec<String> = answer.elements("Key").iter().map(|key| decode(key)).collect();
        for prefixes in answer.elements("CommonPrefixes") {
            page.push(decode(prefixes.trim_start_matches("<Prefix>").trim_end_matches("</Prefix>")));
        }
        assert_eq!(answer.element("KeyCount"), Some(page.len().to_string()));
        page.sort();
        found.extend(page);
        token = answer.element("NextContinuationToken");
        assert_eq!(answer.element("IsTruncated"), Some(token.is_some().to_string()));
        if token.is_none() {
            return found;
        }
    }
}

fn decode(text: &str) -> String {
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    pairs.next().map(|(key, _)| key.into_owned()).unwrap_or_default()
}

fn hostile_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "plain",
        "a b+c",
        "a%20b",
        "\u{1}",
        "line\nbreak",
        "carriage\rreturn",
        "\u{ffff}",
        "\u{1f600}",
        "//",
        "/lead",
        "double//slash",
        "trailing/",
        "..",
        "../../etc/passwd",
        "a/../b",
        "a/./b",
        ".",
        "é",
        "<&>\"'",
        "back\\slash",
        "a",
        "a/",
        "a/b",
        "A",
        "question?mark",
        "hash#mark",
        "tab\t",
        "\u{7f}",
        "\u{202e}rtl",
        "~tilde*star",
        "semi;colon=equals&and",
    ]
    .map(String::from)
    .to_vec();
    keys.push("k".repeat(1_024));
    keys
}

#[tokio::test]
async fn odd_keys_are_put_listed_and_read_verbatim() {
    let (aws, key) = bucket().await;
    let mut keys = hostile_keys();
    for name in &keys {
        let answer = Call::new(&aws, &key, "PUT", &path_of("logs", name)).body(name.as_bytes()).send();
        assert_eq!(answer.status, 200, "{name:?}: {}", answer.text());
    }
    keys.sort();
    assert_eq!(aws.world().keys("logs", ""), keys);
    for page in ["1", "2", "7", "1000"] {
        assert_eq!(walk(&aws, &key, &[("max-keys", page)]), keys);
    }
    for name in &keys {
        let answer = Call::new(&aws, &key, "GET", &path_of("logs", name)).send();
        assert_eq!((answer.status, answer.text()), (200, name.clone()));
        assert_eq!(Call::new(&aws, &key, "HEAD", &path_of("logs", name)).send().status, 200);
    }
    let long = path_of("logs", &"k".repeat(1_025));
    assert_eq!(Call::new(&aws, &key, "PUT", &long).send().code(), "KeyTooLongError");
}

#[tokio::test]
async fn dots_and_doubled_slashes_reach_the_bucket_unresolved() {
    let (aws, _) = bucket().await;
    for path in ["/logs/../secret", "/logs//x", "/logs/a/../../b"] {
        let line = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert_eq!(exchange(aws.address(), line.as_bytes(), "GET").status, 403);
        let (_, expected) = path.split_at("/logs/".len());
        let recent = aws.world().recent();
        let last = recent.last().expect("a record");
        assert_eq!(last.key.as_deref(), Some(expected));
        assert_eq!(last.bucket.as_deref(), Some("logs"));
    }
}

#[tokio::test]
async fn listings_encode_in_form_style_when_asked() {
    let (aws, key) = bucket().await;
    aws.world().put_object("logs", "p q/a b+c\u{1}", ObjectSpec::bytes("x"));
    let answer = list(&aws, &key, &[("encoding-type", "url"), ("prefix", "p q/"), ("start-after", "p q/+")]);
    assert_eq!(answer.element("Key").as_deref(), Some("p+q/a+b%2Bc%01"));
    assert_eq!(answer.element("Prefix").as_deref(), Some("p+q/"));
    assert_eq!(answer.element("StartAfter").as_deref(), Some("p+q/%2B"));
    assert_eq!(answer.element("EncodingType").as_deref(), Some("url"));
    let bare = list(&aws, &key, &[]);
    assert!(bare.text().contains("p q/a b+c&#x1;"));
}

#[tokio::test]
async fn a_page_holds_a_thousand_keys_at_most_and_tokens_win() {
    let (aws, key) = bucket().await;
    let objects = (0..2_500_u64).map(|n| (format!("k{n:05}"), ObjectSpec::generated(n, 200)));
    aws.world().put_objects("logs", objects);
    let first = list(&aws, &key, &[("max-keys", "5000")]);
    assert_eq!(first.elements("Key").len(), 1_000);
    assert_eq!(first.element("MaxKeys").as_deref(), Some("1000"));
    let token = first.element("NextContinuationToken").expect("a token");
    let second = list(&aws, &key, &[("continuation-token", &token), ("start-after", "k02400")]);
    assert_eq!(second.element("Key").as_deref(), Some("k01000"));
    assert_eq!(walk(&aws, &key, &[]).len(), 2_500);
    let bogus = list(&aws, &key, &[("continuation-token", "bogus")]);
    assert_eq!((bogus.status, bogus.code().as_str()), (400, "InvalidArgument"));
    let after = list(&aws, &key, &[("start-after", "k02498"), ("max-keys", "10")]);
    assert_eq!(after.elements("Key"), ["k02499"]);
    assert_eq!(list(&aws, &key, &[("max-keys", "-1")]).status, 400);
}

#[tokio::test]
async fn common_prefixes_count_and_a_listing_shows_what_a_read_returns() {
    let (aws, key) = bucket().await;
    for name in
        ["AWSLogs/1/CloudTrail/a", "AWSLogs/1/CloudTrail/b", "AWSLogs/1/CloudTrail-Digest/a", "AWSLogs/2/x", "other"]
    {
        aws.world().put_object("logs", name, ObjectSpec::generated(7, 300));
    }
    let accounts = [("prefix", "AWSLogs/"), ("delimiter", "/"), ("max-keys", "1")];
    assert_eq!(walk(&aws, &key, &accounts), ["AWSLogs/1/", "AWSLogs/2/"]);
    let page = list(&aws, &key, &[("prefix", "other")]);
    let read = Call::new(&aws, &key, "GET", "/logs/other").send();
    assert_eq!(page.element("ETag").map(|etag| etag.replace("&quot;", "\"")).as_deref(), read.header("etag"));
    assert_eq!(page.element("Size"), Some(read.body.len().to_string()));
    assert_eq!(page.element("LastModified").as_deref(), Some("2024-03-05T06:07:08.000Z"));
    assert_eq!(read.header("last-modified"), Some("Tue, 05 Mar 2024 06:07:08 GMT"));
}

#[tokio::test]
async fn version_one_of_the_listing_uses_markers() {
    let (aws, key) = bucket().await;
    for name in ["a/1", "a/2", "b", "c"] {
        aws.world().put_object("logs", name, ObjectSpec::bytes("x"));
    }
    let after = Call::new(&aws, &key, "GET", "/logs").query("marker", "a/2").send();
    assert_eq!(after.elements("Key"), ["b", "c"]);
    let page = Call::new(&aws, &key, "GET", "/logs").query("delimiter", "/").query("max-keys", "1").send();
    assert_eq!(page.element("NextMarker").as_deref(), Some("a/"));
    let rest = Call::new(&aws, &key, "GET", "/logs").query("delimiter", "/").query("marker", "a/").send();
    assert_eq!(rest.elements("Key"), ["b", "c"]);
    assert!(rest.elements("CommonPrefixes").is_empty());
}

#[tokio::test]
async fn conditions_are_kept() {
    let (aws, key) = bucket().await;
    let put = |body: &str, name: &str, value: &str| {
        Call::new(&aws, &key, "PUT", "/logs/k").header(name, value).body(body).send()
    };
    let first = put("one", "if-none-match", "*");
    assert_eq!(first.status, 200);
    let etag = first.header("etag").expect("an ETag").to_owned();
    assert_eq!(etag, "\"f97c5d29941bfb1b2fdab0874906ab82\"");
    let second = put("two", "if-none-match", "*");
    assert_eq!((second.status, second.code().as_str()), (412, "PreconditionFailed"));
    assert_eq!(put("two", "if-match", "\"0123\"").status, 412);
    let get = |name: &str, value: &str| Call::new(&aws, &key, "GET", "/logs/k").header(name, value).send();
    assert_eq!(get("if-match", &etag).status, 200);
    assert_eq!(get("if-match", "\"0123\"").status, 412);
    assert_eq!(get("if-none-match", &etag).status, 304);
    assert_eq!(get("range", "bytes=1-").text(), "ne");
    assert_eq!(get("range", "bytes=1-1").header("content-range"), Some("bytes 1-1/3"));
    assert_eq!(get("range", "bytes=1-1").status, 206);
    assert_eq!(get("range", "bytes=9-").status, 416);
}

#[tokio::test]
async fn checksums_are_checked_kept_and_returned_when_asked_for() {
    let (aws, key) = bucket().await;
    let put = |name: &str, value: &str| Call::new(&aws, &key, "PUT", "/logs/k").header(name, value).body("body").send();
    let get = |method| Call::new(&aws, &key, method, "/logs/k").header("x-amz-checksum-mode", "ENABLED").send();
    assert_eq!(put("x-amz-meta-a", "b").status, 200);
    for method in ["GET", "HEAD"] {
        let answer = get(method);
        assert_eq!(answer.header("x-amz-checksum-crc64nvme"), Some(ChecksumKind::Crc64Nvme.of(b"body").as_str()));
        assert_eq!(answer.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
        assert_eq!(answer.header("x-amz-meta-a"), Some("b"));
        assert_eq!(answer.header("content-length"), Some("4"));
    }
    let unasked = Call::new(&aws, &key, "GET", "/logs/k").send();
    assert_eq!(unasked.header("x-amz-checksum-crc64nvme"), None);
    let right = ChecksumKind::Sha256.of(b"body");
    assert_eq!(put("x-amz-checksum-sha256", &right).status, 200);
    assert_eq!(get("GET").header("x-amz-checksum-sha256"), Some(right.as_str()));
    for (name, wrong) in [
        ("x-amz-checksum-sha256", ChecksumKind::Sha256.of(b"other")),
        ("x-amz-checksum-crc64nvme", ChecksumKind::Crc64Nvme.of(b"other")),
        ("content-md5", BASE64.encode([0; 16])),
    ] {
        let answer = put(name, &wrong);
        assert_eq!((answer.status, answer.code().as_str()), (400, "BadDigest"), "{name}");
    }
    let old = ObjectSpec::bytes("old").checksum(None);
    aws.world().put_object("logs", "k", old);
    assert_eq!(get("GET").header("x-amz-checksum-type"), None);
}

#[tokio::test]
async fn encrypted_objects_need_the_key_and_their_etag_is_no_md5() {
    let (aws, _) = bucket().await;
    let world = aws.world();
    world.put_object("logs", "k", ObjectSpec::bytes("secret").kms(KMS_KEY));
    let reader = world.add_user(OWNER, "reader", policies::read_all("logs"));
    let get = || Call::new(&aws, &reader, "GET", "/logs/k").send();
    let denied = get();
    assert_eq!((denied.status, denied.code().as_str()), (403, "AccessDenied"));
    assert_eq!(list(&aws, &reader, &[]).elements("Key"), ["k"]);
    let via = json!({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": KMS_KEY,
        "Condition": {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}});
    let policy = policies::with(&policies::read_all("logs"), via);
    world.set_user_policy("arn:aws:iam::111111111111:user/reader", policy);
    let allowed = get();
    assert_eq!((allowed.status, allowed.text().as_str()), (200, "secret"));
    assert_eq!(allowed.header("x-amz-server-side-encryption"), Some("aws:kms"));
    assert_eq!(allowed.header("x-amz-server-side-encryption-aws-kms-key-id"), Some(KMS_KEY));
    let md5 = Call::new(&aws, &world.add_user(OWNER, "w", policies::everything()), "PUT", "/logs/plain")
        .body("secret")
        .send();
    assert_ne!(allowed.header("etag"), md5.header("etag"));
}

#[tokio::test]
async fn archived_objects_are_listed_and_not_read() {
    let (aws, key) = bucket().await;
    aws.world().put_object("logs", "k", ObjectSpec::bytes("x").storage_class("DEEP_ARCHIVE"));
    let answer = Call::new(&aws, &key, "GET", "/logs/k").send();
    assert_eq!((answer.status, answer.code().as_str()), (403, "InvalidObjectState"));
    assert_eq!(list(&aws, &key, &[]).element("StorageClass").as_deref(), Some("DEEP_ARCHIVE"));
    assert_eq!(Call::new(&aws, &key, "HEAD", "/logs/k").send().header("x-amz-storage-class"), Some("DEEP_ARCHIVE"));
}

#[tokio::test]
async fn a_bucket_elsewhere_redirects_without_saying_whereto() {
    let world = world();
    world.add_bucket(BucketSpec::new("logs", OWNER, "eu-west-1"));
    world.put_object("logs", "k", ObjectSpec::bytes("x"));
    let key = world.add_user(OWNER, "admin", policies::everything());
    let aws = serve(&world).await;
    let answer = list(&aws, &key, &[]);
    assert_eq!((answer.status, answer.code().as_str()), (301, "PermanentRedirect"));
    assert_eq!(answer.header("location"), None);
    assert_eq!(answer.header("x-amz-bucket-region"), Some("eu-west-1"));
    let head = Call::new(&aws, &key, "HEAD", "/logs").send();
    assert_eq!((head.status, head.body.len()), (301, 0));
    assert_eq!(head.header("x-amz-bucket-region"), Some("eu-west-1"));
    let location = Call::new(&aws, &key, "GET", "/logs?location=").send();
    assert!(location.text().contains(">eu-west-1</LocationConstraint>"), "{}", location.text());
    let signer = support::Signer::from(&key).in_region("eu-west-1");
    assert_eq!(Call::new(&aws, signer.clone(), "GET", "/logs/k").send().status, 200);
    world.set_endpoint_region(Some("eu-west-1"));
    let answer = list(&aws, &key, &[]);
    assert_eq!((answer.status, answer.code().as_str()), (400, "AuthorizationHeaderMalformed"));
    assert_eq!(answer.element("Region").as_deref(), Some("eu-west-1"));
    assert_eq!(Call::new(&aws, signer, "HEAD", "/logs").send().status, 200);
}

#[tokio::test]
async fn the_expected_owner_must_own_the_bucket() {
    let (aws, key) = bucket().await;
    for (owner, status) in [(OWNER, 200), (B, 403)] {
        let call = Call::new(&aws, &key, "GET", "/logs?list-type=2");
        assert_eq!(call.header("x-amz-expected-bucket-owner", owner).send().status, status);
    }
    assert_eq!(Call::new(&aws, &key, "GET", "/nowhere?list-type=2").send().code(), "NoSuchBucket");
    assert_eq!(Call::new(&aws, &key, "HEAD", "/nowhere").send().status, 404);
}

#[tokio::test]
async fn copies_keep_metadata_and_check_both_ends() {
    let (aws, key) = bucket().await;
    let world = aws.world();
    world.add_bucket(BucketSpec::new("mirror", OWNER, "us-east-1"));
    world.put_object("logs", "a b", ObjectSpec::log("x").metadata("signature", "00ff"));
    let copy = |signer: &AccessKey| {
        let call = Call::new(&aws, signer, "PUT", "/mirror/copy");
        call.header("x-amz-copy-source", "/logs/a%20b").header("if-none-match", "*").send()
    };
    let blind = world.add_user(OWNER, "blind", policies::write_bucket("mirror"));
    assert_eq!(copy(&blind).status, 403);
    let answer = copy(&key);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let copied = world.object("mirror", "copy").expect("the copy");
    assert_eq!(copied.metadata.get("signature").map(String::as_str), Some("00ff"));
    assert_eq!(copied.content_encoding.as_deref(), Some("gzip"));
    assert_eq!(copy(&key).status, 412);
}

#[tokio::test]
async fn a_deletion_by_tag_takes_the_version_that_is_meant_and_no_other() {
    let (aws, key) = bucket().await;
    aws.world().put_object("logs", "a", ObjectSpec::bytes("one"));
    let etag = aws.world().object("logs", "a").unwrap().etag.clone();
    let delete = |caller: &AccessKey, path: &str, tag: &str| {
        Call::new(&aws, caller, "DELETE", path).header("if-match", &format!("\"{tag}\"")).send()
    };
    let other = delete(&key, "/logs/a", "0123");
    assert_eq!((other.status, other.code()), (412, "PreconditionFailed".into()));
    assert_eq!(delete(&key, "/logs/b", &etag).code(), "NoSuchKey");
    let objects = "arn:aws:s3:::logs/*";
    let by_tag = |actions: &[&str]| {
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": objects, "Condition": {"Null": {"s3:if-match": "false"}}},
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::logs/read/*"},
        ]})
    };
    let user = aws.world().add_user(OWNER, "pruner", by_tag(&["s3:DeleteObject"]));
    // Whoever compares must be allowed to read; who may not list does not learn what is missing.
    assert_eq!(delete(&user, "/logs/a", &etag).code(), "AccessDenied");
    aws.world().put_object("logs", "read/a", ObjectSpec::bytes("one"));
    assert_eq!(delete(&user, "/logs/read/b", &etag).code(), "AccessDenied");
    assert_eq!(Call::new(&aws, &user, "DELETE", "/logs/read/a").send().code(), "AccessDenied");
    assert_eq!(delete(&user, "/logs/read/a", &etag).status, 204);
    aws.world().faults().inject(Fault::IgnoresConditions).on(Op::DeleteObject).times(1);
    assert_eq!(delete(&key, "/logs/a", "0123").status, 204);
    assert!(aws.world().keys("logs", "").is_empty());
}

#[tokio::test]
async fn deletes_and_bucket_lists_work() {
    let (aws, key) = bucket().await;
    for name in ["a", "b", "c"] {
        aws.world().put_object("logs", name, ObjectSpec::bytes("x"));
    }
    assert_eq!(Call::new(&aws, &key, "DELETE", "/logs/a").send().status, 204);
    let body = "<Delete><Object><Key>b</Key></Object><Object><Key>missing</Key></Object></Delete>";
    let md5 = {
        use md5::Digest as _;
        BASE64.encode(md5::Md5::digest(body))
    };
    let many = Call::new(&aws, &key, "POST", "/logs?delete=").header("content-md5", &md5).body(body).send();
    assert_eq!((many.status, many.elements("Key")), (200, vec!["b".into(), "missing".into()]), "{}", many.text());
    assert_eq!(aws.world().keys("logs", ""), ["c"]);
    let all = Call::new(&aws, &key, "GET", "/").send();
    assert_eq!(all.elements("Name"), ["logs"]);
}

/// No part but the last may be smaller.
const LEAST_PART: usize = 5 << 20;

/// Begins an upload, sends parts in the order given, and returns its id and the document that completes it.
fn upload(aws: &FakeAws, key: &AccessKey, headers: &[(&str, &str)], parts: &[(u32, Vec<u8>)]) -> (String, String) {
    let begun = headers
        .iter()
        .fold(Call::new(aws, key, "POST", "/logs/big?uploads="), |call, (name, value)| call.header(name, value));
    let begun = begun.send();
    let id = begun.element("UploadId").unwrap_or_else(|| panic!("no id: {}", begun.text()));
    let mut named = std::collections::BTreeMap::new();
    for (number, body) in parts {
        let part = Call::new(aws, key, "PUT", "/logs/big")
            .query("partNumber", &number.to_string())
            .query("uploadId", &id)
            .body(body.clone())
            .send();
        named.insert(*number, part.header("etag").expect("an ETag").to_owned());
    }
    let parts: String = named
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    (id, format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"))
}

fn complete(aws: &FakeAws, key: &AccessKey, id: &str, document: &str, headers: &[(&str, &str)]) -> Answer {
    let call = Call::new(aws, key, "POST", "/logs/big").query("uploadId", id).body(document);
    headers.iter().fold(call, |call, (name, value)| call.header(name, value)).send()
}

#[tokio::test]
async fn multipart_uploads_are_put_together_in_order() {
    let (aws, key) = bucket().await;
    let first = vec![b'h'; LEAST_PART];
    let parts = [(2, b"world".to_vec()), (1, first.clone())];
    let (id, document) = upload(&aws, &key, &[("x-amz-meta-a", "b"), ("x-amz-checksum-algorithm", "SHA256")], &parts);
    assert_eq!(aws.world().open_uploads("logs"), ["big"]);
    let done = complete(&aws, &key, &id, &document, &[]);
    assert_eq!(done.status, 200, "{}", done.text());
    let object = aws.world().object("logs", "big").expect("the object");
    assert!(object.body.bytes() == [first.clone(), b"world".to_vec()].concat());
    assert!(object.etag.ends_with("-2"));
    assert_eq!(object.modified, at("2024-03-05T06:07:08Z"));
    assert!(aws.world().open_uploads("logs").is_empty());

    let hash = |bytes: &[u8]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec();
    let of_parts = BASE64.encode(hash(&[hash(&first), hash(b"world")].concat()));
    let head = Call::new(&aws, &key, "HEAD", "/logs/big").header("x-amz-checksum-mode", "ENABLED").send();
    assert_eq!(head.header("x-amz-checksum-sha256"), Some(format!("{of_parts}-2").as_str()));
    assert_eq!(head.header("x-amz-checksum-type"), Some("COMPOSITE"));
}

#[tokio::test]
async fn parts_are_not_small_and_an_upload_that_must_be_first_is() {
    let (aws, key) = bucket().await;
    let (id, document) = upload(&aws, &key, &[], &[(1, b"a".to_vec()), (2, b"b".to_vec())]);
    assert_eq!(complete(&aws, &key, &id, &document, &[]).code(), "EntityTooSmall");
    let (id, document) = upload(&aws, &key, &[], &[(1, b"a".to_vec())]);
    let first = [("if-none-match", "*")];
    assert_eq!(complete(&aws, &key, &id, &document, &first).status, 200);
    let (late, document) = upload(&aws, &key, &[], &[(1, b"b".to_vec())]);
    let refused = complete(&aws, &key, &late, &document, &first);
    assert_eq!((refused.status, refused.code().as_str()), (412, "PreconditionFailed"));
    assert_eq!(aws.world().body("logs", "big").as_deref(), Some(&b"a"[..]));
}

#[tokio::test]
async fn open_uploads_are_listed_by_prefix_and_page_and_can_be_aborted() {
    let (aws, key) = bucket().await;
    for name in ["a/1", "a/2", "a/2", "b/1"] {
        assert_eq!(Call::new(&aws, &key, "POST", &format!("/logs/{name}?uploads=")).send().status, 200);
    }
    let page = |marker: &str, id: &str| {
        let call = Call::new(&aws, &key, "GET", "/logs?uploads=").query("prefix", "a/").query("max-uploads", "2");
        let call =
            if marker.is_empty() { call } else { call.query("key-marker", marker).query("upload-id-marker", id) };
        call.send()
    };
    let first = page("", "");
    assert_eq!(
        (first.elements("Key"), first.element("IsTruncated")),
        (vec!["a/1".into(), "a/2".into()], Some("true".into()))
    );
    let last = page(&first.element("NextKeyMarker").unwrap(), &first.element("NextUploadIdMarker").unwrap());
    assert_eq!((last.elements("Key"), last.element("IsTruncated")), (vec!["a/2".into()], Some("false".into())));
    let id = last.element("UploadId").unwrap();
    let abort = || Call::new(&aws, &key, "DELETE", "/logs/a/2").query("uploadId", &id).send();
    assert_eq!(abort().status, 204);
    assert_eq!(abort().code(), "NoSuchUpload");
    assert_eq!(aws.world().open_uploads("logs"), ["a/1", "a/2", "b/1"]);
}

#[tokio::test]
async fn retention_needs_a_bucket_with_object_lock_a_checksum_and_a_time_to_come() {
    let (aws, key) = bucket().await;
    aws.world().add_bucket(BucketSpec::new("locked", OWNER, "us-east-1").locked());
    let configuration = |bucket: &str| Call::new(&aws, &key, "GET", &format!("/{bucket}?object-lock=")).send();
    assert_eq!(configuration("logs").code(), "ObjectLockConfigurationNotFoundError");
    assert_eq!(configuration("locked").element("ObjectLockEnabled").as_deref(), Some("Enabled"));
    let md5 = {
        use md5::Digest as _;
        BASE64.encode(md5::Md5::digest("x"))
    };
    let put = |bucket: &str, until: &str, summed: bool| {
        let call = Call::new(&aws, &key, "PUT", &format!("/{bucket}/k")).body("x");
        let call =
            call.header("x-amz-object-lock-mode", "COMPLIANCE").header("x-amz-object-lock-retain-until-date", until);
        if summed { call.header("content-md5", &md5).send() } else { call.send() }
    };
    let (past, future) = ("2024-03-05T06:07:07Z", "2024-04-05T00:00:00Z");
    assert_eq!(put("logs", future, true).code(), "InvalidRequest");
    assert_eq!(put("locked", future, false).code(), "InvalidRequest");
    assert_eq!(put("locked", past, true).code(), "InvalidArgument");
    assert_eq!(put("locked", future, true).status, 200);
    let head = Call::new(&aws, &key, "HEAD", "/locked/k").send();
    assert_eq!(head.header("x-amz-object-lock-mode"), Some("COMPLIANCE"));
    assert!(
        head.header("x-amz-object-lock-retain-until-date")
            .is_some_and(|until| until.starts_with("2024-04-05T00:00:00"))
    );
}

#[tokio::test]
async fn writes_fail_as_they_are_told_to() {
    let (aws, key) = bucket().await;
    let put = || Call::new(&aws, &key, "PUT", "/logs/k").body("x").send();
    aws.world().faults().inject(Fault::ConditionalConflict).on(Op::PutObject).times(1);
    let conflict = put();
    assert_eq!((conflict.status, conflict.code().as_str()), (409, "ConditionalRequestConflict"));
    aws.world().faults().inject(Fault::LostAnswer).on(Op::PutObject).times(1);
    let request = Call::new(&aws, &key, "PUT", "/logs/k").body("x").bytes("close");
    let mut connection = std::net::TcpStream::connect(aws.address()).expect("connected");
    std::io::Write::write_all(&mut connection, &request).expect("sent");
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut connection, &mut answer);
    assert!(answer.is_empty() && aws.world().object("logs", "k").is_some(), "it is done and not answered");

    let (id, document) = upload(&aws, &key, &[], &[(1, b"a".to_vec())]);
    aws.world().faults().inject(Fault::ErrorInside200).on(Op::CompleteMultipartUpload).times(1);
    let inside = complete(&aws, &key, &id, &document, &[]);
    assert_eq!((inside.status, inside.code().as_str()), (200, "InternalError"));
    assert!(aws.world().object("logs", "big").is_none(), "nothing was done");
    assert_eq!(complete(&aws, &key, &id, &document, &[]).status, 200);
}
