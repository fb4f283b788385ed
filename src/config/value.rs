//! The kinds of values that options take, and how each is read.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use super::layers::{Node, Raw};
use super::mistake::quoted;
use super::options::Tier;
use super::shape;
use crate::clock::Timestamp;

/// What an option takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number, both bounds included.
    Integer { least: u64, most: u64 },
    /// A time span such as `15m`, with the bounds (both included) in the same form.
    Duration { least: &'static str, most: &'static str },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text of a certain shape.
    Text { expected: &'static str, fits: fn(&str) -> bool },
    /// Texts of a certain shape, at least so many; without doubles.
    Texts { expected: &'static str, fits: fn(&str) -> bool, least: usize },
    /// Permission bits in octal that contain `needs`.
    Mode { needs: u32, expected: &'static str },
    /// A moment, or the start of a UTC day.
    Time,
    /// Tiers of lookback.
    Tiers,
    /// Session tags.
    Tags,
}

/// A value that was read and fits its option.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// See [`Kind::Flag`].
    Flag(bool),
    /// See [`Kind::Integer`].
    Integer(u64),
    /// See [`Kind::Duration`].
    Duration(Duration),
    /// See [`Kind::Text`] and [`Kind::Choice`].
    Text(String),
    /// See [`Kind::Texts`].
    Texts(Vec<String>),
    /// See [`Kind::Mode`].
    Mode(u32),
    /// See [`Kind::Time`].
    Time(Timestamp),
    /// See [`Kind::Tiers`].
    Tiers(Vec<Tier>),
    /// See [`Kind::Tags`].
    Tags(BTreeMap<String, String>),
}

/// Why a value does not fit: what was found, and what would be typed differently.
pub struct Misfit {
    /// In the operator's words; hidden where it may be a secret.
    pub found: String,
    /// A remark that goes before the example.
    pub hint: Option<&'static str>,
}

impl Kind {
    /// What fits, for people.
    pub fn expected(&self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Integer { least, most } => format!("a whole number from {least} to {most}"),
            Self::Duration { least, most } => {
                format!("a time span with a unit (s, m, h or d), from \"{least}\" to \"{most}\"")
            }
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Text { expected, .. } => (*expected).to_owned(),
            Self::Texts { expected, least: 0, .. } => format!("a list of {expected}"),
            Self::Texts { expected, .. } => format!("a list of at least one {expected}"),
            Self::Mode { expected, .. } => (*expected).to_owned(),
            Self::Time => "a time such as \"2024-01-31T00:00:00Z\" or a day such as \"2024-01-31\"".to_owned(),
            Self::Tiers => "a list of tiers, each with the time spans `depth` and `every`".to_owned(),
            Self::Tags => "up to 50 tags: keys of 1 to 128 and values of 0 to 256 letters, digits, spaces and \
                           _.:/=+-@; keys differ in more than case and do not start with `aws:`"
                .to_owned(),
        }
    }

    /// Reads a value as it was written.
    ///
    /// In a file every value has its own type. Environment, flags and defaults are text: numbers and
    /// words are read from it, lists are parted by commas, and nothing else is guessed.
    ///
    /// # Errors
    /// Says what was found instead.
    pub fn read(&self, node: &Node) -> Result<Value, Misfit> {
        match (&node.raw, self) {
            (Raw::Text(text), _) if node.origin.is_untyped() => self.read_text(text).ok_or_else(|| misfit(&node.raw)),
            (Raw::Flag(flag), Self::Flag) => Ok(Value::Flag(*flag)),
            (Raw::Integer(number), Self::Integer { least, most }) => {
                let fitting = u64::try_from(*number).ok().filter(|n| (least..=most).contains(&n));
                fitting.map(Value::Integer).ok_or_else(|| misfit(&node.raw))
            }
            (Raw::Text(_), Self::Flag | Self::Integer { .. }) => Err(hinted(&node.raw, "write it without quotes")),
            (Raw::Text(_), Self::Texts { .. } | Self::Tiers) => {
                Err(hinted(&node.raw, "write it as a list in brackets"))
            }
            (Raw::Text(text), _) => self.read_text(text).ok_or_else(|| misfit(&node.raw)),
            (Raw::Integer(_) | Raw::Float(_), Self::Duration { .. }) => {
                Err(hinted(&node.raw, "give it a unit and put it in quotes"))
            }
            (Raw::Integer(_) | Raw::Float(_), Self::Text { .. } | Self::Mode { .. } | Self::Time) => {
                Err(hinted(&node.raw, "put it in quotes"))
            }
            (Raw::List(items), Self::Texts { fits, least, .. }) => {
                let texts = items.iter().map(|item| one_text(item, *fits)).collect::<Result<Vec<_>, _>>()?;
                enough(texts, *least).ok_or_else(|| misfit(&node.raw))
            }
            (Raw::List(items), Self::Tiers) => {
                items.iter().map(one_tier).collect::<Result<Vec<_>, _>>().map(Value::Tiers)
            }
            (Raw::Table(entries), Self::Tags) => {
                let tags = entries.iter().map(one_tag).collect::<Result<Vec<_>, _>>()?;
                fitting_tags(tags).ok_or_else(|| misfit(&node.raw))
            }
            (raw, _) => Err(misfit(raw)),
        }
    }

    /// Reads a value from text alone: defaults, environment and flags.
    pub fn read_text(&self, text: &str) -> Option<Value> {
        match self {
            Self::Flag => text.parse().ok().map(Value::Flag),
            Self::Integer { least, most } => {
                let number = text.parse().ok().filter(|n| (least..=most).contains(&n));
                number.filter(|_| text.bytes().all(|b| b.is_ascii_digit())).map(Value::Integer)
            }
            Self::Duration { least, most } => {
                let (least, most) = (duration(least)?, duration(most)?);
                duration(text).filter(|span| (least..=most).contains(span)).map(Value::Duration)
            }
            Self::Choice(words) => words.contains(&text).then(|| Value::Text(text.to_owned())),
            Self::Text { fits, .. } => fits(text).then(|| Value::Text(text.to_owned())),
            Self::Texts { fits, least, .. } => {
                let texts: Vec<String> = parts(text).map(str::to_owned).collect();
                enough(texts, *least).filter(|_| parts(text).all(fits))
            }
            Self::Mode { needs, .. } => mode(text).filter(|bits| bits & needs == *needs).map(Value::Mode),
            Self::Time => time(text).map(Value::Time),
            Self::Tiers => parts(text).map(tier).collect::<Option<Vec<_>>>().map(Value::Tiers),
            Self::Tags => {
                let tags = parts(text).map(|tag| tag.split_once('=').map(|(k, v)| (k.trim().to_owned(), v.to_owned())));
                fitting_tags(tags.collect::<Option<Vec<_>>>()?)
            }
        }
    }
}

/// The parts between commas, trimmed; none of an empty text.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(move |part| !(part.is_empty() && text.trim().is_empty()))
}

fn one_text(item: &Node, fits: fn(&str) -> bool) -> Result<String, Misfit> {
    match &item.raw {
        Raw::Text(text) if fits(text) => Ok(text.clone()),
        Raw::Integer(_) | Raw::Float(_) => Err(hinted(&item.raw, "put it in quotes")),
        raw => Err(misfit(raw)),
    }
}

/// The texts in the order of their first mention, each once.
fn enough(texts: Vec<String>, least: usize) -> Option<Value> {
    let mut once: Vec<String> = Vec::with_capacity(texts.len());
    for text in texts {
        if !once.contains(&text) {
            once.push(text);
        }
    }
    (once.len() >= least).then_some(Value::Texts(once))
}

fn one_tier(item: &Node) -> Result<Tier, Misfit> {
    let Raw::Table(entries) = &item.raw else { return Err(misfit(&item.raw)) };
    let unknown = entries.keys().find(|key| !["depth", "every"].contains(&key.as_str()));
    if let Some(key) = unknown {
        return Err(Misfit { found: format!("the key {}", quoted(key)), hint: None });
    }
    let span = |key: &str| match entries.get(key) {
        Some(Node { raw: Raw::Text(text), .. }) => duration(text).ok_or_else(|| misfit(&Raw::Text(text.clone()))),
        Some(Node { raw, .. }) => Err(hinted(raw, "give it a unit and put it in quotes")),
        None => Err(Misfit { found: format!("a tier without `{key}`"), hint: None }),
    };
    Ok(Tier { depth: span("depth")?, every: span("every")? })
}

fn one_tag((key, value): (&String, &Node)) -> Result<(String, String), Misfit> {
    match &value.raw {
        Raw::Text(value) => Ok((key.clone(), value.clone())),
        Raw::Integer(_) | Raw::Float(_) | Raw::Flag(_) => Err(hinted(&value.raw, "put it in quotes")),
        raw => Err(misfit(raw)),
    }
}

/// STS keeps the case of tag keys and ignores it when it compares them.
fn fitting_tags(tags: Vec<(String, String)>) -> Option<Value> {
    let count = tags.len();
    let folded: std::collections::BTreeSet<String> = tags.iter().map(|(key, _)| key.to_lowercase()).collect();
    let fit = tags.iter().all(|(key, value)| shape::tag_key(key) && shape::tag_value(value));
    (fit && count <= 50 && folded.len() == count).then(|| Value::Tags(tags.into_iter().collect()))
}

fn misfit(raw: &Raw) -> Misfit {
    let found = match raw {
        Raw::Text(text) => quoted(text),
        Raw::Integer(number) => format!("the number `{number}`"),
        Raw::Float(number) => format!("the number `{number}`"),
        Raw::Flag(flag) => format!("`{flag}`"),
        Raw::List(items) if items.is_empty() => "an empty list".to_owned(),
        Raw::List(_) => "a list".to_owned(),
        Raw::Table(_) => "a table".to_owned(),
    };
    Misfit { found, hint: None }
}

fn hinted(raw: &Raw, hint: &'static str) -> Misfit {
    Misfit { hint: Some(hint), ..misfit(raw) }
}

/// A number and one unit: `90s`, `15m`, `2h`, `35d`. At most ten thousand days.
pub fn duration(text: &str) -> Option<Duration> {
    const LONGEST: u64 = 10_000 * 86_400;
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let number: u64 = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    number.checked_mul(unit).filter(|seconds| *seconds <= LONGEST).map(Duration::from_secs)
}

/// A duration in its largest whole unit, as [`duration`] reads it.
pub fn show_duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    match units.iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit)) {
        Some((unit, letter)) => format!("{}{letter}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

fn tier(text: &str) -> Option<Tier> {
    let (depth, every) = text.split_once('/')?;
    Some(Tier { depth: duration(depth)?, every: duration(every)? })
}

fn mode(text: &str) -> Option<u32> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(text, 8).ok().filter(|bits| octal && *bits <= 0o777)
}

fn time(text: &str) -> Option<Timestamp> {
    let day = jiff::civil::Date::strptime("%Y-%m-%d", text).ok().filter(|_| text.len() == 10);
    match day {
        Some(day) => jiff::tz::TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok(),
        None => text.parse().ok(),
    }
}

impl fmt::Display for Value {
    /// As TOML, so that what is shown can be used as it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Duration(span) => write!(f, "\"{}\"", show_duration(*span)),
            Self::Text(text) => toml_text(text, f),
            Self::Mode(bits) => write!(f, "\"{bits:04o}\""),
            Self::Time(time) => write!(f, "\"{time}\""),
            Self::Texts(texts) => listed(texts, f, |text, f| toml_text(text, f)),
            Self::Tiers(tiers) => listed(tiers, f, |tier, f| {
                let (depth, every) = (show_duration(tier.depth), show_duration(tier.every));
                write!(f, "{{ depth = \"{depth}\", every = \"{every}\" }}")
            }),
            Self::Tags(tags) if tags.is_empty() => f.write_str("{}"),
            Self::Tags(tags) => {
                f.write_str("{ ")?;
                for (at, (key, value)) in tags.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    toml_text(key, f)?;
                    f.write_str(" = ")?;
                    toml_text(value, f)?;
                }
                f.write_str(" }")
            }
        }
    }
}

fn listed<T>(
    items: &[T],
    f: &mut fmt::Formatter<'_>,
    show: impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    f.write_char('[')?;
    for (at, item) in items.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { ", " })?;
        show(item, f)?;
    }
    f.write_char(']')
}

/// A basic string of TOML; everything that could move a cursor is escaped.
fn toml_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if crate::key::harmless(c) => f.write_char(c)?,
            c => write!(f, "\\U{:08X}", u32::from(c))?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_one_unit() {
        let read = |text: &str| duration(text).map(|span| span.as_secs());
        assert_eq!(
            ["90s", "15m", "2h", "35d", "0s"].map(read),
            [Some(90), Some(900), Some(7200), Some(3_024_000), Some(0)]
        );
        for text in ["", "15", "m", "1.5h", "-1s", "+1s", "1h30m", "1 h", "1H", "99999999999999999999d", "10001d", "1é"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        for text in ["90s", "15m", "2h", "35d", "0s", "25h"] {
            assert_eq!(duration(text).map(show_duration).as_deref(), Some(text));
        }
    }

    #[test]
    fn days_start_at_midnight_utc() {
        assert_eq!(time("2024-02-29"), time("2024-02-29T00:00:00Z"));
        assert_eq!(time("2024-02-29T01:00:00+01:00"), time("2024-02-29"));
        assert_eq!(["2024-02-30", "2024-1-1", "yesterday", "2024-01-01T00:00:00"].map(time), [None; 4]);
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(["0640", "750", "640"].map(mode), [Some(0o640), Some(0o750), Some(0o640)]);
        assert_eq!(["640o", "1777", "0o640", "+640", "89", ""].map(mode), [None; 6]);
    }

    #[test]
    fn an_empty_text_is_an_empty_list_and_a_stray_comma_is_none() {
        let list = Kind::Texts { expected: "account ids", fits: shape::account, least: 0 };
        assert!(list.read_text("").is_some_and(|value| value == Value::Texts(vec![])));
        assert!(
            list.read_text("012345678901, 012345678901")
                .is_some_and(|v| v == Value::Texts(vec!["012345678901".into()]))
        );
        assert!(list.read_text("012345678901,").is_none());
    }

    #[test]
    fn shown_text_is_toml_that_reads_back() {
        let odd = "a\"b\\c\u{202e}\x1b\n\u{10ffff}é";
        let shown = format!("x = {}", Value::Text(odd.into()));
        assert!(!shown.contains(['\n', '\x1b', '\u{202e}']));
        let table: toml::Table = shown.parse().expect("TOML");
        assert_eq!(table["x"].as_str(), Some(odd));
    }
}
