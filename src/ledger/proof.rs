//! The part of the state that holds the proof: chains, digests that wait to be judged, and what is alarmed of them.

use std::collections::HashSet;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{Alarm, Failure, Ledger, StreamId, failed, time, unsigned, upsert_alarm, upsert_failure};
use crate::clock::Timestamp;
use crate::digest::Name;
use crate::error::Error;
use crate::layout::Stream;
use crate::record::Record;

/// A chain as the state keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainRow {
    /// Its number.
    pub id: i64,
    /// The stream of its digests.
    pub stream: StreamId,
    /// The trail's name.
    pub trail: String,
    /// The region in which the trail was made.
    pub home: String,
    /// The proof holds from here,
    pub proven_from: Option<Timestamp>,
    /// to here.
    pub proven_through: Option<Timestamp>,
    /// The trail was stopped or deleted.
    pub ended: bool,
    /// What keeps the proof from going on.
    pub held_why: Option<String>,
    /// Since when.
    pub held_since: Option<Timestamp>,
    /// Spans and alarms, as the prover wrote them.
    pub state: String,
}

/// A digest that waits, or was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestRow {
    /// The time in its name.
    pub ends: Timestamp,
    /// Its key without the stream's prefix.
    pub suffix: String,
    /// Where a later version's bytes stand; empty for the first.
    pub version: String,
    /// From when it covers, once it was read.
    pub starts: Option<Timestamp>,
    /// How often it was judged.
    pub tries: u32,
    /// When it is judged again; `None` when it was refused for good.
    pub next_try: Option<Timestamp>,
    /// What it waits for, or why it was refused.
    pub why: Option<String>,
}

/// What one transaction of the prover records.
#[derive(Debug, Default)]
pub struct ProofCommit {
    /// Digests that became part of a span.
    pub done: Vec<DigestRow>,
    /// Digests that wait on, or were refused.
    pub waiting: Vec<DigestRow>,
    /// What to alarm, by stream; 0 is the source.
    pub raised: Vec<(StreamId, Alarm)>,
    /// Kinds and subject of alarms whose cause is gone, whatever their stream.
    pub cleared: Vec<(&'static [&'static str], String)>,
    /// The chain has no span.
    pub is_empty_chain: bool,
    /// Objects that a digest names and that are not here: they are due to be fetched at once.
    pub fetch: Vec<(StreamId, Failure)>,
}

impl Ledger {
    /// The chains of a stream of digests.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn chains_of(&self, id: StreamId) -> Result<Vec<ChainRow>, Error> {
        let rows = sqlx::query("SELECT * FROM chains WHERE stream = ? ORDER BY trail, home")
            .bind(id.0)
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read", "chains", &e))?;
        Ok(rows.iter().map(chain_of).collect())
    }

    /// Every chain.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn chains(&self) -> Result<Vec<ChainRow>, Error> {
        let rows = sqlx::query("SELECT * FROM chains ORDER BY stream, trail, home")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read", "chains", &e))?;
        Ok(rows.iter().map(chain_of).collect())
    }

    /// Digests of a chain that are to be judged at `now`, oldest first.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn digests_due(&self, chain: i64, now: Timestamp, limit: u32) -> Result<Vec<DigestRow>, Error> {
        // A time further ahead than any wait was written under a wrong clock.
        let rows = sqlx::query(
            "SELECT * FROM digests WHERE chain = ?1 AND (next_try <= ?2 OR next_try > ?2 + 90000) ORDER BY ends, suffix LIMIT ?3",
        )
        .bind(chain)
        .bind(now.as_second())
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read", "digests", &e))?;
        Ok(rows.iter().map(digest_of).collect())
    }

    /// Digests of a chain that wait or were refused, oldest first.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn digests_here(&self, chain: i64, limit: u32) -> Result<Vec<DigestRow>, Error> {
        let rows = sqlx::query("SELECT * FROM digests WHERE chain = ? ORDER BY ends, suffix LIMIT ?")
            .bind(chain)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read", "digests", &e))?;
        Ok(rows.iter().map(digest_of).collect())
    }

    /// Records what became of a chain's digests, and how far the chain is, in one transaction.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn save_proof(
        &self,
        source: &str,
        chain: &ChainRow,
        commit: &ProofCommit,
        now: Timestamp,
    ) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            save_chain(&mut transaction, chain).await?;
            for row in &commit.done {
                sqlx::query("DELETE FROM digests WHERE chain = ? AND ends = ? AND suffix = ? AND version = ?")
                    .bind(chain.id)
                    .bind(row.ends.as_second())
                    .bind(&row.suffix)
                    .bind(&row.version)
                    .execute(&mut *transaction)
                    .await?;
            }
            for row in &commit.waiting {
                save_digest(&mut transaction, chain.id, row).await?;
            }
            save_alarms(&mut transaction, source, commit, now).await?;
            for (stream, failure) in &commit.fetch {
                if !has_failed(&mut transaction, *stream, &failure.key).await? {
                    upsert_failure(&mut transaction, *stream, failure, now).await?;
                }
            }
            if commit.is_empty_chain {
                drop_chain(&mut transaction, chain.id).await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| failed("record the proof of", source, &e))
    }

    /// Whether the digests of a stream that were mirrored before there was a proof have their rows.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn is_imported(&self, id: StreamId) -> Result<bool, Error> {
        let row = sqlx::query("SELECT imported FROM proofs WHERE stream = ?")
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read", "proofs", &e))?;
        Ok(row.is_some_and(|row| row.get::<i64, _>("imported") != 0))
    }

    /// Gives digests that were mirrored before their rows; the last call says that it was the last.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn import_digests(
        &self,
        stream: &Stream,
        id: StreamId,
        records: &[Record],
        is_last: bool,
    ) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            queue_digests(&mut transaction, stream, id, records).await?;
            if is_last {
                sqlx::query(
                    "INSERT INTO proofs (stream, imported) VALUES (?, 1) ON CONFLICT DO UPDATE SET imported = 1",
                )
                .bind(id.0)
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| failed("take over the digests of", &stream.to_string(), &e))
    }

    /// Forgets how far the proof is: everything is judged again, from the copy.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn forget_proof(&self) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            for statement in
                ["DELETE FROM digests", "DELETE FROM chains", "DELETE FROM proofs", "DELETE FROM late_logs"]
            {
                sqlx::query(statement).execute(&mut *transaction).await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| failed("forget", "the proof", &e))
    }

    /// Whether an object is among those that are tried again.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn is_failing(&self, id: StreamId, key: &str) -> Result<bool, Error> {
        let read = async {
            let mut connection = self.pool.acquire().await?;
            has_failed(&mut connection, id, key).await
        };
        read.await.map_err(|e| failed("read", "quarantine", &e))
    }
}

/// Queues digests to be judged, in the transaction that records them.
pub(super) async fn queue_digests(
    connection: &mut SqliteConnection,
    stream: &Stream,
    id: StreamId,
    records: &[Record],
) -> sqlx::Result<()> {
    let mut last: Option<(String, String, i64)> = None;
    for record in records {
        let file = record.suffix.rsplit_once('/').map_or(record.suffix.as_str(), |(_, file)| file);
        let Some(name) = Name::of(&stream.account, &stream.region, file) else { continue };
        let chain = match &last {
            Some((trail, home, chain)) if trail == name.trail && home == name.home => *chain,
            _ => chain_id(connection, id, &name).await?,
        };
        last = Some((name.trail.to_owned(), name.home.to_owned(), chain));
        sqlx::query("INSERT INTO digests (chain, ends, suffix, version) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(chain)
            .bind(name.end.as_second())
            .bind(&record.suffix)
            .bind(record.version().unwrap_or_default())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn chain_id(connection: &mut SqliteConnection, id: StreamId, name: &Name<'_>) -> sqlx::Result<i64> {
    sqlx::query("INSERT INTO chains (stream, trail, home) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(id.0)
        .bind(name.trail)
        .bind(name.home)
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query("SELECT id FROM chains WHERE stream = ? AND trail = ? AND home = ?")
        .bind(id.0)
        .bind(name.trail)
        .bind(name.home)
        .fetch_one(connection)
        .await?;
    Ok(row.get("id"))
}

async fn save_chain(connection: &mut SqliteConnection, chain: &ChainRow) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE chains SET proven_from = ?, proven_through = ?, ended = ?, held_why = ?, held_since = ?, state = ? WHERE id = ?",
    )
    .bind(chain.proven_from.map(Timestamp::as_second))
    .bind(chain.proven_through.map(Timestamp::as_second))
    .bind(chain.ended)
    .bind(&chain.held_why)
    .bind(chain.held_since.map(Timestamp::as_second))
    .bind(&chain.state)
    .bind(chain.id)
    .execute(connection)
    .await?;
    Ok(())
}

/// A chain of which nothing is genuine and nothing waits was made up.
async fn drop_chain(connection: &mut SqliteConnection, chain: i64) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM chains WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM digests WHERE chain = ?1)")
        .bind(chain)
        .execute(connection)
        .await?;
    Ok(())
}

async fn save_digest(connection: &mut SqliteConnection, chain: i64, row: &DigestRow) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE digests SET starts = ?, tries = ?, next_try = ?, why = ?
         WHERE chain = ? AND ends = ? AND suffix = ? AND version = ?",
    )
    .bind(row.starts.map(Timestamp::as_second))
    .bind(row.tries)
    .bind(row.next_try.map(Timestamp::as_second))
    .bind(&row.why)
    .bind(chain)
    .bind(row.ends.as_second())
    .bind(&row.suffix)
    .bind(&row.version)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn save_alarms(
    connection: &mut SqliteConnection,
    source: &str,
    commit: &ProofCommit,
    now: Timestamp,
) -> sqlx::Result<()> {
    let open = open_alarms(connection, source, commit).await?;
    for (kinds, subject) in &commit.cleared {
        for kind in kinds.iter().filter(|_| open.contains(subject)) {
            sqlx::query(
                "UPDATE alarms SET cleared_at = ? WHERE source = ? AND kind = ? AND subject = ? AND cleared_at IS NULL",
            )
            .bind(now.as_second())
            .bind(source)
            .bind(*kind)
            .bind(subject)
            .execute(&mut *connection)
            .await?;
        }
    }
    for (stream, alarm) in &commit.raised {
        upsert_alarm(connection, source, *stream, alarm, now).await?;
    }
    Ok(())
}

/// What is alarmed of a source: most digests end no alarm, and name hundreds of logs that could have one.
async fn open_alarms(
    connection: &mut SqliteConnection,
    source: &str,
    commit: &ProofCommit,
) -> sqlx::Result<HashSet<String>> {
    if commit.cleared.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = sqlx::query("SELECT DISTINCT subject FROM alarms WHERE source = ? AND cleared_at IS NULL")
        .bind(source)
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().map(|row| row.get("subject")).collect())
}

pub(super) async fn has_failed(connection: &mut SqliteConnection, id: StreamId, key: &str) -> sqlx::Result<bool> {
    let row = sqlx::query("SELECT 1 FROM quarantine WHERE stream = ? AND key = ?")
        .bind(id.0)
        .bind(key)
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

fn chain_of(row: &SqliteRow) -> ChainRow {
    ChainRow {
        id: row.get("id"),
        stream: StreamId(row.get("stream")),
        trail: row.get("trail"),
        home: row.get("home"),
        proven_from: time(row.get("proven_from")),
        proven_through: time(row.get("proven_through")),
        ended: row.get("ended"),
        held_why: row.get("held_why"),
        held_since: time(row.get("held_since")),
        state: row.get("state"),
    }
}

fn digest_of(row: &SqliteRow) -> DigestRow {
    DigestRow {
        ends: time(row.get("ends")).unwrap_or_default(),
        suffix: row.get("suffix"),
        version: row.get("version"),
        starts: time(row.get("starts")),
        tries: u32::try_from(unsigned(row.get("tries"))).unwrap_or(u32::MAX),
        next_try: time(row.get("next_try")),
        why: row.get("why"),
    }
}
