//! Chains: what the links between digests say of the hours that they should cover.
//!
//! One chain belongs to one (account, trail, source region). Each digest names the one before: its place, the hash of
//! its bytes, its signature. What is removed, replaced or begun anew shows in the links and in the times.

use crate::clock::{Timestamp, seconds_between, shift};
use crate::digest::{Digest, Link, Origin};

/// A digest covers an hour, unless logging began or stopped within it.
pub const HOUR_SECONDS: i64 = 3600;

/// What is kept of a digest until the next one is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where `CloudTrail` put it.
    pub origin: Origin,
    /// From when it covers; for a document that cannot be read, its end.
    pub start: Timestamp,
    /// Up to when.
    pub end: Timestamp,
    /// SHA-256 of its inflated bytes.
    pub hash: [u8; 32],
    /// Its signature, where its metadata has one.
    pub signature: Option<Vec<u8>>,
    /// It names one before.
    pub linked: bool,
    /// Its document was read and its signature holds: what it says counts.
    pub genuine: bool,
}

impl Seen {
    /// What is kept of a digest that was read.
    pub fn of(digest: &Digest, hash: [u8; 32], signature: Option<Vec<u8>>, genuine: bool) -> Self {
        let (start, end, linked) = (digest.start, digest.end, digest.previous.is_some());
        Self { origin: digest.origin.clone(), start, end, hash, signature, linked, genuine }
    }

    /// What is kept of a digest that cannot be read: where it stands and the time in its name.
    pub fn unreadable(origin: Origin, end: Timestamp) -> Self {
        Self { origin, start: end, end, hash: [0; 32], signature: None, linked: true, genuine: false }
    }

    /// The last one of a trail that was stopped or deleted: `CloudTrail` cuts it short.
    pub fn is_final(&self) -> bool {
        self.genuine && self.linked && seconds_between(self.start, self.end) < HOUR_SECONDS
    }
}

/// Hours that no digest vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The end of the last digest before.
    pub from: Timestamp,
    /// The start of the next one.
    pub to: Timestamp,
    /// How it can have come about.
    pub why: Why,
}

/// How a gap can have come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Digests that are named by the next one, or that are due, are not here.
    Absent,
    /// Digests are here, but none that can be believed.
    Unproven,
    /// Logging was stopped: a last digest cut short, then one that begins a chain. No logs are missing.
    Stopped,
    /// A digest begins a chain though nothing ended the one before: validation was switched off, or digests are gone.
    Restarted,
    /// Two digests that link to each other do not meet in time.
    Uncovered,
}

impl Gap {
    /// Each hour of it, the last one cut short where it must be.
    pub fn hours(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> + use<> {
        let Self { from, to, .. } = *self;
        let starts = std::iter::successors(Some(from), |hour| Some(shift(*hour, HOUR_SECONDS)));
        starts.take_while(move |hour| *hour < to).map(move |hour| (hour, shift(hour, HOUR_SECONDS).min(to)))
    }

    /// Nothing is known to be missing: logging was off.
    pub fn is_expected(&self) -> bool {
        self.why == Why::Stopped
    }
}

/// How a digest joins the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joint {
    /// It names exactly that one.
    Follows,
    /// It names no previous digest: `CloudTrail` began a chain here.
    Begins,
    /// It is the first that is here, and names one that is not.
    Continues,
    /// It names another one, which is not here.
    Skips,
    /// It names that one, with another hash: the one before is not what `CloudTrail` wrote.
    OtherHash,
    /// It names that one, with another signature.
    OtherSignature,
}

/// How a digest joins what came before, and the hours between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The link.
    pub joint: Joint,
    /// What lies between.
    pub gap: Option<Gap>,
}

/// Judges a digest by the one before it in its chain, in order of their ends.
pub fn step(before: Option<&Seen>, next: &Digest) -> Step {
    let Some(before) = before else {
        let joint = if next.previous.is_some() { Joint::Continues } else { Joint::Begins };
        return Step { joint, gap: None };
    };
    join(before, next.start, next.previous.as_ref())
}

/// The same for a digest of which only its start and its link back were kept.
pub fn join(before: &Seen, start: Timestamp, previous: Option<&Link>) -> Step {
    let joint = joint(before, previous);
    Step { joint, gap: gap(before, start, joint) }
}

fn joint(before: &Seen, previous: Option<&Link>) -> Joint {
    let Some(link) = previous else { return Joint::Begins };
    if link.origin != before.origin {
        return Joint::Skips;
    }
    // A digest that is not believed has been reported; the link to it says nothing new.
    if !before.genuine {
        return Joint::Follows;
    }
    if link.hash != before.hash {
        return Joint::OtherHash;
    }
    match &before.signature {
        Some(signature) if *signature != link.signature => Joint::OtherSignature,
        _ => Joint::Follows,
    }
}

fn gap(before: &Seen, start: Timestamp, joint: Joint) -> Option<Gap> {
    let gap = |why| Gap { from: before.end.min(start), to: start, why };
    let is_apart = start > before.end;
    match joint {
        Joint::Skips if is_apart => Some(gap(Why::Absent)),
        // It leaves no room for the one that it names: that hour at least is not proven.
        Joint::Skips => Some(Gap { from: shift(start, -HOUR_SECONDS), ..gap(Why::Absent) }),
        Joint::Begins if is_apart && before.is_final() => Some(gap(Why::Stopped)),
        Joint::Begins => Some(gap(Why::Restarted)),
        // The document that cannot be read covers what lies between.
        _ if is_apart && !before.genuine => None,
        _ if is_apart => Some(gap(Why::Uncovered)),
        _ => None,
    }
}

/// What is missing after the last digest of a chain, when it should reach up to `due`.
///
/// `None` when it does, or when the trail was stopped.
pub fn tail(last: &Seen, due: Timestamp) -> Option<Gap> {
    // Its successor is not due before a whole hour more has passed.
    let is_due = seconds_between(last.end, due) >= HOUR_SECONDS;
    (is_due && !last.is_final()).then_some(Gap { from: last.end, to: due, why: Why::Absent })
}

#[cfg(test)]
mod tests;
