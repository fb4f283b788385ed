//! What trails deliver, verified as an auditor would.

mod support;

use std::collections::BTreeMap;
use std::io::Read as _;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fakeaws::{Bodies, BucketSpec, Kind, Trail, World, policies};
use serde_json::Value;
use support::{B, C, Call, OWNER, at, serve, world};

fn trail(bodies: Bodies) -> Trail {
    Trail {
        bucket: "logs".into(),
        accounts: vec![B.into(), C.into()],
        regions: vec!["us-east-1".into(), "eu-west-1".into()],
        since: at("2024-03-01T00:00:00Z"),
        bodies,
        ..Trail::default()
    }
}

fn with_bucket() -> World {
    let world = world();
    world.add_bucket(BucketSpec::new("logs", OWNER, "us-east-1"));
    world
}

fn inflated(world: &World, key: &str) -> Vec<u8> {
    let body = world
        .body("logs", key)
        .unwrap_or_else(|| panic!("no {key}"));
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&body[..])
        .read_to_end(&mut text)
        .expect("a gzip");
    text
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// Walks every chain from its newest digest back to its first, checking signatures, links and log
/// hashes; returns the logs that are vouched for, and how many digests were walked.
fn audit(world: &World) -> (BTreeMap<String, u32>, usize) {
    let mut vouched = BTreeMap::new();
    let mut walked = 0;
    for account in [B, C] {
        for region in ["us-east-1", "eu-west-1"] {
            let prefix = format!("AWSLogs/{account}/CloudTrail-Digest/{region}/");
            let mut next = world.keys("logs", &prefix).pop();
            let mut expected: Option<(String, String)> = None;
            while let Some(key) = next {
                let text = inflated(world, &key);
                let document: Value = serde_json::from_slice(&text).expect("JSON");
                let signature =
                    world.object("logs", &key).expect("a digest").metadata["signature"].clone();
                if let Some((hash, link)) = expected {
                    assert_eq!((hash, link), (sha256(&text), signature.clone()));
                }
                verify(world, region, &document, &text, &signature);
                for file in document["logFiles"].as_array().expect("a list") {
                    let log = file["s3Object"].as_str().expect("a key");
                    assert_eq!(file["hashValue"], sha256(&inflated(world, log)));
                    *vouched.entry(log.to_owned()).or_default() += 1;
                }
                let string = |name: &str| document[name].as_str().map(str::to_owned);
                next = string("previousDigestS3Object");
                expected = string("previousDigestHashValue").zip(string("previousDigestSignature"));
                walked += 1;
            }
        }
    }
    (vouched, walked)
}

fn verify(world: &World, region: &str, document: &Value, text: &[u8], signature: &str) {
    let field = |name: &str| document[name].as_str().unwrap_or("null");
    let to_sign = format!(
        "{}\n{}/{}\n{}\n{}",
        field("digestEndTime"),
        field("digestS3Bucket"),
        field("digestS3Object"),
        sha256(text),
        field("previousDigestSignature")
    );
    let end = at(field("digestEndTime"));
    let keys = world.public_keys(region, end, end);
    let key = keys
        .iter()
        .find(|key| key.fingerprint == field("digestPublicKeyFingerprint"))
        .expect("a published key");
    let signature = hex::decode(signature).expect("hexadecimal");
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key.der)
        .verify(to_sign.as_bytes(), &signature)
        .expect("a good signature");
}

#[test]
fn every_log_is_vouched_for_once_by_an_unbroken_chain() {
    for bodies in [Bodies::Realistic, Bodies::Cheap] {
        let world = with_bucket();
        let trail = trail(bodies);
        trail.deliver_until(&world, at("2024-03-02T00:00:00Z"));
        let (vouched, walked) = audit(&world);
        assert!(
            (92..=96).contains(&walked),
            "a digest an hour for each chain: {walked}"
        );
        assert!(vouched.values().all(|times| *times == 1));
        let unvouched = world
            .deliveries()
            .iter()
            .filter(|delivery| {
                delivery.kind != Kind::Digest && !vouched.contains_key(&delivery.key)
            })
            .count();
        assert!(
            vouched.len() > 2_000 && unvouched < 200,
            "{} {unvouched}",
            vouched.len()
        );
    }
}

#[test]
fn delivering_in_pieces_is_the_same_and_twice_is_once() {
    let (whole, pieces) = (with_bucket(), with_bucket());
    let trail = trail(Bodies::Cheap);
    trail.deliver_until(&whole, at("2024-03-01T06:00:00Z"));
    for minute in 0..=360 {
        let until = at("2024-03-01T00:00:00Z") + jiff::SignedDuration::from_mins(minute);
        trail.deliver_until(&pieces, until);
        assert!(trail.deliver_until(&pieces, until).is_empty());
    }
    assert_eq!(whole.keys("logs", ""), pieces.keys("logs", ""));
    assert_eq!(whole.deliveries().len(), pieces.deliveries().len());
    audit(&pieces);
}

#[test]
fn keys_rotate_and_old_digests_stay_verifiable() {
    let world = with_bucket();
    let trail = Trail {
        since: at("2024-02-20T00:00:00Z"),
        regions: vec!["us-east-1".into()],
        cadences: vec![fakeaws::Cadence {
            every: 3_600,
            ..Default::default()
        }],
        ..trail(Bodies::Cheap)
    };
    trail.deliver_until(&world, at("2024-04-01T00:00:00Z"));
    let all = world.public_keys(
        "us-east-1",
        at("2024-02-20T00:00:00Z"),
        at("2024-04-01T00:00:00Z"),
    );
    assert!(all.len() >= 2, "{}", all.len());
    assert!(audit(&world).1 > 1_900);
}

#[test]
fn the_first_digest_of_a_chain_has_no_predecessor_and_empty_hours_have_digests() {
    let world = with_bucket();
    let trail = Trail {
        kinds: Vec::new(),
        ..trail(Bodies::Cheap)
    };
    trail.deliver_until(&world, at("2024-03-01T03:00:00Z"));
    let keys = world.keys("logs", &format!("AWSLogs/{B}/CloudTrail-Digest/us-east-1/"));
    let first: Value = serde_json::from_slice(&inflated(&world, &keys[0])).expect("JSON");
    for field in [
        "previousDigestS3Bucket",
        "previousDigestS3Object",
        "previousDigestHashValue",
        "previousDigestHashAlgorithm",
        "previousDigestSignature",
        "newestEventTime",
        "oldestEventTime",
    ] {
        assert_eq!(first.get(field), Some(&Value::Null), "{field}");
    }
    assert_eq!(first["logFiles"], Value::Array(Vec::new()));
    assert_eq!(first["digestSignatureAlgorithm"], "SHA256withRSA");
}

#[tokio::test]
async fn public_keys_are_listed_by_region_and_time() {
    let world = with_bucket();
    trail(Bodies::Cheap).deliver_until(&world, at("2024-03-01T03:00:00Z"));
    let key = world.add_user(B, "mirror", policies::assume_role_and_list_public_keys("*"));
    let aws = serve(&world).await;
    let ask = |region: &str, body: &str| {
        Call::public_keys(&aws, support::Signer::from(&key).in_region(region), body).send()
    };
    let body = format!(
        "{{\"StartTime\":{},\"EndTime\":{}.5}}",
        at("2024-03-01T01:00:00Z").as_second(),
        at("2024-03-01T02:00:00Z").as_second()
    );
    let answer = ask("us-east-1", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list: Value = serde_json::from_str(&answer.text()).expect("JSON");
    let shown = &list["PublicKeyList"][0];
    let der = BASE64
        .decode(shown["Value"].as_str().expect("text"))
        .expect("base64");
    let fingerprint = {
        use md5::Digest as _;
        hex::encode(md5::Md5::digest(&der))
    };
    assert_eq!(shown["Fingerprint"], fingerprint);
    let elsewhere: Value = serde_json::from_str(&ask("eu-west-1", &body).text()).expect("JSON");
    assert_ne!(
        elsewhere["PublicKeyList"][0]["Fingerprint"],
        shown["Fingerprint"]
    );
    let empty: Value = serde_json::from_str(&ask("ap-south-1", &body).text()).expect("JSON");
    assert_eq!(empty["PublicKeyList"], Value::Array(Vec::new()));
    let reversed = ask("us-east-1", "{\"StartTime\":10,\"EndTime\":5}");
    assert!(reversed.text().contains("InvalidTimeRangeException"));
    let nobody = world.add_user(C, "nobody", policies::nothing());
    let denied = Call::public_keys(&aws, &nobody, "{}").send();
    assert!(
        denied.text().contains("AccessDeniedException"),
        "{}",
        denied.text()
    );
}
