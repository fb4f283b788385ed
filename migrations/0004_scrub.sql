-- Scrub: the slow walk that reads the copy again. One row a source: the round that is under way, and the last one.
CREATE TABLE scrubs (
    source        TEXT PRIMARY KEY,
    began         INTEGER,                    -- when the round under way began; NULL: it rests
    prefix        TEXT NOT NULL DEFAULT '',   -- the stream in which it stands
    day           INTEGER NOT NULL DEFAULT -1, -- manifests of that stream's days up to this one were compared
    suffix        TEXT,                       -- the last key of it that was read again; NULL: its manifests come first
    objects       INTEGER NOT NULL DEFAULT 0, -- read again in this round
    bytes         INTEGER NOT NULL DEFAULT 0,
    findings      INTEGER NOT NULL DEFAULT 0,
    last_began    INTEGER,                    -- the last complete round
    last_ended    INTEGER,
    last_objects  INTEGER NOT NULL DEFAULT 0,
    last_findings INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
