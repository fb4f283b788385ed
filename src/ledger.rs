//! The state: all SQL, in one module.
//!
//! One writer, WAL, `synchronous=FULL`: when a commit returns it survives a power cut. Objects are recorded
//! only after the destination said that they are durable.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, SqlitePool, Transaction};

use crate::clock::Timestamp;
use crate::error::{Class, Error, Report};
use crate::layout::{Day, Stream};
use crate::manifest::Generations;
use crate::object::ETag;
use crate::record::Record;
use crate::window::{Memory, Scope};

mod audit;
mod days;
mod deletion;
mod ended;
mod health;
mod keys;
mod open;
mod pages;
mod place;
mod proof;
mod report;
mod scrub;

pub use audit::AuditCommit;
pub use days::{Fault, Mark};
pub use deletion::{DELETION, DeletionCommit, DeletionRow, Ended, Intent, Outcome, PruneRow};
pub use ended::PassEnd;
pub use health::HealthRow;
pub use keys::KeyRequestRow;
pub use open::{DATABASE, Lock, Opened};
pub use pages::EndedAlarm;
pub use proof::{ChainRow, DigestRow, ProofCommit};
pub use report::{AlarmCount, AlarmRow, CheckpointRow, QuarantineRow, SessionRow};
pub use scrub::{ScrubCommit, ScrubRow};

/// The open database.
#[derive(Debug, Clone)]
pub struct Ledger {
    pool: SqlitePool,
}

/// A stream's number in the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub i64);

/// How far a stream is: what a pass reads at its start and moves forward.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// When the last complete listing of each tier began.
    pub memory: Memory,
    /// The deep listing that is under way.
    pub sweep: Option<Sweep>,
    /// Every object that was delivered before has an outcome.
    pub listed_through: Option<Timestamp>,
    /// When an object was stored last.
    pub last_stored_at: Option<Timestamp>,
    /// The latest time in the name of a stored object.
    pub newest_object: Option<Timestamp>,
    /// LIST requests by tier.
    pub lists: BTreeMap<String, u64>,
    /// GET requests.
    pub gets: u64,
}

/// A deep listing that is under way, page by page, across polls and restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Which.
    pub scope: Scope,
    /// When it began, by the service's clock.
    pub began: i64,
    /// Up to when the clocks agreed when it began.
    pub trusted: i64,
    /// What is dated before is left out of a listing of everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// The ranges that are still to be listed; the one that is under way comes first.
    pub ranges: Vec<Range>,
}

/// A range of one listing, in suffixes of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Range {
    /// Only keys that start with this, after the stream's prefix.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Only keys after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only keys before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// An object that could not be mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The whole key.
    pub key: String,
    /// As listed.
    pub size: u64,
    /// As listed.
    pub etag: ETag,
    /// As listed: its age is the stream's lag.
    pub modified: Timestamp,
    /// When it failed first.
    pub first_failed: Timestamp,
    /// Tries so far.
    pub attempts: u32,
    /// Its first tries are over; it is retried daily.
    pub quarantined: bool,
    /// When it is tried again.
    pub next_try: Timestamp,
    /// The service's code.
    pub code: String,
    /// Why, and what would mend it.
    pub reason: String,
}

/// The code of an object that was not fetched yet, because no listing showed it: a digest names it.
pub const NAMED_BY_DIGEST: &str = "NamedByDigest";
/// The code of an object that is recorded, and whose copy is not there.
pub const COPY_MISSING: &str = "CopyMissing";

/// Something that somebody must look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// `replaced`, `vanished`, `malformed`, `conflict`, `clock_skew`, `unknown_folder`, …
    pub kind: &'static str,
    /// A key, or empty for the whole stream or source.
    pub subject: String,
    /// One sentence for people.
    pub detail: String,
}

/// What one transaction records.
#[derive(Debug, Default)]
pub struct Commit {
    /// Objects that were never recorded before: these count.
    pub inserted: Vec<Record>,
    /// Objects that were: a new tag, a later version, gone, back again.
    pub updated: Vec<Record>,
    /// Objects that failed.
    pub failed: Vec<Failure>,
    /// Keys that leave the quarantine.
    pub resolved: Vec<String>,
    /// What to alarm.
    pub alarms: Vec<Alarm>,
    /// Keys of damaged copies that are whole again, and what was done.
    pub mended: Vec<(String, String)>,
}

impl Commit {
    /// Nothing to record but the checkpoint.
    pub fn is_empty(&self) -> bool {
        self.inserted.is_empty()
            && self.updated.is_empty()
            && self.failed.is_empty()
            && self.resolved.is_empty()
            && self.alarms.is_empty()
            && self.mended.is_empty()
    }
}

/// A sealed day of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedDay {
    /// Which.
    pub day: Day,
    /// Its files.
    pub generations: Generations,
    /// Objects in it.
    pub objects: u64,
}

const GONE: i64 = 1;
const LATER: i64 = 2;
const DELETED: i64 = 4;
/// Values in one statement stay far below SQLite's limit of 32,766.
const ROWS_A_STATEMENT: usize = 500;

impl Ledger {
    /// The checkpoint of a stream; a stream that was never seen begins an empty one.
    ///
    /// # Errors
    /// `Fatal` when the database cannot be used, `Stream` when its disk is full.
    pub async fn checkpoint(&self, stream: &Stream) -> Result<(StreamId, Checkpoint), Error> {
        let read = async {
            sqlx::query(
                "INSERT INTO checkpoints (source, prefix, organization, account, kind, region)
                 VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(&stream.source)
            .bind(&stream.prefix)
            .bind(&stream.organization)
            .bind(&stream.account)
            .bind(stream.kind.folder)
            .bind(&stream.region)
            .execute(&self.pool)
            .await?;
            sqlx::query("SELECT * FROM checkpoints WHERE source = ? AND prefix = ?")
                .bind(&stream.source)
                .bind(&stream.prefix)
                .fetch_one(&self.pool)
                .await
        };
        let row = read.await.map_err(|e| failed("read the checkpoint", &stream.to_string(), &e))?;
        Ok((StreamId(row.get("id")), checkpoint_of(&row)))
    }

    /// The checkpoint of a stream, if it was ever seen; nothing is written.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn known(&self, stream: &Stream) -> Result<Option<(StreamId, Checkpoint)>, Error> {
        let row = sqlx::query("SELECT * FROM checkpoints WHERE source = ? AND prefix = ?")
            .bind(&stream.source)
            .bind(&stream.prefix)
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read the checkpoint of", &stream.to_string(), &e))?;
        Ok(row.map(|row| (StreamId(row.get("id")), checkpoint_of(&row))))
    }

    /// Records outcomes and progress in one transaction: either all of it holds after this, or none.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn commit(
        &self,
        stream: &Stream,
        id: StreamId,
        commit: &Commit,
        progress: &Checkpoint,
        now: Timestamp,
    ) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            let (objects, bytes) = insert_objects(&mut transaction, stream, id, &commit.inserted, false).await?;
            insert_objects(&mut transaction, stream, id, &commit.updated, true).await?;
            if stream.kind.keeps_metadata {
                proof::queue_digests(&mut transaction, stream, id, &commit.inserted).await?;
                let later: Vec<Record> = commit.updated.iter().filter(|record| record.later).cloned().collect();
                proof::queue_digests(&mut transaction, stream, id, &later).await?;
            } else if !commit.inserted.is_empty() {
                audit::queue_late(&mut transaction, stream, id, &commit.inserted).await?;
            }
            for failure in &commit.failed {
                upsert_failure(&mut transaction, id, failure, now).await?;
            }
            for key in &commit.resolved {
                sqlx::query("DELETE FROM quarantine WHERE stream = ? AND key = ?")
                    .bind(id.0)
                    .bind(key)
                    .execute(&mut *transaction)
                    .await?;
            }
            for alarm in &commit.alarms {
                upsert_alarm(&mut transaction, &stream.source, id, alarm, now).await?;
            }
            for (key, what) in &commit.mended {
                scrub::clear_mended(&mut transaction, &stream.source, id, key, what, now).await?;
            }
            let last_key = commit.inserted.last().map(|record| format!("{}{}", stream.prefix, record.suffix));
            save_progress(&mut transaction, id, progress, last_key, (objects, bytes)).await?;
            transaction.commit().await
        };
        write.await.map_err(|e| failed("record the progress", &stream.to_string(), &e))
    }

    /// Begins a transaction that writes.
    ///
    /// When a disk is full, SQLite ends a transaction by itself; the driver still counts it, and begins no other. Such
    /// a connection is closed, and the next one begins clean.
    async fn begin(&self) -> sqlx::Result<Transaction<'static, Sqlite>> {
        const BEGIN: &str = "BEGIN IMMEDIATE";
        match self.pool.begin_with(BEGIN).await {
            Err(sqlx::Error::InvalidSavePointStatement) => {
                // What cannot be written back at its end stays in the log beside the database.
                let _ = self.pool.acquire().await?.close().await;
                self.pool.begin_with(BEGIN).await
            }
            begun => begun,
        }
    }

    /// Up to `limit` recorded objects from a place on, in key order, of the dated days or of the odd keys.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn records_from(
        &self,
        stream: &Stream,
        id: StreamId,
        odd: bool,
        from: &(Day, Vec<u8>),
        limit: u32,
    ) -> Result<Vec<Record>, Error> {
        let statement = if odd {
            "SELECT * FROM objects WHERE stream = ? AND (day, name) >= (?, ?) AND day = 0 ORDER BY day, name LIMIT ?"
        } else {
            "SELECT * FROM objects WHERE stream = ? AND (day, name) >= (?, ?) AND day > 0 ORDER BY day, name LIMIT ?"
        };
        let mut rows = sqlx::query(statement).bind(id.0).bind(from.0.0).bind(&from.1).bind(limit).fetch(&self.pool);
        // Row by row: as the database driver holds them, rows take several times the memory of their records.
        let mut records = Vec::new();
        while let Some(row) = rows.next().await {
            let row = row.map_err(|e| failed("read the ledger", &stream.to_string(), &e))?;
            records.push(record_of(stream, &row).ok_or_else(|| corrupt(stream, "a row of `objects`"))?);
        }
        Ok(records)
    }

    /// The time of the object that is `back` rows before the newest one; `None` when there are fewer.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn page_back(
        &self,
        stream: &Stream,
        id: StreamId,
        back: u32,
        before: Day,
    ) -> Result<Option<Timestamp>, Error> {
        let row = sqlx::query(
            "SELECT day, name FROM objects WHERE stream = ? AND day > 0 AND day <= ?
             ORDER BY day DESC, name DESC LIMIT 1 OFFSET ?",
        )
        .bind(id.0)
        .bind(before.0)
        .bind(back)
        .fetch_optional(&self.pool)
        .await
        .map_err(|e| failed("read the ledger", &stream.to_string(), &e))?;
        let suffix = row.and_then(|row| stream.unpack(Day(row.get("day")), row.get("name")));
        Ok(suffix.and_then(|suffix| stream.dated(&suffix)))
    }

    /// The record of one object that is still in the ledger.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn record(&self, stream: &Stream, id: StreamId, suffix: &str) -> Result<Option<Record>, Error> {
        let (day, name) = stream.pack(suffix);
        let row = sqlx::query("SELECT * FROM objects WHERE stream = ? AND day = ? AND name = ?")
            .bind(id.0)
            .bind(day.0)
            .bind(&name)
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read the ledger", &stream.to_string(), &e))?;
        row.map(|row| record_of(stream, &row).ok_or_else(|| corrupt(stream, "a row of `objects`"))).transpose()
    }

    /// Sealed days from `from` on, in order.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn sealed_days(
        &self,
        stream: &Stream,
        id: StreamId,
        from: Day,
        limit: u32,
    ) -> Result<Vec<SealedDay>, Error> {
        let rows = sqlx::query("SELECT * FROM sealed_days WHERE stream = ? AND day >= ? ORDER BY day LIMIT ?")
            .bind(id.0)
            .bind(from.0)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read the sealed days", &stream.to_string(), &e))?;
        rows.iter().map(|row| sealed_of(row).ok_or_else(|| corrupt(stream, "a row of `sealed_days`"))).collect()
    }

    /// Days with rows in the ledger, outside of `open`.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn days_outside(
        &self,
        stream: &Stream,
        id: StreamId,
        open: std::ops::RangeInclusive<Day>,
    ) -> Result<Vec<Day>, Error> {
        // Steps from day to day through the key, so that it costs a seek a day rather than a scan of the rows.
        let rows = sqlx::query(
            "WITH RECURSIVE days(day) AS (
                 SELECT min(day) FROM objects WHERE stream = ?1
                 UNION ALL
                 SELECT (SELECT min(day) FROM objects WHERE stream = ?1 AND day > days.day) FROM days WHERE day IS NOT NULL)
             SELECT day FROM days WHERE day IS NOT NULL AND (day < ?2 OR day > ?3) LIMIT 10000",
        )
        .bind(id.0).bind(open.start().0).bind(open.end().0)
        .fetch_all(&self.pool).await
        .map_err(|e| failed("read the days", &stream.to_string(), &e))?;
        Ok(rows.iter().map(|row| Day(row.get("day"))).collect())
    }

    /// Records that a day's rows up to and including `through` are in a manifest now, and removes them, in one transaction.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn seal(
        &self,
        stream: &Stream,
        id: StreamId,
        sealed: &SealedDay,
        bytes: u64,
        through: &[u8],
    ) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            sqlx::query(
                "INSERT INTO sealed_days (stream, day, generations, first, objects, bytes, hash) VALUES (?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET generations = excluded.generations, first = excluded.first,
                     objects = excluded.objects, bytes = excluded.bytes, hash = excluded.hash",
            )
            .bind(id.0).bind(sealed.day.0).bind(sealed.generations.last).bind(sealed.generations.first)
            .bind(i64::try_from(sealed.objects).unwrap_or(i64::MAX)).bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .bind(&sealed.generations.hash[..])
            .execute(&mut *transaction).await?;
            sqlx::query("DELETE FROM objects WHERE stream = ? AND day = ? AND name <= ?")
                .bind(id.0)
                .bind(sealed.day.0)
                .bind(through)
                .execute(&mut *transaction)
                .await?;
            sqlx::query("UPDATE checkpoints SET last_sealed = ? WHERE id = ?")
                .bind(sealed.day.0)
                .bind(id.0)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await
        };
        write.await.map_err(|e| failed("seal a day", &stream.to_string(), &e))
    }

    /// The day of which a manifest was written last.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn last_sealed(&self, stream: &Stream, id: StreamId) -> Result<Option<SealedDay>, Error> {
        let row = sqlx::query(
            "SELECT * FROM sealed_days WHERE stream = ?1 AND day = coalesce(
                 (SELECT last_sealed FROM checkpoints WHERE id = ?1), (SELECT max(day) FROM sealed_days WHERE stream = ?1))",
        )
        .bind(id.0)
        .fetch_optional(&self.pool)
        .await
        .map_err(|e| failed("read the sealed days", &stream.to_string(), &e))?;
        row.map(|row| sealed_of(&row).ok_or_else(|| corrupt(stream, "a row of `sealed_days`"))).transpose()
    }

    /// Counts objects that are sealed already, as `rebuild` finds them.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn add_sealed(&self, stream: &Stream, id: StreamId, objects: u64, bytes: u64) -> Result<(), Error> {
        sqlx::query("UPDATE checkpoints SET objects = objects + ?, bytes = bytes + ? WHERE id = ?")
            .bind(i64::try_from(objects).unwrap_or(i64::MAX))
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .bind(id.0)
            .execute(&self.pool)
            .await
            .map_err(|e| failed("record the sealed days", &stream.to_string(), &e))?;
        Ok(())
    }

    /// The failures among the keys between `first` and `last`, both included.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn failures_between(
        &self,
        stream: &Stream,
        id: StreamId,
        first: &str,
        last: &str,
    ) -> Result<Vec<Failure>, Error> {
        let rows = sqlx::query("SELECT * FROM quarantine WHERE stream = ? AND key BETWEEN ? AND ? ORDER BY key")
            .bind(id.0)
            .bind(first)
            .bind(last)
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read the quarantine", &stream.to_string(), &e))?;
        Ok(rows.iter().map(failure_of).collect())
    }

    /// Failures that are to be tried again at `now`, and how many rows there are in all, quarantined or not.
    ///
    /// A time further ahead than any schedule allows was written under a wrong clock, and counts as due.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn failures_due(
        &self,
        stream: &Stream,
        id: StreamId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Failure>, Error> {
        let rows = sqlx::query(
            "SELECT * FROM quarantine WHERE stream = ?1 AND (next_try <= ?2 OR next_try > ?2 + 90000) ORDER BY next_try LIMIT ?3",
        )
        .bind(id.0).bind(now.as_second()).bind(limit)
        .fetch_all(&self.pool).await
        .map_err(|e| failed("read the quarantine", &stream.to_string(), &e))?;
        Ok(rows.iter().map(failure_of).collect())
    }

    /// The prefixes of a source's streams that have objects to be tried again at `now`.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn streams_to_retry(&self, source: &str, now: Timestamp) -> Result<Vec<String>, Error> {
        let rows = sqlx::query(
            "SELECT prefix FROM checkpoints WHERE source = ? AND id IN (SELECT stream FROM quarantine WHERE next_try <= ?)",
        )
        .bind(source)
        .bind(now.as_second())
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read the quarantine of", source, &e))?;
        Ok(rows.iter().map(|row| row.get("prefix")).collect())
    }

    /// How many objects of the stream are in their first tries, and how many in quarantine.
    ///
    /// Damaged copies that are fetched again were mirrored once: they hold up no listing.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn failures_count(&self, stream: &Stream, id: StreamId) -> Result<(u64, u64), Error> {
        let row = sqlx::query(
            "SELECT coalesce(sum(quarantined = 0 AND code NOT IN ('RottenCopy', 'LostCopy', 'RottenMetadata', 'LostMetadata')), 0)
                 AS failing, coalesce(sum(quarantined), 0) AS quarantined
             FROM quarantine WHERE stream = ?",
        )
        .bind(id.0)
        .fetch_one(&self.pool)
        .await
        .map_err(|e| failed("read the quarantine", &stream.to_string(), &e))?;
        Ok((unsigned(row.get("failing")), unsigned(row.get("quarantined"))))
    }
}

async fn insert_objects(
    connection: &mut SqliteConnection,
    stream: &Stream,
    id: StreamId,
    records: &[Record],
    replace: bool,
) -> sqlx::Result<(i64, i64)> {
    let (mut objects, mut bytes) = (0, 0);
    for chunk in records.chunks(ROWS_A_STATEMENT) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO objects (stream, day, name, size, modified, etag, sha256, inflated, flags) ",
        );
        insert.push_values(chunk, |mut row, record| {
            let (day, name) = stream.pack(&record.suffix);
            row.push_bind(id.0)
                .push_bind(day.0)
                .push_bind(name)
                .push_bind(i64::try_from(record.size).unwrap_or(i64::MAX))
                .push_bind(record.modified.as_second())
                .push_bind(pack_etag(&record.etag))
                .push_bind(record.sha256.to_vec())
                .push_bind(record.inflated.map(|hash| hash.to_vec()))
                .push_bind(flags(record));
        });
        insert.push(if replace {
            " ON CONFLICT DO UPDATE SET size = excluded.size, modified = excluded.modified, etag = excluded.etag,
              sha256 = excluded.sha256, inflated = excluded.inflated, flags = excluded.flags RETURNING size"
        } else {
            // An object that is there already was counted when it came.
            " ON CONFLICT DO NOTHING RETURNING size"
        });
        // Not kept prepared: every number of rows is a statement of its own, and a large one.
        for row in insert.build().persistent(false).fetch_all(&mut *connection).await? {
            objects += 1;
            bytes += row.get::<i64, _>("size");
        }
    }
    Ok((objects, bytes))
}

async fn upsert_failure(
    connection: &mut SqliteConnection,
    id: StreamId,
    failure: &Failure,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO quarantine (stream, key, size, etag, modified, first_failed, last_failed, attempts, quarantined, next_try, code, reason)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET size = excluded.size, etag = excluded.etag, modified = excluded.modified,
             last_failed = excluded.last_failed, attempts = excluded.attempts, quarantined = excluded.quarantined, next_try = excluded.next_try,
             code = excluded.code, reason = excluded.reason",
    )
    .bind(id.0).bind(&failure.key).bind(i64::try_from(failure.size).unwrap_or(i64::MAX)).bind(failure.etag.as_str())
    .bind(failure.modified.as_second()).bind(failure.first_failed.as_second()).bind(now.as_second())
    .bind(failure.attempts).bind(failure.quarantined).bind(failure.next_try.as_second())
    .bind(&failure.code).bind(&failure.reason)
    .execute(connection).await?;
    Ok(())
}

async fn upsert_alarm(
    connection: &mut SqliteConnection,
    source: &str,
    id: StreamId,
    alarm: &Alarm,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO alarms (source, stream, kind, subject, first_at, last_at, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)
         ON CONFLICT DO UPDATE SET last_at = excluded.last_at, detail = excluded.detail, cleared_at = NULL, count = count + 1",
    )
    .bind(source).bind(id.0).bind(alarm.kind).bind(&alarm.subject).bind(now.as_second()).bind(&alarm.detail)
    .execute(connection).await?;
    Ok(())
}

async fn save_progress(
    connection: &mut SqliteConnection,
    id: StreamId,
    progress: &Checkpoint,
    last_key: Option<String>,
    (objects, bytes): (i64, i64),
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE checkpoints SET memory = ?, sweep = ?, listed_through = ?, last_key = coalesce(?, last_key), last_stored_at = ?,
             newest_object = ?, objects = objects + ?, bytes = bytes + ?, list_requests = ?, get_requests = ? WHERE id = ?",
    )
    .bind(json(&progress.memory))
    .bind(progress.sweep.as_ref().map(json))
    .bind(progress.listed_through.map(Timestamp::as_second))
    .bind(last_key)
    .bind(progress.last_stored_at.map(Timestamp::as_second))
    .bind(progress.newest_object.map(Timestamp::as_second))
    .bind(objects).bind(bytes)
    .bind(json(&progress.lists))
    .bind(i64::try_from(progress.gets).unwrap_or(i64::MAX))
    .bind(id.0)
    .execute(connection).await?;
    Ok(())
}

/// Our own small types always serialize.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

fn checkpoint_of(row: &SqliteRow) -> Checkpoint {
    Checkpoint {
        memory: serde_json::from_str(row.get("memory")).unwrap_or_default(),
        sweep: row.get::<Option<&str>, _>("sweep").and_then(|text| serde_json::from_str(text).ok()),
        listed_through: time(row.get("listed_through")),
        last_stored_at: time(row.get("last_stored_at")),
        newest_object: time(row.get("newest_object")),
        lists: serde_json::from_str(row.get("list_requests")).unwrap_or_default(),
        gets: unsigned(row.get("get_requests")),
    }
}

fn record_of(stream: &Stream, row: &SqliteRow) -> Option<Record> {
    let flags: i64 = row.get("flags");
    Some(Record {
        suffix: stream.unpack(Day(row.get("day")), row.get("name"))?,
        size: unsigned(row.get("size")),
        modified: time(row.get("modified"))?,
        etag: unpack_etag(row.get("etag")),
        sha256: row.get::<&[u8], _>("sha256").try_into().ok()?,
        inflated: row.get::<Option<&[u8]>, _>("inflated").map(TryInto::try_into).transpose().ok()?,
        gone: flags & GONE != 0,
        later: flags & LATER != 0,
        deleted: flags & DELETED != 0,
    })
}

fn flags(record: &Record) -> i64 {
    i64::from(record.gone) * GONE + i64::from(record.later) * LATER + i64::from(record.deleted) * DELETED
}

fn sealed_of(row: &SqliteRow) -> Option<SealedDay> {
    Some(SealedDay {
        day: Day(row.get("day")),
        generations: Generations {
            first: row.get("first"),
            last: row.get("generations"),
            hash: row.get::<&[u8], _>("hash").try_into().ok()?,
        },
        objects: unsigned(row.get("objects")),
    })
}

fn failure_of(row: &SqliteRow) -> Failure {
    Failure {
        key: row.get("key"),
        size: unsigned(row.get("size")),
        etag: ETag::new(row.get("etag")),
        modified: time(row.get("modified")).unwrap_or_default(),
        first_failed: time(row.get("first_failed")).unwrap_or_default(),
        attempts: row.get("attempts"),
        quarantined: row.get("quarantined"),
        next_try: time(row.get("next_try")).unwrap_or_default(),
        code: row.get("code"),
        reason: row.get("reason"),
    }
}

/// A tag as 16 bytes where that loses nothing, else as its text with a byte before it that keeps the two apart.
fn pack_etag(etag: &ETag) -> Vec<u8> {
    match etag.as_md5() {
        Some(md5) if hex::encode(md5) == etag.as_str() => md5.to_vec(),
        // Sixteen bytes are an MD5: a text that would be as long gets one byte more, which no tag can hold.
        _ if etag.as_str().len() == 15 => [b"\"\0", etag.as_str().as_bytes()].concat(),
        _ => [b"\"", etag.as_str().as_bytes()].concat(),
    }
}

fn unpack_etag(bytes: &[u8]) -> ETag {
    match bytes.strip_prefix(b"\"") {
        Some(text) if bytes.len() != 16 => {
            ETag::new(&String::from_utf8_lossy(text.strip_prefix(b"\0").unwrap_or(text)))
        }
        _ => ETag::new(&hex::encode(bytes)),
    }
}

fn time(seconds: Option<i64>) -> Option<Timestamp> {
    seconds.and_then(|seconds| Timestamp::from_second(seconds).ok())
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn corrupt(stream: &Stream, what: &str) -> Error {
    let report = Report::new("read", stream.to_string(), format_args!("{what} cannot be read"));
    Error::of(Class::Fatal, report.mend("the database is damaged: restore a backup, or run `trailsync rebuild`"))
}

/// A database error: a full disk lets the stream rest, a disk that does not answer is waited for, anything else must stop
/// the program.
fn failed(operation: &'static str, subject: &str, error: &sqlx::Error) -> Error {
    if matches!(error, sqlx::Error::PoolTimedOut) {
        // The writer still waits for its disk; nothing of this was begun.
        let report = Report::new(operation, subject, error).code("StateBusy");
        return Error::of(Class::Transient, report.mend("the state directory's disk hardly answers: look at its load"));
    }
    let code = error.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned();
    let primary = code.parse::<u32>().unwrap_or(0) & 0xff;
    let report = Report::new(operation, subject, error).code(format!("SQLITE_{primary}"));
    match primary {
        13 => Error::of(Class::Stream, report.mend("free space in the state directory; trailsync goes on by itself")),
        5 | 6 => Error::of(Class::Transient, report.mend("another process holds the database: end it")),
        _ => Error::of(Class::Fatal, report.mend("check the state directory's disk, then start again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_stalls_ends_no_daemon() {
        let error = failed("commit", "a stream", &sqlx::Error::PoolTimedOut);
        assert_eq!(error.class(), Class::Transient);
        assert!(error.to_string().contains("hardly answers"), "{error}");
        assert_eq!(failed("commit", "a stream", &sqlx::Error::PoolClosed).class(), Class::Fatal);
    }

    #[tokio::test]
    async fn after_sqlite_ended_a_transaction_by_itself_the_next_one_begins_clean() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), false).await.unwrap().ledger;
        let kind = crate::layout::Kind::named("CloudTrail").unwrap();
        let stream = Stream::new("prod", "AWSLogs/", None, "222222222222", kind, "us-east-1");
        let (id, progress) = ledger.checkpoint(&stream).await.unwrap();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        // A full disk ends a transaction as this does: whole, and behind the driver's back.
        for statement in [
            "CREATE TRIGGER full BEFORE INSERT ON alarms BEGIN SELECT RAISE(ROLLBACK, 'disk full'); END",
            "DROP TRIGGER full",
        ] {
            sqlx::query(statement).execute(&ledger.pool).await.unwrap();
            let alarm = Alarm { kind: "conflict", subject: "key".into(), detail: "detail".into() };
            let commit = Commit { alarms: vec![alarm], ..Commit::default() };
            let committed = ledger.commit(&stream, id, &commit, &progress, now).await;
            assert_eq!(committed.is_ok(), statement.starts_with("DROP"), "{committed:?}");
            let said = committed.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!said.contains(" of of "), "{said}");
        }
        assert_eq!(ledger.alarms(9).await.unwrap().len(), 1);
    }

    #[test]
    fn tags_of_every_length_survive_packing() {
        for length in 0..40 {
            for text in ["a".repeat(length), "0".repeat(length), "\u{22}".repeat(length.min(1)) + &"b".repeat(length)] {
                let etag = ETag::new(&text);
                assert_eq!(unpack_etag(&pack_etag(&etag)), etag, "{text}");
            }
        }
    }
}
