INSERT INTO outbox (activity_id, bucket, sequence, entry) VALUES /* (?, ?, ?, ?) */
