//! Finds logs that no digest names: a day at a time, once the proof is past it.
//!
//! Digests name what was delivered in their hour. A log inside a proven range that none of them names was put there by
//! somebody else, or by a trail that writes no digests.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use tracing::warn;

use super::spans::Spans;
use super::{Prover, Subject};
use crate::chain::HOUR_SECONDS;
use crate::clock::{Timestamp, shift};
use crate::destination::{Destination, Place};
use crate::digest::{MOST_BYTES, Name};
use crate::error::Error;
use crate::key::Shown;
use crate::keyring::Found;
use crate::layout::{Day, Stream};
use crate::ledger::{Alarm, AuditCommit, StreamId};
use crate::records::Records;
use crate::source::Source;

const DAY_SECONDS: i64 = 86_400;
/// Late logs that one turn looks up.
const LATE_A_TURN: u32 = 50;
/// More than so many, and more than half of a day, are not planted: another trail writes there.
const FEW: usize = 20;

/// The names in some digests: hashes of keys under a secret of this process, so that nobody can aim at one.
struct Names {
    secret: RandomState,
    hashes: HashSet<u64>,
}

/// A log stream of the account and region whose digests prove it.
struct Log<'s> {
    stream: &'s Stream,
    id: StreamId,
}

/// What a chain's spans say of a moment.
pub(super) struct Proven<'s> {
    spans: &'s [Spans],
    /// All chains together reach to here.
    through: Timestamp,
}

impl<'s> Proven<'s> {
    pub(super) fn by(spans: &'s [Spans]) -> Option<Self> {
        let through = spans.iter().filter_map(|spans| spans.reach().through).max()?;
        Some(Self { spans, through })
    }

    fn covers(&self, at: Timestamp) -> bool {
        self.spans.iter().any(|spans| spans.covers(at))
    }

    fn first_day(&self) -> Option<Day> {
        self.spans.iter().filter_map(Spans::begun).min().map(Day::at)
    }
}

impl<S: Source, D: Destination> Prover<S, D> {
    /// Compares the next day that the proof is past, and logs that came late. `true` when another day is due.
    pub(super) async fn audit(
        &self,
        subject: &Subject,
        streams: &[Stream],
        proven: &Proven<'_>,
    ) -> Result<bool, Error> {
        let mut logs = Vec::new();
        for stream in streams {
            if subject.proves(stream) {
                logs.push(Log { stream, id: self.mirror.ledger().checkpoint(stream).await?.0 });
            }
        }
        self.audit_late(subject, &logs, proven).await?;
        let last = self.mirror.ledger().audited(subject.id).await?;
        let next = last.and_then(Day::start).map(|start| Day::at(shift(start, DAY_SECONDS)));
        let Some((day, end)) = next.or_else(|| proven.first_day()).and_then(|day| Some((day, end_of(day)?))) else {
            return Ok(false);
        };
        if !self.is_past(end, proven) {
            return Ok(false);
        }
        let mut commit = self.audit_day(subject, &logs, proven, day).await?;
        if last.is_none() {
            self.queue_older(&logs, proven, day, &mut commit).await?;
        }
        self.mirror.ledger().save_audit(&subject.stream.source, &commit, self.ours()).await?;
        Ok(self.is_past(shift(end, DAY_SECONDS), proven))
    }

    fn is_past(&self, end: Timestamp, proven: &Proven<'_>) -> bool {
        proven.through >= shift(end, HOUR_SECONDS) && self.now() >= shift(end, self.rules.grace)
    }

    async fn audit_day(
        &self,
        subject: &Subject,
        logs: &[Log<'_>],
        proven: &Proven<'_>,
        day: Day,
    ) -> Result<AuditCommit, Error> {
        let (Some(from), Some(end)) = (day.start(), end_of(day)) else { return Ok(AuditCommit::default()) };
        let to = shift(end, 2 * HOUR_SECONDS);
        let names = self.names(subject, from, to).await?;
        let ids = logs.iter().map(|log| log.id).chain([subject.id]).collect();
        let mut commit = AuditCommit { audited: ids, day, ..AuditCommit::default() };
        for log in logs {
            let mut records =
                Records::from(self.mirror.ledger(), self.mirror.manifests(), log.stream, log.id, &day.folder());
            let (mut all, mut named, mut unnamed) = (0, 0, Vec::new());
            while let Some(record) = records.next().await? {
                if Day::of(&record.suffix) != Some(day) {
                    break;
                }
                all += 1;
                let key = format!("{}{}", log.stream.prefix, record.suffix);
                let is_inside = (from..shift(end, HOUR_SECONDS)).contains(&record.modified);
                if names.hold(&key) {
                    named += 1;
                } else if is_inside && proven.covers(record.modified) {
                    unnamed.push(key);
                } else if !is_inside && (proven.covers(record.modified) || record.modified >= proven.through) {
                    commit.late.push((log.id, record.suffix, record.modified));
                }
            }
            // Whether digests name other kinds at all is seen from those that do.
            if named > 0 || log.stream.kind.folder == "CloudTrail" {
                tell(&mut commit, log, day, all, unnamed);
            }
        }
        Ok(commit)
    }

    /// Logs of the time before the proof, and odd names, may have been put there since it began.
    async fn queue_older(
        &self,
        logs: &[Log<'_>],
        proven: &Proven<'_>,
        first: Day,
        commit: &mut AuditCommit,
    ) -> Result<(), Error> {
        for log in logs {
            let mut records = Records::from(self.mirror.ledger(), self.mirror.manifests(), log.stream, log.id, "");
            while let Some(record) = records.next().await? {
                let is_older = Day::of(&record.suffix).is_none_or(|day| day < first);
                if is_older && (proven.covers(record.modified) || record.modified >= proven.through) {
                    commit.late.push((log.id, record.suffix, record.modified));
                }
            }
        }
        Ok(())
    }

    /// Logs of compared days that came later, once the proof is past their delivery.
    async fn audit_late(&self, subject: &Subject, logs: &[Log<'_>], proven: &Proven<'_>) -> Result<(), Error> {
        let before = shift(proven.through, -HOUR_SECONDS).min(shift(self.now(), -self.rules.grace));
        let mut commit = AuditCommit::default();
        for log in logs {
            for (suffix, modified) in self.mirror.ledger().late_logs(log.id, before, LATE_A_TURN).await? {
                let key = format!("{}{suffix}", log.stream.prefix);
                let (from, to) = (shift(modified, -HOUR_SECONDS), shift(modified, 2 * HOUR_SECONDS));
                if proven.covers(modified) && !self.names(subject, from, to).await?.hold(&key) {
                    commit.alarms.raised.push(unreferenced(log, &key));
                }
                commit.done.push((log.id, suffix));
            }
        }
        if commit.done.is_empty() {
            return Ok(());
        }
        self.mirror.ledger().save_audit(&subject.stream.source, &commit, self.ours()).await
    }

    /// What the genuine digests name that end in this time, of all trails, backfill digests included.
    async fn names(&self, subject: &Subject, from: Timestamp, to: Timestamp) -> Result<Names, Error> {
        let mut names = Names { secret: RandomState::new(), hashes: HashSet::new() };
        let stream = &subject.stream;
        let first = Day::at(from).folder();
        let (ledger, manifests) = (self.mirror.ledger(), self.mirror.manifests());
        let mut records = Records::from(ledger, manifests, stream, subject.id, &first);
        while let Some(record) = records.next().await? {
            if Day::of(&record.suffix).is_some_and(|day| day > Day::at(to)) {
                break;
            }
            let file = record.suffix.rsplit_once('/').map_or(record.suffix.as_str(), |(_, file)| file);
            let name = Name::of(&stream.account, &stream.region, file);
            if name.is_some_and(|name| (from..=to).contains(&name.end)) {
                self.take_names(subject, &record.suffix, record.version(), &mut names).await?;
            }
        }
        Ok(names)
    }

    async fn take_names(
        &self,
        subject: &Subject,
        suffix: &str,
        later: Option<String>,
        names: &mut Names,
    ) -> Result<(), Error> {
        let key = format!("{}{suffix}", subject.stream.prefix);
        let versions = [Some(None), later.map(Some)];
        for version in versions.into_iter().flatten() {
            let place = Place { key: key.clone(), version };
            let copy = self.mirror.destination().reread(&place, MOST_BYTES).await?;
            let Ok(read) = self.read(&subject.stream, &key, copy) else { continue };
            let window = read.digest.key_window(read.backfilled_at);
            let (copy, region, now) = (self.mirror.destination(), &subject.stream.region, self.now());
            let found = self.keyring.find(copy, region, &read.digest.fingerprint, window, now).await?;
            let Found::Key(public_key) = found else { continue };
            if read.digest.verify(&read.hash, &read.signature, read.backfilled_at, Some(&public_key)).is_ok() {
                let named = read.digest.logs.iter().filter_map(|log| self.here(&log.origin.key));
                named.for_each(|key| names.add(&key));
            }
        }
        Ok(())
    }
}

impl Names {
    fn add(&mut self, key: &str) {
        self.hashes.insert(self.secret.hash_one(key));
    }

    fn hold(&self, key: &str) -> bool {
        self.hashes.contains(&self.secret.hash_one(key))
    }
}

/// Alarms each log that no digest names, or says once that another trail may write here.
fn tell(commit: &mut AuditCommit, log: &Log<'_>, day: Day, all: usize, unnamed: Vec<String>) {
    if unnamed.len() > FEW && unnamed.len() * 2 > all {
        let detail = format!(
            "{} of {all} logs of {day} are named by no digest: whether they are genuine is unknown, as another trail without \
             log file validation may write to `{}`",
            unnamed.len(),
            Shown(&log.stream.prefix)
        );
        let alarm = Alarm { kind: "unknown_trail", subject: log.stream.prefix.clone(), detail };
        commit.alarms.raised.push((log.id, alarm));
        return;
    }
    commit.alarms.raised.extend(unnamed.iter().map(|key| unreferenced(log, key)));
}

fn unreferenced(log: &Log<'_>, key: &str) -> (StreamId, Alarm) {
    let detail = format!(
        "the log `{}` was delivered in a proven hour, and no digest names it: CloudTrail does not vouch for it",
        Shown(key)
    );
    warn!(alarm = "unreferenced", object.key = %Shown(key), "{detail}");
    (log.id, Alarm { kind: "unreferenced", subject: key.to_owned(), detail })
}

fn end_of(day: Day) -> Option<Timestamp> {
    day.start().map(|start| shift(start, DAY_SECONDS))
}
