SELECT activity_id, bucket, user_id FROM orders WHERE order_id = ? AND activity_id = ? LIMIT 1
