//! The program as scripts use it: started, steered over HTTP, stopped.

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fakeaws::scenario::Ready;
use serde_json::{Value, json};
use support::exchange;

/// A running program; killed when the test is over.
struct Program {
    child: Child,
    ready: Ready,
    address: SocketAddr,
    directory: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, and the directory may be gone: both are fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn start(name: &str, arguments: &[&str]) -> Program {
    let directory = std::env::temp_dir().join(format!("fakeaws-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("ready.json");
    let child = Command::new(env!("CARGO_BIN_EXE_fakeaws"))
        .args(["serve", "--ready-file"])
        .arg(&file)
        .args(arguments)
        .current_dir(&directory)
        .stdout(Stdio::null())
        .spawn()
        .expect("the program");
    let ready = wait_for(&file);
    let address = ready
        .endpoint
        .strip_prefix("http://")
        .and_then(|address| address.parse().ok())
        .expect("an endpoint");
    Program {
        child,
        ready,
        address,
        directory,
    }
}

fn wait_for(file: &Path) -> Ready {
    let began = Instant::now();
    loop {
        if let Ok(text) = std::fs::read(file) {
            return serde_json::from_slice(&text).expect("a whole file");
        }
        assert!(began.elapsed() < Duration::from_secs(30), "never ready");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Program {
    fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} /_fakeaws/{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(self.address, request.as_bytes(), method);
        (
            answer.status,
            serde_json::from_slice(&answer.body).expect("JSON"),
        )
    }

    fn get(&self, path: &str) -> Value {
        self.call("GET", path, &Value::Null).1
    }
}

#[test]
fn objects_faults_clock_and_counters_are_steered_over_http() {
    let described = json!({
        "buckets": [{"name": "logs", "owner": "111111111111", "region": "us-east-1"}],
        "users": [{"account": "222222222222", "name": "mirror", "policy": {"Statement": []}}],
        "roles": [{"account": "111111111111", "name": "Reader", "consumer": "222222222222",
            "trust": {"Statement": []}, "policy": {"Statement": []}, "max_session_seconds": 900}],
        "objects": [{"bucket": "logs", "key": "first", "text": "x", "metadata": {"a": "b"}}],
        "trails": [{"bucket": "logs", "accounts": ["222222222222"], "since": "2024-03-01T00:00:00Z"}],
        "deliver_until": "2024-03-01T01:00:00Z",
        "faults": [{"fault": {"kind": "SlowDown"}, "ops": ["GetObject"]}],
    });
    let file = std::env::temp_dir().join(format!("fakeaws-{}-described.json", std::process::id()));
    std::fs::write(&file, described.to_string()).expect("a file");
    let path = file.to_str().expect("a path");
    let program = start(
        "described",
        &[
            "--scenario",
            path,
            "--clock-start",
            "2024-03-01T02:00:00Z",
            "--clock-rate",
            "0",
        ],
    );
    std::fs::remove_file(&file).expect("to be tidy");
    assert_eq!(program.ready.buckets, ["logs"]);
    assert_eq!(
        program.ready.roles["Reader"].arn,
        "arn:aws:iam::111111111111:role/Reader"
    );
    assert_eq!(
        program.get("scenario")["endpoint"],
        program.ready.endpoint.as_str()
    );

    let many = json!({"bucket": "logs", "key": "many/{n}", "count": 1_500});
    assert_eq!(program.call("POST", "put-many", &many).0, 200);
    assert_eq!(
        program
            .call(
                "POST",
                "put",
                &json!({"bucket": "logs", "key": "b", "base64": "aGVsbG8="})
            )
            .0,
        200
    );
    assert_eq!(
        program
            .call(
                "POST",
                "put",
                &json!({"bucket": "none", "key": "b", "text": ""})
            )
            .0,
        400
    );
    let objects = program.get("objects?bucket=logs&prefix=b");
    assert_eq!(objects[0]["md5"], "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(objects[0]["size"], 5);
    assert_eq!(
        program
            .get("objects?bucket=logs&prefix=many/&hashes=false")
            .as_array()
            .map(Vec::len),
        Some(1_500)
    );
    assert_eq!(
        program
            .call("POST", "delete", &json!({"bucket": "logs", "key": "b"}))
            .1["deleted"],
        true
    );

    let before = program.get("deliveries")["total"]
        .as_u64()
        .expect("a number");
    program.call(
        "POST",
        "deliver-until",
        &json!({"until": "2024-03-01T02:00:00Z"}),
    );
    assert!(
        program.get("deliveries")["total"]
            .as_u64()
            .expect("a number")
            > before
    );

    assert_eq!(program.get("clock")["now"], "2024-03-01T02:00:00Z");
    let moved = program
        .call("POST", "clock", &json!({"advance_seconds": 60}))
        .1;
    assert_eq!(moved["now"], "2024-03-01T02:01:00Z");

    let rule = json!({"fault": {"kind": "ResetMidBody", "after": 9}, "key_contains": "many", "schedule": {"every": 3}});
    let id = program.call("POST", "faults", &rule).1["id"].clone();
    assert_eq!(program.get("faults").as_array().map(Vec::len), Some(2));
    program.call("DELETE", &format!("faults?id={id}"), &Value::Null);
    assert_eq!(program.get("faults").as_array().map(Vec::len), Some(1));
    assert!(program.get("counters")["ops"].is_object());
    assert_eq!(program.call("GET", "nonsense", &Value::Null).0, 400);
}

#[test]
fn the_demo_delivers_live_and_stops_when_told() {
    let program = start(
        "demo",
        &[
            "--history-hours",
            "2",
            "--clock-rate",
            "60",
            "--live-seconds",
            "120",
        ],
    );
    assert_eq!(program.ready.roles["b"].consumer, "222222222222");
    let began = Instant::now();
    let first = program.get("deliveries")["total"]
        .as_u64()
        .expect("a number");
    while program.get("deliveries")["is_live"] == true {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    let last = program.get("deliveries");
    let delivered = last["total"].as_u64().expect("a number") - first;
    assert!((50..300).contains(&delivered), "{delivered}");
    assert!(!last["late"].as_array().expect("a list").is_empty());
}
