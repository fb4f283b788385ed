//! A state as a daemon that has mirrored everything would have left it: made through the library, without the requests.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use trailsync::clock::{Timestamp, shift};
use trailsync::layout::{Day, Kind, Stream};
use trailsync::ledger::{Checkpoint, Commit, Ledger, SealedDay, StreamId};
use trailsync::manifest::{Claim, Generations, Header, Manifests, sha256};
use trailsync::object::ETag;
use trailsync::record::Record;
use trailsync::window::{Memory, Scope};

use crate::cost;
use crate::serve::{Keys, Spec, make};

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// Rows of a stream that are committed together, in turns with those of other streams, as they would come.
const ROWS: usize = 250;
/// Days that stay rows, as the program's default is.
const OPEN_DAYS: i64 = 3;

/// What was written.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Prepared {
    /// Rows of objects.
    pub rows: u64,
    /// Sealed days.
    pub sealed: u64,
}

/// How it is made.
struct Maker<'a> {
    ledger: &'a Ledger,
    manifests: Manifests,
    keys: Keys,
    /// Of each body: tag and size.
    bodies: Vec<(ETag, u64)>,
    now: Timestamp,
    done: Prepared,
}

/// A stream on its way.
struct Making {
    stream: Stream,
    id: StreamId,
    checkpoint: Checkpoint,
    /// Rows that are not committed yet.
    rows: Vec<Record>,
}

/// Records that everything of a specification is mirrored, in the state of `dir` and a tree that has no files.
///
/// In a process of its own, without durability: tens of thousands of transactions would take minutes.
pub fn record(dir: &Path, spec: &Spec) -> Result<Prepared> {
    std::fs::create_dir_all(dir)?;
    let file = dir.join("prepared.json");
    std::fs::write(&file, serde_json::to_vec(spec)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("prepare").arg(&file).arg(dir);
    let output = cost::without_syncs(&command)?.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the state could not be made");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The process that does it.
pub fn prepare(spec: &Path, dir: &Path) -> Result<Prepared> {
    let spec: Spec = serde_json::from_slice(&std::fs::read(spec)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A tree that holds nothing is not where mirrored objects are.
    std::fs::create_dir_all(dir.join("copy/.trailsync/manifests"))?;
    let state = dir.join("state");
    let bodies = make(spec.bodies)?;
    runtime.block_on(async {
        let opened = Ledger::open(&state, false).await?;
        let mut maker = Maker {
            ledger: &opened.ledger,
            manifests: Manifests::under(&state),
            keys: Keys::new(spec.shape.clone()),
            bodies: bodies.iter().map(|body| (ETag::new(&body.etag), body.bytes.len() as u64)).collect(),
            now: Timestamp::now(),
            done: Prepared::default(),
        };
        maker.everything(spec.shape.logs).await?;
        let done = maker.done;
        opened.ledger.close().await;
        Ok(done)
    })
}

impl Maker<'_> {
    async fn everything(&mut self, logs: u64) -> Result<()> {
        let mut making = Vec::new();
        for number in 0..self.keys.streams().len() {
            let stream = self.stream(number)?;
            let (id, mut checkpoint) = self.ledger.checkpoint(&stream).await?;
            checkpoint.memory = remembered(self.now);
            checkpoint.listed_through = Some(self.now);
            let mut one = Making { stream, id, checkpoint, rows: Vec::new() };
            self.sealed_days(&mut one, number as u64 * logs, logs).await?;
            making.push(one);
        }
        self.rows(&mut making).await
    }

    fn stream(&self, number: usize) -> Result<Stream> {
        let prefix = &self.keys.streams()[number];
        let kind = Kind::named("CloudTrail").context("a kind")?;
        Ok(Stream::new("measured", "AWSLogs/", None, &prefix.account, kind, prefix.region))
    }

    /// Seals the older days of a stream; what is left are its rows.
    async fn sealed_days(&mut self, making: &mut Making, first: u64, logs: u64) -> Result<()> {
        let open = Day::at(shift(self.now, -OPEN_DAYS * DAY));
        let (mut key, mut today, mut of_day) = (Vec::new(), None, Vec::new());
        for number in first..first + logs {
            self.keys.write(number, &mut key);
            let record = self.record(&making.stream, std::str::from_utf8(&key)?, number)?;
            let day = Day::of(&record.suffix).context("a day")?;
            making.checkpoint.newest_object = Timestamp::from_second(self.keys.modified(number) - 240).ok();
            if day >= open {
                making.rows.push(record);
                continue;
            }
            if today.is_some_and(|today| today != day) {
                self.seal(making, std::mem::take(&mut of_day)).await?;
            }
            today = Some(day);
            of_day.push(record);
        }
        self.seal(making, of_day).await
    }

    async fn seal(&mut self, making: &Making, records: Vec<Record>) -> Result<()> {
        let Some(day) = records.first().and_then(|record| Day::of(&record.suffix)) else { return Ok(()) };
        let stream = &making.stream;
        let header = Header {
            manifest: 1,
            source: stream.source.clone(),
            prefix: stream.prefix.clone(),
            day: day.0,
            generation: 1,
            previous: None,
            after: None,
            whole: true,
        };
        let written = self.manifests.write(stream, &header, &records, &Claim::default().claimed())?;
        let generations = Generations { first: 1, last: 1, hash: written.hash };
        let sealed = SealedDay { day, generations, objects: records.len() as u64 };
        let bytes = records.iter().map(|record| record.size).sum();
        self.ledger.seal(stream, making.id, &sealed, written.bytes.len() as u64, &[]).await?;
        self.ledger.add_sealed(stream, making.id, sealed.objects, bytes).await?;
        self.done.sealed += 1;
        Ok(())
    }

    /// Commits the rows of all streams in turns.
    async fn rows(&mut self, making: &mut [Making]) -> Result<()> {
        let mut more = true;
        let mut from = 0;
        while std::mem::take(&mut more) {
            for one in &mut *making {
                let until = one.rows.len().min(from + ROWS);
                let rows = one.rows.get(from..until).unwrap_or_default().to_vec();
                more |= until < one.rows.len();
                if rows.is_empty() && from > 0 {
                    continue;
                }
                self.done.rows += rows.len() as u64;
                let commit = Commit { inserted: rows, ..Commit::default() };
                self.ledger.commit(&one.stream, one.id, &commit, &one.checkpoint, self.now).await?;
            }
            from += ROWS;
        }
        Ok(())
    }

    fn record(&self, stream: &Stream, key: &str, number: u64) -> Result<Record> {
        let (etag, size) = &self.bodies[(number % self.bodies.len() as u64) as usize];
        Ok(Record {
            suffix: stream.suffix(key).context("a key of the stream")?.to_owned(),
            size: *size,
            modified: Timestamp::from_second(self.keys.modified(number))?,
            etag: etag.clone(),
            // The hashes play no part in a listing, but take their room.
            sha256: sha256(key.as_bytes()),
            inflated: Some(sha256(&key.as_bytes()[1..])),
            gone: false,
            deleted: false,
            later: false,
        })
    }
}

/// The listings of a daemon that runs: each tier is as fresh as its interval lets it be.
fn remembered(now: Timestamp) -> Memory {
    let mut memory = Memory::default();
    let scopes = [
        (Scope::Full, 10 * DAY),
        (Scope::Tier(35 * DAY), 5 * HOUR),
        (Scope::Tier(26 * HOUR), 3 * HOUR),
        (Scope::Tier(2 * HOUR), 5 * MINUTE),
        (Scope::Tail, HOUR),
        (Scope::Poll, MINUTE),
    ];
    for (scope, age) in scopes {
        memory.complete(scope, shift(now, -age), shift(now, -age));
    }
    memory
}
