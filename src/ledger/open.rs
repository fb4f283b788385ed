//! Opening the state: locked against a second instance, never silently made again, backed up before a migration.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, FlockOperation, access, flock};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqlitePool};

use super::Ledger;
use crate::error::{Class, Error, Report};

/// The database's name in the state directory.
pub const DATABASE: &str = "trailsync.db";
/// The name of a database that `rebuild` has not finished.
const REBUILDING: &str = "trailsync.db.rebuilding";
/// Says that this directory held a database once: without it a missing one is not made again.
const MARKER: &str = "initialized";
/// 3.51.3 mends a bug of the WAL that loses commits.
const LEAST_SQLITE: (u32, u32, u32) = (3, 51, 3);
const NFS: i64 = 0x6969;
static MIGRATIONS: Migrator = sqlx::migrate!();

/// Holds the state directory until it is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock lives as long as the descriptor")] File);

/// A ledger and the lock that makes it ours.
#[derive(Debug)]
pub struct Opened {
    /// The ledger.
    pub ledger: Ledger,
    /// Keep it as long as the ledger is used.
    pub lock: Lock,
}

impl Lock {
    /// Locks a state directory, which is made when it is missing.
    ///
    /// # Errors
    /// `Fatal` at once, naming the process that holds it.
    pub fn take(dir: &Path) -> Result<Self, Error> {
        let refuse = |why: String| Error::of(Class::Fatal, Report::new("lock", dir.display().to_string(), why));
        std::fs::create_dir_all(dir).map_err(|e| refuse(e.to_string()))?;
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| refuse(e.to_string()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(|e| refuse(e.to_string()))?;
            let why = format!("another trailsync (process {}) uses this state directory", holder.trim());
            let report = Report::new("lock", dir.display().to_string(), why).code("EWOULDBLOCK");
            return Err(Error::of(Class::Fatal, report.mend("stop it, or give this one a `state.dir` of its own")));
        }
        let record = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        record(&mut file).map_err(|e| refuse(e.to_string()))?;
        Ok(Self(file))
    }
}

impl Ledger {
    /// Opens the state in `dir` for the daemon: locks it, checks it, migrates it.
    ///
    /// A database is made only where there never was one: `mirrored_before` says that a copy already exists.
    ///
    /// # Errors
    /// `Fatal` with the reason and the mend: held by another process, missing, damaged, newer than this program.
    pub async fn open(dir: &Path, mirrored_before: bool) -> Result<Opened, Error> {
        let lock = Lock::take(dir)?;
        let path = dir.join(DATABASE);
        let existed = path.exists();
        if dir.join(REBUILDING).exists() {
            return Err(refused(dir, "a `trailsync rebuild` was interrupted", "run it again: it begins anew"));
        }
        if !existed && (mirrored_before || dir.join(MARKER).exists()) {
            let why = "the database is missing, but objects were mirrored before";
            return Err(refused(dir, why, "restore it, or make it again from the copy with `trailsync rebuild`"));
        }
        let ledger = Self { pool: connect(&path).await? };
        ledger.assert_version(dir).await?;
        ledger.migrate(dir, existed).await?;
        mark(dir)?;
        Ok(Opened { ledger, lock })
    }

    /// Begins a database under another name, which nobody takes for a whole one; what an interrupted begin left goes.
    ///
    /// # Errors
    /// `Fatal` when the state directory cannot be written.
    pub async fn begin_anew(_lock: &Lock, dir: &Path) -> Result<Self, Error> {
        let path = dir.join(REBUILDING);
        for end in ["-wal", "-shm", ""] {
            match std::fs::remove_file(dir.join(format!("{REBUILDING}{end}"))) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unwritable(dir, &error)),
                _ => {}
            }
        }
        let ledger = Self { pool: connect(&path).await? };
        ledger.assert_version(dir).await?;
        ledger.migrate(dir, false).await?;
        mark(dir)?;
        Ok(ledger)
    }

    /// Gives a database that was begun anew, and is whole now, its own name, durably.
    ///
    /// # Errors
    /// As for [`Ledger::begin_anew`].
    pub async fn finish_anew(self, dir: &Path) -> Result<(), Error> {
        self.close().await;
        let path = dir.join(REBUILDING);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&path, dir.join(DATABASE)))
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(|e| unwritable(dir, &e))
    }

    /// Opens the state in `dir` to look at it, whether or not the daemon runs.
    ///
    /// # Errors
    /// `Fatal` when there is none or it cannot be read.
    pub async fn look(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(DATABASE);
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => {
                return Err(refused(dir, "there is no database yet", "start `trailsync run`, or check `state.dir`"));
            }
            Err(error) => return Err(refused(dir, &error.to_string(), OWNER)),
        }
        let options = SqliteConnectOptions::new().filename(&path).read_only(true).busy_timeout(Duration::from_secs(5));
        // To read a database in WAL mode files are made beside it, unless nobody writes to it.
        let still = !dir.join(format!("{DATABASE}-wal")).exists() && access(dir, Access::WRITE_OK).is_err();
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.immutable(still))
            .await
            .map_err(|e| unreadable(dir, &e))?;
        let ledger = Self { pool };
        ledger.is_current(dir).await?;
        Ok(ledger)
    }

    async fn is_current(&self, dir: &Path) -> Result<(), Error> {
        let table = sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1").fetch_optional(&self.pool).await;
        if table.map_err(|e| unreadable(dir, &e))?.is_none() {
            return Err(refused(dir, "the database is empty", "look again in a moment: who makes it has just begun"));
        }
        let version: i64 = sqlx::query("SELECT coalesce(max(version), 0) AS version FROM _sqlx_migrations")
            .fetch_one(&self.pool)
            .await
            .map_err(|e| unreadable(dir, &e))?
            .get("version");
        if version != newest_migration() {
            return Err(refused(dir, "the database belongs to another version of trailsync", "use that version"));
        }
        Ok(())
    }

    /// Opens the state in `dir` to read it for a while and leave no trace, whether or not the daemon runs.
    ///
    /// A reader that may not write leaves the files of the write-ahead log behind; where nobody uses the state, and
    /// there are none, they are made and removed again.
    ///
    /// # Errors
    /// As for [`Ledger::look`].
    pub async fn visit(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(DATABASE);
        let log = path.with_extension("db-wal");
        if !path.exists() || log.exists() || on_nfs(dir) {
            return Self::look(dir).await;
        }
        match connect(&path).await {
            Ok(pool) => {
                let ledger = Self { pool };
                ledger.is_current(dir).await?;
                Ok(ledger)
            }
            Err(_) => Self::look(dir).await,
        }
    }

    /// The same state through a connection of its own, which reads without holding up who writes; over NFS, where only
    /// one connection can be, through the same.
    pub async fn beside(&self, dir: &Path) -> Self {
        Self::look(dir).await.unwrap_or_else(|_| self.clone())
    }

    /// Opens the state in `dir` to change a little, beside the daemon that may hold it.
    ///
    /// # Errors
    /// As for [`Ledger::look`].
    pub async fn join(dir: &Path) -> Result<Self, Error> {
        Self::look(dir).await?.close().await;
        Ok(Self { pool: connect(&dir.join(DATABASE)).await? })
    }

    /// A database in memory that vanishes with its owner.
    ///
    /// # Errors
    /// `Fatal` when SQLite cannot make one.
    pub async fn in_memory() -> Result<Self, Error> {
        let options = SqliteConnectOptions::new().in_memory(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            // A caller that is dropped while its connection is being tested would take the database with it.
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(|e| unreadable(Path::new(":memory:"), &e))?;
        let ledger = Self { pool };
        ledger.migrate(Path::new(":memory:"), false).await?;
        Ok(ledger)
    }

    /// Writes everything back and closes; afterwards the database is one file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn assert_version(&self, dir: &Path) -> Result<(), Error> {
        let text: String = sqlx::query("SELECT sqlite_version() AS version")
            .fetch_one(&self.pool)
            .await
            .map_err(|e| unreadable(dir, &e))?
            .get("version");
        let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let mut part = || parts.next().unwrap_or(0);
        if (part(), part(), part()) < LEAST_SQLITE {
            let why = format!("SQLite {text} can lose commits in WAL mode");
            return Err(refused(dir, &why, "build trailsync with its bundled SQLite (3.51.3 or later)"));
        }
        Ok(())
    }

    async fn migrate(&self, dir: &Path, existed: bool) -> Result<(), Error> {
        if existed {
            let applied = self.applied_migration(dir).await?;
            if applied > newest_migration() {
                return Err(refused(
                    dir,
                    "the database was written by a newer trailsync",
                    "run that version or a later one",
                ));
            }
            if applied < newest_migration() {
                self.back_up(dir, applied).await?;
            }
        }
        MIGRATIONS
            .run(&self.pool)
            .await
            .map_err(|e| refused(dir, &e.to_string(), "restore a backup, or run `trailsync rebuild`"))
    }

    async fn applied_migration(&self, dir: &Path) -> Result<i64, Error> {
        let table = sqlx::query("SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations'")
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| unreadable(dir, &e))?;
        if table.is_none() {
            let why = "the file is not a database of trailsync, or it was emptied";
            return Err(refused(dir, why, "restore it, or run `trailsync rebuild`"));
        }
        let row = sqlx::query("SELECT coalesce(max(version), 0) AS version FROM _sqlx_migrations")
            .fetch_one(&self.pool)
            .await
            .map_err(|e| unreadable(dir, &e))?;
        // Reads a row of the largest tables: a torn or overwritten file is refused here rather than in a pass.
        for statement in
            ["SELECT count(*) FROM checkpoints", "SELECT 1 FROM objects LIMIT 1", "SELECT count(*) FROM sealed_days"]
        {
            sqlx::query(statement).fetch_optional(&self.pool).await.map_err(|e| unreadable(dir, &e))?;
        }
        Ok(row.get("version"))
    }

    async fn back_up(&self, dir: &Path, applied: i64) -> Result<(), Error> {
        let target = dir.join(format!("{DATABASE}.before-migration-{applied}"));
        if target.exists() {
            return Ok(());
        }
        sqlx::query("VACUUM INTO ?")
            .bind(target.display().to_string())
            .execute(&self.pool)
            .await
            .map_err(|e| refused(dir, &e.to_string(), "free space for a backup of the database"))?;
        File::open(&target)
            .and_then(|file| file.sync_all())
            .map_err(|e| refused(dir, &e.to_string(), "free space for a backup of the database"))
    }
}

fn mark(dir: &Path) -> Result<(), Error> {
    std::fs::write(dir.join(MARKER), "This directory holds trailsync's state.\n")
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(|e| unwritable(dir, &e))
}

fn unwritable(dir: &Path, error: &std::io::Error) -> Error {
    refused(dir, &error.to_string(), "make the state directory writable")
}

async fn connect(path: &Path) -> Result<SqlitePool, Error> {
    let dir = path.parent().unwrap_or(path);
    let on_nfs = on_nfs(dir);
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .pragma("cache_size", "-4000")
        .pragma("journal_size_limit", "8388608")
        // Shared memory does not work over NFS: `status` goes over HTTP there.
        .journal_mode(if on_nfs { SqliteJournalMode::Truncate } else { SqliteJournalMode::Wal })
        .locking_mode(if on_nfs { SqliteLockingMode::Exclusive } else { SqliteLockingMode::Normal });
    // Fails here, with SQLite's own words, when the file is no database.
    let first = options.connect().await.map_err(|e| unreadable(dir, &e))?;
    first.close().await.map_err(|e| unreadable(dir, &e))?;
    SqlitePoolOptions::new()
        .max_connections(1)
        // A file does not hang up.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(|e| unreadable(dir, &e))
}

/// There SQLite has no write-ahead log, and whoever writes has the file alone.
fn on_nfs(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|stat| stat.f_type == NFS)
}

fn newest_migration() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The mend of whatever another user may not do.
const OWNER: &str = "run as the user that owns the state directory";

fn unreadable(dir: &Path, error: &sqlx::Error) -> Error {
    let why = format!("the database cannot be read: {error}");
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    // SQLITE_PERM, SQLITE_READONLY, SQLITE_CANTOPEN: the rights, not the database, are what is wrong.
    let mend = match code.parse::<u32>().unwrap_or(0) & 0xff {
        3 | 8 | 14 => OWNER,
        _ => "restore it from a backup, or make it again from the copy with `trailsync rebuild`",
    };
    refused(dir, &why, mend)
}

fn refused(dir: &Path, why: &str, mend: &str) -> Error {
    Error::of(Class::Fatal, Report::new("open the state", dir.display().to_string(), why).mend(mend))
}
