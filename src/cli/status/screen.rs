//! How the state is written: once, in place on a terminal, a line for each change, or a document for each.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, IsTerminal as _};

use indicatif::HumanBytes;

use super::{Options, json, name, proven, table};
use crate::clock::Timestamp;
use crate::status::{Account, Status, Works};

/// How the state is written, look after look.
pub(super) enum Screen {
    /// Once.
    Once { json: bool, streams: bool },
    /// In place: each look over the one before.
    InPlace { streams: bool, began: bool },
    /// A line for each account that changed, and one for the whole.
    Lines(Told),
    /// A document a line, when something changed.
    Documents { json: bool, told: Option<u64> },
}

/// What the lines have told.
#[derive(Default)]
pub(super) struct Told {
    summary: String,
    accounts: HashMap<String, String>,
}

impl Screen {
    pub(super) fn of(options: &Options) -> Self {
        let streams = options.streams;
        match (options.follow, options.watch_json) {
            (_, true) => Self::Documents { json: false, told: None },
            (true, _) if options.json => Self::Documents { json: true, told: None },
            (true, _) if io::stdout().is_terminal() => Self::InPlace { streams, began: false },
            (true, _) => Self::Lines(Told::default()),
            (false, false) => Self::Once { json: options.json, streams },
        }
    }

    pub(super) fn goes_on(&self) -> bool {
        !matches!(self, Self::Once { .. })
    }

    /// What is written for this look.
    pub(super) fn next(&mut self, status: &Status) -> String {
        match self {
            Self::Once { json: true, .. } => json(status),
            Self::Once { streams, .. } => table(status, *streams),
            Self::InPlace { streams, began } => {
                in_place(&table(status, *streams), height(), !std::mem::replace(began, true))
            }
            Self::Lines(told) => told.lines(status),
            // `--follow --json` writes every look, as it always has.
            Self::Documents { json: true, .. } => json(status),
            Self::Documents { told, .. } => match fingerprint(status) {
                same if told.replace(same) == Some(same) => String::new(),
                _ => json(status),
            },
        }
    }

    /// Leaves the terminal as it was.
    pub(super) fn end(&self) -> &'static str {
        if matches!(self, Self::InPlace { .. }) { "\x1b[?25h\x1b[?7h" } else { "" }
    }
}

/// Lines of the terminal, where it tells.
fn height() -> Option<usize> {
    rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0)
}

/// Writes each line over the one before, so that nothing flickers; what was longer is erased. Lines are not wrapped, and
/// what does not fit is left out: the worst comes first.
fn in_place(text: &str, height: Option<usize>, first: bool) -> String {
    let begin = if first { "\x1b[?25l\x1b[?7l\x1b[H\x1b[2J" } else { "\x1b[H" };
    let (lines, room) = (text.lines().count(), height.map_or(usize::MAX, |height| height.saturating_sub(2)));
    let mut shown: String = text.lines().take(room).map(|line| format!("{line}\x1b[K\n")).collect();
    if lines > room {
        shown += &format!("… {} more lines\x1b[K", lines - room);
    }
    format!("{begin}{shown}\x1b[J")
}

/// A hash of all but the time and what only grows with it.
fn fingerprint(status: &Status) -> u64 {
    let mut still = serde_json::to_value(status).unwrap_or_default();
    forget(&mut still);
    let mut hasher = DefaultHasher::new();
    still.to_string().hash(&mut hasher);
    hasher.finish()
}

fn forget(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|name, _| {
                !matches!(name.as_str(), "at" | "summary" | "lag_seconds" | "since" | "turning_since")
            });
            fields.values_mut().for_each(forget);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(forget),
        _ => {}
    }
}

impl Told {
    /// A line each for the whole and for every account that are not as they were told.
    fn lines(&mut self, status: &Status) -> String {
        let mut text = String::new();
        let at = status.at.strftime("%Y-%m-%dT%H:%M:%SZ");
        // The age in the sentence grows by itself.
        let summary = status.summary.split("; newest").next().unwrap_or_default().to_owned();
        if self.summary != summary {
            text += &format!("{at} {}\n", status.summary);
            self.summary = summary;
        }
        for account in &status.accounts {
            let (name, told) = (name(account), line(account));
            if self.accounts.get(&name) != Some(&told) {
                text += &format!("{at} {name} {told}\n");
                self.accounts.insert(name, told);
            }
        }
        text
    }
}

/// An account in a line, without what only grows with time.
fn line(account: &Account) -> String {
    let progress = &account.progress;
    let time = |at: Option<Timestamp>| at.map_or_else(|| "never".into(), |at| at.to_string());
    let mut text = format!(
        "{}: listed through {}, proven through {}, {} objects, {}, {} failed, {} in quarantine",
        progress.condition,
        time(progress.listed_through),
        proven(&progress.proof),
        progress.objects,
        HumanBytes(progress.bytes),
        progress.failing,
        progress.quarantined,
    );
    for health in account.health.iter().filter(|health| health.state == Works::Failing) {
        text += &format!("; {} fails", health.hop);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::CheckpointRow;
    use crate::status::Rows;

    fn status(objects: u64, second: u8) -> Status {
        let row = CheckpointRow {
            source: "acme".into(),
            account: "222222222222".into(),
            objects,
            listed_through: "2026-03-10T12:00:00Z".parse().ok(),
            newest_object: "2026-03-10T11:59:00Z".parse().ok(),
            ..CheckpointRow::default()
        };
        let rows = Rows { checkpoints: vec![row], ..Rows::default() };
        Status::of(rows, format!("2026-03-10T12:00:{second:02}Z").parse().unwrap())
    }

    #[test]
    fn where_there_is_no_terminal_only_what_changed_is_a_line() {
        let mut screen = Screen::Lines(Told::default());
        let first = screen.next(&status(3, 1));
        assert_eq!(first.lines().count(), 2, "{first}");
        assert!(first.starts_with("2026-03-10T12:00:01Z All 1 accounts current; newest object"), "{first}");
        assert_eq!(screen.next(&status(3, 59)), "", "time alone is no news");
        let then = screen.next(&status(4, 59));
        assert!(
            then.starts_with("2026-03-10T12:00:59Z acme/222222222222 current: ") && then.contains("4 objects"),
            "{then}"
        );
        assert!(!first.contains('\x1b') && !then.contains('\x1b'));
    }

    #[test]
    fn documents_are_lines_and_come_only_when_something_changed() {
        let mut screen = Screen::Documents { json: false, told: None };
        let first = screen.next(&status(3, 1));
        assert_eq!((first.lines().count(), first.ends_with("}\n")), (1, true));
        assert_eq!(screen.next(&status(3, 30)), "");
        assert!(screen.next(&status(4, 31)).contains("\"objects\":4"));
    }

    #[test]
    fn in_place_nothing_is_cleared_but_what_was_longer() {
        assert_eq!(in_place("a\nb\n", None, false), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(in_place("a\nb\nc\n", Some(3), false), "\x1b[Ha\x1b[K\n… 2 more lines\x1b[K\x1b[J");
        let mut screen = Screen::InPlace { streams: false, began: false };
        assert!(screen.next(&status(3, 1)).contains("\x1b[2J"));
        assert!(!screen.next(&status(3, 2)).contains("\x1b[2J"));
        assert_eq!(screen.end(), "\x1b[?25h\x1b[?7h");
    }
}
