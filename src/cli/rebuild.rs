//! `trailsync rebuild`: makes the database again from the copies, in a tree or a bucket, and their manifests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use tracing::warn;

use super::Exit;
use crate::clock::{Timestamp, shift};
use crate::config::{Config, Source};
use crate::destination::Place;
use crate::destination::local::Found;
use crate::error::{Class, Error, Report};
use crate::key::Shown;
use crate::layout::{Day, Stream, root};
use crate::ledger::{Alarm, COPY_MISSING, Checkpoint, Commit, DATABASE, Failure, Ledger, Lock, SealedDay, StreamId};
use crate::manifest::{Entries, Generations, Manifests, sha256};
use crate::mirror::{replaced, vanished};
use crate::object::{ETag, Gzip};
use crate::public_keys::{self, PublicKeys};
use crate::record::Record;
use crate::role::Process;
use crate::window::AHEAD_SECONDS;

mod files;
mod shelf;

use files::{broken, set_aside};
use shelf::Shelf;

/// Options of `trailsync rebuild`.
#[derive(Debug, Args)]
pub struct Options {
    /// Set a database that is there aside, under a name with the time; it is not removed.
    #[arg(long)]
    pub set_aside: bool,
}

/// Number, whether it holds the whole day, and where it is.
type Generation = (u32, bool, PathBuf);
/// A stream and the records of it that wait for a transaction, by suffix.
type Batch = (Stream, StreamId, BTreeMap<String, Record>);

/// Rows of one transaction.
const ROWS: usize = 1000;

/// Rebuilds the state of every source; the next run lists everything and compares.
///
/// # Errors
/// `Fatal` when a database is there, or tree or manifests cannot be read.
pub async fn rebuild(
    config: &Config,
    options: &Options,
    process: &Process,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    let now = process.clock.now();
    let database = config.state.dir.join(DATABASE);
    if database.exists() && !options.set_aside {
        let report = Report::new("rebuild", database.display().to_string(), "a database is there");
        return Err(Error::of(
            Class::Fatal,
            report.mend("`trailsync rebuild --set-aside` keeps it under another name"),
        ));
    }
    let lock = Lock::take(&config.state.dir)?;
    let ledger = Ledger::begin_anew(&lock, &config.state.dir).await?;
    set_aside(&config.state.dir, now)?;
    for source in config.sources.values() {
        rebuild_source(config, source, &ledger, process, out).await?;
    }
    ledger.finish_anew(&config.state.dir).await?;
    Ok(Exit::Done)
}

async fn rebuild_source(
    config: &Config,
    source: &Source,
    ledger: &Ledger,
    process: &Process,
    out: &mut (dyn Write + Send),
) -> Result<(), Error> {
    let now = process.clock.now();
    let shelf =
        Shelf::open(source, &config.state.dir, process).await.map_err(|error| error.into_class(Class::Fatal))?;
    shelf.check(&source.name, ledger).await?;
    let manifests = Manifests::under(&config.state.dir);
    let mut work = Rebuild { source, shelf, ledger, manifests, streams: HashMap::new(), now, missing: 0 };
    let days = work.take_manifests(&config.state.dir).await?;
    let (objects, foreign) = work.take_copies().await?;
    work.save_newest().await?;
    let keys = work.take_keys().await?;
    let _ = writeln!(
        out,
        "{}: {days} sealed days, {} objects of them are not among the copies and are fetched again, {objects} \
         copies that no manifest names, {foreign} files that are none of ours, {keys} public keys",
        source.name, work.missing
    );
    Ok(())
}

/// A stream that was found, and the latest time in the name of one of its objects.
#[derive(Clone)]
struct Seen {
    stream: Stream,
    id: StreamId,
    newest: Option<Timestamp>,
}

struct Rebuild<'a> {
    source: &'a Source,
    shelf: Shelf,
    ledger: &'a Ledger,
    manifests: Manifests,
    streams: HashMap<String, Seen>,
    now: Timestamp,
    /// Objects that manifests name and the tree does not have.
    missing: u64,
}

impl Rebuild<'_> {
    /// Takes the manifests beside the copy into the state directory and records their days.
    async fn take_manifests(&mut self, state_dir: &Path) -> Result<u64, Error> {
        let mut days: BTreeMap<(String, i32), Vec<Generation>> = BTreeMap::new();
        let mut named = BTreeSet::new();
        for copy in self.shelf.take_manifests(&self.source.name, state_dir).await? {
            let header = Entries::open(&copy).map_err(|e| broken("read", &copy, &e))?.header().clone();
            named.extend(header.after.map(|after| (header.prefix.clone(), after.day, after.generation)));
            days.entry((header.prefix, header.day)).or_default().push((header.generation, header.whole, copy));
        }
        days.values_mut().for_each(|files| files.sort_unstable());
        let mut days: Vec<_> = days.into_iter().collect();
        // What no other one names was written last: the next manifest will name it.
        days.sort_by_key(|((prefix, day), files)| {
            let last = files.last().map_or(0, |(generation, ..)| *generation);
            (prefix.clone(), !named.contains(&(prefix.clone(), *day, last)), *day)
        });
        let count = days.len() as u64;
        for ((prefix, day), files) in days {
            self.record_day(&prefix, Day(day), &files).await?;
        }
        Ok(count)
    }

    async fn record_day(&mut self, prefix: &str, day: Day, files: &[Generation]) -> Result<(), Error> {
        let Some((stream, id)) = self.stream_of(&format!("{prefix}x")).await? else { return Ok(()) };
        let Some((last, _, newest)) = files.last() else { return Ok(()) };
        let first = files.iter().rev().find(|(_, whole, _)| *whole).map_or(1, |(generation, ..)| *generation);
        let bytes = std::fs::read(newest).map_err(|e| broken("read", newest, &e))?;
        let generations = Generations { first, last: *last, hash: sha256(&bytes) };
        let merged = self.manifests.read(&stream, day, generations).map_err(|e| broken("read", newest, &e))?;
        let mut sums = Sums::default();
        for record in merged {
            let record = record.map_err(|e| broken("read", newest, &e))?;
            self.take_line(&stream, &record, &mut sums).await?;
            if sums.commit.failed.len() + sums.commit.alarms.len() >= ROWS {
                self.commit(&stream, id, &std::mem::take(&mut sums.commit)).await?;
            }
        }
        self.commit(&stream, id, &sums.commit).await?;
        self.missing += sums.missing;
        let sealed = SealedDay { day, generations, objects: sums.named };
        self.ledger.seal(&stream, id, &sealed, bytes.len() as u64, &[]).await?;
        self.ledger.add_sealed(&stream, id, sums.named - sums.missing, sums.bytes).await
    }

    /// Counts one line of a manifest; what it says of the source is alarmed again, and a copy that is gone is wanted.
    async fn take_line(&mut self, stream: &Stream, record: &Record, sums: &mut Sums) -> Result<(), Error> {
        sums.named += 1;
        self.note_newest(stream, record);
        sums.commit.alarms.extend(told(stream, record));
        let place = Place { key: format!("{}{}", stream.prefix, record.suffix), version: record.version() };
        if self.shelf.holds(&place).await? {
            sums.bytes += record.size;
            return Ok(());
        }
        sums.missing += 1;
        sums.commit.failed.push(missing(place.key, record, self.now));
        Ok(())
    }

    fn note_newest(&mut self, stream: &Stream, record: &Record) {
        let latest = shift(self.now, AHEAD_SECONDS);
        let dated = stream.dated(&record.suffix).filter(|dated| *dated <= latest);
        if let Some(seen) = self.streams.get_mut(&stream.prefix) {
            seen.newest = dated.max(seen.newest);
        }
    }

    async fn commit(&self, stream: &Stream, id: StreamId, commit: &Commit) -> Result<(), Error> {
        self.ledger.commit(stream, id, commit, &Checkpoint::default(), self.now).await
    }

    /// The times of the newest objects, once all are known.
    async fn save_newest(&self) -> Result<(), Error> {
        for Seen { stream, id, newest } in self.streams.values() {
            let progress = Checkpoint { newest_object: *newest, ..Checkpoint::default() };
            self.ledger.commit(stream, *id, &Commit::default(), &progress, self.now).await?;
        }
        Ok(())
    }

    /// The public keys that are kept beside the copy: old ones may not be given again.
    async fn take_keys(&self) -> Result<usize, Error> {
        let regions: BTreeSet<_> = self.streams.values().map(|seen| seen.stream.region.clone()).collect();
        let mut taken = 0;
        for region in regions {
            let name = public_keys::file_name(&region);
            let Some(bytes) = self.shelf.kept(&name).await? else { continue };
            match PublicKeys::parse(&bytes) {
                Ok(keys) => {
                    self.ledger.add_public_keys(&region, keys.all()).await?;
                    taken += keys.all().len();
                }
                Err(why) => {
                    warn!(source = %self.source.name, "`.trailsync/{}` is not taken: {why}", Shown(&name));
                }
            }
        }
        Ok(taken)
    }

    /// Records what is among the copies and in no manifest, hashing it.
    async fn take_copies(&mut self) -> Result<(u64, u64), Error> {
        let (mut objects, mut foreign) = (0, 0);
        let mut sealed = Sealed::default();
        let mut waiting: Option<Batch> = None;
        let mut books = self.shelf.walk(self.source).await?;
        while let Some((found, written)) = self.shelf.next(&mut books).await? {
            let place = match found {
                Found::Object(place) => place,
                Found::Metadata(_) => continue,
                Found::Foreign(path) => {
                    warn!(path = %Shown(&path), "No key of ours has this path; it is left alone");
                    foreign += 1;
                    continue;
                }
            };
            let Some((stream, id)) = self.stream_of(&place.key).await? else {
                foreign += 1;
                continue;
            };
            let suffix = stream.suffix(&place.key).unwrap_or_default().to_owned();
            if sealed.holds(self.ledger, &self.manifests, &stream, id, &suffix).await? {
                continue;
            }
            let record = self.record_of(&place, &suffix, written).await?;
            self.note_newest(&stream, &record);
            if waiting.as_ref().is_some_and(|(other, _, rows)| *other != stream || rows.len() >= ROWS) {
                objects += self.flush(&mut waiting).await?;
            }
            let rows = &mut waiting.get_or_insert_with(|| (stream, id, BTreeMap::new())).2;
            // Of several versions of a key the one that was written last is what the source has shown last.
            match rows.get(&suffix) {
                Some(known) if known.modified > record.modified => {}
                _ => _ = rows.insert(suffix, record),
            }
        }
        objects += self.flush(&mut waiting).await?;
        Ok((objects, foreign))
    }

    async fn flush(&self, waiting: &mut Option<Batch>) -> Result<u64, Error> {
        let Some((stream, id, rows)) = waiting.take() else { return Ok(0) };
        let inserted: Vec<_> = rows.into_values().collect();
        let alarms = inserted.iter().flat_map(|record| told(&stream, record)).collect();
        let commit = Commit { inserted, alarms, ..Commit::default() };
        self.commit(&stream, id, &commit).await?;
        Ok(commit.inserted.len() as u64)
    }

    async fn stream_of(&mut self, key: &str) -> Result<Option<(Stream, StreamId)>, Error> {
        let Some(stream) = Stream::of_key(&self.source.name, &root(&self.source.prefix), key) else { return Ok(None) };
        if let Some(seen) = self.streams.get(&stream.prefix) {
            return Ok(Some((seen.stream.clone(), seen.id)));
        }
        let (id, _) = self.ledger.checkpoint(&stream).await?;
        self.streams.insert(stream.prefix.clone(), Seen { stream: stream.clone(), id, newest: None });
        Ok(Some((stream, id)))
    }

    /// What a file is. Its tag at the source is not known: an MD5 is what it was for most objects, and where it was
    /// not, the object is fetched once more and compared.
    async fn record_of(&self, place: &Place, suffix: &str, written: Option<Timestamp>) -> Result<Record, Error> {
        let (content, written) = self.shelf.content(place, written).await?;
        Ok(Record {
            suffix: suffix.to_owned(),
            size: content.size,
            modified: written.unwrap_or(self.now),
            etag: ETag::new(&hex::encode(content.md5.unwrap_or_default())),
            sha256: content.sha256,
            inflated: match content.gzip {
                Gzip::Whole { sha256, .. } => Some(sha256),
                _ => None,
            },
            gone: false,
            deleted: false,
            later: place.version.is_some(),
        })
    }
}

/// The keys of the sealed day that the walk is in.
#[derive(Default)]
struct Sealed {
    at: Option<(String, Day)>,
    suffixes: std::collections::HashSet<String>,
}

impl Sealed {
    async fn holds(
        &mut self,
        ledger: &Ledger,
        manifests: &Manifests,
        stream: &Stream,
        id: StreamId,
        suffix: &str,
    ) -> Result<bool, Error> {
        let day = Day::of(suffix).unwrap_or(Day::ODD);
        if self.at.as_ref() != Some(&(stream.prefix.clone(), day)) {
            self.suffixes.clear();
            let sealed = ledger.sealed_days(stream, id, day, 1).await?.into_iter().find(|sealed| sealed.day == day);
            if let Some(sealed) = sealed {
                let path = manifests.path(stream, day, sealed.generations.last);
                let lines = manifests.read(stream, day, sealed.generations).map_err(|e| broken("read", &path, &e))?;
                for line in lines {
                    self.suffixes.insert(line.map_err(|e| broken("read", &path, &e))?.suffix);
                }
            }
            self.at = Some((stream.prefix.clone(), day));
        }
        Ok(self.suffixes.contains(suffix))
    }
}

/// What the manifests of one day say.
#[derive(Default)]
struct Sums {
    named: u64,
    missing: u64,
    /// Of those that are there.
    bytes: u64,
    commit: Commit,
}

/// The alarms that were raised when a record became what it is.
fn told(stream: &Stream, record: &Record) -> Vec<Alarm> {
    let key = || format!("{}{}", stream.prefix, record.suffix);
    let gone = (record.gone && !record.deleted).then(|| vanished(&stream.prefix, record));
    let later = record.later.then(|| replaced(&key(), record));
    gone.into_iter().chain(later).collect()
}

/// An object whose copy is gone is fetched again, as one that failed.
fn missing(key: String, record: &Record, now: Timestamp) -> Failure {
    let reason = format!("a manifest names `{}`, but its copy is not in the tree; it is fetched again", Shown(&key));
    Failure {
        key,
        size: record.size,
        etag: record.etag.clone(),
        modified: record.modified,
        first_failed: now,
        attempts: 0,
        quarantined: false,
        next_try: now,
        code: COPY_MISSING.to_owned(),
        reason,
    }
}
