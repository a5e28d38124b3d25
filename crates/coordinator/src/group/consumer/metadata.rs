use std::collections::BTreeMap;

use tidelog_types::TopicName;
use twox_hash::XxHash3_64;

use super::ConsumerGroup;
use crate::group::context::Context;
use crate::group::history::Cause;
use crate::group::{ClusterView, GroupRecord, TopicChange, TopicView};

/// How many topics the history names that have changed before one epoch.
const TOPIC_CAUSES_MAX: usize = 16;

/// Hashes of topics, so that a topic with many partitions is not looked through for every member that comes.
///
/// A hash covers what matters to who subscribes: id, name, number of partitions and their racks. It is Kafka's, so that a
/// group that was written by Kafka goes on without a rebalance.
#[derive(Debug, Default)]
pub(in crate::group) struct TopicHashes {
    hashes: BTreeMap<TopicName, u64>,
}

impl TopicHashes {
    /// The topics have changed.
    pub(in crate::group) fn forget(&mut self, name: &TopicName) {
        self.hashes.remove(name);
    }

    pub(in crate::group) fn clear(&mut self) {
        self.hashes.clear();
    }

    /// The hash over all `topics` that exist; 0 if none does.
    pub(in crate::group) fn of_group<'a>(
        &mut self,
        view: &dyn ClusterView,
        topics: impl Iterator<Item = &'a TopicName>,
    ) -> i64 {
        // The names are in order, and with them the hashes.
        let mut bytes = Vec::new();
        for name in topics {
            let hash = match self.hashes.get(name) {
                Some(hash) => *hash,
                None => {
                    let Some(topic) = view.topic(name) else {
                        continue;
                    };
                    let hash = topic_hash(view, &topic);
                    self.hashes.insert(name.detach(), hash);
                    hash
                }
            };
            bytes.extend_from_slice(&hash.to_le_bytes());
        }
        if bytes.is_empty() {
            return 0;
        }
        XxHash3_64::oneshot(&bytes).cast_signed()
    }
}

fn topic_hash(view: &dyn ClusterView, topic: &TopicView) -> u64 {
    /// The version of what goes into the hash.
    const MAGIC: u8 = 0;
    let mut bytes = vec![MAGIC];
    let (high, low) = topic.id.as_bytes().split_at(8);
    for half in [high, low] {
        bytes.extend(half.iter().rev());
    }
    put_text(&mut bytes, &topic.name);
    bytes.extend_from_slice(&topic.partitions.to_le_bytes());
    for partition in 0..topic.partitions {
        bytes.extend_from_slice(&partition.to_le_bytes());
        let mut racks = view.racks(topic.id, partition);
        racks.sort_unstable();
        for rack in racks {
            let length = i32::try_from(rack.encode_utf16().count()).unwrap_or(i32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            put_text(&mut bytes, &rack);
        }
    }
    XxHash3_64::oneshot(&bytes)
}

/// Text as UTF-16, and its length behind it.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let start = bytes.len();
    for unit in text.encode_utf16() {
        bytes.extend_from_slice(&unit.to_le_bytes());
    }
    let units = i32::try_from((bytes.len() - start) / 2).unwrap_or(i32::MAX);
    bytes.extend_from_slice(&units.to_le_bytes());
}

impl ConsumerGroup {
    /// Topics have changed: whoever of the group is heard next looks whether that matters.
    pub(in crate::group) fn topics_changed(&mut self, changes: &[TopicChange]) {
        for change in changes {
            if self.topics.contains_key(&change.name) {
                self.needs_refresh = true;
                if self.topic_causes.len() < TOPIC_CAUSES_MAX {
                    self.topic_causes.push(Cause::TopicChanged {
                        topic: change.name.detach(),
                        kind: change.kind,
                    });
                }
            }
        }
    }

    /// The hash of the topics to which the group subscribes by now.
    pub(in crate::group) fn compute_metadata_hash(&self, cx: &mut Context<'_>) -> i64 {
        cx.topic_hashes.of_group(cx.view, self.topics.keys())
    }

    /// The group epoch rises if there are `causes`, or if the topics have changed.
    pub(super) fn update_epoch(
        &mut self,
        cx: &mut Context<'_>,
        mut causes: Vec<Cause>,
        records: &mut Vec<GroupRecord>,
    ) {
        if causes.is_empty() && !self.needs_refresh {
            return;
        }
        let metadata_hash = self.compute_metadata_hash(cx);
        if metadata_hash != self.metadata_hash {
            causes.append(&mut self.topic_causes);
        } else if causes.is_empty() {
            self.needs_refresh = false;
            self.topic_causes.clear();
            return;
        }
        self.bump_epoch(cx, metadata_hash, causes, records);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kafka's `Utils.computeTopicHash` and `computeGroupHash` give for a topic `foo` with this id and two partitions,
    /// taken from a group that Kafka wrote: see `tests/kafka.rs`. Here only that the parts count.
    #[test]
    fn text_is_hashed_in_utf_16_with_its_length_behind() {
        let mut bytes = Vec::new();
        put_text(&mut bytes, "aé");
        assert_eq!(bytes, [b'a', 0, 0xe9, 0, 2, 0, 0, 0]);
    }
}
