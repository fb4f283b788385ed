//! What the state says to people: rows for `status`, alarms, quarantine, role sessions.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Alarm, Ledger, StreamId, failed, time, unsigned, upsert_alarm};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::status::{Rows, UNKNOWN_FOLDER};

/// Alarms that are shown; more would hide what is wrong rather than tell it.
const ALARMS: u32 = 200;

/// A stream's progress as `status` reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointRow {
    /// Number of the stream.
    pub id: StreamId,
    /// Name of the source.
    pub source: String,
    /// Key prefix.
    pub prefix: String,
    /// `o-…`
    pub organization: Option<String>,
    /// 12 digits.
    pub account: String,
    /// Folder of the kind.
    pub kind: String,
    /// Region.
    pub region: String,
    /// Every object that was delivered before has an outcome.
    pub listed_through: Option<Timestamp>,
    /// The object that was stored last.
    pub last_key: Option<String>,
    /// When it was stored.
    pub last_stored_at: Option<Timestamp>,
    /// The latest time in the name of a stored object.
    pub newest_object: Option<Timestamp>,
    /// Objects stored.
    pub objects: u64,
    /// Bytes stored.
    pub bytes: u64,
    /// LIST requests by tier.
    pub lists: BTreeMap<String, u64>,
    /// GET requests.
    pub gets: u64,
    /// When it is polled next.
    pub next_poll: Option<Timestamp>,
    /// Why the last pass ended, while none has succeeded since.
    pub error: Option<String>,
    /// The code of that error.
    pub error_code: Option<String>,
    /// Since when passes fail.
    pub failing_since: Option<Timestamp>,
    /// The scope of the deep listing that is under way.
    pub sweep: Option<String>,
    /// Objects in their first tries.
    pub failing: u64,
    /// Objects in quarantine.
    pub quarantined: u64,
    /// When the source stored the oldest object that is not mirrored.
    pub oldest_missing: Option<Timestamp>,
}

/// An object in quarantine, or on its way there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuarantineRow {
    /// Name of the source.
    pub source: String,
    /// The whole key.
    pub key: String,
    /// Tries so far.
    pub attempts: u32,
    /// Past its first tries.
    pub quarantined: bool,
    /// First failure.
    pub first_failed: Option<Timestamp>,
    /// Next try.
    pub next_try: Option<Timestamp>,
    /// The service's code.
    pub code: String,
    /// Why, and what would mend it.
    pub reason: String,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlarmRow {
    /// Name of the source.
    pub source: String,
    /// What kind.
    pub kind: String,
    /// A key, or empty.
    pub subject: String,
    /// When it was seen first.
    pub first_at: Option<Timestamp>,
    /// When it was seen last.
    pub last_at: Option<Timestamp>,
    /// How often.
    pub count: u64,
    /// One sentence.
    pub detail: String,
}

/// Alarms of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlarmCount {
    /// Name of the source.
    pub source: String,
    /// What kind.
    pub kind: String,
    /// How many were not cleared.
    pub count: u64,
}

/// A role session: times and errors, no secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SessionRow {
    /// Name of the source.
    pub source: String,
    /// The role; `None` when the bucket policy grants us directly.
    pub role_arn: Option<String>,
    /// The session's name.
    pub session_name: Option<String>,
    /// Who assumes it.
    pub caller_arn: Option<String>,
    /// When the present session began.
    pub obtained: Option<Timestamp>,
    /// When it ends, as the server said.
    pub expires: Option<Timestamp>,
    /// When it is renewed.
    pub next_renewal: Option<Timestamp>,
    /// Sessions so far.
    pub renewals: u64,
    /// Failed tries so far.
    pub failures: u64,
    /// Why the last try failed, while none has succeeded since.
    pub last_error: Option<String>,
    /// When it failed.
    pub last_error_at: Option<Timestamp>,
    /// The base credentials are a role session themselves.
    pub chained: bool,
}

impl Ledger {
    /// All that a status of these sources is made of, with up to `quarantine` objects of the quarantine.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn status_rows(&self, sources: Vec<String>, quarantine: u32) -> Result<Rows, Error> {
        Ok(Rows {
            sources,
            checkpoints: self.checkpoints().await?,
            sessions: self.sessions().await?,
            quarantine: self.quarantine(quarantine).await?,
            alarms: self.alarms(ALARMS).await?,
            alarm_counts: self.alarm_counts().await?,
            chains: self.chains().await?,
            key_requests: self.key_requests().await?,
            scrubs: self.scrubs().await?,
            prunes: self.prunes().await?,
            health: self.health().await?,
        })
    }

    /// How many alarms of each kind every source has that were not cleared.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn alarm_counts(&self) -> Result<Vec<AlarmCount>, Error> {
        let rows = sqlx::query(
            "SELECT source, kind, count(*) AS alarms FROM alarms WHERE cleared_at IS NULL
             GROUP BY source, kind ORDER BY source, kind",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("count", "alarms", &e))?;
        let count = |row: &SqliteRow| AlarmCount {
            source: row.get("source"),
            kind: row.get("kind"),
            count: unsigned(row.get("alarms")),
        };
        Ok(rows.iter().map(count).collect())
    }

    /// Every stream's progress.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn checkpoints(&self) -> Result<Vec<CheckpointRow>, Error> {
        let rows = sqlx::query(
            "SELECT checkpoints.*, coalesce(q.failing, 0) AS failing, coalesce(q.quarantined, 0) AS quarantined, q.oldest
             FROM checkpoints LEFT JOIN (
                 SELECT stream, sum(quarantined = 0) AS failing, sum(quarantined) AS quarantined, min(modified) AS oldest
                 FROM quarantine GROUP BY stream) AS q ON q.stream = checkpoints.id
             ORDER BY source, organization, account, kind, region",
        )
        .fetch_all(&self.pool).await.map_err(|e| failed("read", "checkpoints", &e))?;
        Ok(rows.iter().map(checkpoint_row).collect())
    }

    /// Objects that could not be mirrored, oldest first.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn quarantine(&self, limit: u32) -> Result<Vec<QuarantineRow>, Error> {
        let rows = sqlx::query(
            "SELECT quarantine.*, checkpoints.source FROM quarantine JOIN checkpoints ON checkpoints.id = quarantine.stream
             ORDER BY first_failed, key LIMIT ?",
        )
        .bind(limit).fetch_all(&self.pool).await.map_err(|e| failed("read", "quarantine", &e))?;
        Ok(rows.iter().map(quarantine_row).collect())
    }

    /// Lets everything in quarantine that matches be tried at once; says how many.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn retry(&self, source: Option<&str>, key_prefix: &str) -> Result<u64, Error> {
        let done = sqlx::query(
            "UPDATE quarantine SET next_try = 0 WHERE substr(key, 1, length(?2)) = ?2
                 AND stream IN (SELECT id FROM checkpoints WHERE ?1 IS NULL OR source = ?1)",
        )
        .bind(source)
        .bind(key_prefix)
        .execute(&self.pool)
        .await
        .map_err(|e| failed("retry", "quarantine", &e))?;
        Ok(done.rows_affected())
    }

    /// Alarms that were not cleared, newest first; folders that are not mirrored, of which there may be any number, last.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn alarms(&self, limit: u32) -> Result<Vec<AlarmRow>, Error> {
        let rows = sqlx::query(
            "SELECT * FROM alarms WHERE cleared_at IS NULL ORDER BY kind = ?, last_at DESC, subject LIMIT ?",
        )
        .bind(UNKNOWN_FOLDER)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read", "alarms", &e))?;
        Ok(rows.iter().map(alarm_row).collect())
    }

    /// Raises an alarm of a source as a whole.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn alarm(&self, source: &str, alarm: &Alarm, now: Timestamp) -> Result<(), Error> {
        let write = async {
            let mut connection = self.pool.acquire().await?;
            upsert_alarm(&mut connection, source, StreamId(0), alarm, now).await
        };
        write.await.map_err(|e| failed("raise an alarm", source, &e))
    }

    /// Clears an alarm whose cause is gone; nothing happens when there is none.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn clear_alarm(&self, source: &str, kind: &str, subject: &str, now: Timestamp) -> Result<(), Error> {
        sqlx::query(
            "UPDATE alarms SET cleared_at = ? WHERE source = ? AND stream = 0 AND kind = ? AND subject = ? AND cleared_at IS NULL",
        )
        .bind(now.as_second()).bind(source).bind(kind).bind(subject)
        .execute(&self.pool).await.map_err(|e| failed("clear an alarm", source, &e))?;
        Ok(())
    }

    /// Raises these alarms of a source, and clears all others of these kinds.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn replace_alarms(
        &self,
        source: &str,
        kinds: &[&str],
        alarms: &[Alarm],
        now: Timestamp,
    ) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            for kind in kinds {
                let kept: Vec<&str> = alarms.iter().filter(|a| a.kind == *kind).map(|a| a.subject.as_str()).collect();
                sqlx::query(
                    "UPDATE alarms SET cleared_at = ? WHERE source = ? AND stream = 0 AND kind = ? AND cleared_at IS NULL
                     AND subject NOT IN (SELECT value FROM json_each(?))",
                )
                .bind(now.as_second()).bind(source).bind(kind).bind(super::json(&kept))
                .execute(&mut *transaction).await?;
            }
            for alarm in alarms {
                upsert_alarm(&mut transaction, source, StreamId(0), alarm, now).await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| failed("record the discovery of", source, &e))
    }

    /// Role sessions, by source.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn sessions(&self) -> Result<Vec<SessionRow>, Error> {
        let rows = sqlx::query("SELECT * FROM role_sessions ORDER BY source")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read", "role_sessions", &e))?;
        Ok(rows.iter().map(session_row).collect())
    }

    /// Records the present state of a role session.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn save_session(&self, session: &SessionRow) -> Result<(), Error> {
        sqlx::query(
            "INSERT OR REPLACE INTO role_sessions (source, role_arn, session_name, caller_arn, obtained, expires, next_renewal,
                 renewals, failures, last_error, last_error_at, chained) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&session.source).bind(&session.role_arn).bind(&session.session_name).bind(&session.caller_arn)
        .bind(session.obtained.map(Timestamp::as_second)).bind(session.expires.map(Timestamp::as_second))
        .bind(session.next_renewal.map(Timestamp::as_second))
        .bind(i64::try_from(session.renewals).unwrap_or(i64::MAX)).bind(i64::try_from(session.failures).unwrap_or(i64::MAX))
        .bind(&session.last_error).bind(session.last_error_at.map(Timestamp::as_second)).bind(session.chained)
        .execute(&self.pool).await.map_err(|e| failed("record the role session", &session.source, &e))?;
        Ok(())
    }
}

fn checkpoint_row(row: &SqliteRow) -> CheckpointRow {
    let sweep = row.get::<Option<&str>, _>("sweep").and_then(|text| serde_json::from_str::<super::Sweep>(text).ok());
    CheckpointRow {
        id: StreamId(row.get("id")),
        source: row.get("source"),
        prefix: row.get("prefix"),
        organization: row.get("organization"),
        account: row.get("account"),
        kind: row.get("kind"),
        region: row.get("region"),
        listed_through: time(row.get("listed_through")),
        last_key: row.get("last_key"),
        last_stored_at: time(row.get("last_stored_at")),
        newest_object: time(row.get("newest_object")),
        objects: unsigned(row.get("objects")),
        bytes: unsigned(row.get("bytes")),
        lists: serde_json::from_str(row.get("list_requests")).unwrap_or_default(),
        gets: unsigned(row.get("get_requests")),
        next_poll: time(row.get("next_poll")),
        error: row.get("error"),
        error_code: row.get("error_code"),
        failing_since: time(row.get("failing_since")),
        sweep: sweep.map(|sweep| sweep.scope.name()),
        failing: unsigned(row.get("failing")),
        quarantined: unsigned(row.get("quarantined")),
        oldest_missing: time(row.get("oldest")),
    }
}

pub(super) fn quarantine_row(row: &SqliteRow) -> QuarantineRow {
    QuarantineRow {
        source: row.get("source"),
        key: row.get("key"),
        attempts: row.get("attempts"),
        quarantined: row.get("quarantined"),
        first_failed: time(row.get("first_failed")),
        next_try: time(row.get("next_try")),
        code: row.get("code"),
        reason: row.get("reason"),
    }
}

pub(super) fn alarm_row(row: &SqliteRow) -> AlarmRow {
    AlarmRow {
        source: row.get("source"),
        kind: row.get("kind"),
        subject: row.get("subject"),
        first_at: time(row.get("first_at")),
        last_at: time(row.get("last_at")),
        count: unsigned(row.get("count")),
        detail: row.get("detail"),
    }
}

fn session_row(row: &SqliteRow) -> SessionRow {
    SessionRow {
        source: row.get("source"),
        role_arn: row.get("role_arn"),
        session_name: row.get("session_name"),
        caller_arn: row.get("caller_arn"),
        obtained: time(row.get("obtained")),
        expires: time(row.get("expires")),
        next_renewal: time(row.get("next_renewal")),
        renewals: unsigned(row.get("renewals")),
        failures: unsigned(row.get("failures")),
        last_error: row.get("last_error"),
        last_error_at: time(row.get("last_error_at")),
        chained: row.get("chained"),
    }
}
