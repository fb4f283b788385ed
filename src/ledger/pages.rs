//! Alarms and quarantine, a page at a time: for whoever looks through all of them.

use sqlx::Row;

use super::report::{alarm_row, quarantine_row};
use super::{AlarmRow, Ledger, QuarantineRow, failed, time};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::status::UNKNOWN_FOLDER;

/// An alarm that may be over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedAlarm {
    /// The alarm.
    pub alarm: AlarmRow,
    /// When its cause was gone; `None` while it stands.
    pub ended: Option<Timestamp>,
}

impl Ledger {
    /// A page of the alarms that stand, or of those that are over: newest first; folders that are not mirrored last.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn alarm_page(&self, standing: bool, limit: u32, offset: u32) -> Result<Vec<EndedAlarm>, Error> {
        let rows = sqlx::query(
            "SELECT * FROM alarms WHERE (cleared_at IS NULL) = ?1
             ORDER BY kind = ?2, coalesce(cleared_at, last_at) DESC, subject LIMIT ?3 OFFSET ?4",
        )
        .bind(standing)
        .bind(UNKNOWN_FOLDER)
        .bind(limit)
        .bind(offset)
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read", "alarms", &e))?;
        Ok(rows.iter().map(|row| EndedAlarm { alarm: alarm_row(row), ended: time(row.get("cleared_at")) }).collect())
    }

    /// A page of the objects that could not be mirrored, oldest first.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn quarantine_page(&self, limit: u32, offset: u32) -> Result<Vec<QuarantineRow>, Error> {
        let rows = sqlx::query(
            "SELECT quarantine.*, checkpoints.source FROM quarantine JOIN checkpoints ON checkpoints.id = quarantine.stream
             ORDER BY first_failed, key LIMIT ? OFFSET ?",
        )
        .bind(limit)
        .bind(offset)
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read", "quarantine", &e))?;
        Ok(rows.iter().map(quarantine_row).collect())
    }
}
