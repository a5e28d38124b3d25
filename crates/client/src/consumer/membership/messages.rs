//! What a member says, and hears, as messages of the protocol.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidelog_protocol::EncodeError;
use tidelog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
use tidelog_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, JoinGroupResponseMember,
};
use tidelog_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use tidelog_protocol::messages::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use tidelog_protocol::records::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition as Partitions,
};
use tidelog_types::{ErrorCode, Str, TopicPartition};

use super::{Assignor, Generation, Heartbeat, HeartbeatAnswer, Join, Peer};
use crate::ConsumerConfig;
use crate::offsets::by_topic;

/// The protocol type of groups of consumers.
const CONSUMER: Str = Str::from_static("consumer");
/// The version in which members tell what they own, in which generation, and where they are (KIP-881).
const SUBSCRIPTION_VERSION: i16 = 3;
/// The version of assignments that every client reads.
const ASSIGNMENT_VERSION: i16 = 0;
/// From this version on several members can leave at once, and static ones by their names (KIP-345).
const STATIC_FROM_VERSION: i16 = 3;

/// What a member says of itself (KIP-848).
pub fn heartbeat(config: &ConsumerConfig, heartbeat: Heartbeat) -> ConsumerGroupHeartbeatRequest {
    let says_all = heartbeat.rebalance_timeout.is_some();
    let timeout = heartbeat.rebalance_timeout.map(|it| it.as_millis());
    let timeout = timeout.map(|it| i32::try_from(it).unwrap_or(i32::MAX));
    let owned = heartbeat.owned.map(|owned| {
        let owned = owned.into_iter();
        let owned = owned.map(|(topic_id, partitions)| TopicPartitions {
            topic_id,
            partitions,
        });
        owned.collect()
    });
    let (topics, regex) = match heartbeat.subscription {
        Some(it) => (Some(it.topics), it.regex),
        None => (None, None),
    };
    ConsumerGroupHeartbeatRequest {
        group_id: config.group_id.clone().unwrap_or_default(),
        member_id: heartbeat.member_id,
        member_epoch: heartbeat.member_epoch,
        instance_id: config.group_instance_id.clone(),
        rack_id: config.rack.clone().filter(|_| says_all),
        rebalance_timeout_ms: timeout.unwrap_or(-1),
        subscribed_topic_names: topics,
        subscribed_topic_regex: regex,
        server_assignor: config.remote_assignor.clone().filter(|_| says_all),
        topic_partitions: owned,
    }
}

/// What the coordinator says to that.
pub fn heard(answer: ConsumerGroupHeartbeatResponse) -> HeartbeatAnswer {
    let assignment = answer.assignment.map(|assignment| {
        let topics = assignment.topic_partitions.into_iter();
        let partitions = topics.flat_map(|topic| {
            let partitions = topic.partitions.into_iter();
            partitions.map(move |partition| (topic.topic_id, partition))
        });
        partitions.collect()
    });
    let interval = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0);
    HeartbeatAnswer {
        error_code: answer.error_code,
        message: answer.error_message,
        member_id: answer.member_id,
        member_epoch: answer.member_epoch,
        interval: Duration::from_millis(interval),
        assignment,
    }
}

/// What a member of a classic group wants to be in the next generation.
pub fn join(config: &ConsumerConfig, join: &Join) -> Result<JoinGroupRequest, EncodeError> {
    let protocols = config.assignors.iter().map(|assignor| {
        let metadata = subscription(config, *assignor, join)?;
        Ok(JoinGroupRequestProtocol {
            name: Str::from_static(assignor.name()),
            metadata,
        })
    });
    let millis = |it: Duration| i32::try_from(it.as_millis()).unwrap_or(i32::MAX);
    Ok(JoinGroupRequest {
        group_id: config.group_id.clone().unwrap_or_default(),
        session_timeout_ms: millis(config.session_timeout),
        rebalance_timeout_ms: millis(config.poll_interval_max),
        member_id: join.member_id.clone(),
        group_instance_id: config.group_instance_id.clone(),
        protocol_type: CONSUMER,
        protocols: protocols.collect::<Result<_, EncodeError>>()?,
        reason: None,
    })
}

fn subscription(
    config: &ConsumerConfig,
    assignor: Assignor,
    join: &Join,
) -> Result<Bytes, EncodeError> {
    let subscription = ConsumerProtocolSubscription {
        topics: join.topics.clone(),
        user_data: (assignor == Assignor::Sticky && join.generation_id >= 0)
            .then(|| write_last(&join.last, join.generation_id)),
        owned_partitions: partitions(&join.owned),
        generation_id: join.generation_id,
        rack_id: config.rack.clone(),
    };
    subscription.encode_versioned(SUBSCRIPTION_VERSION)
}

/// The new generation, or why the member is not in it, with the id that it is to have.
pub fn joined(answer: JoinGroupResponse) -> Result<Generation, (ErrorCode, Str)> {
    match answer.error_code.is_ok() {
        true => Ok(generation(answer)),
        false => Err((answer.error_code, answer.member_id)),
    }
}

fn generation(answer: JoinGroupResponse) -> Generation {
    let name = answer.protocol_name.unwrap_or_default();
    let assignor = Assignor::from_name(&name);
    let is_leader = answer.leader == answer.member_id;
    let peers = answer.members.iter();
    let peers = peers.map(|member| peer(assignor, member)).collect();
    Generation {
        generation_id: answer.generation_id,
        member_id: answer.member_id,
        assignor,
        peers: is_leader.then_some(peers),
        skips_assignment: answer.skip_assignment,
    }
}

/// Asks for the assignment of a generation; the leader brings it.
pub fn sync(
    config: &ConsumerConfig,
    generation_id: i32,
    member_id: Str,
    assignor: Option<Assignor>,
    assignments: Vec<(Str, Vec<TopicPartition>)>,
) -> Result<SyncGroupRequest, EncodeError> {
    let assignments = assignments.into_iter().map(|(member_id, owned)| {
        let assignment = ConsumerProtocolAssignment {
            assigned_partitions: partitions(&owned),
            user_data: None,
        };
        Ok(SyncGroupRequestAssignment {
            member_id,
            assignment: assignment.encode_versioned(ASSIGNMENT_VERSION)?,
        })
    });
    Ok(SyncGroupRequest {
        group_id: config.group_id.clone().unwrap_or_default(),
        generation_id,
        member_id,
        group_instance_id: config.group_instance_id.clone(),
        protocol_type: Some(CONSUMER),
        protocol_name: assignor.map(|it| Str::from_static(it.name())),
        assignments: assignments.collect::<Result<_, EncodeError>>()?,
    })
}

/// What the member is to own.
pub fn synced(answer: &SyncGroupResponse) -> Result<Vec<TopicPartition>, ErrorCode> {
    match answer.error_code.is_ok() {
        true => Ok(assigned(&answer.assignment)),
        false => Err(answer.error_code),
    }
}

/// A heartbeat in a generation.
pub fn beat(config: &ConsumerConfig, generation_id: i32, member_id: Str) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: config.group_id.clone().unwrap_or_default(),
        generation_id,
        member_id,
        group_instance_id: config.group_instance_id.clone(),
    }
}

/// A farewell, in that version of LeaveGroup.
pub fn leave(config: &ConsumerConfig, member_id: Str, version: i16) -> LeaveGroupRequest {
    let mut message = LeaveGroupRequest {
        group_id: config.group_id.clone().unwrap_or_default(),
        ..Default::default()
    };
    match version >= STATIC_FROM_VERSION {
        true => message.members.push(MemberIdentity {
            member_id,
            ..Default::default()
        }),
        false => message.member_id = member_id,
    }
    message
}

fn partitions(all: &[TopicPartition]) -> Vec<Partitions> {
    by_topic(all, |it| it.partition)
        .map(|(topic, partitions)| Partitions { topic, partitions })
        .collect()
}

fn plain(partitions: Vec<Partitions>) -> Vec<TopicPartition> {
    let topics = partitions.into_iter();
    let all = topics.flat_map(|it| {
        let partitions = it.partitions.into_iter();
        partitions.map(move |partition| TopicPartition::new(it.topic.clone(), partition))
    });
    all.collect()
}

/// What the leader has given us; nothing, if it is nothing that can be read.
fn assigned(bytes: &Bytes) -> Vec<TopicPartition> {
    let assignment = ConsumerProtocolAssignment::decode_versioned(bytes);
    assignment.map_or_else(|_| Vec::new(), |it| plain(it.assigned_partitions))
}

/// What a member says of itself. One that says nothing readable wants nothing.
fn peer(assignor: Option<Assignor>, member: &JoinGroupResponseMember) -> Peer {
    let read = ConsumerProtocolSubscription::decode_versioned(&member.metadata);
    let read = read.unwrap_or_default();
    let (owned, generation_id) = match (assignor, &read.user_data) {
        // What an eager member owned it has given up; it tells by itself.
        (Some(Assignor::Sticky), Some(data)) => read_last(data).unwrap_or_default(),
        (Some(Assignor::Sticky), None) => (Vec::new(), -1),
        _ => (plain(read.owned_partitions), read.generation_id),
    };
    Peer {
        member_id: member.member_id.clone(),
        instance_id: member.group_instance_id.clone(),
        topics: read.topics,
        owned,
        generation_id,
    }
}

/// As the sticky assignor of Java's client has it: partitions by topic, and the generation.
fn write_last(last: &[TopicPartition], generation_id: i32) -> Bytes {
    let topics = partitions(last);
    let len = |len: usize| i32::try_from(len).unwrap_or(i32::MAX);
    let mut bytes = BytesMut::new();
    bytes.put_i32(len(topics.len()));
    for topic in topics {
        // Names are far shorter than that.
        bytes.put_i16(i16::try_from(topic.topic.len()).unwrap_or(i16::MAX));
        bytes.put_slice(topic.topic.as_str().as_bytes());
        bytes.put_i32(len(topic.partitions.len()));
        for partition in topic.partitions {
            bytes.put_i32(partition);
        }
    }
    bytes.put_i32(generation_id);
    bytes.freeze()
}

/// What [`write_last`] wrote, or a client that does not know of generations.
fn read_last(data: &Bytes) -> Option<(Vec<TopicPartition>, i32)> {
    let mut data = data.clone();
    let mut last = Vec::new();
    for _ in 0..data.try_get_i32().ok()? {
        let len = usize::try_from(data.try_get_i16().ok()?).ok()?;
        if data.remaining() < len {
            return None;
        }
        let topic = Str::from_utf8(data.split_to(len)).ok()?;
        for _ in 0..data.try_get_i32().ok()? {
            let partition = data.try_get_i32().ok()?;
            last.push(TopicPartition::new(topic.as_str(), partition));
        }
    }
    Some((last, data.try_get_i32().unwrap_or(-1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sticky_member_had_is_written_as_java_does() {
        let last = [TopicPartition::new("ab", 1), TopicPartition::new("ab", 2)];
        let bytes = write_last(&last, 7);
        let expected = b"\0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\0\0\x07";
        assert_eq!(&bytes[..], expected);
        assert_eq!(read_last(&bytes), Some((last.to_vec(), 7)));
        // Before KIP-792 there was no generation; what is cut says nothing.
        let old = bytes.slice(..bytes.len() - 4);
        assert_eq!(read_last(&old), Some((last.to_vec(), -1)));
        assert_eq!(read_last(&bytes.slice(..9)), None);
    }
}
