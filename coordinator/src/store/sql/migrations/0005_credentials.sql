-- What lets programs and nodes in. Of secrets only hashes are here.
CREATE TABLE tokens (
    id          TEXT   NOT NULL PRIMARY KEY,
    secret_hash TEXT   NOT NULL,
    -- viewer, operator, admin; or join.
    role        TEXT   NOT NULL,
    runtime     TEXT   NOT NULL,
    -- Null: any number.
    uses_left   BIGINT,
    created_ms  BIGINT NOT NULL,
    ends_ms     BIGINT NOT NULL,
    revoked_ms  BIGINT
);
CREATE TABLE identities (
    id         TEXT   NOT NULL PRIMARY KEY,
    runtime    TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    token_id   TEXT   NOT NULL,
    key_hash   TEXT   NOT NULL,
    joined_ms  BIGINT NOT NULL,
    ends_ms    BIGINT NOT NULL,
    revoked_ms BIGINT,
    UNIQUE (token_id, key_hash)
);
CREATE INDEX identities_by_name ON identities (name);
