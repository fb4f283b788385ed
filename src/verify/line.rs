//! One chain as it is walked: each digest settled by the next, joined to the one before, hours without any named.

use super::arrival::tail;
use super::finding::{Finding, Verdict, What};
use super::settle::{Held, Keys, Settled};
use super::tally::{Chain, Hours};
use crate::chain::{self, Gap, HOUR_SECONDS, Joint, Seen, Why};
use crate::clock::{Timestamp, seconds_between, shift};
use crate::digest::{Digest, Name};

/// The folder and trail of a chain, for naming digests that are not here.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Number of its chain.
    pub chain: usize,
    /// 12 digits.
    pub account: String,
    /// Region of its folder.
    pub region: String,
    /// The trail's name.
    pub trail: String,
    /// The region in which the trail was made.
    pub home: String,
    /// `…/CloudTrail-Digest/<region>/`
    pub folder: String,
    /// Its digests are for logs that came late; hours without any are no gap.
    pub backfill: bool,
}

/// What is to be verified, and what may be missing at its ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    /// Nothing before.
    pub from: Option<Timestamp>,
    /// Nothing from here on.
    pub to: Option<Timestamp>,
    /// The copy holds nothing older.
    pub since: Option<Timestamp>,
    /// The hour of the oldest log of this scope.
    pub oldest: Option<Timestamp>,
}

/// A chain as far as it was walked.
pub struct Line {
    /// Which one.
    pub identity: Identity,
    held: Option<Held>,
    before: Option<(Seen, String)>,
    /// Digests since then that cannot be believed: the ends of their hours and their keys.
    doubtful: Vec<(Timestamp, String)>,
}

/// What a step along a chain gave.
#[derive(Default)]
pub struct Walked {
    /// What was found.
    pub findings: Vec<Finding>,
    /// A digest that is believed: what it names is to be read. Its key, and what stood before `AWSLogs/` then.
    pub believed: Option<(Digest, String, String)>,
}

impl Line {
    /// At its beginning.
    pub fn new(identity: Identity) -> Self {
        Self { identity, held: None, before: None, doubtful: Vec::new() }
    }

    /// Takes the next digest, which settles the one before.
    pub fn next(&mut self, next: Held, keys: &Keys, span: &Span, chain: &mut Chain) -> Walked {
        let held = self.held.replace(next);
        match held {
            Some(held) => self.settle(&held, keys, span, chain),
            None => Walked::default(),
        }
    }

    /// Settles the last one.
    pub fn last(&mut self, keys: &Keys, span: &Span, chain: &mut Chain) -> Walked {
        match self.held.take() {
            Some(held) => self.settle(&held, keys, span, chain),
            None => Walked::default(),
        }
    }

    /// Names the hours that are missing at the end, when digests should reach up to `due`.
    pub fn end(&mut self, due: Option<Timestamp>, span: &Span, chain: &mut Chain) -> Vec<Finding> {
        let mut findings = Vec::new();
        let Some((before, _)) = self.before.take() else { return findings };
        chain.ended = before.is_final();
        let ends: Vec<_> = std::mem::take(&mut self.doubtful);
        let latest = shift(before.end, 31 * 24 * HOUR_SECONDS);
        let mut cursor = before.end;
        for (end, _) in ends.into_iter().filter(|(end, _)| *end <= latest) {
            cursor = self.doubt(cursor, end, span, chain, &mut findings);
        }
        if let Some(due) = due
            && !before.is_final()
            && due > cursor
        {
            self.gap(Gap { from: cursor, to: due, why: Why::Absent }, span, chain, &mut findings);
        }
        findings
    }

    /// The end of the last digest that is believed.
    pub fn reaches(&self) -> Option<Timestamp> {
        self.before.as_ref().map(|(seen, _)| seen.end)
    }

    /// It ended with its last digest.
    pub fn is_ended(&self) -> bool {
        self.before.as_ref().is_some_and(|(seen, _)| seen.is_final())
    }

    fn settle(&mut self, held: &Held, keys: &Keys, span: &Span, chain: &mut Chain) -> Walked {
        let settled = held.settle(self.held.as_ref(), keys);
        let mut walked = Walked::default();
        if !held.quiet {
            self.count(held, &settled, keys, chain, &mut walked.findings);
        }
        let document = match (&held.arrival.document, settled.verdict) {
            (Ok(document), Verdict::Valid) => document,
            _ => {
                let end = held.arrival.end;
                if self.identity.backfill {
                    chain.unsure.insert(shift(end, -HOUR_SECONDS), end);
                }
                self.doubtful.push((end, held.arrival.key.clone()));
                return walked;
            }
        };
        self.join(&document.digest, span, chain, &mut walked.findings);
        let seen = Seen::of(&document.digest, document.hash, settled.signature, true);
        if !held.quiet {
            chain.keys.insert(document.digest.fingerprint.clone());
            if !self.identity.backfill {
                chain.from.get_or_insert(seen.start);
                chain.last = Some(seen.end);
                chain.push(seen.start, seen.end, Hours::Proven);
            }
            walked.believed = Some((document.digest.clone(), held.arrival.key.clone(), document.prefix.clone()));
        }
        self.before = Some((seen, held.arrival.key.clone()));
        walked
    }

    /// Counts a digest and says what is wrong with it.
    fn count(&self, held: &Held, settled: &Settled, keys: &Keys, chain: &mut Chain, findings: &mut Vec<Finding>) {
        let verdict = held.arrival.around.as_ref().filter(|_| settled.verdict == Verdict::Valid);
        let (verdict, detail) = match verdict {
            Some((verdict, why)) => (*verdict, why.clone()),
            None => (settled.verdict, settled.detail.clone()),
        };
        if self.identity.backfill {
            chain.backfills.add(verdict)
        } else {
            chain.digests.add(verdict)
        }
        // Said once for the region, where there is no key to judge by.
        let unjudged = verdict == Verdict::UnknownKey && !matches!(keys, Keys::Here(_));
        if !unjudged && !matches!(verdict, Verdict::Valid | Verdict::Unknown) {
            findings.push(self.finding(verdict, What::Digest, held.arrival.key.clone(), detail));
        }
        if let Some((verdict, why)) = &settled.metadata {
            findings.push(self.finding(*verdict, What::Metadata, held.arrival.key.clone(), why.clone()));
        }
    }

    /// Judges a believed digest by the one before, and names the hours between.
    fn join(&mut self, next: &Digest, span: &Span, chain: &mut Chain, findings: &mut Vec<Finding>) {
        let doubtful = std::mem::take(&mut self.doubtful);
        let link = next.previous.as_ref().map(|link| tail(&link.origin.key));
        let follows_doubtful = doubtful.last().is_some_and(|(_, key)| Some(tail(key)) == link);
        if self.identity.backfill {
            self.blame(next, chain, findings);
            return;
        }
        let Some((before, _)) = &self.before else {
            return self.begin(next, follows_doubtful, span, chain, findings);
        };
        let (end, step) = (before.end, chain::step(Some(before), next));
        if !follows_doubtful {
            self.blame(next, chain, findings);
        }
        let mut cursor = end;
        for (end, _) in doubtful.iter().filter(|(end, _)| *end <= next.start) {
            cursor = self.doubt(cursor, *end, span, chain, findings);
        }
        let gap = match step.gap {
            _ if cursor < next.start && cursor > end => Some(Gap { from: cursor, to: next.start, why: Why::Absent }),
            _ if cursor > end => None,
            Some(gap) if !(follows_doubtful && next.start <= end) => Some(gap),
            _ => None,
        };
        if let Some(gap) = gap {
            self.gap(gap, span, chain, findings);
        }
    }

    /// The first believed digest of the chain: does the chain begin here as it should?
    fn begin(&self, next: &Digest, follows: bool, span: &Span, chain: &mut Chain, findings: &mut Vec<Finding>) {
        if chain::step(None, next).joint == Joint::Begins {
            return;
        }
        let hour_before = shift(next.start, -HOUR_SECONDS);
        if follows {
            return chain.push(hour_before, next.start, Hours::Unproven);
        }
        let floor = span.since.max(span.from);
        if floor.is_some_and(|floor| next.start <= floor) {
            return;
        }
        let evidence = span.oldest.map_or(hour_before, |oldest| hour_before.min(oldest));
        // Counted back from the digest that is here: so the ones before it were named.
        let from = floor.unwrap_or(evidence);
        let first = shift(from, seconds_between(from, next.start).rem_euclid(HOUR_SECONDS));
        for (from, to) in [(from, first), (first, next.start)].into_iter().filter(|(from, to)| from < to) {
            self.gap(Gap { from, to, why: Why::Absent }, span, chain, findings);
        }
    }

    /// The one before is not the one that this digest names.
    fn blame(&self, next: &Digest, chain: &mut Chain, findings: &mut Vec<Finding>) {
        let Some((before, key)) = &self.before else { return };
        let what = match chain::step(Some(before), next).joint {
            Joint::OtherHash => "hash",
            Joint::OtherSignature => "signature",
            _ => return,
        };
        let detail =
            format!("it is signed, but the next digest, {}, names another {what}: it was replaced", next.origin.key);
        findings.push(self.finding(Verdict::Altered, What::Digest, key.clone(), detail));
        if self.identity.backfill {
            chain.backfills.correct(Verdict::Altered);
        } else {
            chain.digests.correct(Verdict::Altered);
            chain.unproven(before.start, before.end);
        }
    }

    /// An hour whose digest is here but cannot be believed; what lies before it is a gap. Returns its end.
    fn doubt(
        &self,
        cursor: Timestamp,
        end: Timestamp,
        span: &Span,
        chain: &mut Chain,
        findings: &mut Vec<Finding>,
    ) -> Timestamp {
        let start = shift(end, -HOUR_SECONDS).max(cursor);
        if start > cursor {
            self.gap(Gap { from: cursor, to: start, why: Why::Absent }, span, chain, findings);
        }
        chain.push(start, end, Hours::Unproven);
        end.max(cursor)
    }

    /// Names each hour of a gap.
    fn gap(&self, gap: Gap, span: &Span, chain: &mut Chain, findings: &mut Vec<Finding>) {
        let from = span.from.map_or(gap.from, |from| gap.from.max(from));
        let to = span.to.map_or(gap.to, |to| gap.to.min(to));
        if self.identity.backfill || to < from || (to == from && gap.to > gap.from) {
            return;
        }
        if gap.is_expected() {
            chain.push(from, to, Hours::Stopped);
            let detail = "logging was stopped, and started again later".to_owned();
            return findings.push(self.hour(Verdict::Stopped, (from, to), to, detail));
        }
        if from == to {
            return findings.push(self.hour(Verdict::Gap, (from, to), to, why(gap.why).to_owned()));
        }
        // A range that is asked for may cut an hour; its digest is named by the whole one.
        for (start, end) in gap.hours().filter(|(start, end)| *start < to && from < *end) {
            chain.gap_hours += 1;
            let part = (start.max(from), end.min(to));
            findings.push(self.hour(Verdict::Gap, part, end, why(gap.why).to_owned()));
        }
        chain.push(from, to, Hours::Gap);
    }

    /// An hour, or the part of it that is asked for, and the name of the digest that would end at `end`.
    fn hour(&self, verdict: Verdict, (from, to): (Timestamp, Timestamp), end: Timestamp, detail: String) -> Finding {
        let Identity { account, region, trail, home, folder, .. } = &self.identity;
        let key = Name { trail, home, end, backfill: false }.key(folder, account, region, end);
        Finding { from: Some(from), to: Some(to), ..self.finding(verdict, What::Hour, key, detail) }
    }

    fn finding(&self, verdict: Verdict, what: What, key: String, detail: String) -> Finding {
        let Identity { account, region, trail, .. } = self.identity.clone();
        Finding { verdict, what, account, region, trail, key, from: None, to: None, detail }
    }
}

fn why(why: Why) -> &'static str {
    match why {
        Why::Absent => "no digest of this hour is here",
        Why::Unproven => "no digest of this hour can be believed",
        Why::Stopped => "logging was stopped",
        Why::Restarted => {
            "a chain begins anew here, and the one before had not ended: validation was off, or digests are gone"
        }
        Why::Uncovered => "two digests that name each other leave this time out",
    }
}
