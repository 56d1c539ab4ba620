-- Runs by their schedule, which their ids tell: its name and 17 characters for the end of the window.
CREATE INDEX runs_by_schedule ON runs ((CASE WHEN LENGTH(id) > 17 THEN SUBSTR(id, 1, LENGTH(id) - 17) END), submitted_ms, id);
