//! Deep listings, page by page, beside the polls: they survive a restart and go on where they were.

use std::sync::atomic::AtomicU64;

use tracing::{debug, info};

use super::walk::Manner;
use super::{Mirror, Progress, Task};
use crate::clock::{Timestamp, shift};
use crate::destination::Destination;
use crate::error::Error;
use crate::key::after_prefix;
use crate::layout::Day;
use crate::ledger::{Range, Sweep};
use crate::source::{ListPage, ListRequest, Source};
use crate::window::{self, AHEAD_SECONDS, Due, Scope};

/// Folders at one level, and months in all, beyond which months are not told apart: someone planted them, and each is
/// written with every page.
const FOLDERS: usize = 200;
const MONTHS: usize = 1200;
/// Sorts after all keys that can never have a date, such as `/` and `!`.
const DIGITS: &str = "0";

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Goes on with the deep listing that is under way, or begins the one that is due.
    ///
    /// `true` when there is more to do than the time allowed.
    pub(super) async fn sweep(&self, progress: &mut Progress, task: &Task) -> Result<bool, Error> {
        while !task.stop.is_cancelled() {
            if progress.checkpoint.sweep.is_none() && !self.begin_sweep(progress).await? {
                return Ok(false);
            }
            while let Some(mut range) = next_range(progress) {
                let scope = progress.checkpoint.sweep.as_ref().map_or(Scope::Full, |sweep| sweep.scope);
                let manner = Manner { scope, until: Some(task.until), wary: false };
                if !Box::pin(self.walk(progress, manner, &mut range, task)).await?.finished {
                    let reached = range.after.as_deref().and_then(Day::of);
                    Box::pin(self.seal(progress, reached)).await?;
                    return Ok(true);
                }
                if let Some(sweep) = progress.checkpoint.sweep.as_mut() {
                    sweep.ranges.remove(0);
                }
                Box::pin(self.seal(progress, None)).await?;
            }
            self.end_sweep(progress).await?;
            if tokio::time::Instant::now() >= task.until {
                return Ok(window::due(
                    &progress.checkpoint.memory,
                    &self.rules.poll,
                    self.rules.since,
                    self.service.now(),
                )
                .is_some());
            }
        }
        Ok(true)
    }

    /// Lists everything at the next turn, against ledger and manifests, whenever it was listed last.
    ///
    /// # Errors
    /// `Fatal` when the state cannot be written.
    pub async fn list_everything(&self, progress: &mut Progress) -> Result<(), Error> {
        let due = Due { scope: Scope::Full, from: None };
        progress.checkpoint.sweep = Some(self.new_sweep(progress, due).await?);
        self.commit(progress, &crate::ledger::Commit::default()).await
    }

    async fn begin_sweep(&self, progress: &mut Progress) -> Result<bool, Error> {
        let due = window::due(&progress.checkpoint.memory, &self.rules.poll, self.rules.since, self.service.now());
        let Some(due) = due else { return Ok(false) };
        let sweep = self.new_sweep(progress, due).await?;
        debug!(stream = %progress.stream, scope = %due.scope.name(), ranges = sweep.ranges.len(), "Listing deeper");
        progress.checkpoint.sweep = Some(sweep);
        Ok(true)
    }

    async fn new_sweep(&self, progress: &mut Progress, due: Due) -> Result<Sweep, Error> {
        let now = self.service.now();
        let ahead = Some(progress.stream.bound(shift(now, AHEAD_SECONDS)));
        let ranges = match due.scope {
            Scope::Backfill => self.newest_first(progress).await?,
            Scope::Tail => vec![Range { after: ahead, ..Range::default() }],
            Scope::Full => self.whole(progress),
            Scope::Poll | Scope::Tier(_) => {
                let from = self.not_before_since(due.from.unwrap_or(now));
                vec![Range { after: Some(progress.stream.bound(from)), until: ahead, ..Range::default() }]
            }
        };
        let trusted = self.trusted(now).as_second();
        let since = self.rules.since.map(Timestamp::as_second);
        Ok(Sweep { scope: due.scope, began: now.as_second(), trusted, since, ranges })
    }

    async fn end_sweep(&self, progress: &mut Progress) -> Result<(), Error> {
        let Some(sweep) = progress.checkpoint.sweep.take() else { return Ok(()) };
        let time = |second| Timestamp::from_second(second).unwrap_or_else(|_| self.service.now());
        if sweep.scope == Scope::Backfill {
            info!(stream = %progress.stream, "Everything that was there is mirrored");
        }
        self.complete(progress, sweep.scope, time(sweep.began), time(sweep.trusted), sweep.since).await
    }

    /// Everything in one go. With `since`, the days before it are left out, and with them what sorts among them; keys
    /// that cannot have a date are not.
    fn whole(&self, progress: &Progress) -> Vec<Range> {
        let mut ranges = vec![Range { after: self.since_bound(progress), ..Range::default() }];
        if ranges[0].after.is_some() {
            ranges.insert(0, Range { until: Some(DIGITS.into()), ..Range::default() });
        }
        ranges
    }

    fn since_bound(&self, progress: &Progress) -> Option<String> {
        self.rules.since.map(|since| progress.stream.bound(since))
    }

    /// The ranges of a first listing: the newest month first, and what lies between months where anything does.
    async fn newest_first(&self, progress: &mut Progress) -> Result<Vec<Range>, Error> {
        let (whole, prefix) = (self.whole(progress), progress.stream.prefix.clone());
        let request = ListRequest {
            prefix: prefix.clone(),
            start_after: self.since_bound(progress).map(|after| format!("{prefix}{after}")),
            ..ListRequest::default()
        };
        if self.list_backfill(progress, &request).await?.next.is_none() {
            return Ok(whole);
        }
        let Some(years) = self.folders(progress, "", 4).await? else { return Ok(whole) };
        let (mut months, mut odd) = (Vec::new(), years.odd);
        for year in &years.folders {
            let Some(found) = self.folders(progress, year, 2).await? else { return Ok(whole) };
            odd |= found.odd;
            months.extend(found.folders);
            if months.len() > MONTHS {
                return Ok(whole);
            }
        }
        let first = self.since_bound(progress).unwrap_or_default();
        Ok(ranges_of(months, odd, &first))
    }

    async fn list_backfill(&self, progress: &mut Progress, request: &ListRequest) -> Result<ListPage, Error> {
        let lists = AtomicU64::new(0);
        let page = self.list_patiently(&progress.stream, request, &lists).await;
        progress.listed(Scope::Backfill, lists.into_inner());
        page
    }

    /// The folders of so many digits directly under `under`; `None` when there are too many to be dates.
    async fn folders(&self, progress: &mut Progress, under: &str, digits: usize) -> Result<Option<Folders>, Error> {
        let prefix = format!("{}{under}", progress.stream.prefix);
        let request = ListRequest { prefix: prefix.clone(), delimiter: true, ..ListRequest::default() };
        let page = self.list_backfill(progress, &request).await?;
        if page.next.is_some() || page.prefixes.len() > FOLDERS {
            return Ok(None);
        }
        let is_date = |name: &str| name.len() == digits && name.bytes().all(|b| b.is_ascii_digit());
        let mut found = Folders { folders: Vec::new(), odd: !page.objects.is_empty() };
        for folder in &page.prefixes {
            match folder.strip_prefix(&prefix).and_then(|name| name.strip_suffix('/')).filter(|name| is_date(name)) {
                Some(name) => found.folders.push(format!("{under}{name}/")),
                None => found.odd = true,
            }
        }
        Ok(Some(found))
    }
}

struct Folders {
    folders: Vec<String>,
    odd: bool,
}

fn next_range(progress: &Progress) -> Option<Range> {
    progress.checkpoint.sweep.as_ref().and_then(|sweep| sweep.ranges.first().cloned())
}

/// Months newest first; then, where there is anything odd, the gaps between them. Nothing before `first`.
fn ranges_of(mut months: Vec<String>, odd: bool, first: &str) -> Vec<Range> {
    months.sort_unstable();
    let begun = |month: &String| after_prefix(month).is_none_or(|end| end.as_str() > first);
    let month = |month: &String| Range {
        prefix: month.clone(),
        after: (first > month.as_str()).then(|| first.to_owned()),
        until: None,
    };
    let mut ranges: Vec<Range> = months.iter().rev().filter(|m| begun(m)).map(month).collect();
    if odd {
        let mut after = None;
        for month in &months {
            ranges.push(Range { prefix: String::new(), after: after.take(), until: Some(month.clone()) });
            // The last key that could be in the month sorts before this; the gap begins right after the month.
            after = Some(format!("{month}{}", char::MAX));
        }
        ranges.push(Range { prefix: String::new(), after, until: None });
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_listed_newest_first_and_gaps_only_where_something_is_odd() {
        let months = vec!["2023/12/".to_owned(), "2024/01/".to_owned()];
        let prefixes: Vec<_> = ranges_of(months.clone(), false, "").into_iter().map(|range| range.prefix).collect();
        assert_eq!(prefixes, ["2024/01/", "2023/12/"]);
        let ranges = ranges_of(months, true, "2023/12/10/x");
        assert_eq!(ranges[1].after.as_deref(), Some("2023/12/10/x"));
        let gaps: Vec<_> = ranges[2..].iter().map(|range| (range.after.as_deref(), range.until.as_deref())).collect();
        assert_eq!(
            gaps,
            [
                (None, Some("2023/12/")),
                (Some("2023/12/\u{10ffff}"), Some("2024/01/")),
                (Some("2024/01/\u{10ffff}"), None)
            ]
        );
    }
}
