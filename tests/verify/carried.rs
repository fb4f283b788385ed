//! The program itself, on a copy that was carried to another machine: no configuration, no database, no network.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::maker::*;

/// Runs `trailsync verify` with nothing of this machine's own.
fn run(path: &Path, more: &[&str]) -> (i32, String, String) {
    let home = tempfile::tempdir().unwrap();
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_trailsync"))
        .args(["verify", path.to_str().unwrap()])
        .args(more)
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/nonexistent")
        // Any request would go here and fail.
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .current_dir(home.path())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Keys rotate after the fourth hour, as they do every month.
fn rotated() -> Maker {
    let mut maker = Maker::new("management_events-1.eu");
    (1..=4).for_each(|end| maker.hour(end, 3));
    maker.key = 1;
    (5..=9).for_each(|end| maker.hour(end, 3));
    maker.keys(&[public(0, START - 700 * HOUR, START + 6 * HOUR), public(1, START, START + 720 * HOUR)]);
    maker.describe(Some(hour(0)));
    maker.seal();
    maker
}

#[test]
fn a_carried_copy_whose_keys_rotated_is_proven_from_the_tree_alone() {
    let maker = rotated();
    let root = tempfile::tempdir().unwrap();
    maker.files.write_to(root.path());
    let (code, said, complained) = run(root.path(), &[]);
    assert_eq!((code, complained.as_str()), (0, ""), "{said}");
    assert!(said.starts_with("Proven: 9 digests and all 27 logs that they name are here"), "{said}");
    assert!(said.contains("2026-03-01T09:00:00Z"), "{said}");
    let (code, said, _) = run(root.path(), &["--json"]);
    assert_eq!(code, 0);
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let chain = lines.iter().find(|line| line["type"] == "chain").unwrap();
    assert_eq!((&chain["state"], &chain["proven_through"]), (&"proven".into(), &"2026-03-01T09:00:00Z".into()));
    assert_eq!(chain["keys"].as_array().unwrap().len(), 2);
    assert_eq!(lines.last().unwrap()["conclusion"], "proven");
}

#[test]
fn exit_codes_tell_scripts_how_it_went() {
    let maker = rotated();
    let tree = |change: &dyn Fn(&mut Files)| {
        let (root, mut files) = (tempfile::tempdir().unwrap(), maker.files.clone());
        change(&mut files);
        files.write_to(root.path());
        root
    };
    let log = &maker.logs[&3][0];
    let keys = ".trailsync/public-keys/us-east-1.json";
    assert_eq!(run(tree(&|_| ()).path(), &[]).0, 0);
    let damaged = tree(&|files| files.put(log, b"junk".to_vec()));
    assert_eq!(run(damaged.path(), &[]).0, 1);
    assert_eq!(run(damaged.path(), &["--to", "2026-03-01T02:00:00Z"]).0, 0);
    assert_eq!(run(damaged.path(), &["--to", "2026-03-01T04:00:00+02:00"]).0, 0, "offsets count");
    assert_eq!(run(damaged.path(), &["--account", "999999999999"]).0, 4, "nothing to verify");
    assert_eq!(run(damaged.path(), &["--from", "yesterday"]).0, 2);
    assert_eq!(run(damaged.path(), &["--from", "2026-03-02", "--to", "2026-03-01"]).0, 2);
    assert_eq!(run(tree(&|files| files.take(keys)).path(), &[]).0, 4);
    assert_eq!(run(Path::new("/nonexistent/copy"), &[]).0, 3);
    // Keys that are kept apart from the copy are trusted in its stead.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("us-east-1.json"), &**maker.files.0.get(keys).unwrap()).unwrap();
    let without = tree(&|files| files.take(keys));
    assert_eq!(run(without.path(), &["--keys", elsewhere.path().to_str().unwrap()]).0, 0);
}

#[test]
fn the_report_needs_nothing_else_and_takes_no_text_for_markup() {
    let mut maker = rotated();
    let hostile = format!("AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/2026/03/01/<img src=x onerror=alert(1)>\".json.gz");
    maker.put(&hostile, gzip(b"{}"));
    maker.files.take_digest(&maker.digests[&7]);
    let root = tempfile::tempdir().unwrap();
    maker.files.write_to(root.path());
    let file = root.path().join("report.html");
    let (code, ..) = run(root.path(), &["--report", file.to_str().unwrap(), "--quiet"]);
    assert_eq!(code, 1);
    let report = std::fs::read_to_string(&file).unwrap();
    assert!(report.starts_with("<!doctype html>") && report.ends_with("</body></html>\n"));
    assert!(!report.contains("<img") && report.contains("&lt;img src=x onerror=alert(1)&gt;&quot;.json.gz"));
    assert!(!report.contains("http://") && !report.contains("https://") && !report.contains("<script"));
    assert!(report.contains("default-src 'none'; style-src 'sha256-"));
    for part in
        [&fingerprint(0), &fingerprint(1), &maker.digests[&7], "class=\"G\"", "class=\"P\"", env!("CARGO_PKG_VERSION")]
    {
        assert!(report.contains(part), "{part}");
    }
    for tag in ["table", "tr", "td", "th", "thead", "p", "h2"] {
        let (opened, closed) = (
            report.matches(&format!("<{tag}>")).count() + report.matches(&format!("<{tag} ")).count(),
            report.matches(&format!("</{tag}>")).count(),
        );
        assert_eq!(opened, closed, "{tag}");
    }
}
