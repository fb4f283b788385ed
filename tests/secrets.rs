//! Secrets are never logged, shown or stored, whatever goes wrong and however much is logged.

#[path = "support/account.rs"]
mod account;
#[path = "support/archive.rs"]
mod archive;
#[path = "support/program.rs"]
mod program;

use std::process::Output;
use std::time::{Duration, Instant};

use account::{B, BUCKET, Shared};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fakeaws::{Fault, ObjectSpec, Op, RoleSpec, policies};
use jiff::Timestamp;
use program::{Program, files};
use rustix::process::{Pid, Signal, kill_process};

const EXTERNAL_ID: &str = "canary-external-id-7f3a91";
const IN_VARIABLE: &str = "canary/secret+in/variable0123456789abcdef";
const IN_FILE: &str = "canary/secret+in/file0123456789abcdefghij";
const NEW_SECRET: &str = "canary/secret+wrong0123456789abcdefghijkl";

/// Account A, where the role asks for an external id.
async fn shared() -> Shared {
    let trust = policies::trust_with_external_id(B, EXTERNAL_ID);
    let shared = Shared::with(RoleSpec { trust, policy: policies::read_all(BUCKET), ..RoleSpec::default() }).await;
    let now = Timestamp::now();
    for n in 0..20 {
        let (day, minute) = (now.strftime("%Y/%m/%d"), now.strftime("%Y%m%dT%H%MZ"));
        let name = format!("{B}_CloudTrail_eu-west-1_{minute}_{n:016}.json.gz");
        let key = format!("AWSLogs/{B}/CloudTrail/eu-west-1/{day}/{name}");
        shared.world.put_object(BUCKET, &key, ObjectSpec::generated(n, 300));
    }
    shared
}

fn program(shared: &Shared) -> Program {
    Program::new(
        shared,
        &format!("external_id = \"{EXTERNAL_ID}\""),
        "[source.acme.poll]\nevery = \"5s\"\nidle_every = \"5s\"",
    )
}

/// What must not be seen, as it is and as it would travel.
struct Canaries(Vec<(String, Vec<u8>)>);

impl Canaries {
    fn of(shared: &Shared) -> Self {
        let mut canaries = Self(Vec::new());
        canaries.add("the secret access key", &shared.user.secret);
        canaries.add("the external id", EXTERNAL_ID);
        canaries.add("the secret in a variable", IN_VARIABLE);
        canaries.add("the secret in a file", IN_FILE);
        canaries.add("the wrong secret", NEW_SECRET);
        for (secret, token) in shared.world.issued_sessions() {
            canaries.add("a session's secret", &secret);
            canaries.add("a session's token", &token);
            canaries.add("the head of a session's token", &token[..48]);
            canaries.add("the tail of a session's token", &token[token.len() - 48..]);
        }
        canaries
    }

    fn add(&mut self, what: &str, secret: &str) {
        let percent: String = secret.bytes().map(encoded).collect();
        let forms = [
            secret.to_owned(),
            percent.to_lowercase(),
            percent,
            secret.replace('/', "\\/"),
            STANDARD.encode(secret).trim_end_matches('=').to_owned(),
            URL_SAFE_NO_PAD.encode(secret),
            hex::encode(secret),
        ];
        self.0.extend(forms.into_iter().map(|form| (what.to_owned(), form.into_bytes())));
    }

    fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        let has = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        self.0.iter().find(|(_, secret)| bytes.contains(&secret[0]) && has(secret)).map(|(what, _)| what.as_str())
    }

    fn assert_unseen(&self, place: &str, bytes: &[u8]) {
        if let Some(what) = self.found_in(bytes) {
            panic!("{what} is in {place}: {}", String::from_utf8_lossy(bytes));
        }
    }

    /// What the program said, and all that it has written.
    fn assert_unseen_by(&self, program: &Program, said: &[(String, Output)]) {
        for (place, output) in said {
            self.assert_unseen(&format!("stdout of {place}"), &output.stdout);
            self.assert_unseen(&format!("stderr of {place}"), &output.stderr);
        }
        for root in [program.state(), program.tree()] {
            for (path, bytes) in files(&root) {
                self.assert_unseen(&path, &bytes);
                self.assert_unseen("a file's name", path.as_bytes());
            }
        }
    }
}

fn encoded(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

const LOUD: [[&str; 4]; 2] = [["--log", "trace", "--log-format", "human"], ["--log", "trace", "--log-format", "json"]];

/// Runs the same with both formats of logs.
async fn said(program: &Program, args: &[&str], said: &mut Vec<(String, Output)>) {
    for loud in LOUD {
        let args = [args, &loud].concat();
        said.push((args.join(" "), program.run(&args).await));
    }
}

/// Runs the daemon for a while, then ends it as systemd would.
async fn daemon(program: &Program, loud: &[&str]) -> Output {
    let child = program.command(&[&["run"], loud].concat()).spawn().expect("the program starts");
    let id = i32::try_from(child.id().expect("it runs")).ok().and_then(Pid::from_raw).expect("an id");
    let end = tokio::spawn(child.wait_with_output());
    tokio::time::sleep(Duration::from_secs(3)).await;
    kill_process(id, Signal::TERM).expect("it still runs");
    let asked = Instant::now();
    let output = end.await.expect("joined").expect("an output");
    assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?} to end", asked.elapsed());
    output
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_works_shows_no_secret_and_the_daemon_ends_well_when_told_to() {
    let shared = shared().await;
    let program = program(&shared);
    let mut all = Vec::new();
    said(&program, &["sync"], &mut all).await;
    assert!(all.iter().all(|(_, output)| output.status.success()), "{all:?}");
    for loud in LOUD {
        let output = daemon(&program, &loud).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!output.stderr.is_empty(), "at `trace` it says something");
        all.push(("run".to_owned(), output));
    }
    for args in [&["config"][..], &["config", "--json"], &["status"], &["status", "--json"], &["sync", "--full"]] {
        said(&program, args, &mut all).await;
    }
    assert_eq!(program.copies().len(), 20);
    assert!(shared.world.issued_sessions().len() >= 4, "each start assumed the role");
    Canaries::of(&shared).assert_unseen_by(&program, &all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_shows_no_secret() {
    let shared = shared().await;
    let program = program(&shared);
    let mut all = Vec::new();

    let denied = shared.world.faults().inject(Fault::AccessDenied).on(Op::GetObject).always();
    said(&program, &["sync"], &mut all).await;
    assert!(shared.world.faults().struck(denied) > 0);
    shared.world.faults().clear();
    shared.world.faults().inject(Fault::ExpiredToken).on(Op::ListObjectsV2).times(1);
    said(&program, &["sync"], &mut all).await;
    shared.allow(policies::nothing());
    said(&program, &["sync"], &mut all).await;
    all.push(("run".to_owned(), daemon(&program, &LOUD[0]).await));
    shared.world.set_role_trust(&shared.role, policies::trust_with_external_id(B, "another"));
    said(&program, &["sync"], &mut all).await;
    all.push(("run".to_owned(), daemon(&program, &LOUD[1]).await));
    std::fs::write(program.work().join("key"), NEW_SECRET).expect("written");
    said(&program, &["sync"], &mut all).await;
    shared.world.disable_key(&shared.user.id);
    said(&program, &["sync"], &mut all).await;
    all.push(("run".to_owned(), daemon(&program, &LOUD[0]).await));
    for (place, output) in all.iter().filter(|(place, _)| place.starts_with("sync")).skip(4) {
        assert!(!output.status.success(), "{place}: {output:?}");
    }
    said(&program, &["status"], &mut all).await;
    said(&program, &["status", "--json"], &mut all).await;
    assert!(!shared.world.issued_sessions().is_empty());
    Canaries::of(&shared).assert_unseen_by(&program, &all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_refused_shows_no_secret() {
    let shared = shared().await;
    let program = program(&shared);
    let file = program.work().join("trailsync.toml");
    let good = std::fs::read_to_string(&file).expect("read");
    std::fs::write(program.work().join("open"), IN_FILE).expect("written");
    let mut all = Vec::new();
    let open = format!("secret_access_key = {IN_FILE:?}, access_key_id_file");
    let broken = [
        good.replace("access_key_id_file", &open),
        good.replace("external_id =", "external_id = 5 #"),
        good.replace(&format!("external_id = \"{EXTERNAL_ID}\""), &format!("external_id = [\"{EXTERNAL_ID}\"]")),
        good.replace(&format!("\"{EXTERNAL_ID}\""), &format!("\"{EXTERNAL_ID} \u{e9}\"")),
        good.replace(&format!("\"{EXTERNAL_ID}\""), &format!("\"{EXTERNAL_ID}")),
    ];
    for text in broken {
        assert_ne!(text, good);
        std::fs::write(&file, &text).expect("written");
        said(&program, &["config"], &mut all).await;
        said(&program, &["sync"], &mut all).await;
    }
    std::fs::write(&file, &good).expect("written");
    let variables = [
        ("TRAILSYNC_SOURCE__ACME__CREDENTIALS__SECRET_ACCESS_KEY", IN_VARIABLE),
        ("TRAILSYNC_SOURCE__ACME__CREDENTIALS__SECRET_ACCESS_KEY_ENV", IN_VARIABLE),
        ("TRAILSYNC_SOURCE__ACME__ROLE__EXTERNAL_IDS", EXTERNAL_ID),
    ];
    for (name, value) in variables {
        let output = program.command(&["sync", "--log", "trace"]).env(name, value).output().await.expect("it starts");
        all.push((name.to_owned(), output));
    }
    for (place, output) in &all {
        assert_eq!(output.status.code(), Some(2), "{place}: {output:?}");
        assert!(!output.stderr.is_empty(), "{place}");
    }
    Canaries::of(&shared).assert_unseen_by(&program, &all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_search_for_secrets_finds_each_of_them_in_every_form() {
    let shared = shared().await;
    let program = program(&shared);
    assert!(program.run(&["sync", "-q"]).await.status.success());
    let canaries = Canaries::of(&shared);
    let (secret, token) = shared.world.issued_sessions().pop().expect("a session");
    for hidden in [shared.user.secret.as_str(), EXTERNAL_ID, IN_FILE, IN_VARIABLE, &secret, &token] {
        let percent: String = hidden.bytes().map(encoded).collect();
        for form in [hidden.to_owned(), percent, STANDARD.encode(hidden), hex::encode(hidden)] {
            assert!(canaries.found_in(format!("a line with {form} in it").as_bytes()).is_some(), "{form}");
        }
    }
    assert_eq!(canaries.found_in(b"a line without"), None);
}
