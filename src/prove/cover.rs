//! What of time the chains of a stream prove, and of what they lack digests: for those who show it.

use super::ChainState;
use crate::clock::{Timestamp, shift};
use crate::ledger::ChainRow;

/// From, inclusive, to, exclusive.
pub type Range = (Timestamp, Timestamp);

/// Stretches of time, in no order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cover {
    /// Unbroken chains of genuine digests, and all that they name.
    pub proven: Vec<Range>,
    /// Hours that should have a digest and have none.
    pub gaps: Vec<Range>,
}

impl Cover {
    /// What these chains, as the prover left them, say at `now`.
    pub fn of(chains: &[ChainRow], now: Timestamp) -> Self {
        let mut cover = Self::default();
        for chain in chains {
            let state: ChainState = serde_json::from_str(&chain.state).unwrap_or_default();
            let spans: Vec<Range> = state.spans.ranges().collect();
            let begins: Vec<Timestamp> = state.gaps.keys().filter_map(|subject| begin_of(subject)).collect();
            for from in &begins {
                let nexts = spans.iter().map(|(start, _)| *start).chain(begins.iter().copied());
                let to = nexts.filter(|next| next > from).min().unwrap_or(now);
                cover.gaps.push((*from, to));
            }
            cover.proven.extend(spans);
        }
        cover.proven.sort_unstable();
        cover
    }

    /// Whether all of this stretch is proven.
    pub fn proves(&self, (from, to): Range) -> bool {
        let mut reached = from;
        for (start, end) in &self.proven {
            // A chain that was begun anew begins within a minute of the end of the one before.
            if *start <= shift(reached, 60) {
                reached = reached.max(*end);
            }
        }
        reached >= to
    }

    /// Whether an hour of this stretch lacks its digest.
    pub fn lacks(&self, (from, to): Range) -> bool {
        self.gaps.iter().any(|(start, end)| *start < to && *end > from)
    }
}

/// The subject of a gap's alarm ends with its first hour.
fn begin_of(subject: &str) -> Option<Timestamp> {
    subject.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hour * 3600).unwrap()
    }

    #[test]
    fn a_stretch_is_proven_where_spans_cover_all_of_it() {
        let cover = Cover { proven: vec![(at(0), at(24)), (at(24), at(30)), (at(32), at(60))], gaps: Vec::new() };
        assert!(cover.proves((at(0), at(25))) && cover.proves((at(33), at(60))));
        assert!(!cover.proves((at(29), at(33))) && !cover.proves((at(50), at(61))));
    }

    #[test]
    fn a_gap_reaches_to_the_next_span_or_to_now() {
        let state = format!(r#"{{"spans":{{"spans":[],"begun":null}},"gaps":{{"p t (eu-west-1) {}":"d"}}}}"#, at(5));
        let chain = ChainRow { state, ..ChainRow::default() };
        let cover = Cover::of(&[chain], at(7));
        assert_eq!(cover.gaps, [(at(5), at(7))]);
        assert!(cover.lacks((at(0), at(6))) && !cover.lacks((at(0), at(5))) && !cover.lacks((at(7), at(9))));
    }
}
