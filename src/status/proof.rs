//! How far streams and accounts are proved, and what holds the proof back.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::Rows;
use crate::clock::Timestamp;
use crate::ledger::{ChainRow, CheckpointRow, StreamId};

/// Where a proof stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proving {
    /// There are no digests: nothing can be proved.
    #[default]
    Unavailable,
    /// Its trail was stopped or deleted: it is proved to its end.
    Ended,
    /// It follows the digests as they come.
    Proven,
    /// It has not begun.
    Waiting,
    /// It stands still.
    Held,
}

impl fmt::Display for Proving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unavailable => "unavailable",
            Self::Ended => "ended",
            Self::Proven => "proven",
            Self::Waiting => "waiting",
            Self::Held => "held back",
        })
    }
}

/// How far the proof of a stream is, or of an account with all its streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// In one word.
    #[serde(rename = "proof")]
    pub state: Proving,
    /// An unbroken chain of signed digests, and all that they name, from here
    pub proven_from: Option<Timestamp>,
    /// to here.
    pub proven_through: Option<Timestamp>,
    /// What keeps it from going on.
    pub held_back_by: Option<String>,
    /// Since when.
    pub held_since: Option<Timestamp>,
}

/// What the proofs of streams are made of, by what they are looked up with.
pub(super) struct Proofs<'r> {
    /// The streams of digests, by source, organization, account and region.
    digests: HashMap<(&'r str, Option<&'r str>, &'r str, &'r str), &'r CheckpointRow>,
    /// The furthest live chain of each stream of digests.
    chains: HashMap<StreamId, &'r ChainRow>,
    /// Why keys cannot be had, by source and region.
    keys: HashMap<(&'r str, &'r str), &'r str>,
}

impl<'r> Proofs<'r> {
    pub(super) fn of(rows: &'r Rows) -> Self {
        let digests = rows.checkpoints.iter().filter(|row| row.kind == "CloudTrail-Digest");
        let mut chains = HashMap::<StreamId, &ChainRow>::new();
        for chain in &rows.chains {
            let best = chains.entry(chain.stream).or_insert(chain);
            if (!chain.ended, chain.proven_through) >= (!best.ended, best.proven_through) {
                *best = chain;
            }
        }
        let keys = rows
            .key_requests
            .iter()
            .filter_map(|keys| Some(((keys.source.as_str(), keys.region.as_str()), keys.error.as_deref()?)));
        Self { digests: digests.map(|row| (place(row), row)).collect(), chains, keys: keys.collect() }
    }

    /// The proof of a stream: by the furthest live chain of its account and region.
    pub(super) fn of_stream(&self, row: &CheckpointRow) -> Proof {
        let Some(digests) = self.digests.get(&place(row)) else { return Proof::default() };
        let Some(chain) = self.chains.get(&digests.id) else {
            // Without a complete listing there may be digests yet.
            let state = if digests.listed_through.is_some() { Proving::Unavailable } else { Proving::Waiting };
            return Proof { state, ..Proof::default() };
        };
        Proof::of_chain(chain, self.keys.get(&(row.source.as_str(), row.region.as_str())).copied())
    }
}

fn place(row: &CheckpointRow) -> (&str, Option<&str>, &str, &str) {
    (&row.source, row.organization.as_deref(), &row.account, &row.region)
}

impl Proof {
    fn of_chain(chain: &ChainRow, keys: Option<&str>) -> Self {
        let state = match chain {
            chain if chain.proven_through.is_none() => Proving::Waiting,
            chain if chain.held_why.is_some() => Proving::Held,
            chain if chain.ended => Proving::Ended,
            _ => Proving::Proven,
        };
        // While keys cannot be had, why they cannot is what somebody can mend.
        let why = chain.held_why.as_ref().map(|why| match keys {
            Some(error) if why.starts_with("public keys") => format!("public keys: {error}"),
            _ => why.clone(),
        });
        Self {
            state,
            proven_from: chain.proven_from,
            proven_through: chain.proven_through,
            held_back_by: why,
            held_since: chain.held_since,
        }
    }

    /// An account is proved where all its streams are that can be.
    pub(super) fn add(&mut self, stream: &Self) {
        let is_open = |proof: &Self| proof.state > Proving::Ended;
        let through = match (is_open(self), is_open(stream)) {
            (true, true) => self.proven_through.zip(stream.proven_through).map(|(a, b)| a.min(b)),
            (true, false) => self.proven_through,
            (false, true) => stream.proven_through,
            (false, false) => self.proven_through.max(stream.proven_through),
        };
        let from = match (is_open(self), is_open(stream)) {
            (true, true) => self.proven_from.zip(stream.proven_from).map(|(a, b)| a.max(b)),
            (true, false) => self.proven_from,
            _ => stream.proven_from.or(self.proven_from),
        };
        if stream.state > self.state {
            *self = stream.clone();
        }
        (self.proven_from, self.proven_through) = (from, through);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(through: Option<&str>, ended: bool, why: Option<&str>) -> ChainRow {
        let time = |text: &str| text.parse().unwrap();
        let held_why = why.map(str::to_owned);
        ChainRow {
            proven_from: through.map(time),
            proven_through: through.map(time),
            ended,
            held_why,
            ..ChainRow::default()
        }
    }

    fn proof(through: Option<&str>, ended: bool, why: Option<&str>) -> Proof {
        Proof::of_chain(&chain(through, ended, why), None)
    }

    const EARLY: Option<&str> = Some("2026-03-01T00:00:00Z");
    const LATE: Option<&str> = Some("2026-03-02T00:00:00Z");

    #[test]
    fn an_account_is_proved_where_all_its_streams_are_that_can_be() {
        let mut account = Proof::default();
        account.add(&proof(LATE, false, None));
        account.add(&proof(EARLY, true, None));
        assert_eq!((account.state, account.proven_through), (Proving::Proven, LATE.map(|t| t.parse().unwrap())));
        account.add(&proof(EARLY, false, Some("a gap")));
        assert_eq!((account.state, account.proven_through), (Proving::Held, EARLY.map(|t| t.parse().unwrap())));
        assert_eq!(account.held_back_by.as_deref(), Some("a gap"));
        account.add(&proof(None, false, Some("the first listing")));
        assert_eq!((account.state, account.proven_through), (Proving::Held, None));
    }

    #[test]
    fn missing_keys_are_said_with_the_permission_that_is_missing() {
        let waits = chain(None, false, Some("public keys, which cannot be asked for"));
        let proof = Proof::of_chain(&waits, Some("allow it"));
        assert_eq!((proof.state, proof.held_back_by.as_deref()), (Proving::Waiting, Some("public keys: allow it")));
        let gap = chain(EARLY, false, Some("a gap"));
        assert_eq!(Proof::of_chain(&gap, Some("allow it")).held_back_by.as_deref(), Some("a gap"));
    }
}
