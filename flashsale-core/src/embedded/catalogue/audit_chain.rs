//! The hash chain of the audit trail: how rows are stored, and how a changed, moved or missing one is found.

use serde_json::Value;

use crate::catalogue::{AuditBreak, AuditCheck, AuditHash, AuditRow};

/// The end of a trail: what the next row follows.
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

/// A row as it is stored: its hash, then what is hashed as JSON.
pub(super) fn seal(row: &mut AuditRow) -> Result<Vec<u8>, serde_json::Error> {
    let content = serde_json::to_vec(row)?;
    row.hash = <[u8; 32]>::from(blake3::hash(&content)).into();
    Ok([&row.hash.as_bytes()[..], &content].concat())
}

/// A stored row; its hash is taken as it stands there.
pub(super) fn open(stored: &[u8]) -> Result<AuditRow, String> {
    let (hash, content) = stored.split_first_chunk::<32>().ok_or("it is cut off")?;
    let mut row: AuditRow = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    row.hash = (*hash).into();
    Ok(row)
}

/// Follows a trail row by row, from the first.
#[derive(Debug, Default)]
pub(super) struct Chain {
    head: Head,
    broken: Option<AuditBreak>,
}

impl Chain {
    /// Looks at the next stored row, under the key that it has; gives what it says if it is whole.
    pub(super) fn follow(&mut self, key: u64, stored: &[u8]) -> Option<AuditRow> {
        let expected = self.head.sequence + 1;
        if key != expected {
            self.fail(expected, "is missing".to_owned());
        }
        let row = match open(stored) {
            Ok(row) => row,
            Err(reason) => {
                self.fail(key, format!("was changed, it cannot be read: {reason}"));
                self.head = Head { sequence: key, hash: AuditHash::default() };
                return None;
            }
        };
        if row.hash.as_bytes() != blake3::hash(&stored[32..]).as_bytes() {
            self.fail(key, "was changed, it does not have its hash".to_owned());
        }
        if row.sequence != key {
            self.fail(key, format!("was changed or moved, it says that it is row {}", row.sequence));
        }
        if row.previous != self.head.hash {
            let reason = match self.head.sequence {
                0 => "is not the first one that was written".to_owned(),
                before => format!(
                    "was changed or put there, or one after it was removed: row {key} does not follow row {before}"
                ),
            };
            self.fail(self.head.sequence.max(1), reason);
        }
        self.head = Head { sequence: key, hash: row.hash };
        Some(row)
    }

    /// Notes a place that is not as it was written; the first one counts.
    pub(super) fn fail(&mut self, sequence: u64, reason: String) {
        self.broken.get_or_insert(AuditBreak { sequence, reason });
    }

    /// Compares the end with what the writer noted as the last row.
    pub(super) fn end(mut self, noted: Head) -> AuditCheck {
        let found = self.head;
        if found.sequence < noted.sequence {
            self.fail(found.sequence + 1, "is missing".to_owned());
        } else if found.sequence > noted.sequence {
            self.fail(
                noted.sequence + 1,
                "was put there, it is behind the last row that was written".to_owned(),
            );
        } else if found.hash != noted.hash {
            self.fail(found.sequence, "was changed, it is not the last row that was written".to_owned());
        }
        AuditCheck { rows: found.sequence, hash: found.hash, broken: self.broken }
    }
}

/// What differs between two values, as `{field: {"was": …, "is": …}}` of their top-level fields.
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
            stored.push((sequence, seal(&mut row).unwrap()));
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

    /// Gives rows the keys 1, 2, … as somebody would who removes or adds one with care, and seals each as if it had
    /// always been there.
    fn renumbered(stored: Stored, seals: bool) -> Stored {
        let rows = (1..).zip(stored);
        rows.map(|(sequence, (_, bytes))| {
            let mut row = open(&bytes).unwrap();
            row.sequence = sequence;
            (sequence, if seals { seal(&mut row).unwrap() } else { bytes })
        })
        .collect()
    }

    #[test]
    fn a_whole_trail_is_whole() {
        for rows in 0..5 {
            let (stored, head) = trail(rows);
            assert_eq!(broken(&stored, head), None);
            assert_eq!(Head::from_bytes(&head.to_bytes()), Some(head));
        }
        let (stored, _) = trail(2);
        let first = open(&stored[0].1).unwrap();
        assert_eq!(open(&stored[1].1).unwrap().previous, first.hash);
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
    fn a_row_that_was_sealed_anew_is_found() {
        let (stored, head) = trail(4);
        for index in 0..stored.len() {
            let mut changed = stored.clone();
            let mut row = open(&changed[index].1).unwrap();
            row.actor = "somebody else".parse().unwrap();
            changed[index].1 = seal(&mut row).unwrap();
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
        assert_eq!(broken(&longer, head), Some(5), "behind the end");
    }
}
