use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600;

fn at(hour: i64) -> Timestamp {
    time(1_790_000_000 + hour * HOUR)
}

fn origin(number: i64) -> Origin {
    Origin { bucket: "logs".into(), key: format!("digest-{number}") }
}

fn hash(number: i64) -> [u8; 32] {
    [u8::try_from(number % 251).unwrap(); 32]
}

/// The digest of an hour; `begins` names none before it, `minutes` cuts it short.
fn digest(number: i64, begins: bool, minutes: i64) -> Span {
    let link = |number| Mark::of(&origin(number), &hash(number), &hash(number));
    Span {
        start: at(number).as_second(),
        end: shift(at(number), minutes * 60).as_second(),
        before: (!begins).then(|| link(number - 1)),
        last: link(number),
        last_start: at(number).as_second(),
        last_linked: !begins,
    }
}

fn of(digests: impl IntoIterator<Item = Span>) -> Spans {
    let mut spans = Spans::default();
    for digest in digests {
        spans.add(digest);
        spans.begin(None, Timestamp::MIN);
    }
    spans
}

fn hours(gaps: &[Gap]) -> Vec<Timestamp> {
    gaps.iter().flat_map(|gap| gap.hours().map(|(from, _)| from)).collect()
}

#[test]
fn a_missing_hour_holds_the_proof_and_its_late_digest_lets_it_go_on() {
    let mut spans = of([0, 1, 3, 4, 5].map(|n| digest(n, n == 0, 60)));
    assert_eq!(spans.reach().through, Some(at(2)));
    assert_eq!(hours(&spans.gaps(at(6), &[])), [at(2)]);
    assert!(spans.gaps(at(2), &[]).is_empty(), "it is not due yet");
    assert!(spans.gaps(at(6), &[(at(2), at(3))]).is_empty(), "it is here and waits for something");
    spans.add(digest(2, false, 60));
    assert_eq!((spans.reach().through, spans.holes().len()), (Some(at(6)), 0));
    assert_eq!(hours(&spans.gaps(at(8), &[])), [at(6), at(7)], "what is due at the end of the chain is named, too");
}

#[test]
fn a_digest_that_names_another_hash_breaks_the_chain_without_a_missing_hour() {
    let mut other = digest(1, false, 60);
    other.before = Some(Mark::of(&origin(0), &hash(9), &hash(0)));
    let spans = of([digest(0, true, 60), other]);
    assert_eq!(spans.reach().through, Some(at(1)));
    assert_eq!(spans.holes()[0].joint, Joint::OtherHash);
}

#[test]
fn a_stopped_trail_has_ended_and_one_that_starts_again_goes_on() {
    let mut spans = of([digest(0, true, 60), digest(1, false, 20)]);
    let ended = spans.reach();
    assert!(ended.ended && spans.gaps(at(100), &[]).is_empty());
    spans.add(digest(50, true, 60));
    let again = spans.reach();
    assert_eq!((again.from, again.through, again.ended), (Some(at(50)), Some(at(51)), false));
    assert!(spans.holes().is_empty());
}

#[test]
fn a_chain_that_begins_anew_unexpectedly_is_a_gap_and_the_furthest_chain_is_shown() {
    let spans = of([digest(0, true, 60), digest(5, true, 60)]);
    assert_eq!(spans.reach().through, Some(at(6)));
    assert_eq!(hours(&spans.gaps(at(6), &[])), [at(1), at(2), at(3), at(4)]);
}

#[test]
fn the_first_digest_here_waits_for_the_one_that_it_names_unless_that_is_from_before_since() {
    let mut spans = Spans::default();
    spans.add(digest(5, false, 60));
    spans.begin(None, at(4));
    assert_eq!(spans.reach(), Reach::default());
    let mut cut = spans.clone();
    cut.begin(Some(at(4)), at(4));
    assert_eq!(cut.reach().from, Some(at(5)));
    spans.begin(None, at(5));
    assert_eq!(spans.reach().through, Some(at(6)));
}

#[test]
fn it_survives_being_written_and_is_small() {
    let spans = of((0..500).map(|n| digest(n, n == 0, 60)));
    let text = serde_json::to_string(&spans).unwrap();
    assert_eq!(serde_json::from_str::<Spans>(&text).unwrap(), spans);
    assert!(text.len() < 500, "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Some hours have no digest; the rest come in any order, some twice.
    #[test]
    fn every_order_of_arrival_proves_the_same(
        gone in proptest::collection::btree_set(1_i64..40, 0..5),
        restart in proptest::option::of(1_i64..40),
        order in Just((0..40_i64).collect::<Vec<_>>()).prop_shuffle(),
        twice in proptest::collection::vec(0_i64..40, 0..5),
    ) {
        let here = |n: &i64| !gone.contains(n);
        let make = |n: i64| digest(n, n == 0 || restart == Some(n), 60);
        let straight = of((0..40).filter(here).map(make));
        let shuffled = of(order.into_iter().chain(twice).filter(here).map(make));
        prop_assert_eq!(straight.reach(), shuffled.reach());
        prop_assert_eq!(straight.gaps(at(40), &[]), shuffled.gaps(at(40), &[]));
        // What is proven is unbroken, and ends where the first hour is missing.
        let first = restart.filter(|n| !gone.contains(n)).unwrap_or(0);
        let end = (first..40).find(|n| gone.contains(n) || (*n > first && restart == Some(*n))).unwrap_or(40);
        prop_assert_eq!(straight.reach().through, Some(at(end)));
        // Every missing hour is named, and no other.
        let missing: Vec<_> = hours(&straight.gaps(at(40), &[]));
        let expected: Vec<_> = gone.iter().map(|n| at(*n)).collect();
        if restart.is_none() {
            prop_assert_eq!(missing, expected);
        }
    }
}
