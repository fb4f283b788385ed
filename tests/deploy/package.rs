//! The Debian package, from its installation to its purge, on a machine with systemd.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::judge::{judge, judges, said};
use crate::machine;
use crate::mirror::{LOGS, configuration, free_address, is_whole, shared, write};

/// The package of the program that is tested; `None` without cargo-deb.
fn package(dir: &Path) -> Option<PathBuf> {
    judge("cargo-deb")?;
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = env!("CARGO_BIN_EXE_trailsync");
    let run = |command: &mut Command| {
        let output = command.current_dir(repository).output().expect("it runs");
        assert!(output.status.success(), "{}", said(&output));
    };
    // As `make deb` does it, with the program as it is built for tests.
    run(Command::new("make")
        .args(["--no-print-directory", "--always-make", "target/package"])
        .arg(format!("PROGRAM={program}")));
    let path = std::env::join_paths(
        [judges().join("bin")].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").expect("a path"))),
    );
    let target = Path::new(program).ancestors().nth(2).expect("a target directory");
    let deb = dir.join("trailsync.deb");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["deb", "--locked", "--no-build", "--profile", "dev", "--fast", "--strip", "--output"]).arg(&deb);
    run(cargo.env("PATH", path.expect("a path")).env("CARGO_TARGET_DIR", target));
    Some(deb)
}

#[tokio::test]
async fn it_installs_runs_in_its_sandbox_upgrades_and_purges() {
    if machine::tree().is_none() {
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let Some(_) = package(dir.path()) else { return };
    let shared = shared().await;
    let credentials = "/run/credentials/trailsync.service";
    let (id, key) = (format!("{credentials}/access_key_id"), format!("{credentials}/secret_access_key"));
    let text = configuration(&shared, &free_address(), "/srv/trailsync/acme", &id, &key);
    write(&at("trailsync.toml"), &text, 0o644);
    write(&at("access_key_id"), &shared.user.id, 0o600);
    write(&at("secret_access_key"), &shared.user.secret, 0o600);
    write(&at("logs"), &LOGS.to_string(), 0o644);
    let life = include_str!("life.sh");
    let Some((code, said)) = machine::boot(dir.path(), life).await else { return };
    assert!(code == Some(0) && said.trim_end().ends_with("== done"), "{code:?}: {said}");
    assert!(!said.contains(&shared.user.secret), "{said}");
    is_whole(&shared, &at("tree"));
}
