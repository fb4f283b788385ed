//! Where the copies of a source are, and whether they can be reached.

use sqlx::Row;

use super::{Alarm, Ledger, failed};
use crate::clock::Timestamp;
use crate::error::Error;

/// The kind of the alarm that stands while a destination cannot be used.
const ALARM: &str = "destination";

impl Ledger {
    /// The id of the destination that holds a source's copies; `None` when there never was one.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn destination_id(&self, source: &str) -> Result<Option<String>, Error> {
        let row = sqlx::query("SELECT id FROM destinations WHERE source = ?")
            .bind(source)
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read the destination", source, &e))?;
        Ok(row.map(|row| row.get("id")))
    }

    /// Remembers the destination that holds a source's copies.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn save_destination_id(&self, source: &str, id: &str) -> Result<(), Error> {
        sqlx::query("INSERT OR REPLACE INTO destinations (source, id) VALUES (?, ?)")
            .bind(source)
            .bind(id)
            .execute(&self.pool)
            .await
            .map_err(|e| failed("record the destination", source, &e))?;
        Ok(())
    }

    /// Whether any object of a source is recorded.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn has_objects(&self, source: &str) -> Result<bool, Error> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM checkpoints WHERE source = ? AND objects > 0) AS found")
            .bind(source)
            .fetch_one(&self.pool)
            .await
            .map_err(|e| failed("read the objects", source, &e))?;
        Ok(row.get("found"))
    }

    /// Records that nothing of a source can be mirrored now: as an alarm, and as the error of each of its streams.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn source_failed(&self, source: &str, error: &Error, now: Timestamp) -> Result<(), Error> {
        self.alarm(source, &Alarm { kind: ALARM, subject: String::new(), detail: error.to_string() }, now).await?;
        sqlx::query(
            "UPDATE checkpoints SET error = ?1, error_code = ?2, failing_since = coalesce(failing_since, ?3)
             WHERE source = ?4",
        )
        .bind(error.to_string())
        .bind(error.code())
        .bind(now.as_second())
        .bind(source)
        .execute(&self.pool)
        .await
        .map_err(|e| failed("record the trouble", source, &e))?;
        Ok(())
    }

    /// Clears that alarm; the streams clear their errors as they are mirrored.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn source_ready(&self, source: &str, now: Timestamp) -> Result<(), Error> {
        self.clear_alarm(source, ALARM, "", now).await
    }
}
