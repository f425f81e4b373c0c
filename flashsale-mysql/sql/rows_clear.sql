DELETE FROM lane_row WHERE activity_id = ? AND bucket = ?
