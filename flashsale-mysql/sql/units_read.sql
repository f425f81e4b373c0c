SELECT sku_id, share, adjusted, sent, received, available, held, sold, pending
FROM offer_units
WHERE activity_id = ? AND bucket = ?
