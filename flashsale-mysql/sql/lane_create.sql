INSERT IGNORE INTO lane (activity_id, bucket, version) VALUES (?, ?, ?)
