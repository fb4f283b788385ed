-- Which tree or bucket holds the copies of a source: the id that is kept in its `.trailsync/id`.
CREATE TABLE destinations (
    source TEXT PRIMARY KEY,
    id     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
