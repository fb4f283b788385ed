//! An independent judge of the templates: cfn-lint, from the same private environment as the other witnesses.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

const MEND: &str = "make it with `python3 -m venv target/witness && target/witness/bin/pip install -q -r \
                    tests/witness-requirements.txt`, or set TRAILSYNC_WITNESS=skip";

/// The linter; `None` when the witness was sent away.
fn linter() -> Option<PathBuf> {
    let named = std::env::var_os("TRAILSYNC_WITNESS");
    if named.as_deref() == Some(OsStr::new("skip")) {
        println!("SKIPPED: TRAILSYNC_WITNESS=skip: no independent witness was heard");
        return None;
    }
    let place = named.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/witness"), PathBuf::from);
    let program = place.join("bin/cfn-lint");
    assert!(program.exists(), "no cfn-lint in {place:?}: {MEND}");
    Some(program)
}

/// Three sources of one Account A: two through one role with a path, one through a role of its own, with copies in a
/// bucket.
const CONFIGURATION: &str = r#"
[source.own]
bucket = "example-trail-logs"
region = "eu-central-1"
accounts = ["222222222222"]
kms_keys = ["arn:aws:kms:eu-central-1:111111111111:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
destination = { path = "/srv/trails/own" }
[source.own.role]
arn = "arn:aws:iam::111111111111:role/logs/ReadB"
session_name = "trailsync"
duration = "2h"
tags = { Team = "audit" }

[source.own-audit]
bucket = "example-trail-logs"
region = "eu-central-1"
prefix = "audit"
organization = "o-abcde12345"
accounts = ["222222222222"]
destination = { path = "/srv/trails/audit" }
[source.own-audit.role]
arn = "arn:aws:iam::111111111111:role/logs/ReadB"
session_name = "trailsync"
tags = { Team = "audit" }

[source.all]
bucket = "other-trail-logs"
region = "eu-central-1"
[source.all.destination]
bucket = "our-archive"
prefix = "trails"
region = "eu-central-1"
kms_key_id = "arn:aws:kms:eu-central-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab"
sse = "aws:kms"
[source.all.destination.role]
arn = "arn:aws:iam::222222222222:role/logs/Archive"
session_name = "trailsync"
[source.all.role]
arn = "arn:aws:iam::111111111111:role/ReadAll"
session_name = "trailsync"
external_id = "Z-7d1c0f9e"
"#;

fn template(configuration: &Path, side: &str, caller: &str) -> Vec<u8> {
    let mut trailsync = Command::new(env!("CARGO_BIN_EXE_trailsync"));
    trailsync.env_clear().arg("--config").arg(configuration);
    let done = trailsync
        .args(["policy", "--format", "cloudformation", "--side", side, "--caller", caller])
        .output()
        .expect("trailsync runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

#[test]
fn the_templates_of_both_sides_are_valid() {
    let Some(linter) = linter() else { return };
    let work = tempfile::tempdir().expect("a directory");
    let configuration = work.path().join("trailsync.toml");
    std::fs::write(&configuration, CONFIGURATION).expect("written");
    for side in ["owner", "consumer"] {
        for caller in ["222222222222", "arn:aws:iam::222222222222:role/ops/mirror"] {
            let file = work.path().join(format!("{side}.json"));
            std::fs::write(&file, template(&configuration, side, caller)).expect("written");
            let lint = |file: &Path| Command::new(&linter).arg("--").arg(file).output().expect("cfn-lint runs");
            let judged = lint(&file);
            let said = String::from_utf8_lossy(&judged.stdout);
            assert!(judged.status.success() && said.trim().is_empty(), "{side}, {caller}: {said}");
            // A judge that lets everything pass proves nothing.
            let text = std::fs::read_to_string(&file).expect("readable").replace("AWS::IAM::", "AWS::IAN::");
            std::fs::write(&file, text).expect("written");
            assert!(!lint(&file).status.success(), "{side}: nonsense passes");
        }
    }
}
