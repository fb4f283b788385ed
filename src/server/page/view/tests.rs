use super::*;
use crate::ledger::{CheckpointRow, StreamId};
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
    let first = Overview::of(&status, &Filter::default(), &History::default());
    assert!(first.rows[..72].iter().all(|row| row.condition == "failing") && first.rows[72].condition != "failing");
    assert_eq!((first.rows.len(), first.pages, first.previous.as_str()), (ROWS, 5, ""));
    let html = first.render().unwrap();
    assert!(html.len() < PAYLOAD, "{}", html.len());
    let last = Overview::of(&status, &Filter { page: "5".into(), ..Filter::default() }, &History::default());
    assert_eq!((last.rows.len(), last.next.as_str()), (ROWS, ""));
    let found = Overview::of(&status, &Filter { q: "000000000499".into(), ..Filter::default() }, &History::default());
    assert_eq!((found.rows.len(), found.matching, found.all), (1, 1, 500));
}

#[test]
fn nothing_of_another_account_is_taken_for_markup() {
    let mut row = stream_row(0, 0);
    (row.region, row.error) = ("<script>".into(), Some("<img src=x onerror=alert(1)>".into()));
    let status = Status::of(Rows { checkpoints: vec![row], ..Rows::default() }, at());
    let overview = Overview::of(&status, &Filter { q: "\"><script>".into(), ..Filter::default() }, &History::default());
    let html = overview.render().unwrap();
    assert_eq!(html.matches("<script").count(), 1, "our own");
    assert!(!html.contains("<img"), "{html}");
}
