//! The proof as an operator sees it: by `sync`, by the daemon, in `status`, and after a kill.

#[path = "support/account.rs"]
mod account;
#[path = "support/archive.rs"]
mod archive;
#[path = "support/program.rs"]
mod program;

use std::time::Duration;

use account::{B, BUCKET, REGION, Shared};
use fakeaws::{Cadence, Kind, Op, Trail, policies};
use jiff::{SignedDuration, Timestamp};
use program::Program;
use serde_json::Value;

const HOURS: i64 = 12;

/// An account with some hours of logs and digests.
struct Host {
    shared: Shared,
    program: Program,
    /// The end of the last digest.
    through: Timestamp,
}

impl Host {
    async fn new(allowed: bool) -> Self {
        Self::of_hours(HOURS, allowed).await
    }

    async fn of_hours(hours: i64, allowed: bool) -> Self {
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
            since: now - SignedDuration::from_hours(hours),
            cadences: vec![Cadence::default()],
            ..Trail::default()
        };
        let delivered = trail.deliver_until(&shared.world, now);
        let digests = delivered.iter().filter(|delivery| delivery.kind == Kind::Digest);
        let through = digests.map(|delivery| delivery.named).max().expect("a digest");
        let host = Self { program: Program::new(&shared, "", ""), shared, through };
        host.allow(allowed);
        host
    }

    fn allow(&self, allowed: bool) {
        let role = &self.shared.role;
        let policy =
            if allowed { policies::assume_role_and_list_public_keys(role) } else { policies::assume_role(role) };
        assert!(self.shared.world.set_user_policy(&format!("arn:aws:iam::{B}:user/mirror"), policy));
    }

    async fn sync(&self) -> i32 {
        let output = self.program.run(&["sync", "--quiet"]).await;
        output.status.code().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    async fn status(&self) -> Value {
        let output = self.program.run(&["status", "--json"]).await;
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    async fn table(&self) -> String {
        String::from_utf8(self.program.run(&["status", "--streams"]).await.stdout).expect("text")
    }

    fn gets(&self) -> u64 {
        self.shared.world.counters().total(Op::GetObject)
    }

    async fn assert_proven(&self) {
        let account = self.status().await["accounts"][0].clone();
        assert_eq!(account["proof"], "proven", "{account}");
        assert_eq!(account["proven_through"], self.through.to_string());
        assert_eq!(account["held_back_by"], Value::Null);
        assert!(account["streams"].as_array().unwrap().iter().all(|stream| stream["proof"] == "proven"));
    }
}

#[tokio::test]
async fn a_sync_proves_what_it_mirrored_and_status_shows_it() {
    let host = Host::new(true).await;
    assert_eq!(host.sync().await, 0);
    host.assert_proven().await;
    assert_eq!(host.gets(), host.shared.world.object_count(BUCKET) as u64, "each object once");
    assert!(host.table().await.contains(&host.through.to_string()), "{}", host.table().await);
    let tree = host.program.tree();
    assert!(tree.join(format!(".trailsync/public-keys/{REGION}.json")).exists());
    assert!(tree.join(".trailsync/sources/acme.json").exists());
}

#[tokio::test]
async fn without_the_permission_everything_is_mirrored_and_status_names_it() {
    let host = Host::new(false).await;
    assert_eq!(host.sync().await, 0, "the mirror is whole");
    assert_eq!(host.gets(), host.shared.world.object_count(BUCKET) as u64);
    let table = host.table().await;
    assert!(table.contains("cloudtrail:ListPublicKeys") && table.contains("waiting"), "{table}");
    let account = host.status().await["accounts"][0].clone();
    assert_eq!(account["proof"], "waiting");
    assert!(account["held_back_by"].as_str().unwrap().contains("cloudtrail:ListPublicKeys"), "{account}");
}

/// Processor time of one whole sync into a tree of its own, in seconds, and the objects that it stored.
async fn sync_alone(shared: &Shared, kinds: &str) -> (f64, f64) {
    let program = Program::new(shared, "", "");
    let file = program.work().join("trailsync.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("[source.acme]\n", &format!("[source.acme]\nkinds = {kinds}\n"))).unwrap();
    let before = shared.world.counters().total(Op::GetObject);
    // `times` says what the shell's only child took: user and system, as `0m1.25s 0m0.31s`.
    let script = "\"$@\" >/dev/null 2>&1 || exit 1; times";
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_trailsync"), "--config"]).arg(&file).args(["sync", "--quiet"]);
    let done = shell.env_clear().output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout).unwrap();
    let of_child = said.lines().nth(1).unwrap();
    let seconds = |text: &str| {
        let (minutes, seconds) = text.trim_end_matches('s').split_once('m').unwrap();
        minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
    };
    let gets = shared.world.counters().total(Op::GetObject) - before;
    (of_child.split_whitespace().map(seconds).sum(), gets as f64)
}

/// The same logs and digests are mirrored with the proof and without it; what is left out of the latter, the digests
/// themselves, is added as if each were one more log. Turns are taken, and the least of each counts.
#[tokio::test]
async fn the_proof_takes_at_most_a_tenth_of_the_processor_time_of_mirroring() {
    let host = Host::of_hours(30, true).await;
    let (mut mirrored, mut proved) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..3 {
        let (logs_alone, logs) = sync_alone(&host.shared, "[\"CloudTrail\"]").await;
        let (all, objects) = sync_alone(&host.shared, "[\"CloudTrail\", \"CloudTrail-Digest\"]").await;
        assert!(logs >= 500.0 && objects >= logs + 29.0, "{logs} logs, {objects} objects");
        mirrored = mirrored.min(logs_alone * objects / logs);
        proved = proved.min(all);
    }
    let more = 100.0 * (proved / mirrored - 1.0);
    println!("mirrored in {mirrored:.2} s of processor time, with the proof in {proved:.2} s: {more:+.1} %");
    assert!(proved <= mirrored * 1.10, "the proof takes {more:.1} % more");
}

#[tokio::test]
async fn the_daemon_proves_while_it_mirrors_and_ends_cleanly() {
    let host = Host::new(true).await;
    let mut child = host.program.command(&["run"]).spawn().unwrap();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let status = host.program.run(&["status", "--json"]).await;
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        if status["accounts"][0]["proof"] == "proven" {
            break;
        }
    }
    host.assert_proven().await;
    let id = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_kill_before_or_after_a_verdict_is_recorded_changes_nothing() {
    use std::os::unix::process::ExitStatusExt as _;
    for point in ["proof_judged:1", "proof_committed:1", "keep_synced:1", "keep_renamed:2", "committed:1"] {
        let host = Host::new(true).await;
        let killed =
            host.program.command(&["sync", "--quiet"]).env("TRAILSYNC_FAILPOINT", point).output().await.unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
        assert_eq!(host.sync().await, 0, "{point}");
        host.assert_proven().await;
        assert!(host.status().await["alarms"].as_array().unwrap().is_empty(), "{point}");
    }
}
