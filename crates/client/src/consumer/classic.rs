//! What a member of a classic group says, and hears, in bytes.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
use tidelog_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, JoinGroupResponseMember,
};
use tidelog_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use tidelog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use tidelog_protocol::records::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition as Partitions,
};
use tidelog_types::{ErrorCode, Str, TopicPartition};

use super::Shared;
use super::membership::{Assignor, Effect, Generation, Input, Join, Peer, RequestId};
use crate::ClientError;
use crate::offsets::by_topic;

/// The protocol type of groups of consumers.
const CONSUMER: Str = Str::from_static("consumer");
/// The version in which members tell what they own, in which generation, and where they are (KIP-881).
const SUBSCRIPTION_VERSION: i16 = 3;
/// The version of assignments that every client reads.
const ASSIGNMENT_VERSION: i16 = 0;
/// From this version on several members can leave at once, and static ones by their names (KIP-345).
const STATIC_FROM_VERSION: i16 = 3;

/// Sends what the member wants to say, and takes the answer.
pub(super) async fn say(shared: Arc<Shared>, effect: Effect) {
    let (request, done) = match effect {
        Effect::Join { request, join } => (request, shared.join(request, join).await),
        Effect::Sync {
            request,
            generation_id,
            member_id,
            assignor,
            assignments,
        } => {
            let sync = shared.sync(request, generation_id, member_id, assignor, assignments);
            (request, sync.await)
        }
        Effect::Beat {
            request,
            generation_id,
            member_id,
        } => {
            let beat = shared.beat_in(request, generation_id, member_id);
            (request, beat.await)
        }
        Effect::Leave { request, member_id } => {
            (request, shared.say_farewell(request, member_id).await)
        }
        other => unreachable!("{other:?} is nothing to be said"),
    };
    let input = done.unwrap_or_else(|error| {
        tracing::debug!(%error, "the coordinator has not answered");
        Input::Lost { request }
    });
    shared.with_core(|core| core.handle_member(input));
}

impl Shared {
    async fn join(&self, request: RequestId, join: Join) -> Result<Input, ClientError> {
        let config = &self.config;
        let protocols = config.assignors.iter().map(|assignor| {
            let metadata = self.subscription(*assignor, &join)?;
            Ok(JoinGroupRequestProtocol {
                name: Str::from_static(assignor.name()),
                metadata,
            })
        });
        let millis = |it: std::time::Duration| i32::try_from(it.as_millis()).unwrap_or(i32::MAX);
        let message = JoinGroupRequest {
            group_id: config.group_id.clone().unwrap_or_default(),
            session_timeout_ms: millis(config.session_timeout),
            rebalance_timeout_ms: millis(config.poll_interval_max),
            member_id: join.member_id.clone(),
            group_instance_id: config.group_instance_id.clone(),
            protocol_type: CONSUMER,
            protocols: protocols.collect::<Result<_, ClientError>>()?,
            reason: None,
        };
        let connection = self.coordinator().await?;
        // The coordinator waits for the other members.
        let within = self.client.config().request_timeout + config.poll_interval_max;
        let answer = connection.send_within(&message, within).await;
        let answer = self.heed(answer).await?;
        self.heed_code(answer.error_code).await;
        let answer = match answer.error_code.is_ok() {
            true => Ok(self.generation(answer)),
            false => Err((answer.error_code, answer.member_id)),
        };
        Ok(Input::Joined { request, answer })
    }

    fn subscription(&self, assignor: Assignor, join: &Join) -> Result<Bytes, ClientError> {
        let subscription = ConsumerProtocolSubscription {
            topics: join.topics.clone(),
            user_data: (assignor == Assignor::Sticky && join.generation_id >= 0)
                .then(|| write_last(&join.last, join.generation_id)),
            owned_partitions: partitions(&join.owned),
            generation_id: join.generation_id,
            rack_id: self.config.rack.clone(),
        };
        Ok(subscription.encode_versioned(SUBSCRIPTION_VERSION)?)
    }

    fn generation(&self, answer: JoinGroupResponse) -> Generation {
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

    async fn sync(
        &self,
        request: RequestId,
        generation_id: i32,
        member_id: Str,
        assignor: Option<Assignor>,
        assignments: Vec<(Str, Vec<TopicPartition>)>,
    ) -> Result<Input, ClientError> {
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
        let message = SyncGroupRequest {
            group_id: self.config.group_id.clone().unwrap_or_default(),
            generation_id,
            member_id,
            group_instance_id: self.config.group_instance_id.clone(),
            protocol_type: Some(CONSUMER),
            protocol_name: assignor.map(|it| Str::from_static(it.name())),
            assignments: assignments.collect::<Result<_, ClientError>>()?,
        };
        let connection = self.coordinator().await?;
        // The coordinator waits for the leader.
        let within = self.client.config().request_timeout + self.config.poll_interval_max;
        let answer = connection.send_within(&message, within).await;
        let answer = self.heed(answer).await?;
        self.heed_code(answer.error_code).await;
        let answer = match answer.error_code.is_ok() {
            true => Ok(assigned(&answer.assignment)),
            false => Err(answer.error_code),
        };
        Ok(Input::Synced { request, answer })
    }

    async fn beat_in(
        &self,
        request: RequestId,
        generation_id: i32,
        member_id: Str,
    ) -> Result<Input, ClientError> {
        let message = HeartbeatRequest {
            group_id: self.config.group_id.clone().unwrap_or_default(),
            generation_id,
            member_id,
            group_instance_id: self.config.group_instance_id.clone(),
        };
        let answer = self.ask_coordinator(&message, i16::MAX).await?;
        self.heed_code(answer.error_code).await;
        let error_code = answer.error_code;
        Ok(Input::Acknowledged {
            request,
            error_code,
        })
    }

    async fn say_farewell(&self, request: RequestId, member_id: Str) -> Result<Input, ClientError> {
        let connection = self.coordinator().await?;
        let version = connection.version::<LeaveGroupRequest>(i16::MAX);
        let mut message = LeaveGroupRequest {
            group_id: self.config.group_id.clone().unwrap_or_default(),
            ..Default::default()
        };
        match version.is_some_and(|version| version >= STATIC_FROM_VERSION) {
            true => message.members.push(MemberIdentity {
                member_id,
                ..Default::default()
            }),
            false => message.member_id = member_id,
        }
        let answer = connection.send(&message).await?;
        let error_code = answer.error_code;
        Ok(Input::Acknowledged {
            request,
            error_code,
        })
    }

    /// Looks for the coordinator anew if an answer says that it is another one.
    pub(super) async fn heed_code(&self, code: ErrorCode) {
        let checked = ClientError::check(code, None, String::new);
        // The code itself is the member's matter.
        let _ = self.heed(checked).await;
    }
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
