INSERT INTO worker_lease (worker, holder, begins_at, ends_at) VALUES (?, ?, ?, ?)
ON DUPLICATE KEY UPDATE holder = VALUES(holder), begins_at = VALUES(begins_at), ends_at = VALUES(ends_at)
