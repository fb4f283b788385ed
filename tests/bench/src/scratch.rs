//! Where one run writes: a new directory each time, for the file system is slower where a tree was just removed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A directory that goes with its owner, unless it is to be kept.
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// A new directory below `parent`.
    pub fn new(parent: &Path, keep: bool) -> Result<Self> {
        let path = parent.join(format!("run-{:016x}", fastrand::u64(..)));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, keep })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until what was written is on disk, that writing it does not run beside what is measured.
    pub fn settle(&self) -> Result<()> {
        ensure!(Command::new("sync").arg("-f").arg(&self.path).status()?.success(), "sync failed");
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("kept: {}", self.path.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}
