-- What is looked for all the time is found without reading a whole run, and a change of state moves few entries.
DROP INDEX units_by_state;
DROP INDEX units_by_lease;
DROP INDEX units_by_node;
DROP INDEX commands_by_state;
-- In the order in which pending units are granted.
CREATE INDEX units_pending ON units (run_id, size_bytes DESC, number, not_before_ms) WHERE state = 'Pending';
CREATE INDEX units_leased ON units (lease_node, run_id) WHERE state = 'Leased';
CREATE INDEX units_leased_of_run ON units (run_id, number, revision) WHERE state = 'Leased';
CREATE INDEX units_retried ON units (run_id, number) WHERE state = 'Pending' AND failure_json <> 'null';
CREATE INDEX units_failed ON units (run_id, number) WHERE state = 'Failed';
CREATE INDEX units_skipped ON units (run_id, number) WHERE state = 'Skipped';
CREATE INDEX commands_planned ON commands (run_id, is_doubtful, not_before_ms, unit, chunk) WHERE state = 'Planned';
CREATE INDEX commands_issued ON commands (run_id, unit, chunk) WHERE state = 'Issued';
