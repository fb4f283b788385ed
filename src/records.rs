//! Everything that is recorded of a stream, in key order: rows of the ledger and lines of manifests as one.

use std::collections::VecDeque;

use crate::error::Error;
use crate::layout::{Day, Stream};
use crate::ledger::{Ledger, SealedDay, StreamId};
use crate::manifest::{Manifests, Merged, unreadable};
use crate::record::Record;

/// Rows and manifest lines that are held at a time: memory does not grow with the stream.
const CHUNK: u32 = 1000;
/// What a search holds first: the keys that are asked for lie close together, and twice as many are read each time.
const FIRST: u32 = 64;

/// Walks the records of a stream from a key on. A row wins over a manifest line of the same key.
pub struct Records<'a> {
    dated: Side<'a>,
    odd: Side<'a>,
}

impl<'a> Records<'a> {
    /// The records whose suffix is `from` or sorts after it.
    pub fn from(ledger: &'a Ledger, manifests: &'a Manifests, stream: &'a Stream, id: StreamId, from: &str) -> Self {
        Self::by(CHUNK, ledger, manifests, stream, id, from)
    }

    fn by(
        chunk: u32,
        ledger: &'a Ledger,
        manifests: &'a Manifests,
        stream: &'a Stream,
        id: StreamId,
        from: &str,
    ) -> Self {
        let [dated, odd] = stream.places_from(from);
        let side = |is_odd, place: (Day, Vec<u8>)| Side {
            ledger,
            manifests,
            stream,
            id,
            is_odd,
            chunk,
            from: from.to_owned(),
            sealed: SealedLines { next_day: place.0, ..SealedLines::default() },
            place,
            rows: VecDeque::new(),
            rows_end: false,
        };
        Self { dated: side(false, dated), odd: side(true, odd) }
    }

    /// The next record's suffix, without taking it.
    ///
    /// # Errors
    /// `Fatal` when the database is damaged, `Stream` when manifests are.
    pub async fn peek(&mut self) -> Result<Option<&str>, Error> {
        self.dated.fill().await?;
        self.odd.fill().await?;
        Ok(match (self.dated.head(), self.odd.head()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        })
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// As for [`Records::peek`].
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        self.peek().await?;
        let odd_first = match (self.dated.head(), self.odd.head()) {
            (Some(a), Some(b)) => b < a,
            (a, _) => a.is_none(),
        };
        Ok(if odd_first { self.odd.take() } else { self.dated.take() })
    }
}

/// Finds the records of keys that are asked for in order: one walk serves all keys of a day.
pub struct Seek<'a> {
    ledger: &'a Ledger,
    manifests: &'a Manifests,
    stream: &'a Stream,
    id: StreamId,
    cursor: Option<(Option<Day>, Records<'a>)>,
}

impl<'a> Seek<'a> {
    /// A search that has not begun.
    pub fn new(ledger: &'a Ledger, manifests: &'a Manifests, stream: &'a Stream, id: StreamId) -> Self {
        Self { ledger, manifests, stream, id, cursor: None }
    }

    /// The record of a key that sorts after those that were asked for before.
    ///
    /// # Errors
    /// As for [`Records::peek`].
    pub async fn find(&mut self, suffix: &str) -> Result<Option<Record>, Error> {
        let day = Day::of(suffix);
        // Another day begins at its own first key, and so does every odd key: whole years may lie between two of them.
        let records = match &mut self.cursor {
            Some((at, records)) if day.is_some() && *at == day => records,
            _ => {
                let records = Records::by(FIRST, self.ledger, self.manifests, self.stream, self.id, suffix);
                &mut self.cursor.insert((day, records)).1
            }
        };
        while records.peek().await?.is_some_and(|next| next < suffix) {
            records.next().await?;
        }
        match records.peek().await? {
            Some(next) if next == suffix => records.next().await,
            _ => Ok(None),
        }
    }
}

/// The dated records or the odd ones.
struct Side<'a> {
    ledger: &'a Ledger,
    manifests: &'a Manifests,
    stream: &'a Stream,
    id: StreamId,
    is_odd: bool,
    chunk: u32,
    from: String,
    place: (Day, Vec<u8>),
    rows: VecDeque<Record>,
    rows_end: bool,
    sealed: SealedLines,
}

#[derive(Default)]
struct SealedLines {
    next_day: Day,
    days: VecDeque<SealedDay>,
    days_end: bool,
    open: Option<Merged>,
    lines: VecDeque<Record>,
}

impl Side<'_> {
    /// Makes sure that both heads are there, where there are any.
    async fn fill(&mut self) -> Result<(), Error> {
        if self.rows.is_empty() && !self.rows_end {
            self.fill_rows().await?;
        }
        while self.sealed.lines.is_empty() && !self.sealed_end() {
            self.fill_lines().await?;
        }
        Ok(())
    }

    async fn fill_rows(&mut self) -> Result<(), Error> {
        let rows = self.ledger.records_from(self.stream, self.id, self.is_odd, &self.place, self.chunk).await?;
        self.rows_end = rows.len() < self.chunk as usize;
        self.chunk = (self.chunk * 2).min(CHUNK);
        if let Some(last) = rows.last() {
            let (day, mut name) = self.stream.pack(&last.suffix);
            name.push(0);
            self.place = (day, name);
        }
        self.rows = rows.into();
        Ok(())
    }

    fn sealed_end(&self) -> bool {
        self.sealed.open.is_none() && self.sealed.days.is_empty() && self.sealed.days_end
    }

    async fn fill_lines(&mut self) -> Result<(), Error> {
        if self.sealed.open.is_none() {
            let Some(day) = self.next_sealed_day().await? else { return Ok(()) };
            let merged = self.manifests.read(self.stream, day.day, day.generations);
            self.sealed.open = Some(merged.map_err(|error| self.damaged(&error))?);
        }
        let Some(mut merged) = self.sealed.open.take() else { return Ok(()) };
        let read = tokio::task::spawn_blocking(move || {
            let lines: std::io::Result<VecDeque<Record>> = merged.by_ref().take(CHUNK as usize).collect();
            lines.map(|lines| (merged, lines))
        });
        let joined = read.await.map_err(|error| self.damaged(&std::io::Error::other(error)))?;
        let (merged, mut lines) = joined.map_err(|error| self.damaged(&error))?;
        self.sealed.open = (lines.len() == CHUNK as usize).then_some(merged);
        lines.retain(|record| record.suffix >= self.from);
        self.sealed.lines = lines;
        Ok(())
    }

    async fn next_sealed_day(&mut self) -> Result<Option<SealedDay>, Error> {
        if self.sealed.days.is_empty() && !self.sealed.days_end {
            let wanted = if self.is_odd { 1 } else { self.chunk };
            let from = if self.is_odd { Day::ODD } else { self.sealed.next_day.max(Day(1)) };
            let mut days = self.ledger.sealed_days(self.stream, self.id, from, wanted).await?;
            days.retain(|day| self.is_odd == (day.day == Day::ODD));
            self.sealed.days_end = self.is_odd || days.len() < wanted as usize;
            if let Some(last) = days.last() {
                self.sealed.next_day = Day(last.day.0 + 1);
            }
            self.sealed.days = days.into();
        }
        Ok(self.sealed.days.pop_front())
    }

    fn head(&self) -> Option<&str> {
        let row = self.rows.front().map(|record| record.suffix.as_str());
        let line = self.sealed.lines.front().map(|record| record.suffix.as_str());
        match (row, line) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn take(&mut self) -> Option<Record> {
        let row = self.rows.front().map(|record| record.suffix.as_str());
        let line = self.sealed.lines.front().map(|record| record.suffix.as_str());
        match (row, line) {
            (Some(a), Some(b)) if a == b => {
                self.sealed.lines.pop_front();
                self.rows.pop_front()
            }
            (Some(a), Some(b)) if a > b => self.sealed.lines.pop_front(),
            (None, Some(_)) => self.sealed.lines.pop_front(),
            _ => self.rows.pop_front(),
        }
    }

    fn damaged(&self, error: &std::io::Error) -> Error {
        unreadable(self.stream, error)
    }
}
