INSERT INTO lane_row (activity_id, bucket, name, value) VALUES /* (?, ?, ?, ?) */ ON DUPLICATE KEY UPDATE value = VALUES(value)
