CREATE TABLE IF NOT EXISTS tables (
    db TEXT NOT NULL, name TEXT NOT NULL, columns_json TEXT NOT NULL, PRIMARY KEY (db, name)
);
CREATE TABLE IF NOT EXISTS extents (
    id TEXT NOT NULL PRIMARY KEY, db TEXT NOT NULL, table_name TEXT NOT NULL, row_count INTEGER NOT NULL,
    original_size INTEGER NOT NULL, extent_size INTEGER NOT NULL, created_ticks INTEGER NOT NULL, tags_json TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS extents_by_table ON extents (db, table_name);
CREATE TABLE IF NOT EXISTS mappings (
    db TEXT NOT NULL, table_name TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, mapping TEXT NOT NULL,
    PRIMARY KEY (db, table_name, kind, name)
);
CREATE TABLE IF NOT EXISTS operations (
    id TEXT NOT NULL PRIMARY KEY, operation TEXT NOT NULL, started_ticks INTEGER NOT NULL, updated_ticks INTEGER NOT NULL,
    state TEXT NOT NULL, status TEXT NOT NULL, root TEXT NOT NULL, should_retry INTEGER NOT NULL, db TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS commands (
    request_id TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, db TEXT NOT NULL, started_ticks INTEGER NOT NULL,
    updated_ticks INTEGER NOT NULL, state TEXT NOT NULL, root TEXT NOT NULL, failure TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS commands_by_request ON commands (request_id);
CREATE TABLE IF NOT EXISTS data_operations (
    at_ticks INTEGER NOT NULL, db TEXT NOT NULL, table_name TEXT NOT NULL, request_id TEXT NOT NULL, row_count INTEGER NOT NULL,
    original_size INTEGER NOT NULL, extent_size INTEGER NOT NULL, duration_ticks INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS failures (
    operation TEXT NOT NULL, db TEXT NOT NULL, table_name TEXT NOT NULL, at_ticks INTEGER NOT NULL, path TEXT NOT NULL,
    details TEXT NOT NULL, is_permanent INTEGER NOT NULL, root TEXT NOT NULL, error_code TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS queued (
    operation TEXT NOT NULL, source_id TEXT NOT NULL, db TEXT NOT NULL, table_name TEXT NOT NULL, url TEXT NOT NULL,
    properties_json TEXT NOT NULL, status TEXT NOT NULL, error_code TEXT NOT NULL, failure_status TEXT NOT NULL,
    details TEXT NOT NULL, tries INTEGER NOT NULL, started_ticks INTEGER NOT NULL, updated_ticks INTEGER NOT NULL,
    PRIMARY KEY (operation, source_id)
);
CREATE INDEX IF NOT EXISTS queued_by_status ON queued (status);
