use super::*;
use crate::clock::{Timestamp, shift};
use crate::ledger::{AlarmRow, CheckpointRow, EndedAlarm, QuarantineRow, StreamId};
use crate::prove::cover::Cover;
use crate::server::history::History;
use crate::server::page::calendar::State;
use crate::server::page::day::{self, Here};
use crate::server::page::lists::{AlarmsPage, QuarantinePage};
use crate::status::Rows;

/// Bytes that a page may have, whatever is mirrored.
const PAYLOAD: usize = 300_000;
const HOSTILE: &str = "<img src=x onerror=alert(1)>\u{1b}[2J";

fn at() -> Timestamp {
    "2026-03-10T12:00:00Z".parse().unwrap()
}

fn status(streams: usize, region: &str) -> Status {
    let row = |n: usize| CheckpointRow {
        id: StreamId(i64::try_from(n + 1).unwrap()),
        source: "acme".into(),
        account: "222222222222".into(),
        kind: "CloudTrail".into(),
        region: format!("{region}{n}"),
        prefix: format!("AWSLogs/222222222222/CloudTrail/{region}{n}/"),
        listed_through: Some(at()),
        error: Some(HOSTILE.into()),
        ..CheckpointRow::default()
    };
    Status::of(Rows { checkpoints: (0..streams).map(row).collect(), ..Rows::default() }, at())
}

fn facts() -> Facts {
    let day = |back: i64| (Day::at(shift(at(), -back * 86_400)), 123_456);
    Facts { objects: (0..90).map(day).collect(), first: Some(day(89).0), marks: Vec::new(), cover: Cover::default() }
}

#[test]
fn the_page_of_an_account_with_every_kind_and_region_stays_small() {
    let status = status(102, "eu-region-");
    let facts: Vec<_> = (0..102).map(|_| facts()).collect();
    let page = AccountPage::of(&status, &status.accounts[0], &facts, &Series::default(), 2);
    assert_eq!((page.streams.len(), page.pages), (STREAMS, 6));
    assert_eq!(page.previous, "/account/acme/222222222222?page=1");
    assert_eq!(page.streams[0].days.cells[89].link, format!("./222222222222/{}/2026-03-10", 21));
    let html = page.render().unwrap();
    assert!(html.len() < PAYLOAD, "{}", html.len());
}

#[test]
fn the_page_of_a_stream_has_a_place_for_each_of_ninety_days_by_month() {
    let status = status(1, "r");
    let page = StreamPage::of(&status, &status.accounts[0], &status.accounts[0].streams[0], &facts());
    let names: Vec<&str> = page.months.iter().map(|month| month.name.as_str()).collect();
    assert_eq!(names, ["2026-03", "2026-02", "2026-01", "2025-12"]);
    assert_eq!(page.months.iter().flat_map(|month| &month.days).flatten().count(), 90);
    let tenth = page.months[0].days[9].as_ref().unwrap();
    assert_eq!((tenth.number, tenth.link.as_str()), (10, "./1/2026-03-10"));
    assert!(page.months[0].days[10].is_none(), "tomorrow");
}

#[test]
fn the_page_of_a_day_tells_its_hours_and_leads_to_its_neighbours_but_not_to_tomorrow() {
    let status = status(1, "r");
    let (account, one) = (&status.accounts[0], &status.accounts[0].streams[0]);
    let mut counted = Counted::default();
    counted.hours[3] = Here { objects: 2, bytes: 2048 };
    let hours: Vec<Hour> = (0..24)
        .map(|hour| Hour { hour, state: State::Mirrored, here: counted.hours[hour], wrong: String::new() })
        .collect();
    let page = DayPage::of(&status, (account, one), Day(20_260_310), &counted, &hours, &[]);
    assert_eq!((page.objects, page.bytes.as_str(), page.next.as_str()), (2, "2.00 KiB", ""));
    assert_eq!(page.previous, "/account/acme/222222222222/1/2026-03-09");
    let html = page.render().unwrap();
    assert!(html.contains("03:00") && html.contains("Nothing that is known"), "{html}");
}

#[test]
fn nothing_of_another_account_is_taken_for_markup() {
    let status = status(1, HOSTILE);
    let (account, one) = (&status.accounts[0], &status.accounts[0].streams[0]);
    let fault = Fault { kind: "altered".into(), suffix: HOSTILE.into(), detail: HOSTILE.into(), since: None };
    let alarm = AlarmRow {
        source: "acme".into(),
        kind: "altered".into(),
        subject: HOSTILE.into(),
        first_at: None,
        last_at: None,
        count: 1,
        detail: HOSTILE.into(),
    };
    let alarms = [EndedAlarm { alarm, ended: None }];
    let object = QuarantineRow {
        source: "acme".into(),
        key: HOSTILE.into(),
        attempts: 1,
        quarantined: true,
        first_failed: None,
        next_try: None,
        code: HOSTILE.into(),
        reason: HOSTILE.into(),
    };
    let counted = Counted::default();
    let hours = day::stream("acme", one)
        .map(|stream| day::hours(&stream, &one.progress, &Cover::default(), Day(20_260_310), &counted, &[], at()));
    let pages = [
        AccountPage::of(&status, account, &[facts()], &History::default().all(), 1).render().unwrap(),
        StreamPage::of(&status, account, one, &facts()).render().unwrap(),
        DayPage::of(&status, (account, one), Day(20_260_310), &counted, &hours.unwrap_or_default(), &[fault])
            .render()
            .unwrap(),
        AlarmsPage::of(&status, &alarms, &alarms, 1).render().unwrap(),
        QuarantinePage::of(&status, &[object], 1).render().unwrap(),
    ];
    for html in pages {
        assert_eq!(html.matches("<script").count(), 1, "our own");
        assert!(!html.contains("<img") && !html.contains('\u{1b}'), "{html}");
    }
}
