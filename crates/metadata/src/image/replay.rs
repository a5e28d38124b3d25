//! How each record changes the image.

use std::sync::Arc;

use tidelog_protocol::records::metadata::{
    AccessControlEntryRecord, BrokerRegistrationChangeRecord, ClearElrRecord, ClientQuotaRecord,
    ConfigRecord, DelegationTokenRecord, FeatureLevelRecord, MetadataRecord, PartitionChangeRecord,
    PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, RegisterControllerRecord,
    RemoveTopicRecord, TopicRecord, UnregisterBrokerRecord, UserScramCredentialRecord,
};
use tidelog_types::{NodeId, PartitionIndex, ProducerId, Str, TopicId, TopicName};

use super::cluster::quota_entity;
use super::{BrokerImage, Image, PartitionImage, SecurityImage, TopicImage};
use crate::configs::{ConfigResource, ResourceKind};
use crate::delta::Delta;

/// A record that cannot follow on what was applied before it: the log is damaged, or of a later version. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A topic of that name or id is there already.
    #[error("there is a topic {name} ({id}) already")]
    DuplicateTopic {
        /// The name of the second one.
        name: TopicName,
        /// The id of the second one.
        id: TopicId,
    },
    /// A record is about a topic that does not exist.
    #[error("there is no topic of id {id}")]
    UnknownTopic {
        /// The id.
        id: TopicId,
    },
    /// The partition is there already.
    #[error("there is a partition {partition} of topic {topic} already")]
    DuplicatePartition {
        /// The topic.
        topic: TopicName,
        /// The number of the partition.
        partition: PartitionIndex,
    },
    /// A record is about a partition that does not exist.
    #[error("there is no partition {partition} of topic {topic}")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// The number of the partition.
        partition: PartitionIndex,
    },
    /// A record is about a broker that is not registered, or was registered anew since.
    #[error("broker {id} is not registered with epoch {epoch}")]
    UnknownBroker {
        /// The broker.
        id: NodeId,
        /// The epoch in the record.
        epoch: i64,
    },
    /// Producer ids are handed out a second time.
    #[error("the next producer id cannot go from {from} back to {to}")]
    ProducerIdsGoBack {
        /// The next id so far.
        from: ProducerId,
        /// The next id in the record.
        to: ProducerId,
    },
    /// A transaction begins within one, or ends where none has begun.
    #[error("a metadata transaction begins or ends out of order")]
    TransactionOutOfOrder,
    /// A field has a value that means nothing.
    #[error("the field {field} of a record has an invalid value")]
    InvalidField {
        /// The field.
        field: &'static str,
    },
    /// A record of a type that this version can read but does not understand.
    #[error("records of type {id} are not supported")]
    UnsupportedRecord {
        /// The type.
        id: i16,
    },
}

impl Image {
    /// Applies the next record of the log.
    ///
    /// Records of an open metadata transaction (KIP-868) are held back until it ends, and dropped if it aborts.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        self.apply_to(record, &mut Delta::default())
    }

    /// Applies the records of one committed batch, and tells what they changed. After an error the image is of no use.
    pub fn apply_batch<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a MetadataRecord>,
    ) -> Result<Delta, ReplayError> {
        let mut delta = Delta::default();
        for record in records {
            self.apply_to(record, &mut delta)?;
        }
        Ok(delta)
    }

    /// Applies the next record, and adds what it changes to `delta`.
    pub fn apply_to(
        &mut self,
        record: &MetadataRecord,
        delta: &mut Delta,
    ) -> Result<(), ReplayError> {
        match (record, &mut self.transaction) {
            (MetadataRecord::BeginTransaction(_), transaction @ None) => {
                *transaction = Some(Arc::default());
                Ok(())
            }
            (MetadataRecord::EndTransaction(_), Some(_)) => {
                let records = self.transaction.take().unwrap_or_default();
                records
                    .iter()
                    .try_for_each(|record| self.replay(record, delta))
            }
            (MetadataRecord::AbortTransaction(_), transaction @ Some(_)) => {
                *transaction = None;
                Ok(())
            }
            (
                MetadataRecord::BeginTransaction(_)
                | MetadataRecord::EndTransaction(_)
                | MetadataRecord::AbortTransaction(_),
                _,
            ) => Err(ReplayError::TransactionOutOfOrder),
            (record, Some(held)) => {
                Arc::make_mut(held).push(record.clone());
                Ok(())
            }
            (record, None) => self.replay(record, delta),
        }
    }

    fn replay(&mut self, record: &MetadataRecord, delta: &mut Delta) -> Result<(), ReplayError> {
        use MetadataRecord as R;
        match record {
            R::Topic(record) => self.add_topic(record, delta),
            R::Partition(record) => self.add_partition(record, delta),
            R::PartitionChange(record) => self.change_partition(record, delta),
            R::RemoveTopic(record) => self.remove_topic(record, delta),
            R::Config(record) => self.set_config(record, delta),
            R::RegisterBroker(record) => {
                self.register_broker(record, delta);
                Ok(())
            }
            R::UnregisterBroker(record) => self.unregister_broker(record, delta),
            R::BrokerRegistrationChange(record) => self.change_broker(record, delta),
            R::FenceBroker(record) => {
                self.change_broker(&fencing(record.id, record.epoch, 1), delta)
            }
            R::UnfenceBroker(record) => {
                self.change_broker(&fencing(record.id, record.epoch, -1), delta)
            }
            R::FeatureLevel(record) => {
                self.set_feature(record, delta);
                Ok(())
            }
            R::ProducerIds(record) => self.set_producer_ids(record),
            R::ClearElr(record) => self.clear_elr(record, delta),
            R::RegisterController(record) => {
                Arc::make_mut(&mut self.controllers)
                    .insert(record.controller_id, detached_controller(record));
                Ok(())
            }
            R::ClientQuota(record) => {
                self.set_quota(record);
                Ok(())
            }
            // Nothing is left of them, or nothing that matters.
            R::NoOp(_) | R::ZkMigrationState(_) => Ok(()),
            other => Arc::make_mut(&mut self.security).replay(other),
        }
    }

    fn add_topic(&mut self, record: &TopicRecord, delta: &mut Delta) -> Result<(), ReplayError> {
        let id = record.topic_id;
        if self.topics.get(&id).is_some() || self.topic_ids.get(&record.name).is_some() {
            return Err(ReplayError::DuplicateTopic {
                name: record.name.detach(),
                id,
            });
        }
        let name = record.name.detach();
        self.topic_ids.insert(name.clone(), id);
        self.topics.insert(
            id,
            Arc::new(TopicImage {
                name,
                id,
                partitions: Default::default(),
            }),
        );
        delta.topics_created.insert(id);
        Ok(())
    }

    fn add_partition(
        &mut self,
        record: &PartitionRecord,
        delta: &mut Delta,
    ) -> Result<(), ReplayError> {
        let (id, index) = (record.topic_id, record.partition_id);
        let partition = PartitionImage::from_record(record)?;
        let topic = self.topic_mut(id)?;
        if topic.partitions.contains_key(&index) {
            let topic = topic.name.clone();
            return Err(ReplayError::DuplicatePartition {
                topic,
                partition: index,
            });
        }
        topic.partitions.insert(index, Arc::new(partition));
        delta.partition(id, index);
        Ok(())
    }

    fn change_partition(
        &mut self,
        record: &PartitionChangeRecord,
        delta: &mut Delta,
    ) -> Result<(), ReplayError> {
        let (id, index) = (record.topic_id, record.partition_id);
        let topic = self.topic_mut(id)?;
        let Some(partition) = topic.partitions.get_mut(&index) else {
            let topic = topic.name.clone();
            return Err(ReplayError::UnknownPartition {
                topic,
                partition: index,
            });
        };
        *partition = Arc::new(partition.changed(record)?);
        delta.partition(id, index);
        Ok(())
    }

    fn remove_topic(
        &mut self,
        record: &RemoveTopicRecord,
        delta: &mut Delta,
    ) -> Result<(), ReplayError> {
        let id = record.topic_id;
        let topic = self
            .topics
            .remove(&id)
            .ok_or(ReplayError::UnknownTopic { id })?;
        self.topic_ids.remove(&topic.name);
        let configs = self.configs.get_mut(&ResourceKind::Topic);
        if configs
            .and_then(|configs| configs.remove(topic.name.as_inner()))
            .is_some()
        {
            delta.configs.insert(ConfigResource::topic(&topic.name));
        }
        delta.topic_deleted(topic);
        Ok(())
    }

    fn set_config(&mut self, record: &ConfigRecord, delta: &mut Delta) -> Result<(), ReplayError> {
        let kind =
            ResourceKind::from_id(record.resource_type).ok_or(ReplayError::InvalidField {
                field: "resource_type",
            })?;
        let resources = self.configs.entry(kind).or_default();
        let name = record.resource_name.detach();
        match &record.value {
            Some(value) => {
                if resources.get(&name).is_none() {
                    resources.insert(name.clone(), Arc::default());
                }
                let configs = resources
                    .get_mut(&name)
                    .expect("the entry was just made sure of");
                Arc::make_mut(configs).insert(record.name.detach(), value.detach());
            }
            None => {
                if let Some(configs) = resources.get_mut(&name) {
                    Arc::make_mut(configs).remove(&record.name);
                    if configs.is_empty() {
                        resources.remove(&name);
                    }
                }
            }
        }
        if resources.len() == 0 {
            self.configs.remove(&kind);
        }
        delta.configs.insert(ConfigResource { kind, name });
        Ok(())
    }

    fn register_broker(&mut self, record: &RegisterBrokerRecord, delta: &mut Delta) {
        let broker = Arc::new(BrokerImage::from_record(record));
        Arc::make_mut(&mut self.brokers).insert(record.broker_id, broker);
        delta.brokers.insert(record.broker_id);
    }

    fn unregister_broker(
        &mut self,
        record: &UnregisterBrokerRecord,
        delta: &mut Delta,
    ) -> Result<(), ReplayError> {
        self.registered(record.broker_id, record.broker_epoch)?;
        Arc::make_mut(&mut self.brokers).remove(&record.broker_id);
        delta.brokers.insert(record.broker_id);
        Ok(())
    }

    fn change_broker(
        &mut self,
        record: &BrokerRegistrationChangeRecord,
        delta: &mut Delta,
    ) -> Result<(), ReplayError> {
        let broker = self
            .registered(record.broker_id, record.broker_epoch)?
            .changed(record)?;
        Arc::make_mut(&mut self.brokers).insert(record.broker_id, Arc::new(broker));
        delta.brokers.insert(record.broker_id);
        Ok(())
    }

    fn set_feature(&mut self, record: &FeatureLevelRecord, delta: &mut Delta) {
        let name = record.name.detach();
        let features = Arc::make_mut(&mut self.features);
        match record.feature_level {
            0 => features.remove(&name),
            level => features.insert(name.clone(), level),
        };
        delta.features.insert(name);
    }

    fn set_producer_ids(&mut self, record: &ProducerIdsRecord) -> Result<(), ReplayError> {
        let (from, to) = (self.next_producer_id, record.next_producer_id);
        if to <= from {
            return Err(ReplayError::ProducerIdsGoBack { from, to });
        }
        self.next_producer_id = to;
        Ok(())
    }

    fn set_quota(&mut self, record: &ClientQuotaRecord) {
        let entity = quota_entity(record);
        let quotas = Arc::make_mut(&mut self.quotas);
        let limits = quotas.entry(entity.clone()).or_default();
        if record.remove {
            limits.remove(&record.key);
        } else {
            limits.insert(record.key.detach(), record.value);
        }
        if limits.is_empty() {
            quotas.remove(&entity);
        }
    }

    /// Forgets the eligible leader replicas of a topic, or of all.
    fn clear_elr(&mut self, record: &ClearElrRecord, delta: &mut Delta) -> Result<(), ReplayError> {
        let topics: Vec<TopicId> = if record.topic_name.is_empty() {
            self.topics.iter().map(|(id, _)| *id).collect()
        } else {
            // The topic may be gone already.
            self.topic_id(&record.topic_name).into_iter().collect()
        };
        for id in topics {
            let has_elr = |partition: &PartitionImage| {
                !partition.eligible_leader_replicas.is_empty()
                    || !partition.last_known_elr.is_empty()
            };
            let known = self
                .topics
                .get(&id)
                .into_iter()
                .flat_map(|topic| &topic.partitions);
            let affected: Vec<PartitionIndex> = known
                .filter(|(_, partition)| has_elr(partition))
                .map(|(index, _)| *index)
                .collect();
            for partition_id in affected {
                let change = PartitionChangeRecord {
                    topic_id: id,
                    partition_id,
                    eligible_leader_replicas: Some(Vec::new()),
                    last_known_elr: Some(Vec::new()),
                    ..Default::default()
                };
                self.change_partition(&change, delta)?;
            }
        }
        Ok(())
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut TopicImage, ReplayError> {
        let topic = self
            .topics
            .get_mut(&id)
            .ok_or(ReplayError::UnknownTopic { id })?;
        Ok(Arc::make_mut(topic))
    }

    fn registered(&self, id: NodeId, epoch: i64) -> Result<&BrokerImage, ReplayError> {
        let broker = self.broker(id).filter(|broker| broker.epoch == epoch);
        broker
            .map(|broker| &**broker)
            .ok_or(ReplayError::UnknownBroker { id, epoch })
    }
}

impl SecurityImage {
    fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        use MetadataRecord as R;
        match record {
            R::AccessControlEntry(record) => {
                self.access_control_entries
                    .insert(record.id, detached_entry(record));
            }
            R::RemoveAccessControlEntry(record) => {
                self.access_control_entries.remove(&record.id);
            }
            R::UserScramCredential(record) => {
                let credential = detached_credential(record);
                self.scram_credentials
                    .insert((credential.name.clone(), record.mechanism), credential);
            }
            R::RemoveUserScramCredential(record) => {
                self.scram_credentials
                    .remove(&(record.name.clone(), record.mechanism));
            }
            R::DelegationToken(record) => {
                let token = detached_token(record);
                self.delegation_tokens.insert(token.token_id.clone(), token);
            }
            R::RemoveDelegationToken(record) => {
                self.delegation_tokens.remove(&record.token_id);
            }
            other => return Err(ReplayError::UnsupportedRecord { id: other.id() }),
        }
        Ok(())
    }
}

const fn fencing(
    broker_id: NodeId,
    broker_epoch: i64,
    fenced: i8,
) -> BrokerRegistrationChangeRecord {
    BrokerRegistrationChangeRecord {
        broker_id,
        broker_epoch,
        fenced,
        in_controlled_shutdown: 0,
        log_dirs: Vec::new(),
        cordoned_log_dirs: None,
    }
}

// Records that are kept as they are would keep the whole batch alive that they were read from.

fn detached_controller(record: &RegisterControllerRecord) -> RegisterControllerRecord {
    let mut record = record.clone();
    for endpoint in &mut record.end_points {
        endpoint.name = endpoint.name.detach();
        endpoint.host = endpoint.host.detach();
    }
    for feature in &mut record.features {
        feature.name = feature.name.detach();
    }
    record
}

fn detached_entry(record: &AccessControlEntryRecord) -> AccessControlEntryRecord {
    AccessControlEntryRecord {
        resource_name: record.resource_name.detach(),
        principal: record.principal.detach(),
        host: record.host.detach(),
        ..record.clone()
    }
}

fn detached_credential(record: &UserScramCredentialRecord) -> UserScramCredentialRecord {
    let detach = |bytes: &bytes::Bytes| bytes::Bytes::copy_from_slice(bytes);
    UserScramCredentialRecord {
        name: record.name.detach(),
        salt: detach(&record.salt),
        stored_key: detach(&record.stored_key),
        server_key: detach(&record.server_key),
        ..record.clone()
    }
}

fn detached_token(record: &DelegationTokenRecord) -> DelegationTokenRecord {
    DelegationTokenRecord {
        owner: record.owner.detach(),
        requester: record.requester.detach(),
        renewers: record.renewers.iter().map(Str::detach).collect(),
        token_id: record.token_id.detach(),
        ..record.clone()
    }
}
