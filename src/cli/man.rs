//! `trailsync man`: the man pages, from the definition of the command line.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};

use super::Cli;

/// Options of `trailsync man`.
#[derive(Debug, Args)]
pub struct Options {
    /// Directory that gets `trailsync.1` and a page for each command; it is made where it is missing.
    pub directory: PathBuf,
}

/// Writes every page, in place of what has its name.
///
/// # Errors
/// When the directory cannot be written.
pub fn pages(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
}
