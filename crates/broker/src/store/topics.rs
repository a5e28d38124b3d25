//! The topics of which this node has partitions.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use tidelog_metadata::configs::{CompressionType, TimestampType, TopicConfig};
use tidelog_record::{Codec, Compression, Limits, Rules};
use tidelog_types::{ErrorCode, PartitionIndex, TopicId, TopicName};

use super::partition::Partition;

/// Finds topics by id and by name.
#[derive(Default)]
pub(crate) struct Topics {
    maps: RwLock<Maps>,
}

#[derive(Default)]
struct Maps {
    by_id: FxHashMap<TopicId, Arc<LocalTopic>>,
    // Names come from clients, so this map keeps the hash function that withstands chosen keys.
    by_name: HashMap<TopicName, Arc<LocalTopic>>,
}

/// A topic of which this node has at least one partition.
pub(crate) struct LocalTopic {
    pub(crate) name: TopicName,
    pub(crate) id: TopicId,
    config: ArcSwap<TopicConfig>,
    partitions: RwLock<Vec<Slot>>,
}

/// What this node has of one partition.
#[derive(Clone)]
pub(crate) enum Slot {
    /// Nothing.
    Elsewhere,
    /// A replica.
    Here(Arc<Partition>),
    /// A replica whose log cannot be opened.
    Failed,
}

impl Topics {
    pub(crate) fn by_id(&self, id: TopicId) -> Option<Arc<LocalTopic>> {
        self.maps.read().by_id.get(&id).cloned()
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<LocalTopic>> {
        self.maps.read().by_name.get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<LocalTopic>> {
        self.maps.read().by_id.values().cloned().collect()
    }

    /// Adds a topic, or finds it if it is there already.
    pub(crate) fn add(
        &self,
        name: &TopicName,
        id: TopicId,
        config: impl FnOnce() -> TopicConfig,
    ) -> Arc<LocalTopic> {
        let mut maps = self.maps.write();
        if let Some(topic) = maps.by_id.get(&id) {
            return Arc::clone(topic);
        }
        let topic = Arc::new(LocalTopic {
            name: name.detach(),
            id,
            config: ArcSwap::from_pointee(config()),
            partitions: RwLock::new(Vec::new()),
        });
        maps.by_id.insert(id, Arc::clone(&topic));
        maps.by_name.insert(topic.name.clone(), Arc::clone(&topic));
        topic
    }

    /// Takes a topic out; its name may belong to a successor already.
    pub(crate) fn remove(&self, id: TopicId) -> Option<Arc<LocalTopic>> {
        let mut maps = self.maps.write();
        let topic = maps.by_id.remove(&id)?;
        if maps
            .by_name
            .get(&topic.name)
            .is_some_and(|named| named.id == id)
        {
            maps.by_name.remove(&topic.name);
        }
        Some(topic)
    }
}

impl LocalTopic {
    /// The partition of that number, if it lies on this node; `KAFKA_STORAGE_ERROR` if its log could not be opened.
    pub(crate) fn partition(
        &self,
        index: PartitionIndex,
    ) -> Result<Option<Arc<Partition>>, ErrorCode> {
        let Ok(index) = usize::try_from(index) else {
            return Ok(None);
        };
        match self.partitions.read().get(index) {
            None | Some(Slot::Elsewhere) => Ok(None),
            Some(Slot::Here(partition)) => Ok(Some(Arc::clone(partition))),
            Some(Slot::Failed) => Err(ErrorCode::KAFKA_STORAGE_ERROR),
        }
    }

    /// The partitions that lie on this node.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        let partitions = self.partitions.read();
        let here = partitions.iter().filter_map(|slot| match slot {
            Slot::Here(partition) => Some(Arc::clone(partition)),
            Slot::Elsewhere | Slot::Failed => None,
        });
        here.collect()
    }

    pub(crate) fn insert(&self, index: PartitionIndex, slot: Slot) {
        let Ok(index) = usize::try_from(index) else {
            return;
        };
        let mut partitions = self.partitions.write();
        if partitions.len() <= index {
            partitions.resize(index + 1, Slot::Elsewhere);
        }
        partitions[index] = slot;
    }

    /// Takes out a replica that is not to be on this node any more.
    pub(crate) fn take(&self, index: PartitionIndex) -> Option<Arc<Partition>> {
        let index = usize::try_from(index).ok()?;
        let mut partitions = self.partitions.write();
        match std::mem::replace(partitions.get_mut(index)?, Slot::Elsewhere) {
            Slot::Here(partition) => Some(partition),
            Slot::Elsewhere | Slot::Failed => None,
        }
    }

    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    pub(crate) fn set_config(&self, config: TopicConfig) {
        self.config.store(Arc::new(config));
    }

    /// What the records of producers must satisfy.
    pub(crate) fn rules(&self) -> Rules {
        rules(&self.config.load())
    }
}

/// How far a batch may unfold while its records are looked at one by one, which takes little memory however many they are.
const UNFOLDED_BYTES_MAX: usize = 512 << 20;
/// How far it may unfold where it is compressed anew, for which it is held as a whole.
const HELD_BYTES_MAX: usize = 100 << 20;

fn rules(config: &TopicConfig) -> Rules {
    let compression = compression(config);
    let batch_bytes_max = match compression {
        None => UNFOLDED_BYTES_MAX,
        Some(_) => HELD_BYTES_MAX,
    };
    Rules {
        compression,
        limits: Limits {
            batch_bytes_max,
            record_bytes_max: batch_bytes_max,
        },
        compacted: config.compact,
        timestamp_type: timestamp_type(config),
        timestamp_before_max_ms: config.message_timestamp_before_max_ms,
        timestamp_after_max_ms: config.message_timestamp_after_max_ms,
        max_message_bytes: usize::try_from(config.max_message_bytes).unwrap_or(0),
        // A batch that cannot be read would stop every consumer for good, so each record is looked at, as Kafka does.
        deep: true,
    }
}

/// The compression that the topic insists on; `None` keeps that of the producer.
fn compression(config: &TopicConfig) -> Option<Compression> {
    let (codec, level) = match config.compression_type {
        CompressionType::Producer => return None,
        CompressionType::Uncompressed => return Some(Codec::None.into()),
        CompressionType::Snappy => return Some(Codec::Snappy.into()),
        CompressionType::Gzip => (Codec::Gzip, config.compression_gzip_level),
        CompressionType::Lz4 => (Codec::Lz4, config.compression_lz4_level),
        CompressionType::Zstd => (Codec::Zstd, config.compression_zstd_level),
    };
    // A level that was valid when it was set may be unknown to this version; the codec's own default is near enough.
    Some(Compression::with_level(codec, level).unwrap_or_else(|_| codec.into()))
}

/// The clock that a topic's records go by, in the terms of the log.
pub(crate) fn timestamp_type(config: &TopicConfig) -> tidelog_record::TimestampType {
    match config.message_timestamp_type {
        TimestampType::CreateTime => tidelog_record::TimestampType::CreateTime,
        TimestampType::LogAppendTime => tidelog_record::TimestampType::LogAppendTime,
    }
}
