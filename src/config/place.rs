//! What a path of the configuration leads to.

use super::layers::{Layer, Raw};
use super::mistake::Origin;
use super::shape;
use super::table::{Fallback, OPTIONS, Opt, REFUSED, is_inside};

/// What stands at a path.
pub enum Place {
    /// An option.
    Option(&'static Opt),
    /// A table of options.
    Table,
    /// Key material in the open; the text says what to write instead.
    Refused(&'static str),
    /// Nothing.
    Nowhere,
}

/// What stands at `path`, given part by part.
pub fn at(path: &[String]) -> Place {
    let pattern = pattern(path);
    if let Some(option) = OPTIONS.iter().find(|option| option.path == pattern) {
        return Place::Option(option);
    }
    if let Some((_, instead)) = REFUSED.iter().find(|(path, _)| *path == pattern) {
        return Place::Refused(instead);
    }
    match OPTIONS.iter().any(|option| is_inside(option.path, &pattern)) {
        true => Place::Table,
        false => Place::Nowhere,
    }
}

/// The names that may follow `path`.
pub fn names_in(path: &[String]) -> Vec<&'static str> {
    let table = pattern(path);
    let rest = OPTIONS.iter().filter_map(|option| match table.is_empty() {
        true => Some(option.path),
        false => option.path.strip_prefix(table.as_str())?.strip_prefix('.'),
    });
    let mut names: Vec<&str> = rest.filter_map(|rest| rest.split('.').next()).collect();
    names.dedup();
    names
}

/// The path as the table writes it. A name that holds a dot matches nothing.
fn pattern(path: &[String]) -> String {
    let parts = path.iter().enumerate().map(|(at, part)| match (at, path[0].as_str()) {
        (1, "source") => "*",
        _ if part.contains(['.', '*']) => "?",
        _ => part.as_str(),
    });
    parts.collect::<Vec<_>>().join(".")
}

/// The options that apply to `whole`, with their full paths: those of a source once for each.
pub fn applying(whole: &Raw) -> Vec<(String, &'static Opt)> {
    let global = OPTIONS.iter().filter(|option| !option.is_of_source()).map(|option| (option.path.to_owned(), option));
    let of_sources = sources(whole).into_iter().flat_map(|(name, source)| {
        let tables = source.clone();
        OPTIONS
            .iter()
            .filter(|option| option.is_of_source())
            .filter(move |option| option.optional_table().is_none_or(|table| has_table(&tables, table)))
            .map(move |option| (option.path_in(&name), option))
    });
    global.chain(of_sources).collect()
}

/// The sources of `whole` that are tables and properly named.
fn sources(whole: &Raw) -> Vec<(String, Raw)> {
    let Raw::Table(whole) = whole else { return Vec::new() };
    let Some(Raw::Table(sources)) = whole.get("source").map(|node| &node.raw) else { return Vec::new() };
    let named = sources.iter().filter(|(name, node)| shape::source_name(name) && matches!(node.raw, Raw::Table(_)));
    named.map(|(name, node)| (name.clone(), node.raw.clone())).collect()
}

/// Whether a source has the table of this pattern (`source.*.role`).
fn has_table(source: &Raw, table: &str) -> bool {
    let mut place = Some(source);
    for name in table.split('.').skip(2) {
        place = match place {
            Some(Raw::Table(entries)) => entries.get(name).map(|node| &node.raw),
            _ => None,
        };
    }
    matches!(place, Some(Raw::Table(_)))
}

/// The layer of the defaults of everything that applies to `whole`.
pub fn defaults(whole: &Raw) -> Layer {
    let mut layer = Layer::new(Origin::Default);
    for (path, option) in applying(whole) {
        if let Fallback::Value(text) = option.default {
            layer.set(&parts(&path), text.to_owned());
        }
    }
    layer
}

/// The parts of a dotted path.
pub fn parts(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotted_name_matches_nothing() {
        let dotted = ["source", "a", "role.arn"].map(str::to_owned);
        assert!(matches!(at(&dotted), Place::Nowhere));
        assert!(matches!(at(&parts("source.a.role.arn")), Place::Option(_)));
        assert!(matches!(at(&parts("source.a.role")), Place::Table));
        assert!(matches!(at(&parts("*")), Place::Nowhere));
    }
}
