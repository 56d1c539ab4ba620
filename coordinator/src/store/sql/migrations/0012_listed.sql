-- Files that a listing has named so far: no page of it may bring one again. `attempt` is the one at the listing: a new one begins
-- from nothing. `file_key` is a hash of 40 digits, those of one folder side by side. Of use until the listing has ended.
CREATE TABLE listed_files (
    run_id   TEXT   NOT NULL,
    attempt  BIGINT NOT NULL,
    file_key TEXT   NOT NULL,
    PRIMARY KEY (run_id, attempt, file_key)
);
