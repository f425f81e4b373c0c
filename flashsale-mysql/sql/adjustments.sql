SELECT name, value FROM lane_row WHERE activity_id = ? AND bucket = ? AND name >= 'adjustment/' AND name < 'adjustment0' ORDER BY name
