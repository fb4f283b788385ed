//! Logs on stderr: for people or as JSON, and never a secret.

use std::io::IsTerminal as _;

use tracing::Metadata;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

/// Starts logging. A second call in one process changes nothing.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| format!("log.filter: expected a filter such as `info` or `trailsync=debug,warn`, found `{}`: {error}", log.filter))?;
    let filter = filter.and(filter_fn(may_speak));
    let people = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let base = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match log.format {
        LogFormat::Json => base.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Auto | LogFormat::Human => base.with_target(false).with_ansi(people).with_filter(filter).boxed(),
    };
    // Only a second start can fail, and then the first one holds.
    let _ = tracing_subscriber::registry().with(layer).try_init();
    Ok(())
}

/// Crates that carry requests write headers and bodies at their lowest levels, and with them session tokens.
fn may_speak(metadata: &Metadata<'_>) -> bool {
    let carries_secrets = ["aws_", "hyper", "h2", "rustls", "tower", "reqwest"]
        .iter()
        .any(|name| metadata.target().starts_with(name));
    !carries_secrets || *metadata.level() <= LevelFilter::INFO
}
