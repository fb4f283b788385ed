//! What the state remembers of each hop of an account: whether it works, and since when.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Ledger, failed, time};
use crate::clock::Timestamp;
use crate::error::Error;

/// One hop of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthRow {
    /// Name of the source.
    pub source: String,
    /// `o-…`, or empty.
    pub organization: String,
    /// 12 digits; empty for a source of which no account was seen.
    pub account: String,
    /// Name of the hop.
    pub hop: String,
    /// Whether it fails.
    pub failing: bool,
    /// Since when it is so.
    pub since: Timestamp,
    /// Since when it is seen otherwise, without a break.
    pub turning: Option<Timestamp>,
    /// Why it fails, or why it is about to.
    pub cause: Option<String>,
}

impl Ledger {
    /// Every hop that was ever seen to work or to fail.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn health(&self) -> Result<Vec<HealthRow>, Error> {
        let rows = sqlx::query("SELECT * FROM health")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read", "health", &e))?;
        Ok(rows.iter().filter_map(health_row).collect())
    }

    /// Remembers hops that changed, in one transaction.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn save_health(&self, changes: &[HealthRow]) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            for row in changes {
                sqlx::query(
                    "INSERT OR REPLACE INTO health (source, organization, account, hop, failing, since, turning, cause)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(&row.source)
                .bind(&row.organization)
                .bind(&row.account)
                .bind(&row.hop)
                .bind(row.failing)
                .bind(row.since.as_second())
                .bind(row.turning.map(Timestamp::as_second))
                .bind(&row.cause)
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| failed("record the conditions", "health", &e))
    }
}

fn health_row(row: &SqliteRow) -> Option<HealthRow> {
    Some(HealthRow {
        source: row.get("source"),
        organization: row.get("organization"),
        account: row.get("account"),
        hop: row.get("hop"),
        failing: row.get("failing"),
        since: time(row.get("since"))?,
        turning: time(row.get("turning")),
        cause: row.get("cause"),
    })
}
