-- What people page through: files by path and by size, the few commands that were refused, runs by state. The condition keeps
-- the planner from taking these for what is looked for again and again.
CREATE INDEX units_by_path ON units (run_id, path, number) WHERE number > 0;
CREATE INDEX units_by_size ON units (run_id, size_bytes, number) WHERE number > 0;
CREATE INDEX commands_rejected ON commands (run_id, unit, chunk) WHERE state = 'Rejected';
CREATE INDEX runs_by_state ON runs (state, submitted_ms, id);
