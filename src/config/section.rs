//! A view of the settings of one source, or of those that concern them all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::{Setting, Settings};
use super::mistake::{Mistake, Origin};
use super::options::Tier;
use super::place::{self, Place};
use super::table::Fallback;
use super::value::Value;
use crate::clock::Timestamp;

/// The settings below one path.
#[derive(Clone, Copy)]
pub struct Section<'a> {
    settings: &'a Settings,
    /// The source's name, or nothing for the settings that concern all.
    pub source: Option<&'a str>,
    /// The table of the source that names are looked up in, with its dot; empty for its own.
    below: &'static str,
}

impl<'a> Section<'a> {
    /// The settings that concern all sources.
    pub fn global(settings: &'a Settings) -> Self {
        Self { settings, source: None, below: "" }
    }

    /// Each source's settings, by the order of their names.
    pub fn sources(settings: &'a Settings) -> Vec<Self> {
        let names: BTreeSet<&str> =
            settings.keys().filter_map(|path| path.strip_prefix("source.")?.split('.').next()).collect();
        names.into_iter().map(|name| Self { settings, source: Some(name), below: "" }).collect()
    }

    /// The settings of this source's destination, which has a role, credentials and endpoints of its own.
    pub fn destination(&self) -> Self {
        Self { below: "destination.", ..*self }
    }

    /// The full path of `name`.
    pub fn path(&self, name: &str) -> String {
        let below = self.below;
        self.source.map_or_else(|| name.to_owned(), |source| format!("source.{source}.{below}{name}"))
    }

    /// The setting at `name`, when there is a good one.
    pub fn get(&self, name: &str) -> Option<&'a Setting> {
        self.settings.get(&self.path(name))
    }

    /// Where the value at `name` came from.
    pub fn origin(&self, name: &str) -> Option<&'a Origin> {
        self.get(name).map(|setting| &setting.origin)
    }

    /// Whether there is a table at `name` with anything in it, be it a default.
    pub fn has(&self, name: &str) -> bool {
        let below = format!("{}.", self.path(name));
        self.settings.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below)).next().is_some()
    }

    /// A text, when there is a good one.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list of texts, when there is a good one.
    pub fn texts(&self, name: &str) -> Option<&'a [String]> {
        match self.value(name)? {
            Value::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    /// A time span, when there is a good one.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.value(name)? {
            Value::Duration(span) => Some(*span),
            _ => None,
        }
    }

    /// A whole number, when there is a good one.
    pub fn integer(&self, name: &str) -> Option<u64> {
        match self.value(name)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// Yes or no, when there is a good answer.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    /// Permission bits, when there are good ones.
    pub fn mode(&self, name: &str) -> Option<u32> {
        match self.value(name)? {
            Value::Mode(bits) => Some(*bits),
            _ => None,
        }
    }

    /// A moment, when there is a good one.
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        match self.value(name)? {
            Value::Time(time) => Some(*time),
            _ => None,
        }
    }

    /// Tiers of lookback, when they are good.
    pub fn tiers(&self, name: &str) -> Option<&'a [Tier]> {
        match self.value(name)? {
            Value::Tiers(tiers) => Some(tiers),
            _ => None,
        }
    }

    /// Session tags, when they are good.
    pub fn tags(&self, name: &str) -> Option<&'a BTreeMap<String, String>> {
        match self.value(name)? {
            Value::Tags(tags) => Some(tags),
            _ => None,
        }
    }

    /// What is said when a value that the program needs is not there.
    pub fn missing(&self, name: &str) -> Mistake {
        Mistake::at(self.path(name), "is required and missing")
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.get(name).map(|setting| &setting.value)
    }
}

/// Fills in what follows from other options: the bucket's owner and the region of STS.
pub fn derive(settings: &mut Settings) {
    let derived: Vec<(String, Setting)> = Section::sources(settings)
        .iter()
        .flat_map(|source| [derived_owner(source), derived_sts_region(source)])
        .flatten()
        .collect();
    settings.extend(derived);
}

/// Account A owns role and bucket, unless somebody says otherwise.
fn derived_owner(source: &Section<'_>) -> Option<(String, Setting)> {
    let (_, account) = super::shape::role_parts(source.text("role.arn")?)?;
    derived(source, "bucket_owner", account)
}

fn derived_sts_region(source: &Section<'_>) -> Option<(String, Setting)> {
    source.has("role").then_some(())?;
    derived(source, "role.sts_region", source.text("region")?)
}

fn derived(source: &Section<'_>, name: &str, text: &str) -> Option<(String, Setting)> {
    let path = source.path(name);
    let Place::Option(option) = place::at(&place::parts(&path)) else { return None };
    let Fallback::From(from) = option.default else { return None };
    let origin = Origin::Derived(source.path(from));
    let setting = Setting { option, value: Value::Text(text.to_owned()), origin };
    source.get(name).is_none().then_some((path, setting))
}
