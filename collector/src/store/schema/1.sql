-- Every incident in its last revision. Stamps are microseconds since the epoch, UTC.
CREATE TABLE incident (
    id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    kind TEXT NOT NULL,
    cause TEXT NOT NULL,
    severity TEXT NOT NULL,
    state TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    closed_at INTEGER,
    job TEXT,
    node TEXT,
    gpu INTEGER,
    -- All of it, as the API has it.
    json TEXT NOT NULL,
    -- What was announced of it, and under which labels. Null: nothing.
    announcement TEXT
) STRICT;

CREATE INDEX incident_by_start ON incident (started_at);
CREATE INDEX incident_by_node ON incident (node, started_at);
CREATE INDEX incident_open ON incident (state) WHERE state = 'open';

-- The checkpoint that counts: a file beside the database. One row.
CREATE TABLE checkpoint (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    file TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    written_at INTEGER NOT NULL
) STRICT;
