//! What was counted: chains with their hours, scopes, verdicts. Bounded, however large the copy.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::finding::{Finding, VERDICTS, Verdict};
use super::spool::Spool;
use crate::chain::HOUR_SECONDS;
use crate::clock::{Timestamp, seconds_between};

/// How many there are of each verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts([u64; VERDICTS.len()]);

/// What is known of some hours of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hours {
    /// A digest that is believed covers them, and all that it names is here.
    Proven,
    /// A digest covers them, but something that it names is not here as it was.
    Bad,
    /// A digest is here, but cannot be believed.
    Unproven,
    /// No digest.
    Gap,
    /// Logging was off.
    Stopped,
}

/// Hours in a row of which the same is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// From.
    pub from: Timestamp,
    /// To.
    pub to: Timestamp,
    /// What is known.
    pub hours: Hours,
}

/// One (account, region) of the copy, in one organization or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// `[prefix/]AWSLogs/`
    pub root: String,
    /// `o-…`
    pub organization: Option<String>,
    /// 12 digits.
    pub account: String,
    /// The region's folder.
    pub region: String,
    /// Objects that no digest names, by what was found.
    pub unnamed: Counts,
    /// Digests were found here.
    pub has_digests: bool,
    /// Another trail without digests writes here, too, as it seems.
    pub another_trail: bool,
}

/// One chain: a trail in one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its scope's number.
    pub scope: usize,
    /// The trail's name.
    pub trail: String,
    /// The region in which the trail was made.
    pub home: String,
    /// Where it begins.
    pub from: Option<Timestamp>,
    /// The end of its last digest.
    pub last: Option<Timestamp>,
    /// Its last digest was cut short: the trail was stopped or deleted.
    pub ended: bool,
    /// Digests by verdict.
    pub digests: Counts,
    /// Digests for logs that came after their hour's own, by verdict.
    pub backfills: Counts,
    /// Named logs by verdict.
    pub logs: Counts,
    /// Hours that no digest vouches for.
    pub gap_hours: u64,
    /// Its time, in order.
    pub runs: Vec<Run>,
    /// Hours with a backfill digest that cannot be believed.
    pub unsure: BTreeMap<Timestamp, Timestamp>,
    /// Hours in which a named log is not as it was.
    pub bad: BTreeMap<Timestamp, Timestamp>,
    /// Fingerprints of the keys that verified it.
    pub keys: BTreeSet<String>,
    /// Where its digests were signed for: `s3://bucket/prefix`.
    pub origins: BTreeSet<String>,
    /// The copy stands elsewhere.
    pub moved: bool,
}

/// All that was counted.
#[derive(Default)]
pub struct Tally {
    /// Scopes, by number.
    pub scopes: Vec<Scope>,
    /// Chains, by number.
    pub chains: Vec<Chain>,
    /// What was found.
    pub findings: Spool,
    /// Findings by verdict.
    pub counts: Counts,
    /// Files read.
    pub files: u64,
    /// Bytes of them.
    pub stored_bytes: u64,
    /// Bytes inside.
    pub inflated_bytes: u64,
    /// Regions whose digests are here and whose keys are not.
    pub keyless: BTreeSet<String>,
    /// Files that no key has.
    pub foreign: u64,
    broken: Option<io::Error>,
}

impl Counts {
    /// How many of one.
    pub fn of(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    /// One more.
    pub fn add(&mut self, verdict: Verdict) {
        self.0[verdict as usize] += 1;
    }

    /// What was called valid turns out to be something else.
    pub fn correct(&mut self, verdict: Verdict) {
        self.0[Verdict::Valid as usize] = self.of(Verdict::Valid).saturating_sub(1);
        self.add(verdict);
    }

    /// All of them together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that are there, the worst first.
    pub fn each(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        VERDICTS.iter().map(|verdict| (*verdict, self.of(*verdict))).filter(|(_, count)| *count > 0)
    }

    /// How many say that something is wrong.
    pub fn failures(&self) -> u64 {
        self.each().filter(|(verdict, _)| verdict.is_failure()).map(|(_, count)| count).sum()
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (verdict, count) in self.each() {
            map.serialize_entry(&verdict, &count)?;
        }
        map.end()
    }
}

impl Chain {
    /// A chain of which nothing is known yet.
    pub fn new(scope: usize, trail: &str, home: &str) -> Self {
        Self {
            scope,
            trail: trail.to_owned(),
            home: home.to_owned(),
            from: None,
            last: None,
            ended: false,
            digests: Counts::default(),
            backfills: Counts::default(),
            logs: Counts::default(),
            gap_hours: 0,
            runs: Vec::new(),
            unsure: BTreeMap::new(),
            bad: BTreeMap::new(),
            keys: BTreeSet::new(),
            origins: BTreeSet::new(),
            moved: false,
        }
    }

    /// Adds hours after those that are known.
    pub fn push(&mut self, from: Timestamp, to: Timestamp, hours: Hours) {
        if to <= from {
            return;
        }
        match self.runs.last_mut() {
            Some(run) if run.hours == hours && run.to >= from => run.to = run.to.max(to),
            _ => self.runs.push(Run { from, to, hours }),
        }
    }

    /// The last hours that were called proven are not: their digest is not the one that the next one names.
    pub fn unproven(&mut self, from: Timestamp, to: Timestamp) {
        while let Some(run) = self.runs.last_mut().filter(|run| run.to > from) {
            if run.from < from {
                run.to = from;
            } else {
                self.runs.pop();
            }
        }
        self.push(from, to, Hours::Unproven);
    }

    /// Up to when all is proven, from the first hour on; `None` when the first hour is not.
    pub fn proven_through(&self) -> Option<Timestamp> {
        let mut through = None;
        for run in &self.runs {
            let joins = through.is_none_or(|through| run.from <= through);
            match run.hours {
                Hours::Proven if joins => through = Some(run.to),
                // Nothing is missing of hours in which nothing was logged.
                Hours::Stopped if joins && through.is_some() => through = Some(run.to),
                _ => break,
            }
        }
        let (through, first) = (through?, self.runs.first()?.from);
        let bad = self.bad.keys().next().copied().unwrap_or(through);
        let through = through.min(bad);
        (through > first).then_some(through)
    }

    /// What is known of a moment.
    pub fn at(&self, time: Timestamp) -> Option<Hours> {
        let after = self.runs.partition_point(|run| run.from <= time);
        let run = self.runs.get(after.checked_sub(1)?)?;
        (time < run.to).then_some(run.hours)
    }

    /// A digest that would name what was delivered then is gone, or cannot be believed.
    pub fn is_open(&self, time: Timestamp) -> bool {
        // All are an hour long: the last one that began holds it, if any does.
        let is_unsure = self.unsure.range(..=time).next_back().is_some_and(|(_, to)| time < *to);
        is_unsure || matches!(self.at(time), Some(Hours::Gap | Hours::Unproven))
    }
}

impl Tally {
    /// Takes a finding and counts it.
    pub fn find(&mut self, finding: Finding) {
        self.counts.add(finding.verdict);
        if let Err(error) = self.findings.push(finding) {
            self.broken.get_or_insert(error);
        }
    }

    /// Why not every finding could be kept.
    pub fn broken(&mut self) -> Option<io::Error> {
        self.broken.take()
    }
}

/// Hours from one time to another, a part of one counted as one.
pub fn hours_between(from: Timestamp, to: Timestamp) -> u64 {
    let seconds = u64::try_from(seconds_between(from, to)).unwrap_or(0);
    seconds.div_ceil(HOUR_SECONDS.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_795_521_600 + hour * HOUR_SECONDS).unwrap()
    }

    #[test]
    fn proof_reaches_to_the_first_hour_that_is_not_proven() {
        let mut chain = Chain::new(0, "t", "r");
        assert_eq!(chain.proven_through(), None);
        (0..5).for_each(|hour| chain.push(at(hour), at(hour + 1), Hours::Proven));
        assert_eq!(chain.runs.len(), 1);
        chain.push(at(5), at(7), Hours::Stopped);
        chain.push(at(7), at(8), Hours::Proven);
        assert_eq!(chain.proven_through(), Some(at(8)));
        chain.push(at(8), at(10), Hours::Gap);
        chain.push(at(10), at(20), Hours::Proven);
        assert_eq!(chain.proven_through(), Some(at(8)));
        chain.unproven(at(18), at(20));
        assert_eq!(chain.runs.last().map(|run| (run.from, run.to, run.hours)), Some((at(18), at(20), Hours::Unproven)));
        chain.bad.insert(at(3), at(4));
        assert_eq!(chain.proven_through(), Some(at(3)));
        chain.bad.insert(at(0), at(1));
        assert_eq!(chain.proven_through(), None);
        assert_eq!(
            [0, 6, 9, 19, 20].map(|hour| chain.at(at(hour))),
            [Some(Hours::Proven), Some(Hours::Stopped), Some(Hours::Gap), Some(Hours::Unproven), None]
        );
    }
}
