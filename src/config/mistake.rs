//! What is said about a configuration that cannot be used.

use std::fmt;

use crate::key::Shown;

/// What stands where a secret was found.
pub const HIDDEN: &str = "***";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The table of options.
    Default,
    /// Another option, named by its path.
    Derived(String),
    /// The configuration file, with the line where the key stands.
    File {
        /// As it was given.
        name: String,
        /// Counted from 1.
        line: Option<usize>,
    },
    /// An environment variable of this name.
    Environment(String),
    /// A command-line flag, named by the option that it sets.
    Flag(String),
}

impl Origin {
    /// Whether the value arrived as bare text, which environment and flags cannot type.
    pub(super) fn is_untyped(&self) -> bool {
        !matches!(self, Self::File { .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Derived(path) => write!(f, "default, from {}", Shown(path)),
            Self::File { name, line: None } => write!(f, "{}", Shown(name)),
            Self::File { name, line: Some(line) } => write!(f, "{}:{line}", Shown(name)),
            Self::Environment(name) => write!(f, "environment {}", Shown(name)),
            Self::Flag(path) => write!(f, "flag {}", Shown(path)),
        }
    }
}

/// One thing that is wrong, or odd, with one option.
///
/// The sentence never contains the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The option's path, such as `source.prod.bucket`, or the name of the file or variable.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
    /// Where the value came from, where there is one.
    pub origin: Option<Origin>,
    /// What would mend it, or an example of what is right.
    pub mend: Option<String>,
}

impl Mistake {
    /// A mistake at `path`.
    pub(super) fn at(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into(), origin: None, mend: None }
    }

    /// Adds where the value came from.
    pub(super) fn set_by(mut self, origin: &Origin) -> Self {
        self.origin = Some(origin.clone());
        self
    }

    /// Adds where the value came from, where that is known.
    pub(super) fn set_by_any(mut self, origin: Option<&Origin>) -> Self {
        self.origin = origin.cloned();
        self
    }

    /// Adds what would mend it.
    pub(super) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// Adds the name that was probably meant.
    pub(super) fn meant(self, nearest: Option<String>) -> Self {
        match nearest {
            Some(name) => self.mend(format!("did you mean `{name}`?")),
            None => self.mend("`trailsync config --schema` and the reference, `config/trailsync.toml`, list them all"),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Shown(&self.path), Shown(&self.problem))?;
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        match &self.mend {
            Some(mend) => write!(f, "; {}", Shown(mend)),
            None => Ok(()),
        }
    }
}

/// A configuration that was refused, with every mistake in it.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Refused(pub Vec<Mistake>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has 1 mistake:")?,
            count => write!(f, "the configuration has {count} mistakes:")?,
        }
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

/// Text as a mistake shows it: quoted, shortened, and hidden where it may be a key or a password.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    if may_be_secret(text) {
        return HIDDEN.to_owned();
    }
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}...`", &text[..end]),
        None => format!("`{text}`"),
    }
}

/// Whether text looks like a part of a key pair or a URL with a password, wherever it was pasted.
fn may_be_secret(text: &str) -> bool {
    let key_id = ["AKIA", "ASIA"].iter().any(|start| text.contains(start));
    let secret_key = text.len() == 40 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/+=".contains(&b));
    let password = text.contains("://") && text.contains('@');
    key_id || secret_key || password
}

/// The name among `names` that a typing slip away from `name`.
pub(super) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let most = (name.chars().count() / 3).clamp(1, 4);
    names
        .into_iter()
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= most)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate.to_owned())
}

/// How many single characters must change to make one name the other (Levenshtein).
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_a_slip_away_or_none() {
        let names = ["bucket", "region", "bucket_owner"];
        assert_eq!(nearest("buckte", names).as_deref(), Some("bucket"));
        assert_eq!(nearest("bucket-owner", names).as_deref(), Some("bucket_owner"));
        assert_eq!(nearest("colour", names), None);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
    }

    #[test]
    fn pasted_keys_and_passwords_are_hidden_and_long_text_is_cut() {
        assert_eq!(quoted("AKIAIOSFODNN7EXAMPLE"), HIDDEN);
        assert_eq!(quoted("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), HIDDEN);
        assert_eq!(quoted("http://me:word@proxy:3128"), HIDDEN);
        assert_eq!(quoted("admin"), "`admin`");
        assert_eq!(quoted(&"é".repeat(81)).chars().count(), 85);
    }
}
