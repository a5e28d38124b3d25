//! Which partition a record without one goes to, as Kafka's own client decides it.

use std::fmt;

use tidelog_types::PartitionIndex;

use crate::backoff::Random;

/// Decides where records go that name no partition.
///
/// Unless a producer is given another one, it does what Kafka's own client does by default: a record with a key goes where
/// [`partition_for_key`] says; records without a key go to one partition until about a batch's worth has gone there, and then to
/// another, which is the more likely to be chosen the less waits for it (KIP-480, KIP-794).
pub trait Partitioner: fmt::Debug + Send + Sync {
    /// The partition, below `partitions`, for a record of `topic`. Called for every record, under a lock: it should be quick.
    fn partition(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        partitions: i32,
    ) -> PartitionIndex;
}

/// The 32 bits of MurmurHash2 by which Kafka's own client spreads keys.
///
/// ```
/// assert_eq!(tidelog_client::murmur2(b"21"), -973932308);
/// ```
pub const fn murmur2(key: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut h = SEED ^ key.len() as u32;
    let mut rest = key;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
        rest = behind;
    }
    if let [first, others @ ..] = rest {
        if let [second, others @ ..] = others {
            if let [third, ..] = others {
                h ^= (*third as u32) << 16;
            }
            h ^= (*second as u32) << 8;
        }
        h ^= *first as u32;
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ (h >> 15)) as i32
}

/// The partition of a topic with so many `partitions` that Kafka's own client chooses for a key.
///
/// # Panics
/// If `partitions` is not positive.
pub const fn partition_for_key(key: &[u8], partitions: i32) -> PartitionIndex {
    assert!(partitions > 0, "a topic has partitions");
    (murmur2(key) & i32::MAX) % partitions
}

/// The partition at which the records of a topic without a key stay for a while (KIP-794).
#[derive(Debug, Default)]
pub(super) struct Sticky {
    partition: Option<PartitionIndex>,
    /// How much has gone there.
    bytes: usize,
}

impl Sticky {
    /// The partition now; `loads` gives each partition that has a leader, with the batches that wait for it.
    pub(super) fn partition(
        &mut self,
        partitions: i32,
        random: &mut Random,
        loads: impl FnOnce() -> Vec<(PartitionIndex, usize)>,
    ) -> PartitionIndex {
        if let Some(partition) = self.partition.filter(|partition| *partition < partitions) {
            return partition;
        }
        let partition = choose(partitions, &loads(), random);
        *self = Self {
            partition: Some(partition),
            bytes: 0,
        };
        partition
    }

    /// So much more went to the partition. It is left behind when that makes a batch; in the middle of an open batch only when it
    /// makes two, so that no batch leaves half full for it.
    pub(super) fn count(
        &mut self,
        bytes: usize,
        batch_bytes: usize,
        has_open_batch: impl FnOnce() -> bool,
    ) {
        self.bytes += bytes;
        let is_enough = self.bytes >= batch_bytes && !has_open_batch();
        if is_enough || self.bytes >= 2 * batch_bytes {
            self.partition = None;
        }
    }
}

/// One of the partitions with a leader, or, if there are none, of all: each as likely as its queue is shorter than the longest,
/// and one.
fn choose(
    partitions: i32,
    loads: &[(PartitionIndex, usize)],
    random: &mut Random,
) -> PartitionIndex {
    let longest = loads.iter().map(|(_, queue)| *queue).max();
    let Some(longest) = longest else {
        return (random.next() % partitions.max(1) as u64) as PartitionIndex;
    };
    let weight = |queue: usize| (longest + 1 - queue) as u64;
    let sum: u64 = loads.iter().map(|(_, queue)| weight(*queue)).sum();
    let mut place = random.next() % sum;
    for (partition, queue) in loads {
        if place < weight(*queue) {
            return *partition;
        }
        place -= weight(*queue);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafkas_own_tests() {
        let expected: [(&[u8], i32); 8] = [
            (b"21", -973932308),
            (b"foobar", -790332482),
            (b"a-little-bit-long-string", -985981536),
            (b"a-little-bit-longer-string", -1486304829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58897971,
            ),
            (b"abc", 479470107),
            (b"", 275646681),
            (b"1", -1993445489),
        ];
        for (key, hash) in expected {
            assert_eq!(murmur2(key), hash, "{key:?}");
        }
    }

    /// testdata/partitions.txt is what Kafka's own classes say of the keys `key-0` to `key-99999` (see its first lines).
    #[test]
    fn a_hundred_thousand_keys_go_where_kafkas_client_sends_them() {
        let expected = include_str!("../../testdata/partitions.txt");
        let mut lines = expected.lines().filter(|line| !line.starts_with('#'));
        for line in lines.by_ref().take_while(|line| !line.is_empty()) {
            let fields: Vec<_> = line.split(' ').collect();
            let [key, hash, partition] = fields[..] else {
                panic!("{line}");
            };
            assert_eq!(murmur2(key.as_bytes()).to_string(), hash, "{line}");
            let ours = partition_for_key(key.as_bytes(), 12);
            assert_eq!(ours.to_string(), partition, "{line}");
        }
        let folded = (0..100_000).fold(0_i64, |sum, i| {
            let key = format!("key-{i}");
            let partition = partition_for_key(key.as_bytes(), 1 + i % 997);
            sum.wrapping_mul(31).wrapping_add(partition.into())
        });
        let line = lines.next().expect("the sum over all");
        assert_eq!(line, format!("sum {folded}"));
    }

    #[test]
    fn short_queues_are_chosen_more_often() {
        let mut random = Random::new(3);
        let mut counts = [0; 3];
        for _ in 0..6000 {
            let chosen = choose(3, &[(0, 0), (1, 3), (2, 2)], &mut random);
            counts[chosen as usize] += 1;
        }
        // Weights 4, 1 and 2.
        assert!((3200..3650).contains(&counts[0]), "{counts:?}");
        assert!((750..970).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn a_partition_is_kept_for_a_batch_and_left_at_its_end() {
        let mut random = Random::new(3);
        let mut sticky = Sticky::default();
        let mut at = |sticky: &mut Sticky| sticky.partition(1000, &mut random, Vec::new);
        let first = at(&mut sticky);
        sticky.count(99, 100, || false);
        assert_eq!(at(&mut sticky), first);
        sticky.count(1, 100, || true);
        assert_eq!(at(&mut sticky), first, "the open batch is filled first");
        sticky.count(1, 100, || false);
        let second = at(&mut sticky);
        assert_ne!(second, first);
        sticky.count(200, 100, || true);
        assert_ne!(at(&mut sticky), second);
    }
}
