//! A cell a day for the last ninety days: what is here of each, and what is proved of it.

use std::collections::BTreeMap;

use crate::clock::{Timestamp, shift};
use crate::layout::Day;
use crate::ledger::Mark;
use crate::prove::cover::Cover;
use crate::status::Progress;

/// Days in a calendar.
const DAYS: i64 = 90;
const DAY_SECONDS: i64 = 86_400;
/// The last logs of a day are named by a digest of the next day's first hours.
const NAMED_LATER_SECONDS: i64 = 3600;
/// Days that a summary names of each kind.
const NAMED: usize = 5;
/// Alarms which say that what is here is not what was written, or that nobody vouches for it.
pub const ALTERED: [&str; 6] =
    ["altered", "bad_signature", "malformed_digest", "rotten", "unknown_key", "unreferenced"];
/// What says that something which was there is not here.
pub const MISSING: [&str; 3] = ["lost", "missing", "not mirrored"];

/// How a day is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Before the first object.
    Before,
    /// Digests prove that nothing was written.
    ProvenQuiet,
    /// Digests prove that all is here as it was written.
    Proven,
    /// Listed, and nothing is there.
    Quiet,
    /// All that was listed is here.
    Mirrored,
    /// Not over, or not listed to its end.
    Busy,
    /// Nothing is known.
    Pending,
    /// Digests are missing.
    Gap,
    /// Something is not here.
    Missing,
    /// Something is not what was written.
    Altered,
}

/// The last days of one stream, oldest first, today last.
pub struct Calendar {
    /// A cell each.
    pub cells: Vec<Cell>,
    /// The same in words.
    pub summary: String,
}

/// One day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Which.
    pub day: Day,
    /// How it is.
    pub state: State,
    /// Objects, and what is wrong with how many.
    pub note: String,
}

/// What a stream's days are judged by.
pub struct Facts {
    /// Objects by day.
    pub objects: Vec<(Day, u64)>,
    /// The first day with any.
    pub first: Option<Day>,
    /// What is wrong, by day.
    pub marks: Vec<Mark>,
    /// What its chains prove.
    pub cover: Cover,
}

/// The first day that a calendar at this time shows.
pub fn first_day(now: Timestamp) -> Day {
    Day::at(shift(now, -(DAYS - 1) * DAY_SECONDS))
}

impl State {
    /// Those that a legend explains, with their words.
    pub const ALL: [Self; 10] = [
        Self::Proven,
        Self::Mirrored,
        Self::ProvenQuiet,
        Self::Quiet,
        Self::Busy,
        Self::Pending,
        Self::Before,
        Self::Gap,
        Self::Missing,
        Self::Altered,
    ];

    /// The class that colours it.
    pub fn class(self) -> &'static str {
        match self {
            Self::Before => "no",
            Self::ProvenQuiet => "pq",
            Self::Proven => "pr",
            Self::Quiet => "qu",
            Self::Mirrored => "mi",
            Self::Busy => "bu",
            Self::Pending => "pe",
            Self::Gap => "ga",
            Self::Missing => "ms",
            Self::Altered => "al",
        }
    }

    /// Its words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Before => "before the first object",
            Self::ProvenQuiet => "proven quiet",
            Self::Proven => "proven",
            Self::Quiet => "listed, nothing there",
            Self::Mirrored => "mirrored",
            Self::Busy => "in progress",
            Self::Pending => "not listed",
            Self::Gap => "gap: digests are missing",
            Self::Missing => "missing objects",
            Self::Altered => "altered",
        }
    }
}

impl Calendar {
    /// What is known of a stream's days.
    pub fn of(progress: &Progress, facts: &Facts, now: Timestamp) -> Self {
        let objects: BTreeMap<Day, u64> = facts.objects.iter().copied().collect();
        let cells = (0..DAYS).rev().map(|back| {
            let day = Day::at(shift(now, -back * DAY_SECONDS));
            cell(progress, facts, day, objects.get(&day).copied().unwrap_or(0))
        });
        Self::with(cells.collect())
    }

    /// The worst of several streams, day by day.
    pub fn all(streams: &[Self]) -> Self {
        let (first, rest) = match streams.split_first() {
            Some((first, rest)) => (first.cells.clone(), rest),
            None => return Self::with(Vec::new()),
        };
        let worse = |(mut worst, cell): (Cell, &Cell)| {
            if cell.state > worst.state {
                worst = Cell { note: String::new(), ..cell.clone() };
            }
            Cell { note: String::new(), ..worst }
        };
        let cells = rest.iter().fold(first, |cells, next| cells.into_iter().zip(&next.cells).map(worse).collect());
        Self::with(cells.into_iter().map(|cell| Cell { note: String::new(), ..cell }).collect())
    }

    fn with(cells: Vec<Cell>) -> Self {
        let summary = summary(&cells);
        Self { cells, summary }
    }

    /// The worst of its days.
    pub fn worst(&self) -> Option<State> {
        self.cells.iter().map(|cell| cell.state).max()
    }
}

fn cell(progress: &Progress, facts: &Facts, day: Day, objects: u64) -> Cell {
    let mut note = if objects > 0 { format!(", {objects} objects") } else { String::new() };
    for mark in facts.marks.iter().filter(|mark| mark.day == day) {
        note += &format!(", {} {}", mark.count, mark.kind.replace('_', " "));
    }
    Cell { day, state: state(progress, facts, day, objects), note }
}

fn state(progress: &Progress, facts: &Facts, day: Day, objects: u64) -> State {
    let marked = |kinds: &[&str]| facts.marks.iter().any(|mark| mark.day == day && kinds.contains(&mark.kind.as_str()));
    let Some(start) = day.start() else { return State::Pending };
    let stretch = Stretch {
        from: start,
        to: shift(start, DAY_SECONDS),
        objects,
        is_altered: marked(&ALTERED),
        is_missing: marked(&MISSING),
        is_before: facts.first.is_none_or(|first| day < first),
    };
    stretch.state(progress, &facts.cover)
}

/// What is known of a day or of an hour.
pub struct Stretch {
    /// From, inclusive.
    pub from: Timestamp,
    /// To, exclusive.
    pub to: Timestamp,
    /// Objects that are here.
    pub objects: u64,
    /// Something is not what was written.
    pub is_altered: bool,
    /// Something is not here.
    pub is_missing: bool,
    /// It lies before the first object.
    pub is_before: bool,
}

impl Stretch {
    /// How it is, as the progress of its stream and its chains tell.
    pub fn state(&self, progress: &Progress, cover: &Cover) -> State {
        let (start, end) = (self.from, self.to);
        // It is over for us once everything delivered until its end has an outcome.
        let is_listed = progress.listed_through.is_some_and(|through| through >= end);
        let is_proven = || cover.proves((start, shift(end, NAMED_LATER_SECONDS)));
        match () {
            () if self.is_altered => State::Altered,
            () if self.is_missing => State::Missing,
            () if cover.lacks((start, end)) => State::Gap,
            () if !is_listed && progress.listed_through.is_none() && self.objects == 0 => State::Pending,
            () if !is_listed => State::Busy,
            () if self.is_before => State::Before,
            () if self.objects == 0 && is_proven() => State::ProvenQuiet,
            () if self.objects == 0 => State::Quiet,
            () if is_proven() => State::Proven,
            () => State::Mirrored,
        }
    }
}

/// Counts what is well, and names the days that are not.
fn summary(cells: &[Cell]) -> String {
    let of = |states: &[State]| cells.iter().filter(|cell| states.contains(&cell.state)).count();
    let proven = of(&[State::Proven, State::ProvenQuiet]);
    let mut parts = vec![
        format!("{proven} {} proven", if proven == 1 { "day" } else { "days" }),
        format!("{} mirrored", of(&[State::Mirrored, State::Quiet])),
    ];
    for (state, word) in [(State::Altered, "altered"), (State::Missing, "missing objects"), (State::Gap, "gap")] {
        let days: Vec<String> = cells.iter().filter(|cell| cell.state == state).map(|cell| name(cell.day)).collect();
        if days.len() > NAMED {
            parts.push(format!("{word} on {} days, the last {}", days.len(), days[days.len() - 1]));
        } else if !days.is_empty() {
            parts.push(format!("{word} on {}", days.join(", ")));
        }
    }
    parts.join("; ")
}

/// `YYYY-MM-DD`
pub fn name(day: Day) -> String {
    day.to_string()
}

/// The day of a `YYYY-MM-DD`.
pub fn named(name: &str) -> Option<Day> {
    (name.len() == 10 && name.is_ascii()).then(|| Day::of(&format!("{}/", name.replace('-', "/")))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Rows, Status};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn progress(listed_through: &str) -> Progress {
        let rows = Rows { sources: vec!["s".into()], ..Rows::default() };
        let mut status = Status::of(rows, at("2026-03-10T12:00:00Z"));
        let mut progress = status.accounts.remove(0).progress;
        progress.listed_through = Some(at(listed_through));
        progress
    }

    fn facts() -> Facts {
        let objects = (5..=10).map(|day| (Day(20_260_300 + day), 3)).collect();
        let cover = Cover { proven: vec![(at("2026-03-05T00:00:00Z"), at("2026-03-08T09:00:00Z"))], gaps: Vec::new() };
        Facts { objects, first: Some(Day(20_260_305)), marks: Vec::new(), cover }
    }

    fn states(facts: &Facts) -> Vec<State> {
        let calendar = Calendar::of(&progress("2026-03-10T11:00:00Z"), facts, at("2026-03-10T12:00:00Z"));
        assert_eq!(calendar.cells.len(), 90);
        calendar.cells[83..].iter().map(|cell| cell.state).collect()
    }

    #[test]
    fn days_are_proven_as_far_as_digests_reach_and_mirrored_beyond() {
        use State::{Before, Busy, Mirrored, Proven};
        assert_eq!(states(&facts()), [Before, Proven, Proven, Proven, Mirrored, Mirrored, Busy]);
    }

    #[test]
    fn an_alteration_turns_its_day_whatever_else_is_known_of_it() {
        let mark = |day, kind: &str| Mark { day: Day(day), kind: kind.into(), count: 1 };
        let marks = vec![mark(20_260_306, "altered"), mark(20_260_307, "missing"), mark(20_260_306, "missing")];
        let mut facts = Facts { marks, ..facts() };
        facts.cover.gaps.push((at("2026-03-09T03:00:00Z"), at("2026-03-09T05:00:00Z")));
        use State::{Altered, Before, Busy, Gap, Mirrored, Missing, Proven};
        assert_eq!(states(&facts), [Before, Proven, Altered, Missing, Mirrored, Gap, Busy]);
        let calendar = Calendar::of(&progress("2026-03-10T11:00:00Z"), &facts, at("2026-03-10T12:00:00Z"));
        let expected =
            "1 day proven; 1 mirrored; altered on 2026-03-06; missing objects on 2026-03-07; gap on 2026-03-09";
        assert_eq!((calendar.summary.as_str(), calendar.worst()), (expected, Some(Altered)));
    }

    #[test]
    fn a_day_is_found_by_its_name_and_nothing_else_is_a_day() {
        assert_eq!(named("2026-03-05"), Some(Day(20_260_305)));
        for odd in ["2026-02-30", "2026/03/05", "../../etc/", "2026-3-005", "ééééé", ""] {
            assert!(named(odd).is_none_or(|day| name(day) == odd.replace('/', "-")), "{odd}");
        }
    }

    #[test]
    fn of_several_streams_the_worst_day_is_shown() {
        let (now, through) = (at("2026-03-10T12:00:00Z"), progress("2026-03-10T11:00:00Z"));
        let well = Calendar::of(&through, &facts(), now);
        let marks = vec![Mark { day: Day(20_260_305), kind: "rotten".into(), count: 1 }];
        let ill = Calendar::of(&through, &Facts { marks, ..facts() }, now);
        let all = Calendar::all(&[well, ill]);
        assert_eq!((all.cells[84].state, all.cells[85].state), (State::Altered, State::Proven));
    }
}
