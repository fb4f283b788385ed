//! The part of the state that holds public keys, and when they were asked for.

use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Ledger, failed, time};
use crate::clock::Timestamp;
use crate::digest::PublicKey;
use crate::error::{Class, Error, Report};

/// How a source's last request for a region's keys went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KeyRequestRow {
    /// Name of the source.
    pub source: String,
    /// The region's folder name.
    pub region: String,
    /// When keys were given last.
    pub answered: Option<Timestamp>,
    /// Why it fails, while it has not succeeded since.
    pub error: Option<String>,
    /// The code of that error.
    pub error_code: Option<String>,
    /// Since when.
    pub failing_since: Option<Timestamp>,
}

impl Ledger {
    /// The public keys of a region.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn public_keys(&self, region: &str) -> Result<Vec<PublicKey>, Error> {
        let rows = sqlx::query("SELECT * FROM public_keys WHERE region = ?")
            .bind(region)
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read the public keys of", region, &e))?;
        rows.iter().map(|row| key_of(row).ok_or_else(|| corrupt(region))).collect()
    }

    /// Keeps public keys; those that are there already stay as they are.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn add_public_keys(&self, region: &str, keys: &[PublicKey]) -> Result<(), Error> {
        let write = async {
            let mut transaction = self.begin().await?;
            for key in keys {
                sqlx::query(
                    "INSERT INTO public_keys (region, fingerprint, der, valid_from, valid_until) VALUES (?, ?, ?, ?, ?)
                     ON CONFLICT DO NOTHING",
                )
                .bind(region)
                .bind(&key.fingerprint)
                .bind(&key.der)
                .bind(key.valid_from.as_second())
                .bind(key.valid_until.as_second())
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await
        };
        write.await.map_err(|e| failed("record the public keys of", region, &e))
    }

    /// How a source's last request for a region's keys went.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn key_request(&self, source: &str, region: &str) -> Result<Option<KeyRequestRow>, Error> {
        let row = sqlx::query("SELECT * FROM key_requests WHERE source = ? AND region = ?")
            .bind(source)
            .bind(region)
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read", "key_requests", &e))?;
        Ok(row.as_ref().map(request_of))
    }

    /// How every request for keys went last.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn key_requests(&self) -> Result<Vec<KeyRequestRow>, Error> {
        let rows = sqlx::query("SELECT * FROM key_requests ORDER BY source, region")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read", "key_requests", &e))?;
        Ok(rows.iter().map(request_of).collect())
    }

    /// Records how a request for a region's keys went.
    ///
    /// # Errors
    /// As for [`Ledger::checkpoint`].
    pub async fn save_key_request(&self, row: &KeyRequestRow) -> Result<(), Error> {
        sqlx::query(
            "INSERT OR REPLACE INTO key_requests (source, region, answered, error, error_code, failing_since)
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(&row.source)
        .bind(&row.region)
        .bind(row.answered.map(Timestamp::as_second))
        .bind(&row.error)
        .bind(&row.error_code)
        .bind(row.failing_since.map(Timestamp::as_second))
        .execute(&self.pool)
        .await
        .map_err(|e| failed("record the key request of", &row.source, &e))?;
        Ok(())
    }
}

fn key_of(row: &SqliteRow) -> Option<PublicKey> {
    let (from, until) = (time(row.get("valid_from"))?, time(row.get("valid_until"))?);
    PublicKey::new(row.get("der"), row.get("fingerprint"), from, until).ok()
}

fn request_of(row: &SqliteRow) -> KeyRequestRow {
    KeyRequestRow {
        source: row.get("source"),
        region: row.get("region"),
        answered: time(row.get("answered")),
        error: row.get("error"),
        error_code: row.get("error_code"),
        failing_since: time(row.get("failing_since")),
    }
}

fn corrupt(region: &str) -> Error {
    let report = Report::new("read", region, "a row of `public_keys` is not what was stored");
    Error::of(Class::Fatal, report.mend("the database is damaged: restore a backup, or run `trailsync rebuild`"))
}
