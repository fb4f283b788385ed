//! Keys are hostile input: each becomes one file inside the root, and none can speak through a log.

#[path = "support/account.rs"]
mod account;
#[path = "support/archive.rs"]
mod archive;
#[path = "support/hostile.rs"]
mod hostile;
#[path = "support/program.rs"]
mod program;

use std::collections::{BTreeMap, BTreeSet};

use account::{B, BUCKET, Shared};
use fakeaws::{ObjectSpec, Op};
use hostile::hostile_keys;
use program::Program;
use serde_json::Value;
use trailsync::path;

/// Longest key that S3 takes.
const KEY_BYTES: usize = 1024;

/// The corpus inside one stream: as it is, and behind a day that is sealed at once.
fn planted() -> BTreeMap<String, Vec<u8>> {
    let stream = format!("AWSLogs/{B}/CloudTrail/us-east-1/");
    let prefixes = [stream.clone(), format!("{stream}2023/07/10/")];
    let keys = prefixes.iter().flat_map(|prefix| hostile_keys().into_iter().map(move |key| fitting(prefix, &key)));
    keys.enumerate().map(|(n, key)| (key, format!("object {n}").into_bytes())).collect()
}

fn fitting(prefix: &str, key: &str) -> String {
    let room = key.floor_char_boundary(KEY_BYTES - prefix.len());
    format!("{prefix}{}", &key[..room])
}

async fn shared(objects: &BTreeMap<String, Vec<u8>>) -> Shared {
    let shared = Shared::own_logs().await;
    let specs = objects.iter().map(|(key, body)| (key.clone(), ObjectSpec::bytes(body.clone())));
    shared.world.put_objects(BUCKET, specs);
    shared
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("output is UTF-8")
}

/// Nothing that moves a cursor, colours a terminal, turns the reading direction or ends a line.
fn assert_harmless(what: &str, text: &str) {
    let bidirectional = ['\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{feff}'];
    let hurts = |c: char| {
        (c.is_control() && c != '\n')
            || bidirectional.contains(&c)
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    for line in text.lines() {
        assert!(!line.chars().any(hurts), "{what}: {line:?}");
    }
    assert!(!text.contains('\r'), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_key_is_mirrored_once_inside_the_root_and_never_again() {
    let objects = planted();
    assert!(objects.len() >= 400, "{}", objects.len());
    let shared = shared(&objects).await;
    let program = Program::new(&shared, "", "");
    let before = program.beside();

    let first = program.run(&["sync", "--quiet"]).await;
    assert!(first.status.success(), "{first:?}");

    let copies = program.copies();
    for key in objects.keys() {
        let path = path::encode(key);
        assert_eq!(path::decode(&path).as_ref(), Some(key));
        assert!(copies.contains_key(key), "{path} is missing");
    }
    assert!(copies == objects, "bytes differ, or there are files that nobody put");
    let beside: BTreeSet<String> = program.beside().into_iter().collect();
    let ours = before.into_iter().chain(["state".to_owned(), "tree".to_owned()]);
    assert_eq!(beside, ours.collect());

    let status = program.run(&["status", "--json"]).await;
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["accounts"][0]["objects"], objects.len(), "{}", status["accounts"]);
    assert_eq!(status["accounts"][0]["quarantined"], 0);

    let gets = shared.world.counters().total(Op::GetObject);
    assert_eq!(gets, objects.len() as u64);
    for args in [&["sync", "--quiet"][..], &["sync", "--quiet", "--full"]] {
        let again = program.run(args).await;
        assert!(again.status.success(), "{again:?}");
        assert_eq!(shared.world.counters().total(Op::GetObject), gets, "{args:?} fetched something");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_of_hostile_keys_have_one_line_an_event_and_no_control_characters() {
    let objects = planted();
    let shared = shared(&objects).await;
    for format in ["human", "json"] {
        let program = Program::new(&shared, "", "");
        let ran = program.run(&["sync", "--quiet", "--log", "debug", "--log-format", format]).await;
        assert!(ran.status.success(), "{ran:?}");
        let log = text(ran.stderr);
        assert_harmless(format, &log);
        let mut told = 0;
        for line in log.lines() {
            let stored = match format {
                "json" => {
                    let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no event: {line}"));
                    event["message"].as_str().is_some_and(|message| message.starts_with("Stored "))
                }
                _ => {
                    let began = line.split(' ').next().unwrap_or_default();
                    assert!(began.parse::<trailsync::clock::Timestamp>().is_ok(), "not the start of an event: {line}");
                    line.contains("Stored ")
                }
            };
            told += usize::from(stored);
        }
        assert_eq!(told, objects.len(), "{format}: one event for each object");
        assert_harmless("sync", &text(ran.stdout));
        for args in [&["status", "--streams"][..], &["status", "--json"]] {
            let ran = program.run(args).await;
            assert_harmless("status", &text(ran.stdout));
            assert_harmless("status", &text(ran.stderr));
        }
    }
}
