SELECT name, value FROM lane_row WHERE activity_id = ? AND bucket = ? AND name IN (/* ? */)
