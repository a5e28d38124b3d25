//! Where the newest record of each key is.

use siphasher::sip128::SipHasher13;
use tidelog_types::Offset;

/// From a bounded number of keys to the last offset of each: 24 bytes a key, whatever the key's size.
///
/// Keys are known by a 128-bit keyed hash. Two keys with the same hash would be one, and the record of one lost; without
/// the secret nobody can make such keys, and by accident it does not happen.
///
/// The entries of an open-addressed table with linear probing, kept in the order of their hashes: a search ends where a
/// larger hash stands, so that a key which is not there is found missing as quickly as another one is found.
pub(super) struct OffsetMap {
    hasher: SipHasher13,
    entries: Vec<Entry>,
    /// How many places a hash can point to; behind them is room for what does not fit there.
    homes: usize,
    /// It grows up to so many entries.
    entries_max: usize,
    keys: usize,
    keys_max: usize,
    latest: Offset,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: [u64; 2],
    /// The offset behind the record's; 0 in an entry that is free.
    next: i64,
}

impl Entry {
    /// Its hash is no smaller than any, so that every search ends here.
    const FREE: Self = Self {
        hash: [u64::MAX; 2],
        next: 0,
    };

    const fn is_free(&self) -> bool {
        self.next == 0
    }
}

/// As one number, which is compared at once.
const fn number(hash: [u64; 2]) -> u128 {
    (hash[0] as u128) << 64 | hash[1] as u128
}

/// A key, as far as the map knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyHash([u64; 2]);

const ENTRY_SIZE: usize = size_of::<Entry>();

/// Entries that are pushed behind the last home need room there, more of it the fuller the table is.
const SPARE_MAX: usize = 4096;

/// What a map begins with, unless its bound is lower.
const ENTRIES_MIN: usize = 8192;

/// How full it gets before it grows. The fuller it is, the longer are the ways to a key; the larger, the less of it is in the
/// processor's caches.
const LOAD_BEFORE_GROWTH: f64 = 0.7;

/// How many of the entries are homes.
fn homes_of(entries: usize) -> usize {
    entries - (entries / 2).min(SPARE_MAX)
}

impl OffsetMap {
    /// A map that grows to at most `bytes_max` bytes, filled up to `load_factor` then.
    pub(super) fn new(seed: [u8; 16], bytes_max: usize, load_factor: f64) -> Self {
        let load_factor = load_factor.clamp(0.05, 0.95);
        let entries_max = (bytes_max / ENTRY_SIZE).max(4);
        let entries = entries_max.min(ENTRIES_MIN);
        Self {
            hasher: SipHasher13::new_with_key(&seed),
            entries: vec![Entry::FREE; entries],
            homes: homes_of(entries),
            entries_max,
            keys: 0,
            keys_max: ((homes_of(entries_max) as f64 * load_factor) as usize).max(1),
            latest: Offset::NONE,
        }
    }

    /// Up to which offset the map knows everything.
    pub(super) const fn latest(&self) -> Offset {
        self.latest
    }

    /// Notes that the map knows everything up to `offset`.
    pub(super) fn advance(&mut self, offset: Offset) {
        self.latest = self.latest.max(offset);
    }

    /// How full the map is, from 0 to 1.
    pub(super) fn utilization(&self) -> f64 {
        self.keys as f64 / homes_of(self.entries_max) as f64
    }

    /// Notes the newest record of a key so far. False if there is no room for any more; then nothing was noted.
    #[must_use]
    pub(super) fn put(&mut self, hash: KeyHash, offset: Offset) -> bool {
        if self.keys >= self.keys_max {
            return false;
        }
        if self.keys as f64 >= self.homes as f64 * LOAD_BEFORE_GROWTH {
            self.grow();
        }
        let KeyHash(hash) = hash;
        let next = offset.value() + 1;
        let at = self.find(hash);
        let found = self.entries[at];
        if found.is_free() || found.hash != hash {
            let free = self.entries[at..].iter().position(Entry::is_free);
            // The last entry stays free, so that every search ends.
            let free = free.map_or(self.entries.len(), |n| at + n);
            if free + 1 >= self.entries.len() {
                return false;
            }
            self.entries.copy_within(at..free, at + 1);
            self.keys += 1;
        }
        self.entries[at] = Entry { hash, next };
        self.latest = offset;
        true
    }

    /// Doubles the table, as far as its bound allows, in its own memory: all entries go to its end, and from there, in the
    /// order in which they are, to where they belong now.
    fn grow(&mut self) {
        let before = self.entries.len();
        let after = (2 * before).min(self.entries_max);
        if after == before {
            return;
        }
        self.entries.reserve_exact(after - before);
        self.entries.resize(after, Entry::FREE);
        self.homes = homes_of(after);
        let mut first = after;
        for from in (0..before).rev() {
            if !self.entries[from].is_free() {
                first -= 1;
                self.entries[first] = std::mem::replace(&mut self.entries[from], Entry::FREE);
            }
        }
        let mut free = 0;
        for from in first..after {
            let entry = std::mem::replace(&mut self.entries[from], Entry::FREE);
            let at = self.home(entry.hash).max(free);
            assert!(at <= from, "what is behind the last home finds room there");
            self.entries[at] = entry;
            free = at + 1;
        }
    }

    /// The offset of the newest record of the key, if the map has the key.
    pub(super) fn newest(&self, hash: KeyHash) -> Option<Offset> {
        let KeyHash(hash) = hash;
        let found = self.entries[self.find(hash)];
        (!found.is_free() && found.hash == hash).then(|| Offset::new(found.next - 1))
    }

    /// How the map knows the key.
    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        let hash = self.hasher.hash(key);
        KeyHash([hash.h1, hash.h2])
    }

    /// Looks at the places of all these keys at once. The map is far larger than the processor's caches: fetched one by one
    /// as they are searched for, each entry would be waited for.
    pub(super) fn fetch(&self, hashes: impl Iterator<Item = KeyHash>) {
        let sum = hashes.fold(0_i64, |sum, KeyHash(hash)| {
            sum.wrapping_add(self.entries[self.home(hash)].next)
        });
        std::hint::black_box(sum);
    }

    /// Where the search for a hash begins. It rises with the hash, so the whole table is in order.
    fn home(&self, hash: [u64; 2]) -> usize {
        ((u128::from(hash[0]) * self.homes as u128) >> 64) as usize
    }

    /// Where the hash stands, or is to stand.
    fn find(&self, hash: [u64; 2]) -> usize {
        let mut at = self.home(hash);
        let hash = number(hash);
        while number(self.entries[at].hash) < hash {
            at += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn newest(map: &OffsetMap, key: &[u8]) -> Option<Offset> {
        map.newest(map.hash(key))
    }

    #[test]
    fn an_entry_has_24_bytes_and_the_map_keeps_within_its_bound() {
        assert_eq!(ENTRY_SIZE, 24);
        for bytes in [96, 1000, 1 << 20] {
            let mut map = OffsetMap::new([0; 16], bytes, 0.9);
            assert!(map.keys_max >= 1);
            for key in 0..100_000_i64 {
                let _ = map.put(map.hash(&key.to_be_bytes()), Offset::new(key));
            }
            assert!(map.entries.capacity() * ENTRY_SIZE <= bytes);
        }
        let mut small = OffsetMap::new([0; 16], 128 << 20, 0.9);
        for offset in 0..100_000 {
            assert!(small.put(small.hash(&[(offset % 100) as u8]), Offset::new(offset)));
        }
        assert_eq!(
            small.entries.len(),
            ENTRIES_MIN,
            "no larger than its keys need"
        );
    }

    #[test]
    fn a_full_map_takes_no_more() {
        let mut map = OffsetMap::new([7; 16], 1 << 20, 0.9);
        let mut taken = 0_i64;
        while map.put(map.hash(&taken.to_be_bytes()), Offset::new(taken)) {
            taken += 1;
        }
        let wanted = (1 << 20) / 24 * 79 / 100;
        assert!(taken > wanted, "{taken} keys of {wanted}");
        assert_eq!(map.latest(), Offset::new(taken - 1));
        assert!(map.utilization() <= 0.9);
        for key in 0..taken {
            assert_eq!(newest(&map, &key.to_be_bytes()), Some(Offset::new(key)));
        }
        assert_eq!(newest(&map, &taken.to_be_bytes()), None);
    }

    proptest! {
        #[test]
        fn the_map_is_a_map(
            puts in proptest::collection::vec(any::<u8>(), 0..200),
            bytes in 96..4000_usize,
            load_factor in 0.1..1.5_f64,
        ) {
            let mut map = OffsetMap::new([3; 16], bytes, load_factor);
            let mut model = HashMap::new();
            for (i, key) in puts.iter().enumerate() {
                let offset = Offset::new(i as i64);
                if !map.put(map.hash(&[*key]), offset) {
                    break;
                }
                model.insert(*key, offset);
            }
            for key in 0..=255 {
                prop_assert_eq!(newest(&map, &[key]), model.get(&key).copied());
            }
        }
    }
}
