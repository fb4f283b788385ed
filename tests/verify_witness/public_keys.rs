//! A tiny `ListPublicKeys`: it gives out the keys of a bucket that its URL names, as far as they were valid then.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::recipe::Key;

/// Serves until the test's process ends.
pub struct PublicKeys(SocketAddr);

type Keys = BTreeMap<String, Vec<Key>>;

impl PublicKeys {
    pub fn serve(keys: Keys) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let keys = Arc::new(keys);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let keys = keys.clone();
                std::thread::spawn(move || answer(stream, &keys));
            }
        });
        Self(address)
    }

    /// Where the keys to the digests of one bucket are given out.
    pub fn endpoint(&self, bucket: &str) -> String {
        format!("http://{}/{bucket}", self.0)
    }
}

fn answer(mut stream: TcpStream, keys: &Keys) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        // Whoever only looks whether somebody listens says nothing.
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let field = |name: &str| {
        let named = |line: &&String| line.split(':').next().is_some_and(|field| field.eq_ignore_ascii_case(name));
        head.iter().find(named).and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned())
    };
    let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the whole request");
    let target = field("x-amz-target").expect("a target");
    assert!(target.ends_with("CloudTrail_20131101.ListPublicKeys"), "{target}");
    let signed = field("authorization").expect("a signature");
    let region = signed.split('/').nth(2).expect("a region in the credential's scope");
    let bucket = head[0].split(['/', ' ']).nth(2).expect("a path").to_owned();
    let said = list(&keys[&bucket], region, &serde_json::from_slice(&body).expect("JSON")).to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{said}", said.len()).expect("sent");
}

fn list(keys: &[Key], region: &str, asked: &Value) -> Value {
    let time = |name: &str| asked[name].as_f64().expect("seconds since the epoch") as i64;
    let (from, to) = (time("StartTime"), time("EndTime"));
    let is_meant = |key: &&Key| key.region == region && key.from.as_second() <= to && from <= key.until.as_second();
    let shown = |key: &Key| {
        json!({"Value": key.value, "Fingerprint": key.fingerprint, "ValidityStartTime": key.from.as_second(),
               "ValidityEndTime": key.until.as_second()})
    };
    json!({"PublicKeyList": keys.iter().filter(is_meant).map(shown).collect::<Vec<_>>()})
}
