//! Deletion as an operator sees it: the program with copies in a bucket of their own, by hand, by the daemon, and killed.

use std::collections::BTreeSet;
use std::time::Duration;

use fakeaws::{Cadence, Kind, Op, Trail, policies};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::account::{B, BUCKET, REGION, Shared};
use crate::archive::{Archive, copies};
use crate::program::Program;

/// Some hours of logs and digests, a hundred days old, and a configuration that deletes what is older than ninety.
struct Host {
    shared: Shared,
    program: Program,
    before: BTreeSet<String>,
}

impl Host {
    async fn new() -> Self {
        let shared = Shared::own_logs().await;
        let began = Timestamp::now() - SignedDuration::from_hours(100 * 24);
        let trail = Trail {
            bucket: BUCKET.into(),
            accounts: vec![B.into()],
            regions: vec![REGION.into()],
            trail_name: "all_of-it.v1".into(),
            home_region: REGION.into(),
            kinds: vec![Kind::Management],
            digests: true,
            since: began,
            cadences: vec![Cadence::default()],
            ..Trail::default()
        };
        let delivered = trail.deliver_until(&shared.world, began + SignedDuration::from_hours(5));
        let digests = delivered.iter().filter(|delivery| delivery.kind == Kind::Digest);
        let through = digests.map(|delivery| delivery.named).max().expect("a digest");
        // What no digest names any more is left out.
        for key in shared.world.keys(BUCKET, "").into_iter().filter(|key| !key.contains("Digest")) {
            if shared.world.object(BUCKET, &key).expect("an object").modified >= through {
                shared.world.delete_object(BUCKET, &key);
            }
        }
        let archive = Archive::new(&shared);
        let more = "[source.acme.after_mirror]\ndelete_after = \"90d\"\n[source.acme.poll]\nevery = \"5s\"\nidle_every = \"5s\"";
        let program = Program::archiving(&shared, &archive, more);
        let keys = json!({ "Effect": "Allow", "Action": "cloudtrail:ListPublicKeys", "Resource": "*" });
        let caller = policies::with(&policies::assume_roles(&[&shared.role, &archive.role]), keys);
        assert!(shared.world.set_user_policy(&format!("arn:aws:iam::{B}:user/mirror"), caller));
        let before = shared.world.keys(BUCKET, "").into_iter().collect();
        let host = Self { shared, program, before };
        host.allow(true);
        host
    }

    /// With exactly what `trailsync policy` prints, or without the deletion in it.
    fn allow(&self, allowed: bool) {
        let reading = policies::read_own_logs(BUCKET, "", B);
        let deleting = json!({
            "Effect": "Allow",
            "Action": "s3:DeleteObject",
            "Resource": format!("arn:aws:s3:::{BUCKET}/AWSLogs/{B}/*"),
            "Condition": { "Null": { "s3:if-match": "false" } },
        });
        self.shared.allow(if allowed { policies::with(&reading, deleting) } else { reading });
    }

    async fn run(&self, args: &[&str], code: i32) -> String {
        let output = self.program.run(args).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {out}{err}");
        format!("{out}{err}")
    }

    async fn status(&self) -> Value {
        serde_json::from_slice(&self.program.run(&["status", "--json"]).await.stdout).unwrap_or_default()
    }

    async fn alarms(&self, kind: &str) -> usize {
        let status = self.status().await;
        let alarms = status["alarms"].as_array().into_iter().flatten();
        alarms.filter(|alarm| alarm["kind"] == kind).count()
    }

    fn there(&self) -> BTreeSet<String> {
        self.shared.world.keys(BUCKET, "").into_iter().collect()
    }

    fn logs(&self) -> usize {
        self.there().iter().filter(|key| !key.contains("Digest")).count()
    }

    /// All but the newest digest is gone, and all of it is here.
    async fn assert_pruned(&self) {
        let there = self.there();
        assert_eq!((self.logs(), there.len()), (0, 1), "{there:?}");
        let here: BTreeSet<String> = copies(&self.shared).into_keys().map(|(key, _)| key).collect();
        assert_eq!(here, self.before);
        self.run(&["sync", "--quiet", "--full"], 0).await;
        assert_eq!((self.alarms("vanished").await, self.alarms("deletion").await), (0, 0));
    }
}

#[tokio::test]
async fn what_is_looked_at_first_is_what_is_deleted_then_and_status_counts_it() {
    let host = Host::new().await;
    host.run(&["sync", "--quiet"], 0).await;
    let said = host.run(&["prune", "--dry-run"], 0).await;
    assert_eq!((host.there(), host.shared.world.counters().total(Op::DeleteObject)), (host.before.clone(), 0));
    let would = said.lines().filter(|line| line.starts_with("would delete AWSLogs/")).count();
    assert_eq!(would, host.logs(), "{said}");
    assert!(said.contains("acme: 1 stay: the newest digests of their chains"), "{said}");
    let said = host.run(&["prune"], 0).await;
    let deleted = host.before.len() - 1;
    assert!(said.contains(&format!("acme: {deleted} objects, ")) && said.contains("deleted at the source"), "{said}");
    host.assert_pruned().await;
    assert_eq!(host.status().await["deletions"][0]["deleted"], deleted);
    let table = String::from_utf8(host.program.run(&["status"]).await.stdout).unwrap();
    assert!(table.contains(&format!("deleted at the source: acme: {deleted} objects")), "{table}");
    host.run(&["prune"], 0).await;
}

#[tokio::test]
async fn a_denied_deletion_is_said_with_its_permission_and_mirroring_goes_on() {
    let host = Host::new().await;
    host.run(&["sync", "--quiet"], 0).await;
    host.allow(false);
    let said = host.run(&["prune"], 1).await;
    assert!(said.contains("AccessDenied") && said.contains("`s3:DeleteObject`"), "{said}");
    assert_eq!(host.there(), host.before);
    host.run(&["sync", "--quiet", "--full"], 0).await;
}

#[tokio::test]
async fn the_daemon_deletes_by_itself_and_its_refusals_are_alarmed_until_they_end() {
    let host = Host::new().await;
    host.run(&["sync", "--quiet"], 0).await;
    host.allow(false);
    let mut child = host.program.command(&["run"]).spawn().unwrap();
    wait_for(async || host.alarms("deletion").await == 1).await;
    let status = host.status().await;
    let alarm = status["alarms"].as_array().unwrap().iter().find(|alarm| alarm["kind"] == "deletion").unwrap().clone();
    assert!(alarm["detail"].as_str().unwrap().contains("`s3:DeleteObject`"), "{alarm}");
    assert_eq!(host.there(), host.before);
    end(&mut child).await;
    host.allow(true);
    let mut child = host.program.command(&["run"]).spawn().unwrap();
    wait_for(async || host.there().len() == 1 && host.alarms("deletion").await == 0).await;
    end(&mut child).await;
    host.assert_pruned().await;
}

async fn end(child: &mut tokio::process::Child) {
    let id = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

/// The other end is a process of its own: it can only be looked at.
async fn wait_for(is_so: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not come to that");
}

#[tokio::test]
async fn a_database_that_is_made_again_knows_what_was_deleted() {
    let host = Host::new().await;
    host.run(&["sync", "--quiet"], 0).await;
    host.run(&["prune", "--quiet"], 0).await;
    // The days are sealed again, with what is gone by our own doing.
    host.run(&["sync", "--quiet"], 0).await;
    std::fs::remove_dir_all(host.program.state()).unwrap();
    host.run(&["rebuild"], 0).await;
    let deletes = host.shared.world.counters().total(Op::DeleteObject);
    host.run(&["sync", "--quiet", "--full"], 0).await;
    host.run(&["prune", "--quiet"], 0).await;
    host.assert_pruned().await;
    assert_eq!(host.shared.world.counters().total(Op::DeleteObject), deletes, "nothing is asked for twice");
}

#[tokio::test]
async fn nothing_is_deleted_that_is_not_configured() {
    let host = Host::new().await;
    let file = host.program.work().join("trailsync.toml");
    let text =
        std::fs::read_to_string(&file).unwrap().replace("[source.acme.after_mirror]\ndelete_after = \"90d\"", "");
    std::fs::write(&file, text).unwrap();
    host.run(&["sync", "--quiet"], 0).await;
    let said = host.run(&["prune"], 2).await;
    assert!(said.contains("after_mirror.delete_after"), "{said}");
    assert_eq!((host.there(), host.shared.world.counters().total(Op::DeleteObject)), (host.before.clone(), 0));
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_kill_between_intent_request_and_outcome_loses_nothing_and_alarms_nothing() {
    use std::os::unix::process::ExitStatusExt as _;
    for point in ["intended", "sent", "recorded"].iter().flat_map(|point| (1..=2).map(move |hit| (point, hit))) {
        let (point, host) = (format!("deletion_{}:{}", point.0, point.1), Host::new().await);
        host.run(&["sync", "--quiet"], 0).await;
        let mut command = host.program.command(&["prune"]);
        let killed = command.env("TRAILSYNC_FAILPOINT", &point).output().await.unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
        // A full listing comes before the round that resolves it.
        host.run(&["sync", "--quiet", "--full"], 0).await;
        assert_eq!(host.alarms("vanished").await, 0, "{point}");
        host.run(&["prune"], 0).await;
        host.assert_pruned().await;
    }
}
