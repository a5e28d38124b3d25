use tidelog_types::{Offset, ProducerId};

/// A transaction that was aborted: an entry of the transaction index (`.txnindex`).
///
/// ```text
///  0  version i16 = 0    18  last_offset i64
///  2  producer_id i64    26  last_stable_offset i64
/// 10  first_offset i64   34
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
    /// The marker that aborted it.
    pub last_offset: Offset,
    /// The last stable offset right after the marker: no later entry concerns offsets before it.
    pub last_stable_offset: Offset,
}

impl AbortedTransaction {
    pub(crate) const SIZE: usize = 34;

    pub(crate) fn encode(&self) -> [u8; Self::SIZE] {
        let mut out = [0; Self::SIZE];
        out[2..10].copy_from_slice(&self.producer_id.value().to_be_bytes());
        out[10..18].copy_from_slice(&self.first_offset.value().to_be_bytes());
        out[18..26].copy_from_slice(&self.last_offset.value().to_be_bytes());
        out[26..].copy_from_slice(&self.last_stable_offset.value().to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        let at = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            i64::from_be_bytes(number)
        };
        Self {
            producer_id: ProducerId::new(at(2)),
            first_offset: Offset::new(at(10)),
            last_offset: Offset::new(at(18)),
            last_stable_offset: Offset::new(at(26)),
        }
    }

    /// All whole entries of an index up to the first one that cannot be one; zero bytes never are.
    pub(crate) fn decode_all(bytes: &[u8]) -> Vec<Self> {
        let mut entries: Vec<Self> = Vec::new();
        for chunk in bytes.as_chunks().0 {
            let entry = Self::decode(chunk);
            let follows = entries
                .last()
                .is_none_or(|last| entry.last_offset > last.last_offset);
            if chunk[..2] != [0, 0] || entry.last_offset <= entry.first_offset || !follows {
                break;
            }
            entries.push(entry);
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_where_they_make_no_sense() {
        let first = AbortedTransaction {
            producer_id: ProducerId::new(7),
            first_offset: Offset::new(1),
            last_offset: Offset::new(5),
            last_stable_offset: Offset::new(6),
        };
        let mut bytes = first.encode().to_vec();
        bytes.extend_from_slice(&[0; AbortedTransaction::SIZE]);
        bytes.push(1);
        assert_eq!(AbortedTransaction::decode_all(&bytes), [first]);
    }
}
