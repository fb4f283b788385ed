//! Lists a range page by page; each page is mirrored and committed before the next is asked for.

use tokio::time::Instant;
use tracing::warn;

use super::{Mirror, Progress, Task, internal};
use crate::clock::Timestamp;
use crate::destination::Destination;
use crate::error::Error;
use crate::key::{Shown, after_prefix};
use crate::ledger::{Commit, Range};
use crate::object::Listed;
use crate::records::Records;
use crate::source::{ListPage, ListRequest, Source};
use crate::window::Scope;

/// How a range is to be walked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// What it is walked for.
    pub scope: Scope,
    /// Stop at this time, after the page under way.
    pub until: Option<Instant>,
    /// Give up when the first page shows a time far from the one that the range was made for.
    pub wary: bool,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Walked {
    /// The whole range was listed, and everything in it is recorded.
    pub finished: bool,
    /// It was given up after the first page.
    pub surprised: bool,
    /// The earliest time of an answer: the listing cannot have begun later, whatever our clock said.
    pub answered: Option<Timestamp>,
}

/// Truncated pages without a key that are followed before the listing is called stuck.
const EMPTY_PAGES: u32 = 10;

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Walks `range`, moving its start forward as pages are committed.
    ///
    /// A sweep's range is the first of the checkpoint's; there the place is committed with each page.
    pub(super) async fn walk(
        &self,
        progress: &mut Progress,
        manner: Manner,
        range: &mut Range,
        task: &Task,
    ) -> Result<Walked, Error> {
        let Manner { scope, until, wary } = manner;
        let stream = progress.stream.clone();
        let from = range.after.as_ref().map_or_else(|| range.prefix.clone(), |after| format!("{after}\0"));
        let mut records = Records::from(&self.ledger, &self.manifests, &stream, progress.id, &from);
        let (mut token, mut empty) = (None, 0);
        let mut walked = Walked::default();
        let mut first = true;
        loop {
            if task.stop.is_cancelled() || until.is_some_and(|until| !first && Instant::now() >= until) {
                return Ok(walked);
            }
            let page = self.list(progress, scope, range, token.take()).await?;
            let surprised = self.answered(progress, scope, &page, &mut walked);
            if first && surprised && wary {
                return Ok(Walked { surprised, ..walked });
            }
            first = false;
            let (listed, end) = within(&stream, range, &page)?;
            empty = if listed.is_empty() { empty + 1 } else { 0 };
            if empty > EMPTY_PAGES {
                return Err(internal(&stream, "ListObjectsV2 gives one truncated page after the other without a key"));
            }
            let upto = if end { range.until.clone().or_else(|| after_prefix(&range.prefix)) } else { None };
            if !self.page(progress, &mut records, listed, end, upto.as_deref(), task).await? {
                return Ok(walked);
            }
            if let Some(last) = listed.last().and_then(|listed| stream.suffix(&listed.key)) {
                range.after = Some(last.to_owned());
            }
            if let (true, Some(sweep)) = (scope != Scope::Poll, progress.checkpoint.sweep.as_mut()) {
                sweep.ranges[0] = range.clone();
                self.commit(progress, &Commit::default()).await?;
            }
            if end {
                return Ok(Walked { finished: true, ..walked });
            }
            token = page.next;
        }
    }

    /// Takes the time of an answer; `true` when it is far from the time that we thought it was.
    fn answered(&self, progress: &mut Progress, scope: Scope, page: &ListPage, walked: &mut Walked) -> bool {
        let Some(at) = page.served_at else { return false };
        let surprised = self.service.observe(at);
        progress.told = true;
        walked.answered = Some(walked.answered.map_or(at, |earliest| earliest.min(at)));
        if let (true, Some(sweep)) = (scope != Scope::Poll, progress.checkpoint.sweep.as_mut()) {
            sweep.began = sweep.began.min(at.as_second());
            sweep.trusted = sweep.trusted.min(self.trusted(at).as_second());
        }
        surprised
    }

    async fn list(
        &self,
        progress: &mut Progress,
        scope: Scope,
        range: &Range,
        token: Option<String>,
    ) -> Result<ListPage, Error> {
        let prefix = &progress.stream.prefix;
        let request = ListRequest {
            prefix: format!("{prefix}{}", range.prefix),
            delimiter: false,
            start_after: range.after.as_ref().map(|after| format!("{prefix}{after}")),
            token,
        };
        let page = self.list_patiently(progress, scope, &request).await?;
        if page.next.is_some() && page.next == request.token {
            return Err(internal(
                &progress.stream,
                "ListObjectsV2 gives the same continuation token again: it does not advance",
            ));
        }
        Ok(page)
    }

    /// Lists one page, trying again in place while the service asks for patience.
    pub(super) async fn list_patiently(
        &self,
        progress: &mut Progress,
        scope: Scope,
        request: &ListRequest,
    ) -> Result<ListPage, Error> {
        let mut delays = crate::retry::PassDelays::default();
        loop {
            *progress.checkpoint.lists.entry(scope.name()).or_default() += 1;
            match self.source.list(request).await {
                Ok(page) => {
                    self.meter.listed(page.objects.len());
                    return Ok(page);
                }
                Err(error @ Error::Transient(_)) if delays.failures() < super::transfer::TRIES => {
                    warn!(stream = %progress.stream, %error, "Listing again");
                    tokio::time::sleep(delays.after(&error, (self.rules.random)()).mul_f64(self.rules.pace)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The part of a page that lies in the range, and whether the listing ends with it.
///
/// Keys come from another account: a page that is out of order, goes back or leaves the prefix is refused.
fn within<'p>(
    stream: &crate::layout::Stream,
    range: &Range,
    page: &'p ListPage,
) -> Result<(&'p [Listed], bool), Error> {
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
    let end = inside < page.objects.len() || page.next.is_none();
    Ok((&page.objects[..inside], end))
}
