-- Times are milliseconds since 1970-01-01 UTC. Columns named *_json hold a value exactly as the program writes it;
-- the columns beside them repeat what is searched by.

CREATE TABLE runs (
    id           TEXT   NOT NULL PRIMARY KEY,
    state        TEXT   NOT NULL,
    is_live      BIGINT NOT NULL,
    submitted_ms BIGINT NOT NULL,
    revision     BIGINT NOT NULL,
    run_json     TEXT   NOT NULL
);
CREATE INDEX runs_live ON runs (is_live, submitted_ms);
CREATE INDEX runs_submitted ON runs (submitted_ms);

CREATE TABLE units (
    run_id             TEXT   NOT NULL,
    number             BIGINT NOT NULL,
    state              TEXT   NOT NULL,
    state_json         TEXT   NOT NULL,
    revision           BIGINT NOT NULL,
    not_before_ms      BIGINT NOT NULL,
    lease_node         TEXT   NOT NULL,
    lease_expires_ms   BIGINT NOT NULL,
    path               TEXT   NOT NULL,
    relative_path      TEXT   NOT NULL,
    size_bytes         BIGINT NOT NULL,
    modified_ns        BIGINT NOT NULL,
    etag               TEXT   NOT NULL,
    attempts           BIGINT NOT NULL,
    data_read_bytes    BIGINT NOT NULL,
    data_written_bytes BIGINT NOT NULL,
    staged_bytes       BIGINT NOT NULL,
    rows_read          BIGINT NOT NULL,
    rows_skipped       BIGINT NOT NULL,
    columns_json       TEXT   NOT NULL,
    failure_json       TEXT   NOT NULL,
    node_name          TEXT   NOT NULL,
    PRIMARY KEY (run_id, number)
);
-- In the order in which pending units are granted.
CREATE INDEX units_by_state ON units (run_id, state, size_bytes DESC, number);
CREATE INDEX units_by_lease ON units (state, lease_expires_ms);
CREATE INDEX units_by_node ON units (lease_node);

CREATE TABLE chunks (
    run_id     TEXT   NOT NULL,
    unit       BIGINT NOT NULL,
    number     BIGINT NOT NULL,
    attempt    BIGINT NOT NULL,
    chunk_json TEXT   NOT NULL,
    PRIMARY KEY (run_id, unit, number)
);

CREATE TABLE commands (
    run_id        TEXT   NOT NULL,
    unit          BIGINT NOT NULL,
    chunk         BIGINT NOT NULL,
    state         TEXT   NOT NULL,
    state_json    TEXT   NOT NULL,
    revision      BIGINT NOT NULL,
    not_before_ms BIGINT NOT NULL,
    is_doubtful   BIGINT NOT NULL,
    tag           TEXT   NOT NULL,
    blob          TEXT   NOT NULL,
    row_count     BIGINT NOT NULL,
    raw_bytes     BIGINT NOT NULL,
    PRIMARY KEY (run_id, unit, chunk)
);
CREATE INDEX commands_by_state ON commands (run_id, state, is_doubtful, not_before_ms);

CREATE TABLE nodes (
    id           TEXT   NOT NULL PRIMARY KEY,
    last_seen_ms BIGINT NOT NULL,
    node_json    TEXT   NOT NULL
);
