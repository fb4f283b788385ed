//! Lists a range page by page; what a page shows is mirrored and committed before the walk's place moves past it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;
use tracing::warn;

use super::ahead::{Ahead, Pages, earlier};
use super::{Mirror, Progress, Task};
use crate::clock::Timestamp;
use crate::destination::Destination;
use crate::error::Error;
use crate::key::after_prefix;
use crate::layout::Stream;
use crate::ledger::{Commit, Range};
use crate::records::Records;
use crate::source::{ListPage, ListRequest, Source};
use crate::window::Scope;

/// How a range is to be walked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// What it is walked for.
    pub scope: Scope,
    /// Stop at this time, after the pages under way.
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

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Walks `range`, moving its start forward as pages are committed.
    ///
    /// A sweep's range is the first of the checkpoint's; there the place is committed with each step.
    pub(super) async fn walk(
        &self,
        progress: &mut Progress,
        manner: Manner,
        range: &mut Range,
        task: &Task,
    ) -> Result<Walked, Error> {
        let mut ahead = Ahead::of(self, progress.stream.clone(), range.clone(), manner.until);
        let walked = self.walk_behind(&mut ahead, progress, manner, range, task).await;
        progress.listed(manner.scope, ahead.lists());
        walked
    }

    async fn walk_behind(
        &self,
        ahead: &mut Ahead<'_, S, D>,
        progress: &mut Progress,
        manner: Manner,
        range: &mut Range,
        task: &Task,
    ) -> Result<Walked, Error> {
        let Manner { scope, until, wary } = manner;
        let stream = progress.stream.clone();
        let from = range.after.as_ref().map_or_else(|| range.prefix.clone(), |after| format!("{after}\0"));
        let mut records = Records::from(&self.ledger, &self.manifests, &stream, progress.id, &from);
        let mut walked = Walked::default();
        let mut first = true;
        loop {
            if task.stop.is_cancelled() {
                return Ok(walked);
            }
            if until.is_some_and(|until| !first && Instant::now() >= until) {
                // What was listed ahead is listed again; the request under way is counted.
                ahead.settle().await;
                return Ok(walked);
            }
            let pages = ahead.take().await?;
            self.answered(progress, scope, &pages, &mut walked);
            if first && pages.surprised && wary {
                return Ok(Walked { surprised: true, ..walked });
            }
            first = false;
            let Pages { listed, end, .. } = pages;
            let upto = if end { range.until.clone().or_else(|| after_prefix(&range.prefix)) } else { None };
            let mirrored = Box::pin(self.page(progress, &mut records, &listed, end, upto.as_deref(), task));
            if !ahead.beside(mirrored).await? {
                return Ok(walked);
            }
            if let Some(last) = listed.last().and_then(|listed| stream.suffix(&listed.key)) {
                range.after = Some(last.to_owned());
            }
            progress.listed(scope, ahead.lists());
            if let (true, Some(sweep)) = (scope != Scope::Poll, progress.checkpoint.sweep.as_mut()) {
                sweep.ranges[0] = range.clone();
                self.commit(progress, &Commit::default()).await?;
            }
            if end {
                return Ok(Walked { finished: true, ..walked });
            }
        }
    }

    /// Takes the time of answers.
    fn answered(&self, progress: &mut Progress, scope: Scope, pages: &Pages, walked: &mut Walked) {
        let Some(at) = pages.answered else { return };
        progress.told = true;
        walked.answered = earlier(walked.answered, Some(at));
        if let (true, Some(sweep)) = (scope != Scope::Poll, progress.checkpoint.sweep.as_mut()) {
            sweep.began = sweep.began.min(at.as_second());
            sweep.trusted = sweep.trusted.min(self.trusted(at).as_second());
        }
    }

    /// Lists one page, trying again in place while the service asks for patience; counts requests once they ended.
    pub(super) async fn list_patiently(
        &self,
        stream: &Stream,
        request: &ListRequest,
        lists: &AtomicU64,
    ) -> Result<ListPage, Error> {
        let mut delays = crate::retry::PassDelays::default();
        loop {
            let answer = self.source.list(request).await;
            lists.fetch_add(1, Ordering::Relaxed);
            match answer {
                Ok(page) => {
                    self.meter.listed(page.objects.len());
                    return Ok(page);
                }
                Err(error @ Error::Transient(_)) if delays.failures() < super::transfer::TRIES => {
                    self.permits.source.failed(&error);
                    warn!(%stream, %error, "Listing again");
                    tokio::time::sleep(delays.after(&error, (self.rules.random)()).mul_f64(self.rules.pace)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Progress {
    /// Counts LIST requests of a scope.
    pub(super) fn listed(&mut self, scope: Scope, requests: u64) {
        if requests > 0 {
            *self.checkpoint.lists.entry(scope.name()).or_default() += requests;
        }
    }
}
