//! A Debian machine that is thrown away: systemd as its first process, in a tree that `make judges` made.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::judge::{absent, as_root, judge, judges, said};

/// What it must end within, in seconds.
const PATIENCE: &str = "240";

/// The tree of the machine; nothing is ever written into it.
pub fn tree() -> Option<PathBuf> {
    as_root("a machine of its own")?;
    let tree = judges().join("debian");
    if judges().join("debian.ready").exists() { Some(tree) } else { absent("there is no Debian tree") }
}

/// systemd-nspawn over the tree, with `shared` as /judge; the network is this machine's.
fn nspawn(shared: &Path, name: &str) -> Option<tokio::process::Command> {
    let tree = tree()?;
    let nspawn = judge("systemd-nspawn")?;
    let mut command = tokio::process::Command::new("timeout");
    command.args(["--kill-after=10", PATIENCE]).arg(nspawn.get_program());
    command.args(["--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--console=pipe"]);
    command.arg(format!("--machine=trailsync-{name}-{}", std::process::id())).arg("--directory").arg(tree);
    command.arg(format!("--bind={}:/judge", shared.display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

/// Boots the machine, runs a script in it as a service, and gives its exit code and what it said.
pub async fn boot(shared: &Path, script: &str) -> Option<(Option<i32>, String)> {
    let unit = "[Unit]\nDescription=The judge\nRequires=basic.target\nAfter=basic.target\n\
                [Service]\nType=oneshot\nStandardOutput=file:/judge/said\nStandardError=inherit\n\
                ExecStart=/bin/sh -c '/bin/bash /judge/script; systemctl --no-block exit $?'\n";
    std::fs::write(shared.join("judge.service"), unit).expect("written");
    std::fs::write(shared.join("script"), script).expect("written");
    let mut command = nspawn(shared, "boot")?;
    let unit = shared.join("judge.service");
    command.arg(format!("--bind-ro={}:/etc/systemd/system/judge.service", unit.display()));
    let output = command.args(["--boot", "--", "systemd.unit=judge.service"]).output().await.expect("it runs");
    let told = std::fs::read_to_string(shared.join("said")).unwrap_or_else(|_| said(&output));
    Some((output.status.code(), told))
}

/// Runs a shell line in the machine's tree, without booting it.
pub async fn shell(shared: &Path, place: &str, line: &str) -> Option<(Option<i32>, String)> {
    let mut command = nspawn(shared, "shell")?;
    command.arg(format!("--chdir={place}")).args(["--pipe", "/bin/sh", "-ec", line]);
    let output = command.output().await.expect("it runs");
    Some((output.status.code(), said(&output)))
}
