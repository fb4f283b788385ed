//! A real Prometheus scrapes the daemon, evaluates the rules, and fires when there is cause.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fakeaws::ObjectSpec;
use serde_json::Value;
use tokio::time::timeout;

use crate::account::{B, BUCKET};
use crate::daemon::{Daemon, SOON, empty_log, mirrored};
use crate::judge::{file, judge};

/// A Prometheus of our own, ended with its owner.
struct Prometheus {
    server: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The rules as they lie here, but for how long a cause must last.
fn hasty_rules() -> String {
    let hasty = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("for:") { format!("{}for: 2s", " ".repeat(indent)) } else { line.to_owned() }
    };
    file("deploy/prometheus/trailsync.rules.yml").lines().map(|line| hasty(line) + "\n").collect()
}

impl Prometheus {
    fn start(mut program: Command, target: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        std::fs::write(dir.path().join("trailsync.rules.yml"), hasty_rules()).expect("written");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [trailsync.rules.yml]\n\
             scrape_configs:\n  - job_name: trailsync\n    static_configs: [{{targets: ['{target}']}}]\n"
        );
        let path = dir.path().join("prometheus.yml");
        std::fs::write(&path, config).expect("written");
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let server = program
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it starts");
        Self { server, address: free.to_string(), _dir: dir }
    }

    /// Waits until an alert fires, and gives its labels.
    async fn fires(&mut self, alert: &str) -> Value {
        let wait = async {
            loop {
                assert!(self.server.try_wait().expect("asked").is_none(), "prometheus ended");
                let firing = self.firing().await.unwrap_or_default();
                if let Some(found) = firing.into_iter().find(|labels| labels["alertname"] == alert) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{alert} never fires"))
    }

    /// Waits until nothing has fired for some seconds in a row, in which it scraped and evaluated several times.
    async fn is_calm(&self) {
        let wait = async {
            let mut calm = 0;
            while calm < 10 {
                let firing = self.firing().await;
                calm = if firing.is_some_and(|firing| firing.is_empty()) { calm + 1 } else { 0 };
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let calmed = timeout(SOON, wait).await;
        assert!(calmed.is_ok(), "something fires while all is well: {:?}", self.firing().await);
    }

    /// The labels of what fires; `None` while it does not answer.
    async fn firing(&self) -> Option<Vec<Value>> {
        let mut stream = tokio::net::TcpStream::connect(&self.address).await.ok()?;
        let request = format!("GET /api/v1/alerts HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.ok()?;
        let json: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        let alerts = json["data"]["alerts"].as_array()?.clone().into_iter();
        Some(alerts.filter(|alert| alert["state"] == "firing").map(|alert| alert["labels"].clone()).collect())
    }
}

#[tokio::test]
async fn a_real_prometheus_fires_when_the_source_changes_and_when_the_daemon_dies() {
    let Some(prometheus) = judge("prometheus") else { return };
    let (shared, program) = mirrored(1).await;
    let mut daemon = Daemon::start(&program, &[]).await;
    let current =
        format!("trailsync_condition{{source=\"acme\",organization=\"\",account=\"{B}\",condition=\"current\"}} 1");
    daemon.until("/metrics", |metrics| metrics.body.contains(&current)).await;
    let mut prometheus = Prometheus::start(prometheus, &daemon.address);
    prometheus.is_calm().await;
    let key = shared.world.keys(BUCKET, "AWSLogs/").into_iter().next().expect("a log");
    shared.world.put_object(BUCKET, &key, ObjectSpec::log([empty_log(), empty_log()].concat()));
    let labels = prometheus.fires("TrailsyncSourceChanged").await;
    assert_eq!((&labels["source"], &labels["kind"]), (&"acme".into(), &"replaced".into()), "{labels}");
    daemon.child.kill().await.expect("killed");
    let labels = prometheus.fires("TrailsyncDown").await;
    assert_eq!(labels["severity"], "critical", "{labels}");
}
