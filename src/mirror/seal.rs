//! Moves the rows of old days into manifests: first the file, here and beside the copy, then the rows in one transaction.

use std::sync::Arc;

use tracing::{debug, warn};

use super::{Mirror, Progress, internal};
use crate::clock::{seconds_between, shift};
use crate::destination::Destination;
use crate::error::{Class, Error, Report};
use crate::layout::{Day, Stream};
use crate::ledger::SealedDay;
use crate::manifest::{Claim, Generations, Header, Named, Written, file_name, sha256, unreadable};
use crate::record::Record;
use crate::source::Source;
use crate::window::AHEAD_SECONDS;

/// Rows of one generation: bounds memory, whatever is in a day.
const ROWS: u32 = 20_000;
/// Late objects of a sealed day are sealed together, a day after the last of them came.
const LATE_SECONDS: i64 = 86_400;
/// Generations at which a day is written whole again, unless it is very large.
const GENERATIONS: u32 = 8;
const WHOLE_OBJECTS: u64 = 50_000;

impl<S: Source, D: Destination> Mirror<S, D> {
    /// Seals every day that is older than the ledger, or too far ahead; with `reached`, only those before it.
    ///
    /// Nothing is sealed while the clocks disagree, or before the service has told its time: ours may be wrong.
    pub(super) async fn seal(&self, progress: &Progress, reached: Option<Day>) -> Result<(), Error> {
        if !progress.told || self.service.skew().is_some() {
            return Ok(());
        }
        let now = self.service.now();
        let open =
            Day::at(shift(now, -i64::from(self.rules.ledger_days) * 86_400))..=Day::at(shift(now, AHEAD_SECONDS));
        for day in self.ledger.days_outside(&progress.stream, progress.id, open).await? {
            if reached.is_none_or(|reached| day < reached) {
                while self.seal_rows(progress, day).await? {}
            }
        }
        Ok(())
    }

    /// Seals up to [`ROWS`] rows of a day; `true` when there are more.
    async fn seal_rows(&self, progress: &Progress, day: Day) -> Result<bool, Error> {
        let stream = &progress.stream;
        let from = (day, Vec::new());
        let mut rows = self.ledger.records_from(stream, progress.id, day == Day::ODD, &from, ROWS).await?;
        let full = rows.len() == ROWS as usize;
        rows.retain(|record| stream.pack(&record.suffix).0 == day);
        let Some(last) = rows.last() else { return Ok(false) };
        let through = stream.pack(&last.suffix).1;
        let more = full && rows.len() == ROWS as usize;
        let sealed =
            self.ledger.sealed_days(stream, progress.id, day, 1).await?.into_iter().find(|sealed| sealed.day == day);
        let newest = rows.iter().map(|record| record.modified).max();
        if sealed.is_some() && !more && newest.is_some_and(|at| seconds_between(at, self.service.now()) < LATE_SECONDS)
        {
            return Ok(false);
        }
        let last = self.ledger.last_sealed(stream, progress.id).await?;
        let after = last.filter(|last| last.day != day).map(named);
        let (written, sealed) = self.write_next(stream, day, sealed, after, rows).await?;
        self.keep_beside(&written).await?;
        crate::failpoint::reached("manifest_written");
        self.ledger.seal(stream, progress.id, &sealed, written.bytes.len() as u64, &through).await?;
        debug!(%stream, %day, objects = sealed.objects, generation = sealed.generations.last, "Sealed {day}");
        Ok(more)
    }

    /// Writes the next generation. Nothing that was kept beside the copy is replaced by anything else: a manifest there
    /// that the database does not know is taken as it is, and the rows become the generation after it.
    async fn write_next(
        &self,
        stream: &Arc<Stream>,
        day: Day,
        mut sealed: Option<SealedDay>,
        after: Option<Named>,
        rows: Vec<Record>,
    ) -> Result<(Written, SealedDay), Error> {
        while let Some(kept) = self.destination.recall(&kept_name(&file_name(stream, day, next(sealed)))).await? {
            let (written, with_rows) = self.write_generation(stream, day, sealed, after.clone(), rows.clone()).await?;
            if written.bytes == kept {
                return Ok((written, with_rows));
            }
            sealed = Some(self.adopt(stream, day, sealed, kept).await?);
        }
        self.write_generation(stream, day, sealed, after, rows).await
    }

    async fn adopt(
        &self,
        stream: &Arc<Stream>,
        day: Day,
        sealed: Option<SealedDay>,
        kept: Vec<u8>,
    ) -> Result<SealedDay, Error> {
        let (manifests, here, claim) = (self.manifests.clone(), stream.clone(), Claim::default());
        let claimed = claim.claimed();
        let adopt = tokio::task::spawn_blocking(move || {
            let header = manifests.adopt(&here, &header(&here, day, sealed), &kept, &claimed)?;
            let first = if header.whole { header.generation } else { sealed.map_or(1, |day| day.generations.first) };
            let generations = Generations { first, last: header.generation, hash: sha256(&kept) };
            let mut objects = 0;
            manifests.read(&here, day, generations)?.try_for_each(|record| record.map(|_| objects += 1))?;
            std::io::Result::Ok(SealedDay { day, generations, objects })
        });
        let adopted = adopt.await.map_err(|error| internal(stream, error))?.map_err(|error| foreign(stream, &error))?;
        drop(claim);
        warn!(%stream, %day, generation = adopted.generations.last, "A manifest beside the copy was not known here: it is taken as it is");
        Ok(adopted)
    }

    async fn write_generation(
        &self,
        stream: &Arc<Stream>,
        day: Day,
        sealed: Option<SealedDay>,
        after: Option<Named>,
        rows: Vec<Record>,
    ) -> Result<(Written, SealedDay), Error> {
        let (manifests, stream) = (self.manifests.clone(), stream.clone());
        let (subject, claim) = (stream.clone(), Claim::default());
        let claimed = claim.claimed();
        let write = tokio::task::spawn_blocking(move || {
            let mut rows = rows;
            let mut header = Header { after, ..header(&stream, day, sealed) };
            let (mut objects, generation) = (rows.len() as u64, header.generation);
            let mut first = sealed.map_or(1, |sealed| sealed.generations.first);
            if let Some(sealed) = sealed {
                let fold = generation - first >= GENERATIONS && sealed.objects <= WHOLE_OBJECTS;
                objects = merge(manifests.read(&stream, day, sealed.generations)?, &mut rows, fold)?;
                if fold {
                    (header.whole, first) = (true, generation);
                }
            }
            let written = manifests.write(&stream, &header, &rows, &claimed)?;
            let generations = Generations { first, last: generation, hash: written.hash };
            std::io::Result::Ok((written, SealedDay { day, generations, objects }))
        });
        let joined = write.await.map_err(|error| internal(&subject, error));
        drop(claim);
        let joined = joined?;
        joined.map_err(|error| unwritten(&subject, day, &error))
    }

    async fn keep_beside(&self, written: &Written) -> Result<(), Error> {
        self.destination.keep(&kept_name(&written.name), written.bytes.clone()).await
    }
}

/// Where a manifest is kept, below the copy's `.trailsync/`.
pub(super) fn kept_name(name: &str) -> String {
    format!("manifests/{name}")
}

fn next(sealed: Option<SealedDay>) -> u32 {
    sealed.map_or(1, |sealed| sealed.generations.last + 1)
}

/// The header of a day's next generation, which holds what is new.
fn header(stream: &Stream, day: Day, sealed: Option<SealedDay>) -> Header {
    Header {
        manifest: 1,
        source: stream.source.clone(),
        prefix: stream.prefix.clone(),
        day: day.0,
        generation: next(sealed),
        previous: sealed.map(|sealed| hex::encode(sealed.generations.hash)),
        whole: sealed.is_none(),
        after: None,
    }
}

/// The newest manifest of a day, as the next one that the stream writes names it.
fn named(sealed: SealedDay) -> Named {
    let Generations { last, hash, .. } = sealed.generations;
    Named { day: sealed.day.0, generation: last, sha256: hex::encode(hash) }
}

/// Counts the objects of a day with its new rows; with `fold`, takes the earlier lines in among them.
fn merge(earlier: crate::manifest::Merged, rows: &mut Vec<Record>, fold: bool) -> std::io::Result<u64> {
    let mut objects = rows.len() as u64;
    let mut kept = Vec::new();
    for record in earlier {
        let record = record?;
        if rows.binary_search_by(|row| row.suffix.as_str().cmp(&record.suffix)).is_err() {
            objects += 1;
            if fold {
                kept.push(record);
            }
        }
    }
    rows.append(&mut kept);
    rows.sort_unstable_by(|a, b| a.suffix.cmp(&b.suffix));
    Ok(objects)
}

/// A day that cannot be sealed stays in the ledger: nothing is lost, and no other stream is concerned.
fn unwritten(stream: &Stream, day: Day, error: &std::io::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, NotFound};
    if matches!(error.kind(), InvalidData | NotFound) {
        return unreadable(stream, error);
    }
    let report = Report::new("seal", file_name(stream, day, 0), error);
    Error::of(Class::Stream, report.mend("check the disk of the state directory; it goes on by itself then"))
}

fn foreign(stream: &Stream, error: &std::io::Error) -> Error {
    let why = format!("a manifest that stands beside the copy is not known here and cannot be taken: {error}");
    let mend = "move it away from the copy's `.trailsync/manifests`, or restore it there";
    Error::of(Class::Stream, Report::new("seal", stream.to_string(), why).mend(mend))
}
