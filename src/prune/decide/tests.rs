use proptest::prelude::*;

use super::*;

const AGE: i64 = 90 * 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn record() -> Record {
    Record {
        suffix: "2024/01/01/x.json.gz".into(),
        size: 5,
        modified: at(1_000_000),
        etag: ETag::new("9e107d9d372bb6826bd81d3542a419d6"),
        sha256: [1; 32],
        inflated: Some([2; 32]),
        gone: false,
        deleted: false,
        later: false,
    }
}

fn terms(require: Require) -> Terms {
    Terms { age: AGE, require }
}

fn proof() -> impl Strategy<Value = Proof> {
    prop_oneof![
        Just(Proof::Named("digest".into())),
        Just(Proof::Spent),
        Just(Proof::Nothing),
        Just(Proof::Needed),
        Just(Proof::Newest),
    ]
}

fn before() -> impl Strategy<Value = Option<Option<Outcome>>> {
    let outcome = prop_oneof![
        Just(None),
        Just(Some(Outcome::Deleted)),
        Just(Some(Outcome::Absent)),
        Just(Some(Outcome::Changed)),
        Just(Some(Outcome::Kept)),
    ];
    proptest::option::of(outcome)
}

fn copy() -> impl Strategy<Value = Copy> {
    prop_oneof![4 => Just(Copy::Whole), 1 => Just(Copy::Damaged), 1 => Just(Copy::Lost), 1 => Just(Copy::Unreadable)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn whatever_is_deleted_is_there_old_proven_untroubled_and_whole_at_the_destination(
        (flags, age, etag) in (0..8_u8, -AGE..2 * AGE, prop_oneof![Just("9e10-2"), Just(""), Just("*"), Just("a\"b")]),
        (before, is_failing, alarmed) in (before(), any::<bool>(), any::<bool>()),
        (proof, is_digest, copy) in (proof(), any::<bool>(), copy()),
        stored in any::<bool>(),
    ) {
        let record = Record { gone: flags & 1 != 0, later: flags & 2 != 0, etag: ETag::new(etag), ..record() };
        let standing = Standing { before, is_failing, alarm: alarmed.then(|| "altered".into()) };
        let require = if stored { Require::Stored } else { Require::Proven };
        let now = at(record.modified.as_second() + age);
        let verdict = decide(&record, &standing, (&proof, is_digest), copy, &terms(require), now);
        let is_there = !record.gone && !matches!(before, Some(Some(Outcome::Deleted | Outcome::Absent)));
        let is_itself = !record.later && etag == "9e10-2" && before != Some(Some(Outcome::Changed));
        let is_proven = match is_digest {
            true => proof == Proof::Spent,
            false => matches!(proof, Proof::Named(_)) || (stored && proof == Proof::Nothing),
        };
        let may = is_there && is_itself && age >= AGE && !is_failing && !alarmed && is_proven && copy == Copy::Whole;
        prop_assert_eq!(matches!(verdict, Verdict::Delete(_)), may, "{:?}", verdict);
    }
}

#[test]
fn the_digest_that_vouches_goes_into_the_audit() {
    let now = at(record().modified.as_second() + AGE);
    let decided = |proof: &Proof, require| {
        decide(&record(), &Standing::default(), (proof, false), Copy::Whole, &terms(require), now)
    };
    assert_eq!(decided(&Proof::Named("d".into()), Require::Stored), Verdict::Delete(Some("d".into())));
    assert_eq!(decided(&Proof::Nothing, Require::Stored), Verdict::Delete(None));
    assert_eq!(decided(&Proof::Nothing, Require::Proven), Verdict::Keep(Reason::Unproven));
}

#[test]
fn a_digest_is_never_deleted_without_proof_whatever_is_required_of_logs() {
    let now = at(record().modified.as_second() + AGE);
    for require in [Require::Stored, Require::Proven] {
        let decided =
            |proof: Proof| decide(&record(), &Standing::default(), (&proof, true), Copy::Whole, &terms(require), now);
        assert_eq!(decided(Proof::Nothing), Verdict::Keep(Reason::Unproven));
        assert_eq!(decided(Proof::Named("d".into())), Verdict::Keep(Reason::Unproven));
        assert_eq!(decided(Proof::Needed), Verdict::Keep(Reason::Needed));
        assert_eq!(decided(Proof::Newest), Verdict::Keep(Reason::Newest));
        assert_eq!(decided(Proof::Spent), Verdict::Delete(None));
    }
}

#[test]
fn an_object_is_old_enough_at_the_very_second() {
    let (record, terms) = (record(), terms(Require::Proven));
    let modified = record.modified.as_second();
    assert_eq!(by_record(&record, &terms, at(modified + AGE - 1)), Some(Reason::Young));
    assert_eq!(by_record(&record, &terms, at(modified + AGE)), None);
    assert_eq!(by_record(&record, &terms, at(modified - 5)), Some(Reason::Young), "stored in the future");
}
