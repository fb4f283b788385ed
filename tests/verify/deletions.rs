//! Any subset of digests and logs may be deleted: every hour and every file is named.

use std::collections::BTreeSet;

use proptest::prelude::*;
use trailsync::verify::finding::{Verdict, What};

use crate::maker::*;

const HOURS: i64 = 12;

fn hours() -> impl Strategy<Value = BTreeSet<i64>> {
    proptest::collection::btree_set(1..=HOURS, 0..=usize::try_from(HOURS).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_deleted_hour_and_file_is_reported_by_name(
        digests in hours(),
        logs in proptest::collection::btree_set((1..=HOURS, 0..2_usize), 0..24),
        sealed in any::<bool>(),
    ) {
        let mut maker = Maker::chain("t", HOURS, 2);
        if sealed {
            maker.seal();
        }
        for end in &digests {
            maker.files.take_digest(&maker.digests[end]);
        }
        for (end, number) in &logs {
            maker.files.take(&maker.logs[end][*number]);
        }
        let options = trailsync::verify::Options { to: Some(hour(HOURS)), ..options(10_000) };
        let mut verified = trailsync::verify::verify(&maker.files, None, &options, &trailsync::verify::Silent).unwrap();
        let seen: BTreeSet<_> = found(&mut verified).into_iter().collect();
        let mut expected = BTreeSet::new();
        let all_digests_gone = digests.len() == usize::try_from(HOURS).unwrap();
        for end in &digests {
            let key = &maker.digests[end];
            // A chain of which nothing is left is known by what was recorded of it.
            if !all_digests_gone {
                expected.insert((Verdict::Gap, What::Hour, key.clone()));
            }
            if sealed {
                expected.insert((Verdict::Missing, What::Digest, key.clone()));
            }
        }
        for (end, number) in &logs {
            // Without its digest and without a record, nothing here ever named the log: its hour is named.
            if sealed || !digests.contains(end) {
                expected.insert((Verdict::Missing, What::Log, maker.logs[end][*number].clone()));
            }
        }
        prop_assert_eq!(seen, expected);
        if !all_digests_gone {
            prop_assert_eq!(verified.tally.chains[0].gap_hours, digests.len() as u64);
        }
    }
}
