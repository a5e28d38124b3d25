//! The metadata of the cluster as of some offset of its log.
//!
//! An [`Image`] is what all records up to there amount to. It changes only by [applying](Image::apply) the next record, and a
//! clone of it is cheap and never changes: brokers publish one after each committed batch, and requests read from it without
//! locks. Maps that may be large are sharded and copied on write, everything in them is shared.
//!
//! ```
//! use tidelog_metadata::image::Image;
//! use tidelog_protocol::records::metadata::{PartitionRecord, TopicRecord};
//! use tidelog_types::{LeaderEpoch, NodeId, Uuid};
//!
//! let topic_id = Uuid::from_random([7; 16]);
//! let node = NodeId::new(1);
//! let mut image = Image::default();
//! let before = image.clone();
//! let delta = image.apply_batch(&[
//!     TopicRecord { name: "orders".into(), topic_id }.into(),
//!     PartitionRecord {
//!         topic_id,
//!         partition_id: 0,
//!         replicas: vec![node],
//!         isr: vec![node],
//!         leader: node,
//!         leader_epoch: LeaderEpoch::new(0),
//!         partition_epoch: 0,
//!         ..Default::default()
//!     }
//!     .into(),
//! ])?;
//!
//! assert!(delta.topics_created.contains(&topic_id));
//! assert_eq!(image.topic("orders").unwrap().partition(0).unwrap().leader, node);
//! assert!(before.topic("orders").is_none());
//! # Ok::<(), tidelog_metadata::image::ReplayError>(())
//! ```

mod cluster;
mod replay;
mod sharded;
mod topic;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_protocol::records::metadata::{
    AccessControlEntryRecord, ConfigRecord, DelegationTokenRecord, FeatureLevelRecord,
    MetadataRecord, ProducerIdsRecord, RegisterControllerRecord, UserScramCredentialRecord,
};
use tidelog_types::{NodeId, PartitionIndex, ProducerId, Str, TopicId, TopicName, Uuid};

use crate::bootstrap::{METADATA_VERSION, MetadataVersion};
use crate::configs::{ConfigMap, ConfigResource, ResourceKind};

use self::cluster::quota_record;
pub use self::cluster::{BrokerImage, Endpoint, QuotaEntity, SupportedLevels};
pub use self::replay::ReplayError;
use self::sharded::ShardedMap;
pub use self::topic::{
    LeaderRecoveryState, NO_LEADER_CHANGE, PartitionImage, TopicImage, directory,
};

/// The metadata of the cluster as of some offset. See the [module](self).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    topics: ShardedMap<TopicId, Arc<TopicImage>>,
    topic_ids: ShardedMap<TopicName, TopicId>,
    configs: BTreeMap<ResourceKind, ShardedMap<Str, Arc<ConfigMap>>>,
    brokers: Arc<BTreeMap<NodeId, Arc<BrokerImage>>>,
    controllers: Arc<BTreeMap<NodeId, RegisterControllerRecord>>,
    features: Arc<BTreeMap<Str, i16>>,
    next_producer_id: ProducerId,
    quotas: Arc<BTreeMap<QuotaEntity, BTreeMap<Str, f64>>>,
    security: Arc<SecurityImage>,
    /// The records of the metadata transaction that has begun and not ended (KIP-868).
    transaction: Option<Arc<Vec<MetadataRecord>>>,
}

/// What the authorizer and the authentication will read: kept as it was written.
#[derive(Clone, Debug, Default, PartialEq)]
struct SecurityImage {
    access_control_entries: BTreeMap<Uuid, AccessControlEntryRecord>,
    scram_credentials: BTreeMap<(Str, i8), UserScramCredentialRecord>,
    delegation_tokens: BTreeMap<Str, DelegationTokenRecord>,
}

impl Image {
    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// The topic of that id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(&id)
    }

    /// The id of the topic of that name.
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.topic_ids.get(name).copied()
    }

    /// All topics, in no particular order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.iter().map(|(_, topic)| topic)
    }

    /// How many topics there are.
    pub const fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// One partition, by the id of its topic.
    pub fn partition(&self, topic: TopicId, partition: PartitionIndex) -> Option<&PartitionImage> {
        self.topics.get(&topic)?.partition(partition)
    }

    /// The registered brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.values()
    }

    /// The registration of that broker.
    pub fn broker(&self, id: NodeId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// The registered controllers (KIP-919), by id.
    pub fn controllers(&self) -> impl Iterator<Item = &RegisterControllerRecord> {
        self.controllers.values()
    }

    /// What was set on the resource, if anything.
    pub fn configs(&self, kind: ResourceKind, name: &str) -> Option<&Arc<ConfigMap>> {
        self.configs.get(&kind)?.get(name)
    }

    /// What was set on the topic; empty if nothing was.
    pub fn topic_configs(&self, name: &str) -> Arc<ConfigMap> {
        self.configs(ResourceKind::Topic, name)
            .cloned()
            .unwrap_or_default()
    }

    /// Every resource on which something was set, in no particular order within its kind.
    pub fn configured(&self) -> impl Iterator<Item = (ConfigResource, &Arc<ConfigMap>)> {
        self.configs.iter().flat_map(|(kind, resources)| {
            resources.iter().map(|(name, configs)| {
                (
                    ConfigResource {
                        kind: *kind,
                        name: name.clone(),
                    },
                    configs,
                )
            })
        })
    }

    /// The finalized level of a feature; 0 if it is not finalized.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// The finalized features, by name.
    pub fn features(&self) -> &BTreeMap<Str, i16> {
        &self.features
    }

    /// Which record formats the cluster uses; the oldest one as long as nothing was finalized.
    pub fn metadata_version(&self) -> MetadataVersion {
        MetadataVersion::from_level(self.feature(METADATA_VERSION))
            .unwrap_or(MetadataVersion::MINIMUM)
    }

    /// The first producer id that was not handed out yet.
    pub const fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// How many access control entries there are.
    pub fn access_control_entries_count(&self) -> usize {
        self.security.access_control_entries.len()
    }

    /// How many SCRAM credentials there are (KIP-554).
    pub fn scram_credentials_count(&self) -> usize {
        self.security.scram_credentials.len()
    }

    /// How many delegation tokens there are.
    pub fn delegation_tokens_count(&self) -> usize {
        self.security.delegation_tokens.len()
    }

    /// How many entities have client quotas.
    pub fn quotas_count(&self) -> usize {
        self.quotas.len()
    }

    /// Whether a metadata transaction has begun and not ended (KIP-868).
    pub const fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Whether no record has left anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The records that make this image out of an empty one: a snapshot, in Kafka's order. metadata.version is the first of
    /// them.
    ///
    /// An open transaction is left out, so take snapshots between transactions only.
    pub fn records(&self) -> impl Iterator<Item = MetadataRecord> {
        self.feature_records()
            .chain(self.brokers.values().map(|broker| broker.record().into()))
            .chain(self.controllers.values().cloned().map(MetadataRecord::from))
            .chain(self.topics.iter().flat_map(|(_, topic)| topic.records()))
            .chain(self.config_records())
            .chain(self.quotas.iter().flat_map(|(entity, limits)| {
                limits
                    .iter()
                    .map(|(key, value)| quota_record(entity, key, *value))
            }))
            .chain(self.producer_id_record())
            .chain(self.security_records())
    }

    fn feature_records(&self) -> impl Iterator<Item = MetadataRecord> {
        let (first, others): (Vec<_>, Vec<_>) = self
            .features
            .iter()
            .partition(|(name, _)| **name == METADATA_VERSION);
        first.into_iter().chain(others).map(|(name, level)| {
            FeatureLevelRecord {
                name: name.clone(),
                feature_level: *level,
            }
            .into()
        })
    }

    fn config_records(&self) -> impl Iterator<Item = MetadataRecord> {
        self.configs.iter().flat_map(|(kind, resources)| {
            resources.iter().flat_map(|(resource, configs)| {
                configs.iter().map(|(name, value)| {
                    ConfigRecord {
                        resource_type: kind.id(),
                        resource_name: resource.clone(),
                        name: name.clone(),
                        value: Some(value.clone()),
                    }
                    .into()
                })
            })
        })
    }

    fn producer_id_record(&self) -> Option<MetadataRecord> {
        (self.next_producer_id != ProducerId::default()).then(|| {
            ProducerIdsRecord {
                broker_id: NodeId::NONE,
                broker_epoch: -1,
                next_producer_id: self.next_producer_id,
            }
            .into()
        })
    }

    fn security_records(&self) -> impl Iterator<Item = MetadataRecord> {
        let security = &self.security;
        let entries = security
            .access_control_entries
            .values()
            .cloned()
            .map(MetadataRecord::from);
        let credentials = security
            .scram_credentials
            .values()
            .cloned()
            .map(MetadataRecord::from);
        let tokens = security
            .delegation_tokens
            .values()
            .cloned()
            .map(MetadataRecord::from);
        entries.chain(credentials).chain(tokens)
    }

    /// Asserts what must hold in every image.
    pub fn check(&self) {
        assert_eq!(
            self.topics.len(),
            self.topic_ids.len(),
            "each topic has one name and one id"
        );
        for (id, topic) in self.topics.iter() {
            assert_eq!(topic.id, *id, "a topic is kept under its id");
            assert_eq!(
                self.topic_ids.get(&topic.name),
                Some(id),
                "{} leads to itself",
                topic.name
            );
            for (index, partition) in &topic.partitions {
                partition.check(&format!("{}-{index}", topic.name));
            }
        }
        for (id, broker) in self.brokers.iter() {
            assert_eq!(broker.id, *id, "a broker is kept under its id");
        }
        for (resource, configs) in self.configured() {
            assert!(!configs.is_empty(), "{resource} is kept without configs");
        }
    }
}

impl PartitionImage {
    fn check(&self, name: &str) {
        let held = |nodes: &[NodeId]| nodes.iter().all(|node| self.replicas.contains(node));
        assert!(held(&self.isr), "{name}: the ISR consists of replicas");
        assert!(
            held(&self.eligible_leader_replicas),
            "{name}: the ELR consists of replicas"
        );
        let in_sync = |node: &NodeId| self.isr.contains(node);
        assert!(
            !self.eligible_leader_replicas.iter().any(in_sync),
            "{name}: who is eligible is not in the ISR"
        );
        let both = |node: &NodeId| self.removing_replicas.contains(node);
        assert!(
            !self.adding_replicas.iter().any(both),
            "{name}: nobody is added and removed"
        );
        assert!(
            held(&self.adding_replicas),
            "{name}: replicas being added are replicas"
        );
        assert!(
            held(&self.removing_replicas),
            "{name}: replicas being removed are replicas"
        );
        assert_eq!(
            self.directories.len(),
            self.replicas.len(),
            "{name}: a directory per replica"
        );
        let leads = self.leader == NodeId::NONE || self.isr.contains(&self.leader);
        assert!(leads, "{name}: the leader {} is in sync", self.leader);
        assert!(
            self.leader_epoch.value() >= 0,
            "{name}: leader epochs begin at 0"
        );
    }
}
