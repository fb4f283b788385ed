//! `trailsync config`: the merged configuration with its origins, or the schema of all options.

use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use crate::config::table::{self, Fallback, OPTIONAL_TABLES, OPTIONS, Opt, Showing};
use crate::config::value::{Kind, Value, show_duration};
use crate::config::{HIDDEN, Loaded, Setting};
use crate::key::Shown;

/// How `trailsync config` prints a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// TOML that can be used as a file, the origin of each value beside it.
    Toml,
    /// `{"<path>": {"value": …, "origin": "…"}}`
    Json,
}

/// Prints a configuration. Secrets are hidden in every form.
///
/// # Errors
/// When `out` cannot be written to.
pub fn print(loaded: &Loaded, form: Form, out: &mut dyn Write) -> io::Result<()> {
    match form {
        Form::Toml => print_toml(loaded, out),
        Form::Json => print_json(&to_json(loaded), out),
    }
}

/// Prints the [`schema`], for which no configuration needs to be there.
///
/// # Errors
/// When `out` cannot be written to.
pub fn print_schema(out: &mut dyn Write) -> io::Result<()> {
    print_json(&schema(), out)
}

fn print_json(value: &Json, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

fn print_toml(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    for warning in &loaded.warnings {
        writeln!(out, "# warning: {}", Shown(&warning.to_string()))?;
    }
    let mut open = String::new();
    for (path, setting) in in_order(loaded) {
        let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
        if open != table {
            writeln!(out, "{}[{table}]", if open.is_empty() && loaded.warnings.is_empty() { "" } else { "\n" })?;
            table.clone_into(&mut open);
        }
        writeln!(out, "{name} = {}  # {}", setting.shown(), setting.origin)?;
    }
    Ok(())
}

fn to_json(loaded: &Loaded) -> Json {
    let entries = in_order(loaded).map(|(path, setting)| {
        let value = match setting.option.showing {
            Showing::Never => json!(HIDDEN),
            Showing::Always | Showing::WhenRight => json_of(&setting.value),
        };
        (path.to_owned(), json!({ "value": value, "origin": setting.origin.to_string() }))
    });
    Json::Object(entries.collect())
}

/// The settings in the order of the table of options, source by source.
fn in_order(loaded: &Loaded) -> impl Iterator<Item = (&str, &Setting)> {
    let global = OPTIONS.iter().filter(|option| !option.is_of_source()).map(|option| option.path.to_owned());
    let sources =
        loaded.config.sources.keys().flat_map(|name| {
            OPTIONS.iter().filter(|option| option.is_of_source()).map(move |option| option.path_in(name))
        });
    global
        .chain(sources)
        .filter_map(|path| loaded.settings.get_key_value(&path))
        .map(|(path, setting)| (path.as_str(), setting))
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Flag(flag) => json!(flag),
        Value::Integer(number) => json!(number),
        Value::Duration(span) => json!(show_duration(*span)),
        Value::Text(text) => json!(text),
        Value::Texts(texts) => json!(texts),
        Value::Mode(bits) => json!(format!("{bits:04o}")),
        Value::Time(time) => json!(time.to_string()),
        Value::Tags(tags) => json!(tags),
        Value::Tiers(tiers) => tiers
            .iter()
            .map(|tier| json!({ "depth": show_duration(tier.depth), "every": show_duration(tier.every) }))
            .collect(),
    }
}

/// A JSON Schema (draft-07) of the file, made from the table of options.
pub fn schema() -> Json {
    let mut root = object();
    root["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    root["title"] = json!("trailsync.toml");
    for option in OPTIONS {
        describe(&mut root, option);
    }
    root["required"] = json!(["source"]);
    let source = json!({
        "type": "object",
        "description": "Sources by name: 1 to 63 of a-z, 0-9 and `-`.",
        "minProperties": 1,
        "propertyNames": { "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" },
        "additionalProperties": root["properties"]["source"]["properties"]["*"].take(),
    });
    root["properties"]["source"] = source;
    root
}

/// Puts the schema of one option at its place, with the tables on the way.
fn describe(root: &mut Json, option: &Opt) {
    let parts: Vec<&str> = option.path.split('.').collect();
    let Some((name, tables)) = parts.split_last() else { return };
    let mut place = root;
    for (depth, &table) in tables.iter().enumerate() {
        if table != "*" && is_required(&parts[..=depth].join(".")) {
            demand(place, table);
        }
        place = entry(place, table, object());
    }
    if option.default == Fallback::Required {
        demand(place, name);
    }
    entry(place, name, option_schema(option));
}

/// Whether a table must be there, since something in it must.
fn is_required(table: &str) -> bool {
    let inside = |option: &&Opt| table::is_inside(option.path, table);
    !OPTIONAL_TABLES.contains(&table)
        && OPTIONS.iter().filter(inside).any(|option| option.default == Fallback::Required)
}

fn option_schema(option: &Opt) -> Json {
    let mut schema = kind_schema(&option.kind);
    schema["description"] = json!(format!("{} Takes {}.", option.doc, option.kind.expected()));
    if let Fallback::Value(text) = option.default {
        schema["default"] = option.kind.read_text(text).map_or(Json::Null, |value| json_of(&value));
    }
    if let Some(example) = option.kind.read_text(option.example) {
        schema["examples"] = json!([json_of(&example)]);
    }
    schema
}

fn object() -> Json {
    json!({ "type": "object", "additionalProperties": false, "properties": {} })
}

fn entry<'a>(object: &'a mut Json, name: &str, new: Json) -> &'a mut Json {
    let slot = &mut object["properties"][name];
    if slot.is_null() {
        *slot = new;
    }
    slot
}

fn demand(object: &mut Json, name: &str) {
    let mut names: Vec<Json> = object["required"].as_array().cloned().unwrap_or_default();
    if !names.contains(&json!(name)) {
        names.push(json!(name));
    }
    object["required"] = json!(names);
}

fn kind_schema(kind: &Kind) -> Json {
    const SPAN: &str = "^[0-9]+[smhd]$";
    let text = json!({ "type": "string" });
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Integer { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Duration { .. } => json!({ "type": "string", "pattern": SPAN }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Text { .. } => text,
        Kind::Texts { least, .. } => json!({ "type": "array", "items": text, "minItems": least }),
        Kind::Mode { .. } => json!({ "type": "string", "pattern": "^0?[0-7]{3}$" }),
        Kind::Time => json!({ "type": "string" }),
        Kind::Tags => json!({ "type": "object", "additionalProperties": text, "maxProperties": 50 }),
        Kind::Tiers => {
            let span = json!({ "type": "string", "pattern": SPAN });
            let properties = Map::from_iter([("depth".to_owned(), span.clone()), ("every".to_owned(), span)]);
            let tier = json!({ "type": "object", "additionalProperties": false, "required": ["depth", "every"], "properties": properties });
            json!({ "type": "array", "items": tier })
        }
    }
}
