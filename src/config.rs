//! The configuration: defaults, file, environment, flags; every mistake at once.
//!
//! [`load`] lays the four over each other, checks the result against the table of options
//! ([`table::OPTIONS`]) and against the rules between them, and hands out either the typed [`Config`] or
//! every [`Mistake`] there is, each with the option's path, where the value came from, and the mend.
//!
//! The environment is never parsed: `TRAILSYNC_SOURCE__PROD__BUCKET_OWNER=012345678901` keeps its zero.
//! Secrets appear in no message and in no `Debug`.

mod build;
mod check;
mod environment;
mod file;
mod layers;
mod mistake;
pub mod options;
mod place;
mod rules;
mod section;
pub mod shape;
pub mod table;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use check::{Setting, Settings};
pub use environment::variable;
pub use mistake::{HIDDEN, Mistake, Origin, Refused};
pub use options::*;

use crate::clock::Timestamp;
use layers::{Layer, Node, Raw};

/// What a configuration is made of.
#[derive(Clone)]
pub struct Input {
    /// The TOML file, if there is one.
    pub file: Option<PathBuf>,
    /// The process's environment, which only `main` reads.
    pub environment: BTreeMap<String, String>,
    /// Flags: the path of an option and its text, such as `("log.format", "json")`.
    pub overrides: Vec<(String, String)>,
    /// The present time, to which `since` is compared.
    pub now: Timestamp,
}

impl fmt::Debug for Input {
    /// Names only: the environment of a process is full of secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let overrides: Vec<&str> = self.overrides.iter().map(|(path, _)| path.as_str()).collect();
        f.debug_struct("Input")
            .field("file", &self.file)
            .field("environment", &self.environment.keys())
            .field("overrides", &overrides)
            .finish()
    }
}

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The typed options.
    pub config: Config,
    /// What is allowed but odd.
    pub warnings: Vec<Mistake>,
    /// Every value that is set, by path, with its origin.
    pub settings: Settings,
}

/// What a configuration is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To mirror: all that it names must be there.
    Mirror,
    /// To look at what was mirrored, perhaps as somebody else: files and variables that cannot be read are warnings.
    Look,
}

/// Reads, merges and checks a configuration that is mirrored by.
///
/// # Errors
/// As for [`load_for`].
pub fn load(input: &Input) -> Result<Loaded, Refused> {
    load_for(input, Purpose::Mirror)
}

/// Reads, merges and checks a configuration.
///
/// # Errors
/// Every mistake there is. A file that is not TOML is reported alone with the mistakes in variables and
/// flags, since nothing is known about what it wanted to say.
pub fn load_for(input: &Input, purpose: Purpose) -> Result<Loaded, Refused> {
    let file = input.file.as_deref().map(file::read);
    let (file, mut mistakes) = file.map_or((None, Vec::new()), |(layer, mistakes)| (Some(layer), mistakes));
    let legible = mistakes.is_empty();
    let (variables, unusable) = environment::read(&input.environment);
    mistakes.extend(unusable);
    let (flags, unusable) = environment::read_flags(&input.overrides);
    mistakes.extend(unusable);
    if !legible {
        return Err(Refused(mistakes));
    }
    let merged = merge(file, variables, flags);
    let (mut settings, misfits) = check::check(&merged);
    mistakes.extend(misfits);
    if !has_source(&merged.raw) {
        mistakes.push(no_source());
    }
    section::derive(&mut settings);
    let verdict = rules::judge(&settings, &input.environment, input.now, purpose);
    mistakes.extend(verdict.mistakes);
    if !mistakes.is_empty() {
        return Err(Refused(mistakes));
    }
    let config = build::config(&settings).map_err(|mistake| Refused(vec![mistake]))?;
    Ok(Loaded { config, warnings: verdict.warnings, settings })
}

/// Everything that is set, the defaults of the sources that are there at the bottom.
fn merge(file: Option<Layer>, variables: Vec<Layer>, flags: Vec<Layer>) -> Node {
    let written =
        file.as_ref().map(|layer| Node { raw: Raw::Table(layer.table.clone()), origin: layer.origin.clone() });
    let mut layers = vec![Layer::new(Origin::Default)];
    layers.extend(file);
    layers.extend(variables);
    layers.extend(flags);
    layers[0] = place::defaults(&layers::merge(&layers).raw);
    let mut merged = layers::merge(&layers);
    if let Some(written) = written {
        file::restore_lines(&mut merged, &written);
    }
    merged
}

fn has_source(whole: &Raw) -> bool {
    let Raw::Table(whole) = whole else { return false };
    whole.get("source").is_some_and(|sources| !matches!(&sources.raw, Raw::Table(names) if names.is_empty()))
}

fn no_source() -> Mistake {
    Mistake::at("source", "has no source: there is nothing to mirror").mend(
        "for example `[source.prod]` with `bucket = \"example-trail-logs\"`, `region = \"eu-central-1\"` and \
         `destination = { path = \"/srv/trails/prod\" }`",
    )
}
