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
    #[arg(long, exclusive = true)]
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
            let account = document.account.as_deref().map(|account| format!(" ({account})")).unwrap_or_default();
            let side = match document.side() {
                Side::Owner => "Account A",
                Side::Consumer => "Your account",
            };
            text += &format!("\n{side}{account}, {}\n", document.target);
            text += &format!("{}\n{:#}\n", document.attachment.instruction(), document.policy);
        }
        for note in &installation.notes {
            text += &format!("\nNote: {note}\n");
        }
        text += "\n";
    }
    text
}
