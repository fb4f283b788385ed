-- Which hop of an account's mirroring works: one row for each that was ever seen to work or to fail. They are kept so
-- that a condition outlives a restart, and turns only after it was seen otherwise for a while.
CREATE TABLE health (
    source       TEXT NOT NULL,
    organization TEXT NOT NULL,               -- empty: none
    account      TEXT NOT NULL,               -- empty: the source, of which no account was seen
    hop          TEXT NOT NULL,               -- auth, list, get, kms, write, lag, proof
    failing      INTEGER NOT NULL,
    since        INTEGER NOT NULL,            -- since when it is so
    turning      INTEGER,                     -- since when it is seen otherwise, without a break
    cause        TEXT,                        -- why it fails, or why it is about to
    PRIMARY KEY (source, organization, account, hop)
) STRICT, WITHOUT ROWID;
