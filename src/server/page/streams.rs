//! The pages of one account, of one of its streams, and of one day of it.

use std::cmp::Reverse;

use askama::Template;
use indicatif::HumanBytes;

use super::calendar::{self, Calendar, Facts};
use super::chart::Charts;
use super::day::{Counted, Hour};
use super::view::{self, Frame, Row, class, lag, moment, proven, row, shape, since, title, when};
use crate::key::Shown;
use crate::layout::Day;
use crate::ledger::Fault;
use crate::server::history::Series;
use crate::status::{self, Health, Status, Works};

/// Streams on one page.
const STREAMS: usize = 20;

/// One account.
#[derive(Template)]
#[template(path = "account.html", config = "src/server/askama.toml")]
pub struct AccountPage {
    frame: Frame,
    row: Row,
    health: Vec<Condition>,
    charts: Charts,
    all: Days,
    streams: Vec<Stream>,
    legend: Vec<(&'static str, &'static str)>,
    page: usize,
    pages: usize,
    previous: String,
    next: String,
}

/// One stream: its days, month by month.
#[derive(Template)]
#[template(path = "stream.html", config = "src/server/askama.toml")]
pub struct StreamPage {
    frame: Frame,
    account: String,
    account_link: String,
    stream: Stream,
    months: Vec<Month>,
    legend: Vec<(&'static str, &'static str)>,
}

/// One day of a stream.
#[derive(Template)]
#[template(path = "day.html", config = "src/server/askama.toml")]
pub struct DayPage {
    frame: Frame,
    account: String,
    account_link: String,
    stream: String,
    stream_link: String,
    day: String,
    previous: String,
    next: String,
    objects: u64,
    bytes: String,
    is_cut: bool,
    hours: Vec<HourRow>,
    faults: Vec<FaultRow>,
    more_faults: bool,
    legend: Vec<(&'static str, &'static str)>,
}

/// A condition of one hop.
struct Condition {
    class: &'static str,
    shape: &'static str,
    hop: &'static str,
    state: &'static str,
    since: String,
    turning: String,
    cause: String,
}

struct Stream {
    class: &'static str,
    shape: &'static str,
    name: String,
    link: String,
    condition: &'static str,
    facts: String,
    error: String,
    since: String,
    days: Days,
}

/// A calendar as the page shows it.
struct Days {
    summary: String,
    cells: Vec<Cell>,
}

struct Cell {
    class: &'static str,
    title: String,
    /// Where its hours are, or nothing.
    link: String,
    number: i32,
}

/// A row of the large calendar.
struct Month {
    name: String,
    /// A place for each day of a month; those that are not shown are empty.
    days: Vec<Option<Cell>>,
}

struct HourRow {
    name: String,
    class: &'static str,
    words: &'static str,
    objects: u64,
    bytes: String,
    wrong: String,
}

struct FaultRow {
    class: &'static str,
    kind: String,
    key: String,
    detail: String,
    since: String,
}

/// Faults on the page of a day.
pub const FAULTS: u32 = 100;

impl AccountPage {
    /// The page of one account; `facts` are those of the days of each of its streams.
    pub fn of(status: &Status, account: &status::Account, facts: &[Facts], history: &Series, page: usize) -> Self {
        let at = status.at;
        let calendars = account.streams.iter().zip(facts).map(|(one, facts)| Calendar::of(&one.progress, facts, at));
        let calendars: Vec<Calendar> = calendars.collect();
        let all = days(&Calendar::all(&calendars), None);
        let mut streams: Vec<_> = account.streams.iter().zip(&calendars).collect();
        streams.sort_by_key(|(one, calendar)| Reverse((calendar.worst(), one.progress.condition)));
        let pages = streams.len().div_ceil(STREAMS).max(1);
        let page = page.clamp(1, pages);
        let row = row(account, None, at);
        let other = |page: usize| match (1..=pages).contains(&page) {
            true => format!("{}?page={page}", row.link),
            false => String::new(),
        };
        let (previous, next) = (other(page - 1), other(page + 1));
        let shown = streams.iter().skip((page - 1) * STREAMS).take(STREAMS);
        Self {
            frame: Frame::of(status, row.name.clone()),
            health: account.health.iter().map(condition).collect(),
            charts: Charts::of(history, at),
            all,
            // Relative: it is repeated in every cell.
            streams: shown.map(|(one, calendar)| stream(one, calendar, &format!("./{}", view::id(account)))).collect(),
            legend: legend(),
            row,
            page,
            pages,
            previous,
            next,
        }
    }
}

impl StreamPage {
    /// The page of one stream.
    pub fn of(status: &Status, account: &status::Account, one: &status::Stream, facts: &Facts) -> Self {
        let calendar = Calendar::of(&one.progress, facts, status.at);
        let stream = stream(one, &calendar, ".");
        let months = months(&calendar, &stream.link);
        let (name, account) = (format!("{} · {}", stream.name, title(account)), account);
        Self {
            frame: Frame::of(status, name),
            account: title(account),
            account_link: format!("/account/{}", title(account)),
            stream,
            months,
            legend: legend(),
        }
    }
}

impl DayPage {
    /// The page of one day.
    pub fn of(
        status: &Status,
        (account, one): (&status::Account, &status::Stream),
        day: Day,
        counted: &Counted,
        hours: &[Hour],
        faults: &[Fault],
    ) -> Self {
        let (name, link) = (name(one), format!("/account/{}/{}", title(account), one.id.0));
        let beside = |seconds: i64| {
            let other = day.start().map(|start| Day::at(crate::clock::shift(start, seconds)));
            let shown = other.filter(|other| *other <= Day::at(status.at) && other.start().is_some());
            shown.map(|other| format!("{link}/{}", calendar::name(other))).unwrap_or_default()
        };
        let sum = |of: fn(&super::day::Here) -> u64| counted.hours.iter().map(of).sum::<u64>();
        Self {
            frame: Frame::of(status, format!("{} · {name}", calendar::name(day))),
            account: title(account),
            account_link: format!("/account/{}", title(account)),
            stream: name,
            day: calendar::name(day),
            previous: beside(-86_400),
            next: beside(86_400),
            stream_link: link,
            objects: sum(|here| here.objects),
            bytes: HumanBytes(sum(|here| here.bytes)).to_string(),
            is_cut: counted.is_cut,
            hours: hours.iter().map(hour).collect(),
            more_faults: faults.len() > FAULTS as usize,
            faults: faults.iter().take(FAULTS as usize).map(fault).collect(),
            legend: legend(),
        }
    }
}

fn legend() -> Vec<(&'static str, &'static str)> {
    calendar::State::ALL.map(|state| (state.class(), state.words())).to_vec()
}

fn condition(health: &Health) -> Condition {
    let (class, shape) = match (health.state, health.turning_since) {
        (Works::Failing, _) => ("bad", "✖"),
        (Works::Good, Some(_)) => ("warn", "▲"),
        (Works::Good, None) => ("good", "●"),
        (Works::Unknown, _) => ("unknown", "○"),
    };
    Condition {
        class,
        shape,
        hop: health.hop.name(),
        state: health.state.name(),
        since: since(health.since),
        turning: since(health.turning_since),
        cause: health.cause.as_deref().map(|cause| Shown(cause).to_string()).unwrap_or_default(),
    }
}

fn name(stream: &status::Stream) -> String {
    format!("{} {}", stream.kind, Shown(&stream.region))
}

/// A stream; `base` is where the pages of its account's streams are.
fn stream(one: &status::Stream, calendar: &Calendar, base: &str) -> Stream {
    let progress = &one.progress;
    let size = HumanBytes(progress.bytes);
    let link = format!("{base}/{}", one.id.0);
    Stream {
        class: class(progress.condition),
        shape: shape(progress.condition),
        name: name(one),
        condition: progress.condition.name(),
        facts: format!(
            "Listed through {}; proven through {}; {} objects, {size}; lag {}.",
            when(progress.listed_through),
            proven(&progress.proof),
            progress.objects,
            lag(progress)
        ),
        error: progress.error.as_deref().map(|error| Shown(error).to_string()).unwrap_or_default(),
        since: since(progress.failing_since),
        days: days(calendar, Some(&link)),
        link,
    }
}

fn days(calendar: &Calendar, link: Option<&str>) -> Days {
    Days { summary: calendar.summary.clone(), cells: calendar.cells.iter().map(|one| cell(one, link)).collect() }
}

fn cell(cell: &calendar::Cell, link: Option<&str>) -> Cell {
    let day = calendar::name(cell.day);
    Cell {
        class: cell.state.class(),
        title: format!("{day}: {}{}", cell.state.words(), cell.note),
        link: link.map(|link| format!("{link}/{day}")).unwrap_or_default(),
        number: cell.day.0 % 100,
    }
}

/// The days by month, the latest month first.
fn months(calendar: &Calendar, link: &str) -> Vec<Month> {
    let mut months = Vec::<Month>::new();
    for one in &calendar.cells {
        let name = calendar::name(one.day)[..7].to_owned();
        if months.last().is_none_or(|month| month.name != name) {
            months.push(Month { name, days: (0..31).map(|_| None).collect() });
        }
        let place = usize::try_from(one.day.0 % 100 - 1).unwrap_or(0);
        if let Some(day) = months.last_mut().and_then(|month| month.days.get_mut(place)) {
            *day = Some(cell(one, Some(link)));
        }
    }
    months.reverse();
    months
}

fn hour(hour: &Hour) -> HourRow {
    HourRow {
        name: format!("{:02}:00", hour.hour),
        class: hour.state.class(),
        words: hour.state.words(),
        objects: hour.here.objects,
        bytes: HumanBytes(hour.here.bytes).to_string(),
        wrong: hour.wrong.clone(),
    }
}

fn fault(fault: &Fault) -> FaultRow {
    FaultRow {
        class: if calendar::ALTERED.contains(&fault.kind.as_str()) { "bad" } else { "warn" },
        kind: fault.kind.replace('_', " "),
        key: Shown(&fault.suffix).to_string(),
        detail: Shown(&fault.detail).to_string(),
        since: fault.since.map(moment).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
