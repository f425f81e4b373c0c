DELETE FROM outbox WHERE activity_id = ? AND bucket = ?
