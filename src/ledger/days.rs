//! What the state says of each day of a stream: for the calendar.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Ledger, NAMED_BY_DIGEST, StreamId, failed, time, unsigned};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::layout::Day;

/// What an object is marked with that a digest names and that is not here.
const MISSING: &str = "missing";
/// What an object is marked with that could not be mirrored.
const NOT_MIRRORED: &str = "not mirrored";

/// Something is wrong with objects of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Which day.
    pub day: Day,
    /// The kind of alarm; `missing` and `not mirrored` for what waits to be tried again.
    pub kind: String,
    /// With so many.
    pub count: u64,
}

/// What is wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of alarm; `missing` and `not mirrored` for what waits to be tried again.
    pub kind: String,
    /// Its key without the stream's prefix, and whatever else the alarm's subject says.
    pub suffix: String,
    /// In a sentence.
    pub detail: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

impl Ledger {
    /// What is wrong with objects of one day of a stream, at most `limit` of each sort, in key order.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn faults(
        &self,
        source: &str,
        id: StreamId,
        prefix: &str,
        day: Day,
        limit: u32,
    ) -> Result<Vec<Fault>, Error> {
        let folder = format!("{prefix}{}", day.folder());
        let rows = sqlx::query(
            "SELECT * FROM (SELECT kind, substr(subject, length(?3) + 1) AS suffix, detail, first_at AS since FROM alarms
                 WHERE source = ?1 AND stream = ?2 AND cleared_at IS NULL AND substr(subject, 1, length(?4)) = ?4
                 ORDER BY subject, kind LIMIT ?5)
             UNION ALL
             SELECT * FROM (SELECT CASE code WHEN ?6 THEN ?7 ELSE ?8 END, substr(key, length(?3) + 1), reason, first_failed
                 FROM quarantine WHERE stream = ?2 AND substr(key, 1, length(?4)) = ?4 ORDER BY key LIMIT ?5)",
        )
        .bind(source)
        .bind(id.0)
        .bind(prefix)
        .bind(&folder)
        .bind(limit)
        .bind(NAMED_BY_DIGEST)
        .bind(MISSING)
        .bind(NOT_MIRRORED)
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read the alarms of", &folder, &e))?;
        let fault = |row: &SqliteRow| Fault {
            kind: row.get("kind"),
            suffix: row.get("suffix"),
            detail: row.get("detail"),
            since: time(row.get("since")),
        };
        Ok(rows.iter().map(fault).collect())
    }

    /// How many objects each day of a stream holds, from a day on.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn objects_by_day(&self, id: StreamId, from: Day) -> Result<Vec<(Day, u64)>, Error> {
        let rows = sqlx::query(
            "SELECT day, sum(objects) AS objects FROM (
                 SELECT day, objects FROM sealed_days WHERE stream = ?1 AND day >= ?2
                 UNION ALL SELECT day, count(*) FROM objects WHERE stream = ?1 AND day >= ?2 GROUP BY day
             ) GROUP BY day ORDER BY day",
        )
        .bind(id.0)
        .bind(from.0)
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read the days of", &id.0.to_string(), &e))?;
        Ok(rows.iter().map(|row| (Day(row.get("day")), unsigned(row.get("objects")))).collect())
    }

    /// The first day of which a stream holds anything.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn first_day(&self, id: StreamId) -> Result<Option<Day>, Error> {
        let row = sqlx::query(
            "SELECT min(day) AS day FROM (
                 SELECT min(day) AS day FROM sealed_days WHERE stream = ?1 AND day > 0
                 UNION ALL SELECT min(day) FROM objects WHERE stream = ?1 AND day > 0)",
        )
        .bind(id.0)
        .fetch_one(&self.pool)
        .await
        .map_err(|e| failed("read the days of", &id.0.to_string(), &e))?;
        Ok(row.get::<Option<i32>, _>("day").map(Day))
    }

    /// What is wrong with objects of a stream, by day; keys without a day are left out.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn marks(&self, source: &str, id: StreamId, prefix: &str) -> Result<Vec<Mark>, Error> {
        let rows = sqlx::query(
            "SELECT kind, substr(subject, length(?3) + 1, 11) AS folder, count(*) AS objects FROM alarms
                 WHERE source = ?1 AND stream = ?2 AND cleared_at IS NULL GROUP BY 1, 2
             UNION ALL
             SELECT CASE code WHEN ?4 THEN ?5 ELSE ?6 END, substr(key, length(?3) + 1, 11), count(*) FROM quarantine
                 WHERE stream = ?2 GROUP BY 1, 2",
        )
        .bind(source)
        .bind(id.0)
        .bind(prefix)
        .bind(NAMED_BY_DIGEST)
        .bind(MISSING)
        .bind(NOT_MIRRORED)
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read the alarms of", prefix, &e))?;
        let mark = |row: &SqliteRow| {
            let day = Day::of(row.get("folder"))?;
            Some(Mark { day, kind: row.get("kind"), count: unsigned(row.get("objects")) })
        };
        Ok(rows.iter().filter_map(mark).collect())
    }
}
