-- Activities that are run again and again, and how far each came.
CREATE TABLE schedules (
    name     TEXT   NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL,
    -- JSON.
    body     TEXT   NOT NULL
);
