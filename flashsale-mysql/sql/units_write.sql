INSERT INTO offer_units
    (activity_id, bucket, sku_id, share, adjusted, sent, received, available, held, sold, pending)
VALUES /* (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) */
ON DUPLICATE KEY UPDATE
    share = VALUES(share), adjusted = VALUES(adjusted), sent = VALUES(sent), received = VALUES(received),
    available = VALUES(available), held = VALUES(held), sold = VALUES(sold), pending = VALUES(pending)
