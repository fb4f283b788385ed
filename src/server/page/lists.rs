//! The pages of alarms, with their stories, and of the quarantine, with its reasons.

use askama::Template;

use super::stories::{Story, story};
use super::view::{Frame, since};
use crate::key::Shown;
use crate::ledger::{EndedAlarm, QuarantineRow};
use crate::status::Status;

/// Entries on one page.
pub const ENTRIES: u32 = 50;

/// Alarms that stand, and those that are over.
#[derive(Template)]
#[template(path = "alarms.html", config = "src/server/askama.toml")]
pub struct AlarmsPage {
    frame: Frame,
    counts: Vec<(String, String, u64)>,
    alarms: Vec<Alarm>,
    over: Vec<Alarm>,
    pages: Pages,
}

/// Objects that could not be mirrored.
#[derive(Template)]
#[template(path = "quarantine.html", config = "src/server/askama.toml")]
pub struct QuarantinePage {
    frame: Frame,
    objects: Vec<Object>,
    all: u64,
    pages: Pages,
}

/// Where other entries are.
struct Pages {
    previous: String,
    next: String,
    page: u32,
}

struct Alarm {
    class: &'static str,
    source: String,
    kind: String,
    subject: String,
    detail: String,
    told: &'static str,
    first: String,
    last: String,
    ended: String,
    count: u64,
    next: &'static str,
    runbook: &'static str,
}

struct Object {
    source: String,
    key: String,
    state: &'static str,
    attempts: u32,
    since: String,
    next_try: String,
    code: String,
    reason: String,
}

impl AlarmsPage {
    /// A page of those that stand, and the latest of those that are over; one more than a page has tells of another.
    pub fn of(status: &Status, standing: &[EndedAlarm], over: &[EndedAlarm], page: u32) -> Self {
        let counts = status.alarm_counts.iter().map(|one| (one.source.clone(), one.kind.replace('_', " "), one.count));
        Self {
            frame: Frame::of(status, "Alarms"),
            counts: counts.collect(),
            alarms: standing.iter().take(ENTRIES as usize).map(alarm).collect(),
            over: over.iter().map(alarm).collect(),
            pages: Pages::of("/alarms", page, standing.len() > ENTRIES as usize),
        }
    }
}

impl QuarantinePage {
    /// A page of it, one more than a page has tells of another.
    pub fn of(status: &Status, objects: &[QuarantineRow], page: u32) -> Self {
        let frame = Frame::of(status, "Quarantine");
        Self {
            all: frame.quarantined,
            frame,
            objects: objects.iter().take(ENTRIES as usize).map(object).collect(),
            pages: Pages::of("/quarantine", page, objects.len() > ENTRIES as usize),
        }
    }
}

impl Pages {
    fn of(path: &str, page: u32, more: bool) -> Self {
        let to = |page: u32, is: bool| if is { format!("{path}?page={page}") } else { String::new() };
        Self { previous: to(page.saturating_sub(1), page > 1), next: to(page.saturating_add(1), more), page }
    }
}

fn alarm(EndedAlarm { alarm, ended }: &EndedAlarm) -> Alarm {
    let Story { class, told, next, runbook } = *story(&alarm.kind);
    Alarm {
        class: if ended.is_some() { "over" } else { class },
        source: alarm.source.clone(),
        kind: alarm.kind.replace('_', " "),
        subject: Shown(&alarm.subject).to_string(),
        detail: Shown(&alarm.detail).to_string(),
        told,
        first: since(alarm.first_at),
        last: since(alarm.last_at),
        ended: since(*ended),
        count: alarm.count,
        next,
        runbook,
    }
}

fn object(object: &QuarantineRow) -> Object {
    Object {
        source: object.source.clone(),
        key: Shown(&object.key).to_string(),
        state: if object.quarantined { "quarantined" } else { "in its first tries" },
        attempts: object.attempts,
        since: since(object.first_failed),
        next_try: since(object.next_try),
        code: Shown(&object.code).to_string(),
        reason: Shown(&object.reason).to_string(),
    }
}
