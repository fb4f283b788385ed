-- All times are seconds since the Unix epoch, UTC. Day numbers are YYYYMMDD; 0 holds keys without a day folder.

-- One row a stream: progress per account, kind and region.
CREATE TABLE checkpoints (
    id              INTEGER PRIMARY KEY,
    source          TEXT NOT NULL,
    prefix          TEXT NOT NULL,            -- key prefix of all its objects
    organization    TEXT,
    account         TEXT NOT NULL,
    kind            TEXT NOT NULL,
    region          TEXT NOT NULL,
    memory          TEXT NOT NULL DEFAULT '{}', -- when the last complete listing of each tier began (JSON)
    sweep           TEXT,                     -- the deep listing that is under way and where it stands (JSON)
    listed_through  INTEGER,                  -- every object delivered before has an outcome
    last_key        TEXT,                     -- the object that was stored last
    last_stored_at  INTEGER,
    newest_object   INTEGER,                  -- the latest time in the name of a stored object
    objects         INTEGER NOT NULL DEFAULT 0, -- stored, each counted once
    bytes           INTEGER NOT NULL DEFAULT 0,
    list_requests   TEXT NOT NULL DEFAULT '{}', -- LIST requests by tier (JSON)
    get_requests    INTEGER NOT NULL DEFAULT 0,
    next_poll       INTEGER,
    error           TEXT,                     -- why the last pass ended, while it has not succeeded since
    error_code      TEXT,
    failing_since   INTEGER,
    UNIQUE (source, prefix)
) STRICT;

-- The ledger: the objects of the last days. No second index and short keys keep a row near 150 bytes.
CREATE TABLE objects (
    stream    INTEGER NOT NULL,
    day       INTEGER NOT NULL,
    name      BLOB NOT NULL,                  -- key suffix, packed (layout.rs)
    size      INTEGER NOT NULL,
    modified  INTEGER NOT NULL,
    etag      BLOB NOT NULL,                  -- 16 bytes when it has the form of an MD5, else its text
    sha256    BLOB NOT NULL,                  -- of the bytes as stored
    inflated  BLOB,                           -- SHA-256 of the inflated bytes, which digests name
    flags     INTEGER NOT NULL DEFAULT 0,     -- 1: gone from the source; 2: stored beside an earlier version
    PRIMARY KEY (stream, day, name)
) STRICT, WITHOUT ROWID;

-- Days older than the ledger, whose rows are in manifest files.
CREATE TABLE sealed_days (
    stream      INTEGER NOT NULL,
    day         INTEGER NOT NULL,
    generations INTEGER NOT NULL,             -- files 1 to this one make up the day
    first       INTEGER NOT NULL DEFAULT 1,   -- the first of them that still counts
    objects     INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,             -- length of the newest file
    hash        BLOB NOT NULL,                -- SHA-256 of the newest file, which names its predecessor's
    PRIMARY KEY (stream, day)
) STRICT, WITHOUT ROWID;

-- Objects that could not be mirrored: visible, retried, never dropped.
CREATE TABLE quarantine (
    stream       INTEGER NOT NULL,
    key          TEXT NOT NULL,
    size         INTEGER NOT NULL,
    etag         TEXT NOT NULL,
    modified     INTEGER NOT NULL,            -- when the source stored it: its age is the stream's lag
    first_failed INTEGER NOT NULL,
    last_failed  INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    quarantined  INTEGER NOT NULL,            -- 0: still within its first tries; 1: retried daily
    next_try     INTEGER NOT NULL,
    code         TEXT NOT NULL,
    reason       TEXT NOT NULL,
    PRIMARY KEY (stream, key)
) STRICT, WITHOUT ROWID;

-- What somebody must look at. `subject` is a key, or empty for the whole stream or source.
CREATE TABLE alarms (
    source     TEXT NOT NULL,
    stream     INTEGER NOT NULL,              -- 0: the source
    kind       TEXT NOT NULL,                 -- replaced, vanished, malformed, conflict, clock_skew, unknown_folder
    subject    TEXT NOT NULL,
    first_at   INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    count      INTEGER NOT NULL DEFAULT 1,
    detail     TEXT NOT NULL,
    cleared_at INTEGER,
    PRIMARY KEY (source, stream, kind, subject)
) STRICT, WITHOUT ROWID;

-- Times and errors of role sessions; no secrets.
CREATE TABLE role_sessions (
    source        TEXT PRIMARY KEY,
    role_arn      TEXT,
    session_name  TEXT,
    caller_arn    TEXT,
    obtained      INTEGER,
    expires       INTEGER,
    next_renewal  INTEGER,
    renewals      INTEGER NOT NULL DEFAULT 0,
    failures      INTEGER NOT NULL DEFAULT 0,
    last_error    TEXT,
    last_error_at INTEGER,
    chained       INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
