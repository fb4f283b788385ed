//! A local tree survives whatever the system does to one publish: errors, kills, and the order of its calls.
//!
//! The worker is this test binary again, under `strace`, which makes single system calls fail or kill.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use futures_util::stream;
use trailsync::config;
use trailsync::content::Asked;
use trailsync::destination::local::{Found, Handle, Local};
use trailsync::destination::{Destination, Item, Place, Published};
use trailsync::error::Error;
use trailsync::object::Metadata;

const ROOT: &str = "TRAILSYNC_TEST_ROOT";
const CALLS: &str = "openat2,write,fchmod,mkdirat,renameat,renameat2,linkat,syncfs,fsync,unlinkat,ftruncate";
const OBJECTS: [(&str, &str); 4] = [("a/b/1.gz", "one"), ("a/b/2.gz", "two"), ("a/c/3.gz", "three"), ("d/e/f", "four")];

fn options(root: &Path) -> config::Destination {
    config::Destination {
        path: root.to_owned(),
        file_mode: 0o640,
        dir_mode: 0o750,
        group: None,
        allow_volatile: true,
        reserve_mib: Some(0),
    }
}

async fn stage(local: &Local, key: &str, bytes: &'static str) -> Result<Item<Handle>, Error> {
    let body = stream::iter([Ok(Bytes::from_static(bytes.as_bytes()))]);
    let staged = local.stage(Box::pin(body), bytes.len() as u64, Asked::all(false)).await?;
    let metadata = (key == "a/b/1.gz").then(|| Metadata::from([("signature".to_owned(), "x".to_owned())]));
    Ok(Item { place: Place { key: key.to_owned(), version: None }, staged, metadata })
}

async fn publish_all(local: &Local) -> Result<Vec<Published>, Error> {
    let mut batch = Vec::new();
    for (key, bytes) in OBJECTS {
        batch.push(stage(local, key, bytes).await?);
    }
    local.publish(batch).await
}

/// Not a test by itself: the process that the other tests torment. Prints what a caller was told.
#[test]
fn worker() {
    let Some(root) = env::var_os(ROOT) else { return };
    // One thread for all that touches the tree, so that its calls can be counted.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let open = tokio::task::spawn_blocking(move || Local::open(&options(Path::new(&root))));
        let local = match open.await.unwrap() {
            Ok(local) => local,
            Err(error) => return println!("told: {:?} {}", error.class(), error.code()),
        };
        let early = stage(&local, "early.gz", "early").await;
        for _ in 0..3 {
            match publish_all(&local).await {
                Ok(published) => println!("told: {published:?}"),
                Err(error) => println!("told: {:?} {}", error.class(), error.code()),
            }
        }
        if let Ok(early) = early {
            match local.publish(vec![early]).await {
                Ok(published) => println!("told: early {published:?}"),
                Err(error) => println!("told: early {:?} {}", error.class(), error.code()),
            }
        }
    });
}

/// A worker's tree, and how it is run.
struct Trial {
    scratch: tempfile::TempDir,
}

impl Trial {
    fn new() -> Self {
        let trial = Self { scratch: tempfile::tempdir().unwrap() };
        fs::create_dir(trial.root()).unwrap();
        trial
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("tree")
    }

    /// Runs the worker with these options of `strace`; gives what it was told, and its calls.
    fn run(&self, inject: &[String]) -> (Vec<String>, Vec<Call>) {
        let log = self.scratch.path().join("log");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-qq", "-s", "40", "-e"]).arg(format!("trace={CALLS}")).args(inject);
        strace.arg("-o").arg(&log).arg(env::current_exe().unwrap());
        let output = strace.args(["worker", "--exact", "--nocapture"]).env(ROOT, self.root()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let told = told.lines().filter_map(|line| Some(line.split_once("told: ")?.1.to_owned())).collect();
        (told, calls(&fs::read_to_string(log).unwrap(), &self.root()))
    }

    /// What is visible is whole; and whatever happened, the next process stores everything.
    fn check(&self, story: &str, stored: bool) {
        let local = Local::open(&options(&self.root())).unwrap();
        let stage = fs::read_dir(self.root().join(".trailsync/stage")).unwrap();
        assert_eq!(stage.count(), 0, "{story}");
        let visible = visible(&local);
        for (key, bytes) in &visible {
            let object = OBJECTS.iter().chain(&[("early.gz", "early")]).find(|(name, _)| name == key);
            assert_eq!(object.map(|(_, bytes)| bytes.as_bytes()), Some(bytes.as_slice()), "{story}: {key}");
        }
        let has_all = OBJECTS.iter().all(|(key, _)| visible.contains_key(*key));
        assert!(has_all || !stored, "{story}: told that all are stored, found {visible:?}");
        if visible.contains_key("a/b/1.gz") {
            let place = Place { key: "a/b/1.gz".to_owned(), version: None };
            assert!(local.read_metadata(&place).unwrap().is_some(), "{story}: an object without its metadata");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let published = runtime.block_on(publish_all(&local)).unwrap();
        assert!(!published.contains(&Published::Other), "{story}: {published:?}");
    }
}

fn visible(local: &Local) -> BTreeMap<String, Vec<u8>> {
    let mut visible = BTreeMap::new();
    for found in local.walk() {
        if let Found::Object(place) = found.unwrap() {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut local.read(&place).unwrap().unwrap(), &mut bytes).unwrap();
            visible.insert(place.key, bytes);
        }
    }
    visible
}

/// One system call of the worker that changes something, in order.
#[derive(Debug)]
struct Call {
    name: String,
    line: String,
    /// Which call of this name it is in its thread, from 1.
    nth: usize,
    /// Whether it concerns the tree.
    ours: bool,
}

fn calls(log: &str, root: &Path) -> Vec<Call> {
    let root = root.to_str().unwrap();
    let mut counts = BTreeMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((thread, line)) = line.split_once(' ') else { continue };
        let line = line.trim_start();
        let Some((name, _)) = line.split_once('(').filter(|(name, _)| CALLS.split(',').any(|call| call == *name))
        else {
            continue;
        };
        let nth = counts.entry((thread.to_owned(), name.to_owned())).or_insert(0);
        *nth += 1;
        calls.push(Call {
            name: name.to_owned(),
            line: line.replace(root, "ROOT"),
            nth: *nth,
            ours: line.contains(root),
        });
    }
    calls
}

fn can_trace() -> bool {
    let able = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success());
    if !able {
        eprintln!("SKIPPED: strace is not here or may not trace");
    }
    able
}

fn injected(call: &Call, fault: &str) -> [String; 2] {
    ["-e".to_owned(), format!("inject={}:{fault}:when={}", call.name, call.nth)]
}

#[test]
fn data_are_durable_before_names_and_names_before_anybody_is_told() {
    if !can_trace() {
        return;
    }
    let trial = Trial::new();
    let (told, calls) = trial.run(&[]);
    assert_eq!(told[0], "[New, New, New, New]");
    assert_eq!(told[1..3], ["[Same, Same, Same, Same]", "[Same, Same, Same, Same]"]);

    let at = |what: &str| calls.iter().position(|call| call.line.contains(what)).unwrap_or_else(|| panic!("no {what}"));
    let renames: Vec<_> = (0..calls.len()).filter(|&n| calls[n].name == "renameat2").take(5).collect();
    let told = at("told: [New");
    let last_write = (0..renames[0]).rfind(|&n| calls[n].name == "write" && calls[n].ours).unwrap();
    let synced = (0..calls.len()).find(|&n| calls[n].name == "syncfs").unwrap();
    assert!(last_write < synced && synced < renames[0], "data before names");
    assert!(calls[renames[0]].line.contains("%_meta.json"), "metadata before its object");
    for directory in ["ROOT/a/b>", "ROOT/a/c>", "ROOT/a>", "ROOT/d/e>", "ROOT/d>", "ROOT>"] {
        let durable = (renames[4]..told).any(|n| calls[n].name == "fsync" && calls[n].line.contains(directory));
        assert!(durable, "{directory} is not synced between the last rename and the answer");
    }
    for call in calls.iter().filter(|call| call.ours && matches!(call.name.as_str(), "mkdirat" | "renameat2")) {
        assert!(!call.line.contains(".."), "{call:?}");
    }
    trial.check("no fault", true);
}

#[test]
fn an_error_of_the_data_sync_publishes_nothing_and_is_never_forgotten() {
    if !can_trace() {
        return;
    }
    let trial = Trial::new();
    let (told, calls) = trial.run(&["-e".into(), "inject=syncfs:error=EIO:when=1".into()]);
    assert_eq!(told[..2], ["Transient EIO", "[New, New, New, New]"]);
    assert_eq!(told[3], "early Transient EIO", "staged before the error: another sync proves nothing");
    let syncs =
        |until: &str| calls.iter().take_while(|call| !call.line.contains(until)).filter(|c| c.name == "syncfs").count();
    assert_eq!((syncs("told: Transient"), syncs("told: [New")), (1, 2));
    let first = calls.iter().take_while(|call| !call.line.contains("told: Transient"));
    assert_eq!(first.filter(|call| call.name == "renameat2").count(), 0, "nothing was renamed");
    trial.check("EIO in syncfs", true);
}

#[test]
fn full_and_read_only_storage_are_named_wherever_they_show() {
    if !can_trace() {
        return;
    }
    let (_, calls) = Trial::new().run(&[]);
    // The first writes of a thread may be those of the test harness, which cannot bear it.
    let late = |call: &Call| call.name == "write" && call.nth > 9 && call.line.contains("stage");
    let shows =
        |call: &&Call| call.ours && (late(call) || matches!(call.name.as_str(), "mkdirat" | "renameat2" | "syncfs"));
    let told = calls.iter().rposition(|call| call.line.contains("told: [Same")).unwrap();
    for call in calls[..told].iter().filter(shows) {
        for code in ["ENOSPC", "EDQUOT", "EROFS"] {
            let trial = Trial::new();
            let (told, _) = trial.run(&injected(call, &format!("error={code}")));
            let paused = format!("Stream {code}");
            assert!(told.iter().any(|told| told.ends_with(&paused)), "{code} in {call:?}: {told:?}");
            trial.check(&format!("{code} in {call:?}"), told.iter().any(|told| !told.contains("Stream")));
        }
    }
}

#[test]
fn an_error_of_a_directory_sync_is_not_mended_by_a_second_sync() {
    if !can_trace() {
        return;
    }
    let (_, calls) = Trial::new().run(&[]);
    let told = calls.iter().position(|call| call.line.contains("told: [New")).unwrap();
    let sync = calls[..told].iter().rfind(|call| call.name == "fsync").unwrap();
    let trial = Trial::new();
    let (told, calls) = trial.run(&injected(sync, "error=EIO"));
    assert_eq!(told[..3], ["Transient EIO", "[Same, Same, Same, Same]", "[Same, Same, Same, Same]"], "{sync:?}");
    let replaced = |call: &&Call| call.name == "renameat" && call.line.contains("ROOT/a/b>");
    assert!(calls.iter().filter(replaced).count() >= 3, "the same bytes took the place of those in doubt");
    trial.check("EIO in fsync of a directory", true);
}

#[test]
fn where_a_rename_cannot_refuse_to_replace_a_link_does() {
    if !can_trace() {
        return;
    }
    let trial = Trial::new();
    let (told, calls) = trial.run(&["-e".into(), "inject=renameat2:error=EINVAL".into()]);
    assert_eq!(told, ["[New, New, New, New]", "[Same, Same, Same, Same]", "[Same, Same, Same, Same]", "early [New]"]);
    assert!(calls.iter().filter(|call| call.name == "linkat").count() >= 5);
    trial.check("EINVAL in renameat2", true);
}

#[test]
fn a_kill_or_an_error_at_any_call_loses_nothing_and_claims_nothing() {
    if !can_trace() {
        return;
    }
    let (_, calls) = Trial::new().run(&[]);
    let until = calls.iter().position(|call| call.line.contains("told: [Same")).unwrap();
    let ours: Vec<_> = calls[..until].iter().filter(|call| call.ours).collect();
    assert!(ours.len() > 40, "{}", ours.len());
    for call in ours {
        for fault in ["signal=SIGKILL", "error=EIO"] {
            let trial = Trial::new();
            let (told, _) = trial.run(&injected(call, fault));
            assert!(told.len() < 4 || fault != "signal=SIGKILL", "not killed in {call:?}: {told:?}");
            let stored = told.iter().any(|told| told.starts_with('['));
            trial.check(&format!("{fault} in {call:?}"), stored);
        }
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_any_named_point_loses_nothing() {
    for point in ["staged", "synced", "renamed_some", "renamed", "dirs_synced"] {
        let trial = Trial::new();
        let mut worker = Command::new(env::current_exe().unwrap());
        worker.args(["worker", "--exact", "--nocapture"]).env(ROOT, trial.root());
        let status = worker.env("TRAILSYNC_FAILPOINT", format!("{point}:1")).output().unwrap().status;
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{point}");
        trial.check(point, matches!(point, "renamed" | "dirs_synced"));
    }
}
