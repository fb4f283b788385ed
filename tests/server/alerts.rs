//! Every alert can be believed: its rule is sound, it fires when it should, and somebody wrote down what to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::judge::judge;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus").join(name)
}

fn lines_after(text: &str, start: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.trim().strip_prefix(start)).map(|rest| rest.trim().to_owned()).collect()
}

fn alerts() -> BTreeSet<String> {
    lines_after(&fs::read_to_string(deploy("trailsync.rules.yml")).expect("the rules"), "- alert:")
}

/// `promtool`, where Prometheus is installed.
pub fn promtool() -> Option<Command> {
    judge("promtool")
}

#[test]
fn every_alert_has_its_entry_in_the_runbook_and_names_it() {
    let rules = fs::read_to_string(deploy("trailsync.rules.yml")).expect("the rules");
    let runbook = lines_after(&fs::read_to_string(deploy("RUNBOOK.md")).expect("the runbook"), "## ");
    let alerts = alerts();
    assert!(alerts.len() >= 10, "{alerts:?}");
    assert_eq!(alerts, runbook, "alerts and headings are the same");
    let links = |alert: &&String| rules.contains(&format!("RUNBOOK.md#{}\n", alert.to_lowercase()));
    assert_eq!(alerts.iter().filter(links).count(), alerts.len(), "each links to its own");
    let tests = fs::read_to_string(deploy("trailsync.test.yml")).expect("the tests");
    for alert in &alerts {
        assert!(tests.contains(&format!("alertname: {alert}}}")), "{alert} is shown to be silent");
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} is shown to fire");
    }
}

#[test]
fn the_page_names_no_runbook_entry_that_is_not_there() {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/page/needs.rs"));
    let source = source.expect("the page's source");
    let alerts = alerts();
    let named: BTreeSet<&str> = source.split('"').filter(|text| text.starts_with("Trailsync")).collect();
    assert!(named.len() >= 6, "{named:?}");
    for name in named {
        assert!(alerts.contains(name), "{name}");
    }
}

#[test]
fn promtool_accepts_the_rules_and_every_alert_fires_when_it_should() {
    for what in [["check", "rules", "trailsync.rules.yml"], ["test", "rules", "trailsync.test.yml"]] {
        let Some(mut promtool) = promtool() else { return };
        let output = promtool.args(&what[..2]).arg(deploy(what[2])).output().expect("promtool runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}
