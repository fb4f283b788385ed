-- Deletion at the source. One row for each version of an object that was to be deleted: written before the request is
-- sent, ended after its answer. It is never removed once a request may have been made: this is the audit. A record of
-- `objects` has 4 among its flags when it is gone because we deleted it.
CREATE TABLE deletions (
    stream   INTEGER NOT NULL,
    day      INTEGER NOT NULL,
    name     BLOB NOT NULL,                   -- key suffix, packed as in `objects`
    modified INTEGER NOT NULL,                -- when the source stored this version
    etag     TEXT NOT NULL,                   -- what `If-Match` was
    size     INTEGER NOT NULL,
    sha256   BLOB NOT NULL,                   -- of the copy, as it was read right before
    proof    TEXT,                            -- the digest that vouched for it, or itself; NULL: it was only stored
    intended INTEGER NOT NULL,                -- when the request was about to be sent, last
    unsure   INTEGER NOT NULL DEFAULT 0,      -- 1: an earlier request may have been carried out
    outcome  TEXT,                            -- deleted, absent, changed, kept; NULL: not known
    ended    INTEGER,
    detail   TEXT,                            -- the delete marker's version, or what the service said
    PRIMARY KEY (stream, day, name, modified)
) STRICT, WITHOUT ROWID;

-- Requests whose outcome is not known, to be found without a walk over all rows.
CREATE INDEX deletions_open ON deletions (stream) WHERE outcome IS NULL;

-- One row a source: the round that is under way, the last one, and what was deleted in all.
CREATE TABLE prunes (
    source       TEXT PRIMARY KEY,
    began        INTEGER,                     -- when the round under way began; NULL: it rests
    prefix       TEXT NOT NULL DEFAULT '',    -- the stream in which it stands
    suffix       TEXT NOT NULL DEFAULT '',    -- the last key of it that was decided on
    sent         INTEGER NOT NULL DEFAULT 0,  -- requests of this round, which its cap counts
    last_began   INTEGER,                     -- the last round
    last_ended   INTEGER,
    last_sent    INTEGER NOT NULL DEFAULT 0,
    deleted      INTEGER NOT NULL DEFAULT 0,  -- objects, in all
    bytes        INTEGER NOT NULL DEFAULT 0,
    last_deleted INTEGER
) STRICT, WITHOUT ROWID;
