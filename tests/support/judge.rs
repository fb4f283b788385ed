//! Programs that judge what is deployed, where `make judges` put them.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where `make judges` and `make witness` put what no package brings.
pub fn judges() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/judges")
}

/// A judge, where it is installed; else says so, and fails where CI=true.
pub fn judge(program: &str) -> Option<Command> {
    let own = [judges().join("bin"), judges().with_file_name("witness").join("bin"), "/usr/sbin".into()];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = own.into_iter().chain(std::env::split_paths(&path)).map(|place| place.join(program));
    match found.into_iter().find(|place| place.is_file()) {
        Some(program) => Some(Command::new(program)),
        None => absent(&format!("{program} is not installed")),
    }
}

/// Whether this process is root; else says so, and fails where CI=true.
pub fn as_root(what: &str) -> Option<()> {
    if rustix::process::geteuid().is_root() { Some(()) } else { absent(&format!("{what} needs root")) }
}

/// A judge that is not there is heard of.
pub fn absent<T>(why: &str) -> Option<T> {
    let said = format!("NOT JUDGED: {why}; `make judges` installs what it can");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{said}");
    println!("{said}");
    None
}

/// What a judge said, both streams.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A file of the repository.
pub fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
