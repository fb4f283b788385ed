//! The two that judge: `aws cloudtrail validate-logs` on moto, and `trailsync verify` on a tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use trailsync::copy_of::{self, CopyOf};
use trailsync::destination::sidecar;
use trailsync::digest::PublicKey;
use trailsync::path::{self, Part};
use trailsync::public_keys::{self, PublicKeys as KeyFile};

use crate::cases::Case;
use crate::moto::Moto;
use crate::public_keys::PublicKeys;
use crate::recipe::{Made, Recipe};

/// What a judge says of a case.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// What is wrong with which key.
    pub blamed: BTreeSet<(String, String)>,
    /// What is only said.
    pub notes: BTreeSet<String>,
}

impl Said {
    pub fn keys(&self) -> BTreeSet<&str> {
        self.blamed.iter().map(|(key, _)| key.as_str()).collect()
    }

    /// In one line, the same for chains of other names.
    pub fn line(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.blamed.iter().for_each(|(_, why)| *counts.entry(why).or_default() += 1);
        let counted = counts.into_iter().map(|(why, count)| match count {
            1 => why.to_owned(),
            _ => format!("{count} × {why}"),
        });
        let said: Vec<_> = counted.chain(self.notes.iter().map(|note| format!("({note})"))).collect();
        format!("{}: {}", self.code, if said.is_empty() { "nothing".to_owned() } else { said.join(", ") })
    }
}

/// Puts what is there into moto, and asks AWS's own program.
pub fn aws(moto: &Moto, keys: &PublicKeys, case: &Case, made: &Made, signed_for: &str) -> Said {
    assert_eq!(moto.raw("PUT", &format!("/{}", made.bucket), "", b""), 200);
    for (key, object) in &made.objects {
        let metadata = object.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        moto.put(&made.bucket, key, metadata, &object.body);
    }
    let asked = &case.recipes[0];
    let Recipe { home, account, trail, region, prefix, .. } = asked;
    let (from, to) = case.aws_range();
    let trail = format!("arn:aws:cloudtrail:{home}:{account}:trail/{trail}");
    let mut command = Command::new(moto.programs.join("aws"));
    command.args(["cloudtrail", "validate-logs", "--verbose", "--region", region, "--trail-arn", &trail]);
    command.args(["--start-time", &from, "--end-time", &to, "--s3-bucket", &made.bucket]);
    if !prefix.is_empty() {
        command.args(["--s3-prefix", prefix]);
    }
    let done = command
        .env_clear()
        .env("AWS_ENDPOINT_URL_S3", moto.endpoint())
        .env("AWS_ENDPOINT_URL_CLOUDTRAIL", keys.endpoint(signed_for))
        .env("AWS_ACCESS_KEY_ID", "anybody")
        .env("AWS_SECRET_ACCESS_KEY", "anything")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .expect("aws runs");
    heard(case.name, &made.bucket, done)
}

fn heard(name: &str, bucket: &str, done: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let (out, err) = (text(done.stdout), text(done.stderr));
    let code = done.status.code().expect("it ended by itself");
    assert!(out.contains("Results requested for") && code < 2, "{name}: {code}: {out}{err}");
    let mut said = Said { code, ..Said::default() };
    for line in out.lines().chain(err.lines()) {
        let parts: Vec<_> = line.split('\t').collect();
        if let [kind, place, verdict] = parts[..] {
            let Some(why) = verdict.strip_prefix("INVALID: ") else { continue };
            let key = place.strip_prefix(&format!("s3://{bucket}/")).expect("a key of the bucket");
            let kind = kind.replace(" file", "").to_lowercase();
            // The region and the key's name are of this run alone.
            let why = why.split([',', '.']).next().unwrap_or(why).split(" in region").next().unwrap_or(why);
            let why = why.split(" with fingerprint").next().unwrap_or(why);
            said.blamed.insert((key.to_owned(), format!("{kind} {why}")));
        } else if line.starts_with("No ") || line.starts_with("(backfill) No ") {
            let note = line.split(" between ").next().unwrap_or(line);
            said.notes.insert(note.to_owned());
        } else {
            let is_known = line.is_empty()
                || ["Validating log files", "Results ", "Backfill"].iter().any(|known| line.starts_with(known))
                || line.contains(" files valid");
            assert!(is_known, "{name}: {line}");
        }
    }
    said
}

/// Lays out a tree as the daemon would have mirrored it, and asks our own program.
pub fn trailsync(case: &Case, made: &Made) -> Said {
    let (tree, home) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    lay_out(tree.path(), case, made);
    let done = Command::new(env!("CARGO_BIN_EXE_trailsync"))
        .args(["verify", "--json", "--jobs", "1"])
        .arg(tree.path())
        .args(case.ours)
        .env_clear()
        .env("HOME", home.path())
        .current_dir(home.path())
        .output()
        .expect("trailsync runs");
    let complained = String::from_utf8_lossy(&done.stderr);
    assert!(complained.is_empty(), "{}: {complained}", case.name);
    let mut said = Said { code: done.status.code().expect("it ended by itself"), ..Said::default() };
    for line in String::from_utf8(done.stdout).expect("text").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let word = |name: &str| line[name].as_str().unwrap_or_default().replace('_', " ");
        match (word("type").as_str(), line["failure"] == true) {
            ("finding", true) => {
                let key = line["key"].as_str().expect("a key").to_owned();
                said.blamed.insert((key, format!("{} {}", word("what"), word("verdict"))));
            }
            ("finding", false) => _ = said.notes.insert(format!("{} {}", word("what"), word("verdict"))),
            ("summary", _) => _ = said.notes.insert(word("conclusion")),
            _ => {}
        }
    }
    said
}

fn lay_out(root: &Path, case: &Case, made: &Made) {
    let write = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    };
    for (key, object) in &made.objects {
        write(&path::of(key, None, Part::Object).expect("a path"), &object.body);
        if !object.metadata.is_empty() {
            let beside = sidecar::render(key, &object.metadata);
            write(&path::of(key, None, Part::Metadata).expect("a path"), &beside);
        }
    }
    let regions: BTreeSet<_> = made.keys.iter().map(|key| &key.region).collect();
    for region in regions {
        let keys = made.keys.iter().filter(|key| key.region == *region).map(|key| {
            let der = BASE64.decode(&key.value).expect("base64");
            PublicKey::new(der, &key.fingerprint, key.from, key.until).expect("a key")
        });
        let file = KeyFile::new(region, keys.collect());
        write(&format!(".trailsync/{}", public_keys::file_name(region)), &file.render());
    }
    let Recipe { prefix, start, .. } = &case.recipes[0];
    let mut copy = CopyOf::new("prod", &made.bucket, prefix, *start);
    copy.since = Some(*start);
    write(&format!(".trailsync/{}", copy_of::file_name("prod")), &copy.render());
}
