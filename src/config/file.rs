//! The TOML file, with the line of every key.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::layers::{Layer, Node, Raw};
use super::mistake::{Mistake, Origin};

/// The file's values, and every place where it is not TOML.
///
/// Only the parser's message is repeated, never the line: a secret may stand on it.
pub fn read(path: &Path) -> (Layer, Vec<Mistake>) {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&name, &text),
        Err(error) => {
            let origin = Origin::File { name: name.clone(), line: None };
            (Layer::new(origin), vec![Mistake::at(name, format!("cannot be read: {error}"))])
        }
    }
}

fn parse(name: &str, text: &str) -> (Layer, Vec<Mistake>) {
    let place = |offset: usize| Origin::File { name: name.to_owned(), line: Some(line_of(text, offset)) };
    let (document, errors) = DeTable::parse_recoverable(text);
    let mistakes = errors.iter().map(|error| {
        let origin = error.span().map_or(Origin::File { name: name.to_owned(), line: None }, |span| place(span.start));
        let mistake = Mistake::at(origin.to_string(), format!("is not TOML: {}", error.message()));
        match error.message() {
            said if said.starts_with("unexpected leading zero") => {
                mistake.mend("put account ids and modes in quotes: `\"012345678901\"`")
            }
            said if said.starts_with("string values must be quoted") => {
                mistake.mend("for example `region = \"eu-central-1\"`")
            }
            _ => mistake,
        }
    });
    let layer =
        Layer { origin: Origin::File { name: name.to_owned(), line: None }, table: table(document.get_ref(), &place) };
    (layer, mistakes.collect())
}

fn table(entries: &DeTable<'_>, place: &impl Fn(usize) -> Origin) -> BTreeMap<String, Node> {
    entries
        .iter()
        .map(|(key, value)| (key.get_ref().to_string(), node(value, place(key.span().start), place)))
        .collect()
}

fn node(value: &Spanned<DeValue<'_>>, origin: Origin, place: &impl Fn(usize) -> Origin) -> Node {
    let raw = match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Integer(number),
            Err(_) => Raw::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        },
        DeValue::Float(number) => Raw::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Datetime(time) => Raw::Text(time.to_string()),
        DeValue::Array(items) => {
            Raw::List(items.iter().map(|item| node(item, place(item.span().start), place)).collect())
        }
        DeValue::Table(entries) => Raw::Table(table(entries, place)),
    };
    Node { raw, origin }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Gives each value of `merged` that came from the file the line that it has in the file.
///
/// Layers know only which file a value is from, so the file's own nodes are looked up by path.
pub fn restore_lines(merged: &mut Node, written: &Node) {
    if matches!(merged.origin, Origin::File { .. }) {
        merged.origin = written.origin.clone();
    }
    match (&mut merged.raw, &written.raw) {
        (Raw::Table(merged), Raw::Table(written)) => {
            for (key, value) in merged {
                if let Some(written) = written.get(key) {
                    restore_lines(value, written);
                }
            }
        }
        (Raw::List(merged), Raw::List(written)) => {
            merged.iter_mut().zip(written).for_each(|(value, written)| restore_lines(value, written));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_syntax_error_is_reported_with_its_line_and_without_its_text() {
        let (_, mistakes) = parse("t.toml", "a = 012345678901\nb = canary\nexternal_id = \"canary\n");
        let said = mistakes.iter().map(|mistake| mistake.to_string()).collect::<Vec<_>>().join("\n");
        assert!(said.contains("t.toml:1") && said.contains("t.toml:2") && said.contains("t.toml:3"), "{said}");
        assert!(said.contains("quotes") && !said.contains("canary"), "{said}");
    }
}
