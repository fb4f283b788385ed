//! `trailsync rebuild`: makes the database again from the mirrored tree and its manifests.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use tracing::warn;

use super::Exit;
use crate::clock::Timestamp;
use crate::config::{Config, Source};
use crate::content::Hashing;
use crate::destination::Place;
use crate::destination::local::{Found, Local};
use crate::error::{Class, Error, Report};
use crate::key::Shown;
use crate::layout::{Day, Stream, root};
use crate::ledger::{Checkpoint, Commit, DATABASE, Ledger, SealedDay, StreamId};
use crate::manifest::{Entries, Generations, Manifests, Merged, sha256};
use crate::object::{ETag, Gzip};
use crate::record::Record;

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
    now: Timestamp,
    out: &mut (dyn Write + Send),
) -> Result<Exit, Error> {
    let database = config.state.dir.join(DATABASE);
    if database.exists() && !options.set_aside {
        let report = Report::new("rebuild", database.display().to_string(), "a database is there");
        return Err(Error::of(
            Class::Fatal,
            report.mend("`trailsync rebuild --set-aside` keeps it under another name"),
        ));
    }
    set_aside(&config.state.dir, now)?;
    let opened = Ledger::open(&config.state.dir, false).await?;
    for source in config.sources.values() {
        let tree = Local::open(&source.destination)?;
        let mut work = Rebuild {
            source,
            tree,
            ledger: &opened.ledger,
            manifests: Manifests::under(&config.state.dir),
            streams: HashMap::new(),
            now,
        };
        let days = work.take_manifests(&config.state.dir).await?;
        let (objects, foreign) = work.take_tree().await?;
        let _ = writeln!(
            out,
            "{}: {days} sealed days, {objects} objects in the tree that no manifest names, {foreign} files that are none of ours",
            source.name
        );
    }
    opened.ledger.close().await;
    Ok(Exit::Done)
}

/// Renames the database and what belongs to it; the lock is taken first, so that no daemon is using it.
fn set_aside(dir: &Path, now: Timestamp) -> Result<(), Error> {
    let _lock = crate::ledger::Lock::take(dir)?;
    for name in [
        DATABASE.to_owned(),
        format!("{DATABASE}-wal"),
        format!("{DATABASE}-shm"),
        "initialized".into(),
        "manifests".into(),
    ] {
        let from = dir.join(&name);
        if from.exists() {
            let to = dir.join(format!("{name}.before-rebuild-{}", now.as_second()));
            std::fs::rename(&from, &to).map_err(|e| broken("set aside", &from, &e))?;
        }
    }
    Ok(())
}

struct Rebuild<'a> {
    source: &'a Source,
    tree: Local,
    ledger: &'a Ledger,
    manifests: Manifests,
    streams: HashMap<String, (Stream, StreamId)>,
    now: Timestamp,
}

impl Rebuild<'_> {
    /// Takes the manifests beside the copy into the state directory and records their days.
    async fn take_manifests(&mut self, state_dir: &Path) -> Result<u64, Error> {
        let kept = self.source.destination.path.join(".trailsync/manifests");
        let mut days: BTreeMap<(String, i32), Vec<Generation>> = BTreeMap::new();
        for path in files_under(&kept.join(&self.source.name))? {
            let name = path.strip_prefix(&kept).unwrap_or(&path);
            let copy = state_dir.join("manifests").join(name);
            copy_durably(&path, &copy).map_err(|e| broken("copy", &path, &e))?;
            let header = Entries::open(&copy).map_err(|e| broken("read", &path, &e))?.header().clone();
            days.entry((header.prefix, header.day)).or_default().push((header.generation, header.whole, copy));
        }
        let count = days.len() as u64;
        for ((prefix, day), mut files) in days {
            files.sort_unstable();
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
        let (objects, stored) = totals(merged).map_err(|e| broken("read", newest, &e))?;
        let sealed = SealedDay { day, generations, objects };
        self.ledger.seal(&stream, id, &sealed, bytes.len() as u64, &[]).await?;
        self.ledger.add_sealed(&stream, id, objects, stored).await
    }

    /// Records what is in the tree and in no manifest, hashing it.
    async fn take_tree(&mut self) -> Result<(u64, u64), Error> {
        let (mut objects, mut foreign) = (0, 0);
        let mut sealed = Sealed::default();
        let mut waiting: Option<Batch> = None;
        for found in self.tree.walk() {
            let place = match found? {
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
            let record = self.record_of(&place, &suffix)?;
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
        let commit = Commit { inserted: rows.into_values().collect(), ..Commit::default() };
        self.ledger.commit(&stream, id, &commit, &Checkpoint::default(), self.now).await?;
        Ok(commit.inserted.len() as u64)
    }

    async fn stream_of(&mut self, key: &str) -> Result<Option<(Stream, StreamId)>, Error> {
        let Some(stream) = Stream::of_key(&self.source.name, &root(&self.source.prefix), key) else { return Ok(None) };
        if let Some((stream, id)) = self.streams.get(&stream.prefix) {
            return Ok(Some((stream.clone(), *id)));
        }
        let (id, _) = self.ledger.checkpoint(&stream).await?;
        self.streams.insert(stream.prefix.clone(), (stream.clone(), id));
        Ok(Some((stream, id)))
    }

    /// What a file is. Its tag at the source is not known: an MD5 is what it was for most objects, and where it was
    /// not, the object is fetched once more and compared.
    fn record_of(&self, place: &Place, suffix: &str) -> Result<Record, Error> {
        let subject = Path::new(&place.key);
        let missing = || broken("read", subject, &std::io::ErrorKind::NotFound.into());
        let mut file = self.tree.read(place)?.ok_or_else(missing)?;
        let mut hashing = Hashing::new(place.key.ends_with(".gz"));
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match file.read(&mut buffer).map_err(|e| broken("read", subject, &e))? {
                0 => break,
                n => hashing.update(&buffer[..n]),
            }
        }
        let modified = file.metadata().and_then(|m| m.modified()).map_err(|e| broken("read", subject, &e))?;
        let content = hashing.finish();
        Ok(Record {
            suffix: suffix.to_owned(),
            size: content.size,
            modified: Timestamp::try_from(modified).unwrap_or(self.now),
            etag: ETag::new(&hex::encode(content.md5)),
            sha256: content.sha256,
            inflated: match content.gzip {
                Gzip::Whole { sha256, .. } => Some(sha256),
                _ => None,
            },
            gone: false,
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

fn totals(merged: Merged) -> std::io::Result<(u64, u64)> {
    let (mut objects, mut bytes) = (0, 0);
    for record in merged {
        objects += 1;
        bytes += record?.size;
    }
    Ok((objects, bytes))
}

fn files_under(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(broken("read", &dir, &error)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| broken("read", &dir, &e))?;
            let kind = entry.file_type().map_err(|e| broken("read", &dir, &e))?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() && entry.path().extension().is_some_and(|extension| extension == "gz") {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

fn copy_durably(from: &Path, to: &Path) -> std::io::Result<()> {
    let parent = to.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(parent)?;
    std::fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    File::open(parent)?.sync_all()
}

fn broken(operation: &'static str, path: &Path, error: &std::io::Error) -> Error {
    Error::of(Class::Fatal, Report::new(operation, path.display().to_string(), error))
}
