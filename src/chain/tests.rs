use proptest::prelude::*;

use super::*;

const NOON: i64 = 1_795_521_600;

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(NOON + hour * HOUR_SECONDS).unwrap()
}

fn origin(hour: i64) -> Origin {
    Origin { bucket: "logs".into(), key: format!("digest {hour}") }
}

fn hash(hour: i64) -> [u8; 32] {
    [u8::try_from(hour & 0xff).unwrap(); 32]
}

/// The digest of the hour that ends at `hour`, after the one before unless it begins a chain.
fn digest(hour: i64, begins: bool) -> Digest {
    let previous = serde_json::json!({
        "previousDigestS3Bucket": "logs",
        "previousDigestS3Object": origin(hour - 1).key,
        "previousDigestHashValue": hex::encode(hash(hour - 1)),
        "previousDigestHashAlgorithm": "SHA-256",
        "previousDigestSignature": hex::encode([7, 7]),
    });
    let mut document = serde_json::json!({
        "awsAccountId": "111122223333",
        "digestStartTime": at(hour - 1).to_string(),
        "digestEndTime": at(hour).to_string(),
        "digestS3Bucket": "logs",
        "digestS3Object": origin(hour).key,
        "digestPublicKeyFingerprint": "00",
        "digestSignatureAlgorithm": "SHA256withRSA",
        "logFiles": [],
    });
    if !begins {
        document.as_object_mut().unwrap().extend(previous.as_object().unwrap().clone());
    }
    Digest::parse(document.to_string().as_bytes()).unwrap()
}

fn seen(hour: i64) -> Seen {
    Seen::of(&digest(hour, false), hash(hour), Some(vec![7, 7]), true)
}

#[test]
fn a_digest_that_names_the_one_before_follows_it() {
    assert_eq!(step(Some(&seen(1)), &digest(2, false)), Step { joint: Joint::Follows, gap: None });
}

#[test]
fn another_hash_or_signature_than_named_is_told_apart() {
    let other_hash = Seen { hash: [9; 32], ..seen(1) };
    assert_eq!(step(Some(&other_hash), &digest(2, false)).joint, Joint::OtherHash);
    let other_signature = Seen { signature: Some(vec![8]), ..seen(1) };
    assert_eq!(step(Some(&other_signature), &digest(2, false)).joint, Joint::OtherSignature);
    let no_signature = Seen { signature: None, ..seen(1) };
    assert_eq!(step(Some(&no_signature), &digest(2, false)).joint, Joint::Follows);
}

#[test]
fn a_digest_that_is_not_believed_is_not_blamed_twice() {
    let unreadable = Seen::unreadable(origin(1), at(1));
    assert_eq!(step(Some(&unreadable), &digest(2, false)), Step { joint: Joint::Follows, gap: None });
}

#[test]
fn a_stopped_trail_leaves_a_gap_in_which_nothing_is_missing() {
    let last = Seen { start: shift(at(0), 1800), ..seen(1) };
    assert!(last.is_final());
    let step = step(Some(&last), &digest(5, true));
    assert_eq!(step, Step { joint: Joint::Begins, gap: Some(Gap { from: at(1), to: at(4), why: Why::Stopped }) });
    assert_eq!(tail(&last, at(90)), None);
}

#[test]
fn a_chain_that_begins_anew_without_an_end_before_is_a_gap_even_without_hours() {
    let apart = step(Some(&seen(1)), &digest(5, true)).gap.unwrap();
    assert_eq!((apart.why, apart.hours().count()), (Why::Restarted, 3));
    let joined = step(Some(&seen(1)), &digest(2, true)).gap.unwrap();
    assert_eq!((joined.why, joined.hours().count()), (Why::Restarted, 0));
}

#[test]
fn a_digest_that_names_one_that_never_had_room_leaves_that_hour_unproven() {
    let other = Seen { origin: origin(70), ..seen(1) };
    let gap = step(Some(&other), &digest(2, false)).gap.unwrap();
    assert_eq!(gap.hours().collect::<Vec<_>>(), [(at(0), at(1))]);
}

#[test]
fn the_first_digest_here_begins_the_chain_or_goes_on_with_one() {
    assert_eq!(step(None, &digest(1, true)).joint, Joint::Begins);
    assert_eq!(step(None, &digest(1, false)).joint, Joint::Continues);
}

#[test]
fn a_digest_is_not_missed_before_its_hour_is_over() {
    assert_eq!(tail(&seen(1), shift(at(2), -1)), None);
    assert_eq!(tail(&seen(1), at(2)).unwrap().hours().count(), 1);
    assert_eq!(tail(&seen(1), at(90)).unwrap().hours().count(), 89);
}

proptest! {
    /// Whatever is removed from the middle of a chain, each of its hours is named once, and no other.
    #[test]
    fn every_removed_hour_is_in_one_gap(kept in proptest::collection::vec(any::<bool>(), 1..200)) {
        let mut before = None;
        let mut named = Vec::new();
        for hour in (0i64..).zip(&kept).filter_map(|(hour, kept)| kept.then_some(hour)) {
            let next = digest(hour, hour == 0);
            let step = step(before.as_ref(), &next);
            named.extend(step.gap.iter().flat_map(Gap::hours));
            before = Some(seen(hour));
        }
        if let Some(last) = &before {
            let due = at(i64::try_from(kept.len()).unwrap() - 1);
            named.extend(tail(last, due).iter().flat_map(Gap::hours));
        }
        let first = kept.iter().position(|kept| *kept).unwrap_or(kept.len());
        let removed = (0i64..).zip(&kept).skip(first).filter(|(_, kept)| !**kept);
        let removed: Vec<_> = removed.map(|(hour, _)| (at(hour - 1), at(hour))).collect();
        prop_assert_eq!(named, removed);
    }
}
