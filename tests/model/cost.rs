//! Cost follows what is new, whatever the clocks say: histories that have a name.

use trailsync::error::Class;
use trailsync::source::memory::Fault;

use super::bench::{Bench, name, setup};
use super::history::{Change, Cut, DAY, HOUR, MINUTE, Setup, YEAR};

#[tokio::test]
async fn a_poll_costs_one_listing_when_nothing_is_new() {
    let mut bench = Bench::new(setup("2024-03-10T12:00:00Z")).await;
    bench.outside.apply(&Change::Siblings { count: 50, age: MINUTE });
    bench.rest().await;
    for _ in 0..14 {
        bench.advance(MINUTE);
        assert_eq!(bench.lists_of_a_turn().await, 1);
    }
}

#[tokio::test]
async fn every_get_is_counted_also_one_that_is_made_again_and_none_that_is_not_made() {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    bench.outside.apply(&Change::Siblings { count: 3, age: MINUTE });
    bench.outside.apply(&Change::Archive(0));
    bench.bucket.fail_fetch(1, Fault::Error(Class::Transient, "SlowDown".into()));
    bench.bucket.fail_fetch(2, Fault::Error(Class::Transient, "SlowDown".into()));
    bench.advance(MINUTE);
    bench.turn().await.unwrap();
    let row = bench.ledger.checkpoints().await.unwrap().remove(0);
    assert_eq!((row.objects, row.quarantined), (2, 1), "archived objects are not asked for");
    assert_eq!((row.gets, bench.bucket.requests().fetches), (4, 4));
}

#[tokio::test]
async fn keys_from_the_future_cost_the_polls_nothing() {
    let mut bench = Bench::new(Setup { page_size: 10, ..setup("2024-03-10T12:00:00Z") }).await;
    for nth in 0..300 {
        bench.outside.deliver_as(&name("2024-03-12T12:00:00Z", &format!("{nth:03}")));
        bench.outside.deliver_as(&format!("zz/{nth}"));
    }
    bench.rest().await;
    assert_eq!(bench.counted().await, 600);
    bench.outside.deliver_as("zz/late");
    for _ in 0..14 {
        bench.advance(MINUTE);
        assert_eq!(bench.lists_of_a_turn().await, 1);
    }
    bench.advance(DAY);
    bench.rest().await;
    assert!(bench.is_mirrored("zz/late"), "the tail is listed daily");
}

#[tokio::test]
async fn a_busy_stream_is_polled_within_one_page() {
    let mut bench = Bench::new(setup("2024-03-10T12:00:00Z")).await;
    for minute in 0..60 {
        bench.outside.apply(&Change::Siblings { count: 20, age: (59 - minute) * MINUTE });
    }
    bench.rest().await;
    bench.advance(MINUTE);
    assert_eq!(bench.lists_of_a_turn().await, 1);
    let asked = bench.bucket.list_log().pop().unwrap().start_after.unwrap();
    let bound = |minute: &str| bench.outside.stream.bound(format!("2024-03-10T{minute}:00Z").parse().unwrap());
    assert_eq!(asked, bench.outside.key(&bound("11:19")), "the window of 800 objects, before the last poll");
}

#[tokio::test]
async fn a_restart_goes_on_with_a_deep_listing_where_it_was() {
    let lists = async |restarting: bool| {
        let mut bench = Bench::new(Setup { page_size: 4, ..setup("2024-03-10T12:00:00Z") }).await;
        for day in 0..100 {
            bench.outside.apply(&Change::Siblings { count: 1, age: day * DAY + HOUR });
        }
        let (mut turns, mut lists) = (0, 0);
        while bench.a_turn(false, true).await.unwrap().unfinished {
            turns += 1;
            lists = bench.bucket.requests().lists;
            if restarting {
                bench.restart().await.unwrap();
            }
        }
        assert_eq!(bench.counted().await, 100);
        (turns, lists)
    };
    assert_eq!(lists(true).await, lists(false).await);
}

#[tokio::test]
async fn a_killed_turn_asks_again_for_few_pages() {
    let mut bench = Bench::new(Setup { page_size: 5, ..setup("2024-03-10T12:00:00Z") }).await;
    for day in 0..60 {
        bench.outside.apply(&Change::Siblings { count: 1, age: day * DAY + 3 * HOUR });
    }
    let mut turns = 0;
    while bench.world.turn(false, false, Cut::Killed(40)).await.unwrap().is_none() {
        turns += 1;
        assert!(turns < 20, "it gets nowhere");
    }
    assert_eq!((bench.counted().await, bench.vault.files().len()), (60, 60));
    // Those of three months, the tail, and three to find the months.
    let pages = 2 + 6 + 5 + 1 + 3;
    // What was listed ahead, and what was under way together.
    assert!(bench.bucket.requests().lists <= pages + 4 * turns, "{:?} for {turns} deaths", bench.bucket.requests());
}

/// LIST requests of a day of polls, every half an hour.
async fn lists_of_a_day(bench: &mut Bench) -> u64 {
    let before = bench.bucket.requests().lists;
    for _ in 0..48 {
        bench.advance(30 * MINUTE);
        bench.outside.apply(&Change::Siblings { count: 1, age: 5 * MINUTE });
        bench.rest().await;
    }
    bench.bucket.requests().lists - before
}

#[tokio::test]
async fn a_clock_of_ours_that_is_wrong_loses_nothing_and_lists_no_more_often() {
    for ahead in [-10 * YEAR, -3 * DAY, -HOUR, HOUR, 3 * DAY, 10 * YEAR] {
        let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
        let calm = lists_of_a_day(&mut bench).await;
        bench.set_clocks(ahead, 0);
        let wrong = lists_of_a_day(&mut bench).await;
        assert!(wrong <= calm + 4, "{wrong} listings where there were {calm}, with a clock {ahead} s ahead");
        assert_eq!(bench.counted().await, 96);
        bench.restart().await.unwrap();
        bench.set_clocks(0, 0);
        lists_of_a_day(&mut bench).await;
        bench.calm_down().await.unwrap();
    }
}

#[tokio::test]
async fn a_clock_of_the_service_that_is_wrong_for_a_while_loses_nothing() {
    for ahead in [-10 * YEAR, -HOUR, HOUR, 10 * YEAR] {
        let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
        lists_of_a_day(&mut bench).await;
        bench.set_clocks(0, ahead);
        lists_of_a_day(&mut bench).await;
        bench.set_clocks(0, 0);
        let lists = lists_of_a_day(&mut bench).await;
        assert!(lists < 130, "{lists} listings with a clock that was {ahead} s ahead");
        assert_eq!(bench.counted().await, 144);
        bench.calm_down().await.unwrap();
    }
}

#[tokio::test]
async fn a_clock_that_jumps_between_turns_lets_no_listing_claim_what_it_did_not_see() {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    bench.advance(MINUTE);
    bench.set_clocks(5 * HOUR, 0);
    bench.restart().await.unwrap();
    bench.a_turn(false, false).await.unwrap();
    assert_eq!(bench.listed_through().as_deref(), Some("2024-03-10T12:01:00Z"));
    bench.calm_down().await.unwrap();
}

#[tokio::test]
async fn a_service_whose_clock_jumps_at_every_answer_is_polled_all_the_same() {
    let mut bench = Bench::at_rest(setup("2024-03-10T12:00:00Z")).await;
    bench.advance(MINUTE);
    bench.outside.apply(&Change::Siblings { count: 1, age: MINUTE });
    let bucket = bench.bucket.clone();
    let now = bench.outside.past().now;
    for (at, minutes) in [(1, 6), (3, 12), (5, 18)] {
        let (bucket, time) = (bucket.clone(), trailsync::clock::shift(now, minutes * MINUTE));
        bench.wire.meanwhile(at, move || bucket.set_time(time));
    }
    bench.a_turn(true, true).await.unwrap();
    assert_eq!(bench.counted().await, 1);
}

#[tokio::test]
async fn a_long_listing_does_not_take_back_what_shorter_ones_reached() {
    let mut bench = Bench::at_rest(Setup { page_size: 5, ..setup("2024-03-10T12:00:00Z") }).await;
    for day in 0..40 {
        bench.outside.apply(&Change::Siblings { count: 1, age: day * DAY + HOUR });
    }
    bench.world.mirror.list_everything(&mut bench.world.progress).await.unwrap();
    let mut reached = bench.listed_through();
    loop {
        bench.advance(MINUTE);
        let turn = bench.a_turn(true, true).await.unwrap();
        assert!(bench.listed_through() > reached, "{:?} after {reached:?}", bench.listed_through());
        reached = bench.listed_through();
        if !turn.unfinished {
            break;
        }
    }
}
