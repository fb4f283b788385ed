//! Defaults, file, environment and flags, laid over each other. The only file that knows figment.

use std::collections::BTreeMap;

use figment::value::{Dict, Empty, Map, Num, Value as Merged};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::mistake::Origin;

/// A value as it was written, before anything was checked. Has no `Debug`: it may be a secret.
#[derive(Clone)]
pub enum Raw {
    /// A string; environment and flags know nothing else.
    Text(String),
    /// A whole number of TOML.
    Integer(i64),
    /// A broken number of TOML, or one out of range.
    Float(f64),
    /// `true` or `false` of TOML.
    Flag(bool),
    /// An array.
    List(Vec<Node>),
    /// A table, or the whole.
    Table(BTreeMap<String, Node>),
}

/// A value and where it came from.
#[derive(Clone)]
pub struct Node {
    /// The value.
    pub raw: Raw,
    /// The layer that set it.
    pub origin: Origin,
}

/// Values of one origin.
pub struct Layer {
    /// Where all of them come from.
    pub origin: Origin,
    /// The values.
    pub table: BTreeMap<String, Node>,
}

impl Layer {
    /// A layer without values.
    pub fn new(origin: Origin) -> Self {
        Self { origin, table: BTreeMap::new() }
    }

    /// Adds a text at `path`; what stands in the way is replaced.
    pub fn set(&mut self, path: &[String], text: String) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut table = &mut self.table;
        for parent in parents {
            let empty = || Node { raw: Raw::Table(BTreeMap::new()), origin: self.origin.clone() };
            let node = table.entry(parent.clone()).or_insert_with(empty);
            if !matches!(node.raw, Raw::Table(_)) {
                *node = empty();
            }
            let Raw::Table(inner) = &mut node.raw else { return };
            table = inner;
        }
        table.insert(last.clone(), Node { raw: Raw::Text(text), origin: self.origin.clone() });
    }
}

/// Lays each layer over the ones before it: tables are joined key by key, all else is replaced.
///
/// The origins in the result are those of the layers; a file's lines are not known here.
pub fn merge(layers: &[Layer]) -> Node {
    let stack = layers.iter().fold(Figment::new(), |stack, layer| stack.merge(layer));
    let origins: BTreeMap<String, &Origin> =
        layers.iter().map(|layer| (layer.origin.to_string(), &layer.origin)).collect();
    let whole = stack.find_value("").unwrap_or_else(|_| Dict::new().into());
    to_node(whole, &|value| {
        let name = stack.get_metadata(value.tag()).map(|metadata| metadata.name.as_ref());
        name.and_then(|name| origins.get(name)).map_or(Origin::Default, |origin| (*origin).clone())
    })
}

impl Provider for &Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let dict = self.table.iter().map(|(key, node)| (key.clone(), to_merged(node))).collect();
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

/// Built variant by variant: figment's own conversions parse nothing, and neither does this.
fn to_merged(node: &Node) -> Merged {
    match &node.raw {
        Raw::Text(text) => Merged::from(text.as_str()),
        Raw::Integer(number) => Merged::from(*number),
        Raw::Float(number) => Merged::from(*number),
        Raw::Flag(flag) => Merged::from(*flag),
        Raw::List(items) => Merged::from(items.iter().map(to_merged).collect::<Vec<_>>()),
        Raw::Table(table) => {
            Merged::from(table.iter().map(|(key, node)| (key.clone(), to_merged(node))).collect::<Dict>())
        }
    }
}

fn to_node(value: Merged, origin_of: &impl Fn(&Merged) -> Origin) -> Node {
    let origin = origin_of(&value);
    let raw = match value {
        Merged::String(_, text) => Raw::Text(text),
        Merged::Char(_, c) => Raw::Text(c.to_string()),
        Merged::Bool(_, flag) => Raw::Flag(flag),
        Merged::Num(_, Num::F64(number)) => Raw::Float(number),
        Merged::Num(_, number) => {
            number.to_i128().and_then(|n| i64::try_from(n).ok()).map_or(Raw::Float(f64::NAN), Raw::Integer)
        }
        Merged::Empty(_, Empty::None | Empty::Unit) => Raw::Text(String::new()),
        Merged::Array(_, items) => Raw::List(items.into_iter().map(|item| to_node(item, origin_of)).collect()),
        Merged::Dict(_, dict) => {
            Raw::Table(dict.into_iter().map(|(key, value)| (key, to_node(value, origin_of))).collect())
        }
    };
    Node { raw, origin }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_layer_wins_and_says_who_it_is() {
        let layer = |origin: Origin, values: &[(&str, &str)]| {
            let mut layer = Layer::new(origin);
            for (path, text) in values {
                layer.set(&path.split('.').map(str::to_owned).collect::<Vec<_>>(), (*text).to_owned());
            }
            layer
        };
        let layers = [
            layer(Origin::Default, &[("a.b", "1"), ("a.c", "2")]),
            layer(Origin::Environment("X".into()), &[("a.b", "012")]),
        ];
        let Raw::Table(whole) = merge(&layers).raw else { panic!("not a table") };
        let Raw::Table(a) = &whole["a"].raw else { panic!("not a table") };
        assert!(matches!(&a["b"], Node { raw: Raw::Text(text), origin: Origin::Environment(_) } if text == "012"));
        assert!(matches!(&a["c"], Node { raw: Raw::Text(text), origin: Origin::Default } if text == "2"));
    }
}
