SELECT entry FROM outbox WHERE activity_id = ? AND bucket = ? AND sequence >= ? ORDER BY sequence LIMIT ?
