//! The program finds damage, mends it, and says what it could not.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use fakeaws::{Cadence, Fault, Kind, ObjectSpec, Op, Trail, policies};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::account::{B, BUCKET, REGION, Shared};
use crate::program::{Program, files};

/// Account B's operator in front of some hours of logs and digests, and of two old days that are sealed at once.
struct Host {
    shared: Shared,
    program: Program,
}

impl Host {
    async fn new() -> Self {
        Self::of(Shared::own_logs().await, "").await
    }

    async fn of(shared: Shared, role: &str) -> Self {
        let now = Timestamp::now();
        let trail = Trail {
            bucket: BUCKET.into(),
            accounts: vec![B.into()],
            regions: vec![REGION.into()],
            trail_name: "all_of-it.v1".into(),
            home_region: REGION.into(),
            kinds: vec![Kind::Management],
            digests: true,
            since: now - SignedDuration::from_hours(6),
            cadences: vec![Cadence::default()],
            ..Trail::default()
        };
        trail.deliver_until(&shared.world, now);
        for day in ["2020/01/01", "2020/01/02"] {
            let minute = format!("{}T1200Z", day.replace('/', ""));
            let key = format!(
                "AWSLogs/{B}/CloudTrail/{REGION}/{day}/{B}_CloudTrail_{REGION}_{minute}_0123456789abcdef.json.gz"
            );
            shared.world.put_object(BUCKET, &key, ObjectSpec::generated(7, 300));
        }
        let policy = policies::assume_role_and_list_public_keys(&shared.role);
        assert!(shared.world.set_user_policy(&format!("arn:aws:iam::{B}:user/mirror"), policy));
        let host = Self { program: Program::new(&shared, role, ""), shared };
        host.run(&["sync", "--quiet"], 0).await;
        host
    }

    async fn run(&self, args: &[&str], code: i32) -> String {
        let output = self.program.run(args).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {out}{err}");
        out.into_owned()
    }

    async fn status(&self) -> Value {
        serde_json::from_slice(&self.program.run(&["status", "--json"]).await.stdout).expect("JSON")
    }

    /// Kinds and subjects of the alarms that are on.
    async fn alarmed(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let status = self.status().await;
        let alarms = status["alarms"].as_array().expect("a list").iter();
        alarms.map(|alarm| (text(&alarm["kind"]), text(&alarm["subject"]))).collect()
    }

    fn keys(&self, folder: &str) -> Vec<String> {
        self.shared.world.keys(BUCKET, &format!("AWSLogs/{B}/{folder}/"))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.program.tree().join(key)
    }

    fn gets(&self) -> u64 {
        self.shared.world.counters().total(Op::GetObject)
    }

    /// All of the tree but what was damaged, the stage and the lock.
    fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all = files(&self.program.tree());
        all.retain(|path, _| !path.starts_with(".trailsync/damaged") && path != ".trailsync/lock");
        all
    }

    fn damaged(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.program.tree().join(".trailsync/damaged"))
    }

    fn manifest(&self, root: PathBuf, at: usize) -> PathBuf {
        let names: Vec<String> = files(&root).into_keys().collect();
        root.join(&names[at])
    }
}

/// Flips one bit of a file and gives its bytes as they are now.
fn flip(path: &PathBuf, byte: usize) -> Vec<u8> {
    let mut bytes = fs::read(path).expect("readable");
    bytes[byte] ^= 1;
    fs::write(path, &bytes).expect("written");
    bytes
}

#[tokio::test]
async fn all_damage_is_found_and_repaired_and_only_what_was_damaged_is_fetched() {
    let host = Host::new().await;
    let whole = host.tree();
    let (logs, digests) = (host.keys("CloudTrail"), host.keys("CloudTrail-Digest"));
    let gets = host.gets();
    let flipped = flip(&host.path(&logs[1]), 100);
    let cut = fs::read(host.path(&logs[2])).unwrap()[..50].to_vec();
    fs::write(host.path(&logs[2]), &cut).unwrap();
    fs::remove_file(host.path(&logs[3])).unwrap();
    // The first log is of a sealed day: its record is a line of a manifest.
    let sealed = flip(&host.path(&logs[0]), 20);
    let sidecar = |key: &str| host.path(&format!("{key}%_meta.json"));
    fs::remove_file(sidecar(&digests[0])).unwrap();
    let text = fs::read_to_string(sidecar(&digests[1])).unwrap();
    let digit = text.find("\"signature\": \"").unwrap() + 20;
    let other = if &text[digit..=digit] == "0" { "1" } else { "0" };
    let forged = format!("{}{other}{}", &text[..digit], &text[digit + 1..]);
    fs::write(sidecar(&digests[1]), &forged).unwrap();

    let out = host.run(&["scrub", "--quiet"], 1).await;
    assert!(out.contains("6 found damaged or lost; 0 not mended"), "{out}");
    assert_eq!(host.gets() - gets, 6, "each once, and nothing else");
    assert!(host.tree() == whole, "the tree is what it was");
    assert_eq!(host.alarmed().await, []);
    let expected = [
        (logs[0].clone(), sealed),
        (logs[1].clone(), flipped),
        (logs[2].clone(), cut),
        (format!("{}%_meta.json", digests[1]), forged.into_bytes()),
    ];
    assert!(host.damaged() == expected.into_iter().collect(), "{:?}", host.damaged().keys());

    let out = host.run(&["scrub", "--quiet"], 0).await;
    assert!(out.starts_with(&format!("{} objects read again", host.shared.world.object_count(BUCKET))), "{out}");
    assert_eq!(host.gets() - gets, 6);
    let scrub = host.status().await["scrubs"][0].clone();
    assert_eq!((&scrub["last_findings"], &scrub["unmended"]), (&Value::from(0), &Value::from(0)), "{scrub}");
}

#[tokio::test]
async fn manifests_are_restored_from_their_twins_without_a_request() {
    let host = Host::new().await;
    let whole = host.tree();
    let (state, beside) = (host.program.state().join("manifests"), host.program.tree().join(".trailsync/manifests"));
    let in_state = files(&state);
    assert!(in_state.len() >= 2, "two sealed days, and what the trail delivered late");
    let gets = host.gets();
    let rotten = flip(&host.manifest(beside.clone(), 0), 12);
    flip(&host.manifest(state.clone(), 1), 12);
    let out = host.run(&["scrub", "--quiet"], 1).await;
    assert!(out.contains("2 found damaged or lost; 0 not mended"), "{out}");
    assert!(host.tree() == whole);
    assert_eq!(host.damaged().into_values().collect::<Vec<_>>(), [rotten]);
    let mut now = files(&state);
    now.retain(|path, _| !path.contains("damaged-"));
    assert!(now == in_state);
    assert_eq!(host.gets(), gets);
    fs::remove_file(host.manifest(beside.clone(), 1)).unwrap();
    host.run(&["scrub", "--quiet"], 1).await;
    assert!(host.tree() == whole);
    assert_eq!(host.alarmed().await, []);
    host.run(&["scrub", "--quiet"], 0).await;
}

#[tokio::test]
async fn what_the_source_no_longer_has_stays_alarmed_until_somebody_restores_it() {
    // Only who may list everything is told that an object is gone.
    let host = Host::of(Shared::all_logs().await, "session_policy = false").await;
    let logs = host.keys("CloudTrail");
    let (gone, replaced) = (&logs[2], &logs[3]);
    let good = fs::read(host.path(gone)).unwrap();
    let rotten = flip(&host.path(gone), 40);
    fs::remove_file(host.path(replaced)).unwrap();
    assert!(host.shared.world.delete_object(BUCKET, gone));
    host.shared.world.put_object(BUCKET, replaced, ObjectSpec::generated(99, 350));

    let out = host.run(&["scrub", "--quiet"], 1).await;
    assert!(out.contains("2 found damaged or lost; 2 not mended"), "{out}");
    assert!(out.contains("no longer at the source") && out.contains("the source has other bytes now"), "{out}");
    assert!(out.contains("restore it from a backup"), "{out}");
    assert_eq!(fs::read(host.path(gone)).unwrap(), rotten, "what is here stays");
    assert_eq!(host.damaged(), BTreeMap::new());
    let alarmed = host.alarmed().await;
    assert!(alarmed.contains(&("rotten".into(), gone.clone())), "{alarmed:?}");
    assert!(alarmed.contains(&("lost".into(), replaced.clone())), "{alarmed:?}");
    let table = String::from_utf8(host.program.run(&["status"]).await.stdout).unwrap();
    assert!(table.contains("scrub: acme: 2 of") && table.contains("2 are not mended"), "{table}");

    fs::write(host.path(gone), good).unwrap();
    let out = host.run(&["scrub", "--quiet"], 1).await;
    assert!(out.contains("0 found damaged or lost; 1 not mended"), "{out}");
    assert!(!host.alarmed().await.contains(&("rotten".into(), gone.clone())));
}

#[tokio::test]
async fn what_cannot_be_fetched_now_stays_alarmed_says_why_and_is_tried_again() {
    let host = Host::new().await;
    let whole = host.tree();
    let key = host.keys("CloudTrail")[2].clone();
    let faults = host.shared.world.faults();
    let denied = faults.inject(Fault::AccessDenied).on(Op::GetObject).key(&key).always();
    fs::remove_file(host.path(&key)).unwrap();
    let out = host.run(&["scrub", "--quiet"], 1).await;
    assert!(out.contains("AccessDenied") && out.contains("is tried again"), "{out}");
    let status = host.status().await;
    assert_eq!(
        (&status["quarantine"][0]["code"], &status["quarantine"][0]["key"]),
        (&"LostCopy".into(), &key.clone().into())
    );
    faults.remove(denied);
    host.run(&["retry"], 0).await;
    host.run(&["sync", "--quiet"], 0).await;
    assert!(host.tree() == whole);
    assert_eq!(host.alarmed().await, []);
}

#[tokio::test]
async fn who_may_list_a_prefix_only_is_told_what_is_gone_there_too() {
    // S3 denies them what is missing, as it denies what they may not read.
    let host = Host::new().await;
    let whole = host.tree();
    let key = host.keys("CloudTrail")[2].clone();
    let object = host.shared.world.object(BUCKET, &key).unwrap();
    assert!(host.shared.world.delete_object(BUCKET, &key));
    fs::remove_file(host.path(&key)).unwrap();
    let out = host.run(&["scrub", "--quiet"], 1).await;
    assert!(out.contains("no longer at the source") && out.contains("restore it from a backup"), "{out}");
    assert!(host.alarmed().await.contains(&("lost".into(), key.clone())));
    let object =
        ObjectSpec { body: object.body.clone(), metadata: object.metadata.clone(), ..ObjectSpec::log(Vec::new()) };
    host.shared.world.put_object(BUCKET, &key, object);
    host.run(&["scrub", "--quiet"], 1).await;
    assert!(host.tree() == whole);
    assert_eq!(host.alarmed().await, []);
}

#[tokio::test]
async fn a_later_version_is_read_again_and_repaired_at_its_own_place() {
    let host = Host::new().await;
    let key = host.keys("CloudTrail")[2].clone();
    let first = fs::read(host.path(&key)).unwrap();
    host.shared.world.put_object(BUCKET, &key, ObjectSpec::generated(99, 350));
    host.run(&["sync", "--quiet", "--full"], 0).await;
    let later = files(&host.program.tree()).into_keys().find(|path| path.contains("%_v")).expect("a later version");
    let whole = host.tree();
    flip(&host.path(&later), 30);
    let gets = host.gets();
    host.run(&["scrub", "--quiet"], 1).await;
    assert!(host.tree() == whole);
    assert_eq!(fs::read(host.path(&key)).unwrap(), first);
    assert_eq!(host.gets() - gets, 1);
    assert_eq!(host.damaged().into_keys().collect::<Vec<_>>(), [later]);
}

#[tokio::test]
async fn what_is_damaged_twice_is_kept_twice() {
    let host = Host::new().await;
    let key = host.keys("CloudTrail")[2].clone();
    let twice = [flip(&host.path(&key), 30), {
        host.run(&["scrub", "--quiet"], 1).await;
        let again = flip(&host.path(&key), 31);
        host.run(&["scrub", "--quiet"], 1).await;
        again
    }];
    let damaged = host.damaged();
    assert_eq!((&damaged[&key], &damaged[&format!("2/{key}")]), (&twice[0], &twice[1]));
}

#[tokio::test]
async fn the_daemon_finds_and_repairs_by_itself_and_ends_at_once() {
    let host = Host::new().await;
    let whole = host.tree();
    let key = host.keys("CloudTrail")[2].clone();
    fs::remove_file(host.path(&key)).unwrap();
    let mut child = host.program.command(&["run"]).spawn().unwrap();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if host.path(&key).exists() && host.alarmed().await.is_empty() {
            break;
        }
    }
    let id = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    assert!(host.tree() == whole);
    let scrub = host.status().await["scrubs"][0].clone();
    assert_eq!(scrub["last_findings"], 1, "{scrub}");
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_kill_while_a_copy_is_put_right_loses_neither_it_nor_the_evidence() {
    use std::os::unix::process::ExitStatusExt as _;
    for point in ["scrubbed:1", "set_aside:1", "mended:1", "committed:1"] {
        let host = Host::new().await;
        let whole = host.tree();
        let key = host.keys("CloudTrail")[2].clone();
        let rotten = flip(&host.path(&key), 30);
        let mut command = host.program.command(&["scrub", "--quiet"]);
        let killed = command.env("TRAILSYNC_FAILPOINT", point).output().await.unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
        host.program.run(&["sync", "--quiet"]).await;
        host.run(&["scrub", "--quiet"], 0).await;
        assert!(host.tree() == whole, "{point}");
        assert_eq!(host.damaged(), BTreeMap::from([(key, rotten)]), "{point}");
        assert_eq!(host.alarmed().await, [], "{point}");
    }
}
