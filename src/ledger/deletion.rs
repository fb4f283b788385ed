//! The part of the state that holds what was deleted at the source: intents, outcomes, and where a round stands.

use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{Alarm, Ledger, StreamId, failed, insert_objects, record_of, time, unsigned, upsert_alarm};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::layout::Stream;
use crate::record::Record;

/// Kind of alarm: something could not be deleted at the source.
pub const DELETION: &str = "deletion";

/// What became of one version that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// We deleted it.
    Deleted,
    /// It was gone before we asked.
    Absent,
    /// Another version stood there: it stays.
    Changed,
    /// It was refused, or never carried out: it stays.
    Kept,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Deleted, Self::Absent, Self::Changed, Self::Kept];

    fn word(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Absent => "absent",
            Self::Changed => "changed",
            Self::Kept => "kept",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// The audit row of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionRow {
    /// Its key without the stream's prefix.
    pub suffix: String,
    /// When the source stored it.
    pub modified: Timestamp,
    /// The digest that vouched for it.
    pub proof: Option<String>,
    /// When the request was about to be sent, last.
    pub intended: Timestamp,
    /// An earlier request may have been carried out.
    pub unsure: bool,
    /// `None`: not known.
    pub outcome: Option<Outcome>,
    /// The delete marker's version, or what the service said.
    pub detail: Option<String>,
}

impl DeletionRow {
    /// That the object is gone is, or may be, our doing.
    pub fn may_be_ours(&self) -> bool {
        matches!(self.outcome, None | Some(Outcome::Deleted))
    }
}

/// What is about to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The object as it is recorded.
    pub record: Record,
    /// The digest that vouches for it.
    pub proof: Option<String>,
    /// It was asked for before, and it is not known what became of that.
    pub is_again: bool,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The object as it was recorded.
    pub record: Record,
    /// What became of it.
    pub outcome: Outcome,
    /// The delete marker's version, or what the service said.
    pub detail: Option<String>,
}

impl Intent {
    /// It turned out to be gone before it was asked for.
    pub fn absent(&self) -> Ended {
        Ended { record: self.record.clone(), outcome: Outcome::Absent, detail: None }
    }
}

/// What one transaction records of a batch.
#[derive(Debug, Default)]
pub struct DeletionCommit {
    /// Requests whose outcome is known.
    pub ended: Vec<Ended>,
    /// Objects whose requests were never sent.
    pub unsent: Vec<Record>,
    /// What to alarm.
    pub raised: Vec<Alarm>,
}

impl DeletionCommit {
    /// There is nothing to record.
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.unsent.is_empty() && self.raised.is_empty()
    }
}

/// How far the deletion of a source is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PruneRow {
    /// Name of the source.
    pub source: String,
    /// When the round under way began; `None` while it rests.
    pub began: Option<Timestamp>,
    /// The stream in which it stands.
    #[serde(skip)]
    pub prefix: String,
    /// The last key of it that was decided on.
    #[serde(skip)]
    pub suffix: String,
    /// Requests of this round.
    pub sent: u64,
    /// When the last round began,
    pub last_began: Option<Timestamp>,
    /// and ended.
    pub last_ended: Option<Timestamp>,
    /// Its requests.
    pub last_sent: u64,
    /// Objects that were deleted at the source, in all.
    pub deleted: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When one was, last.
    pub last_deleted: Option<Timestamp>,
}

impl Ledger {
    /// What is known of the deletion of the version of `record`; `None` when it was never to be deleted.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn deletion(&self, stream: &Stream, id: StreamId, record: &Record) -> Result<Option<DeletionRow>, Error> {
        let (day, name) = stream.pack(&record.suffix);
        let row = sqlx::query("SELECT * FROM deletions WHERE stream = ? AND day = ? AND name = ? AND modified = ?")
            .bind(id.0)
            .bind(day.0)
            .bind(name)
            .bind(record.modified.as_second())
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read the deletions of", &stream.to_string(), &e))?;
        Ok(row.and_then(|row| deletion_of(stream, &row)))
    }

    /// Versions of a stream's objects whose deletion was asked for, and of which it is not known what became.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn open_deletions(&self, stream: &Stream, id: StreamId, limit: u32) -> Result<Vec<DeletionRow>, Error> {
        let rows =
            sqlx::query("SELECT * FROM deletions WHERE stream = ? AND outcome IS NULL ORDER BY day, name LIMIT ?")
                .bind(id.0)
                .bind(limit)
                .fetch_all(&self.pool)
                .await
                .map_err(|e| failed("read the deletions of", &stream.to_string(), &e))?;
        Ok(rows.iter().filter_map(|row| deletion_of(stream, row)).collect())
    }

    /// Records what is about to be deleted, and that it counts for the round, durably: only after this may it be asked
    /// for.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn intend(
        &self,
        stream: &Stream,
        id: StreamId,
        intents: &[Intent],
        row: &PruneRow,
        now: Timestamp,
    ) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            for intent in intents {
                save_intent(&mut transaction, stream, id, intent, now).await?;
            }
            save_row(&mut transaction, row).await?;
            transaction.commit().await
        };
        write.await.map_err(|e| failed("record what is to be deleted of", &stream.to_string(), &e))
    }

    /// Records how a batch ended, and where the round stands, in one transaction. What was deleted is gone in its record.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn deletions_ended(
        &self,
        stream: &Stream,
        id: StreamId,
        commit: &DeletionCommit,
        row: &PruneRow,
        now: Timestamp,
    ) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            for ended in &commit.ended {
                save_outcome(&mut transaction, stream, id, ended, now).await?;
                if ended.outcome == Outcome::Deleted {
                    mark_gone(&mut transaction, stream, id, &ended.record).await?;
                    end_alarm(&mut transaction, stream, id, &ended.record, now).await?;
                }
            }
            for record in &commit.unsent {
                take_back(&mut transaction, stream, id, record).await?;
            }
            for alarm in &commit.raised {
                upsert_alarm(&mut transaction, &stream.source, id, alarm, now).await?;
            }
            save_row(&mut transaction, row).await?;
            transaction.commit().await
        };
        write.await.map_err(|e| failed("record what was deleted of", &stream.to_string(), &e))
    }

    /// How far the deletion of a source is.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn prune(&self, source: &str) -> Result<PruneRow, Error> {
        let row = self.prunes().await?.into_iter().find(|row| row.source == source);
        Ok(row.unwrap_or_else(|| PruneRow { source: source.to_owned(), ..PruneRow::default() }))
    }

    /// How far every deletion is, by source.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn prunes(&self) -> Result<Vec<PruneRow>, Error> {
        let rows = sqlx::query("SELECT * FROM prunes ORDER BY source")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read", "prunes", &e))?;
        Ok(rows.iter().map(prune_of).collect())
    }

    /// Records where a round stands.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn save_prune(&self, row: &PruneRow) -> Result<(), Error> {
        let write = async {
            let mut connection = self.pool.acquire().await?;
            save_row(&mut connection, row).await
        };
        write.await.map_err(|e| failed("record the round of", &row.source, &e))
    }

    /// Kinds of the alarms of a stream that are on and are about this object.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn alarms_about(&self, source: &str, id: StreamId, key: &str) -> Result<Vec<String>, Error> {
        // Steps from kind to kind through the key: a stream may have a million alarms.
        let rows = sqlx::query(
            "WITH RECURSIVE kinds(kind) AS (
                 SELECT min(kind) FROM alarms WHERE source = ?1 AND stream = ?2
                 UNION ALL
                 SELECT (SELECT min(kind) FROM alarms WHERE source = ?1 AND stream = ?2 AND kind > kinds.kind)
                 FROM kinds WHERE kind IS NOT NULL)
             SELECT kind FROM kinds WHERE kind IS NOT NULL AND EXISTS (
                 SELECT 1 FROM alarms WHERE source = ?1 AND stream = ?2 AND alarms.kind = kinds.kind
                     AND subject = ?3 AND cleared_at IS NULL)",
        )
        .bind(source)
        .bind(id.0)
        .bind(key)
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read", "alarms", &e))?;
        Ok(rows.iter().map(|row| row.get("kind")).collect())
    }

    /// Whether a digest waits to be judged, or was refused.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn is_unjudged(&self, chain: i64, suffix: &str) -> Result<bool, Error> {
        let row = sqlx::query("SELECT 1 FROM digests WHERE chain = ? AND suffix = ? LIMIT 1")
            .bind(chain)
            .bind(suffix)
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read", "digests", &e))?;
        Ok(row.is_some())
    }
}

/// A row whose outcome is not known stays what it is, a request that may have been carried out.
async fn save_intent(
    connection: &mut SqliteConnection,
    stream: &Stream,
    id: StreamId,
    intent: &Intent,
    now: Timestamp,
) -> sqlx::Result<()> {
    let (day, name) = stream.pack(&intent.record.suffix);
    sqlx::query(
        "INSERT INTO deletions (stream, day, name, modified, etag, size, sha256, proof, intended)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET unsure = max(unsure, outcome IS NULL), outcome = NULL, ended = NULL, detail = NULL,
             etag = excluded.etag, size = excluded.size, sha256 = excluded.sha256, proof = excluded.proof,
             intended = excluded.intended",
    )
    .bind(id.0)
    .bind(day.0)
    .bind(name)
    .bind(intent.record.modified.as_second())
    .bind(intent.record.etag.as_str())
    .bind(i64::try_from(intent.record.size).unwrap_or(i64::MAX))
    .bind(&intent.record.sha256[..])
    .bind(&intent.proof)
    .bind(now.as_second())
    .execute(connection)
    .await?;
    Ok(())
}

async fn save_outcome(
    connection: &mut SqliteConnection,
    stream: &Stream,
    id: StreamId,
    ended: &Ended,
    now: Timestamp,
) -> sqlx::Result<()> {
    let (day, name) = stream.pack(&ended.record.suffix);
    sqlx::query(
        "UPDATE deletions SET outcome = ?, ended = ?, detail = ?
         WHERE stream = ? AND day = ? AND name = ? AND modified = ?",
    )
    .bind(ended.outcome.word())
    .bind(now.as_second())
    .bind(&ended.detail)
    .bind(id.0)
    .bind(day.0)
    .bind(name)
    .bind(ended.record.modified.as_second())
    .execute(connection)
    .await?;
    Ok(())
}

/// The mirror may have recorded another version meanwhile: that one is not gone.
async fn mark_gone(
    connection: &mut SqliteConnection,
    stream: &Stream,
    id: StreamId,
    record: &Record,
) -> sqlx::Result<()> {
    let (day, name) = stream.pack(&record.suffix);
    let row = sqlx::query("SELECT * FROM objects WHERE stream = ? AND day = ? AND name = ?")
        .bind(id.0)
        .bind(day.0)
        .bind(name)
        .fetch_optional(&mut *connection)
        .await?;
    let is_other = |now: Record| now.modified != record.modified || now.etag != record.etag;
    if row.and_then(|row| record_of(stream, &row)).is_some_and(is_other) {
        return Ok(());
    }
    insert_objects(connection, stream, id, &[Record { gone: true, deleted: true, ..record.clone() }], true).await?;
    Ok(())
}

/// An earlier try may have found another version in its place.
async fn end_alarm(
    connection: &mut SqliteConnection,
    stream: &Stream,
    id: StreamId,
    record: &Record,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE alarms SET cleared_at = ? WHERE source = ? AND stream = ? AND kind = ? AND subject = ?
             AND cleared_at IS NULL",
    )
    .bind(now.as_second())
    .bind(&stream.source)
    .bind(id.0)
    .bind(DELETION)
    .bind(format!("{}{}", stream.prefix, record.suffix))
    .execute(connection)
    .await?;
    Ok(())
}

/// Nothing was asked for, now or before: then there is nothing to remember.
async fn take_back(
    connection: &mut SqliteConnection,
    stream: &Stream,
    id: StreamId,
    record: &Record,
) -> sqlx::Result<()> {
    let (day, name) = stream.pack(&record.suffix);
    sqlx::query(
        "DELETE FROM deletions WHERE stream = ? AND day = ? AND name = ? AND modified = ?
             AND outcome IS NULL AND unsure = 0",
    )
    .bind(id.0)
    .bind(day.0)
    .bind(name)
    .bind(record.modified.as_second())
    .execute(connection)
    .await?;
    Ok(())
}

async fn save_row(connection: &mut SqliteConnection, row: &PruneRow) -> sqlx::Result<()> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT OR REPLACE INTO prunes (source, began, prefix, suffix, sent, last_began, last_ended, last_sent,
             deleted, bytes, last_deleted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&row.source)
    .bind(row.began.map(Timestamp::as_second))
    .bind(&row.prefix)
    .bind(&row.suffix)
    .bind(count(row.sent))
    .bind(row.last_began.map(Timestamp::as_second))
    .bind(row.last_ended.map(Timestamp::as_second))
    .bind(count(row.last_sent))
    .bind(count(row.deleted))
    .bind(count(row.bytes))
    .bind(row.last_deleted.map(Timestamp::as_second))
    .execute(connection)
    .await?;
    Ok(())
}

fn deletion_of(stream: &Stream, row: &SqliteRow) -> Option<DeletionRow> {
    Some(DeletionRow {
        suffix: stream.unpack(crate::layout::Day(row.get("day")), row.get("name"))?,
        modified: time(row.get("modified"))?,
        proof: row.get("proof"),
        intended: time(row.get("intended"))?,
        unsure: row.get("unsure"),
        outcome: row.get::<Option<&str>, _>("outcome").and_then(Outcome::of_word),
        detail: row.get("detail"),
    })
}

fn prune_of(row: &SqliteRow) -> PruneRow {
    PruneRow {
        source: row.get("source"),
        began: time(row.get("began")),
        prefix: row.get("prefix"),
        suffix: row.get("suffix"),
        sent: unsigned(row.get("sent")),
        last_began: time(row.get("last_began")),
        last_ended: time(row.get("last_ended")),
        last_sent: unsigned(row.get("last_sent")),
        deleted: unsigned(row.get("deleted")),
        bytes: unsigned(row.get("bytes")),
        last_deleted: time(row.get("last_deleted")),
    }
}
