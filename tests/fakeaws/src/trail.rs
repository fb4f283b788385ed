//! A trail: which log files it delivers, under which names, and when they arrive.
//!
//! Arrival and name are two different times. `CloudTrail` names files by five-minute marks a little
//! ahead of or behind their arrival, siblings come in no order, and some come minutes or weeks
//! late; whoever reads only what sorts behind the last name loses files.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// What a trail delivers, fixed by its fields: the same trail has the same schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trail {
    pub bucket: String,
    /// Without a trailing slash; empty for none.
    pub prefix: String,
    /// `o-…`, for an organization's trail.
    pub organization: Option<String>,
    pub accounts: Vec<String>,
    pub regions: Vec<String>,
    pub trail_name: String,
    pub home_region: String,
    /// The kinds of logs; digests have a switch of their own.
    pub kinds: Vec<Kind>,
    /// Hourly, signed, for each account and region.
    pub digests: bool,
    pub bodies: Bodies,
    pub seed: u64,
    /// When the trail was made: nothing arrives earlier.
    pub since: Timestamp,
    /// How often files arrive; a later entry takes over at its time.
    pub cadences: Vec<Cadence>,
}

/// A kind of log file, as its folder calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    #[serde(rename = "CloudTrail")]
    Management,
    #[serde(rename = "CloudTrail-Insight")]
    Insight,
    #[serde(rename = "CloudTrail-NetworkActivity")]
    NetworkActivity,
    #[serde(rename = "CloudTrail-Aggregated")]
    Aggregated,
    #[serde(rename = "CloudTrail-Digest")]
    Digest,
}

impl Kind {
    pub fn folder(self) -> &'static str {
        match self {
            Kind::Management => "CloudTrail",
            Kind::Insight => "CloudTrail-Insight",
            Kind::NetworkActivity => "CloudTrail-NetworkActivity",
            Kind::Aggregated => "CloudTrail-Aggregated",
            Kind::Digest => "CloudTrail-Digest",
        }
    }
}

/// What log files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bodies {
    /// Events as services record them, one to four kilobytes when compressed.
    Realistic,
    /// One event; takes no memory.
    Cheap,
}

/// How often files arrive, and how far their names are off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cadence {
    pub since: Timestamp,
    /// Seconds between two rounds.
    pub every: u32,
    /// Least and most files of a stream (kind, account, region) in a round.
    pub files: (u32, u32),
    /// Names are multiples of this many minutes.
    pub name_minutes: u32,
    /// Of a thousand files, those named 6 to 45 minutes before they arrive.
    pub late_per_mille: u32,
    /// Of a thousand files, those named three weeks before they arrive.
    pub weeks_late_per_mille: u32,
}

impl Default for Cadence {
    fn default() -> Self {
        Cadence {
            since: Timestamp::MIN,
            every: 300,
            files: (1, 4),
            name_minutes: 5,
            late_per_mille: 30,
            weeks_late_per_mille: 1,
        }
    }
}

impl Default for Trail {
    fn default() -> Self {
        Trail {
            bucket: String::new(),
            prefix: String::new(),
            organization: None,
            accounts: Vec::new(),
            regions: vec!["us-east-1".to_owned()],
            trail_name: "management-events".to_owned(),
            home_region: "us-east-1".to_owned(),
            kinds: vec![Kind::Management],
            digests: true,
            bodies: Bodies::Realistic,
            seed: 0,
            since: Timestamp::UNIX_EPOCH,
            cadences: vec![Cadence::default()],
        }
    }
}

/// One file on its way to the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// When it arrives.
    pub at: Timestamp,
    pub bucket: String,
    pub key: String,
    pub kind: Kind,
    pub account: String,
    pub region: String,
    /// The time in its name.
    pub named: Timestamp,
    /// Seconds by which it arrives after the time in its name, beyond the usual five minutes; 0 for
    /// files that are on time.
    pub late_by: i64,
    pub(crate) seed: u64,
}

impl Trail {
    /// Everything that arrives after `from` and until `to`, in order of arrival. It depends on the
    /// fields alone, so any stretch may be asked for, and asked for again.
    pub fn schedule(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Delivery> {
        let from = from.max(self.since);
        let rounds = Rounds {
            cadences: &self.cadences,
            next: from,
            end: to,
        };
        rounds
            .flat_map(move |round| self.round(&round))
            .filter(move |delivery| delivery.at > from && delivery.at <= to)
    }

    fn round(&self, round: &Round<'_>) -> Vec<Delivery> {
        let mut arriving = Vec::new();
        for account in &self.accounts {
            for region in &self.regions {
                for &kind in &self.kinds {
                    self.logs(round, kind, account, region, &mut arriving);
                }
                if self.digests {
                    self.digests_in(round, account, region, &mut arriving);
                }
            }
        }
        arriving.sort_by(|a, b| (a.at, &a.key).cmp(&(b.at, &b.key)));
        arriving
    }

    fn logs(
        &self,
        round: &Round<'_>,
        kind: Kind,
        account: &str,
        region: &str,
        into: &mut Vec<Delivery>,
    ) {
        let stream = [kind.folder(), account, region, &self.trail_name].join("/");
        let mut random = fastrand::Rng::with_seed(mix(self.seed, &stream, round.start.as_second()));
        let (least, most) = round.cadence.files;
        for _ in 0..random.u32(least..=most.max(least)) {
            let at = round.start
                + SignedDuration::from_millis(random.i64(0..round.seconds().max(1) * 1_000));
            let named = round.cadence.name(at, &mut random);
            let suffix: String = std::iter::repeat_with(|| random.alphanumeric())
                .take(16)
                .collect();
            let minute = named.strftime("%Y%m%dT%H%MZ");
            let name = format!(
                "{account}_{}_{region}_{minute}_{suffix}.json.gz",
                kind.folder()
            );
            into.push(Delivery {
                key: self.key(kind, account, region, named, &name),
                seed: random.u64(..),
                ..self.delivery(at, kind, account, region, named)
            });
        }
    }

    /// A digest for each hour that ended, some minutes after it did.
    fn digests_in(&self, round: &Round<'_>, account: &str, region: &str, into: &mut Vec<Delivery>) {
        let chain = [account, region, &self.trail_name].join("/");
        let offset = (mix(self.seed, &chain, 0) % 3_600).cast_signed();
        let start = round.start.as_second();
        let mut end = (start - 3_600 - offset).div_euclid(3_600) * 3_600 + offset;
        while end < round.end.as_second() {
            let delay = 60 + (mix(self.seed, &chain, end) % 540).cast_signed();
            let ended = Timestamp::from_second(end).unwrap_or_default();
            let at = ended + SignedDuration::from_secs(delay);
            if at >= round.start && at < round.end && ended > self.since {
                let stamp = crate::clock::compact(ended);
                let name = format!(
                    "{account}_CloudTrail-Digest_{region}_{}_{}_{stamp}.json.gz",
                    self.trail_name, self.home_region
                );
                into.push(Delivery {
                    key: self.key(Kind::Digest, account, region, ended, &name),
                    ..self.delivery(at, Kind::Digest, account, region, ended)
                });
            }
            end += 3_600;
        }
    }

    fn delivery(
        &self,
        at: Timestamp,
        kind: Kind,
        account: &str,
        region: &str,
        named: Timestamp,
    ) -> Delivery {
        let behind = at.duration_since(named).as_secs();
        let usual = if kind == Kind::Digest { 600 } else { 300 };
        Delivery {
            at,
            bucket: self.bucket.clone(),
            key: String::new(),
            kind,
            account: account.to_owned(),
            region: region.to_owned(),
            named,
            late_by: if behind > usual { behind } else { 0 },
            seed: 0,
        }
    }

    fn key(&self, kind: Kind, account: &str, region: &str, named: Timestamp, name: &str) -> String {
        let prefix = match self.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let organization = self
            .organization
            .as_ref()
            .map_or_else(String::new, |id| format!("{id}/"));
        let day = named.strftime("%Y/%m/%d");
        format!(
            "{prefix}AWSLogs/{organization}{account}/{}/{region}/{day}/{name}",
            kind.folder()
        )
    }
}

impl Cadence {
    /// The time that a file arriving at `at` is named by.
    fn name(&self, at: Timestamp, random: &mut fastrand::Rng) -> Timestamp {
        let step = i64::from(self.name_minutes.max(1)) * 60;
        let floor = at.as_second().div_euclid(step) * step;
        let ahead = self.name_minutes > 1 && random.bool();
        let usual = if ahead { floor + step } else { floor };
        let luck = random.u32(0..1_000);
        let back = if luck < self.weeks_late_per_mille {
            21 * 86_400 + random.i64(-43_200..43_200)
        } else if luck < self.weeks_late_per_mille + self.late_per_mille {
            random.i64(6..45) * 60
        } else {
            0
        };
        let named = (usual - back).div_euclid(60) * 60;
        Timestamp::from_second(named).unwrap_or(at)
    }
}

/// A stretch in which each stream delivers once.
struct Round<'a> {
    cadence: &'a Cadence,
    start: Timestamp,
    end: Timestamp,
}

impl Round<'_> {
    fn seconds(&self) -> i64 {
        self.end.duration_since(self.start).as_secs()
    }
}

/// The rounds that touch a stretch of time; they depend on the cadences only, not on where the
/// stretch begins.
struct Rounds<'a> {
    cadences: &'a [Cadence],
    next: Timestamp,
    end: Timestamp,
}

impl<'a> Iterator for Rounds<'a> {
    type Item = Round<'a>;

    fn next(&mut self) -> Option<Round<'a>> {
        let (cadence, until) = loop {
            if self.next > self.end {
                return None;
            }
            let begun = |cadence: &&Cadence| cadence.since <= self.next;
            let later = self
                .cadences
                .iter()
                .map(|cadence| cadence.since)
                .filter(|since| *since > self.next);
            match (
                self.cadences
                    .iter()
                    .filter(begun)
                    .max_by_key(|cadence| cadence.since),
                later.min(),
            ) {
                (Some(cadence), until) => break (cadence, until),
                (None, Some(first)) => self.next = first,
                (None, None) => return None,
            }
        };
        let every = i64::from(cadence.every.max(1));
        let aligned = self.next.as_second().div_euclid(every) * every;
        let start = Timestamp::from_second(aligned)
            .unwrap_or(self.next)
            .max(cadence.since);
        let end = Timestamp::from_second(aligned + every).unwrap_or(Timestamp::MAX);
        let end = until.map_or(end, |until| end.min(until));
        self.next = end;
        Some(Round {
            cadence,
            start,
            end,
        })
    }
}

/// A number that is fixed by its ingredients and spread evenly.
pub(crate) fn mix(seed: u64, name: &str, number: i64) -> u64 {
    let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in name.bytes().chain(number.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    fastrand::Rng::with_seed(hash).u64(..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn trail() -> Trail {
        Trail {
            bucket: "logs".into(),
            accounts: vec!["222222222222".into()],
            regions: vec!["us-east-1".into(), "eu-west-1".into()],
            since: time("2024-03-01T00:10:00Z"),
            cadences: vec![
                Cadence {
                    late_per_mille: 100,
                    weeks_late_per_mille: 20,
                    ..Cadence::default()
                },
                Cadence {
                    since: time("2024-03-02T12:02:30Z"),
                    every: 1,
                    files: (0, 1),
                    name_minutes: 1,
                    ..Cadence::default()
                },
            ],
            ..Trail::default()
        }
    }

    #[test]
    fn a_schedule_is_the_same_however_it_is_cut() {
        let trail = trail();
        let (start, end) = (time("2024-03-01T00:00:00Z"), time("2024-03-02T12:05:00Z"));
        let whole: Vec<Delivery> = trail.schedule(start, end).collect();
        let mut pieces = Vec::new();
        let mut at = start;
        while at < end {
            let next = (at + SignedDuration::from_secs(977)).min(end);
            pieces.extend(trail.schedule(at, next));
            at = next;
        }
        assert_eq!(whole, pieces);
        assert!(whole.is_sorted_by_key(|delivery| delivery.at));
        assert!(whole.first().is_some_and(|first| first.at >= trail.since));
    }

    #[test]
    fn names_run_ahead_and_behind_and_some_are_weeks_late() {
        let trail = trail();
        let all: Vec<Delivery> = trail
            .schedule(trail.since, time("2024-03-02T12:00:00Z"))
            .collect();
        let ahead = all
            .iter()
            .filter(|delivery| delivery.named > delivery.at)
            .count();
        let minutes = all
            .iter()
            .filter(|delivery| (1..7_200).contains(&delivery.late_by))
            .count();
        let weeks = all
            .iter()
            .filter(|delivery| delivery.late_by > 86_400 * 20)
            .count();
        assert!(all.len() > 1_500, "{}", all.len());
        assert!(
            ahead > 500 && minutes > 50 && weeks > 5,
            "{ahead} {minutes} {weeks}"
        );
    }

    #[test]
    fn keys_are_those_of_the_guide() {
        let trail = Trail {
            prefix: "p".into(),
            organization: Some("o-1".into()),
            ..trail()
        };
        let all: Vec<Delivery> = trail
            .schedule(trail.since, time("2024-03-01T06:00:00Z"))
            .collect();
        let log = all
            .iter()
            .find(|delivery| delivery.kind == Kind::Management && delivery.late_by == 0)
            .expect("a log");
        assert!(
            log.key
                .starts_with("p/AWSLogs/o-1/222222222222/CloudTrail/"),
            "{}",
            log.key
        );
        assert!(
            log.key.contains("/2024/03/01/222222222222_CloudTrail_"),
            "{}",
            log.key
        );
        let digests: Vec<&Delivery> = all
            .iter()
            .filter(|delivery| delivery.kind == Kind::Digest)
            .collect();
        assert!(
            matches!(digests.len(), 10..=12),
            "one an hour for each of two regions"
        );
        assert!(
            digests[0]
                .key
                .contains("_management-events_us-east-1_20240301T"),
            "{}",
            digests[0].key
        );
    }
}
