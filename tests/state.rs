//! The program as an operator meets it: what it does with its state, its configuration and its signals.

#[path = "support/account.rs"]
mod account;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use account::{A, B, BUCKET, REGION, Shared};
use fakeaws::{Fault, ObjectSpec, Op};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_trailsync");

/// An account with some logs, and an operator's files.
struct Host {
    shared: Shared,
    dir: TempDir,
}

impl Host {
    async fn with_logs(days: i64, a_day: usize) -> Self {
        let host =
            Self { shared: Shared::own_logs().await, dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        for back in 0..days {
            for n in 0..a_day {
                host.deliver(back, &format!("{n:016}"));
            }
        }
        host.write_config("");
        host
    }

    /// A log that is dated so many days ago.
    fn deliver(&self, days_ago: i64, random: &str) {
        let modified = trailsync::clock::shift(jiff::Timestamp::now(), -days_ago * 86_400);
        let at = modified.to_string();
        let (day, minute) = (at[..10].replace('-', "/"), at[..16].replace(['-', ':'], ""));
        let key = format!("AWSLogs/{B}/CloudTrail/{REGION}/{day}/{B}_CloudTrail_{REGION}_{minute}Z_{random}.json.gz");
        self.shared.world.put_object(BUCKET, &key, ObjectSpec::log(gzip(random)).modified(modified));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("state/trailsync.db")
    }

    fn write_config(&self, more: &str) {
        let (endpoint, arn, dir) = (self.shared.aws.endpoint(), &self.shared.role, self.dir.path().display());
        let text = format!(
            "[http]\nlisten = \"off\"\n[state]\ndir = \"{dir}/state\"\n[source.acme]\nbucket = \"{BUCKET}\"\nregion = \"{REGION}\"\nbucket_owner = \"{A}\"\n\
             accounts = [\"{B}\"]\ndestination = {{ path = \"{dir}/mirror\", allow_volatile = true }}\n\
             credentials = {{ access_key_id_env = \"B_KEY\", secret_access_key_env = \"B_SECRET\" }}\n\
             role = {{ arn = \"{arn}\", session_name = \"trailsync\" }}\n\
             endpoints = {{ s3 = \"{endpoint}\", sts = \"{endpoint}\", path_style = true }}\n{more}"
        );
        std::fs::write(self.path("trailsync.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(self.path("trailsync.toml")).args(arguments);
        command.env("B_KEY", &self.shared.user.id).env("B_SECRET", &self.shared.user.secret).env("NO_COLOR", "1");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must end with this code; its output, both streams.
    fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    }

    fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn gets(&self) -> u64 {
        self.shared.world.counters().total(Op::GetObject)
    }

    fn objects(&self) -> usize {
        self.shared.world.object_count(BUCKET)
    }

    /// The daemon, once it runs.
    fn daemon(&self) -> Daemon {
        let mut child = self.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(first.contains("runs"), "{first}");
        std::thread::spawn(move || for _ in lines {});
        Daemon(child)
    }

    fn assert_mirrored(&self) {
        for key in self.shared.world.keys(BUCKET, "") {
            let copy = std::fs::read(self.path("mirror").join(&key)).unwrap_or_else(|error| panic!("{key}: {error}"));
            assert_eq!(copy, self.shared.world.body(BUCKET, &key).unwrap(), "{key}");
        }
    }
}

/// A small log that says `text`.
fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    write!(gzip, "{{\"Records\":[{{\"eventID\":\"{text}\"}}]}}").unwrap();
    gzip.finish().unwrap()
}

struct Daemon(Child);

impl Daemon {
    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Ends it by SIGTERM; how it ended, and how long that took.
    fn terminate(mut self) -> (Option<i32>, Duration) {
        let asked = Instant::now();
        self.signal(rustix::process::Signal::TERM);
        (self.0.wait().unwrap().code(), asked.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn file_names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_sync_mirrors_everything_and_a_second_one_fetches_nothing() {
    let host = Host::with_logs(10, 5).await;
    host.ends(0, &["sync"]);
    host.assert_mirrored();
    assert_eq!(host.gets(), 50);
    host.ends(0, &["sync", "--full"]);
    assert_eq!(host.gets(), 50);
    let status = host.status();
    assert_eq!(status["accounts"][0]["objects"], 50);
    assert_eq!(status["accounts"][0]["account"], B);
    assert_eq!(status["condition"], "current");
}

#[tokio::test]
async fn a_second_instance_exits_at_once_and_says_who_holds_the_state() {
    let host = Host::with_logs(1, 1).await;
    let daemon = host.daemon();
    let asked = Instant::now();
    let said = host.ends(3, &["run"]);
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(said.contains(&format!("process {}", daemon.0.id())), "{said}");
    assert_eq!(host.status()["version"], 1, "status works beside the daemon");
    assert_eq!(daemon.terminate().0, Some(0));
}

#[tokio::test]
async fn a_daemon_stops_within_ten_seconds_while_bodies_stall_and_goes_on_later() {
    let host = Host::with_logs(3, 20).await;
    let stalled = host.shared.world.faults().inject(Fault::Stall { after: 10 }).on(Op::GetObject).every(3);
    let daemon = host.daemon();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (code, took) = daemon.terminate();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    host.shared.world.faults().remove(stalled);
    host.ends(0, &["sync"]);
    host.assert_mirrored();
    assert_eq!(file_names(&host.path("mirror/.trailsync/stage")), Vec::<String>::new());
}

#[tokio::test]
async fn a_missing_database_is_not_made_again_and_rebuild_finds_everything() {
    let host = Host::with_logs(10, 5).await;
    host.ends(0, &["sync"]);
    let before = host.gets();
    std::fs::remove_dir_all(host.path("state")).unwrap();
    let said = host.ends(3, &["sync"]);
    assert!(said.contains("trailsync rebuild"), "{said}");
    assert!(!host.database().exists());
    let said = host.ends(0, &["rebuild"]);
    assert!(said.contains("sealed days"), "{said}");
    host.ends(0, &["sync"]);
    assert_eq!(host.gets(), before, "nothing is fetched twice after a rebuild");
    assert_eq!(host.status()["accounts"][0]["objects"], 50);
    host.ends(3, &["rebuild"]);
    host.ends(0, &["rebuild", "--set-aside"]);
    assert!(file_names(&host.path("state")).iter().any(|name| name.contains("before-rebuild")));
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_left_as_it_is() {
    let host = Host::with_logs(1, 3).await;
    host.ends(0, &["sync"]);
    let mut bytes = std::fs::read(host.database()).unwrap();
    for byte in bytes.iter_mut().take(4096) {
        *byte ^= 0x5a;
    }
    std::fs::write(host.database(), &bytes).unwrap();
    let said = host.ends(3, &["sync"]);
    assert!(said.contains("cannot be read"), "{said}");
    assert_eq!(std::fs::read(host.database()).unwrap(), bytes);
    std::fs::write(host.database(), b"").unwrap();
    let said = host.ends(3, &["sync"]);
    assert!(said.contains("rebuild"), "{said}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let host = Host::with_logs(1, 3).await;
    host.ends(0, &["sync"]);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(host.database());
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99999999, 'later', 1, x'00', 0)";
    sqlx::query(newer).execute(&pool).await.unwrap();
    pool.close().await;
    let said = host.ends(3, &["sync"]);
    assert!(said.contains("newer trailsync"), "{said}");
}

#[tokio::test]
async fn a_wrong_configuration_exits_with_2_names_every_mistake_and_touches_nothing() {
    let host = Host::with_logs(1, 1).await;
    host.write_config(
        "[source.other]\nbucket = \"UPPER\"\nregion = \"nowhere\"\ndestination = { path = \"relative\" }\n",
    );
    let said = host.ends(2, &["run"]);
    for path in ["source.other.bucket", "source.other.region", "source.other.destination.path"] {
        assert!(said.contains(path), "{path} is not in: {said}");
    }
    assert!(!host.path("state").exists() && !host.path("mirror").exists());
    assert_eq!(host.shared.world.recent().len(), 0, "no request was sent");
}

#[tokio::test]
async fn an_object_that_is_denied_is_shown_and_retry_mirrors_it_once_it_is_allowed() {
    let host = Host::with_logs(1, 5).await;
    let denied =
        host.shared.world.faults().inject(Fault::AccessDenied).on(Op::GetObject).key_contains("0000000003").always();
    host.ends(1, &["sync"]);
    let status = host.status();
    assert_eq!(status["accounts"][0]["objects"], 4);
    assert_eq!(status["quarantine"][0]["code"], "AccessDenied");
    assert!(status["quarantine"][0]["reason"].as_str().unwrap().contains("s3:GetObject"), "{status}");
    host.shared.world.faults().remove(denied);
    assert!(host.ends(0, &["retry"]).contains("1 objects"));
    host.ends(0, &["sync"]);
    host.assert_mirrored();
    assert_eq!(host.objects(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_may_come_back_is_exit_75_and_a_refusal_is_not_and_both_say_which_hop_failed() {
    let host = Host::with_logs(1, 1).await;
    let down = host.shared.world.faults().inject(Fault::StsUnavailable).always();
    assert!(host.ends(75, &["sync"]).contains("ServiceUnavailable"));
    host.shared.world.faults().remove(down);
    assert!(host.shared.world.set_role_trust(&host.shared.role, fakeaws::policies::trust_account_root("999999999999")));
    let said = host.ends(1, &["sync"]);
    assert!(said.contains("AssumeRole of") && said.contains("sts:AssumeRole"), "{said}");
}

#[tokio::test]
async fn what_the_source_replaces_or_removes_is_kept_and_alarmed() {
    let host = Host::with_logs(1, 2).await;
    host.ends(0, &["sync"]);
    let keys = host.shared.world.keys(BUCKET, "");
    let first = host.shared.world.body(BUCKET, &keys[0]).unwrap();
    let second = host.shared.world.body(BUCKET, &keys[1]).unwrap();
    host.shared.world.put_object(BUCKET, &keys[0], ObjectSpec::log(gzip("forged")));
    host.shared.world.delete_object(BUCKET, &keys[1]);
    host.ends(0, &["sync"]);
    assert_eq!(std::fs::read(host.path("mirror").join(&keys[0])).unwrap(), first);
    assert_eq!(std::fs::read(host.path("mirror").join(&keys[1])).unwrap(), second);
    let status = host.status();
    let kinds: Vec<_> =
        status["alarms"].as_array().unwrap().iter().map(|alarm| alarm["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"replaced") && kinds.contains(&"vanished"), "{kinds:?}");
    let folder = host.path("mirror").join(&keys[0]);
    let names = file_names(folder.parent().unwrap());
    assert_eq!(
        names.iter().filter(|name| name.contains("%_v")).count(),
        1,
        "the later version stands beside: {names:?}"
    );
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let host = Host::with_logs(1, 40).await;
    host.shared.world.faults().inject(Fault::Stall { after: 10 }).on(Op::GetObject).always();
    let mut daemon = host.daemon();
    tokio::time::sleep(Duration::from_secs(1)).await;
    daemon.signal(rustix::process::Signal::TERM);
    daemon.signal(rustix::process::Signal::INT);
    let asked = Instant::now();
    let code = daemon.0.wait().unwrap().code();
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(matches!(code, Some(0 | 130)), "{code:?}");
}

#[tokio::test]
async fn odd_region_folders_and_an_odd_prefix_are_sealed_like_any_other() {
    let host = Host::with_logs(1, 1).await;
    let odd = ["us east", "é", "a:b", "a%b", "\u{1}", "a!b", &"ü".repeat(300)];
    for region in odd {
        let key = format!("AWSLogs/{B}/CloudTrail/{region}/2020/01/01/x.json.gz");
        host.shared.world.put_object(BUCKET, &key, ObjectSpec::log(gzip(region)));
    }
    host.ends(0, &["sync"]);
    assert_eq!(host.gets(), 1 + odd.len() as u64);
    let kept = host.path("mirror/.trailsync/manifests/acme");
    assert_eq!(file_names(&kept).len(), odd.len(), "one for each odd region");
    host.ends(0, &["sync", "--full"]);
    assert_eq!(host.gets(), 1 + odd.len() as u64, "what was sealed is known");

    let odd =
        Host { shared: Shared::all_logs().await, dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
    odd.write_config("prefix = \"team logs/env=prod\"\n");
    let key = format!("team logs/env=prod/AWSLogs/{B}/CloudTrail/{REGION}/2020/01/01/x.json.gz");
    odd.shared.world.put_object(BUCKET, &key, ObjectSpec::log(gzip("x")));
    odd.ends(0, &["sync"]);
    assert_eq!(file_names(&odd.path("mirror/.trailsync/manifests/acme")).len(), 1);
}

/// Files of manifests beside the copy, by path.
fn manifests_in(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { found.push((path.clone(), std::fs::read(&path).unwrap())) }
        }
    }
    found.sort();
    found
}

fn alarms(status: &Value) -> Vec<String> {
    status["alarms"].as_array().unwrap().iter().map(|alarm| alarm["kind"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_interrupted_rebuild_is_refused_and_begun_anew_with_its_alarms_and_newest_object() {
    let host = Host::with_logs(10, 5).await;
    host.ends(0, &["sync"]);
    let oldest = host.shared.world.keys(BUCKET, "").remove(0);
    host.shared.world.delete_object(BUCKET, &oldest);
    host.ends(0, &["sync", "--full"]);
    let newest = host.status()["accounts"][0]["newest_object"].clone();
    let kept = host.path("mirror/.trailsync/manifests");
    let (before, gets) = (manifests_in(&kept), host.gets());

    let stray = kept.join("acme/stray.gz");
    std::fs::write(&stray, b"no manifest").unwrap();
    host.ends(3, &["rebuild", "--set-aside"]);
    for command in [&["sync"][..], &["run"]] {
        let said = host.ends(3, command);
        assert!(said.contains("`trailsync rebuild` was interrupted"), "{said}");
    }
    std::fs::remove_file(&stray).unwrap();
    host.ends(0, &["rebuild"]);
    let status = host.status();
    assert_eq!(status["accounts"][0]["newest_object"], newest);
    assert_eq!(alarms(&status), ["vanished"]);
    host.ends(0, &["sync", "--full"]);
    assert_eq!(host.gets(), gets, "nothing is fetched twice");
    assert_eq!(manifests_in(&kept), before);
}

#[tokio::test]
async fn a_manifest_that_was_kept_is_never_replaced_by_another() {
    let host = Host::with_logs(10, 5).await;
    host.ends(0, &["sync"]);
    let kept = host.path("mirror/.trailsync/manifests");
    let before = manifests_in(&kept);
    let oldest = host.shared.world.keys(BUCKET, "").remove(0);
    host.shared.world.delete_object(BUCKET, &oldest);
    // A database that knows nothing, as an interrupted rebuild used to leave it.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(host.database());
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    for statement in ["DELETE FROM sealed_days", "DELETE FROM objects", "UPDATE checkpoints SET memory = '{}'"] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
    std::fs::remove_dir_all(host.path("state/manifests")).unwrap();
    host.ends(0, &["sync"]);
    let after = manifests_in(&kept);
    for manifest in &before {
        assert!(after.contains(manifest), "{} was replaced", manifest.0.display());
    }
    host.ends(0, &["sync", "--full"]);
    assert_eq!(alarms(&host.status()), ["vanished"], "what only the kept manifest names is known again");
}

#[tokio::test]
async fn a_damaged_manifest_is_restored_from_beside_the_copy_and_stops_no_other_stream() {
    let host = Host::with_logs(10, 5).await;
    let other = format!("AWSLogs/{B}/CloudTrail/us-east-1/2020/01/01/x.json.gz");
    host.shared.world.put_object(BUCKET, &other, ObjectSpec::log(gzip("x")));
    host.ends(0, &["sync"]);
    let (here, kept) = (host.path("state/manifests"), host.path("mirror/.trailsync/manifests"));
    let before = manifests_in(&here);
    let (path, whole) = before.iter().find(|(path, _)| path.display().to_string().contains(REGION)).unwrap();
    let mut bytes = whole.clone();
    bytes[20] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    let said = host.ends(0, &["sync", "--full"]);
    assert_eq!(said.matches("it is restored from beside the copy").count(), 1, "{said}");
    assert_eq!(manifests_in(&here), before);

    std::fs::write(path, &bytes).unwrap();
    std::fs::write(kept.join(path.strip_prefix(&here).unwrap()), &bytes).unwrap();
    let late = format!("AWSLogs/{B}/CloudTrail/us-east-1/2020/01/02/x.json.gz");
    host.shared.world.put_object(BUCKET, &late, ObjectSpec::log(gzip("y")));
    let said = host.ends(1, &["sync", "--full"]);
    assert!(said.contains("is damaged: its hash is not the recorded one"), "{said}");
    assert_eq!(said.matches("trailsync rebuild").count(), 1, "the mend is said once: {said}");
    assert!(host.path("mirror").join(&late).exists(), "the other stream goes on");
}

#[tokio::test]
async fn rebuild_counts_what_a_manifest_names_and_the_tree_lacks_and_it_is_fetched_again() {
    let host = Host::with_logs(10, 5).await;
    host.ends(0, &["sync"]);
    let keys = host.shared.world.keys(BUCKET, "");
    for key in &keys[..5] {
        std::fs::remove_file(host.path("mirror").join(key)).unwrap();
    }
    let said = host.ends(0, &["rebuild", "--set-aside"]);
    assert!(said.contains("5 objects of them are not among the copies"), "{said}");
    let status = host.status();
    assert_eq!(status["accounts"][0]["objects"], 45);
    assert_eq!(status["accounts"][0]["failing"], 5);
    host.ends(0, &["sync", "--full"]);
    host.assert_mirrored();
    assert_eq!(host.status()["accounts"][0]["objects"], 50);
    assert_eq!(host.gets(), 55);
}

/// The log source as it is, and one more of the same bucket that mirrors digests to a tree of its own.
fn two_sources(host: &Host) {
    let (endpoint, arn, dir) = (host.shared.aws.endpoint(), &host.shared.role, host.dir.path().display());
    host.write_config(&format!(
        "kinds = [\"CloudTrail\"]\n[source.beta]\nbucket = \"{BUCKET}\"\nregion = \"{REGION}\"\nbucket_owner = \"{A}\"\n\
         accounts = [\"{B}\"]\nkinds = [\"CloudTrail-Digest\"]\n\
         destination = {{ path = \"{dir}/beta\", allow_volatile = true }}\n\
         credentials = {{ access_key_id_env = \"B_KEY\", secret_access_key_env = \"B_SECRET\" }}\n\
         role = {{ arn = \"{arn}\", session_name = \"trailsync\" }}\n\
         endpoints = {{ s3 = \"{endpoint}\", sts = \"{endpoint}\", path_style = true }}\n"
    ));
    host.shared.world.put_object(BUCKET, DIGEST, ObjectSpec::log(gzip("digest")));
}

const DIGEST: &str = "AWSLogs/222222222222/CloudTrail-Digest/eu-west-1/2020/01/01/x.json.gz";

fn condition(status: &Value, source: &str) -> String {
    let accounts = status["accounts"].as_array().unwrap();
    let account = accounts.iter().find(|account| account["source"] == source).unwrap();
    account["condition"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_destination_that_is_not_where_the_copies_are_is_refused_shown_and_stops_no_other_source() {
    let host = Host::with_logs(1, 3).await;
    two_sources(&host);
    host.ends(0, &["sync"]);
    let gets = host.gets();
    std::fs::rename(host.path("beta"), host.path("away")).unwrap();
    host.deliver(0, "1111111111111111");
    let said = host.ends(3, &["sync", "--full"]);
    assert!(said.contains("not where the copies of `beta` are") && said.contains("mount it"), "{said}");
    assert_eq!(host.gets(), gets + 1, "the other source goes on");
    let status = host.status();
    assert_eq!((condition(&status, "beta"), condition(&status, "acme")), ("failing".into(), "current".into()));
    assert_eq!(alarms(&status), ["destination"]);

    std::fs::remove_dir_all(host.path("beta")).unwrap();
    std::fs::rename(host.path("away"), host.path("beta")).unwrap();
    host.ends(0, &["sync"]);
    let status = host.status();
    assert_eq!((condition(&status, "beta"), alarms(&status).len()), ("current".into(), 0));

    let elsewhere = format!("source.beta.destination.path={}", host.path("elsewhere").display());
    let said = host.ends(3, &["--set", &elsewhere, "sync", "beta"]);
    assert!(said.contains("set `source.beta.destination` back"), "{said}");
}

#[tokio::test]
async fn a_tree_of_before_there_were_ids_adopts_one_and_an_empty_one_does_not() {
    let host = Host::with_logs(1, 3).await;
    host.ends(0, &["sync"]);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(host.database());
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("DELETE FROM destinations").execute(&pool).await.unwrap();
    std::fs::rename(host.path("mirror"), host.path("away")).unwrap();
    host.ends(3, &["sync"]);
    std::fs::remove_dir_all(host.path("mirror")).unwrap();
    std::fs::rename(host.path("away"), host.path("mirror")).unwrap();
    std::fs::remove_file(host.path("mirror/.trailsync/id")).unwrap();
    host.ends(0, &["sync"]);
    assert_eq!(std::fs::read(host.path("mirror/.trailsync/id")).unwrap().len(), 33);
}

#[tokio::test]
async fn a_destination_that_cannot_be_written_at_the_start_is_only_its_own_sources_trouble() {
    let host = Host::with_logs(1, 3).await;
    two_sources(&host);
    std::fs::create_dir(host.path("beta")).unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=mkdirat", "-e", "inject=mkdirat:error=EROFS", "-P"]);
    strace.arg(host.path("beta")).arg(PROGRAM).arg("--config").arg(host.path("trailsync.toml")).arg("sync");
    strace.env("B_KEY", &host.shared.user.id).env("B_SECRET", &host.shared.user.secret).env("NO_COLOR", "1");
    let output = strace.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("EROFS") && said.contains("it goes on by itself then"), "{said}");
    assert_eq!(host.gets(), 3, "the other source was mirrored");
    let status = host.status();
    assert_eq!(alarms(&status), ["destination"]);
}

#[tokio::test]
async fn a_daemon_waits_for_a_destination_and_mirrors_to_it_once_it_is_there() {
    let host = Host::with_logs(1, 3).await;
    two_sources(&host);
    host.ends(0, &["sync"]);
    std::fs::rename(host.path("beta"), host.path("away")).unwrap();
    let later = DIGEST.replace("x.json", "y.json");
    host.shared.world.put_object(BUCKET, &later, ObjectSpec::log(gzip("later")));
    let daemon = host.daemon();
    assert_eq!(alarms(&host.status()), ["destination"]);
    std::fs::remove_dir_all(host.path("beta")).unwrap();
    std::fs::rename(host.path("away"), host.path("beta")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while alarms(&host.status()).contains(&"destination".to_owned()) {
        assert!(Instant::now() < deadline, "it still waits");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(daemon.terminate().0, Some(0));
    host.ends(0, &["sync", "--full"]);
    assert!(host.path("beta").join(&later).exists());
}

#[tokio::test]
async fn somebody_else_can_look_and_is_told_whose_state_it_is_when_not() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    let host = Host::with_logs(1, 3).await;
    host.ends(0, &["sync"]);
    let key = host.path("key");
    std::fs::write(&key, "secret").unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(&key, 0);
    let text = std::fs::read_to_string(host.path("trailsync.toml")).unwrap();
    let files = format!("access_key_id_file = {key:?}, secret_access_key_file = {key:?}");
    let text = text.replace("access_key_id_env = \"B_KEY\", secret_access_key_env = \"B_SECRET\"", &files);
    // Where nobody else may go the program itself could not be run.
    let reachable = tempfile::tempdir().unwrap();
    let (program, config) = (reachable.path().join("trailsync"), reachable.path().join("trailsync.toml"));
    let (state, mirrored) = (reachable.path().join("state"), host.path("state").display().to_string());
    std::fs::copy(PROGRAM, &program).unwrap();
    std::fs::write(&config, text.replace(&mirrored, &state.display().to_string())).unwrap();
    std::fs::create_dir(&state).unwrap();
    std::fs::copy(host.database(), state.join("trailsync.db")).unwrap();
    mode(reachable.path(), 0o755);
    let as_somebody = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--config").arg(&config).args(arguments).env("NO_COLOR", "1");
        if rustix::process::getuid().is_root() {
            command.uid(65534);
        }
        let output = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), said)
    };

    mode(&state, 0o555);
    let (code, said) = as_somebody(&["status"]);
    assert!(code == Some(0) && said.contains("All 1 accounts current"), "{code:?}: {said}");
    assert_eq!(as_somebody(&["config"]).0, Some(0));
    let (code, said) = as_somebody(&["sync"]);
    assert!(code == Some(2) && said.contains("cannot be read"), "{code:?}: {said}");
    mode(&state, 0);
    let (code, said) = as_somebody(&["status"]);
    assert!(code == Some(3) && said.contains("run as the user that owns the state directory"), "{code:?}: {said}");
    assert!(!said.contains("rebuild"), "{said}");
    mode(&state, 0o755);
    mode(&state.join("trailsync.db"), 0);
    let (code, said) = as_somebody(&["retry"]);
    assert!(code == Some(3) && said.contains("run as the user that owns the state directory"), "{code:?}: {said}");
    assert!(!said.contains("rebuild"), "{said}");
}

#[tokio::test]
async fn mistakes_on_the_command_line_and_a_reader_that_goes_are_met_in_words() {
    let host = Host::with_logs(1, 3).await;
    host.ends(0, &["sync"]);
    let said = host.ends(2, &["retry", "--source", "nope"]);
    assert!(said.contains("name one of: acme"), "{said}");
    for service in ["sts", "s3"] {
        let nowhere = format!("source.acme.endpoints.{service}=http://127.0.0.1:9");
        let said = host.ends(75, &["--set", &nowhere, "sync"]);
        assert!(said.contains("at `http://127.0.0.1:9` does not answer: check name resolution"), "{said}");
    }
    two_sources(&host);
    std::os::unix::fs::symlink(host.path("mirror"), host.path("beta")).unwrap();
    let said = host.ends(3, &["sync"]);
    assert!(said.contains("two sources have this tree as their destination"), "{said}");

    let mut child = host.command(&["completions", "bash"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[tokio::test]
async fn failures_that_turn_out_to_be_the_streams_are_not_said_to_be_tried_again() {
    let host = Host::with_logs(1, 30).await;
    host.shared.world.faults().inject(Fault::AccessDenied).on(Op::GetObject).always();
    let said = host.ends(1, &["sync"]);
    assert!(said.contains("AccessDenied") && !said.contains("is tried again"), "{said}");
    assert_eq!(host.status()["accounts"][0]["failing"], 0);
}

#[tokio::test]
async fn a_running_daemon_shows_that_its_tree_is_away_and_goes_on_when_it_is_back() {
    let host = Host::with_logs(1, 3).await;
    host.write_config("poll = { every = \"5s\", idle_every = \"5s\" }\n");
    host.ends(0, &["sync"]);
    let daemon = host.daemon();
    let becomes = async |wanted: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while condition(&host.status(), "acme") != wanted {
            assert!(Instant::now() < deadline, "not {wanted}: {}", host.status());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    std::fs::rename(host.path("mirror"), host.path("away")).unwrap();
    becomes("failing").await;
    let why = host.status()["accounts"][0]["error"].as_str().unwrap().to_owned();
    assert!(why.contains("it was removed, moved or unmounted; put the very directory back"), "{why}");
    std::fs::rename(host.path("away"), host.path("mirror")).unwrap();
    becomes("current").await;
    host.deliver(0, "2222222222222222");
    assert_eq!(daemon.terminate().0, Some(0));
    host.ends(0, &["sync"]);
    host.assert_mirrored();
}
