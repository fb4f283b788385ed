//! The ledger's rows for verification: read only, while a daemon may write.

use std::collections::BTreeMap;

use tokio::runtime::Handle;

use super::recorded::{Rows, stream_of};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::layout::{Day, Stream};
use crate::ledger::{CheckpointRow, Ledger};
use crate::manifest::Generations;
use crate::record::Record;

/// Rows and days that are read at a time.
const CHUNK: u32 = 1000;

/// The ledger of the sources whose copy is verified. Used outside of the runtime's own threads.
pub struct LedgerRows {
    ledger: Ledger,
    runtime: Handle,
    streams: Vec<(Stream, CheckpointRow)>,
}

impl LedgerRows {
    /// The rows of these sources.
    ///
    /// # Errors
    /// `Fatal` when the database cannot be read.
    pub async fn of(ledger: Ledger, sources: &[String]) -> Result<Self, Error> {
        let rows = ledger.checkpoints().await?.into_iter().filter(|row| sources.contains(&row.source));
        let with_stream = |row: CheckpointRow| Some((stream_of(&row.source, &format!("{}x", row.prefix))?, row));
        let streams = rows.filter_map(with_stream).collect();
        Ok(Self { ledger, runtime: Handle::current(), streams })
    }

    /// A stream in the copy is that of any source with the same prefix.
    fn of_prefix(&self, stream: &Stream) -> impl Iterator<Item = &(Stream, CheckpointRow)> {
        let prefix = stream.prefix.clone();
        self.streams.iter().filter(move |(stream, _)| stream.prefix == prefix)
    }
}

impl Rows for LedgerRows {
    fn streams(&self) -> Result<Vec<Stream>, Error> {
        Ok(self.streams.iter().map(|(stream, _)| stream.clone()).collect())
    }

    fn each(&self, stream: &Stream, see: &mut dyn FnMut(Record)) -> Result<(), Error> {
        for (stream, row) in self.of_prefix(stream) {
            for odd in [false, true] {
                let mut place = (if odd { Day::ODD } else { Day(1) }, Vec::new());
                loop {
                    let rows = self.ledger.records_from(stream, row.id, odd, &place, CHUNK);
                    let rows = self.runtime.block_on(rows)?;
                    let is_last = rows.len() < CHUNK as usize;
                    if let Some(last) = rows.last() {
                        let (day, mut name) = stream.pack(&last.suffix);
                        name.push(0);
                        place = (day, name);
                    }
                    rows.into_iter().for_each(&mut *see);
                    if is_last {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn sealed(&self, stream: &Stream) -> Result<BTreeMap<Day, Generations>, Error> {
        let mut sealed = BTreeMap::new();
        for (stream, row) in self.of_prefix(stream) {
            let mut from = Day::ODD;
            loop {
                let days = self.runtime.block_on(self.ledger.sealed_days(stream, row.id, from, CHUNK))?;
                let is_last = days.len() < CHUNK as usize;
                sealed.extend(days.iter().map(|day| (day.day, day.generations)));
                match days.last() {
                    Some(last) if !is_last => from = Day(last.day.0 + 1),
                    _ => break,
                }
            }
        }
        Ok(sealed)
    }

    fn listed_through(&self, stream: &Stream) -> Result<Option<Timestamp>, Error> {
        Ok(self.of_prefix(stream).filter_map(|(_, row)| row.listed_through).max())
    }
}
