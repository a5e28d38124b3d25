//! The map of the image whose clones share what did not change.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tidelog_types::{Str, TopicName, Uuid};

const SHARDS: usize = 256;

/// Says in which shard a key lives. A key and what it is looked up by must agree, and nothing random may take part:
/// images on different nodes iterate alike.
pub(crate) trait ShardKey {
    /// Any number; its lowest bits count.
    fn shard(&self) -> usize;
}

impl ShardKey for str {
    fn shard(&self) -> usize {
        // FNV-1a, folded. Names of one cluster need spreading, not protection from an attacker: a full shard is still a
        // balanced tree.
        let mut hash = 0x811c_9dc5_u32;
        for byte in self.bytes() {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        (hash ^ (hash >> 16)) as usize
    }
}

impl ShardKey for Str {
    fn shard(&self) -> usize {
        self.as_str().shard()
    }
}

impl ShardKey for TopicName {
    fn shard(&self) -> usize {
        self.as_str().shard()
    }
}

impl ShardKey for Uuid {
    fn shard(&self) -> usize {
        // All bits of the last byte of a random uuid are random.
        usize::from(self.as_bytes()[15])
    }
}

/// An ordered map in a fixed number of shards, each copied on its first write after a clone.
///
/// A clone costs one count. The first write after it copies the list of 256 shards and one shard, so in a cluster of
/// 100,000 topics a new topic copies some 400 entries and not 100,000.
#[derive(Clone, PartialEq)]
pub(crate) struct ShardedMap<K, V> {
    shards: Arc<Vec<Arc<BTreeMap<K, V>>>>,
    len: usize,
}

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        Self {
            shards: Arc::new(vec![Arc::default(); SHARDS]),
            len: 0,
        }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for ShardedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.shards.iter().flat_map(|shard| shard.iter()))
            .finish()
    }
}

impl<K: ShardKey + Ord + Clone, V: Clone> ShardedMap<K, V> {
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = self.shard_mut(key.shard()).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: ShardKey + Ord + ?Sized,
    {
        // A miss must not copy the shard.
        self.get(key)?;
        let removed = self.shard_mut(key.shard()).remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    pub(crate) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: ShardKey + Ord + ?Sized,
    {
        self.get(key)?;
        self.shard_mut(key.shard()).get_mut(key)
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: ShardKey + Ord + ?Sized,
    {
        self.shards[key.shard() % SHARDS].get(key)
    }

    /// All entries, shard by shard, by key within a shard.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    fn shard_mut(&mut self, shard: usize) -> &mut BTreeMap<K, V> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard % SHARDS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_had_and_shares_the_rest() {
        let mut map = ShardedMap::default();
        for i in 0..1000 {
            map.insert(TopicName::from(format!("topic-{i}")), i);
        }
        let before = map.clone();
        assert_eq!(map.insert(TopicName::from("topic-7"), 70), Some(7));
        assert_eq!(map.remove("topic-8"), Some(8));
        assert_eq!(map.remove("none"), None);
        *map.get_mut("topic-9").unwrap() = 90;
        assert_eq!(
            (before.get("topic-7"), map.get("topic-7")),
            (Some(&7), Some(&70))
        );
        assert_eq!(
            (before.get("topic-8"), map.get("topic-8")),
            (Some(&8), None)
        );
        assert_eq!(
            (before.get("topic-9"), map.get("topic-9")),
            (Some(&9), Some(&90))
        );
        assert_eq!((before.len(), map.len()), (1000, 999));
        assert_eq!(map.iter().count(), 999);
        let shared = before
            .shards
            .iter()
            .zip(map.shards.iter())
            .filter(|(a, b)| Arc::ptr_eq(a, b));
        assert!(shared.count() >= SHARDS - 3);
    }

    #[test]
    fn names_spread_over_the_shards() {
        let mut map = ShardedMap::default();
        for i in 0..25_600 {
            map.insert(TopicName::from(format!("orders.region-{i}")), ());
        }
        let largest = map.shards.iter().map(|shard| shard.len()).max().unwrap();
        assert!(largest < 200, "a shard holds {largest} of 25600 names");
    }
}
