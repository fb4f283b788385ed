//! What to list next, and from when on.
//!
//! Each tier remembers when its last complete listing began, and lists from `min(now, that) − depth`: an
//! outage of any length is made up, and what was delivered late within the depth is found. A deeper listing
//! counts for every shallower tier. Times are the service's own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Timestamp, seconds_between, shift};
use crate::config::Poll;

/// A memory later than this after now was written under a wrong clock, and is not trusted.
pub const SKEW_SECONDS: i64 = 300;
/// Keys dated later than this after now are the tail: listed daily, not by every poll.
pub const AHEAD_SECONDS: i64 = 25 * 3600;
/// A poll that would have to look back further than this leaves the gap to a sweep, and shows what is fresh.
const PEEK_SECONDS: i64 = 26 * 3600;

/// How much of a stream one listing covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The latest minutes or hours.
    Poll,
    /// A tier of so many seconds' depth.
    Tier(i64),
    /// Everything, oldest first, against the manifests.
    Full,
    /// Everything, newest month first: the first listing of a stream.
    Backfill,
    /// Future dates and odd names that sort after them.
    Tail,
}

impl Scope {
    /// The name under which requests and memories are counted.
    pub fn name(self) -> String {
        match self {
            Self::Poll => "poll".into(),
            Self::Tier(depth) => format!("{depth}s"),
            Self::Full => "full".into(),
            Self::Backfill => "backfill".into(),
            Self::Tail => "tail".into(),
        }
    }
}

/// What is remembered of the last complete listing of each scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memory(BTreeMap<String, Remembered>);

/// Two times of one listing: one says from where the next must go on, the other when it is due.
///
/// They differ while the clocks do. If only the first were kept, a machine whose clock is an hour behind would find
/// every tier due again as soon as it was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    /// What was delivered before is covered: both clocks agree that the listing began later.
    covered: i64,
    /// When it began by the service's clock.
    began: i64,
    /// Of a listing of everything: what was dated before was left out, by the configuration of that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
}

impl Memory {
    /// Remembers that a complete listing of `scope` began at `began`.
    ///
    /// `trusted` is the time up to which the clocks agree: what was known before stays known when they do not.
    pub fn complete(&mut self, scope: Scope, began: Timestamp, trusted: Timestamp) {
        let (began, trusted) = (began.as_second(), trusted.as_second());
        let name = if scope == Scope::Backfill { Scope::Full } else { scope }.name();
        let known = self.0.get(&name).map(|known| known.covered).filter(|known| *known <= began);
        let covered = known.map_or(began.min(trusted), |known| known.max(began.min(trusted)));
        self.0.insert(name, Remembered { covered, began, since: None });
    }

    /// Remembers from when on the last listing of everything looked.
    pub fn looked_since(&mut self, since: Option<i64>) {
        if let Some(full) = self.0.get_mut(&Scope::Full.name()) {
            full.since = since;
        }
    }

    /// Whether the last listing of everything left out what is wanted now: `since` was moved back, or taken away.
    fn left_out(&self, since: Option<Timestamp>) -> bool {
        let listed = self.0.get(&Scope::Full.name()).and_then(|full| full.since);
        listed.is_some_and(|listed| since.is_none_or(|since| since.as_second() < listed))
    }

    /// Since when a listing of `depth` seconds needs to make up, as far as the memories can be trusted at `now`.
    ///
    /// Every listing at least as deep counts; `None` when there was none.
    pub fn covered(&self, depth: i64, now: Timestamp) -> Option<Timestamp> {
        latest(self.as_deep_as(depth).map(|known| known.covered), now)
    }

    /// When a listing at least as deep began last, however the clocks stood then.
    fn listed(&self, depth: i64, now: Timestamp) -> Option<Timestamp> {
        latest(self.as_deep_as(depth).map(|known| known.began), now)
    }

    fn as_deep_as(&self, depth: i64) -> impl Iterator<Item = &Remembered> {
        let reach = |name: &str| match name {
            "poll" => 0,
            "full" => i64::MAX,
            "tail" => -1,
            other => other.strip_suffix('s').and_then(|n| n.parse().ok()).unwrap_or(-1),
        };
        self.0.iter().filter(move |(name, _)| reach(name) >= depth).map(|(_, known)| known)
    }

    /// When the tail was last listed.
    pub fn tail(&self, now: Timestamp) -> Option<Timestamp> {
        latest(self.0.get(&Scope::Tail.name()).map(|known| known.began).into_iter(), now)
    }
}

/// The latest of these times; none from the future, which were written under a wrong clock.
fn latest(times: impl Iterator<Item = i64>, now: Timestamp) -> Option<Timestamp> {
    let end = now.as_second() + SKEW_SECONDS;
    times.filter(|time| *time <= end).max().and_then(|time| Timestamp::from_second(time).ok())
}

/// What a poll lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollWindow {
    /// From when on.
    pub from: Timestamp,
    /// Whether it makes up everything since the last one; if not it only shows what is fresh, and counts for nothing.
    pub complete: bool,
}

/// The window of a poll.
///
/// `page_from` is the time of the object that is about a page back from the newest one known: the poll looks
/// back to there, within the configured bounds, so that it fits one page.
pub fn poll_window(memory: &Memory, rules: &Poll, now: Timestamp, page_from: Option<Timestamp>) -> PollWindow {
    let (least, most) = (seconds(rules.min_window), seconds(rules.max_window));
    let depth = page_from.map_or(most, |from| seconds_between(from, now)).clamp(least, most);
    match memory.covered(0, now) {
        Some(last) if seconds_between(last, now) <= PEEK_SECONDS => {
            PollWindow { from: shift(last.min(now), -depth), complete: true }
        }
        _ => PollWindow { from: shift(now, -most), complete: false },
    }
}

/// A deeper listing that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub scope: Scope,
    /// From when on; `None`: from the start.
    pub from: Option<Timestamp>,
}

/// The deepest listing that is due, which makes up for all shallower ones. Nothing before `since` is wanted.
pub fn due(memory: &Memory, rules: &Poll, since: Option<Timestamp>, now: Timestamp) -> Option<Due> {
    if memory.covered(i64::MAX, now).is_none() || memory.left_out(since) {
        return Some(Due { scope: Scope::Backfill, from: None });
    }
    if is_due(memory.listed(i64::MAX, now), rules.full_every, now) {
        return Some(Due { scope: Scope::Full, from: None });
    }
    let deepest = rules.tiers.iter().rev().find_map(|tier| {
        let depth = seconds(tier.depth);
        let last = memory.covered(depth, now)?;
        let due = is_due(memory.listed(depth, now), tier.every, now);
        due.then(|| Due { scope: Scope::Tier(depth), from: Some(shift(last.min(now), -depth)) })
    });
    deepest.or_else(|| {
        let due = is_due(memory.tail(now), rules.tail_every, now);
        due.then(|| Due { scope: Scope::Tail, from: Some(shift(now, AHEAD_SECONDS)) })
    })
}

fn is_due(last: Option<Timestamp>, every: Duration, now: Timestamp) -> bool {
    last.is_none_or(|last| seconds_between(last, now) >= seconds(every))
}

/// The deepest tier whose listing would show nothing that a poll from `from` on does not: it need not be listed.
///
/// To be asked before the poll is remembered as complete.
pub fn tier_reached(memory: &Memory, rules: &Poll, from: Timestamp, now: Timestamp) -> Option<Scope> {
    rules.tiers.iter().rev().find_map(|tier| {
        let depth = seconds(tier.depth);
        let last = memory.covered(depth, now)?;
        (from <= shift(last.min(now), -depth)).then_some(Scope::Tier(depth))
    })
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Tier;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    fn rules() -> Poll {
        let tier = |depth, every| Tier { depth: Duration::from_secs(depth), every: Duration::from_secs(every) };
        Poll {
            every: Duration::from_secs(60),
            idle_every: Duration::from_secs(900),
            min_window: Duration::from_secs(1200),
            max_window: Duration::from_secs(2 * HOUR),
            tiers: vec![tier(2 * HOUR, 900), tier(26 * HOUR, 6 * HOUR), tier(35 * DAY, DAY)],
            full_every: Duration::from_secs(30 * DAY),
            tail_every: Duration::from_secs(DAY),
            discover_every: Duration::from_secs(HOUR),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn remembered(scopes: &[(Scope, i64)]) -> Memory {
        let mut memory = Memory::default();
        for (scope, second) in scopes {
            memory.complete(*scope, at(*second), at(*second));
        }
        memory
    }

    #[test]
    fn a_new_stream_shows_what_is_fresh_and_is_listed_whole() {
        let memory = Memory::default();
        assert_eq!(poll_window(&memory, &rules(), at(0), None), PollWindow { from: at(-7200), complete: false });
        assert_eq!(due(&memory, &rules(), None, at(0)).unwrap().scope, Scope::Backfill);
    }

    #[test]
    fn taking_since_away_or_moving_it_back_lists_everything_again() {
        let mut memory = remembered(&[(Scope::Backfill, -100), (Scope::Poll, -60)]);
        let scope = |memory: &Memory, since| due(memory, &rules(), since, at(0)).map(|due| due.scope);
        assert_ne!(scope(&memory, None), Some(Scope::Backfill));
        memory.looked_since(Some(at(-5000).as_second()));
        assert_ne!(scope(&memory, Some(at(-5000))), Some(Scope::Backfill));
        assert_ne!(scope(&memory, Some(at(-400))), Some(Scope::Backfill));
        assert_eq!(scope(&memory, Some(at(-5001))), Some(Scope::Backfill));
        assert_eq!(scope(&memory, None), Some(Scope::Backfill));
        let kept: Memory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
        assert_eq!(kept, memory);
    }

    #[test]
    fn a_poll_starts_its_depth_before_the_last_one_began() {
        let memory = remembered(&[(Scope::Full, -100), (Scope::Poll, -60)]);
        assert_eq!(poll_window(&memory, &rules(), at(0), None).from, at(-60 - 7200));
        assert_eq!(poll_window(&memory, &rules(), at(0), Some(at(-10))).from, at(-60 - 1200));
        assert_eq!(poll_window(&memory, &rules(), at(0), Some(at(-3000))).from, at(-60 - 3000));
    }

    #[test]
    fn after_an_outage_every_tier_makes_up_from_where_it_stopped() {
        let memory = remembered(&[(Scope::Full, 0)]);
        let day = DAY as i64;
        let now = at(3 * day);
        assert!(!poll_window(&memory, &rules(), now, None).complete);
        assert_eq!(
            due(&memory, &rules(), None, now).unwrap(),
            Due { scope: Scope::Tier(35 * day), from: Some(at(-35 * day)) }
        );
        assert_eq!(due(&memory, &rules(), None, at(40 * day)).unwrap().scope, Scope::Full);
    }

    #[test]
    fn tiers_fall_due_one_after_the_other_and_a_deeper_one_counts_for_the_shallower() {
        let mut memory = remembered(&[(Scope::Full, 0), (Scope::Tail, 0)]);
        assert_eq!(due(&memory, &rules(), None, at(899)), None);
        assert_eq!(due(&memory, &rules(), None, at(900)).unwrap().scope, Scope::Tier(7200));
        assert_eq!(due(&memory, &rules(), None, at(6 * 3600)).unwrap().scope, Scope::Tier(26 * 3600));
        memory.complete(Scope::Tier(26 * 3600), at(6 * 3600), at(6 * 3600));
        assert_eq!(due(&memory, &rules(), None, at(6 * 3600 + 899)), None);
    }

    #[test]
    fn a_memory_from_the_future_is_not_trusted() {
        let ten_years = 10 * 365 * DAY as i64;
        let memory = remembered(&[(Scope::Full, ten_years)]);
        assert_eq!(due(&memory, &rules(), None, at(0)).unwrap().scope, Scope::Backfill);
        let memory = remembered(&[(Scope::Full, -50), (Scope::Poll, ten_years)]);
        assert_eq!(poll_window(&memory, &rules(), at(0), None).from, at(-50 - 7200));
    }

    #[test]
    fn a_clock_that_is_behind_moves_no_memory_back() {
        let mut memory = remembered(&[(Scope::Full, 0)]);
        memory.complete(Scope::Full, at(100), at(-1_000_000));
        assert_eq!(memory.covered(i64::MAX, at(100)), Some(at(0)));
    }

    #[test]
    fn while_our_clock_is_behind_nothing_is_due_again_as_soon_as_it_was_listed() {
        let mut memory = remembered(&[(Scope::Full, 0)]);
        let ten_years = 10 * 365 * DAY as i64;
        memory.complete(Scope::Full, at(40 * DAY as i64), at(-ten_years));
        memory.complete(Scope::Tail, at(40 * DAY as i64), at(-ten_years));
        assert_eq!(due(&memory, &rules(), None, at(40 * DAY as i64 + 60)), None);
        let again = due(&memory, &rules(), None, at(40 * DAY as i64 + 900)).unwrap();
        assert_eq!(again, Due { scope: Scope::Tier(7200), from: Some(at(-7200)) }, "it makes up from when both agreed");
    }

    #[test]
    fn a_poll_that_reaches_as_far_as_a_tier_would_counts_for_it() {
        let mut memory = remembered(&[(Scope::Full, 0)]);
        let reached = |memory: &Memory, now: i64, page_from| {
            let from = poll_window(memory, &rules(), at(now), page_from).from;
            tier_reached(memory, &rules(), from, at(now))
        };
        assert_eq!(reached(&memory, 60, None), Some(Scope::Tier(7200)));
        assert_eq!(reached(&memory, 60, Some(at(-1500))), None, "a page reaches less far");
        memory.complete(Scope::Poll, at(60), at(60));
        assert_eq!(reached(&memory, 120, None), None, "the tier makes up from where it was listed last itself");
        memory.complete(Scope::Tier(7200), at(60), at(60));
        assert_eq!(reached(&memory, 120, None), Some(Scope::Tier(7200)));
        assert_eq!(tier_reached(&Memory::default(), &rules(), at(-7200), at(0)), None);
    }
}
