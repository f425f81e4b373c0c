UPDATE lane SET version = ? WHERE activity_id = ? AND bucket = ? AND version = ?
