//! What Prometheus scrapes, and what it makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use crate::account::B;
use crate::alerts::promtool;
use crate::daemon::{Daemon, mirrored};

#[tokio::test]
async fn metrics_tell_times_and_counts_and_nothing_that_never_was() {
    let (shared, program) = mirrored(3).await;
    let daemon = Daemon::start(&program, &[]).await;
    let labels = format!("source=\"acme\",organization=\"\",account=\"{B}\"");
    let stored = format!("trailsync_objects_total{{{labels}}} 3");
    let metrics = daemon.until("/metrics", |metrics| metrics.body.contains(&stored)).await.body;
    let expected = [
        format!("trailsync_listed_through_timestamp_seconds{{{labels}}} "),
        format!("trailsync_lag_seconds{{{labels}}} "),
        "trailsync_credential_expiry_timestamp_seconds{source=\"acme\"} ".into(),
        "trailsync_disk_free_bytes{source=\"acme\"} ".into(),
        "trailsync_request_seconds_bucket{source=\"acme\",operation=\"GetObject\",le=\"30\"} 3".into(),
        "trailsync_build_info{version=".into(),
    ];
    for series in expected {
        assert!(metrics.contains(&series), "{series} in\n{metrics}");
    }
    assert!(!metrics.contains("trailsync_failing_since"), "nothing fails:\n{metrics}");
    assert!(!metrics.contains("AWSLogs") && !metrics.contains(".json.gz"), "no key is a label");
    drop(shared);
}

#[tokio::test]
async fn promtool_finds_nothing_to_say_of_the_live_metrics() {
    let (_shared, program) = mirrored(3).await;
    let daemon = Daemon::start(&program, &[]).await;
    let text = daemon.until("/metrics", |metrics| metrics.body.contains("trailsync_objects_total{")).await.body;
    let Some(mut promtool) = promtool() else { return };
    let child = promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("promtool runs");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
}

#[tokio::test]
async fn every_metric_that_a_rule_reads_is_described() {
    let (_shared, program) = mirrored(1).await;
    let daemon = Daemon::start(&program, &[]).await;
    let known = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/server/metrics.rs")).expect("the source");
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/trailsync.rules.yml");
    let rules = fs::read_to_string(rules).expect("the rules");
    let words = rules.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let read: BTreeSet<&str> = words.filter(|word| word.starts_with("trailsync_")).collect();
    assert!(read.len() >= 12, "{read:?}");
    for metric in read {
        assert!(known.contains(&format!("\"{metric}\"")), "{metric}");
    }
    let metrics = daemon.until("/metrics", |metrics| metrics.body.contains("trailsync_scheduler_turn_timestamp")).await;
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
}
