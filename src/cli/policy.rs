//! `trailsync policy`: what each side must install, from the configuration alone.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Exit, selected};
use crate::config::{Config, Source};
use crate::error::{Class, Error, Report};
use crate::policy::cloudformation::{Needed, template};
use crate::policy::install::{Document, Principal, Side, configured_caller, installation};

/// The shape of the JSON; raised when a reader of the old one would stumble.
const SCHEMA: u32 = 1;

/// Options of `trailsync policy`.
#[derive(Debug, Args)]
pub struct Options {
    /// Only these sources.
    pub sources: Vec<String>,
    /// Who runs trailsync: an account id, or the ARN of an IAM user or role [default: the one account of `accounts`].
    #[arg(long, value_name = "ACCOUNT|ARN", value_parser = Principal::parse)]
    pub caller: Option<Principal>,
    /// Only what is for one side.
    #[arg(long, value_name = "SIDE", required_if_eq("format", "cloudformation"))]
    pub side: Option<SideName>,
    /// Text on a terminal, JSON elsewhere, or what is named.
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub format: Format,
    /// Prints a new external ID of 128 random bits instead.
    #[arg(long, conflicts_with_all = ["sources", "caller", "side", "format"])]
    pub new_external_id: bool,
}

/// Whose account a document belongs into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SideName {
    /// Account A, which owns bucket and role.
    Owner,
    /// The account that trailsync runs in.
    Consumer,
}

/// How documents are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object with all documents.
    Json,
    /// A template for one side.
    Cloudformation,
}

impl From<SideName> for Side {
    fn from(name: SideName) -> Self {
        match name {
            SideName::Owner => Self::Owner,
            SideName::Consumer => Self::Consumer,
        }
    }
}

/// Prints a new external ID: 32 hexadecimal digits of what `random` fills in.
///
/// # Errors
/// When there is no randomness, or `out` cannot be written to.
pub fn new_external_id(random: impl FnOnce(&mut [u8; 16]) -> io::Result<()>, out: &mut dyn Write) -> io::Result<()> {
    let mut bits = [0; 16];
    random(&mut bits)?;
    writeln!(out, "{}", hex::encode(bits))
}

/// Prints the documents of the selected sources.
///
/// # Errors
/// `Stream` when a source is unknown, when nobody says who the caller is, or when no template can be made.
pub fn policy(config: &Config, options: &Options, terminal: bool, out: &mut dyn Write) -> Result<Exit, Error> {
    let config = selected(config, &options.sources, "policy")?;
    let needed: Vec<Needed<'_>> = config
        .sources
        .values()
        .map(|source| Ok((source, installation(source, &caller(source, options)?))))
        .collect::<Result<_, Error>>()?;
    let side = options.side.map(Side::from);
    let wanted = |document: &&Document| side.is_none_or(|side| document.side() == side);
    let text = match (options.format, terminal) {
        (Format::Cloudformation, _) => {
            let refused = |why: String| Error::of(Class::Stream, Report::new("policy", "template", why));
            format!("{:#}\n", template(side.unwrap_or(Side::Owner), &needed).map_err(refused)?)
        }
        (Format::Json, _) | (Format::Auto, false) => format!("{:#}\n", as_json(&needed, wanted)),
        (Format::Text, _) | (Format::Auto, true) => as_text(&needed, wanted),
    };
    // A closed pipe has seen enough.
    let _ = out.write_all(text.as_bytes());
    Ok(Exit::Done)
}

fn caller(source: &Source, options: &Options) -> Result<Principal, Error> {
    options.caller.clone().or_else(|| configured_caller(source)).ok_or_else(|| {
        let why = "the configuration does not say whose account trailsync runs in";
        let mend = "add `--caller` with the account's id, or with the ARN of the user or role";
        Error::of(Class::Stream, Report::new("policy", &source.name, why).mend(mend))
    })
}

fn as_json(needed: &[Needed<'_>], wanted: impl Fn(&&Document) -> bool + Copy) -> Value {
    let documents = needed.iter().flat_map(|(_, installation)| &installation.documents).filter(wanted);
    let notes = needed.iter().flat_map(|(source, installation)| {
        installation.notes.iter().map(|note| json!({ "source": source.name, "text": note }))
    });
    json!({
        "schema": SCHEMA,
        "documents": documents.map(one_as_json).collect::<Vec<_>>(),
        "notes": notes.collect::<Vec<_>>(),
    })
}

fn one_as_json(document: &Document) -> Value {
    json!({
        "source": document.source,
        "side": document.side().word(),
        "account": document.account,
        "attachment": document.attachment.word(),
        "target": document.target,
        "instruction": document.attachment.instruction(),
        "policy": document.policy,
    })
}

fn as_text(needed: &[Needed<'_>], wanted: impl Fn(&&Document) -> bool + Copy) -> String {
    let mut text = String::new();
    for (source, installation) in needed {
        text += &format!("{}: {}\n", source.name, source.bucket);
        for document in installation.documents.iter().filter(wanted) {
            let side = match document.side() {
                Side::Owner => "Account A",
                Side::Consumer => "Your account",
            };
            text += &format!("\n{side}, {}\n{}\n", document.target, document.attachment.instruction());
            write_readably(&document.policy, 0, &mut text);
            text.push('\n');
        }
        for note in &installation.notes {
            text += &format!("\nNote: {note}\n");
        }
        text += "\n";
    }
    text
}

/// The elements of a policy in the order in which people read them.
const ORDER: [&str; 8] = ["Version", "Statement", "Sid", "Effect", "Principal", "Action", "Resource", "Condition"];

/// JSON with two spaces a level, and short lists on one line.
fn write_readably(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth + 1);
    let is_short = |value: &Value| value.to_string().len() <= 90 && depth > 1;
    match value {
        Value::Object(fields) if !is_short(value) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_by_key(|name| (ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()), *name));
            text.push_str("{\n");
            for (number, name) in names.iter().enumerate() {
                text.push_str(&format!("{indent}{}: ", json!(name)));
                write_readably(&fields[*name], depth + 1, text);
                text.push_str(if number + 1 < names.len() { ",\n" } else { "\n" });
            }
            text.push_str(&format!("{}}}", "  ".repeat(depth)));
        }
        Value::Array(items) if !is_short(value) => {
            text.push_str("[\n");
            for (number, item) in items.iter().enumerate() {
                text.push_str(&indent);
                write_readably(item, depth + 1, text);
                text.push_str(if number + 1 < items.len() { ",\n" } else { "\n" });
            }
            text.push_str(&format!("{}]", "  ".repeat(depth)));
        }
        short => text.push_str(&on_one_line(short)),
    }
}

fn on_one_line(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let inside = fields.iter().map(|(name, value)| format!("{}: {}", json!(name), on_one_line(value)));
            format!("{{ {} }}", inside.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(on_one_line).collect::<Vec<_>>().join(", ")),
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_read_is_the_same_document() {
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Sid": "A", "Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": ["x".repeat(60), "y".repeat(60)],
            "Condition": {"StringLike": {"s3:prefix": "AWSLogs/\":\",\"*"}},
        }]});
        let mut text = String::new();
        write_readably(&policy, 0, &mut text);
        let order = ["Version", "Statement", "Sid", "Effect", "Action", "Resource", "Condition"];
        let places: Vec<_> = order.iter().map(|name| text.find(&format!("\"{name}\"")).expect("there")).collect();
        assert!(places.is_sorted(), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), policy, "{text}");
    }
}
