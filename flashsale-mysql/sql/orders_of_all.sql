SELECT user_id, number, due_at, is_owed, content
FROM orders
WHERE activity_id = ? AND bucket = ?
