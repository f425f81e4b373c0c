SELECT user_id, number, due_at, is_owed, content
FROM orders
WHERE activity_id = ? AND bucket = ? AND is_owed = TRUE AND number > ?
ORDER BY number
LIMIT ?
