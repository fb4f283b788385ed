//! `trailsync sync`, started on a server and a directory of its own, and what must have come of it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::cost::{self, Cost};
use crate::program;
use crate::serve::Counters;
use crate::server::Server;

/// What a run cost both sides.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// The program that was run.
    pub cost: Cost,
    /// What the server was asked meanwhile.
    pub asked: Counters,
    /// Processor time of the server meanwhile.
    pub server_seconds: f64,
}

/// Runs a command against a server and measures both.
pub fn measured(scratch: &Path, server: &Server, command: &Command) -> Result<(Run, String)> {
    server.reset()?;
    let before = server.counters()?.cpu_seconds;
    let (said, cost) = cost::run(scratch, command)?;
    let asked = server.counters()?;
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(cost.code == Some(0), "{command:?} ended with {:?}: {said}", cost.code);
    Ok((Run { cost, asked, server_seconds: asked.cpu_seconds - before }, said))
}

/// A mirror: its directory, with state, copy and configuration.
pub struct Mirror {
    dir: PathBuf,
}

impl Mirror {
    /// One that has never run, in a new directory; `more` is put before the sources.
    pub fn new(dir: &Path, server: &Server, more: &str) -> Result<Self> {
        let copy = dir.join("copy");
        let destination =
            format!("[source.measured.destination]\npath = \"{}\"\nallow_volatile = true", copy.display());
        Self::to(dir, server, &destination, more)
    }

    /// The same with another destination.
    pub fn to(dir: &Path, server: &Server, destination: &str, more: &str) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        secret(&dir.join("id"), "AKIABENCHBENCHBENCH0")?;
        secret(&dir.join("secret"), &"0".repeat(40))?;
        let (dir_text, endpoint, bucket) = (dir.display(), server.endpoint(), &server.spec.bucket);
        let text = format!(
            r#"
[http]
listen = "off"
[state]
dir = "{dir_text}/state"
{more}
[source.measured]
bucket = "{bucket}"
region = "us-east-1"
endpoints = {{ s3 = "{endpoint}", sts = "{endpoint}", cloudtrail = "{endpoint}", path_style = true }}
credentials = {{ access_key_id_file = "{dir_text}/id", secret_access_key_file = "{dir_text}/secret" }}
{destination}
[source.measured.role]
arn = "arn:aws:iam::111111111111:role/CloudTrailRead"
session_name = "trailsync"
"#
        );
        secret(&dir.join("trailsync.toml"), &text)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where copies are.
    pub fn copy(&self) -> PathBuf {
        self.dir.join("copy")
    }

    /// The configuration.
    pub fn file(&self) -> PathBuf {
        self.dir.join("trailsync.toml")
    }

    /// A command of the program, on this mirror.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = program()?;
        command.arg("--config").arg(self.file()).args(["--log", "warn"]).args(arguments);
        Ok(command)
    }

    /// Mirrors what is new; it must end well.
    pub fn sync(&self, scratch: &Path, server: &Server) -> Result<Run> {
        let (run, said) = measured(scratch, server, &self.command(&["sync", "--quiet"])?)?;
        ensure!(run.asked.gets > 0 || run.asked.lists > 0, "nothing was asked: {said}");
        Ok(run)
    }
}

fn secret(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
}

/// Objects below a folder, without what is ours.
pub fn count(root: &Path) -> Result<u64> {
    let (mut folders, mut files) = (vec![root.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => files += 1,
            }
        }
    }
    Ok(files)
}
