//! Compares what a digest names with what is here: by the inflated SHA-256 that was recorded on arrival.

use std::collections::BTreeMap;

use tracing::warn;

use super::Prover;
use crate::clock::Timestamp;
use crate::destination::{Destination, Place};
use crate::digest::Digest;
use crate::error::Error;
use crate::key::Shown;
use crate::layout::Stream;
use crate::ledger::{Alarm, Checkpoint, Failure, NAMED_BY_DIGEST, StreamId};
use crate::object::{ETag, Gzip};
use crate::records::Seek;
use crate::source::Source;

/// Logs of one digest that are alarmed or fetched in one go; the rest has its turn when these are through.
const AT_ONCE: usize = 1000;

/// What was found of the logs of one digest.
#[derive(Default)]
pub(super) struct Reconciled {
    /// What is not as it should be, the first of it; none when all is here.
    pub why: Option<String>,
    /// It is not merely too early to tell.
    pub counts: bool,
    pub alarms: Vec<(StreamId, Alarm)>,
    pub fetch: Vec<(Stream, StreamId, Failure)>,
    /// Streams that were never listed, and hold a log that is named.
    pub unlisted: Vec<Stream>,
    /// Their keys, as they stand here.
    pub named: Vec<String>,
}

/// The logs of one stream that a digest names.
struct Named {
    stream: Stream,
    logs: Vec<(String, [u8; 32])>,
}

impl<S: Source, D: Destination> Prover<S, D> {
    /// Looks for every log that a digest names.
    pub(super) async fn reconcile(&self, digest: &Digest, tries: u32) -> Result<Reconciled, Error> {
        let mut found = Reconciled::default();
        for (_, mut named) in self.by_stream(digest, &mut found) {
            named.logs.sort_unstable();
            let (id, checkpoint) = self.mirror.ledger().checkpoint(&named.stream).await?;
            let mut seek = Seek::new(self.mirror.ledger(), self.mirror.manifests(), &named.stream, id);
            for (suffix, hash) in &named.logs {
                let key = format!("{}{suffix}", named.stream.prefix);
                match seek.find(suffix).await? {
                    Some(record) if record.inflated.as_ref() == Some(hash) => {}
                    // The first version is that of the digest, and the source has another one now.
                    Some(record) if record.later && self.first_is(&key, hash).await? => {}
                    Some(record) => found.altered(id, &key, hash, record.inflated.as_ref()),
                    None => self.absent(&mut found, digest, (&named.stream, id, &checkpoint), &key, tries).await?,
                }
            }
        }
        Ok(found)
    }

    /// The named logs that are to be mirrored, by stream.
    fn by_stream(&self, digest: &Digest, found: &mut Reconciled) -> BTreeMap<String, Named> {
        let mut streams: BTreeMap<String, Named> = BTreeMap::new();
        for log in &digest.logs {
            let Some(key) = self.here(&log.origin.key) else { continue };
            let Some(stream) = Stream::of_key(&self.rules.wanted.source, &self.root, &key) else { continue };
            let Some(suffix) = stream.suffix(&key).map(str::to_owned) else { continue };
            let is_before = |since| stream.dated(&suffix).is_some_and(|dated| dated < since);
            if !self.rules.wanted.covers(&stream) || self.rules.since.is_some_and(is_before) {
                continue;
            }
            found.named.push(key);
            let prefix = stream.prefix.clone();
            let named = streams.entry(prefix).or_insert_with(|| Named { stream, logs: Vec::new() });
            named.logs.push((suffix, log.hash));
        }
        streams
    }

    async fn first_is(&self, key: &str, hash: &[u8; 32]) -> Result<bool, Error> {
        let place = Place { key: key.to_owned(), version: None };
        let content = self.mirror.destination().rehash(&place).await?;
        Ok(content.is_some_and(|content| matches!(content.gzip, Gzip::Whole { sha256, .. } if sha256 == *hash)))
    }

    /// A log that is not here: it may still come by itself; else it is fetched at once, by its key.
    async fn absent(
        &self,
        found: &mut Reconciled,
        digest: &Digest,
        (stream, id, checkpoint): (&Stream, StreamId, &Checkpoint),
        key: &str,
        tries: u32,
    ) -> Result<(), Error> {
        let listed = checkpoint.memory.covered(0, self.now());
        let is_listed = checkpoint.memory.covered(i64::MAX, self.now()).is_some() && listed >= Some(digest.end);
        if self.mirror.ledger().is_failing(id, key).await? {
            found.says(false, || format!("the log `{}`, which is tried again", Shown(key)));
        } else if !is_listed {
            found.says(false, || format!("the log `{}`, which no listing can have shown yet", Shown(key)));
            if checkpoint.memory.covered(i64::MAX, self.now()).is_none() && !found.unlisted.contains(stream) {
                found.unlisted.push(stream.clone());
            }
        } else if found.fetch.len() < AT_ONCE {
            let state = if tries == 0 { "which is fetched now" } else { "which is not at the source" };
            found.says(true, || format!("the log `{}`, {state}", Shown(key)));
            found.counts = true;
            found.fetch.push((stream.clone(), id, named_by_digest(key, digest.end, self.now())));
        }
        Ok(())
    }
}

impl Reconciled {
    fn says(&mut self, counts: bool, why: impl FnOnce() -> String) {
        self.counts |= counts;
        self.why.get_or_insert_with(why);
    }

    fn altered(&mut self, id: StreamId, key: &str, named: &[u8; 32], here: Option<&[u8; 32]>) {
        let ours = here.map_or_else(|| "no whole gzip member".to_owned(), hex::encode);
        let detail = format!(
            "the log `{}` is not the one that CloudTrail wrote: its digest names {}, here is {ours}; what is here stays",
            Shown(key),
            hex::encode(named)
        );
        self.says(true, || format!("the log `{}`, which was altered", Shown(key)));
        if self.alarms.len() < AT_ONCE {
            warn!(alarm = "altered", object.key = %Shown(key), "{detail}");
            self.alarms.push((id, Alarm { kind: "altered", subject: key.to_owned(), detail }));
        }
    }
}

fn named_by_digest(key: &str, delivered: Timestamp, now: Timestamp) -> Failure {
    Failure {
        key: key.to_owned(),
        size: 0,
        etag: ETag::default(),
        modified: delivered,
        first_failed: now,
        attempts: 0,
        quarantined: false,
        next_try: now,
        code: NAMED_BY_DIGEST.to_owned(),
        reason: format!("`{}` is named by a digest and not here: it is fetched by its key", Shown(key)),
    }
}
