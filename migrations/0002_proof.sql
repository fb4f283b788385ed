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
