//! What `verify` says of a copy in a bucket is what it says of the same copy in a tree.

use fakeaws::{Cadence, Kind, ObjectSpec, Trail, policies};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use trailsync::destination::sidecar;

use crate::account::{B, BUCKET, REGION, Shared};
use crate::archive::{ARCHIVE, Archive, PREFIX};
use crate::program::Program;

/// Some hours of logs and digests of one trail, in Account A's bucket.
async fn delivered() -> Shared {
    let shared = Shared::own_logs().await;
    let now = Timestamp::now();
    let trail = Trail {
        bucket: BUCKET.into(),
        accounts: vec![B.into()],
        regions: vec![REGION.into()],
        trail_name: "all_of-it.v1".into(),
        home_region: REGION.into(),
        kinds: vec![Kind::Management],
        digests: true,
        since: now - SignedDuration::from_hours(8),
        cadences: vec![Cadence::default()],
        ..Trail::default()
    };
    trail.deliver_until(&shared.world, now);
    shared
}

async fn mirrored(program: &Program) {
    let ran = program.run(&["sync", "--quiet"]).await;
    assert!(ran.status.success(), "{ran:?}");
}

/// The findings of a copy, and how the program ended.
async fn findings(program: &Program) -> (Vec<Value>, Option<i32>) {
    let ran = program.run(&["verify", "--json", "--quiet"]).await;
    let text = String::from_utf8(ran.stdout).expect("UTF-8");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut found: Vec<_> = lines.filter(|line| line["type"] == "finding" && line["failure"] == true).collect();
    found.sort_by_key(ToString::to_string);
    (found, ran.status.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_judged_as_a_tree_with_the_same_copies_would_be() {
    let shared = delivered().await;
    let archive = Archive::new(&shared);
    let policy = policies::assume_roles_and_list_public_keys(&[&shared.role, &archive.role]);
    assert!(shared.world.set_user_policy(&format!("arn:aws:iam::{B}:user/mirror"), policy));
    let (bucket, tree) = (Program::archiving(&shared, &archive, ""), Program::new(&shared, "", ""));
    mirrored(&bucket).await;
    mirrored(&tree).await;
    assert_eq!(findings(&bucket).await, (vec![], Some(0)), "everything is proven");
    assert_eq!(findings(&tree).await, (vec![], Some(0)));

    let at = |key: &str| format!("{PREFIX}/{key}");
    let logs = shared.world.keys(BUCKET, &format!("AWSLogs/{B}/CloudTrail/"));
    let digests = shared.world.keys(BUCKET, &format!("AWSLogs/{B}/CloudTrail-Digest/"));
    let mut bytes = shared.world.object(BUCKET, &logs[1]).expect("a log").body.bytes().to_vec();
    bytes[200] ^= 1;
    shared.world.put_object(ARCHIVE, &at(&logs[1]), ObjectSpec::bytes(bytes.clone()));
    std::fs::write(tree.tree().join(&logs[1]), bytes).expect("written");
    for gone in [&logs[2], &digests[4]] {
        assert!(shared.world.delete_object(ARCHIVE, &at(gone)));
        std::fs::remove_file(tree.tree().join(gone)).expect("removed");
    }
    // What else stands in the bucket is not looked at.
    shared.world.put_object(ARCHIVE, "others/AWSLogs/x", ObjectSpec::bytes(b"x".to_vec()));
    let forged = shared.world.object(ARCHIVE, &at(&digests[6])).expect("a digest");
    let turned: String = forged.metadata["signature"].chars().rev().collect();
    let spec =
        ObjectSpec { body: forged.body.clone(), metadata: forged.metadata.clone(), ..ObjectSpec::log(Vec::new()) };
    shared.world.put_object(ARCHIVE, &at(&digests[6]), spec.metadata("signature", &turned));
    let beside = tree.tree().join(format!("{}%_meta.json", digests[6]));
    let text = String::from_utf8(std::fs::read(&beside).expect("metadata")).expect("UTF-8");
    let (key, mut metadata) = sidecar::parse(text.as_bytes()).expect("metadata");
    metadata.insert("signature".into(), turned);
    std::fs::write(&beside, sidecar::render(&key, &metadata)).expect("written");

    let (of_bucket, code) = findings(&bucket).await;
    let (of_tree, also) = findings(&tree).await;
    assert_eq!((code, also), (Some(1), Some(1)));
    let verdicts = |found: &[Value]| -> Vec<_> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        found.iter().map(|finding| (text(&finding["verdict"]), text(&finding["key"]))).collect()
    };
    for (verdict, key) in [("altered", &logs[1]), ("missing", &logs[2]), ("altered", &digests[6])] {
        assert!(verdicts(&of_bucket).contains(&(verdict.to_owned(), key.clone())), "{of_bucket:#?}");
    }
    assert!(verdicts(&of_bucket).iter().any(|(verdict, _)| verdict == "gap"), "{of_bucket:#?}");
    let unsaid: Vec<_> = of_tree.iter().filter(|finding| !of_bucket.contains(finding)).collect();
    assert_eq!(verdicts(&of_bucket), verdicts(&of_tree), "{unsaid:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_can_be_named_and_one_that_nobody_configured_is_refused_by_name() {
    let shared = delivered().await;
    let archive = Archive::new(&shared);
    let policy = policies::assume_roles_and_list_public_keys(&[&shared.role, &archive.role]);
    assert!(shared.world.set_user_policy(&format!("arn:aws:iam::{B}:user/mirror"), policy));
    let program = Program::archiving(&shared, &archive, "");
    mirrored(&program).await;
    let ran = program.run(&["verify", &format!("s3://{ARCHIVE}/{PREFIX}/"), "--quiet"]).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let ran = program.run(&["verify", "s3://another-bucket"]).await;
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("no source has `s3://another-bucket` as its destination"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuilt_state_proves_with_the_keys_beside_the_copy_when_nobody_gives_them_any_more() {
    let shared = delivered().await;
    let archive = Archive::new(&shared);
    let user = format!("arn:aws:iam::{B}:user/mirror");
    for program in [Program::archiving(&shared, &archive, ""), Program::new(&shared, "", "")] {
        let policy = policies::assume_roles_and_list_public_keys(&[&shared.role, &archive.role]);
        assert!(shared.world.set_user_policy(&user, policy));
        mirrored(&program).await;
        let proven = || async {
            let ran = program.run(&["status", "--json"]).await;
            let status: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
            status["accounts"][0]["proven_through"].as_str().map(str::to_owned)
        };
        let before = proven().await;
        assert!(before.is_some(), "proven, while keys are given");
        assert!(shared.world.set_user_policy(&user, policies::assume_roles(&[&shared.role, &archive.role])));
        let rebuilt = program.run(&["rebuild", "--set-aside"]).await;
        assert!(rebuilt.status.success(), "{rebuilt:?}");
        assert!(String::from_utf8_lossy(&rebuilt.stdout).contains("1 public keys"), "{rebuilt:?}");
        mirrored(&program).await;
        assert_eq!(proven().await, before);
    }
}
