use super::*;
use crate::ledger::{CheckpointRow, StreamId};
use crate::prove::cover::Cover;
use crate::status::Rows;

/// Bytes that a page may have, whatever is mirrored.
const PAYLOAD: usize = 300_000;

fn at() -> Timestamp {
    "2026-03-10T12:00:00Z".parse().unwrap()
}

fn stream_row(account: usize, region: usize) -> CheckpointRow {
    CheckpointRow {
        id: StreamId(i64::try_from(account * 1000 + region).unwrap()),
        source: "acme".into(),
        account: format!("{account:012}"),
        kind: ["CloudTrail", "CloudTrail-Digest", "CloudTrail-Insight"][region % 3].into(),
        region: format!("eu-region-{region}"),
        listed_through: Some(at()),
        error: account.is_multiple_of(7).then(|| format!("ListObjectsV2 of `{account}` failed: {}", "x".repeat(600))),
        ..CheckpointRow::default()
    }
}

fn status(accounts: usize, regions: usize) -> Status {
    let rows = (0..accounts).flat_map(|account| (0..regions).map(move |region| stream_row(account, region)));
    Status::of(Rows { checkpoints: rows.collect(), ..Rows::default() }, at())
}

#[test]
fn a_page_of_500_accounts_in_17_regions_stays_small_and_shows_the_worst_first() {
    let status = status(500, 17);
    assert_eq!(status.accounts.iter().map(|account| account.streams.len()).sum::<usize>(), 8500);
    let first = Overview::of(&status, &Filter::default());
    assert!(first.rows[..72].iter().all(|row| row.condition == "failing") && first.rows[72].condition != "failing");
    assert_eq!((first.rows.len(), first.pages, first.previous.as_str()), (ROWS, 5, ""));
    let html = first.render().unwrap();
    assert!(html.len() < PAYLOAD, "{}", html.len());
    let last = Overview::of(&status, &Filter { page: "5".into(), ..Filter::default() });
    assert_eq!((last.rows.len(), last.next.as_str()), (ROWS, ""));
    let found = Overview::of(&status, &Filter { q: "000000000499".into(), ..Filter::default() });
    assert_eq!((found.rows.len(), found.matching, found.all), (1, 1, 500));
}

#[test]
fn the_page_of_an_account_with_every_kind_and_region_stays_small() {
    let status = status(1, 102);
    let day = |back: i64| (crate::layout::Day::at(crate::clock::shift(at(), -back * 86_400)), 123_456);
    let facts = |_: &status::Stream| Facts {
        objects: (0..90).map(day).collect(),
        first: Some(day(89).0),
        marks: Vec::new(),
        cover: Cover::default(),
    };
    let facts: Vec<_> = status.accounts[0].streams.iter().map(facts).collect();
    let page = AccountPage::of(&status.accounts[0], &facts, at(), 2);
    assert_eq!((page.streams.len(), page.pages), (STREAMS, 3));
    assert_eq!(page.previous, "/account/acme/000000000000?page=1");
    let html = page.render().unwrap();
    assert!(html.len() < PAYLOAD, "{}", html.len());
}

#[test]
fn nothing_of_another_account_is_taken_for_markup() {
    let mut row = stream_row(0, 0);
    (row.region, row.error) = ("<script>".into(), Some("<img src=x onerror=alert(1)>".into()));
    let status = Status::of(Rows { checkpoints: vec![row], ..Rows::default() }, at());
    let overview = Overview::of(&status, &Filter { q: "\"><script>".into(), ..Filter::default() });
    let facts = Facts { objects: Vec::new(), first: None, marks: Vec::new(), cover: Cover::default() };
    let account = AccountPage::of(&status.accounts[0], &[facts], at(), 1);
    for html in [overview.render().unwrap(), account.render().unwrap()] {
        assert_eq!(html.matches("<script").count(), 1, "our own");
        assert!(!html.contains("<img"), "{html}");
    }
}
