//! One case, one finding: who is blamed, and who is not.

use trailsync::verify::Conclusion;
use trailsync::verify::finding::{Verdict, What};
use trailsync::verify::tally::Hours;

use crate::maker::*;

#[test]
fn a_whole_chain_is_proven_with_odd_trail_names_and_empty_hours() {
    for trail in ["management", "a_b-c.d", "x_20260101T000000Z"] {
        let mut maker = Maker::chain(trail, 30, 3);
        maker.hour(31, 0);
        maker.seal();
        let mut verified = verified(&maker.files);
        assert_eq!(found(&mut verified), [], "{trail}");
        assert_eq!(verified.conclusion(), Conclusion::Proven);
        let chain = &verified.tally.chains[0];
        assert_eq!((chain.runs[0].from, chain.proven_through()), (hour(0), Some(hour(31))));
        assert_eq!((chain.digests.of(Verdict::Valid), chain.logs.of(Verdict::Valid)), (31, 90));
        assert!(!chain.moved && chain.trail == trail);
    }
}

#[test]
fn an_altered_log_is_blamed_alone_and_ends_the_proof_before_its_hour() {
    let mut maker = Maker::chain("t", 6, 2);
    let key = maker.logs[&4][1].clone();
    maker.put(&key, gzip(b"{\"Records\":[]}"));
    let mut verified = verified(&maker.files);
    assert_eq!(found(&mut verified), [(Verdict::Altered, What::Log, key)]);
    assert_eq!(verified.tally.chains[0].proven_through(), Some(hour(3)));
    assert_eq!(verified.conclusion(), Conclusion::Findings);
}

#[test]
fn a_log_that_is_packed_again_is_altered_only_where_the_stored_hash_is_known() {
    let mut maker = Maker::chain("t", 3, 2);
    let key = maker.logs[&2][0].clone();
    let mut sealed = Maker::chain("t", 3, 2);
    sealed.seal();
    for (maker, expected) in [(&mut maker, 0), (&mut sealed, 1)] {
        let mut bytes = maker.files.0[&key].to_vec();
        bytes[9] ^= 1;
        maker.put(&key, bytes);
        assert_eq!(found(&mut verified(&maker.files)).len(), expected);
    }
}

#[test]
fn cut_trailers_trailing_data_and_second_members_are_malformed() {
    let maker = Maker::chain("t", 3, 2);
    let key = maker.logs[&2][0].clone();
    let whole = maker.files.0[&key].to_vec();
    for bytes in [
        whole[..whole.len() - 8].to_vec(),
        [&whole[..], b"x"].concat(),
        [&whole[..], &gzip(b"x")].concat(),
        gunzip(&whole),
    ] {
        let mut files = maker.files.clone();
        files.put(&key, bytes);
        assert_eq!(found(&mut verified(&files)), [(Verdict::Malformed, What::Log, key.clone())]);
    }
}

#[test]
fn a_missing_log_is_named_and_adjacent_missing_digests_each_by_name() {
    let mut maker = Maker::chain("t", 8, 2);
    let log = maker.logs[&2][0].clone();
    maker.files.take(&log);
    let gone: Vec<_> = [4, 5, 6].map(|end| maker.digests[&end].clone()).into();
    gone.iter().for_each(|key| maker.files.take_digest(key));
    let mut verified = verified(&maker.files);
    let hours = gone.into_iter().map(|key| (Verdict::Gap, What::Hour, key));
    let expected: Vec<_> = hours.chain([(Verdict::Missing, What::Log, log)]).collect();
    let mut seen = found(&mut verified);
    seen.sort_by_key(|(_, what, key)| (*what != What::Hour, key.clone()));
    assert_eq!(seen, expected);
    let chain = &verified.tally.chains[0];
    assert_eq!(chain.gap_hours, 3);
    assert_eq!(chain.runs.iter().map(|run| run.hours).collect::<Vec<_>>(), [Hours::Proven, Hours::Gap, Hours::Proven]);
}

#[test]
fn missing_digests_at_either_end_are_gaps() {
    let mut maker = Maker::chain("t", 6, 1);
    for end in [1, 2, 6] {
        maker.files.take_digest(&maker.digests[&end]);
    }
    let expected = [1, 2, 6].map(|end| (Verdict::Gap, What::Hour, maker.digests[&end].clone()));
    assert_eq!(found(&mut verified(&maker.files)), expected);
}

#[test]
fn what_came_before_since_is_no_gap() {
    let mut maker = Maker::chain("t", 6, 1);
    maker.describe(Some(hour(2)));
    for end in [1, 2] {
        maker.files.take_digest(&maker.digests[&end]);
        maker.files.take(&maker.logs[&end][0]);
    }
    assert_eq!(found(&mut verified(&maker.files)), []);
}

#[test]
fn while_the_digest_may_still_come_the_newest_logs_are_pending() {
    let mut maker = Maker::chain("t", 6, 1);
    maker.log(7, 0);
    let look =
        |hours| trailsync::verify::verify(&maker.files, None, &options(hours), &trailsync::verify::Silent).unwrap();
    let mut soon = look(7);
    assert_eq!(found(&mut soon), []);
    assert_eq!(soon.tally.scopes[0].unnamed.of(Verdict::Pending), 1);
    assert_eq!(found(&mut look(12)), [(Verdict::Gap, What::Hour, maker.digest_key(hour(7), false))]);
}

#[test]
fn a_log_that_no_digest_names_is_unreferenced() {
    let mut maker = Maker::chain("t", 6, 1);
    let planted = maker.log(3, 7);
    let odd = format!("AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/2026/03/01/planted.json.gz");
    maker.put(&odd, gzip(b"{}"));
    let seen = found(&mut verified(&maker.files));
    assert!(seen.contains(&(Verdict::Unreferenced, What::Log, planted)), "{seen:?}");
    assert_eq!(seen.len(), 2);
}

#[test]
fn another_trail_without_digests_makes_unnamed_logs_unknown() {
    let mut maker = Maker::chain("t", 8, 1);
    (1..=8).for_each(|end| _ = maker.log(end, 9));
    let mut verified = verified(&maker.files);
    assert_eq!(found(&mut verified), []);
    assert!(verified.tally.scopes[0].another_trail);
    assert_eq!(verified.conclusion(), Conclusion::Unproven);
}

#[test]
fn several_trails_may_name_the_same_log() {
    let mut one = Maker::chain("one", 4, 2);
    let two = Maker::chain("two", 4, 1);
    let shared = one.logs[&2][0].clone();
    let mut both = Maker { trail: "two".into(), ..Maker::new("two") };
    both.files = one.files.clone();
    for end in 1..=4 {
        let logs = if end == 2 { vec![shared.clone()] } else { Vec::new() };
        both.digest(hour(end - 1), hour(end), &logs);
    }
    one.files.0.extend(both.files.0);
    assert_eq!(found(&mut verified(&one.files)), []);
    drop(two);
}

#[test]
fn lost_metadata_are_said_and_the_next_digest_vouches() {
    let mut maker = Maker::chain("t", 6, 1);
    let (inner, last) = (maker.digests[&3].clone(), maker.digests[&6].clone());
    maker.files.take(&format!("{inner}%_meta.json"));
    let mut verified_inner = verified(&maker.files);
    assert_eq!(found(&mut verified_inner), [(Verdict::Missing, What::Metadata, inner.clone())]);
    assert_eq!(verified_inner.tally.chains[0].proven_through(), Some(hour(6)));
    maker.files.take(&format!("{last}%_meta.json"));
    let mut verified = verified(&maker.files);
    let lost = |key: &String| (Verdict::Missing, What::Metadata, key.clone());
    assert_eq!(found(&mut verified), [lost(&inner), lost(&last)]);
    assert_eq!(verified.tally.chains[0].proven_through(), Some(hour(5)));
}

#[test]
fn a_digest_that_was_replaced_by_another_signed_one_is_blamed_and_not_its_successor() {
    let mut maker = Maker::chain("t", 6, 2);
    let (key, before) = (maker.digests[&3].clone(), maker.digests[&2].clone());
    let document = String::from_utf8(gunzip(&maker.files.0[&before])).unwrap();
    let link = (before.clone(), sha256(document.as_bytes()), maker.metadata[&before]["signature"].clone());
    let fewer = maker.logs[&3][..1].to_vec();
    maker.sign(&key, hour(2), hour(3), &fewer, Some(&link), &[]);
    let mut verified = verified(&maker.files);
    assert_eq!(found(&mut verified), [(Verdict::Altered, What::Digest, key)]);
    assert_eq!(verified.tally.chains[0].proven_through(), Some(hour(2)));
}

#[test]
fn a_digest_with_a_signature_of_nobody_is_a_bad_signature() {
    let mut maker = Maker::chain("t", 5, 1);
    let key = maker.digests[&5].clone();
    let metadata = [("signature", signature(0, "other")), ("signature-algorithm", "SHA256withRSA".to_owned())];
    maker.set_metadata(&key, metadata.map(|(name, value)| (name.to_owned(), value)).into());
    assert_eq!(found(&mut verified(&maker.files)), [(Verdict::BadSignature, What::Digest, key)]);
}

#[test]
fn a_chain_that_begins_anew_in_the_middle_is_found_though_no_hour_is_missing() {
    let mut maker = Maker::chain("t", 3, 1);
    maker.last = None;
    maker.hour(4, 1);
    maker.hour(5, 1);
    let findings = all(&mut verified(&maker.files));
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].verdict, findings[0].from), (Verdict::Gap, Some(hour(3))));
}

#[test]
fn a_trail_that_was_stopped_and_started_is_whole() {
    let mut maker = Maker::chain("t", 3, 1);
    maker.digest(hour(3), at(START + 3 * HOUR + 1200), &[]);
    maker.last = None;
    maker.hour(9, 1);
    let mut verified = verified(&maker.files);
    assert_eq!(found(&mut verified), []);
    assert_eq!(verified.tally.chains[0].proven_through(), Some(hour(9)));
    assert_eq!(verified.conclusion(), Conclusion::Proven);
}

#[test]
fn a_copy_that_stands_elsewhere_is_judged_by_its_content_and_the_move_is_said() {
    let maker = Maker::chain("t", 4, 2);
    let moved = maker.files.0.iter().map(|(path, bytes)| {
        let path = if path.starts_with('.') { path.clone() } else { format!("archive/2026/{path}") };
        (path, bytes.clone())
    });
    let mut verified = verified(&Files(moved.collect()));
    assert_eq!(found(&mut verified), []);
    assert!(verified.tally.chains[0].moved);
    assert_eq!(verified.tally.counts.of(Verdict::Moved), 1);
    assert_eq!(verified.tally.chains[0].logs.of(Verdict::Valid), 8);
}

#[test]
fn a_digest_under_the_name_of_another_is_altered() {
    let mut maker = Maker::chain("t", 5, 0);
    let (from, to) = (maker.digests[&2].clone(), maker.digests[&3].clone());
    let bytes = maker.files.0[&from].to_vec();
    maker.put(&to, bytes);
    assert_eq!(found(&mut verified(&maker.files)), [(Verdict::Altered, What::Digest, to)]);
}

#[test]
fn unknown_keys_are_findings_and_no_keys_at_all_leave_the_proof_open() {
    let mut maker = Maker::chain("t", 3, 1);
    maker.key = 1;
    maker.hour(4, 1);
    assert_eq!(found(&mut verified(&maker.files)), [(Verdict::UnknownKey, What::Digest, maker.digests[&4].clone())]);
    let file = ".trailsync/public-keys/us-east-1.json";
    maker.files.take(file);
    let mut verified = verified(&maker.files);
    assert_eq!(found(&mut verified), [(Verdict::UnknownKey, What::Keys, file.to_owned())]);
    assert_eq!(verified.conclusion(), Conclusion::Unproven);
}

#[test]
fn a_key_signs_only_in_its_time() {
    let mut maker = Maker::chain("t", 4, 0);
    maker.keys(&[public(0, START - 9 * HOUR, START - 5 * HOUR)]);
    let seen = found(&mut verified(&maker.files));
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(seen.iter().all(|(verdict, ..)| *verdict == Verdict::BadSignature));
}

#[test]
fn backfill_digests_vouch_for_late_logs_with_the_keys_of_their_own_time() {
    let mut maker = Maker::chain("t", 6, 1);
    let late = maker.log(2, 9);
    let made = START + 500 * HOUR;
    maker.keys(&[public(0, START - HOUR, START + 100 * HOUR), public(1, made - HOUR, made + HOUR)]);
    assert_eq!(found(&mut verified(&maker.files)), [(Verdict::Unreferenced, What::Log, late.clone())]);
    maker.key = 1;
    let key = maker.digest_key(hour(2), true);
    let generated = at(made).to_string();
    let more = [("backfill-generation-timestamp", generated.as_str())];
    maker.sign(&key, hour(1), hour(2), std::slice::from_ref(&late), None, &more);
    let mut whole = verified(&maker.files);
    assert_eq!(found(&mut whole), []);
    assert_eq!(whole.tally.chains[0].backfills.of(Verdict::Valid), 1);
    // Without the time its key is not known; what it names is then not called a plant.
    maker.sign(&key, hour(1), hour(2), std::slice::from_ref(&late), None, &[]);
    assert_eq!(found(&mut verified(&maker.files)), [(Verdict::Malformed, What::Metadata, key)]);
}

#[test]
fn a_log_whose_name_runs_ahead_of_its_digest_is_no_plant_when_that_digest_cannot_be_believed() {
    let mut maker = Maker::chain("t", 2, 1);
    let ahead = maker.log_key(3 * 60 + 4, 0);
    maker.put(&ahead, gzip(b"{\"Records\":[]}"));
    let key = maker.digest(hour(2), hour(3), std::slice::from_ref(&ahead));
    (4..=6).for_each(|end| maker.hour(end, 1));
    assert_eq!(found(&mut verified(&maker.files)), []);
    let document = String::from_utf8(gunzip(&maker.files.0[&key])).unwrap();
    maker.put(&key, gzip(document.replace(&ahead, "nothing").as_bytes()));
    assert_eq!(found(&mut verified(&maker.files)), [(Verdict::Altered, What::Digest, key.clone())]);
    maker.files.take_digest(&key);
    assert_eq!(found(&mut verified(&maker.files)), [(Verdict::Gap, What::Hour, key)]);
}

#[test]
fn hours_before_the_first_digest_are_counted_back_from_it() {
    let mut maker = Maker::chain("t", 6, 1);
    maker.describe(Some(at(START - 20 * 60)));
    [1, 2].into_iter().for_each(|end| maker.files.take_digest(&maker.digests[&end]));
    let before = maker.digest_key(hour(0), false);
    let expected = [before, maker.digests[&1].clone(), maker.digests[&2].clone()];
    assert_eq!(found(&mut verified(&maker.files)), expected.map(|key| (Verdict::Gap, What::Hour, key)));
}

#[test]
fn a_later_version_that_the_digest_vouches_for_is_named() {
    let mut maker = Maker::chain("t", 3, 1);
    let key = maker.logs[&2][0].clone();
    let right = maker.files.0[&key].to_vec();
    let version = &sha256(&right)[..16];
    maker.put(&format!("{key}%_v{version}"), right);
    maker.put(&key, gzip(b"{}"));
    let findings = all(&mut verified(&maker.files));
    let first = findings.iter().find(|finding| finding.verdict == Verdict::Altered).expect("altered");
    assert!(first.key == key && first.detail.contains(version), "{first:?}");
    assert!(findings.iter().any(|finding| finding.verdict == Verdict::Later));
}

#[test]
fn what_a_manifest_names_and_is_not_here_is_missing_also_of_kinds_without_digests() {
    let mut maker = Maker::chain("t", 3, 1);
    let insight = format!("AWSLogs/{ACCOUNT}/CloudTrail-Insight/{REGION}/2026/03/01/x.json.gz");
    maker.put(&insight, gzip(b"{}"));
    maker.seal();
    assert_eq!(found(&mut verified(&maker.files)), []);
    let digest = maker.digests[&2].clone();
    maker.files.take(&insight);
    maker.files.take_digest(&digest);
    assert_eq!(
        found(&mut verified(&maker.files)),
        [
            (Verdict::Missing, What::Digest, digest.clone()),
            (Verdict::Gap, What::Hour, digest),
            (Verdict::Missing, What::Log, insight)
        ]
    );
    // Everything of the account is gone but what was recorded.
    maker.files.0.retain(|path, _| path.starts_with('.'));
    assert_eq!(found(&mut verified(&maker.files)).len(), 3 + 3 + 1);
}

#[test]
fn an_edited_or_missing_manifest_is_found() {
    let mut maker = Maker::chain("t", 3, 1);
    maker.seal();
    let name = maker
        .files
        .0
        .keys()
        .find(|path| path.contains("manifests") && path.contains("CloudTrail-Digest"))
        .cloned()
        .unwrap();
    let next = name.replace(".0001.", ".0002.");
    let first = maker.files.0[&name].to_vec();
    let text = String::from_utf8(gunzip(&first)).unwrap();
    let header = text.lines().next().unwrap().replace(
        "\"generation\":1,\"previous\":null",
        &format!("\"generation\":2,\"previous\":\"{}\"", sha256(&first)),
    );
    maker.files.put(&next, gzip(format!("{header}\n").as_bytes()));
    assert_eq!(found(&mut verified(&maker.files)), []);
    let short = |name: &String| name.strip_prefix(".trailsync/").unwrap().to_owned();
    let mut edited = maker.files.clone();
    edited.put(&name, gzip(format!("{}\n", text.lines().next().unwrap()).as_bytes()));
    assert_eq!(found(&mut verified(&edited)), [(Verdict::Altered, What::Manifest, short(&name))]);
    maker.files.take(&name);
    assert_eq!(found(&mut verified(&maker.files)), [(Verdict::Missing, What::Manifest, short(&name))]);
}

#[test]
fn a_manifest_that_was_edited_or_removed_is_known_by_the_one_that_was_written_next() {
    let mut maker = Maker::chain("t", 5 * 24, 1);
    maker.seal();
    let days = maker.manifests("/CloudTrail/");
    assert_eq!(found(&mut verified(&maker.files)), []);
    let short = |name: &String| name.strip_prefix(".trailsync/").unwrap().to_owned();
    let edit = |files: &mut Files, name: &String| {
        // The log goes, and with it the line that names it.
        let text = String::from_utf8(gunzip(&files.0[name])).unwrap();
        let (kept, _) = text.trim_end().rsplit_once('\n').unwrap();
        files.put(name, gzip(format!("{kept}\n").as_bytes()));
    };
    for name in &days[..days.len() - 1] {
        let mut edited = maker.files.clone();
        edit(&mut edited, name);
        assert_eq!(found(&mut verified(&edited)), [(Verdict::Altered, What::Manifest, short(name))]);
        let mut removed = maker.files.clone();
        removed.take(name);
        assert_eq!(found(&mut verified(&removed)), [(Verdict::Missing, What::Manifest, short(name))]);
    }
    // Adjacent ones, each by name.
    let mut edited = maker.files.clone();
    (1..=2).for_each(|day| edit(&mut edited, &days[day]));
    let both: Vec<_> = (1..=2).map(|day| (Verdict::Altered, What::Manifest, short(&days[day]))).collect();
    assert_eq!(found(&mut verified(&edited)), both);
}

#[test]
fn a_range_is_judged_alone() {
    let mut maker = Maker::chain("t", 60, 1);
    maker.files.take_digest(&maker.digests[&10]);
    maker.files.take_digest(&maker.digests[&50]);
    let range = |from, to| {
        let options = trailsync::verify::Options { from: Some(hour(from)), to: Some(hour(to)), ..options(10_000) };
        trailsync::verify::verify(&maker.files, None, &options, &trailsync::verify::Silent).unwrap()
    };
    let mut inside = range(20, 40);
    assert_eq!(found(&mut inside), []);
    let chain = &inside.tally.chains[0];
    assert_eq!((chain.digests.total(), chain.logs.total(), chain.proven_through()), (20, 20, Some(hour(40))));
    assert_eq!(found(&mut range(5, 20)).len(), 1);
    assert_eq!(found(&mut range(49, 50)).len(), 1);
    assert_eq!(found(&mut range(50, 60)), []);
    assert_eq!(found(&mut range(50, 62)).len(), 2, "the copy should reach to the time that is given");
}

#[test]
fn a_range_that_cuts_an_hour_names_the_digest_of_the_whole_one() {
    let mut maker = Maker::chain("t", 9, 1);
    (3..=6).for_each(|end| maker.files.take_digest(&maker.digests[&end]));
    let half = |number| at(START + number * HOUR + HOUR / 2);
    let options = trailsync::verify::Options { from: Some(half(3)), to: Some(half(4)), ..options(10_000) };
    let mut cut = trailsync::verify::verify(&maker.files, None, &options, &trailsync::verify::Silent).unwrap();
    let seen: Vec<_> = all(&mut cut).into_iter().map(|finding| (finding.key, finding.from, finding.to)).collect();
    let expected = [
        (maker.digests[&4].clone(), Some(half(3)), Some(hour(4))),
        (maker.digests[&5].clone(), Some(hour(4)), Some(half(4))),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_copy_without_digests_is_unavailable() {
    let mut maker = Maker::chain("t", 3, 1);
    maker.digests.values().for_each(|key| maker.files.take_digest(key));
    let mut verified = verified(&maker.files);
    assert_eq!(found(&mut verified), []);
    assert_eq!(verified.conclusion(), Conclusion::Unproven);
}
