//! What a first or next run would do: objects and bytes by account, kind, region and month, without doing it.
//!
//! Small streams are listed to their end. Of a large one the days are found first, by folder, and each is listed as
//! long as the allowed requests last; beyond that a sample of the days is, and the error is stated. Nothing is written,
//! and no more than a few pages are held.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};

use crate::clock::{Timestamp, shift};
use crate::config::Poll;
use crate::discover::{Wanted, discover};
use crate::error::Error;
use crate::layout::Stream;
use crate::ledger::{Checkpoint, Ledger, StreamId};
use crate::manifest::Manifests;
use crate::source::Source;
use crate::window::{self, Scope};

mod sample;
mod units;

pub use sample::Estimate;
pub use units::{Month, Tally};

use sample::{LEAST, float, share};
use units::{Counter, Unit};

/// Streams with fewer pages are listed as they are.
const SMALL_PAGES: u64 = 5;
/// Listings under way at a time.
const AT_ONCE: usize = 8;
/// Keys of a page.
const PAGE: f64 = 1_000.0;

/// What is asked.
pub struct Question<'a> {
    /// What to discover.
    pub wanted: Wanted,
    /// When streams are listed, and how far back.
    pub poll: Poll,
    /// Nothing dated before is mirrored.
    pub since: Option<Timestamp>,
    /// The present time.
    pub now: Timestamp,
    /// Everything is listed again.
    pub full: bool,
    /// Requests that may be made, as a rule: each month of each stream has at least a few days listed.
    pub requests: u64,
    /// Which days are listed of a sample.
    pub seed: u64,
    /// What is mirrored already, where there is a state.
    pub known: Option<Known<'a>>,
}

/// The state, to be read only.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The ledger.
    pub ledger: &'a Ledger,
    /// The manifests.
    pub manifests: &'a Manifests,
}

/// What a run would do with one source.
#[derive(Debug, Default)]
pub struct Answer {
    /// Its streams.
    pub streams: Vec<StreamPlan>,
    /// Prefixes that could not be listed.
    pub failed: Vec<Error>,
    /// LIST requests that the run makes to find its streams.
    pub discovery: u64,
    /// LIST requests that were made for this answer.
    pub asked: u64,
}

/// What a run would do with one stream.
#[derive(Debug)]
pub struct StreamPlan {
    /// Which.
    pub stream: Stream,
    /// From when on it is listed; `None`: from its beginning.
    pub from: Option<Timestamp>,
    /// What is to be fetched, by the month in the key.
    pub months: BTreeMap<Month, Expected>,
    /// LIST requests of the run.
    pub lists: f64,
    /// It was never mirrored.
    first: bool,
}

/// What is to be fetched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    /// Objects.
    pub objects: Estimate,
    /// Their bytes.
    pub bytes: Estimate,
    /// Those of them that are archived and cannot be fetched.
    pub archived: Estimate,
    listed: Estimate,
}

impl std::ops::Add for Expected {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            objects: self.objects + other.objects,
            bytes: self.bytes + other.bytes,
            archived: self.archived + other.archived,
            listed: self.listed + other.listed,
        }
    }
}

impl std::iter::Sum for Expected {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), std::ops::Add::add)
    }
}

impl Expected {
    fn exact(tally: Tally) -> Self {
        Self {
            objects: Estimate::exact(tally.objects),
            bytes: Estimate::exact(tally.bytes),
            archived: Estimate::exact(tally.archived),
            listed: Estimate::exact(tally.listed),
        }
    }

    /// Of so many days, of which these were seen.
    fn of(units: usize, seen: &[Tally]) -> Self {
        let of = |part: fn(&Tally) -> u64| {
            let seen: Vec<f64> = seen.iter().map(|tally| float(part(tally))).collect();
            Estimate::of(units, &seen)
        };
        Self {
            objects: of(|tally| tally.objects),
            bytes: of(|tally| tally.bytes),
            archived: of(|tally| tally.archived),
            listed: of(|tally| tally.listed),
        }
    }
}

impl Answer {
    /// All streams together.
    pub fn total(&self) -> Expected {
        self.streams.iter().map(StreamPlan::total).sum()
    }

    /// LIST requests of the run.
    pub fn lists(&self) -> f64 {
        float(self.discovery) + self.streams.iter().map(|stream| stream.lists).sum::<f64>()
    }
}

impl StreamPlan {
    /// All months together.
    pub fn total(&self) -> Expected {
        self.months.values().copied().sum()
    }
}

/// Lists what a run would list, or a sample of it.
///
/// # Errors
/// When nothing at all can be listed; `Fatal` when the state cannot be read.
pub async fn plan<S: Source>(source: &S, question: &Question<'_>) -> Result<Answer, Error> {
    let found = discover(source, &question.wanted).await?;
    let failed = found.failed.into_iter().map(|(_, error)| error).collect();
    let mut answer = Answer { failed, discovery: found.lists, asked: found.lists, ..Answer::default() };
    let looks = iter(found.streams).map(|stream| look(source, question, stream)).buffered(AT_ONCE);
    let mut large = Vec::new();
    for looked in looks.collect::<Vec<_>>().await {
        match looked {
            Ok((plan, pages, Looked::Whole)) => {
                answer.asked += pages;
                answer.streams.push(plan);
            }
            Ok((plan, pages, Looked::Large { id, units })) => {
                answer.asked += pages;
                large.push(Large::new(plan, id, units, question.seed));
            }
            Err(error) if error.class() == crate::error::Class::Fatal => return Err(error),
            Err(error) => answer.failed.push(error),
        }
    }
    spend(source, question, &mut large, &mut answer).await?;
    answer.streams.extend(large.into_iter().map(Large::finished));
    answer.streams.sort_by(|a, b| a.stream.prefix.cmp(&b.stream.prefix));
    Ok(answer)
}

/// What a first look at a stream showed.
enum Looked {
    /// All of it.
    Whole,
    /// That it is large, and its days.
    Large { id: Option<StreamId>, units: Vec<Unit> },
}

/// Lists a small stream whole, or finds the days of a large one; with the pages that it took.
async fn look<S: Source>(
    source: &S,
    question: &Question<'_>,
    stream: Stream,
) -> Result<(StreamPlan, u64, Looked), Error> {
    let known = match question.known {
        Some(known) => known.ledger.known(&stream).await?,
        None => None,
    };
    let first = known.is_none();
    let from = begins(question, known.as_ref().map(|(_, checkpoint)| checkpoint));
    let from = [from, question.since].into_iter().flatten().max();
    let after = from.map(|from| stream.bound(from));
    let id = known.map(|(id, _)| id);
    let counter = counter(source, question, &stream, id);
    let whole = Unit { folder: String::new(), month: Month(0), after: after.clone() };
    let listing = counter.list(&whole, SMALL_PAGES).await?;
    let pages: u64 = listing.months.values().map(|tally| tally.pages).sum();
    if listing.ended {
        let dated = listing.months.into_iter().filter(|(_, tally)| tally.listed > 0);
        let months: BTreeMap<_, _> = dated.map(|(month, tally)| (month, Expected::exact(tally))).collect();
        let lists = float(pages) + if first { beginning(pages > 1, &months) } else { 0.0 };
        return Ok((StreamPlan { stream, from, first, months, lists }, pages, Looked::Whole));
    }
    let (units, folders) = counter.units(after.as_deref()).await?;
    let plan = StreamPlan { stream, from, first, months: BTreeMap::new(), lists: 0.0 };
    Ok((plan, pages + folders, Looked::Large { id, units }))
}

/// What a first run lists besides: a poll of what is fresh, a look at the beginning, what is dated ahead; and, of more
/// than a page, the folders of years and months.
fn beginning(is_large: bool, months: &BTreeMap<Month, Expected>) -> f64 {
    let years: BTreeSet<i32> = months.keys().map(|month| month.0 / 100).collect();
    3.0 + if is_large { 1.0 + float(years.len()) } else { 0.0 }
}

fn counter<'a, S>(source: &'a S, question: &Question<'a>, stream: &'a Stream, id: Option<StreamId>) -> Counter<'a, S> {
    Counter { source, stream, since: question.since, known: question.known.zip(id) }
}

/// From when on the next run lists a stream: its poll, and the deeper listing that is due.
fn begins(question: &Question<'_>, checkpoint: Option<&Checkpoint>) -> Option<Timestamp> {
    let memory = &checkpoint.filter(|_| !question.full)?.memory;
    let sweep = checkpoint.and_then(|checkpoint| checkpoint.sweep.as_ref()).map(|sweep| sweep.scope);
    let due = window::due(memory, &question.poll, question.since, question.now);
    let whole = |scope: Scope| matches!(scope, Scope::Backfill | Scope::Full);
    if sweep.is_some_and(whole) || due.is_some_and(|due| whole(due.scope)) {
        return None;
    }
    let poll = window::poll_window(memory, &question.poll, question.now, None).from;
    let depths = [sweep, due.map(|due| due.scope)].into_iter().flatten().filter_map(|scope| match scope {
        Scope::Tier(depth) => Some(shift(question.now, -depth)),
        _ => None,
    });
    depths.chain(due.and_then(|due| due.from)).chain([poll]).min()
}

/// A stream that is too large to be listed for a look.
struct Large {
    plan: StreamPlan,
    id: Option<StreamId>,
    strata: BTreeMap<Month, Stratum>,
}

/// The days of one month, in random order but for those that are listed for certain.
#[derive(Default)]
struct Stratum {
    /// Days at the ends of the stream, which are not like the others.
    certain: Vec<Unit>,
    certainly: Vec<Tally>,
    units: Vec<Unit>,
    /// What the first of the units hold.
    seen: Vec<Tally>,
}

impl Stratum {
    fn pages_left(&self) -> f64 {
        let pages: u64 = self.seen.iter().map(|tally| tally.pages).sum();
        let left = self.units.len() - self.seen.len();
        if self.seen.is_empty() { 0.0 } else { float(pages) / float(self.seen.len()) * float(left) }
    }

    fn expected(&self) -> Expected {
        let certain = self.certainly.iter().copied().map(Expected::exact).sum::<Expected>();
        certain + Expected::of(self.units.len(), &self.seen)
    }
}

impl Large {
    fn new(plan: StreamPlan, id: Option<StreamId>, mut units: Vec<Unit>, seed: u64) -> Self {
        let mut strata: BTreeMap<Month, Stratum> = BTreeMap::new();
        units.sort_by(|a, b| a.folder.cmp(&b.folder));
        let last = units.len().saturating_sub(1);
        for (at, unit) in units.into_iter().enumerate() {
            let stratum = strata.entry(unit.month).or_default();
            // What has no date has no peers either.
            let alone = at == 0 || at == last || unit.month == Month(0);
            if alone { &mut stratum.certain } else { &mut stratum.units }.push(unit);
        }
        // Each stream has days of its own: what is busy in one region is busy in the others.
        let mix = |mixed: u64, byte: u8| (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let mut random = fastrand::Rng::with_seed(plan.stream.prefix.bytes().fold(seed, mix));
        strata.values_mut().for_each(|stratum| random.shuffle(&mut stratum.units));
        Self { plan, id, strata }
    }

    fn finished(mut self) -> StreamPlan {
        self.plan.months = self.strata.iter().map(|(month, stratum)| (*month, stratum.expected())).collect();
        let pages: f64 = self.plan.months.values().map(|month| (month.listed.value / PAGE).ceil()).sum();
        let beginning = if self.plan.first { beginning(true, &self.plan.months) } else { 0.0 };
        self.plan.lists = pages + beginning;
        self.plan
    }
}

/// Lists some days of every month, then as many of the others as the requests allow.
async fn spend<S: Source>(
    source: &S,
    question: &Question<'_>,
    large: &mut [Large],
    answer: &mut Answer,
) -> Result<(), Error> {
    list_up_to(source, question, large, answer, |stratum| LEAST.min(stratum.units.len())).await?;
    let left: f64 = large.iter().flat_map(|large| large.strata.values()).map(Stratum::pages_left).sum();
    let share = share(question.requests.saturating_sub(answer.asked), left);
    list_up_to(source, question, large, answer, |stratum| {
        let (all, seen) = (stratum.units.len(), stratum.seen.len());
        seen + portion(all - seen, share)
    })
    .await
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a number of days")]
fn portion(of: usize, share: f64) -> usize {
    if share >= 1.0 { of } else { (float(of) * share).floor() as usize }
}

async fn list_up_to<S: Source>(
    source: &S,
    question: &Question<'_>,
    large: &mut [Large],
    answer: &mut Answer,
    wanted: impl Fn(&Stratum) -> usize,
) -> Result<(), Error> {
    let mut work = Vec::new();
    for (at, one) in large.iter().enumerate() {
        for (month, stratum) in &one.strata {
            let certain = stratum.certain.iter().filter(|_| stratum.certainly.is_empty()).map(|unit| (true, unit));
            let sampled = &stratum.units[stratum.seen.len()..wanted(stratum).max(stratum.seen.len())];
            work.extend(
                certain.chain(sampled.iter().map(|unit| (false, unit))).map(|(c, unit)| (at, *month, c, unit.clone())),
            );
        }
    }
    let listings = iter(work).map(|(at, month, certain, unit)| {
        let counter = counter(source, question, &large[at].plan.stream, large[at].id);
        async move { counter.list(&unit, u64::MAX).await.map(|listing| (at, month, certain, total(&listing.months))) }
    });
    let tallies: Vec<(usize, Month, bool, Tally)> = listings.buffered(AT_ONCE).try_collect().await?;
    for (at, month, certain, tally) in tallies {
        answer.asked += tally.pages;
        if let Some(stratum) = large[at].strata.get_mut(&month) {
            if certain { &mut stratum.certainly } else { &mut stratum.seen }.push(tally);
        }
    }
    Ok(())
}

fn total(months: &BTreeMap<Month, Tally>) -> Tally {
    months.values().fold(Tally::default(), |mut all, month| {
        all += *month;
        all
    })
}
