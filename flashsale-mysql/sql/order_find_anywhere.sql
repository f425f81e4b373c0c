SELECT activity_id, bucket, user_id FROM orders WHERE order_id = ? LIMIT 1
