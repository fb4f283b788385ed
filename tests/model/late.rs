//! Late is not lost, and what changes afterwards is told: histories that have a name.

use trailsync::layout::Day;
use trailsync::ledger::SealedDay;

use super::bench::{Bench, name, setup};
use super::history::{Change, Cut, DAY, HOUR, MINUTE};

#[tokio::test]
async fn a_sibling_that_arrives_after_a_later_name_is_mirrored_by_the_next_poll() {
    let mut bench = Bench::at_rest(setup("2024-03-10T18:25:10Z")).await;
    let (late, early) = (name("2024-03-10T18:20:00Z", "zz"), name("2024-03-10T18:25:00Z", "aa"));
    bench.outside.deliver_as(&early);
    bench.set_time("2024-03-10T18:26:00Z");
    bench.turn().await.unwrap();
    assert!(bench.is_mirrored(&early));
    bench.outside.deliver_as(&late);
    bench.set_time("2024-03-10T18:27:00Z");
    assert_eq!(bench.lists_of_a_turn().await, 1);
    assert!(bench.is_mirrored(&late));
    assert_eq!(bench.listed_through().as_deref(), Some("2024-03-10T18:27:00Z"));
}

#[tokio::test]
async fn objects_thirty_days_late_are_found_within_a_day() {
    let mut bench = Bench::at_rest(setup("2024-03-10T18:25:10Z")).await;
    let late = name("2024-02-09T18:25:00Z", "x");
    bench.outside.deliver_as(&late);
    for hours in 1..=24 {
        bench.advance(HOUR);
        bench.rest().await;
        assert_eq!(bench.is_mirrored(&late), hours == 24, "after {hours} h");
    }
}

#[tokio::test]
async fn a_key_delivered_into_a_month_while_backfill_lists_another_is_mirrored() {
    let mut bench = Bench::new(crate::model::history::Setup { page_size: 3, ..setup("2024-03-10T12:00:00Z") }).await;
    for month in ["2024-01", "2024-02", "2024-03"] {
        for day in 1..=8 {
            bench.outside.deliver_as(&name(&format!("{month}-{day:02}T10:00:00Z"), "x"));
        }
    }
    while !bench.is_mirrored(&name("2024-02-03T10:00:00Z", "x")) {
        assert!(bench.a_turn(true, true).await.unwrap().unfinished);
    }
    assert!(!bench.is_mirrored(&name("2024-01-03T10:00:00Z", "x")), "newest month first");
    let passed = name("2024-03-05T10:00:00Z", "late");
    let unknown = name("2023-12-31T10:00:00Z", "new-month");
    bench.outside.deliver_as(&passed);
    bench.outside.deliver_as(&unknown);
    bench.rest().await;
    assert!(!bench.is_mirrored(&passed) && !bench.is_mirrored(&unknown), "neither was there when it began");
    bench.advance(DAY);
    bench.rest().await;
    assert!(bench.is_mirrored(&passed), "35 days are listed daily");
    bench.advance(30 * DAY);
    bench.rest().await;
    assert!(bench.is_mirrored(&unknown), "everything is listed monthly");
    assert_eq!(bench.counted().await, 26);
    bench.check_everything().await.unwrap();
}

#[tokio::test]
async fn an_outage_of_a_hundred_days_is_made_up_and_claims_nothing_before() {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    bench.outside.bucket.set_page_size(10);
    for _ in 0..100 {
        bench.advance(DAY);
        bench.outside.apply(&Change::Siblings { count: 1, age: 5 * MINUTE });
    }
    assert!(bench.a_turn(true, true).await.unwrap().unfinished);
    assert_eq!(bench.listed_through().as_deref(), Some("2024-03-10T12:00:00Z"));
    assert_eq!(bench.counted().await, 11, "what is fresh came first, then a page of the rest");
    bench.rest().await;
    assert_eq!(bench.counted().await, 100);
    assert_eq!(bench.listed_through().as_deref(), Some("2024-06-18T12:00:00Z"));
    bench.calm_down().await.unwrap();
}

/// A day with two objects, sealed for a while.
async fn sealed() -> (Bench, [String; 2]) {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    let names = [name("2024-03-10T11:58:00Z", "a"), name("2024-03-10T11:59:00Z", "b")];
    names.iter().for_each(|name| bench.outside.deliver_as(name));
    bench.set_time("2024-03-10T12:01:00Z");
    bench.rest().await;
    bench.set_time("2024-03-14T12:00:00Z");
    bench.rest().await;
    assert_eq!(the_day(&bench).await, (1, 2));
    (bench, names)
}

/// Generations and objects of that day.
async fn the_day(bench: &Bench) -> (u32, u64) {
    let days = bench.ledger.sealed_days(&bench.outside.stream, bench.progress.id, Day(20240310), 1).await.unwrap();
    let [SealedDay { generations, objects, .. }] = days[..] else { panic!("{days:?}") };
    (generations.last, objects)
}

#[tokio::test]
async fn an_object_late_in_a_sealed_day_adds_a_generation() {
    let (mut bench, _) = sealed().await;
    bench.advance(23 * HOUR);
    bench.outside.deliver_as(&name("2024-03-10T11:58:00Z", "late"));
    bench.advance(HOUR);
    bench.rest().await;
    assert_eq!((bench.counted().await, the_day(&bench).await), (3, (1, 2)), "more of them may follow");
    bench.advance(DAY);
    bench.rest().await;
    assert_eq!((bench.counted().await, the_day(&bench).await), (3, (2, 3)));
    assert!(bench.alarms().await.is_empty());
    bench.calm_down().await.unwrap();
}

#[tokio::test]
async fn no_day_is_sealed_by_a_clock_that_the_service_has_not_been_asked_about() {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    bench.outside.apply(&Change::Siblings { count: 2, age: MINUTE });
    bench.advance(MINUTE);
    bench.rest().await;
    bench.set_clocks(-3 * DAY, 0);
    bench.restart().await.unwrap();
    // Everything is due, as it seems, and the turn is stopped while it looks for months.
    bench.world.turn(false, true, Cut::Stopped(1)).await.unwrap();
    let days = bench.ledger.sealed_days(&bench.outside.stream, bench.progress.id, Day::ODD, 10).await.unwrap();
    assert_eq!(days, [], "today is not far ahead");
    bench.calm_down().await.unwrap();
}

#[tokio::test]
async fn an_object_replaced_in_a_sealed_day_becomes_a_later_version_and_the_first_stays() {
    let (mut bench, [first, _]) = sealed().await;
    let before = bench.vault.read(&bench.outside.key(&first)).unwrap();
    bench.outside.deliver_as(&first);
    bench.advance(DAY);
    bench.rest().await;
    assert_eq!(bench.alarms_of(&first).await, ["replaced"]);
    assert_eq!(bench.vault.read(&bench.outside.key(&first)).unwrap(), before);
    assert_eq!(bench.vault.files().len(), 3);
    assert!(bench.records().await.unwrap()[&first].later);
    bench.advance(DAY);
    bench.rest().await;
    assert_eq!((bench.counted().await, the_day(&bench).await), (2, (2, 2)));
    bench.calm_down().await.unwrap();
}

#[tokio::test]
async fn an_object_that_vanished_and_came_back_is_alarmed_once_and_counted_once() {
    let (mut bench, [first, second]) = sealed().await;
    bench.outside.tamper(&first);
    bench.advance(DAY);
    bench.rest().await;
    assert!(bench.records().await.unwrap()[&first].gone);
    bench.advance(DAY);
    bench.rest().await;
    assert_eq!(
        bench.alarms().await.iter().map(|alarm| (alarm.kind.as_str(), alarm.count)).collect::<Vec<_>>(),
        [("vanished", 1)]
    );
    bench.outside.apply(&Change::PutBack(0));
    bench.advance(DAY);
    bench.rest().await;
    let records = bench.records().await.unwrap();
    assert!(!records[&first].gone && !records[&second].gone);
    assert_eq!((bench.counted().await, bench.vault.files().len()), (2, 2));
}

#[tokio::test]
async fn the_same_bytes_under_another_tag_are_noted_and_not_alarmed() {
    let (mut bench, [first, _]) = sealed().await;
    bench.outside.apply(&Change::Retag(0));
    bench.advance(DAY);
    bench.rest().await;
    assert!(bench.alarms().await.is_empty());
    assert_eq!(bench.records().await.unwrap()[&first].etag, bench.bucket.objects()[&bench.outside.key(&first)].etag);
    assert_eq!((bench.counted().await, bench.vault.files().len()), (2, 2));
}

#[tokio::test]
async fn what_the_lifecycle_removes_is_expected_to_go() {
    let retention = Some(30 * DAY);
    let mut bench = Bench::at_rest(crate::model::history::Setup { retention, ..setup("2024-03-10T12:00:00Z") }).await;
    bench.outside.apply(&Change::Siblings { count: 5, age: MINUTE });
    bench.advance(MINUTE);
    bench.rest().await;
    bench.advance(31 * DAY);
    bench.outside.apply(&Change::Expire);
    bench.rest().await;
    assert!(bench.bucket.objects().is_empty() && bench.alarms().await.is_empty());
}

#[tokio::test]
async fn what_the_lifecycle_removes_between_listing_and_fetching_is_expected_to_go() {
    let retention = Some(30 * DAY);
    let mut bench = Bench::at_rest(crate::model::history::Setup { retention, ..setup("2024-03-10T12:00:00Z") }).await;
    let old = name("2024-03-10T12:00:00Z", "a");
    bench.outside.deliver_as(&old);
    bench.advance(31 * DAY);
    let outside = bench.outside.clone();
    // Two steps of the poll, which does not reach so far back, and two of the listing of everything.
    bench.wire.meanwhile(4, move || outside.apply(&Change::Expire));
    bench.rest().await;
    assert!(bench.bucket.objects().is_empty() && bench.alarms().await.is_empty());
    assert_eq!(bench.bucket.requests().fetches, 1, "it was listed");
}

#[tokio::test]
async fn nothing_before_since_is_mirrored_and_no_key_is_passed_over_for_being_odd() {
    let since = Some("2024-03-01T00:00:00Z".parse().unwrap());
    let mut bench = Bench::new(crate::model::history::Setup { since, ..setup("2024-03-10T12:00:00Z") }).await;
    let before = name("2024-02-29T23:59:00Z", "x");
    let after = name("2024-03-01T00:00:00Z", "x");
    let odd = ["!", "//2024/01/01/x", "notes.txt", "2024/03/02/", ""];
    [&before, &after].into_iter().for_each(|name| bench.outside.deliver_as(name));
    odd.iter().for_each(|name| bench.outside.deliver_as(name));
    bench.rest().await;
    assert!(!bench.is_mirrored(&before) && bench.is_mirrored(&after));
    for odd in odd {
        assert!(bench.is_mirrored(odd), "{odd:?}");
    }
    bench.calm_down().await.unwrap();
}
