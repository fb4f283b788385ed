//! Verifying one account and region: digests first, then what they name, then what they do not.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use super::Run;
use super::archive::{Archive, Listed};
use super::arrival;
use super::finding::{Finding, Verdict, What};
use super::line::{Identity, Line, Span, Walked};
use super::places::{DIGESTS, Folders, Spot};
use super::recorded::{Stored, stream_of};
use super::settle::{Held, Keys};
use super::tally::Chain;
use super::work::{Asked, By, Job, Standing, lock};
use crate::chain::HOUR_SECONDS;
use crate::clock::{Timestamp, shift};
use crate::destination::Place;
use crate::digest::{Digest, Name};
use crate::error::Error;
use crate::layout::{Day, KINDS, Kind, Stream};

/// A log's name may be this much older than its delivery, without being late.
const DELIVERY_SECONDS: i64 = 600;
/// And this much newer: names are five-minute marks, the next one as often as the last.
const AHEAD_SECONDS: i64 = 300;
/// From so many hours with logs on, half of them with unnamed ones speak for another trail.
const LEAST_HOURS: usize = 6;
/// What a digest names may be dated so far from the range that is asked for.
const DAY_SECONDS: i64 = 86_400;

/// One account and region under verification.
pub struct At<'r, 'a, A> {
    run: &'r mut Run<'a, A>,
    spot: Spot,
    scope: usize,
    span: Span,
    lines: BTreeMap<(String, String, bool), Line>,
    /// The last digest before the range, by chain.
    context: BTreeMap<(String, String, bool), String>,
    /// Chains whose first digest after the range was seen.
    beyond: HashSet<(String, String, bool)>,
    named: Vec<u64>,
    kinds: BTreeSet<&'static str>,
}

/// What is left of a spot when it was walked: its chains wait for what others say of the end.
pub struct Ends {
    /// The chains.
    pub lines: Vec<Line>,
    /// What may be missing at their ends.
    pub span: Span,
    /// The newest log that no digest names, after all chains.
    pub newest: Option<Timestamp>,
    /// Up to when the database says that all digests were seen.
    pub listed: Option<Timestamp>,
}

impl<'r, 'a, A: Archive> At<'r, 'a, A> {
    /// A spot, by its number.
    pub fn new(run: &'r mut Run<'a, A>, spot: Spot, scope: usize, span: Span) -> Self {
        let (lines, context, beyond, named, kinds) = Default::default();
        Self { run, spot, scope, span, lines, context, beyond, named, kinds }
    }

    /// Walks everything; jobs may still be under way afterwards.
    ///
    /// # Errors
    /// When folders, manifests or rows cannot be read.
    pub fn verify(mut self) -> Result<Ends, Error> {
        self.span.oldest = self.oldest_log()?;
        self.digests()?;
        self.named.sort_unstable();
        self.named.dedup();
        let another = self.another_trail()?;
        let newest = self.leftovers(another)?;
        let listed = match self.run.rows {
            Some(rows) => rows.listed_through(&self.stream(DIGESTS))?,
            None => None,
        };
        Ok(Ends { lines: self.lines.into_values().collect(), span: self.span, newest, listed })
    }

    fn stream(&self, kind: &str) -> Stream {
        self.spot.stream(Kind::named(kind).unwrap_or(&KINDS[0]))
    }

    /// The hour of the oldest log, for a chain whose first digests are not here.
    fn oldest_log(&self) -> Result<Option<Timestamp>, Error> {
        let stream = self.stream("CloudTrail");
        for folder in Folders::new(self.run.archive, &stream.prefix) {
            let (folder, listed) = folder?;
            let dated = |object: &super::archive::Standing| stream.dated(&format!("{folder}{}", object.name));
            if let Some(oldest) = listed.objects.iter().filter_map(dated).min() {
                let second = oldest.as_second();
                return Ok(Timestamp::from_second(second - second.rem_euclid(HOUR_SECONDS)).ok());
            }
        }
        Ok(None)
    }

    fn digests(&mut self) -> Result<(), Error> {
        let stream = self.stream(DIGESTS);
        for folder in Folders::new(self.run.archive, &stream.prefix) {
            let (folder, listed) = folder?;
            let Some(day) = Day::of(&folder).filter(|day| folder == day.folder()) else { continue };
            if self.is_day_outside(day, 2 * DAY_SECONDS) {
                continue;
            }
            for object in listed.objects.iter().filter(|object| object.version.is_none()) {
                if let Some(name) = Name::of(&self.spot.account, &self.spot.region, &object.name)
                    && Day::at(name.end) == day
                {
                    self.digest(&stream, &format!("{folder}{}", object.name), &name)?;
                }
            }
        }
        for (at, mut line) in std::mem::take(&mut self.lines) {
            let walked = self.step(&mut line, None);
            self.take(&line.identity, walked)?;
            self.lines.insert(at, line);
        }
        Ok(())
    }

    /// Reads one digest, unless it lies outside of the range: then only the ones next to it are looked at.
    fn digest(&mut self, stream: &Stream, suffix: &str, name: &Name<'_>) -> Result<(), Error> {
        let trails = &self.run.options.trails;
        if !trails.is_empty() && !trails.iter().any(|trail| trail == name.trail) {
            return Ok(());
        }
        let at = (name.trail.to_owned(), name.home.to_owned(), name.backfill);
        if self.span.from.is_some_and(|from| name.end <= from) {
            self.context.insert(at, suffix.to_owned());
            return Ok(());
        }
        if let Some(before) = self.context.remove(&at) {
            let file = before.rsplit('/').next().unwrap_or_default();
            if let Some(name) = Name::of(&self.spot.account, &self.spot.region, file) {
                self.feed(stream, &before, &name, true)?;
            }
        }
        // Its hour begins no later than an hour before its end.
        let is_beyond = self.span.to.is_some_and(|to| shift(name.end, -HOUR_SECONDS) >= to);
        if is_beyond && !self.beyond.insert(at) {
            return Ok(());
        }
        self.feed(stream, suffix, name, is_beyond)
    }

    fn feed(&mut self, stream: &Stream, suffix: &str, name: &Name<'_>, quiet: bool) -> Result<(), Error> {
        let stored = self.run.recorded.of(stream, suffix)?.filter(|stored| !stored.later);
        let key = format!("{}{suffix}", stream.prefix);
        let hash = self.run.recorded.hash(&key);
        self.named.push(hash);
        let account = &self.spot.account;
        let asked = arrival::Asked { key, name, prefix: self.spot.prefix(), account, stored };
        let arrival = arrival::read(self.run.archive, &mut self.run.checker, asked);
        self.run.progress.read(arrival.bytes.0);
        if !quiet {
            let mut tally = lock(self.run.tally);
            tally.files += 1;
            tally.stored_bytes += arrival.bytes.0;
            tally.inflated_bytes += arrival.bytes.1;
            tally.scopes[self.scope].has_digests = true;
        }
        let held = Held::new(arrival, self.run.keys.of(&self.spot.region), quiet);
        let at = (name.trail.to_owned(), name.home.to_owned(), name.backfill);
        let mut line = match self.lines.remove(&at) {
            Some(line) => line,
            None => Line::new(self.identity(stream, name)),
        };
        let walked = self.step(&mut line, Some(held));
        self.take(&line.identity, walked)?;
        self.lines.insert(at, line);
        Ok(())
    }

    /// A backfill digest belongs to the chain of its trail, where there is one.
    fn identity(&self, stream: &Stream, name: &Name<'_>) -> Identity {
        let mut tally = lock(self.run.tally);
        let same = |chain: &Chain| chain.scope == self.scope && chain.trail == name.trail && chain.home == name.home;
        let known = tally.chains.iter().position(same);
        let chain = known.unwrap_or_else(|| {
            tally.chains.push(Chain::new(self.scope, name.trail, name.home));
            tally.chains.len() - 1
        });
        Identity {
            chain,
            account: self.spot.account.clone(),
            region: self.spot.region.clone(),
            trail: name.trail.to_owned(),
            home: name.home.to_owned(),
            folder: stream.prefix.clone(),
            backfill: name.backfill,
        }
    }

    fn step(&mut self, line: &mut Line, next: Option<Held>) -> Walked {
        let keys = self.run.keys.of(&self.spot.region);
        let mut tally = lock(self.run.tally);
        if matches!(keys, Keys::Absent) {
            tally.keyless.insert(self.spot.region.clone());
        }
        let chain = &mut tally.chains[line.identity.chain];
        match next {
            Some(next) => line.next(next, keys, &self.span, chain),
            None => line.last(keys, &self.span, chain),
        }
    }

    /// Takes what a step gave: findings at once, logs to be read by the workers.
    fn take(&mut self, identity: &Identity, walked: Walked) -> Result<(), Error> {
        walked.findings.into_iter().for_each(|finding| lock(self.run.tally).find(finding));
        let Some((digest, key, prefix)) = walked.believed else { return Ok(()) };
        self.note_origin(identity, &digest, &prefix);
        let by = By { chain: identity.chain, key, from: digest.start, to: digest.end, backfill: identity.backfill };
        let by = Arc::new(by);
        let mut stream: Option<Stream> = None;
        for named in &digest.logs {
            let below = named.origin.key.strip_prefix(&*prefix).unwrap_or(&named.origin.key);
            let key = format!("{}{below}", self.spot.prefix());
            self.named.push(self.run.recorded.hash(&key));
            // One log after the other is of the same stream.
            if stream.as_ref().is_none_or(|stream| stream.suffix(&key).is_none()) {
                stream = stream_of("", &key);
            }
            let stored = match stream.as_ref().and_then(|stream| Some((stream, stream.suffix(&key)?))) {
                Some((stream, suffix)) => {
                    self.kinds.insert(stream.kind.folder);
                    self.run.recorded.of(stream, suffix)?.filter(|stored| !stored.later)
                }
                None => None,
            };
            let (place, asked) = (Place { key, version: None }, Asked::Named(by.clone()));
            self.run.desk.push(Job { place, scope: self.scope, inside: Some(named.hash), stored, asked });
        }
        Ok(())
    }

    fn note_origin(&self, identity: &Identity, digest: &Digest, prefix: &str) {
        let mut tally = lock(self.run.tally);
        let chain = &mut tally.chains[identity.chain];
        let origin = format!("s3://{}/{}", digest.origin.bucket, prefix.trim_end_matches('/'));
        let bucket = self.run.bucket_of(self.spot.prefix());
        let moved = prefix != self.spot.prefix() || bucket.is_some_and(|bucket| bucket != digest.origin.bucket);
        if !chain.origins.insert(origin.clone()) || !moved {
            return;
        }
        chain.moved = true;
        let finding = Finding {
            verdict: Verdict::Moved,
            what: What::Digest,
            account: identity.account.clone(),
            region: identity.region.clone(),
            trail: identity.trail.clone(),
            key: identity.folder.clone(),
            from: Some(digest.start),
            to: None,
            detail: format!("from here on, digests were signed for {origin}; they are judged by their content"),
        };
        tally.find(finding);
    }

    fn is_day_outside(&self, day: Day, slack: i64) -> bool {
        let Some(start) = day.start() else { return false };
        let before = self.span.from.is_some_and(|from| start < shift(from, -slack - DAY_SECONDS));
        before || self.span.to.is_some_and(|to| start > shift(to, slack))
    }

    /// A digest is named by the end of its hour, a log by its own time.
    fn is_outside(&self, stream: &Stream, dated: Option<Timestamp>) -> bool {
        let Some(at) = dated else { return self.span.from.is_some() || self.span.to.is_some() };
        let at = if stream.kind.folder == DIGESTS { shift(at, -1) } else { at };
        self.span.from.is_some_and(|from| at < from) || self.span.to.is_some_and(|to| at >= to)
    }

    fn is_named(&self, key: &str) -> bool {
        self.named.binary_search(&self.run.recorded.hash(key)).is_ok()
    }

    /// Whether so many hours have logs that no digest names that another trail must write here.
    fn another_trail(&mut self) -> Result<bool, Error> {
        let stream = self.stream("CloudTrail");
        let (mut hours, mut unnamed) = (HashSet::new(), HashSet::new());
        for folder in Folders::new(self.run.archive, &stream.prefix) {
            let (folder, listed) = folder?;
            for object in listed.objects.iter().filter(|object| object.version.is_none()) {
                let suffix = format!("{folder}{}", object.name);
                let Some(at) = stream.dated(&suffix).filter(|at| !self.is_outside(&stream, Some(*at))) else {
                    continue;
                };
                if self.standing(Some(at)).verdict != Verdict::Unreferenced {
                    continue;
                }
                let hour = at.as_second().div_euclid(HOUR_SECONDS);
                hours.insert(hour);
                if !self.is_named(&format!("{}{suffix}", stream.prefix)) {
                    unnamed.insert(hour);
                }
            }
        }
        let another = hours.len() >= LEAST_HOURS && 2 * unnamed.len() >= hours.len();
        lock(self.run.tally).scopes[self.scope].another_trail = another;
        Ok(another)
    }

    /// What is said of an object of this time that no digest names.
    fn standing(&self, at: Option<Timestamp>) -> Standing {
        let unsaid = |verdict| Standing { verdict, why: None };
        let unreferenced =
            Standing { verdict: Verdict::Unreferenced, why: Some("digests cover its time, and none names it") };
        let tally = lock(self.run.tally);
        let chains = || tally.chains.iter().filter(|chain| chain.scope == self.scope && !chain.runs.is_empty());
        if chains().next().is_none() || !self.run.options.trails.is_empty() {
            return unsaid(Verdict::Unknown);
        }
        let Some(at) = at else { return Standing { why: Some("CloudTrail names no log like this"), ..unreferenced } };
        let known = |time| chains().filter_map(move |chain| chain.at(time)).collect::<Vec<_>>();
        let (then, soon) = (known(at), known(shift(at, DELIVERY_SECONDS)));
        // It may have come in an hour of which nothing can be believed, and its digest would name it.
        let is_open = |time| chains().any(|chain| chain.is_open(time));
        if [shift(at, -AHEAD_SECONDS), at, shift(at, DELIVERY_SECONDS)].into_iter().any(is_open) {
            return unsaid(Verdict::Unknown);
        }
        if !then.is_empty() && !soon.is_empty() {
            return unreferenced;
        }
        let last = chains().filter_map(|chain| chain.last).max();
        let due = last.map(|last| shift(last, HOUR_SECONDS + self.run.options.grace_seconds));
        let is_after = last.is_some_and(|last| shift(at, DELIVERY_SECONDS) >= last);
        let is_pending = is_after && due.is_some_and(|due| self.run.options.now <= due);
        unsaid(if is_pending { Verdict::Pending } else { Verdict::Unknown })
    }

    /// Everything that no digest names: read, compared with what was recorded, and said. The newest log's time.
    fn leftovers(&mut self, another: bool) -> Result<Option<Timestamp>, Error> {
        let mut newest = None;
        for kind in &KINDS {
            let stream = self.spot.stream(kind);
            for finding in self.run.recorded.examine(&stream)? {
                lock(self.run.tally).find(finding);
            }
            let mut days = self.run.recorded.days(&stream)?;
            let (mut odd, mut present) = (Vec::new(), Vec::new());
            let mut at = None;
            for folder in Folders::new(self.run.archive, &stream.prefix) {
                let (folder, listed) = folder?;
                let day = Day::of(&folder);
                if at != day {
                    self.absent(&stream, at, &mut present, &mut days)?;
                    at = day;
                }
                let seen = if day.is_some() { &mut present } else { &mut odd };
                let latest = self.folder(&stream, &folder, &listed, another, seen)?;
                if kind.folder == "CloudTrail" {
                    newest = newest.max(latest);
                }
            }
            self.absent(&stream, at, &mut present, &mut days)?;
            self.absent(&stream, Some(Day::ODD), &mut odd, &mut days)?;
            for day in days.clone() {
                self.absent(&stream, Some(day), &mut Vec::new(), &mut days)?;
            }
        }
        Ok(newest)
    }

    /// One folder: what stands in it and is named by nobody. Remembers what it saw; the newest that is unnamed.
    fn folder(
        &mut self,
        stream: &Stream,
        folder: &str,
        listed: &Listed,
        another: bool,
        seen: &mut Vec<u64>,
    ) -> Result<Option<Timestamp>, Error> {
        lock(self.run.tally).foreign += listed.foreign.len() as u64;
        let mut newest = None;
        for object in &listed.objects {
            let suffix = format!("{folder}{}", object.name);
            let key = format!("{}{suffix}", stream.prefix);
            seen.push(self.run.recorded.hash(&version_key(&suffix, object.version.as_deref())));
            let at = stream.dated(&suffix);
            if self.is_outside(stream, at) || (object.version.is_none() && self.is_named(&key)) {
                continue;
            }
            let standing = self.unnamed(stream, object, at, another);
            if standing.verdict != Verdict::Later {
                newest = newest.max(at);
            }
            let Some(standing) = self.of_digests(stream, object, standing) else { continue };
            let version = object.version.as_deref().map(str::to_owned);
            let stored = self.run.recorded.of(stream, &suffix)?;
            let stored = stored.filter(|stored| match &version {
                Some(version) => stored.later && crate::record::version_of(&stored.sha256) == *version,
                None => !stored.later,
            });
            let (place, asked) = (Place { key, version }, Asked::Here(standing));
            self.run.desk.push(Job { place, scope: self.scope, inside: None, stored, asked });
        }
        Ok(newest)
    }

    /// Digests were read before; what else stands among them is none.
    fn of_digests(&self, stream: &Stream, object: &super::archive::Standing, standing: Standing) -> Option<Standing> {
        if stream.kind.folder != DIGESTS || object.version.is_some() {
            return Some(standing);
        }
        let name = Name::of(&self.spot.account, &self.spot.region, &object.name);
        let is_skipped = name.is_some() && (self.span.from.is_some() || self.span.to.is_some());
        let of_another = name.is_some_and(|_| !self.run.options.trails.is_empty());
        let why = Some("it stands among the digests, but its name or folder is none of a digest");
        (!is_skipped && !of_another).then_some(Standing { verdict: Verdict::Malformed, why })
    }

    fn unnamed(
        &self,
        stream: &Stream,
        object: &super::archive::Standing,
        at: Option<Timestamp>,
        another: bool,
    ) -> Standing {
        if object.version.is_some() {
            return Standing {
                verdict: Verdict::Later,
                why: Some("the source showed other bytes under this key later"),
            };
        }
        let is_vouched = stream.kind.folder == "CloudTrail" || self.kinds.contains(stream.kind.folder);
        let standing = self.standing(at);
        match standing.verdict {
            Verdict::Unreferenced if another || !is_vouched => Standing { verdict: Verdict::Unknown, why: None },
            _ => standing,
        }
    }

    /// What was recorded of a day and is not in its folders.
    fn absent(
        &mut self,
        stream: &Stream,
        day: Option<Day>,
        present: &mut Vec<u64>,
        days: &mut BTreeSet<Day>,
    ) -> Result<(), Error> {
        let mut present = std::mem::take(present);
        let Some(day) = day.filter(|day| days.remove(day)) else { return Ok(()) };
        if self.is_day_outside(day, 0) {
            return Ok(());
        }
        present.sort_unstable();
        if self.run.recorded.day(stream, day)?.is_all_in(&present) {
            return Ok(());
        }
        let hasher = self.run.recorded.hasher();
        // Of several generations the last one that names an object holds.
        let mut missing = BTreeMap::new();
        self.run.recorded.each(stream, day, &mut |record| {
            let version = record.version();
            let hash = hasher.hash_one(version_key(&record.suffix, version.as_deref()));
            if present.binary_search(&hash).is_err() {
                let stored = Stored { size: record.size, sha256: record.sha256, later: record.later };
                missing.insert(hash, (record.suffix, version, stored));
            }
        })?;
        for (suffix, version, stored) in missing.into_values() {
            let key = format!("{}{suffix}", stream.prefix);
            if self.is_outside(stream, stream.dated(&suffix)) || (version.is_none() && self.is_named(&key)) {
                continue;
            }
            let stored = Some(stored);
            let asked = Asked::Here(Standing { verdict: Verdict::Valid, why: None });
            let job = Job { place: Place { key, version }, scope: self.scope, inside: None, stored, asked };
            self.run.desk.push(job);
        }
        Ok(())
    }
}

/// How a version's name is hashed beside the first one's.
fn version_key(suffix: &str, version: Option<&str>) -> String {
    match version {
        Some(version) => format!("{suffix}%_v{version}"),
        None => suffix.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_never_taken_for_a_first_one() {
        assert_ne!(version_key("a", Some("0123456789abcdef")), version_key("a", None));
    }
}
