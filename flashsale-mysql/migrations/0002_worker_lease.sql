-- Which generator of ids has which worker id. Ids must never repeat, so no row is ever deleted.

CREATE TABLE IF NOT EXISTS worker_lease (
    worker SMALLINT UNSIGNED NOT NULL,
    holder BINARY(16) NULL COMMENT 'NULL if nobody holds it',
    begins_at BIGINT UNSIGNED NOT NULL COMMENT 'where the span of the holder starts, in ms of id time since 1970',
    ends_at BIGINT UNSIGNED NOT NULL COMMENT 'the high-water mark, in ms of id time since 1970; it never goes below a granted span',
    PRIMARY KEY (worker),
    CONSTRAINT worker_lease_span CHECK (begins_at <= ends_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
