-- One row for each start that took up from a checkpoint: what was not seen meanwhile.
CREATE TABLE gap (
    started_at INTEGER PRIMARY KEY,
    -- Everything up to here had been judged.
    judged_until INTEGER NOT NULL,
    -- From when to when most of the fleet is missing; null: not known yet, or nothing is.
    unseen_from INTEGER,
    unseen_to INTEGER,
    unseen_seconds REAL,
    -- Share of what was expected that was there, from judged_until to when the judging had caught up.
    completeness REAL,
    -- When it had. Null: not yet.
    settled_at INTEGER
) STRICT;

-- What was learned of GPUs and nodes while they were healthy. NULL is no value of a key: '' and -1 stand for "none".
CREATE TABLE learned (
    what TEXT NOT NULL,
    job TEXT NOT NULL,
    node TEXT NOT NULL,
    gpu INTEGER NOT NULL,
    value REAL NOT NULL,
    learned_at INTEGER NOT NULL,
    PRIMARY KEY (what, job, node, gpu)
) STRICT, WITHOUT ROWID;
