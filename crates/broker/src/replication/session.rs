//! What a fetcher asks of its leader, and the half of the fetch session that the follower keeps (KIP-227).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;
use tidelog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use tidelog_replication::partition::FetchState;
use tidelog_types::{Offset, PartitionIndex, TopicId};

use crate::store::partition::Partition;

/// A partition of a topic.
pub(super) type Key = (TopicId, PartitionIndex);

/// The partitions that are asked for, and which of them the leader remembers.
#[derive(Default)]
pub(super) struct Session {
    id: i32,
    /// The number of the next request; 0 opens a session.
    epoch: i32,
    entries: FxHashMap<Key, Entry>,
    /// Partitions of which something else is to be asked than the leader remembers.
    dirty: Vec<Key>,
    /// Partitions that the leader remembers, and that are not asked for any more.
    forgotten: Vec<Key>,
    /// How many partitions the leader remembers.
    told: usize,
}

/// What is asked of one partition.
pub(super) struct Entry {
    pub(super) partition: Arc<Partition>,
    wanted: FetchState,
    /// What the leader remembers.
    told: Option<FetchState>,
    /// Nothing is asked before this moment, since the leader does not know that it is one.
    pub(super) held_until: Option<Instant>,
    /// How often in a row the leader did not know.
    pub(super) refusals: u32,
    /// The leader's high watermark, as it was last told.
    pub(super) leader_high_watermark: Option<Offset>,
}

impl Entry {
    /// Whether the replica has all that was committed when the leader last answered.
    pub(super) fn is_in_sync(&self) -> bool {
        self.leader_high_watermark
            .is_some_and(|high_watermark| self.wanted.fetch_offset >= high_watermark)
    }
}

impl Session {
    /// Asks this of a partition from now on. Tells whether the leader has not been asked for it in this epoch.
    pub(super) fn want(&mut self, key: Key, partition: Arc<Partition>, wanted: FetchState) -> bool {
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            partition,
            wanted,
            told: None,
            held_until: None,
            refusals: 0,
            leader_high_watermark: None,
        });
        if wanted.leader_epoch != entry.wanted.leader_epoch {
            (entry.held_until, entry.refusals) = (None, 0);
            entry.leader_high_watermark = None;
        }
        entry.wanted = wanted;
        if entry.told != Some(wanted) {
            self.dirty.push(key);
        }
        let is_asked = entry
            .told
            .is_some_and(|told| told.leader_epoch == wanted.leader_epoch);
        entry.held_until.is_none() && !is_asked
    }

    /// Asks nothing of a partition from now on.
    pub(super) fn forget(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key)
            && entry.told.is_some()
        {
            self.forgotten.push(key);
            self.told -= 1;
        }
    }

    /// Does not ask for a partition until then.
    pub(super) fn hold(&mut self, key: Key, until: Instant) {
        if let Some(entry) = self.entries.get_mut(&key) {
            let was_held = entry.held_until.replace(until).is_some();
            if entry.told.take().is_some() {
                self.forgotten.push(key);
                self.told -= 1;
            }
            // What is held is among these already.
            if !was_held {
                self.dirty.push(key);
            }
        }
    }

    /// The partitions of which this holds.
    pub(super) fn which(&self, holds: impl Fn(&Entry) -> bool) -> Vec<Key> {
        let entries = self.entries.iter();
        let which = entries.filter(|(_, entry)| holds(entry));
        which.map(|(key, _)| *key).collect()
    }

    /// The partition of an answer, with what was asked.
    pub(super) fn asked(&mut self, key: Key) -> Option<(&mut Entry, FetchState)> {
        let entry = self.entries.get_mut(&key)?;
        let told = entry.told?;
        Some((entry, told))
    }

    /// Whether the leader is asked for nothing, and when that ends by itself.
    pub(super) fn is_idle(&self) -> bool {
        self.told == 0
    }

    /// Whether the leader remembers a session.
    pub(super) fn is_open(&self) -> bool {
        self.id != 0
    }

    /// When the first partition that is held may be asked for again.
    pub(super) fn held_until(&self) -> Option<Instant> {
        let dirty = self.dirty.iter().filter_map(|key| self.entries.get(key));
        dirty.filter_map(|entry| entry.held_until).min()
    }

    /// The leader remembers nothing any more.
    pub(super) fn reset(&mut self) {
        (self.id, self.epoch) = (0, 0);
        self.forgotten.clear();
        self.dirty.clear();
        self.told = 0;
        for (key, entry) in &mut self.entries {
            entry.told = None;
            self.dirty.push(*key);
        }
    }

    /// The leader has answered.
    pub(super) fn answered(&mut self, session_id: i32) {
        if session_id == 0 || (self.epoch != 0 && session_id != self.id) {
            // It has no room for the session: everything is to be said again. What was asked stays known, since the answer
            // is about to be looked at.
            (self.id, self.epoch) = (0, 0);
            self.forgotten.clear();
        } else {
            self.id = session_id;
            self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        }
    }

    /// Fills in a request: everything if it opens a session, else what the leader does not know yet.
    pub(super) fn fill(&mut self, now: Instant, max_bytes: i32, request: &mut FetchRequest) {
        request.session_id = self.id;
        request.session_epoch = self.epoch;
        let mut topics: HashMap<TopicId, Vec<FetchPartition>> = HashMap::new();
        let named: Vec<Key> = if self.epoch == 0 {
            self.dirty.clear();
            self.entries.keys().copied().collect()
        } else {
            std::mem::take(&mut self.dirty)
        };
        let is_full = self.epoch == 0;
        for key in named {
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            if entry.held_until.is_some_and(|until| until > now) {
                self.dirty.push(key);
                continue;
            }
            entry.held_until = None;
            if entry.told == Some(entry.wanted) && !is_full {
                continue;
            }
            if entry.told.replace(entry.wanted).is_none() {
                self.told += 1;
            }
            topics
                .entry(key.0)
                .or_default()
                .push(asked_for(key.1, &entry.wanted, max_bytes));
        }
        let topics = topics.into_iter().map(|(topic_id, partitions)| FetchTopic {
            topic_id,
            partitions,
            ..FetchTopic::default()
        });
        request.topics = topics.collect();
        let mut forgotten: HashMap<TopicId, Vec<PartitionIndex>> = HashMap::new();
        for (topic_id, partition) in self.forgotten.drain(..) {
            // One that is asked for again is not forgotten, whatever happened in between.
            let entry = self.entries.get(&(topic_id, partition));
            if entry.is_none_or(|entry| entry.told.is_none()) && !is_full {
                forgotten.entry(topic_id).or_default().push(partition);
            }
        }
        let forgotten = forgotten
            .into_iter()
            .map(|(topic_id, partitions)| ForgottenTopic {
                topic_id,
                partitions,
                ..ForgottenTopic::default()
            });
        request.forgotten_topics_data = forgotten.collect();
    }
}

fn asked_for(partition: PartitionIndex, wanted: &FetchState, max_bytes: i32) -> FetchPartition {
    FetchPartition {
        partition,
        current_leader_epoch: wanted.leader_epoch,
        fetch_offset: wanted.fetch_offset,
        last_fetched_epoch: wanted.last_fetched_epoch,
        log_start_offset: wanted.log_start_offset,
        partition_max_bytes: max_bytes,
        ..FetchPartition::default()
    }
}
