//! The program with a bucket of one's own as destination, as an operator runs it.

#[path = "support/account.rs"]
mod account;
#[path = "support/archive.rs"]
mod archive;
#[path = "support/hostile.rs"]
mod hostile;
#[path = "support/program.rs"]
mod program;
#[path = "archive/verified.rs"]
mod verified;

use std::collections::BTreeMap;

use account::{B, BUCKET, REGION, Shared};
use archive::{ARCHIVE, Archive, PREFIX, copies};
use fakeaws::{BucketSpec, Fault, ObjectSpec, Op};
use program::Program;
use serde_json::Value;

async fn json(program: &Program, args: &[&str]) -> Value {
    let ran = program.run(args).await;
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("no JSON: {ran:?}"))
}

/// A few logs and a digest of days long past, which are sealed at once, and one of today.
fn deliver(shared: &Shared) -> BTreeMap<String, Vec<u8>> {
    let mut bodies = BTreeMap::new();
    let now = jiff::Timestamp::now();
    let today = format!("{}", now.strftime("%Y/%m/%d"));
    let minute = format!("{}", now.strftime("%Y%m%dT%H%MZ"));
    for (kind, day, at, n) in [
        ("CloudTrail", "2023/07/10", "20230710T0005Z", 1_u64),
        ("CloudTrail", "2023/07/10", "20230710T0010Z", 2),
        ("CloudTrail-Digest", "2023/07/10", "20230710T010000Z", 3),
        ("CloudTrail", today.as_str(), minute.as_str(), 4),
    ] {
        let key = format!("AWSLogs/{B}/{kind}/{REGION}/{day}/{B}_{kind}_{REGION}_{at}_{n:016}.json.gz");
        let object = ObjectSpec::generated(n, 400).metadata("signature", &format!("{n:02x}").repeat(128));
        bodies.insert(key.clone(), object.body.bytes().to_vec());
        shared.world.put_object(BUCKET, &key, object);
    }
    bodies
}

fn first_versions(shared: &Shared) -> BTreeMap<String, Vec<u8>> {
    let firsts = copies(shared).into_iter().map(|((key, version), bytes)| {
        assert_eq!(version, None, "{key}");
        (key, bytes)
    });
    firsts.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_is_mirrored_into_a_bucket_with_signatures_manifests_and_both_sessions_shown() {
    let shared = Shared::own_logs().await;
    let program = Program::archiving(&shared, &Archive::new(&shared), "");
    let bodies = deliver(&shared);
    let first = program.run(&["sync", "--quiet"]).await;
    assert!(first.status.success(), "{first:?}");
    assert!(first_versions(&shared) == bodies);
    for key in bodies.keys() {
        let copy = shared.world.object(ARCHIVE, &format!("{PREFIX}/{key}")).expect("a copy");
        let there = shared.world.object(BUCKET, key).expect("the object");
        let kept = if key.contains("Digest") { there.metadata.clone() } else { BTreeMap::new() };
        assert_eq!(copy.metadata, kept, "{key}: signatures stay, and nothing else is taken over");
    }
    let manifests = shared.world.keys(ARCHIVE, &format!("{PREFIX}/.trailsync/manifests/"));
    assert_eq!(manifests.len(), 2, "{manifests:?}");

    let status = json(&program, &["status", "--json"]).await;
    let sessions: Vec<_> =
        status["sessions"].as_array().expect("sessions").iter().map(|s| s["source"].as_str().unwrap()).collect();
    assert_eq!(sessions, ["acme", "acme/destination"], "{status}");
    assert!(status["sessions"][1]["role_arn"].as_str().unwrap().ends_with("role/Archive"));

    let puts = shared.world.counters().total(Op::PutObject);
    let again = program.run(&["sync", "--quiet", "--full"]).await;
    assert!(again.status.success(), "{again:?}");
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(said.starts_with("0 objects") && said.contains(" 0 GET requests"), "nothing is fetched twice: {said}");
    assert_eq!(shared.world.counters().total(Op::PutObject), puts + 1, "but the probe of a start, nothing is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_renews_both_sessions_by_itself_and_goes_on_mirroring() {
    let shared = Shared::own_logs().await;
    let archive = Archive::new(&shared);
    shared.world.faults().inject(Fault::ShortLivedSession { seconds: 4 }).on(Op::AssumeRole).always();
    let program = Program::archiving(&shared, &archive, "[source.acme.poll]\nevery = \"5s\"\nidle_every = \"5s\"");
    let mut bodies = deliver(&shared);
    let mut daemon = program.command(&["run"]).spawn().expect("the program starts");
    let assumed = |role: &str| shared.world.counters().role(role).total;
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut late = false;
    // A file that comes when both sessions have been renewed is mirrored with what they were renewed to.
    while !late || first_versions(&shared) != bodies {
        assert!(std::time::Instant::now() < patience, "{} and {}", assumed(&shared.role), assumed(&archive.role));
        if !late && assumed(&shared.role) >= 3 && assumed(&archive.role) >= 3 {
            let now = jiff::Timestamp::now();
            let (day, minute) = (now.strftime("%Y/%m/%d"), now.strftime("%Y%m%dT%H%MZ"));
            let key = format!("AWSLogs/{B}/CloudTrail/{REGION}/{day}/{B}_CloudTrail_{REGION}_{minute}_late.json.gz");
            let object = ObjectSpec::generated(99, 400);
            bodies.insert(key.clone(), object.body.bytes().to_vec());
            shared.world.put_object(BUCKET, &key, object);
            late = true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let status = json(&program, &["status", "--json"]).await;
    daemon.start_kill().expect("killed");
    daemon.wait().await.expect("a child");
    let sessions = status["sessions"].as_array().expect("sessions");
    assert_eq!(sessions.len(), 2, "{status}");
    for session in sessions {
        assert!(session["renewals"].as_u64() >= Some(2) && session["last_error"].is_null(), "{session}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_key_is_in_the_bucket_once_or_in_quarantine_with_the_reason() {
    let shared = Shared::own_logs().await;
    let stream = format!("AWSLogs/{B}/CloudTrail/us-east-1/");
    let mut bodies = BTreeMap::new();
    for (n, key) in hostile::hostile_keys().into_iter().enumerate() {
        let room = key.floor_char_boundary(1024 - stream.len());
        bodies.insert(format!("{stream}{}", &key[..room]), format!("object {n}").into_bytes());
    }
    shared.world.put_objects(BUCKET, bodies.iter().map(|(key, body)| (key.clone(), ObjectSpec::bytes(body.clone()))));
    let program = Program::archiving(&shared, &Archive::new(&shared), "");
    let ran = program.run(&["sync", "--quiet"]).await;
    let fits = |key: &String| PREFIX.len() + 1 + key.len() <= 1024;
    let (fitting, long): (BTreeMap<_, _>, BTreeMap<_, _>) = bodies.into_iter().partition(|(key, _)| fits(key));
    assert!(fitting.len() > 200 && !long.is_empty(), "{} and {}", fitting.len(), long.len());
    assert!(first_versions(&shared) == fitting);
    assert_eq!(ran.status.code(), Some(1), "some objects are not mirrored, which is said: {ran:?}");
    let status = json(&program, &["status", "--json"]).await;
    let waiting = status["accounts"][0]["failing"].as_u64().unwrap_or(0)
        + status["accounts"][0]["quarantined"].as_u64().unwrap_or(0);
    assert_eq!(waiting, long.len() as u64, "{}", status["accounts"]);
    let log = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(log.contains("KeyTooLongError") && log.contains("use a shorter `destination.prefix`"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_in_an_object_s_place_stay_and_the_object_stands_beside_them() {
    let shared = Shared::own_logs().await;
    let program = Program::archiving(&shared, &Archive::new(&shared), "");
    assert!(program.run(&["sync", "--quiet"]).await.status.success(), "there is a database before anything is planted");
    let bodies = deliver(&shared);
    let (key, body) = bodies.iter().next().expect("an object");
    shared.world.put_object(ARCHIVE, &format!("{PREFIX}/{key}"), ObjectSpec::bytes("planted"));
    let ran = program.run(&["sync", "--quiet"]).await;
    assert!(ran.status.success(), "{ran:?}");
    let copies = copies(&shared);
    assert_eq!(copies[&(key.clone(), None)], b"planted");
    let beside: Vec<_> = copies.iter().filter(|((of, version), _)| of == key && version.is_some()).collect();
    assert!(beside.len() == 1 && beside[0].1 == body);
    let status = json(&program, &["status", "--json"]).await;
    assert!(status.to_string().contains("conflict"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_database_is_not_made_anew_where_a_bucket_holds_copies_and_rebuild_makes_it_again() {
    let shared = Shared::own_logs().await;
    let program = Program::archiving(&shared, &Archive::new(&shared), "");
    let bodies = deliver(&shared);
    assert!(program.run(&["sync", "--quiet"]).await.status.success());
    // One object is replaced at the source, so that two versions stand there.
    let today = bodies.keys().find(|key| !key.contains("/2023/")).expect("a key of today");
    shared.world.put_object(BUCKET, today, ObjectSpec::generated(77, 500));
    assert!(program.run(&["sync", "--quiet"]).await.status.success());
    assert_eq!(copies(&shared).len(), bodies.len() + 1);
    let before = json(&program, &["status", "--json"]).await;

    std::fs::remove_dir_all(program.state()).expect("removed");
    let refused = program.run(&["sync", "--quiet"]).await;
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("the database is missing, but objects were mirrored before"), "{said}");
    assert!(said.contains("trailsync rebuild"), "{said}");

    let rebuilt = program.run(&["rebuild"]).await;
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    let said = String::from_utf8_lossy(&rebuilt.stdout).into_owned();
    assert!(said.contains("2 sealed days, 0 objects of them are not among the copies"), "{said}");
    assert!(said.contains("1 copies that no manifest names, 0 files"), "{said}");
    let puts = shared.world.counters().total(Op::PutObject);
    let again = program.run(&["sync", "--quiet", "--full"]).await;
    assert!(again.status.success(), "{again:?}");
    assert_eq!(shared.world.counters().total(Op::PutObject), puts + 1, "but the probe of a start, nothing is written");
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(said.starts_with("0 objects") && said.contains(" 0 GET requests"), "nothing is fetched twice: {said}");
    let after = json(&program, &["status", "--json"]).await;
    assert_eq!(after["accounts"][0]["objects"], before["accounts"][0]["objects"], "{after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_not_ready_is_said_and_nothing_is_recorded() {
    let shared = Shared::own_logs().await;
    let archive = Archive::with(&shared, BucketSpec::new(ARCHIVE, B, REGION), |_| {});
    let program = Program::archiving(&shared, &archive, "");
    let bodies = deliver(&shared);
    shared.world.faults().inject(Fault::AccessDenied).on(Op::PutObject).always();
    let ran = program.run(&["sync", "--quiet"]).await;
    assert!(!ran.status.success());
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("`s3:PutObject` on `arn:aws:s3:::our-archive/trails/acme/.trailsync/"), "{said}");
    shared.world.faults().clear();

    // Denied only where copies go.
    shared.world.faults().inject(Fault::AccessDenied).on(Op::PutObject).key_contains("AWSLogs").always();
    let ran = program.run(&["sync", "--quiet"]).await;
    assert!(!ran.status.success());
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("`s3:PutObject` on `arn:aws:s3:::our-archive/trails/acme/AWSLogs/"), "{said}");
    let status = json(&program, &["status", "--json"]).await;
    assert_eq!(status["accounts"][0]["objects"], 0, "{}", status["accounts"]);
    shared.world.faults().clear();
    assert!(program.run(&["sync", "--quiet"]).await.status.success());
    assert!(first_versions(&shared) == bodies);
}
