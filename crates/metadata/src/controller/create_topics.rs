//! CreateTopics.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult,
    CreateTopicsRequest, CreateTopicsResponse,
};
use tidelog_protocol::records::metadata::{
    ConfigRecord, MetadataRecord, PartitionRecord, TopicRecord,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, PartitionIndex, Str, TopicId, TopicName};

use super::event::refused_topic;
use super::placement::{Candidate, Unplaceable, place};
use super::{Controller, ControllerRequest, ControllerResponse, Decision, similarity};
use crate::ApiError;
use crate::configs::{
    AlterOp, Alteration, ConfigEntry, ConfigMap, ConfigResource, ResourceKind, alter_incrementally,
    describe_new_topic,
};

/// What a topic's creation comes to.
struct NewTopic {
    records: Vec<MetadataRecord>,
    result: CreatableTopicResult,
}

impl Controller {
    pub(super) fn create_topics(&mut self, request: &CreateTopicsRequest) -> Decision {
        if let Err(error) = self.check_partition_count(request) {
            let response = ControllerRequest::CreateTopics(request.clone()).refused(&error);
            return Decision::atomic(Vec::new(), response);
        }
        let mut counts: BTreeMap<&TopicName, usize> = BTreeMap::new();
        for topic in &request.topics {
            *counts.entry(&topic.name).or_default() += 1;
        }
        let mut records = Vec::new();
        let mut topics = Vec::new();
        let mut refused = Vec::new();
        for topic in &request.topics {
            let repeated = counts.get_mut(&topic.name).is_some_and(|count| *count > 1);
            if repeated || topic.name == TopicName::CLUSTER_METADATA {
                continue;
            }
            match self.new_topic(topic) {
                Ok(new) => {
                    records.extend(new.records);
                    topics.push(new.result);
                }
                Err(error) => topics.push(refused_topic(&topic.name, &error)),
            }
        }
        for (name, count) in counts {
            let message = match count {
                1 if *name == TopicName::CLUSTER_METADATA => {
                    "the log of the metadata cannot be created as a topic"
                }
                1 => continue,
                _ => "the request names the topic more than once",
            };
            refused.push(refused_topic(
                name,
                &ApiError::new(ErrorCode::INVALID_REQUEST, message),
            ));
        }
        topics.append(&mut refused);
        if request.validate_only {
            records.clear();
        }
        let response = CreateTopicsResponse {
            throttle_time_ms: 0,
            topics,
        };
        Decision::atomic(records, ControllerResponse::CreateTopics(response))
    }

    fn check_partition_count(&self, request: &CreateTopicsRequest) -> Result<(), ApiError> {
        let partitions =
            |topic: &CreatableTopic| match (topic.assignments.len(), topic.num_partitions) {
                (0, -1) => self.broker.num_partitions().max(0) as usize,
                (0, count) => count.max(0) as usize,
                (assigned, _) => assigned,
            };
        let max = self.config.limits.partitions_per_request_max;
        let total: usize = request.topics.iter().map(partitions).sum();
        if total <= max {
            return Ok(());
        }
        let message = format!("the request creates more than {max} partitions");
        Err(ApiError::new(ErrorCode::POLICY_VIOLATION, message))
    }

    fn new_topic(&mut self, topic: &CreatableTopic) -> Result<NewTopic, ApiError> {
        self.check_name(&topic.name)?;
        let configs = self.new_configs(topic)?;
        let partitions = if topic.assignments.is_empty() {
            self.place_new(topic)?
        } else {
            self.assigned(topic)?
        };
        let topic_id = self.random.uuid();
        let name = topic.name.detach();
        let mut records = vec![
            TopicRecord {
                name: name.clone(),
                topic_id,
            }
            .into(),
        ];
        records.extend(configs.iter().map(|(key, value)| {
            MetadataRecord::from(ConfigRecord {
                resource_type: ResourceKind::Topic.id(),
                resource_name: name.as_inner().clone(),
                name: key.clone(),
                value: Some(value.clone()),
            })
        }));
        let num_partitions = partitions.len() as i32;
        let replication_factor = partitions
            .first()
            .map_or(0, |replicas| replicas.len() as i16);
        records.extend(
            (0..)
                .zip(partitions)
                .map(|(index, replicas)| self.new_partition(topic_id, index, replicas)),
        );
        let entries = describe_new_topic(&configs, &self.broker);
        let result = CreatableTopicResult {
            name: topic.name.clone(),
            topic_id,
            num_partitions,
            replication_factor,
            configs: Some(entries.into_iter().map(described).collect()),
            ..Default::default()
        };
        Ok(NewTopic { records, result })
    }

    fn check_name(&self, name: &TopicName) -> Result<(), ApiError> {
        if self.image.topic_id(name).is_some() {
            let message = format!("the topic {name} exists already");
            return Err(ApiError::new(ErrorCode::TOPIC_ALREADY_EXISTS, message));
        }
        let invalid = |message: String| ApiError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message);
        name.validate()
            .map_err(|error| invalid(error.to_string()))?;
        let similar = similarity(name).and_then(|key| self.similar_names.get(&key));
        match similar.and_then(BTreeSet::first) {
            None => Ok(()),
            Some(other) => Err(invalid(format!(
                "the name {name} is too similar to that of the topic {other}: \
                 metrics do not distinguish '.' and '_'"
            ))),
        }
    }

    /// The overrides of a new topic, if it may have them.
    fn new_configs(&self, topic: &CreatableTopic) -> Result<ConfigMap, ApiError> {
        let without_value: Vec<&str> = topic
            .configs
            .iter()
            .filter(|config| config.value.is_none())
            .map(|config| config.name.as_str())
            .collect();
        if !without_value.is_empty() {
            let message = format!("these configs have no value: {}", without_value.join(", "));
            return Err(ApiError::new(ErrorCode::INVALID_CONFIG, message));
        }
        // The last one of a name counts.
        let values: BTreeMap<&Str, &Option<Str>> = topic
            .configs
            .iter()
            .map(|config| (&config.name, &config.value))
            .collect();
        let set = |(name, value): (&Str, &Option<Str>)| Alteration {
            name: name.clone(),
            op: AlterOp::Set,
            value: value.clone(),
        };
        let alterations: Vec<Alteration> = values.into_iter().map(set).collect();
        let resource = ConfigResource::topic(&topic.name);
        let before = ConfigMap::new();
        let changes = alter_incrementally(&resource, &alterations, &before, self.rules())?;
        Ok(changes
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect())
    }

    /// The replicas of each partition where the controller chooses.
    fn place_new(&mut self, topic: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, ApiError> {
        if topic.replication_factor < -1 || topic.replication_factor == 0 {
            let message = "the replication factor must be positive, or -1 for the default";
            return Err(ApiError::new(
                ErrorCode::INVALID_REPLICATION_FACTOR,
                message,
            ));
        }
        if topic.num_partitions < -1 || topic.num_partitions == 0 {
            let message = "the number of partitions must be positive, or -1 for the default";
            return Err(ApiError::new(ErrorCode::INVALID_PARTITIONS, message));
        }
        let or_default = |given: i32, default: i32| if given == -1 { default } else { given };
        let partitions = or_default(topic.num_partitions, self.broker.num_partitions());
        let default_factor = self.broker.default_replication_factor();
        let factor = or_default(topic.replication_factor.into(), default_factor);
        self.place(partitions.max(0) as usize, factor.max(0) as usize)
    }

    /// Replicas for new partitions, on brokers that take them.
    pub(super) fn place(
        &mut self,
        partitions: usize,
        replication_factor: usize,
    ) -> Result<Vec<Vec<NodeId>>, ApiError> {
        let usable = self
            .image
            .brokers()
            .filter(|b| !b.in_controlled_shutdown && !b.is_cordoned());
        let candidates = usable.map(|broker| Candidate {
            id: broker.id,
            rack: broker.rack.clone(),
            active: broker.is_active(),
        });
        place(candidates, partitions, replication_factor, &mut self.random).map_err(|error| {
            let reason = match error {
                Unplaceable::NoActiveBroker => "no broker is active".into(),
                Unplaceable::TooFewBrokers { known } => format!("the number of brokers is {known}"),
            };
            let message = format!("cannot place {replication_factor} replicas: {reason}");
            ApiError::new(ErrorCode::INVALID_REPLICATION_FACTOR, message)
        })
    }

    /// The replicas of each partition where the client chooses.
    fn assigned(&self, topic: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, ApiError> {
        if topic.replication_factor != -1 || topic.num_partitions != -1 {
            let message = "with assigned replicas, the number of partitions and the replication factor must be -1";
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
        let invalid =
            |message: String| ApiError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
        let mut partitions: BTreeMap<PartitionIndex, Vec<NodeId>> = BTreeMap::new();
        let mut factor = None;
        for CreatableReplicaAssignment {
            partition_index,
            broker_ids,
        } in &topic.assignments
        {
            if partitions.contains_key(partition_index) {
                return Err(invalid(format!(
                    "partition {partition_index} is assigned twice"
                )));
            }
            self.check_assignment(*partition_index, broker_ids, factor)?;
            factor = Some(broker_ids.len());
            partitions.insert(*partition_index, broker_ids.clone());
        }
        if !partitions.keys().copied().eq(0..partitions.len() as i32) {
            return Err(invalid(
                "partitions must be numbered from 0 on without gaps".into(),
            ));
        }
        Ok(partitions.into_values().collect())
    }

    /// Whether a new partition may have these replicas: `factor` registered brokers, none twice, one of them able to lead.
    pub(super) fn check_assignment(
        &self,
        index: PartitionIndex,
        replicas: &[NodeId],
        factor: Option<usize>,
    ) -> Result<(), ApiError> {
        self.check_replicas(index, replicas, factor)?;
        if replicas.iter().any(|replica| self.is_active(*replica)) {
            return Ok(());
        }
        let message = format!("none of the brokers of partition {index} is active");
        Err(ApiError::new(
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            message,
        ))
    }

    /// Whether the replicas of a partition can be these: `factor` registered brokers, none twice.
    pub(super) fn check_replicas(
        &self,
        index: PartitionIndex,
        replicas: &[NodeId],
        factor: Option<usize>,
    ) -> Result<(), ApiError> {
        let invalid = |message: String| {
            Err(ApiError::new(
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                message,
            ))
        };
        if replicas.is_empty() {
            return invalid(format!("partition {index} is assigned to no broker"));
        }
        let mut seen = BTreeSet::new();
        for replica in replicas {
            if self.image.broker(*replica).is_none() {
                return invalid(format!("broker {replica} is not registered"));
            }
            if !seen.insert(replica) {
                return invalid(format!(
                    "partition {index} is assigned to broker {replica} twice"
                ));
            }
        }
        if let Some(factor) = factor.filter(|factor| *factor != replicas.len()) {
            let count = replicas.len();
            return invalid(format!(
                "partition {index} has {count} replicas, and others have {factor}"
            ));
        }
        Ok(())
    }

    /// The record of a new partition. Some replica's broker is active.
    pub(super) fn new_partition(
        &self,
        topic_id: TopicId,
        partition_id: PartitionIndex,
        replicas: Vec<NodeId>,
    ) -> MetadataRecord {
        let isr: Vec<NodeId> = replicas
            .iter()
            .copied()
            .filter(|id| self.is_active(*id))
            .collect();
        let directory = |id| {
            self.image
                .broker(id)
                .map(|broker| broker.default_directory())
        };
        let directories = if self.image.metadata_version().has_directories() {
            replicas.iter().filter_map(|id| directory(*id)).collect()
        } else {
            Vec::new()
        };
        PartitionRecord {
            partition_id,
            topic_id,
            leader: isr.first().copied().unwrap_or(NodeId::NONE),
            replicas,
            isr,
            leader_epoch: LeaderEpoch::new(0),
            partition_epoch: 0,
            directories,
            ..Default::default()
        }
        .into()
    }

    pub(super) fn is_active(&self, id: NodeId) -> bool {
        self.image
            .broker(id)
            .is_some_and(|broker| broker.is_active())
    }
}

fn described(entry: ConfigEntry) -> CreatableTopicConfigs {
    CreatableTopicConfigs {
        name: entry.name.into(),
        value: entry.value.map(Str::from),
        read_only: entry.read_only,
        config_source: entry.source.id(),
        is_sensitive: entry.sensitive,
    }
}
