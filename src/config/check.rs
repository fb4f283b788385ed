//! The merged values against the table of options: what fits, and everything that does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::environment;
use super::layers::{Node, Raw};
use super::mistake::{HIDDEN, Mistake, Origin, nearest, quoted};
use super::place::{self, Place};
use super::shape;
use super::table::{Fallback, Opt, Showing};
use super::value::Value;

/// A value that fits its option, and where it came from.
#[derive(Clone)]
pub struct Setting {
    /// The option that it sets.
    pub option: &'static Opt,
    /// The value.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

impl Setting {
    /// The value as TOML, hidden where it is a secret.
    pub fn shown(&self) -> String {
        match self.option.showing {
            Showing::Always | Showing::WhenRight => self.value.to_string(),
            Showing::Never => format!("\"{HIDDEN}\""),
        }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.shown(), self.origin)
    }
}

/// Every setting by its path.
pub type Settings = BTreeMap<String, Setting>;

/// What fits in `whole`, and every mistake: unknown names, misfits, and what is required and missing.
pub fn check(whole: &Node) -> (Settings, Vec<Mistake>) {
    let mut walk = Walk { settings: Settings::new(), mistakes: Vec::new(), seen: BTreeSet::new() };
    if let Raw::Table(entries) = &whole.raw {
        entries.iter().for_each(|(name, node)| walk.visit(vec![name.clone()], node));
    }
    walk.demand(&whole.raw);
    (walk.settings, walk.mistakes)
}

struct Walk {
    settings: Settings,
    mistakes: Vec<Mistake>,
    /// Paths that are set, rightly or not: those are not reported as missing.
    seen: BTreeSet<String>,
}

impl Walk {
    fn visit(&mut self, path: Vec<String>, node: &Node) {
        if let [section, name] = path.as_slice()
            && section == "source"
            && !shape::source_name(name)
        {
            let problem =
                format!("expected 1 to 63 of a-z, 0-9 and `-` as the name of a source, found {}", quoted(name));
            self.mistakes.push(Mistake::at("source", problem).set_by(&node.origin).mend("for example `[source.prod]`"));
            // Its options are looked at all the same, but belong to no source.
            let mut nobody = Walk { settings: Settings::new(), mistakes: Vec::new(), seen: BTreeSet::new() };
            nobody.visit_table(&path, node);
            self.mistakes.append(&mut nobody.mistakes);
            return;
        }
        let shown = path.join(".");
        match (place::at(&path), &node.raw) {
            (Place::Option(option), _) => self.set(shown, option, node),
            (Place::Table, Raw::Table(_)) => self.visit_table(&path, node),
            (Place::Table, _) => {
                let mistake = Mistake::at(&shown, "expected a table of options").set_by(&node.origin);
                let names = place::names_in(&path).join(", ");
                self.mistakes.push(mistake.mend(format!("`[{shown}]` with {names}")));
                self.seen.insert(shown);
            }
            (Place::Refused(instead), _) => {
                let mistake = Mistake::at(shown, "holds key material in the open").set_by(&node.origin);
                let mend = format!("keep it in a file or a variable and name that with {instead}; replace the key");
                self.mistakes.push(mistake.mend(mend));
            }
            (Place::Nowhere, _) => {
                let (name, table) = path.split_last().map_or(("", &path[..]), |(name, table)| (name.as_str(), table));
                let near = nearest(name, place::names_in(table));
                self.mistakes.push(Mistake::at(shown, "is no option").set_by(&node.origin).meant(near));
            }
        }
    }

    fn visit_table(&mut self, path: &[String], node: &Node) {
        let Raw::Table(entries) = &node.raw else { return };
        for (name, node) in entries {
            self.visit(path.iter().chain([name]).cloned().collect(), node);
        }
    }

    fn set(&mut self, path: String, option: &'static Opt, node: &Node) {
        match option.kind.read(node) {
            Ok(value) => {
                let setting = Setting { option, value, origin: node.origin.clone() };
                self.settings.insert(path.clone(), setting);
            }
            Err(misfit) => {
                let found = match option.showing {
                    Showing::Always => misfit.found,
                    Showing::WhenRight | Showing::Never => HIDDEN.to_owned(),
                };
                let problem = format!("expected {}, found {found}", option.kind.expected());
                let hint = misfit.hint.map_or_else(String::new, |hint| format!("{hint}: "));
                let mend = format!("{hint}for example {}", example(option, &node.origin));
                self.mistakes.push(Mistake::at(&path, problem).set_by(&node.origin).mend(mend));
            }
        }
        self.seen.insert(path);
    }

    /// Reports what is required and not there.
    fn demand(&mut self, whole: &Raw) {
        for (path, option) in place::applying(whole) {
            let hidden_by_table = self.seen.iter().any(|seen| path.starts_with(&format!("{seen}.")));
            let demanded = match option.default {
                Fallback::Required => true,
                Fallback::Unless(other) => !self.seen.contains(&beside(&path, other)),
                _ => false,
            };
            if demanded && !self.seen.contains(&path) && !hidden_by_table {
                let file = example(option, &Origin::File { name: String::new(), line: None });
                let (table, name) = path.rsplit_once('.').unwrap_or(("", &path));
                let mend = format!(
                    "`{name} = {}` under `[{table}]`, or {}",
                    file.trim_matches('`'),
                    environment::variable(&path)
                );
                self.mistakes.push(Mistake::at(&path, "is required and missing").mend(mend));
            }
        }
    }
}

/// The path of the option `name` in the same table.
fn beside(path: &str, name: &str) -> String {
    path.rsplit_once('.').map_or_else(|| name.to_owned(), |(table, _)| format!("{table}.{name}"))
}

/// A good value in the form in which `origin` writes it.
fn example(option: &Opt, origin: &Origin) -> String {
    let typed = option.kind.read_text(option.example).filter(|_| !origin.is_untyped());
    typed.map_or_else(|| format!("`{}`", option.example), |value| format!("`{value}`"))
}
