INSERT INTO orders
    (activity_id, bucket, number, order_id, user_id, sku_id, quantity, amount, currency, status, placed_at, due_at,
     is_owed, idempotency_key, nonce, replaces, content)
VALUES /* (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) */
ON DUPLICATE KEY UPDATE
    status = VALUES(status), due_at = VALUES(due_at), is_owed = VALUES(is_owed), content = VALUES(content)
