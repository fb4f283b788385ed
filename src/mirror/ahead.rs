//! Lists ahead: the next pages are asked for while the objects of those before are fetched.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::{Mirror, internal};
use crate::clock::Timestamp;
use crate::destination::Destination;
use crate::error::Error;
use crate::key::Shown;
use crate::layout::Stream;
use crate::ledger::Range;
use crate::object::Listed;
use crate::source::{ListPage, ListRequest, Source};

/// Pages that wait, at most: what is held in memory, and what is listed in vain when the walk is left.
const PAGES: usize = 4;
/// Truncated pages without a key that are followed before the listing is called stuck.
const EMPTY_PAGES: u32 = 10;

/// Pages that were listed one after the other, as one.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// What they hold of the range.
    pub listed: Vec<Listed>,
    /// The listing ends with them.
    pub end: bool,
    /// When the earliest of them was answered.
    pub answered: Option<Timestamp>,
    /// One showed a time far from the one that we thought it was.
    pub surprised: bool,
}

type Asked<'m> = Pin<Box<dyn Future<Output = Result<ListPage, Error>> + Send + 'm>>;

/// The listing of one range, ahead of what is recorded of it.
pub(super) struct Ahead<'m, S, D> {
    mirror: &'m Mirror<S, D>,
    stream: Arc<Stream>,
    /// What is still to be listed of it.
    range: Range,
    token: Option<String>,
    until: Option<Instant>,
    asked: Option<Asked<'m>>,
    ready: VecDeque<Pages>,
    failed: Option<Error>,
    end: bool,
    empty: u32,
    lists: Arc<AtomicU64>,
}

impl<'m, S: Source, D: Destination> Ahead<'m, S, D> {
    /// Begins to list `range`; nothing is listed ahead after `until`.
    pub fn of(mirror: &'m Mirror<S, D>, stream: Arc<Stream>, range: Range, until: Option<Instant>) -> Self {
        Self {
            mirror,
            stream,
            range,
            token: None,
            until,
            asked: None,
            ready: VecDeque::new(),
            failed: None,
            end: false,
            empty: 0,
            lists: Arc::default(),
        }
    }

    /// What was listed and not taken yet: one page at least.
    ///
    /// # Errors
    /// Of the listing, once everything that was listed before is taken.
    pub async fn take(&mut self) -> Result<Pages, Error> {
        while self.ready.is_empty() && !self.end {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            self.step().await;
        }
        let mut taken = self.ready.pop_front().unwrap_or_else(|| Pages { end: true, ..Pages::default() });
        for page in self.ready.drain(..) {
            taken.listed.extend(page.listed);
            taken.end = page.end;
            taken.answered = earlier(taken.answered, page.answered);
            taken.surprised |= page.surprised;
        }
        Ok(taken)
    }

    /// Does `work`, and lists ahead until it is done.
    pub async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.step(), if self.goes_on() => {}
            }
        }
    }

    /// Waits for the request under way.
    pub async fn settle(&mut self) {
        if self.asked.is_some() {
            self.step().await;
        }
    }

    /// LIST requests that ended and were not told yet.
    pub fn lists(&self) -> u64 {
        self.lists.swap(0, Ordering::Relaxed)
    }

    fn goes_on(&self) -> bool {
        let early = self.until.is_none_or(|until| Instant::now() < until);
        let more = early && !self.end && self.failed.is_none() && self.ready.len() < PAGES;
        // A request that was made is not left hanging.
        more || self.asked.is_some()
    }

    /// Lists one page more. May be dropped at any time: the request goes on with the next call.
    async fn step(&mut self) {
        let asked = match self.asked.take() {
            Some(asked) => asked,
            None => self.ask(),
        };
        let page = self.asked.insert(asked).await;
        self.asked = None;
        match page.and_then(|page| self.judge(page)) {
            Ok(page) => self.ready.push_back(page),
            Err(error) => self.failed = Some(error),
        }
    }

    fn ask(&self) -> Asked<'m> {
        let (mirror, stream, lists) = (self.mirror, self.stream.clone(), self.lists.clone());
        let request = ListRequest {
            prefix: format!("{}{}", stream.prefix, self.range.prefix),
            delimiter: false,
            start_after: self.range.after.as_ref().map(|after| format!("{}{after}", stream.prefix)),
            token: self.token.clone(),
        };
        Box::pin(async move { mirror.list_patiently(&stream, &request, &lists).await })
    }

    fn judge(&mut self, page: ListPage) -> Result<Pages, Error> {
        let surprised = page.served_at.is_some_and(|at| self.mirror.service.observe(at));
        if page.next.is_some() && page.next == self.token {
            return Err(internal(
                &self.stream,
                "ListObjectsV2 gives the same continuation token again: it does not advance",
            ));
        }
        let (inside, end) = within(&self.stream, &self.range, &page)?;
        self.empty = if inside == 0 { self.empty + 1 } else { 0 };
        if self.empty > EMPTY_PAGES {
            return Err(internal(&self.stream, "ListObjectsV2 gives one truncated page after the other without a key"));
        }
        let ListPage { mut objects, next, served_at, .. } = page;
        objects.truncate(inside);
        if let Some(last) = objects.last().and_then(|listed| self.stream.suffix(&listed.key)) {
            self.range.after = Some(last.to_owned());
        }
        (self.token, self.end) = (next, end);
        Ok(Pages { listed: objects, end, answered: served_at, surprised })
    }
}

/// The earlier of two times, where there are two.
pub(super) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// How many objects of a page lie in the range, and whether the listing ends with it.
///
/// Keys come from another account: a page that is out of order, goes back or leaves the prefix is refused.
fn within(stream: &Stream, range: &Range, page: &ListPage) -> Result<(usize, bool), Error> {
    let mut last = range.after.as_deref();
    let mut inside = page.objects.len();
    for (index, listed) in page.objects.iter().enumerate() {
        let suffix = stream.suffix(&listed.key).filter(|suffix| suffix.starts_with(&range.prefix));
        let Some(suffix) = suffix else {
            return Err(internal(
                stream,
                format_args!("ListObjectsV2 gave `{}`, which is outside of the prefix", Shown(&listed.key)),
            ));
        };
        if last.is_some_and(|last| suffix <= last) {
            return Err(internal(
                stream,
                format_args!("ListObjectsV2 gave `{}` out of order: it does not advance", Shown(&listed.key)),
            ));
        }
        if range.until.as_deref().is_some_and(|until| suffix >= until) {
            inside = index;
            break;
        }
        last = Some(suffix);
    }
    Ok((inside, inside < page.objects.len() || page.next.is_none()))
}
