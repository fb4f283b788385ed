//! How passes ended, of many streams in one transaction.

use sqlx::SqliteConnection;

use super::{Checkpoint, Ledger, StreamId, failed, save_progress};
use crate::clock::Timestamp;
use crate::error::Error;

/// The end of one pass.
#[derive(Debug, Clone)]
pub struct PassEnd {
    /// Whose.
    pub id: StreamId,
    /// Why it ended early, in words, and the code; `None` when it went well.
    pub error: Option<(String, String)>,
    /// When the next one begins.
    pub next_poll: Timestamp,
    /// When it ended.
    pub at: Timestamp,
    /// Where the stream stands, when more is known of that than was committed.
    pub checkpoint: Option<Checkpoint>,
}

impl PassEnd {
    /// A pass that ended at `at`.
    pub fn of(id: StreamId, error: Option<&Error>, next_poll: Timestamp, at: Timestamp) -> Self {
        let error = error.map(|error| (error.to_string(), error.code().to_owned()));
        Self { id, error, next_poll, at, checkpoint: None }
    }
}

impl Ledger {
    /// Records how passes of a source ended and when the next ones are, in one transaction.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn passes_ended(&self, source: &str, ends: impl Iterator<Item = &PassEnd>) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            for end in ends {
                if let Some(checkpoint) = &end.checkpoint {
                    save_progress(&mut transaction, end.id, checkpoint, None, (0, 0)).await?;
                }
                record(&mut transaction, end).await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| failed("record the passes of", source, &e))
    }
}

async fn record(connection: &mut SqliteConnection, end: &PassEnd) -> sqlx::Result<()> {
    let (text, code) = end.error.as_ref().map(|(text, code)| (text, code)).unzip();
    sqlx::query(
        "UPDATE checkpoints SET next_poll = ?1, error = ?2, error_code = ?3,
             failing_since = CASE WHEN ?2 IS NULL THEN NULL ELSE coalesce(failing_since, ?4) END WHERE id = ?5",
    )
    .bind(end.next_poll.as_second())
    .bind(text)
    .bind(code)
    .bind(end.at.as_second())
    .bind(end.id.0)
    .execute(connection)
    .await?;
    Ok(())
}
