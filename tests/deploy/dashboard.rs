//! The dashboard asks for nothing that the daemon does not export.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::daemon::{Daemon, mirrored};
use crate::judge::{file, judge, said};

/// Every query of the dashboard, with something in place of its variables.
fn queries() -> Vec<String> {
    let board: Value = serde_json::from_str(&file("deploy/grafana/trailsync.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let exprs = targets.map(|target| target["expr"].as_str().expect("a query").to_owned());
    exprs
        .map(|expr| expr.replace("$__rate_interval", "5m").replace("$source", ".*").replace("$account", ".*"))
        .collect()
}

fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
    words.filter(|word| word.starts_with("trailsync_")).collect()
}

#[tokio::test]
async fn every_query_reads_what_is_exported() {
    let (_shared, program) = mirrored(2).await;
    let daemon = Daemon::start(&program, &[]).await;
    let whole = [
        "trailsync_request_seconds_bucket",
        "trailsync_lag_seconds{",
        "trailsync_credential_renewal",
        "condition=\"current\"} 1",
    ];
    let stored = |answer: &crate::daemon::Answer| whole.iter().all(|part| answer.body.contains(part));
    let live = daemon.until("/metrics", stored).await.body;
    let live: BTreeSet<&str> = live.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    // What has no series while nothing fails, is proven, or was scrubbed.
    let described = file("src/server/metrics.rs");
    let absent = [
        "alarms",
        "failing_since",
        "proof_held_since",
        "proven_through",
        "scrub_unmended",
        "public_keys_failing_since",
    ];
    let queries = queries();
    assert!(queries.len() >= 20, "{queries:?}");
    for name in queries.iter().flat_map(|query| names(query)) {
        let may_be_absent = absent.iter().any(|part| name.contains(part)) && described.contains(&format!("\"{name}\""));
        assert!(live.contains(name) || may_be_absent, "{name} is not exported: {live:?}");
    }
}

#[test]
fn promtool_understands_every_query() {
    let rule =
        |(n, query): (usize, &String)| format!("      - {{record: 'q:{n}', expr: {}}}\n", Value::from(query.as_str()));
    let rules: String = queries().iter().enumerate().map(rule).collect();
    let check = |rules: &str| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("queries.yml");
        std::fs::write(&path, format!("groups:\n  - name: queries\n    rules:\n{rules}")).expect("written");
        Some(judge("promtool")?.args(["check", "rules"]).arg(&path).output().expect("it runs"))
    };
    let Some(verdict) = check(&rules) else { return };
    assert!(verdict.status.success(), "{}", said(&verdict));
    assert!(!check(&rules.replace("sum by", "sum buy")).expect("a judge").status.success(), "nonsense passes");
}

#[test]
fn every_panel_has_a_place_of_its_own_and_says_what_it_shows() {
    let board: Value = serde_json::from_str(&file("deploy/grafana/trailsync.json")).expect("JSON");
    let mut cells = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in board["panels"].as_array().expect("panels") {
        let at = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(x < 24 && cells.insert((x, y)), "{} overlaps", panel["title"]);
        }
        assert!(ids.insert(panel["id"].as_u64()), "{}", panel["title"]);
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{}", panel["title"]);
    }
}
