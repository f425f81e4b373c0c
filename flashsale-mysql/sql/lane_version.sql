SELECT version FROM lane WHERE activity_id = ? AND bucket = ?
