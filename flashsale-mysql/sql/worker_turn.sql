INSERT INTO worker_lease (worker, holder, begins_at, ends_at) VALUES (0, NULL, 0, 0)
ON DUPLICATE KEY UPDATE worker = 0
