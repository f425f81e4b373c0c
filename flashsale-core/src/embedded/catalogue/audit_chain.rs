//! The hash chain of the audit trail: storing rows, and detecting changed, moved or missing ones.

use serde_json::Value;

use crate::catalogue::{AuditBreak, AuditCheck, AuditHash, AuditRow};

/// The last row of a trail, which the next one refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) sequence: u64,
    pub(super) hash: AuditHash,
}

impl Head {
    const BYTES: usize = 40;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..].copy_from_slice(self.hash.as_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sequence, hash) = bytes.split_first_chunk::<8>()?;
        Some(Self { sequence: u64::from_be_bytes(*sequence), hash: <[u8; 32]>::try_from(hash).ok()?.into() })
    }
}

/// Hashes a row and encodes it for storage: the hash, then the hashed content as JSON.
pub(super) fn encode(row: &mut AuditRow) -> Result<Vec<u8>, serde_json::Error> {
    let content = serde_json::to_vec(row)?;
    row.hash = <[u8; 32]>::from(blake3::hash(&content)).into();
    Ok([&row.hash.as_bytes()[..], &content].concat())
}

/// Decodes a stored row with the stored hash, without verifying it.
pub(super) fn decode(stored: &[u8]) -> Result<AuditRow, String> {
    let (hash, content) = stored.split_first_chunk::<32>().ok_or("it is truncated")?;
    let mut row: AuditRow = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    row.hash = (*hash).into();
    Ok(row)
}

/// Verifies a trail row by row, from the first.
#[derive(Debug, Default)]
pub(super) struct Chain {
    head: Head,
    broken: Option<AuditBreak>,
}

impl Chain {
    /// Verifies the next stored row, found under `key`. Returns the row if it can be decoded.
    pub(super) fn follow(&mut self, key: u64, stored: &[u8]) -> Option<AuditRow> {
        let expected = self.head.sequence + 1;
        if key != expected {
            self.record_break(expected, "is missing".to_owned());
        }
        let row = match decode(stored) {
            Ok(row) => row,
            Err(reason) => {
                self.record_break(key, format!("was changed and cannot be read: {reason}"));
                self.head = Head { sequence: key, hash: AuditHash::default() };
                return None;
            }
        };
        if row.hash.as_bytes() != blake3::hash(&stored[32..]).as_bytes() {
            self.record_break(key, "was changed: its hash does not match".to_owned());
        }
        if row.sequence != key {
            self.record_break(key, format!("was changed or moved: it claims to be row {}", row.sequence));
        }
        if row.previous != self.head.hash {
            let reason = match self.head.sequence {
                0 => "is not the original first row".to_owned(),
                before => format!(
                    "was changed or inserted, or a later one was removed: row {key} does not follow row {before}"
                ),
            };
            self.record_break(self.head.sequence.max(1), reason);
        }
        self.head = Head { sequence: key, hash: row.hash };
        Some(row)
    }

    /// Records a break in the chain; only the first one counts.
    pub(super) fn record_break(&mut self, sequence: u64, reason: String) {
        self.broken.get_or_insert(AuditBreak { sequence, reason });
    }

    /// Compares the last row with the one that the writer recorded.
    pub(super) fn end(mut self, recorded: Head) -> AuditCheck {
        let found = self.head;
        if found.sequence < recorded.sequence {
            self.record_break(found.sequence + 1, "is missing".to_owned());
        } else if found.sequence > recorded.sequence {
            self.record_break(
                recorded.sequence + 1,
                "was added: it comes after the last recorded row".to_owned(),
            );
        } else if found.hash != recorded.hash {
            self.record_break(found.sequence, "was changed: it is not the last recorded row".to_owned());
        }
        AuditCheck { rows: found.sequence, hash: found.hash, broken: self.broken }
    }
}

/// Top-level fields that differ between two values, as `{field: {"was": …, "is": …}}`.
pub(super) fn differences(was: &Value, is: &Value) -> Value {
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (was, is) = (fields(was), fields(is));
    let changed = is.iter().filter(|(name, value)| was.get(*name) != Some(value)).map(|(name, value)| {
        let was = was.get(name).cloned().unwrap_or(Value::Null);
        (name.clone(), serde_json::json!({"was": was, "is": value}))
    });
    Value::Object(changed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue::Change, domain::Timestamp};

    type Stored = Vec<(u64, Vec<u8>)>;

    fn row(sequence: u64, previous: AuditHash) -> AuditRow {
        AuditRow {
            sequence,
            at: Timestamp::from_millis(sequence),
            actor: "chen".parse().unwrap(),
            reason: "双十一".parse().unwrap(),
            change: Change {
                action: "offer.adjusted".parse().unwrap(),
                subject: "offer/1/11".parse().unwrap(),
                detail: serde_json::json!({"delta": sequence}),
            },
            event: sequence.is_multiple_of(2).then(|| format!("adjusted/1/{sequence}").parse().unwrap()),
            previous,
            hash: AuditHash::default(),
        }
    }

    fn trail(rows: u64) -> (Stored, Head) {
        let (mut stored, mut head) = (Vec::new(), Head::default());
        for sequence in 1..=rows {
            let mut row = row(sequence, head.hash);
            stored.push((sequence, encode(&mut row).unwrap()));
            head = Head { sequence, hash: row.hash };
        }
        (stored, head)
    }

    fn broken(stored: &Stored, head: Head) -> Option<u64> {
        let mut chain = Chain::default();
        for (key, row) in stored {
            chain.follow(*key, row);
        }
        chain.end(head).broken.map(|broken| broken.sequence)
    }

    /// Renumbers the rows from 1, as a careful forger would, and hashes them again if `rehash` is
    /// set.
    fn renumbered(stored: Stored, rehash: bool) -> Stored {
        let rows = (1..).zip(stored);
        rows.map(|(sequence, (_, bytes))| {
            let mut row = decode(&bytes).unwrap();
            row.sequence = sequence;
            (sequence, if rehash { encode(&mut row).unwrap() } else { bytes })
        })
        .collect()
    }

    #[test]
    fn an_intact_trail_has_no_break() {
        for rows in 0..5 {
            let (stored, head) = trail(rows);
            assert_eq!(broken(&stored, head), None);
            assert_eq!(Head::from_bytes(&head.to_bytes()), Some(head));
        }
        let (stored, _) = trail(2);
        let first = decode(&stored[0].1).unwrap();
        assert_eq!(decode(&stored[1].1).unwrap().previous, first.hash);
        assert_eq!(first.hash.to_string().parse::<AuditHash>().unwrap(), first.hash);
    }

    #[test]
    fn any_changed_byte_is_found_in_its_row() {
        let (stored, head) = trail(4);
        for index in 0..stored.len() {
            for byte in 0..stored[index].1.len() {
                for flip in [0x01, 0x20, 0x80] {
                    let mut changed = stored.clone();
                    changed[index].1[byte] ^= flip;
                    let found = broken(&changed, head).expect("it was changed");
                    assert_eq!(found, stored[index].0, "byte {byte} of row {}", stored[index].0);
                }
            }
            let mut cut = stored.clone();
            cut[index].1.truncate(20);
            assert_eq!(broken(&cut, head), Some(stored[index].0));
        }
    }

    #[test]
    fn a_changed_row_with_a_new_hash_is_found() {
        let (stored, head) = trail(4);
        for index in 0..stored.len() {
            let mut changed = stored.clone();
            let mut row = decode(&changed[index].1).unwrap();
            row.actor = "somebody else".parse().unwrap();
            changed[index].1 = encode(&mut row).unwrap();
            assert_eq!(broken(&changed, head), Some(stored[index].0));
        }
    }

    #[test]
    fn removed_inserted_and_swapped_rows_are_found() {
        let (stored, head) = trail(4);
        for index in 0..stored.len() {
            let mut removed = stored.clone();
            removed.remove(index);
            assert_eq!(broken(&removed, head), Some(stored[index].0), "a gap");
            assert!(broken(&renumbered(removed.clone(), false), head).is_some());
            assert!(broken(&renumbered(removed, true), head).is_some());

            let mut inserted = stored.clone();
            inserted.insert(index, stored[0].clone());
            assert!(broken(&renumbered(inserted.clone(), false), head).is_some());
            assert!(broken(&renumbered(inserted, true), head).is_some());
        }
        let mut swapped = stored;
        let (one, two) = (swapped[1].1.clone(), swapped[2].1.clone());
        (swapped[1].1, swapped[2].1) = (two, one);
        assert_eq!(broken(&swapped, head), Some(2));
        assert!(broken(&renumbered(swapped, true), head).is_some());
        let (longer, _) = trail(5);
        assert_eq!(broken(&longer, head), Some(5), "a row after the recorded end");
    }
}
