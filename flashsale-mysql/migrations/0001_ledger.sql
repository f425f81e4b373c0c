-- Everything that the ledger keeps. docs/SCHEMA.md explains the tables and says what each index is for.
-- A crash may interrupt a migration between two statements, so each can be repeated.

CREATE TABLE IF NOT EXISTS lane (
    activity_id BIGINT UNSIGNED NOT NULL,
    bucket SMALLINT UNSIGNED NOT NULL,
    version BIGINT UNSIGNED NOT NULL COMMENT 'random; changes with every commit, in the same transaction',
    PRIMARY KEY (activity_id, bucket)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS lane_row (
    activity_id BIGINT UNSIGNED NOT NULL,
    bucket SMALLINT UNSIGNED NOT NULL,
    name VARBINARY(300) NOT NULL COMMENT 'head, terms, payment/7, adjustment/a-1, ...',
    value MEDIUMBLOB NOT NULL,
    PRIMARY KEY (activity_id, bucket, name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS offer_units (
    activity_id BIGINT UNSIGNED NOT NULL,
    bucket SMALLINT UNSIGNED NOT NULL,
    sku_id BIGINT UNSIGNED NOT NULL,
    share BIGINT NOT NULL COMMENT 'units that the lane began with',
    adjusted BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    received BIGINT NOT NULL,
    available BIGINT NOT NULL,
    held BIGINT NOT NULL,
    sold BIGINT NOT NULL,
    pending BIGINT NOT NULL COMMENT 'units that pay-time orders wait for; they are still available',
    PRIMARY KEY (activity_id, bucket, sku_id),
    CONSTRAINT offer_units_not_oversold CHECK (available >= 0 AND held >= 0 AND sold >= 0)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS orders (
    activity_id BIGINT UNSIGNED NOT NULL,
    bucket SMALLINT UNSIGNED NOT NULL,
    number BIGINT UNSIGNED NOT NULL COMMENT 'in the lane, in the order in which orders came into it',
    order_id BIGINT UNSIGNED NOT NULL,
    user_id BIGINT UNSIGNED NOT NULL,
    sku_id BIGINT UNSIGNED NOT NULL,
    quantity INT UNSIGNED NOT NULL,
    amount BIGINT UNSIGNED NOT NULL COMMENT 'minor units of the currency, frozen when the order was placed',
    currency BINARY(3) NOT NULL,
    status ENUM ('pending', 'paying', 'paid', 'cancelled', 'expired', 'refused') NOT NULL,
    placed_at DATETIME(3) NOT NULL,
    due_at DATETIME(3) NULL COMMENT 'NULL if nothing is due',
    is_owed BOOLEAN NULL COMMENT 'TRUE if a refund can be sent, else NULL',
    idempotency_key BINARY(16) NULL,
    nonce BIGINT UNSIGNED NULL,
    replaces BIGINT UNSIGNED NULL,
    content BLOB NOT NULL COMMENT 'the whole order; the ledger reads this one',
    PRIMARY KEY (activity_id, bucket, number),
    KEY orders_of_buyer (activity_id, bucket, user_id),
    KEY orders_due (activity_id, bucket, due_at, number),
    KEY orders_owed (activity_id, bucket, is_owed, number),
    KEY orders_by_id (order_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS outbox (
    activity_id BIGINT UNSIGNED NOT NULL,
    bucket SMALLINT UNSIGNED NOT NULL,
    sequence BIGINT UNSIGNED NOT NULL,
    entry MEDIUMBLOB NOT NULL,
    PRIMARY KEY (activity_id, bucket, sequence)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
