-- What a unit covers beside one whole file, and what came of it. `size_bytes` stays what the unit has to read.
ALTER TABLE units ADD COLUMN scope_json TEXT NOT NULL DEFAULT '"File"';
ALTER TABLE units ADD COLUMN file_count BIGINT NOT NULL DEFAULT 1;
ALTER TABLE units ADD COLUMN file_bytes BIGINT NOT NULL DEFAULT -1;
ALTER TABLE units ADD COLUMN tail_json TEXT NOT NULL DEFAULT 'null';
ALTER TABLE units DROP COLUMN columns_json;
