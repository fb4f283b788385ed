//! `check` leaves everything as it was.

use fakeaws::{Fault, Op, policies};
use serde_json::json;
use trailsync::cli::Exit;

use crate::stage::{B, BUCKET, Stage, files};

#[tokio::test(flavor = "multi_thread")]
async fn a_check_writes_nothing_that_stays_and_asks_for_nothing_but_reads() {
    let stage = Stage::new().await;
    std::fs::create_dir(stage.path("tree/.trailsync")).expect("ours");
    std::fs::write(stage.path("tree/.trailsync/lock"), "1\n").expect("held");
    stage.file();
    let before = files(stage.work.path());
    let (text, exit) = stage.text().await;
    assert_eq!(exit, Exit::Done, "{text}");
    assert_eq!(files(stage.work.path()), before);
    let reads = [
        Op::GetCallerIdentity,
        Op::AssumeRole,
        Op::GetBucketLocation,
        Op::ListObjectsV2,
        Op::GetObject,
        Op::ListPublicKeys,
    ];
    let asked: Vec<Op> = stage.world.recent().into_iter().map(|request| request.op).collect();
    assert!(asked.iter().all(|op| reads.contains(op)), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_deletions_deletes_nothing_whatever_the_service_makes_of_it() {
    let mut stage = Stage::new().await;
    stage.deletes = true;
    let before = stage.world.keys(BUCKET, "");
    let delete =
        |action: &str| json!({ "Effect": "Allow", "Action": action, "Resource": format!("arn:aws:s3:::{BUCKET}/*") });
    let reading = policies::read_own_logs(BUCKET, "", B);
    for policy in [reading.clone(), policies::with(&reading, delete("s3:DeleteObject"))] {
        stage.allow(policy);
        for fault in [None, Some(Fault::IgnoresConditions), Some(Fault::AccessDenied), Some(Fault::SlowDown)] {
            stage.world.faults().clear();
            if let Some(fault) = fault {
                stage.world.faults().inject(fault).on(Op::DeleteObject).always();
            }
            stage.text().await;
            assert_eq!(stage.world.keys(BUCKET, ""), before);
        }
    }
    assert!(stage.world.counters().total(Op::DeleteObject) >= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_holds_no_secret_and_no_control_character() {
    let mut stage = Stage::new().await;
    stage.set("role.external_id", "canary-external-id");
    let (text, _) = stage.text().await;
    let json = stage.json().await.to_string();
    let secrets: Vec<String> =
        stage.world.issued_sessions().into_iter().flat_map(|(secret, token)| [secret, token]).collect();
    for said in [&text, &json] {
        assert!(!said.contains("canary-external-id") && !said.contains(&stage.user.secret), "{said}");
        assert!(secrets.iter().all(|secret| !said.contains(secret)), "{said}");
        assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
    }
}

/// What `check` says about the destination while the system makes these calls fail.
async fn on_a_disk_that_fails(stage: &Stage, calls: &str) -> (String, Option<i32>) {
    let mut strace = tokio::process::Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("inject={calls}"))
        .arg(env!("CARGO_BIN_EXE_trailsync"));
    strace.arg("--config").arg(stage.file()).arg("check").env_clear();
    let done = strace.output().await.expect("strace runs");
    (String::from_utf8_lossy(&done.stdout).into_owned(), done.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_or_read_only_is_named_and_nothing_is_left_on_it() {
    let mut stage = Stage::new().await;
    let (text, code) = on_a_disk_that_fails(&stage, "fsync:error=ENOSPC").await;
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("FAILED   destination       ENOSPC") && text.contains("make room"), "{text}");
    let full = stage.steady(&text);
    assert!(files(&stage.path("tree")).is_empty());
    let path = stage.path("new").display().to_string();
    stage.set("destination.path", &path);
    let (text, code) = on_a_disk_that_fails(&stage, "faccessat2:error=EROFS").await;
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("FAILED   destination       EROFS") && text.contains("writable"), "{text}");
    let kept = format!("=== the disk is full ===\n{full}\n=== the disk is read-only ===\n{}\n", stage.steady(&text));
    crate::hops::is_as_kept("expected-disks.txt", &kept);
}
