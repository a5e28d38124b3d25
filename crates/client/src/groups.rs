//! What is known of consumer groups, of either protocol.

use bytes::Bytes;
use tidelog_protocol::messages::consumer_group_describe::{
    Assignment, ConsumerGroupDescribeRequest, DescribedGroup as DescribedConsumerGroup,
};
use tidelog_protocol::messages::delete_groups::DeleteGroupsRequest;
use tidelog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use tidelog_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribedGroup as DescribedClassicGroup,
};
use tidelog_protocol::messages::list_groups::ListGroupsRequest;
use tidelog_protocol::records::consumer_protocol::ConsumerProtocolAssignment;
use tidelog_types::{ErrorCode, GroupId, Str, TopicPartition};

use crate::{Broker, Client, ClientError, Connection};

/// The protocol type of classic groups whose members are consumers.
const CONSUMER: &str = "consumer";
/// The resource type of groups in DescribeConfigs.
const GROUP_RESOURCE: i8 = 32;
/// The entry that tells why a group rebalanced.
const REBALANCES: &str = "tidelog.group.rebalances";
/// What a classic group is in that does not exist.
const DEAD: &str = "Dead";

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// The group.
    pub group_id: GroupId,
    /// What its members are, such as `consumer`; empty if it has only committed offsets.
    pub protocol_type: Str,
    /// The state; empty if the broker is too old to say (before KIP-518).
    pub state: Str,
    /// `Classic`, `Consumer`, `Share` or `Streams`; empty if the broker is too old to say (before KIP-848).
    pub group_type: Str,
}

/// Which protocol a group speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupType {
    /// A member assigns.
    Classic,
    /// The broker assigns (KIP-848).
    Consumer,
}

impl GroupType {
    /// Kafka's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// A group, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// The group.
    pub group_id: GroupId,
    /// The protocol.
    pub group_type: GroupType,
    /// The state, in Kafka's words.
    pub state: Str,
    /// What the members are, such as `consumer`.
    pub protocol_type: Str,
    /// How partitions are assigned: the assignor's name; empty if nothing was agreed upon.
    pub assignor: Str,
    /// The epoch of the group (KIP-848); a classic group does not tell its generation.
    pub epoch: Option<i32>,
    /// The epoch of its target assignment (KIP-848).
    pub assignment_epoch: Option<i32>,
    /// The broker that coordinates the group.
    pub coordinator: Broker,
    /// The members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// Its id.
    pub member_id: Str,
    /// The name of a static member (KIP-345).
    pub instance_id: Option<Str>,
    /// The client id.
    pub client_id: Str,
    /// The address.
    pub client_host: Str,
    /// The epoch that the member has reached (KIP-848).
    pub epoch: Option<i32>,
    /// What it owns.
    pub assignment: Vec<TopicPartition>,
    /// What it is to own, if that is something else (KIP-848).
    pub target_assignment: Option<Vec<TopicPartition>>,
}

impl Client {
    /// Every group of the cluster in one of these states and of one of these types; all of them if none is named.
    pub async fn list_groups(
        &self,
        states: &[Str],
        types: &[Str],
    ) -> Result<Vec<GroupListing>, ClientError> {
        let request = ListGroupsRequest {
            states_filter: states.to_vec(),
            types_filter: types.to_vec(),
        };
        let mut listed = Vec::new();
        for broker in self.brokers().await? {
            let answer = self.with_retries(|| async {
                let answer = self.at(&broker.address()).await?.send(&request).await?;
                ClientError::check(answer.error_code, None, || {
                    format!("the groups of broker {}", broker.id)
                })?;
                Ok(answer)
            });
            listed.extend(answer.await?.groups.into_iter().map(|group| GroupListing {
                group_id: group.group_id,
                protocol_type: group.protocol_type,
                state: group.group_state,
                group_type: group.group_type,
            }));
        }
        listed.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(listed)
    }

    /// One group, of whichever protocol; `None` if there is no such group.
    pub async fn describe_group(
        &self,
        group: &GroupId,
    ) -> Result<Option<GroupDescription>, ClientError> {
        self.on_coordinator(group, |broker, connection| async move {
            let knows_consumer_groups = connection
                .version::<ConsumerGroupDescribeRequest>(i16::MAX)
                .is_some();
            if knows_consumer_groups
                && let Some(described) = describe_consumer(group, &broker, &connection).await?
            {
                return Ok(Some(described));
            }
            describe_classic(group, &broker, &connection).await
        })
        .await
    }

    /// Why a group rebalanced, as JSON: an array of its last rebalances, the oldest first. `None` if its broker does not know
    /// that, as Apache Kafka's do not.
    pub async fn explain_group(&self, group: &GroupId) -> Result<Option<Str>, ClientError> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: GROUP_RESOURCE,
                resource_name: group.as_inner().clone(),
                configuration_keys: Some(vec![Str::from_static(REBALANCES)]),
            }],
            ..Default::default()
        };
        let request = &request;
        self.on_coordinator(group, |_, connection| async move {
            let answer = connection.send(request).await?;
            let result = answer.results.into_iter().next();
            let result = result.ok_or_else(|| missing(&connection))?;
            // A Kafka before groups had configs (KIP-848) does not know the resource.
            if result.error_code == ErrorCode::INVALID_REQUEST {
                return Ok(None);
            }
            let message = result.error_message.as_ref();
            ClientError::check(result.error_code, message, || format!("group {group}"))?;
            let mut entries = result.configs.into_iter();
            let entry = entries.find(|entry| entry.name == REBALANCES);
            Ok(entry.and_then(|entry| entry.value))
        })
        .await
    }

    /// Deletes a group with its offsets. It must have no members.
    pub async fn delete_group(&self, group: &GroupId) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest {
            groups_names: vec![group.clone()],
        };
        let request = &request;
        self.on_coordinator(group, |_, connection| async move {
            let answer = connection.send(request).await?;
            let result = answer.results.first().ok_or_else(|| missing(&connection))?;
            ClientError::check(result.error_code, None, || format!("group {group}"))
        })
        .await
    }
}

/// An answer without the element that was asked for.
pub(crate) fn missing(connection: &Connection) -> ClientError {
    ClientError::NotKafka {
        address: connection.address().to_owned(),
        what: "an answer lacks what was asked for".into(),
    }
}

async fn describe_consumer(
    group: &GroupId,
    broker: &Broker,
    connection: &Connection,
) -> Result<Option<GroupDescription>, ClientError> {
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![group.clone()],
        ..Default::default()
    };
    let answer = connection.send(&request).await?;
    let described = answer.groups.into_iter().next();
    let described = described.ok_or_else(|| missing(connection))?;
    if matches!(
        described.error_code,
        ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::UNSUPPORTED_VERSION
    ) {
        return Ok(None);
    }
    let message = described.error_message.as_ref();
    ClientError::check(described.error_code, message, || format!("group {group}"))?;
    Ok(Some(consumer(described, broker.clone())))
}

fn consumer(described: DescribedConsumerGroup, coordinator: Broker) -> GroupDescription {
    let partitions = |assignment: &Assignment| {
        let topics = assignment.topic_partitions.iter();
        let mut all: Vec<_> = topics
            .flat_map(|topic| {
                let partitions = topic.partitions.iter();
                partitions
                    .map(|partition| TopicPartition::new(topic.topic_name.clone(), *partition))
            })
            .collect();
        all.sort();
        all
    };
    let members = described.members.into_iter().map(|member| {
        let assignment = partitions(&member.assignment);
        let target = partitions(&member.target_assignment);
        GroupMember {
            target_assignment: (target != assignment).then_some(target),
            assignment,
            member_id: member.member_id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            epoch: Some(member.member_epoch),
        }
    });
    GroupDescription {
        group_type: GroupType::Consumer,
        protocol_type: Str::from_static(CONSUMER),
        assignor: described.assignor_name,
        epoch: Some(described.group_epoch),
        assignment_epoch: Some(described.assignment_epoch),
        state: described.group_state,
        members: members.collect(),
        group_id: described.group_id,
        coordinator,
    }
}

async fn describe_classic(
    group: &GroupId,
    broker: &Broker,
    connection: &Connection,
) -> Result<Option<GroupDescription>, ClientError> {
    let request = DescribeGroupsRequest {
        groups: vec![group.clone()],
        ..Default::default()
    };
    let answer = connection.send(&request).await?;
    let described = answer.groups.into_iter().next();
    let described = described.ok_or_else(|| missing(connection))?;
    if described.error_code == ErrorCode::GROUP_ID_NOT_FOUND
        || (described.error_code.is_ok() && described.group_state == DEAD)
    {
        return Ok(None);
    }
    let message = described.error_message.as_ref();
    ClientError::check(described.error_code, message, || format!("group {group}"))?;
    Ok(Some(classic(described, broker.clone())))
}

fn classic(described: DescribedClassicGroup, coordinator: Broker) -> GroupDescription {
    let consumers = described.protocol_type == CONSUMER;
    let members = described.members.into_iter().map(|member| GroupMember {
        assignment: match consumers {
            true => assigned(&member.member_assignment),
            false => Vec::new(),
        },
        target_assignment: None,
        member_id: member.member_id,
        instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        epoch: None,
    });
    GroupDescription {
        group_type: GroupType::Classic,
        members: members.collect(),
        group_id: described.group_id,
        state: described.group_state,
        protocol_type: described.protocol_type,
        assignor: described.protocol_data,
        epoch: None,
        assignment_epoch: None,
        coordinator,
    }
}

/// What the leader of a classic group has given to a member. Before the first assignment it is nothing at all, and what a
/// strange client writes is its own affair.
fn assigned(bytes: &Bytes) -> Vec<TopicPartition> {
    let Ok(assignment) = ConsumerProtocolAssignment::decode_versioned(bytes) else {
        return Vec::new();
    };
    let topics = assignment.assigned_partitions.iter();
    let mut all: Vec<_> = topics
        .flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| TopicPartition::new(topic.topic.clone(), *partition))
        })
        .collect();
    all.sort();
    all
}
