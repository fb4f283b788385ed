use super::*;
use crate::error::{Class, Error, Report};
use crate::ledger::CheckpointRow;
use crate::status::{Rows, Status};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_770_000_000 + second).unwrap()
}

/// A stream that was listed a minute ago and is polled again in a minute.
fn row(now: Timestamp, error: Option<&str>) -> CheckpointRow {
    CheckpointRow {
        source: "acme".into(),
        account: "222222222222".into(),
        kind: "CloudTrail".into(),
        region: "eu-west-1".into(),
        objects: 3,
        listed_through: Some(crate::clock::shift(now, -60)),
        next_poll: Some(crate::clock::shift(now, 60)),
        error: error.map(str::to_owned),
        failing_since: error.map(|_| now),
        ..CheckpointRow::default()
    }
}

/// Looks at the account again, remembering what was seen before.
fn look(remembered: &mut Vec<HealthRow>, row: CheckpointRow, now: Timestamp) -> Vec<Health> {
    let rows = Rows { checkpoints: vec![row], health: remembered.clone(), ..Rows::default() };
    let status = Status::of(rows, now);
    for change in &status.health_changes {
        remembered.retain(|known| known.hop != change.hop);
        remembered.push(change.clone());
    }
    status.accounts[0].health.clone()
}

fn of(health: &[Health], hop: Hop) -> &Health {
    health.iter().find(|one| one.hop == hop).unwrap()
}

#[test]
fn an_error_blames_the_hop_that_failed() {
    let error = |operation, code: &str, message: &str| {
        let report = Report::new(operation, "x", message).code(code).mend("allow `kms:Decrypt`; or else");
        Hop::blamed(&Error::of(Class::Stream, report).to_string())
    };
    assert_eq!(error("AssumeRole", "AccessDenied", "no"), Hop::Auth);
    assert_eq!(error("ListObjectsV2", "ExpiredToken", "no"), Hop::Auth);
    assert_eq!(error("ListObjectsV2", "AccessDenied", "no"), Hop::List);
    assert_eq!(error("GetObject", "AccessDenied", "Access Denied"), Hop::Get);
    assert_eq!(error("GetObject", "AccessDenied", "not authorized to perform: kms:Decrypt on"), Hop::Kms);
    assert_eq!(error("GetObject", "KMS.DisabledException", "it is disabled"), Hop::Kms);
    assert_eq!(error("stage", "ENOSPC", "no space"), Hop::Write);
    assert_eq!(error("PutObject", "AccessDenied", "no"), Hop::Write);
}

#[test]
fn a_hop_turns_only_after_it_was_seen_otherwise_for_a_while() {
    let denied = Some("ListObjectsV2 of `p` failed: AccessDenied: no");
    let mut known = Vec::new();
    assert_eq!(of(&look(&mut known, row(at(0), None), at(0)), Hop::List).state, Works::Good);
    let shaky = look(&mut known, row(at(10), denied), at(10));
    assert_eq!((of(&shaky, Hop::List).state, of(&shaky, Hop::List).turning_since), (Works::Good, Some(at(10))));
    assert_eq!(of(&shaky, Hop::List).cause.as_deref(), denied);
    let well = look(&mut known, row(at(40), None), at(40));
    assert_eq!(of(&well, Hop::List).turning_since, None, "a break begins anew");
    look(&mut known, row(at(50), denied), at(50));
    let bad = look(&mut known, row(at(110), denied), at(110));
    assert_eq!((of(&bad, Hop::List).state, of(&bad, Hop::List).since), (Works::Failing, Some(at(50))));
    look(&mut known, row(at(120), None), at(120));
    let mending = look(&mut known, row(at(239), None), at(239));
    assert_eq!(of(&mending, Hop::List).state, Works::Failing, "not yet");
    let mended = look(&mut known, row(at(240), None), at(240));
    assert_eq!((of(&mended, Hop::List).state, of(&mended, Hop::List).since), (Works::Good, Some(at(120))));
    assert_eq!(of(&mended, Hop::List).cause, None);
}

#[test]
fn of_what_lies_behind_a_hop_that_fails_nothing_is_known() {
    let denied = Some("ListObjectsV2 of `p` failed: AccessDenied: no");
    let health = look(&mut Vec::new(), row(at(0), denied), at(0));
    assert_eq!(of(&health, Hop::List).state, Works::Failing, "it never worked: nothing is waited for");
    for hop in [Hop::Get, Hop::Kms, Hop::Write, Hop::Proof] {
        assert_eq!(of(&health, hop).state, Works::Unknown, "{hop}");
    }
}

#[test]
fn what_was_not_looked_at_for_long_is_unknown_and_nothing_is_written() {
    let mut known = Vec::new();
    look(&mut known, row(at(0), None), at(0));
    let rows = Rows { checkpoints: vec![row(at(0), None)], health: known, ..Rows::default() };
    let later = Status::of(rows, at(86_400));
    assert!(later.accounts[0].health.iter().all(|one| one.state == Works::Unknown), "{later:?}");
    assert!(later.health_changes.is_empty());
}

#[test]
fn a_lag_that_was_too_long_must_be_well_below_it_to_be_good_again() {
    let lagging = |lag: i64, now: i64| CheckpointRow {
        listed_through: Some(at(now - lag)),
        next_poll: Some(at(now + 60)),
        ..row(at(now), None)
    };
    let mut known = Vec::new();
    let first = look(&mut known, lagging(4000, 0), at(0));
    assert_eq!(of(&first, Hop::Lag).state, Works::Failing);
    for (lag, now) in [(3000, 1000), (3000, 2000)] {
        assert_eq!(of(&look(&mut known, lagging(lag, now), at(now)), Hop::Lag).state, Works::Failing, "{lag}");
    }
    look(&mut known, lagging(100, 3000), at(3000));
    assert_eq!(of(&look(&mut known, lagging(100, 3200), at(3200)), Hop::Lag).state, Works::Good);
}

#[test]
fn a_destination_that_cannot_be_used_fails_to_write() {
    let alarm = AlarmRow {
        source: "acme".into(),
        kind: DESTINATION.into(),
        subject: String::new(),
        first_at: Some(at(-9)),
        last_at: Some(at(0)),
        count: 1,
        detail: "open of `/srv` failed: not mounted".into(),
    };
    let rows = Rows { checkpoints: vec![row(at(0), None)], alarms: vec![alarm], ..Rows::default() };
    let status = Status::of(rows, at(0));
    let write = of(&status.accounts[0].health, Hop::Write);
    assert_eq!((write.state, write.since), (Works::Failing, Some(at(-9))));
}
