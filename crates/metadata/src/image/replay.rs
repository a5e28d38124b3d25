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
                delta.controllers.insert(record.controller_id);
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
        if self.forget_configs(ResourceKind::Topic, topic.name.as_inner()) {
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
                let configs = resources.get_mut(&name).map(Arc::make_mut);
                let is_empty = configs.is_none_or(|configs| {
                    configs.remove(&record.name);
                    configs.is_empty()
                });
                if is_empty {
                    self.forget_configs(kind, &name);
                }
            }
        }
        delta.configs.insert(ConfigResource { kind, name });
        Ok(())
    }

    /// Whether the resource had configs. What is empty is not kept, so that equal images are equal.
    fn forget_configs(&mut self, kind: ResourceKind, name: &Str) -> bool {
        let Some(resources) = self.configs.get_mut(&kind) else {
            return false;
        };
        let had_configs = resources.remove(name).is_some();
        if resources.len() == 0 {
            self.configs.remove(&kind);
        }
        had_configs
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

#[cfg(test)]
mod tests {
    use tidelog_protocol::records::metadata::{
        AbortTransactionRecord, BeginTransactionRecord, EndTransactionRecord, FenceBrokerRecord,
        NoOpRecord,
    };
    use tidelog_types::{LeaderEpoch, Uuid};

    use super::*;

    const ID: TopicId = TopicId::from_bytes([1; 16]);

    fn topic(name: &str, id: TopicId) -> MetadataRecord {
        TopicRecord {
            name: name.into(),
            topic_id: id,
        }
        .into()
    }

    fn partition(index: PartitionIndex) -> MetadataRecord {
        let node = NodeId::new(1);
        PartitionRecord {
            topic_id: ID,
            partition_id: index,
            replicas: vec![node],
            isr: vec![node],
            leader: node,
            leader_epoch: LeaderEpoch::new(0),
            partition_epoch: 0,
            ..Default::default()
        }
        .into()
    }

    fn change(leader: NodeId) -> MetadataRecord {
        PartitionChangeRecord {
            topic_id: ID,
            partition_id: 0,
            leader,
            ..Default::default()
        }
        .into()
    }

    fn config(name: &str, value: Option<&str>) -> MetadataRecord {
        ConfigRecord {
            resource_type: 2,
            resource_name: "orders".into(),
            name: name.into(),
            value: value.map(Into::into),
        }
        .into()
    }

    fn epochs(image: &Image) -> (i32, i32) {
        let partition = image.partition(ID, 0).unwrap();
        (partition.leader_epoch.value(), partition.partition_epoch)
    }

    #[test]
    fn naming_a_leader_raises_its_epoch_even_if_it_is_the_same() {
        let mut image = Image::default();
        image
            .apply_batch(&[topic("orders", ID), partition(0)])
            .unwrap();
        image
            .apply(&change(super::super::NO_LEADER_CHANGE))
            .unwrap();
        assert_eq!(epochs(&image), (0, 1));
        image.apply(&change(NodeId::new(1))).unwrap();
        assert_eq!(epochs(&image), (1, 2));
        image.apply(&change(NodeId::NONE)).unwrap();
        assert_eq!(epochs(&image), (2, 3));
    }

    #[test]
    fn records_that_do_not_follow_are_errors() {
        let mut image = Image::default();
        image
            .apply_batch(&[topic("orders", ID), partition(0)])
            .unwrap();
        let before = image.clone();
        let other = Uuid::from_bytes([2; 16]);
        let name = TopicName::from("orders");
        let broker = FenceBrokerRecord {
            id: NodeId::new(1),
            epoch: 5,
        };
        let ids = ProducerIdsRecord {
            next_producer_id: ProducerId::new(0),
            ..Default::default()
        };
        let unknown = PartitionChangeRecord {
            topic_id: ID,
            partition_id: 9,
            ..Default::default()
        };
        for (record, error) in [
            (
                topic("orders", other),
                ReplayError::DuplicateTopic {
                    name: name.clone(),
                    id: other,
                },
            ),
            (
                topic("other", ID),
                ReplayError::DuplicateTopic {
                    name: "other".into(),
                    id: ID,
                },
            ),
            (
                partition(0),
                ReplayError::DuplicatePartition {
                    topic: name.clone(),
                    partition: 0,
                },
            ),
            (
                unknown.into(),
                ReplayError::UnknownPartition {
                    topic: name,
                    partition: 9,
                },
            ),
            (
                RemoveTopicRecord { topic_id: other }.into(),
                ReplayError::UnknownTopic { id: other },
            ),
            (
                broker.into(),
                ReplayError::UnknownBroker {
                    id: NodeId::new(1),
                    epoch: 5,
                },
            ),
            (
                ids.into(),
                ReplayError::ProducerIdsGoBack {
                    from: ProducerId::new(0),
                    to: ProducerId::new(0),
                },
            ),
            (
                EndTransactionRecord {}.into(),
                ReplayError::TransactionOutOfOrder,
            ),
        ] {
            assert_eq!(image.apply(&record), Err(error));
            assert_eq!(image, before);
        }
    }

    #[test]
    fn a_transaction_takes_effect_when_it_ends_and_not_when_it_aborts() {
        let begin = MetadataRecord::from(BeginTransactionRecord::default());
        let mut image = Image::default();
        image
            .apply_batch(&[begin.clone(), topic("orders", ID), partition(0)])
            .unwrap();
        assert!(image.topic("orders").is_none());
        assert_eq!(image.apply(&begin), Err(ReplayError::TransactionOutOfOrder));
        let delta = image
            .apply_batch(&[EndTransactionRecord {}.into()])
            .unwrap();
        assert!(delta.topics_created.contains(&ID) && image.topic("orders").is_some());

        let before = image.clone();
        let removed = MetadataRecord::from(RemoveTopicRecord { topic_id: ID });
        let abort = AbortTransactionRecord::default().into();
        let delta = image.apply_batch(&[begin, removed, abort]).unwrap();
        assert!(delta.is_empty());
        assert_eq!(image, before);
    }

    #[test]
    fn a_delta_names_what_changed_and_not_what_came_and_went() {
        let mut image = Image::default();
        let delta = image
            .apply_batch(&[
                topic("orders", ID),
                partition(0),
                partition(1),
                config("a", Some("1")),
            ])
            .unwrap();
        assert_eq!(delta.partitions[&ID].len(), 2);
        assert_eq!(delta.configs.len(), 1);

        let removed = MetadataRecord::from(RemoveTopicRecord { topic_id: ID });
        let delta = image
            .apply_batch(&[change(NodeId::NONE), removed.clone()])
            .unwrap();
        assert!(delta.partitions.is_empty());
        assert_eq!(
            delta.topics_deleted[&ID].partitions[&0].leader,
            NodeId::NONE
        );
        assert_eq!(delta.configs.len(), 1);

        let delta = image
            .apply_batch(&[topic("orders", ID), partition(0), removed])
            .unwrap();
        assert!(delta.is_empty());
        assert!(
            image
                .apply_batch(&[NoOpRecord {}.into()])
                .unwrap()
                .is_empty()
        );
        assert_eq!(image, Image::default());
    }

    #[test]
    fn configs_are_kept_as_long_as_there_are_any() {
        let mut image = Image::default();
        image
            .apply_batch(&[config("a", Some("1")), config("b", Some("2"))])
            .unwrap();
        assert_eq!(image.topic_configs("orders").len(), 2);
        image
            .apply_batch(&[config("a", None), config("b", None), config("c", None)])
            .unwrap();
        assert!(image.is_empty());
    }
}
