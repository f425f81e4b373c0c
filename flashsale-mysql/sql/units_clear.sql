DELETE FROM offer_units WHERE activity_id = ? AND bucket = ?
