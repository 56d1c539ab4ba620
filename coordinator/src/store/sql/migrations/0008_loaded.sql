-- File versions whose rows are in a table, each until a newer version of the same file is. They outlive the runs that loaded them.
-- `sink` and `file_key` are hashes of 32 digits: names and paths may be longer than what an index takes.
CREATE TABLE loaded_files (
    sink        TEXT   NOT NULL,
    file_key    TEXT   NOT NULL,
    runtime     TEXT   NOT NULL,
    path        TEXT   NOT NULL,
    size_bytes  BIGINT NOT NULL,
    modified_ns BIGINT NOT NULL,
    etag        TEXT   NOT NULL,
    run_id      TEXT   NOT NULL,
    loaded_ms   BIGINT NOT NULL,
    PRIMARY KEY (sink, file_key)
);
-- The run that loads into a table and puts down its files. It holds the table until it has ended.
CREATE TABLE loading_runs (
    sink   TEXT NOT NULL PRIMARY KEY,
    run_id TEXT NOT NULL
);
