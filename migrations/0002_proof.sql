-- Proof: which digests wait to be judged, how far each chain is, and the keys that verify them.

-- The keys that verify digests, by the region whose digests they sign. They are AWS's: sources share them.
CREATE TABLE public_keys (
    region      TEXT NOT NULL,
    fingerprint TEXT NOT NULL,                -- MD5 of `der` in hexadecimal, as digests name it
    der         BLOB NOT NULL,
    valid_from  INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,
    PRIMARY KEY (region, fingerprint, valid_from)
) STRICT, WITHOUT ROWID;

-- When a source last asked for the keys of a region.
CREATE TABLE key_requests (
    source        TEXT NOT NULL,
    region        TEXT NOT NULL,
    answered      INTEGER,                    -- when `ListPublicKeys` gave keys last
    error         TEXT,                       -- why it fails, while it has not succeeded since
    error_code    TEXT,
    failing_since INTEGER,
    PRIMARY KEY (source, region)
) STRICT, WITHOUT ROWID;

-- One row a chain: the digests of one trail, for one account and source region.
CREATE TABLE chains (
    id             INTEGER PRIMARY KEY,
    stream         INTEGER NOT NULL,          -- the stream of its digests
    trail          TEXT NOT NULL,
    home           TEXT NOT NULL,             -- the region in which the trail was made
    proven_from    INTEGER,                   -- an unbroken chain, and all that it names, from here
    proven_through INTEGER,                   -- to here
    ended          INTEGER NOT NULL DEFAULT 0, -- 1: the trail was stopped or deleted
    held_why       TEXT,                      -- what keeps it from going on
    held_since     INTEGER,
    state          TEXT NOT NULL DEFAULT '{}', -- its unbroken spans, and what was alarmed of it (JSON)
    UNIQUE (stream, trail, home)
) STRICT;

-- Digests that are mirrored and not yet part of a span. A digest's row comes with its object's, in one transaction.
CREATE TABLE digests (
    chain    INTEGER NOT NULL,
    ends     INTEGER NOT NULL,                -- the time in its name
    suffix   TEXT NOT NULL,
    version  TEXT NOT NULL,                   -- empty for the first version
    starts   INTEGER,                         -- from when it covers, once it was read
    tries    INTEGER NOT NULL DEFAULT 0,
    next_try INTEGER DEFAULT 0,               -- NULL: it was refused for good
    why      TEXT,                            -- what it waits for, or why it was refused
    PRIMARY KEY (chain, ends, suffix, version)
) STRICT, WITHOUT ROWID;

-- How far the digests of a stream were taken over, and its logs compared with what digests name.
CREATE TABLE proofs (
    stream   INTEGER PRIMARY KEY,
    imported INTEGER NOT NULL DEFAULT 0,      -- 1: digests from before this table have their rows
    audited  INTEGER                          -- days up to this one were compared
) STRICT;

-- Logs of audited days that came later: compared once the proof is past their delivery.
CREATE TABLE late_logs (
    stream   INTEGER NOT NULL,
    suffix   TEXT NOT NULL,
    modified INTEGER NOT NULL,
    PRIMARY KEY (stream, suffix)
) STRICT, WITHOUT ROWID;
