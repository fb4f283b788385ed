//! The days of a stream, and how much of each is not mirrored yet.

use std::collections::BTreeMap;

use super::Known;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::layout::{Day, Stream};
use crate::ledger::StreamId;
use crate::object::Listed;
use crate::records::Records;
use crate::retry::PassDelays;
use crate::source::{ListPage, ListRequest, Source};

/// Tries of one page.
const TRIES: u32 = 5;
/// Names of folders that are no dates, at one level, beyond which they are left out: somebody planted them.
const ODD_FOLDERS: usize = 1_000;

/// YYYYMM; 0 holds what has no date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(pub i32);

impl Month {
    /// The month of a day.
    pub fn of(day: Day) -> Self {
        Self(day.0 / 100)
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.pad("undated"),
            n => f.pad(&format!("{:04}-{:02}", n / 100, n % 100)),
        }
    }
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects that a listing shows.
    pub listed: u64,
    /// Those of them that are not mirrored.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that are archived and cannot be read at once.
    pub archived: u64,
    /// Pages of the listing.
    pub pages: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.listed += other.listed;
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.archived += other.archived;
        self.pages += other.pages;
    }
}

/// A part of a stream that is listed at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// What its keys start with, after the stream's prefix.
    pub folder: String,
    pub month: Month,
    /// Keys after this suffix only.
    pub after: Option<String>,
}

/// Months of a stream, and whether the listing came to its end.
pub(super) struct Listing {
    pub months: BTreeMap<Month, Tally>,
    pub ended: bool,
}

/// One stream at its source, compared with what is recorded of it.
pub(super) struct Counter<'a, S> {
    pub source: &'a S,
    pub stream: &'a Stream,
    pub since: Option<Timestamp>,
    pub known: Option<(Known<'a>, StreamId)>,
}

impl<S: Source> Counter<'_, S> {
    /// Lists a unit, up to `most` pages.
    pub async fn list(&self, unit: &Unit, most: u64) -> Result<Listing, Error> {
        let prefix = format!("{}{}", self.stream.prefix, unit.folder);
        let start_after = unit.after.as_ref().map(|after| format!("{}{after}", self.stream.prefix));
        let mut request = ListRequest { prefix, start_after, ..ListRequest::default() };
        let from = unit.after.as_deref().unwrap_or(&unit.folder);
        let mut records =
            self.known.map(|(known, id)| Records::from(known.ledger, known.manifests, self.stream, id, from));
        let mut months: BTreeMap<Month, Tally> = BTreeMap::new();
        for pages in 0.. {
            if pages == most {
                return Ok(Listing { months, ended: false });
            }
            let page = patiently(self.source, &request).await?;
            months.entry(unit.month).or_default().pages += 1;
            for object in &page.objects {
                let Some(suffix) = self.stream.suffix(&object.key) else { continue };
                let is_here = is_recorded(&mut records, suffix, object).await?;
                let day = Day::of(suffix);
                *months.entry(day.map_or(Month(0), Month::of)).or_default() += self.one(suffix, object, is_here);
            }
            // The same token again would go on for ever.
            let stuck = page.next.is_some() && page.next == request.token;
            request.token = page.next;
            if request.token.is_none() || stuck {
                break;
            }
        }
        Ok(Listing { months, ended: true })
    }

    fn one(&self, suffix: &str, object: &Listed, is_here: bool) -> Tally {
        let dated = || self.stream.dated(suffix);
        let is_before = self.since.is_some_and(|since| dated().is_some_and(|dated| dated < since));
        let mut one = Tally { listed: 1, ..Tally::default() };
        if !is_here && !is_before {
            one.objects = 1;
            one.bytes = object.size;
            one.archived = u64::from(object.archived.is_some());
        }
        one
    }

    /// The days of the stream from `from` on, each a unit, and what has no date; how many pages that took.
    pub async fn units(&self, from: Option<&str>) -> Result<(Vec<Unit>, u64), Error> {
        let (mut units, mut pages) = (Vec::new(), 0);
        let mut above = vec![String::new()];
        for digits in [4, 2, 2] {
            let mut below = Vec::new();
            for folder in above {
                let (dates, odd) = self.folders(&folder, digits, &mut pages).await?;
                // Of a stretch of time, only what has a date in it.
                units.extend(odd.into_iter().filter(|_| from.is_none()));
                below.extend(dates.into_iter().filter(|date| !ends_before(date, from)));
            }
            above = below;
        }
        units.extend(above.into_iter().map(|folder| {
            let month = Day::of(&folder).map_or(Month(0), Month::of);
            let after = from.filter(|from| from.starts_with(&folder)).map(str::to_owned);
            Unit { folder, month, after }
        }));
        Ok((units, pages))
    }

    /// Folders of so many digits directly under `under`, and units for everything else.
    async fn folders(&self, under: &str, digits: usize, pages: &mut u64) -> Result<(Vec<String>, Vec<Unit>), Error> {
        let prefix = format!("{}{under}", self.stream.prefix);
        let mut request = ListRequest { prefix, delimiter: true, ..ListRequest::default() };
        let (mut dates, mut odd) = (Vec::new(), Vec::new());
        loop {
            let page = patiently(self.source, &request).await?;
            *pages += 1;
            let keys = page.objects.iter().map(|object| &object.key).chain(&page.prefixes);
            for suffix in keys.filter_map(|key| self.stream.suffix(key)) {
                let name = suffix.strip_prefix(under).and_then(|name| name.strip_suffix('/'));
                match name.filter(|name| name.len() == digits && name.bytes().all(|byte| byte.is_ascii_digit())) {
                    Some(_) => dates.push(suffix.to_owned()),
                    None if odd.len() < ODD_FOLDERS => {
                        odd.push(Unit { folder: suffix.to_owned(), month: Month(0), after: None });
                    }
                    None => {}
                }
            }
            let stuck = page.next.is_some() && page.next == request.token;
            request.token = page.next;
            if request.token.is_none() || stuck {
                return Ok((dates, odd));
            }
        }
    }
}

/// Whether everything in a folder sorts before `from`.
fn ends_before(folder: &str, from: Option<&str>) -> bool {
    from.is_some_and(|from| folder < from && !from.starts_with(folder))
}

async fn is_recorded(records: &mut Option<Records<'_>>, suffix: &str, object: &Listed) -> Result<bool, Error> {
    let Some(records) = records else { return Ok(false) };
    while records.peek().await?.is_some_and(|next| next < suffix) {
        records.next().await?;
    }
    match records.peek().await? {
        Some(next) if next == suffix => Ok(records.next().await?.is_some_and(|record| record.matches(object))),
        _ => Ok(false),
    }
}

/// One page, asked for again while waiting may help.
async fn patiently<S: Source>(source: &S, request: &ListRequest) -> Result<ListPage, Error> {
    let mut delays = PassDelays::default();
    loop {
        match source.list(request).await {
            Err(error @ Error::Transient(_)) if delays.failures() < TRIES => {
                tokio::time::sleep(delays.after(&error, fastrand::f64())).await;
            }
            answer => return answer,
        }
    }
}
