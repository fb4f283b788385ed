//! The unbroken stretches of one chain, whatever order its digests came in.
//!
//! A digest that was found genuine, and all of whose logs are here, is a span of its own. Spans that link to each other
//! become one: the result is the same for every order of arrival. What lies between two spans is a hole.

use serde::{Deserialize, Serialize};

use crate::chain::{self, Gap, HOUR_SECONDS, Joint, Seen};
use crate::clock::{Timestamp, shift};
use crate::digest::{Digest, Link, Origin};

/// Holes that are told apart: older ones have long been alarmed.
const MOST: usize = 200;

/// A chain's spans, in order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spans {
    spans: Vec<Span>,
    /// Where the proof begins; spans wait for it to be known.
    begun: Option<i64>,
}

/// Digests in a row, each of which names exactly the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    start: i64,
    end: i64,
    /// What its first digest names; none when it begins a chain.
    before: Option<Mark>,
    last: Mark,
    last_start: i64,
    last_linked: bool,
}

/// A digest's place, hash and signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    bucket: String,
    key: String,
    hash: String,
    signature: String,
}

/// What lies between two spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// How the digest after it joins.
    pub joint: Joint,
    /// Hours without a digest.
    pub gap: Option<Gap>,
    /// The last digest before it.
    pub before: Origin,
}

/// How far a chain is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// The proof holds from here,
    pub from: Option<Timestamp>,
    /// to here.
    pub through: Option<Timestamp>,
    /// The last digest is one of a trail that was stopped or deleted.
    pub ended: bool,
}

impl Span {
    /// One digest, found genuine and whole.
    pub fn of(digest: &Digest, hash: &[u8; 32], signature: &[u8]) -> Self {
        Self {
            start: digest.start.as_second(),
            end: digest.end.as_second(),
            before: digest.previous.as_ref().map(|link| Mark::of(&link.origin, &link.hash, &link.signature)),
            last: Mark::of(&digest.origin, hash, signature),
            last_start: digest.start.as_second(),
            last_linked: digest.previous.is_some(),
        }
    }

    fn seen(&self) -> Seen {
        let Link { origin, hash, signature } = self.last.link();
        let (start, end) = (time(self.last_start), time(self.end));
        Seen { origin, start, end, hash, signature: Some(signature), linked: self.last_linked, genuine: true }
    }

    fn joins(&self, before: &Self) -> chain::Step {
        let link = self.before.as_ref().map(Mark::link);
        chain::join(&before.seen(), time(self.start), link.as_ref())
    }
}

impl Mark {
    fn of(origin: &Origin, hash: &[u8; 32], signature: &[u8]) -> Self {
        let (bucket, key) = (origin.bucket.clone(), origin.key.clone());
        Self { bucket, key, hash: hex::encode(hash), signature: hex::encode(signature) }
    }

    fn link(&self) -> Link {
        let mut hash = [0; 32];
        // Our own hexadecimal; what a damaged database holds instead links to nothing.
        let _ = hex::decode_to_slice(&self.hash, &mut hash);
        let origin = Origin { bucket: self.bucket.clone(), key: self.key.clone() };
        Link { origin, hash, signature: hex::decode(&self.signature).unwrap_or_default() }
    }
}

impl Spans {
    /// Adds a digest's span; one that is there already changes nothing.
    pub fn add(&mut self, span: Span) {
        // Within a span the digests after it vouch for those before them.
        let is_known =
            |known: &Span| known.start <= span.start && (span.end <= known.last_start || known.last == span.last);
        if self.spans.iter().any(is_known) {
            return;
        }
        let at = self.spans.partition_point(|other| (other.start, other.end) <= (span.start, span.end));
        self.spans.insert(at, span);
        for index in [at + 1, at] {
            self.merge(index);
        }
        if self.spans.len() > MOST {
            self.spans.remove(0);
        }
    }

    /// Makes one of the span at `index` and the one before it, where they link.
    fn merge(&mut self, index: usize) {
        let (Some(before), Some(next)) = (index.checked_sub(1).and_then(|i| self.spans.get(i)), self.spans.get(index))
        else {
            return;
        };
        let step = next.joins(before);
        if step.joint == Joint::Follows && step.gap.is_none() {
            let next = self.spans.remove(index);
            let span = &mut self.spans[index - 1];
            (span.end, span.last) = (next.end, next.last);
            (span.last_start, span.last_linked) = (next.last_start, next.last_linked);
        }
    }

    /// Finds out where the proof begins, once everything that was there is listed.
    ///
    /// A digest that names an older one waits for it until `due`, unless that one is from before `since`.
    pub fn begin(&mut self, since: Option<Timestamp>, due: Timestamp) {
        let Some(first) = self.spans.first() else { return };
        let is_cut = since.is_some_and(|since| first.start <= since.as_second() + HOUR_SECONDS);
        if first.before.is_none() || is_cut || time(first.start) <= due {
            // One that is older still may come later than one that begins a chain anew.
            self.begun = Some(self.begun.map_or(first.start, |begun| begun.min(first.start)));
        }
    }

    /// How far the proof is: of several chains one after the other, the last.
    pub fn reach(&self) -> Reach {
        let Some(live) = self.live() else { return Reach::default() };
        let span = &self.spans[live];
        let ended = self.spans.last().is_some_and(|last| last.seen().is_final());
        Reach { from: Some(time(span.start)), through: Some(time(span.end)), ended }
    }

    /// The ranges that are proven: of each chain its first stretch, as far as it is unbroken. What follows a hole is not.
    pub fn proven(&self) -> Vec<(Timestamp, Timestamp)> {
        let Some(begun) = self.begun else { return Vec::new() };
        let begins = |span: &&Span| span.start == begun || (span.start > begun && span.before.is_none());
        self.spans.iter().filter(begins).map(|span| (time(span.start), time(span.end))).collect()
    }

    fn live(&self) -> Option<usize> {
        self.begun?;
        // A digest that names none before it began a chain: what was before is another one.
        Some(self.spans.iter().rposition(|span| span.before.is_none()).unwrap_or(0)).filter(|at| *at < self.spans.len())
    }

    /// Whether one of the spans covers this moment.
    pub fn covers(&self, at: Timestamp) -> bool {
        let second = at.as_second();
        self.begun.is_some() && self.spans.iter().any(|span| (span.start..span.end).contains(&second))
    }

    /// From when to when each span is, once it is known where the proof begins.
    pub fn ranges(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let spans = self.spans.iter().filter(|_| self.begun.is_some());
        spans.map(|span| (time(span.start), time(span.end)))
    }

    /// Nothing of it was found genuine and whole.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Where the proof began.
    pub fn begun(&self) -> Option<Timestamp> {
        self.begun.map(time)
    }

    /// What lies between the spans.
    pub fn holes(&self) -> Vec<Hole> {
        let begun = self.begun.unwrap_or(i64::MAX);
        let pairs = self.spans.windows(2).filter(|pair| pair[1].start > begun);
        let holes = pairs.map(|pair| (pair, pair[1].joins(&pair[0])));
        let hole = |(pair, step): (&[Span], chain::Step)| Hole {
            joint: step.joint,
            gap: step.gap,
            before: pair[0].last.link().origin,
        };
        holes.filter(|(_, step)| !is_expected(step)).map(hole).collect()
    }

    /// Hours that should have a digest by `due` and have none, leaving out those of `present` digests that wait or were
    /// refused.
    pub fn gaps(&self, due: Timestamp, present: &[(Timestamp, Timestamp)]) -> Vec<Gap> {
        if self.begun.is_none() {
            return Vec::new();
        }
        let is_due = |gap: &Gap| gap.from < gap.to && gap.to.min(shift(gap.from, HOUR_SECONDS)) <= due;
        let mut gaps: Vec<Gap> = self.holes().into_iter().filter_map(|hole| hole.gap).filter(is_due).collect();
        gaps.extend(self.spans.last().and_then(|last| chain::tail(&last.seen(), due)));
        gaps.into_iter().flat_map(|gap| without(gap, present)).collect()
    }
}

/// Logging was stopped: nothing is missing.
fn is_expected(step: &chain::Step) -> bool {
    step.gap.is_some_and(|gap| gap.is_expected())
}

/// What is left of a gap when the hours of digests that are here are taken out.
fn without(gap: Gap, present: &[(Timestamp, Timestamp)]) -> Vec<Gap> {
    let mut rest = vec![gap];
    for (from, to) in present {
        let cut = |gap: Gap| {
            let before = Gap { to: gap.to.min(*from), ..gap };
            let after = Gap { from: gap.from.max(*to), ..gap };
            let is_apart = *to <= gap.from || gap.to <= *from;
            if is_apart { vec![gap] } else { vec![before, after] }
        };
        rest = rest.into_iter().flat_map(cut).filter(|gap| gap.from < gap.to).collect();
    }
    rest
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or_default()
}

#[cfg(test)]
mod tests;
