-- How fast ingest commands went, as weighted sums. See store/paces.rs.
CREATE TABLE paces (
    endpoint        TEXT   NOT NULL,
    db              TEXT   NOT NULL,
    ingestion       TEXT   NOT NULL,
    last_ms         BIGINT NOT NULL,
    commands        BIGINT NOT NULL,
    weight          DOUBLE PRECISION NOT NULL,
    bytes           DOUBLE PRECISION NOT NULL,
    seconds         DOUBLE PRECISION NOT NULL,
    bytes_squared   DOUBLE PRECISION NOT NULL,
    bytes_seconds   DOUBLE PRECISION NOT NULL,
    publish_weight  DOUBLE PRECISION NOT NULL,
    publish_seconds DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (endpoint, db, ingestion)
);
