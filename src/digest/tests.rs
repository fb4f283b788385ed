use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn document() -> Value {
    json!({
        "awsAccountId": "111122223333",
        "digestStartTime": "2026-11-24T02:01:31Z",
        "digestEndTime": "2026-11-24T03:01:31Z",
        "digestS3Bucket": "logs",
        "digestS3Object": "AWSLogs/111122223333/CloudTrail-Digest/us-east-2/2026/11/24/d.json.gz",
        "digestPublicKeyFingerprint": "31E8B5433410DFB61A9DC45CC65B22FF",
        "digestSignatureAlgorithm": "SHA256withRSA",
        "newestEventTime": null,
        "oldestEventTime": null,
        "previousDigestS3Bucket": "logs",
        "previousDigestS3Object": "previous",
        "previousDigestHashValue": "97fb791cf91ffc440d274f8190dbdd9aa09c34432aba82739df18b6d3c13df2d",
        "previousDigestHashAlgorithm": "SHA-256",
        "previousDigestSignature": "50887CCF",
        "logFiles": [{
            "s3Bucket": "logs",
            "s3Object": "log",
            "hashValue": "9bb6196fc6b84d6f075a56548feca262bd99ba3c2de41b618e5b6e22c1fc71f6",
            "hashAlgorithm": "SHA-256",
            "newestEventTime": "2026-11-24T02:52:27Z",
            "oldestEventTime": "2026-11-24T02:42:27Z"
        }]
    })
}

fn parse(document: &Value) -> Result<Digest, Malformed> {
    Digest::parse(document.to_string().as_bytes())
}

#[test]
fn what_is_signed_is_end_place_hash_and_previous_signature_as_written() {
    let digest = parse(&document()).unwrap();
    let zeros = "0".repeat(64);
    assert_eq!(
        digest.signed_text(&[0; 32]),
        format!(
            "2026-11-24T03:01:31Z\nlogs/AWSLogs/111122223333/CloudTrail-Digest/us-east-2/2026/11/24/d.json.gz\n{zeros}\n50887CCF"
        )
    );
    assert_eq!(digest.fingerprint, "31e8b5433410dfb61a9dc45cc65b22ff");
    assert_eq!(digest.previous.unwrap().signature, [0x50, 0x88, 0x7c, 0xcf]);
}

#[test]
fn a_digest_without_a_previous_one_begins_a_chain() {
    let mut first = document();
    for field in ["S3Bucket", "S3Object", "HashValue", "HashAlgorithm", "Signature"] {
        first[format!("previousDigest{field}")] = Value::Null;
    }
    let digest = parse(&first).unwrap();
    assert_eq!(digest.previous, None);
    assert!(digest.signed_text(&[0; 32]).ends_with("\nnull"));
}

#[test]
fn a_previous_digest_named_in_part_is_malformed() {
    for field in ["S3Bucket", "S3Object", "HashValue", "HashAlgorithm", "Signature"] {
        let mut partly = document();
        partly[format!("previousDigest{field}")] = Value::Null;
        assert!(parse(&partly).is_err(), "{field}");
    }
}

#[test]
fn every_field_that_is_needed_is_missed() {
    for field in [
        "awsAccountId",
        "digestStartTime",
        "digestEndTime",
        "digestS3Bucket",
        "digestS3Object",
        "digestPublicKeyFingerprint",
        "digestSignatureAlgorithm",
        "logFiles",
    ] {
        let mut without = document();
        without.as_object_mut().unwrap().remove(field);
        assert!(parse(&without).unwrap_err().0.contains(field), "{field}");
    }
}

#[test]
fn other_algorithms_times_and_hashes_are_malformed() {
    for (pointer, value) in [
        ("/digestSignatureAlgorithm", "SHA1withRSA"),
        ("/previousDigestHashAlgorithm", "MD5"),
        ("/previousDigestHashValue", "97"),
        ("/previousDigestSignature", "xyz"),
        ("/digestEndTime", "yesterday"),
        ("/digestEndTime", "2026-11-24T01:01:31Z"),
        ("/logFiles/0/hashAlgorithm", "SHA-1"),
        ("/logFiles/0/hashValue", "9b"),
    ] {
        let mut other = document();
        *other.pointer_mut(pointer).unwrap() = value.into();
        assert!(parse(&other).is_err(), "{pointer}");
    }
    let twice = document().to_string().replacen('{', r#"{"digestS3Bucket":"other","#, 1);
    assert!(Digest::parse(twice.as_bytes()).is_err(), "a field named twice");
}

#[test]
fn a_signature_is_read_from_the_metadata_and_only_as_documented() {
    let metadata = |algorithm: &str, text: &str| {
        [(ALGORITHM, algorithm), (SIGNATURE, text)].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    };
    assert_eq!(signature(&metadata("SHA256withRSA", "00ff")), Ok(vec![0, 0xff]));
    assert!(signature(&metadata("SHA1withRSA", "00ff")).is_err());
    assert!(signature(&metadata("SHA256withRSA", "0")).is_err());
    assert!(signature(&metadata("SHA256withRSA", "00fF")).is_err());
    assert!(signature(&Metadata::new()).is_err());
}

#[test]
fn the_keys_of_a_backfill_digest_are_those_of_when_it_was_made() {
    let digest = parse(&document()).unwrap();
    let made: Timestamp = "2026-12-20T00:00:00Z".parse().unwrap();
    assert_eq!(digest.key_window(None), (digest.start, shift(digest.end, 7200)));
    assert_eq!(digest.key_window(Some(made)), (shift(made, -3600), shift(made, 3600)));
    let metadata: Metadata = [(BACKFILLED_AT.to_owned(), "2026-12-20T00:00:00.000Z".to_owned())].into();
    assert_eq!(backfilled_at(&metadata), Ok(made));
}

#[test]
fn a_digest_is_believed_only_by_its_own_key_in_its_own_time() {
    let digest = parse(&document()).unwrap();
    let key = PublicKey {
        der: vec![],
        fingerprint: digest.fingerprint.clone(),
        valid_from: digest.end,
        valid_until: digest.end,
    };
    assert_eq!(digest.verify(&[0; 32], &[], None, None), Err(Doubt::UnknownKey(digest.fingerprint.clone())));
    assert_eq!(digest.verify(&[0; 32], &[], None, Some(&key)), Err(Doubt::Signature));
    let later = PublicKey { valid_from: shift(digest.end, 7201), valid_until: Timestamp::MAX, ..key };
    assert!(matches!(digest.verify(&[0; 32], &[], None, Some(&later)), Err(Doubt::KeyOutOfTime(..))));
}

#[test]
fn a_digest_under_anothers_name_is_malformed() {
    let digest = parse(&document()).unwrap();
    let name = |end: &str| Name { trail: "t", home: "us-east-2", end: end.parse().unwrap(), backfill: false };
    assert_eq!(digest.check_name("111122223333", &name("2026-11-24T03:01:31Z")), Ok(()));
    assert!(digest.check_name("111122223333", &name("2026-11-24T04:01:31Z")).is_err());
    assert!(digest.check_name("222222222222", &name("2026-11-24T03:01:31Z")).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(at in 0usize..1500, with in any::<u8>(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut altered = document().to_string().into_bytes();
        let at = at % altered.len();
        altered[at] = with;
        let _ = Digest::parse(&altered);
        let _ = Digest::parse(&bytes);
    }
}
