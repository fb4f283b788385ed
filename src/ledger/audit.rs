//! The part of the state that says which days of logs were compared with what digests name.

use sqlx::{Row, SqliteConnection};

use super::proof::save_alarms;
use super::{Ledger, ProofCommit, StreamId, failed, time};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::layout::{Day, Stream};
use crate::record::Record;

/// What one comparison records.
#[derive(Debug, Default)]
pub struct AuditCommit {
    /// The streams that were compared up to a day,
    pub audited: Vec<StreamId>,
    /// this one.
    pub day: Day,
    /// Logs whose turn comes once the proof is past their delivery.
    pub late: Vec<(StreamId, String, Timestamp)>,
    /// Late logs that were compared.
    pub done: Vec<(StreamId, String)>,
    /// What to alarm.
    pub alarms: ProofCommit,
}

impl Ledger {
    /// The last day of a stream that was compared.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn audited(&self, id: StreamId) -> Result<Option<Day>, Error> {
        let read = async {
            let mut connection = self.pool.acquire().await?;
            audited(&mut connection, id).await
        };
        read.await.map_err(|e| failed("read", "proofs", &e))
    }

    /// Logs of compared days that came later, delivered before a time.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn late_logs(
        &self,
        id: StreamId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(String, Timestamp)>, Error> {
        let rows = sqlx::query("SELECT * FROM late_logs WHERE stream = ? AND modified < ? ORDER BY suffix LIMIT ?")
            .bind(id.0)
            .bind(before.as_second())
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read", "late_logs", &e))?;
        Ok(rows.iter().map(|row| (row.get("suffix"), time(row.get("modified")).unwrap_or_default())).collect())
    }

    /// Records a comparison in one transaction.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn save_audit(&self, source: &str, audit: &AuditCommit, now: Timestamp) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            for id in &audit.audited {
                sqlx::query(
                    "INSERT INTO proofs (stream, audited) VALUES (?, ?) ON CONFLICT DO UPDATE SET audited = excluded.audited",
                )
                .bind(id.0)
                .bind(audit.day.0)
                .execute(&mut *transaction)
                .await?;
            }
            for (id, suffix, modified) in &audit.late {
                insert_late(&mut transaction, *id, suffix, *modified).await?;
            }
            for (id, suffix) in &audit.done {
                sqlx::query("DELETE FROM late_logs WHERE stream = ? AND suffix = ?")
                    .bind(id.0)
                    .bind(suffix)
                    .execute(&mut *transaction)
                    .await?;
            }
            save_alarms(&mut transaction, source, &audit.alarms, now).await?;
            transaction.commit().await
        };
        write.await.map_err(|e| failed("record the comparison of", source, &e))
    }
}

/// Queues logs that come after their day was compared, in the transaction that records them.
pub(super) async fn queue_late(
    connection: &mut SqliteConnection,
    stream: &Stream,
    id: StreamId,
    records: &[Record],
) -> sqlx::Result<()> {
    let Some(audited) = audited(connection, id).await? else { return Ok(()) };
    for record in records {
        if stream.pack(&record.suffix).0 <= audited {
            insert_late(connection, id, &record.suffix, record.modified).await?;
        }
    }
    Ok(())
}

async fn insert_late(
    connection: &mut SqliteConnection,
    id: StreamId,
    suffix: &str,
    modified: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO late_logs (stream, suffix, modified) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(id.0)
        .bind(suffix)
        .bind(modified.as_second())
        .execute(connection)
        .await?;
    Ok(())
}

async fn audited(connection: &mut SqliteConnection, id: StreamId) -> sqlx::Result<Option<Day>> {
    let row = sqlx::query("SELECT audited FROM proofs WHERE stream = ?").bind(id.0).fetch_optional(connection).await?;
    Ok(row.and_then(|row| row.get::<Option<i32>, _>("audited")).map(Day))
}
