DELETE FROM orders WHERE activity_id = ? AND bucket = ?
