SELECT user_id
FROM orders
WHERE activity_id = ? AND bucket = ? AND due_at IS NOT NULL
ORDER BY due_at, number
LIMIT ?
