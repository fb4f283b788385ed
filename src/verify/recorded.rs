//! What was recorded of the copy when it was made: manifests beside it, and the ledger's rows where they are at hand.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::path::Path;
use std::sync::Arc;

use super::archive::Archive;
use crate::clock::Timestamp;
use crate::content::Checker;
use crate::error::Error;
use crate::key::file_safe;
use crate::layout::{Day, Stream};
use crate::manifest::{Entries, Generations, Merged};
use crate::record::Record;

mod manifests;

const FOLDER: &str = "manifests";
/// Bytes of days that are held.
const HELD_BYTES: usize = 16 << 20;

/// The ledger's rows: the days that are not sealed yet.
pub trait Rows: Sync {
    /// The streams of which there are any.
    ///
    /// # Errors
    /// `Fatal` when the database cannot be read.
    fn streams(&self) -> Result<Vec<Stream>, Error>;

    /// Shows the rows of a stream in the order of keys.
    ///
    /// # Errors
    /// `Fatal` when the database cannot be read.
    fn each(&self, stream: &Stream, see: &mut dyn FnMut(Record)) -> Result<(), Error>;

    /// The generations of each sealed day.
    ///
    /// # Errors
    /// `Fatal` when the database cannot be read.
    fn sealed(&self, stream: &Stream) -> Result<BTreeMap<Day, Generations>, Error>;

    /// Up to when every object of a stream was seen.
    ///
    /// # Errors
    /// `Fatal` when the database cannot be read.
    fn listed_through(&self, stream: &Stream) -> Result<Option<Timestamp>, Error>;
}

/// What a file was when it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the bytes as stored.
    pub sha256: [u8; 32],
    /// They stand beside an earlier version.
    pub later: bool,
}

/// The records of one day of one stream, by the hash of their names.
pub struct DayRecords {
    records: Vec<(u64, Stored)>,
    /// Some of them, or of those that they replace, are later versions.
    has_versions: bool,
}

/// One file below `.trailsync/manifests/`.
#[derive(Debug, Clone)]
struct File {
    generation: u32,
    name: String,
}

/// A stream's manifests by day and source, each day's generations in order.
type Files = BTreeMap<(Day, String), Vec<File>>;

/// Everything that was recorded; a few days are held at a time.
pub struct Recorded<'a, A> {
    archive: &'a A,
    rows: Option<&'a dyn Rows>,
    sources: Vec<String>,
    hasher: RandomState,
    files: HashMap<String, Arc<Files>>,
    held: VecDeque<((String, Day), Arc<DayRecords>)>,
    checker: Checker,
}

impl<'a, A: Archive> Recorded<'a, A> {
    /// All manifests of a copy, and rows where there are any.
    ///
    /// # Errors
    /// When the copy cannot be read.
    pub fn new(archive: &'a A, rows: Option<&'a dyn Rows>) -> Result<Self, Error> {
        let (sources, _) = archive.kept_in(FOLDER)?;
        let hasher = RandomState::new();
        let (files, held, checker) = Default::default();
        Ok(Self { archive, rows, sources, hasher, files, held, checker })
    }

    /// The streams that were recorded.
    ///
    /// # Errors
    /// When manifests or rows cannot be read.
    pub fn streams(&self) -> Result<Vec<Stream>, Error> {
        let mut streams = self.rows.map_or_else(|| Ok(Vec::new()), Rows::streams)?;
        for source in &self.sources {
            for folder in self.archive.kept_in(&format!("{FOLDER}/{source}"))?.0 {
                let (_, names) = self.archive.kept_in(&format!("{FOLDER}/{source}/{folder}"))?;
                let prefix =
                    names.iter().find_map(|name| self.prefix_in(&format!("{FOLDER}/{source}/{folder}/{name}")));
                streams.extend(prefix.and_then(|prefix| stream_of(source, &format!("{prefix}x/"))));
            }
        }
        Ok(streams)
    }

    fn prefix_in(&self, name: &str) -> Option<String> {
        let entries = Entries::read(self.archive.kept(name).ok()??, Path::new(name)).ok()?;
        Some(entries.header().prefix.clone())
    }

    /// Forgets which manifests there are of streams that are done.
    pub fn forget(&mut self) {
        self.files.clear();
        self.held.clear();
    }

    /// The hash by which names are held.
    pub fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    /// What hashes names, for use while days are read.
    pub fn hasher(&self) -> RandomState {
        self.hasher.clone()
    }

    /// What was recorded of an object.
    ///
    /// # Errors
    /// When the rows cannot be read; a manifest that cannot be read is reported by [`Recorded::examine`].
    pub fn of(&mut self, stream: &Stream, suffix: &str) -> Result<Option<Stored>, Error> {
        let day = Day::of(suffix).unwrap_or(Day::ODD);
        let hash = self.hash(suffix);
        Ok(self.day(stream, day)?.get(hash))
    }

    /// All that was recorded of a day.
    ///
    /// # Errors
    /// As for [`Recorded::of`].
    pub fn day(&mut self, stream: &Stream, day: Day) -> Result<Arc<DayRecords>, Error> {
        if let Some(at) = self.held.iter().position(|((prefix, held), _)| *held == day && *prefix == stream.prefix)
            && let Some(found) = self.held.remove(at)
        {
            self.held.push_back(found.clone());
            return Ok(found.1);
        }
        let mut records = Vec::new();
        let hasher = self.hasher.clone();
        self.each(stream, day, &mut |record| {
            let stored = Stored { size: record.size, sha256: record.sha256, later: record.later };
            records.push((hasher.hash_one(record.suffix.as_str()), stored));
        })?;
        let has_versions = records.iter().any(|(_, stored)| stored.later);
        // Of several the one that was recorded last holds: the sort is stable.
        records.sort_by_key(|(hash, _)| *hash);
        records.reverse();
        records.dedup_by_key(|(hash, _)| *hash);
        records.reverse();
        records.shrink_to_fit();
        let records = Arc::new(DayRecords { records, has_versions });
        self.held.push_back(((stream.prefix.clone(), day), records.clone()));
        while self.held.len() > 1 && self.held.iter().map(|(_, day)| day.bytes()).sum::<usize>() > HELD_BYTES {
            self.held.pop_front();
        }
        Ok(records)
    }

    /// The days of which something was recorded.
    ///
    /// # Errors
    /// As for [`Recorded::of`].
    pub fn days(&mut self, stream: &Stream) -> Result<BTreeSet<Day>, Error> {
        let mut days: BTreeSet<Day> = self.files(stream)?.keys().map(|(day, _)| *day).collect();
        if let Some(rows) = self.rows {
            rows.each(stream, &mut |record| _ = days.insert(Day::of(&record.suffix).unwrap_or(Day::ODD)))?;
        }
        Ok(days)
    }

    /// Shows what was recorded of a day, what was recorded last at the end; what cannot be read is left out.
    ///
    /// # Errors
    /// As for [`Recorded::of`].
    pub fn each(&mut self, stream: &Stream, day: Day, see: &mut dyn FnMut(Record)) -> Result<(), Error> {
        let of_day = |(key, files): (&(Day, String), &Vec<File>)| (key.0 == day).then(|| files.clone());
        for files in self.files(stream)?.iter().filter_map(of_day).collect::<Vec<_>>() {
            let open = |file: &File| Entries::read(self.archive.kept(&file.name).ok()??, Path::new(&file.name)).ok();
            if let Ok(merged) = Merged::new(files.iter().filter_map(open).collect()) {
                merged.map_while(Result::ok).for_each(&mut *see);
            }
        }
        let Some(rows) = self.rows else { return Ok(()) };
        rows.each(stream, &mut |record| {
            if Day::of(&record.suffix).unwrap_or(Day::ODD) == day {
                see(record);
            }
        })
    }

    /// The manifests of a stream by day and source, each day's generations in order.
    fn files(&mut self, stream: &Stream) -> Result<Arc<Files>, Error> {
        if let Some(files) = self.files.get(&stream.prefix) {
            return Ok(files.clone());
        }
        let mut files = Files::new();
        for source in &self.sources {
            let folder = format!("{FOLDER}/{source}/{}", file_safe(&stream.prefix));
            for name in self.archive.kept_in(&folder)?.1 {
                if let Some((day, generation)) = named(&name) {
                    let file = File { generation, name: format!("{folder}/{name}") };
                    files.entry((day, source.clone())).or_default().push(file);
                }
            }
        }
        files.values_mut().for_each(|files| files.sort_by_key(|file| file.generation));
        let files = Arc::new(files);
        self.files.insert(stream.prefix.clone(), files.clone());
        Ok(files)
    }
}

impl DayRecords {
    /// What was recorded under a hash.
    pub fn get(&self, hash: u64) -> Option<Stored> {
        let at = self.records.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
        Some(self.records[at].1)
    }

    /// Whether everything is surely among these hashes of names, sorted. Versions have names of their own, which are
    /// not known here.
    pub fn is_all_in(&self, names: &[u64]) -> bool {
        !self.has_versions && self.records.iter().all(|(hash, _)| names.binary_search(hash).is_ok())
    }

    /// How many objects.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn bytes(&self) -> usize {
        self.records.len() * size_of::<(u64, Stored)>()
    }
}

/// The stream of a key, whatever stands before `AWSLogs/`.
pub fn stream_of(source: &str, key: &str) -> Option<Stream> {
    let at = if key.starts_with("AWSLogs/") { 0 } else { key.find("/AWSLogs/")? + 1 };
    Stream::of_key(source, &key[..at + "AWSLogs/".len()], key)
}

/// Day and generation in a manifest's name: `2026-11-24.0001.tsv.gz`, `odd.0001.tsv.gz`.
fn named(name: &str) -> Option<(Day, u32)> {
    let (day, generation) = name.strip_suffix(".tsv.gz")?.split_once('.')?;
    let day = if day == "odd" { Day::ODD } else { Day::of(&format!("{}/", day.replace('-', "/")))? };
    Some((day, generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_known_to_be_here_only_where_no_name_is_in_doubt() {
        let stored = |later| Stored { size: 1, sha256: [1; 32], later };
        let of = |names: &[u64], has_versions| DayRecords {
            records: names.iter().map(|name| (*name, stored(false))).collect(),
            has_versions,
        };
        assert!(of(&[2, 5], false).is_all_in(&[1, 2, 5, 9]));
        assert!(of(&[], false).is_all_in(&[]));
        assert!(!of(&[2, 5], false).is_all_in(&[1, 2, 9]), "one is missing");
        assert!(!of(&[2, 5], true).is_all_in(&[1, 2, 5, 9]), "a version may be");
    }
}
