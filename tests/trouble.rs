//! One source's trouble is its own, and nobody calls well what was never looked at.

#[path = "support/account.rs"]
mod account;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use account::{A, B, BUCKET, REGION, Shared};
use fakeaws::{Fault, ObjectSpec, Op};
use serde_json::Value;
use tempfile::TempDir;

const C: &str = "333333333333";
const SOON: Duration = Duration::from_secs(90);

/// Two consumers of one bucket, mirrored by one daemon.
struct Host {
    shared: Shared,
    dir: TempDir,
}

impl Host {
    async fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let host = Self { shared: Shared::all_logs().await, dir };
        host.configure(&[source("b", B), source("c", C)]);
        host
    }

    fn configure(&self, sources: &[Written]) {
        let (endpoint, arn, dir) = (self.shared.aws.endpoint(), &self.shared.role, self.dir.path().display());
        let mut text = format!("[http]\nlisten = \"off\"\n[state]\ndir = \"{dir}/state\"\n");
        for Written { name, account, role, more } in sources {
            text += &format!(
                "[source.{name}]\nbucket = \"{BUCKET}\"\nregion = \"{REGION}\"\nbucket_owner = \"{A}\"\naccounts = {account}\n\
                 {more}\ndestination = {{ path = \"{dir}/mirror-{name}\", allow_volatile = true }}\n\
                 credentials = {{ access_key_id_env = \"B_KEY\", secret_access_key_env = \"B_SECRET\" }}\n\
                 role = {{ arn = \"{arn}\", session_name = \"trailsync\"{role} }}\n\
                 endpoints = {{ s3 = \"{endpoint}\", sts = \"{endpoint}\", path_style = true }}\n\
                 poll = {{ every = \"5s\" }}\n"
            );
        }
        std::fs::write(self.dir.path().join("trailsync.toml"), text).unwrap();
    }

    fn deliver(&self, account: &str, region: &str, days_ago: i64, random: &str) -> String {
        let at = trailsync::clock::shift(jiff::Timestamp::now(), -days_ago * 86_400).to_string();
        let (day, minute) = (at[..10].replace('-', "/"), at[..16].replace(['-', ':'], ""));
        let name = format!("{account}_CloudTrail_{region}_{minute}Z_{random}.json.gz");
        let key = format!("AWSLogs/{account}/CloudTrail/{region}/{day}/{name}");
        self.shared.world.put_object(BUCKET, &key, ObjectSpec::log(gzip(random)));
        key
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trailsync"));
        command.arg("--config").arg(self.dir.path().join("trailsync.toml")).args(arguments);
        command.env("B_KEY", &self.shared.user.id).env("B_SECRET", &self.shared.user.secret).env("NO_COLOR", "1");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

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

    /// The row of one account.
    fn account(&self, source: &str, account: &str) -> Value {
        let status = self.status();
        let rows = status["accounts"].as_array().unwrap();
        let row = rows.iter().find(|row| row["source"] == source && row["account"] == account);
        row.unwrap_or_else(|| panic!("no {source}/{account} in {status}")).clone()
    }

    fn copy(&self, source: &str, key: &str) -> PathBuf {
        self.dir.path().join(format!("mirror-{source}")).join(key)
    }

    fn daemon(&self) -> Daemon {
        Daemon(self.command(&["run"]).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Waits for a copy; how long that took.
    async fn mirrored(&self, source: &str, key: &str) -> Duration {
        let began = Instant::now();
        while !self.copy(source, key).exists() {
            assert!(began.elapsed() < SOON, "{key} is not mirrored: {}", self.status());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        began.elapsed()
    }
}

/// A source as an operator writes it.
struct Written {
    name: &'static str,
    account: String,
    role: &'static str,
    more: String,
}

fn source(name: &'static str, account: &str) -> Written {
    Written { name, account: format!("[\"{account}\"]"), role: "", more: String::new() }
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    write!(gzip, "{{\"Records\":[{{\"eventID\":\"{text}\"}}]}}").unwrap();
    gzip.finish().unwrap()
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_bodies_hang_takes_nothing_from_the_others() {
    let host = Host::new().await;
    for n in 0..200 {
        host.deliver(B, ["us-east-1", "eu-west-1", "ap-south-1"][n % 3], 0, &format!("{n:016}"));
    }
    let key = host.deliver(C, "us-east-1", 0, "0000000000000001");
    host.shared.world.faults().inject(Fault::Stall { after: 10 }).on(Op::GetObject).key_contains(B).always();
    let _daemon = host.daemon();
    host.mirrored("c", &key).await;
    assert_eq!(host.account("b", B)["objects"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_listings_hang_takes_nothing_from_the_others() {
    let host = Host::new().await;
    for n in 0..24 {
        host.deliver(B, &format!("us-east-{n}"), 0, "0000000000000001");
    }
    let first = host.deliver(C, "us-east-1", 0, "0000000000000001");
    let daemon = host.daemon();
    host.mirrored("c", &first).await;
    drop(daemon);
    host.shared.world.faults().inject(Fault::Stall { after: 10 }).on(Op::ListObjectsV2).key_contains(B).always();
    let _daemon = host.daemon();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let second = host.deliver(C, "us-east-1", 0, "0000000000000002");
    host.mirrored("c", &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_never_reached_is_failing_and_says_why() {
    let host = Host::new().await;
    host.deliver(B, "us-east-1", 0, "0000000000000001");
    let nowhere = Written { role: ", external_id = \"wrong-one\"", ..source("c", C) };
    let trust = fakeaws::policies::trust_with_external_id(B, "the-right-one");
    assert!(host.shared.world.set_role_trust(&host.shared.role, trust));
    host.configure(&[source("b", B), nowhere]);
    host.ends(1, &["sync"]);
    let status = host.status();
    assert_eq!(status["condition"], "failing");
    assert!(status["summary"].as_str().unwrap().contains("2 of 2 accounts not current"), "{status}");
    let row = host.account("c", "");
    assert!(row["error"].as_str().unwrap().contains("AccessDenied"), "{row}");
    let table = host.ends(1, &["status"]);
    assert!(table.contains("failing since") && table.contains("AssumeRole"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_account_that_is_denied_or_without_logs_is_not_in_step() {
    let host = Host::new().await;
    host.deliver(B, "us-east-1", 0, "0000000000000001");
    host.deliver(C, "us-east-1", 0, "0000000000000001");
    let three = Written { account: format!("[\"{B}\", \"{C}\", \"444444444444\"]"), ..source("b", B) };
    host.configure(&[three]);
    host.shared.world.faults().inject(Fault::AccessDenied).on(Op::ListObjectsV2).key_contains(C).always();
    host.ends(1, &["sync"]);
    assert_eq!(host.account("b", B)["condition"], "current");
    assert_eq!(host.account("b", C)["condition"], "failing");
    assert_eq!(host.account("b", "444444444444")["condition"], "new");
    host.shared.world.faults().clear();
    host.ends(0, &["sync"]);
    assert_eq!(host.account("b", C)["condition"], "current");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_could_not_be_listed_once_is_found_within_seconds() {
    let host = Host::new().await;
    let key = host.deliver(B, "us-east-1", 0, "0000000000000001");
    host.shared.world.faults().inject(Fault::InternalError).on(Op::ListObjectsV2).times(4);
    let _daemon = host.daemon();
    host.mirrored("b", &key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_since_left_out_is_mirrored_when_it_is_moved_back_or_taken_away() {
    let host = Host::new().await;
    let keys: Vec<_> = [0, 10, 20].iter().map(|days| host.deliver(B, "us-east-1", *days, "0000000000000001")).collect();
    let since = |days: i64| {
        let day = trailsync::clock::shift(jiff::Timestamp::now(), -days * 86_400).to_string()[..10].to_owned();
        host.configure(&[Written { more: format!("since = \"{day}\""), ..source("b", B) }]);
    };
    let here = || keys.iter().map(|key| host.copy("b", key).exists()).collect::<Vec<_>>();
    since(1);
    host.ends(0, &["sync"]);
    assert_eq!(here(), [true, false, false]);
    since(15);
    host.ends(0, &["sync"]);
    assert_eq!(here(), [true, true, false]);
    host.configure(&[source("b", B)]);
    host.ends(0, &["sync"]);
    assert_eq!(here(), [true, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_reaches_an_idle_stream_without_its_poll() {
    let host = Host::new().await;
    let key = host.deliver(B, "us-east-1", 9, "0000000000000001");
    let denied = host.shared.world.faults().inject(Fault::AccessDenied).on(Op::GetObject).always();
    host.configure(&[source("b", B)]);
    host.ends(1, &["sync"]);
    let _daemon = host.daemon();
    let began = Instant::now();
    let is_waiting = || {
        let next = host.account("b", B)["next_poll"].as_str().and_then(|next| next.parse::<jiff::Timestamp>().ok());
        next.is_some_and(|next| next > jiff::Timestamp::now())
    };
    while !is_waiting() {
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    host.shared.world.faults().remove(denied);
    assert!(host.ends(0, &["retry"]).contains("1 objects"));
    assert!(host.mirrored("b", &key).await < Duration::from_secs(60), "its stream is polled every 15 minutes");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sources_failures_are_not_this_ones_exit_code() {
    let host = Host::new().await;
    host.deliver(B, "us-east-1", 0, "0000000000000001");
    host.deliver(C, "us-east-1", 0, "0000000000000001");
    host.shared.world.faults().inject(Fault::AccessDenied).on(Op::GetObject).key_contains(B).always();
    host.ends(1, &["sync"]);
    host.ends(0, &["sync", "c"]);
    host.configure(&[source("c", C)]);
    host.ends(0, &["sync"]);
    let status = host.status();
    assert_eq!((status["condition"].as_str(), status["accounts"].as_array().unwrap().len()), (Some("current"), 1));
}
