//! The templates that lie here are what the program prints, and cfn-lint finds nothing to say of them.

use std::path::Path;
use std::process::Command;

use crate::judge::{file, judge, said};

#[test]
fn the_templates_are_what_the_program_prints_and_valid() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/cloudformation");
    for side in ["owner", "consumer"] {
        let name = format!("{side}.json");
        let mut policy = Command::new(env!("CARGO_BIN_EXE_trailsync"));
        policy.env_clear().arg("--config").arg(here.join("trailsync.toml"));
        policy.args(["policy", "--side", side, "--caller", "arn:aws:iam::222222222222:role/trailsync"]);
        let printed = policy.args(["--format", "cloudformation"]).output().expect("it runs");
        assert!(printed.status.success(), "{}", said(&printed));
        let kept = file(&format!("deploy/cloudformation/{name}"));
        assert_eq!(kept, String::from_utf8_lossy(&printed.stdout), "{name} is not what is printed; print it anew");
        let Some(mut lint) = judge("cfn-lint") else { return };
        let verdict = lint.arg("--").arg(here.join(&name)).output().expect("it runs");
        assert!(verdict.status.success() && said(&verdict).trim().is_empty(), "{name}: {}", said(&verdict));
    }
}
