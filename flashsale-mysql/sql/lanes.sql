SELECT activity_id, bucket FROM lane ORDER BY activity_id, bucket
