//! The part of the state that holds the scrub: where it stands, and what it found.

use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{
    Alarm, Failure, Ledger, StreamId, failed, proof::has_failed, time, unsigned, upsert_alarm, upsert_failure,
};
use crate::clock::Timestamp;
use crate::error::Error;

/// How far the scrub of a source is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ScrubRow {
    /// Name of the source.
    pub source: String,
    /// When the round under way began; `None` while it rests.
    pub began: Option<Timestamp>,
    /// The stream in which it stands.
    pub prefix: String,
    /// Manifests of that stream's days up to this one were compared; -1: none.
    #[serde(skip)]
    pub day: i32,
    /// The last key of it that was read again; `None`: its manifests come first.
    #[serde(skip)]
    pub suffix: Option<String>,
    /// Objects that were read again in this round.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was rotten or lost among them.
    pub findings: u64,
    /// When the last complete round began,
    pub last_began: Option<Timestamp>,
    /// and ended.
    pub last_ended: Option<Timestamp>,
    /// Its objects.
    pub last_objects: u64,
    /// Its findings.
    pub last_findings: u64,
    /// Findings of any round that are not mended.
    pub unmended: u64,
}

/// What one transaction of the scrub records.
#[derive(Debug, Default)]
pub struct ScrubCommit {
    /// What to alarm.
    pub raised: Vec<(StreamId, Alarm)>,
    /// Objects that are due to be fetched again.
    pub fetch: Vec<(StreamId, Failure)>,
    /// Subjects of alarms whose cause is mended, and what was done.
    pub mended: Vec<(StreamId, String, String)>,
}

impl Ledger {
    /// How far the scrub of a source is.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn scrub(&self, source: &str) -> Result<ScrubRow, Error> {
        let row = self.scrubs().await?.into_iter().find(|row| row.source == source);
        Ok(row.unwrap_or_else(|| ScrubRow { source: source.to_owned(), day: -1, ..ScrubRow::default() }))
    }

    /// How far every scrub is, by source.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn scrubs(&self) -> Result<Vec<ScrubRow>, Error> {
        let rows = sqlx::query(
            "SELECT *, (SELECT count(*) FROM alarms WHERE alarms.source = scrubs.source AND cleared_at IS NULL
                 AND kind IN ('rotten', 'lost')) AS unmended FROM scrubs ORDER BY source",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read", "scrubs", &e))?;
        Ok(rows.iter().map(scrub_of).collect())
    }

    /// Records what was found, and where the scrub stands, in one transaction.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn save_scrub(&self, row: &ScrubRow, commit: &ScrubCommit, now: Timestamp) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            save_row(&mut transaction, row).await?;
            for (stream, alarm) in &commit.raised {
                upsert_alarm(&mut transaction, &row.source, *stream, alarm, now).await?;
            }
            for (stream, failure) in &commit.fetch {
                if !has_failed(&mut transaction, *stream, &failure.key).await? {
                    upsert_failure(&mut transaction, *stream, failure, now).await?;
                }
            }
            for (stream, subject, detail) in &commit.mended {
                clear_mended(&mut transaction, &row.source, *stream, subject, detail, now).await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| failed("record the scrub of", &row.source, &e))
    }
}

/// Clears the alarms of a copy that is whole again; what was done stays in their history.
pub(super) async fn clear_mended(
    connection: &mut SqliteConnection,
    source: &str,
    id: StreamId,
    subject: &str,
    detail: &str,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE alarms SET cleared_at = ?, detail = detail || '; ' || ? WHERE source = ? AND stream = ?
             AND kind IN ('rotten', 'lost') AND subject = ? AND cleared_at IS NULL",
    )
    .bind(now.as_second())
    .bind(detail)
    .bind(source)
    .bind(id.0)
    .bind(subject)
    .execute(connection)
    .await?;
    Ok(())
}

async fn save_row(connection: &mut SqliteConnection, row: &ScrubRow) -> sqlx::Result<()> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT OR REPLACE INTO scrubs (source, began, prefix, day, suffix, objects, bytes, findings,
             last_began, last_ended, last_objects, last_findings) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&row.source)
    .bind(row.began.map(Timestamp::as_second))
    .bind(&row.prefix)
    .bind(row.day)
    .bind(&row.suffix)
    .bind(count(row.objects))
    .bind(count(row.bytes))
    .bind(count(row.findings))
    .bind(row.last_began.map(Timestamp::as_second))
    .bind(row.last_ended.map(Timestamp::as_second))
    .bind(count(row.last_objects))
    .bind(count(row.last_findings))
    .execute(connection)
    .await?;
    Ok(())
}

fn scrub_of(row: &SqliteRow) -> ScrubRow {
    ScrubRow {
        source: row.get("source"),
        began: time(row.get("began")),
        prefix: row.get("prefix"),
        day: row.get("day"),
        suffix: row.get("suffix"),
        objects: unsigned(row.get("objects")),
        bytes: unsigned(row.get("bytes")),
        findings: unsigned(row.get("findings")),
        last_began: time(row.get("last_began")),
        last_ended: time(row.get("last_ended")),
        last_objects: unsigned(row.get("last_objects")),
        last_findings: unsigned(row.get("last_findings")),
        unmended: unsigned(row.get("unmended")),
    }
}
