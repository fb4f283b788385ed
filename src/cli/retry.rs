//! `trailsync retry`: lets objects in quarantine be tried again at once.

use std::io::Write;

use clap::Args;

use super::{Exit, no_such_source};
use crate::config::Config;
use crate::error::Error;
use crate::ledger::Ledger;

/// Options of `trailsync retry`.
#[derive(Debug, Args)]
pub struct Options {
    /// Only of this source.
    #[arg(long)]
    pub source: Option<String>,
    /// Only keys that start with this.
    #[arg(long, default_value = "")]
    pub prefix: String,
}

/// Marks what matches as due; the daemon, or the next `sync`, tries it at its next poll.
///
/// # Errors
/// `Fatal` when the state cannot be used.
pub async fn retry(config: &Config, options: &Options, out: &mut (dyn Write + Send)) -> Result<Exit, Error> {
    if let Some(source) = options.source.as_ref().filter(|source| !config.sources.contains_key(*source)) {
        return Err(no_such_source(config, "retry", source));
    }
    let ledger = Ledger::join(&config.state.dir).await?;
    let objects = ledger.retry(options.source.as_deref(), &options.prefix).await?;
    ledger.close().await;
    let _ = writeln!(out, "{objects} objects are tried again at the next poll");
    Ok(Exit::Done)
}
