//! Members that speak the classic protocol, inside a group whose partitions the broker divides: a JoinGroup tells what the
//! member owns and wants, its answer has the member epoch for a generation, and SyncGroup fetches what the member has.

use bytes::Bytes;
use tidelog_protocol::messages::consumer_group_heartbeat::TopicPartitions;
use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
use tidelog_protocol::messages::join_group::JoinGroupResponse;
use tidelog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use tidelog_protocol::records::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition,
};
use tidelog_protocol::records::group::consumer::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupMemberMetadataValue,
};
use tidelog_types::{ErrorCode, Str};

use super::heartbeat::{Change, nobody, sorted};
use super::{ConsumerGroup, Member, MemberState};
use crate::assignor::Partitions;
use crate::group::classic::CONSUMER;
use crate::group::context::Context;
use crate::group::member::Joining;
use crate::group::{ClusterView, GroupRecord};

/// From this version of JoinGroup on, a new dynamic member is given its id first (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;

/// What comes of a JoinGroup with the classic protocol.
#[derive(Debug)]
pub(in crate::group) enum Joined {
    /// The answer, once the records are committed.
    Answer(JoinGroupResponse),
    /// The same, and the last member with the consumer protocol has thereby gone: the group becomes a classic one.
    Downgrade {
        answer: JoinGroupResponse,
        /// Records that were not appended yet.
        records: Vec<GroupRecord>,
        /// The assignment is not up to date: everybody has to join again.
        rebalance: bool,
    },
}

impl ConsumerGroup {
    /// Refuses a JoinGroup, or nothing. The error comes with the member id that the answer gives out, if it gives one.
    pub(in crate::group) fn check_join(
        &self,
        cx: &mut Context<'_>,
        joining: &Joining,
    ) -> Result<ConsumerProtocolSubscription, (ErrorCode, Str)> {
        let config = cx.config;
        let refuse = |error_code| Err((error_code, Str::EMPTY));
        if !config.consumer_group_migration_policy.allows_mixed_groups() {
            return refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let is_known = self.members.contains_key(&joining.member_id);
        if self.members.len() >= config.consumer_group_max_size && !is_known {
            return refuse(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        let supporters = |name: &Str| self.classic_protocols.get(name).copied().unwrap_or(0);
        let mut protocols = joining.protocols.iter();
        let fits = protocols.any(|protocol| supporters(&protocol.name) == self.classic_members);
        if *joining.protocol_type != *CONSUMER || !fits {
            return refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if joining.member_id.is_empty()
            && joining.instance_id.is_none()
            && joining.parked.version >= MEMBER_ID_REQUIRED_FROM
        {
            return Err((ErrorCode::MEMBER_ID_REQUIRED, cx.member_ids.next_uuid()));
        }
        if let Some(instance_id) = &joining.instance_id
            && !joining.member_id.is_empty()
        {
            match self.static_members.get(instance_id) {
                None => return refuse(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(holder) if *holder != joining.member_id => {
                    return refuse(ErrorCode::FENCED_INSTANCE_ID);
                }
                Some(_) => {}
            }
        }
        let metadata = joining.protocols.first().map(|protocol| &protocol.metadata);
        metadata
            .and_then(|metadata| ConsumerProtocolSubscription::decode_versioned(metadata).ok())
            .map_or_else(|| refuse(ErrorCode::UNKNOWN_SERVER_ERROR), Ok)
    }

    /// A member joins with the classic protocol. [`Self::check_join`] has let it through.
    pub(in crate::group) fn join(
        &mut self,
        cx: &mut Context<'_>,
        joining: Joining,
        subscription: &ConsumerProtocolSubscription,
    ) -> Joined {
        let mut records = Vec::new();
        let member_id = if joining.member_id.is_empty() {
            cx.member_ids.next_uuid()
        } else {
            joining.member_id.clone()
        };
        let instance_id = joining.instance_id.as_ref();
        let holder = instance_id
            .and_then(|id| self.static_members.get(id))
            .cloned();
        let downgrades = holder.is_some_and(|holder| self.may_downgrade_with(cx.config, &holder));
        let replaced = if joining.member_id.is_empty() {
            self.replace_static(cx, &member_id, instance_id, &mut records)
        } else {
            None
        };
        let former = self
            .members
            .get(&member_id)
            .map(|member| member.metadata.clone());
        let change = classic_change(&member_id, former, &joining, subscription, replaced);
        let has_changed = self.update_member(cx, change, &mut records);
        let owned = owned_partitions(cx.view, subscription);
        let rebalance = downgrades && self.group_epoch() > self.assignment_epoch;
        if !downgrades {
            self.maybe_update_target(cx, &mut records);
        }
        if !rebalance {
            self.reconcile(cx, &member_id, has_changed, Some(&owned), &mut records);
        }
        self.renew_session(cx, &member_id, joining.session_timeout_ms);
        self.arm_sync_timer(cx, &member_id);
        let member = self
            .members
            .get(&member_id)
            .expect("it has just been put in");
        let answer = JoinGroupResponse {
            member_id,
            generation_id: member.epoch,
            protocol_type: Some(Str::from_static(CONSUMER)),
            protocol_name: member
                .classic_protocols()
                .first()
                .map(|first| first.name.clone()),
            ..Default::default()
        };
        if downgrades {
            return Joined::Downgrade {
                answer,
                records,
                rebalance,
            };
        }
        self.append(cx, records);
        self.note_progress(cx);
        Joined::Answer(answer)
    }

    /// A member with the classic protocol says that it is alive. It is told to join again when there is something to give up
    /// or to get.
    pub(in crate::group) fn classic_heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), ErrorCode> {
        let instance_id = request.group_instance_id.as_ref();
        let member = self.classic_member(&request.member_id, instance_id)?;
        check_generation(member, request.generation_id)?;
        let must_join = member.epoch < self.group_epoch()
            || member.state == MemberState::UnrevokedPartitions
            || (member.state == MemberState::UnreleasedPartitions
                && !self.waits_for_others(member));
        if let Some(timeout_ms) = member.classic_session_timeout_ms() {
            self.renew_session(cx, &request.member_id, timeout_ms);
        }
        if must_join {
            self.arm_join_timer(cx, &request.member_id);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// A member with the classic protocol asks for what it has.
    pub(in crate::group) fn sync(
        &mut self,
        cx: &mut Context<'_>,
        request: &SyncGroupRequest,
    ) -> Result<SyncGroupResponse, ErrorCode> {
        let instance_id = request.group_instance_id.as_ref();
        let member = self.classic_member(&request.member_id, instance_id)?;
        check_generation(member, request.generation_id)?;
        let first = member.classic_protocols().first();
        let differs = |theirs: &Option<Str>, ours: Option<&str>| {
            theirs
                .as_ref()
                .is_some_and(|theirs| Some(&**theirs) != ours)
        };
        if differs(&request.protocol_type, Some(CONSUMER))
            || differs(&request.protocol_name, first.map(|first| &*first.name))
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        // One that is giving up partitions has joined already, and is told later to join once more.
        if self.group_epoch() > member.epoch && member.state != MemberState::UnrevokedPartitions {
            self.arm_join_timer(cx, &request.member_id);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let assigned = member.assigned.iter();
        let assigned: Partitions = assigned
            .map(|(id, partitions)| (*id, partitions.keys().copied().collect()))
            .collect();
        let assignment = classic_assignment(cx.view, &assigned, member.classic_protocols());
        let timeout_ms = member.classic_session_timeout_ms();
        self.disarm_sync_timer(cx, &request.member_id);
        if let Some(timeout_ms) = timeout_ms {
            self.renew_session(cx, &request.member_id, timeout_ms);
        }
        Ok(SyncGroupResponse {
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment,
            ..Default::default()
        })
    }

    /// The member that a LeaveGroup removes; an administrator names static members without their id.
    pub(in crate::group) fn classic_leaver(
        &self,
        member_id: &Str,
        instance_id: Option<&Str>,
    ) -> Result<Str, ErrorCode> {
        if member_id.is_empty()
            && let Some(holder) = instance_id.and_then(|id| self.static_members.get(id))
        {
            return self
                .classic_member(holder, None)
                .map(|member| member.member_id.clone());
        }
        self.classic_member(member_id, instance_id)
            .map(|member| member.member_id.clone())
    }

    fn classic_member(
        &self,
        member_id: &Str,
        instance_id: Option<&Str>,
    ) -> Result<&Member, ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(holder) if holder != member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        match self.members.get(member_id) {
            Some(member) if member.is_classic() => Ok(member),
            _ => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// Whether the sender of a commit may speak for the group. `Ok` says for each partition whether it may.
    pub(in crate::group) fn validate_commit(
        &self,
        version: i16,
        member_id: &Str,
        epoch: i32,
    ) -> Result<CommitFence<'_>, ErrorCode> {
        /// From this version of OffsetCommit on there are member epochs.
        const MEMBER_EPOCH_FROM: i16 = 9;
        if epoch < 0 && self.members.is_empty() {
            return Ok(CommitFence::default());
        }
        let member = self
            .members
            .get(member_id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if !member.is_classic() && version < MEMBER_EPOCH_FROM {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        if epoch == member.epoch {
            Ok(CommitFence::default())
        } else if epoch > member.epoch {
            Err(stale(member))
        } else {
            Ok(CommitFence {
                member: Some((member, epoch)),
            })
        }
    }

    /// Whether the sender of an OffsetFetch may see the offsets.
    pub(in crate::group) fn validate_fetch(
        &self,
        member_id: Option<&Str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        let Some(member_id) = member_id else {
            return if epoch < 0 {
                Ok(())
            } else {
                Err(ErrorCode::UNKNOWN_MEMBER_ID)
            };
        };
        let member = self
            .members
            .get(member_id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.epoch == epoch {
            Ok(())
        } else {
            Err(stale(member))
        }
    }
}

/// Which partitions a member may commit that is not in its newest epoch: those that it has had since (KIP-1251).
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::group) struct CommitFence<'a> {
    member: Option<(&'a Member, i32)>,
}

impl CommitFence<'_> {
    /// Whether the offset of a partition may be stored.
    pub(in crate::group) fn check(
        &self,
        view: &dyn ClusterView,
        topic: &str,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        let Some((member, epoch)) = self.member else {
            return Ok(());
        };
        let topic = view.topic(topic);
        let assigned = topic.and_then(|topic| member.assignment_epoch(topic.id, partition));
        match assigned {
            Some(assigned) if assigned <= epoch => Ok(()),
            _ => Err(stale(member)),
        }
    }
}

fn stale(member: &Member) -> ErrorCode {
    if member.is_classic() {
        ErrorCode::ILLEGAL_GENERATION
    } else {
        ErrorCode::STALE_MEMBER_EPOCH
    }
}

fn check_generation(member: &Member, generation_id: i32) -> Result<(), ErrorCode> {
    if member.epoch == generation_id {
        Ok(())
    } else {
        Err(ErrorCode::ILLEGAL_GENERATION)
    }
}

fn classic_change(
    member_id: &Str,
    former: Option<ConsumerGroupMemberMetadataValue>,
    joining: &Joining,
    subscription: &ConsumerProtocolSubscription,
    replaced: Option<Str>,
) -> Change {
    let mut metadata = former.clone().unwrap_or_else(nobody);
    if joining.instance_id.is_some() {
        metadata.instance_id = joining.instance_id.clone();
    }
    if let Some(rack_id) = subscription
        .rack_id
        .as_ref()
        .filter(|rack| !rack.is_empty())
    {
        metadata.rack_id = Some(rack_id.detach());
    }
    metadata.rebalance_timeout_ms = joining.rebalance_timeout_ms;
    metadata.subscribed_topic_names = sorted(&subscription.topics);
    metadata.subscribed_topic_regex = Some(Str::EMPTY);
    metadata.client_id = joining.client_id.clone();
    metadata.client_host = joining.client_host.clone();
    let protocols = joining.protocols.iter().map(|protocol| ClassicProtocol {
        name: protocol.name.clone(),
        metadata: protocol.metadata.clone(),
    });
    metadata.classic_member_metadata = Some(ClassicMemberMetadata {
        session_timeout_ms: joining.session_timeout_ms,
        supported_protocols: protocols.collect(),
    });
    Change {
        member_id: member_id.clone(),
        former,
        metadata,
        replaced,
        reason: joining.reason.clone(),
        extra_causes: Vec::new(),
    }
}

/// What a member says that it owns, by topic id.
fn owned_partitions(
    view: &dyn ClusterView,
    subscription: &ConsumerProtocolSubscription,
) -> Vec<TopicPartitions> {
    let owned = subscription.owned_partitions.iter();
    owned
        .filter_map(|owned| {
            Some(TopicPartitions {
                topic_id: view.topic(&owned.topic)?.id,
                partitions: owned.partitions.clone(),
            })
        })
        .collect()
}

/// An assignment in the words of the classic protocol, in the version in which the member speaks.
pub(in crate::group) fn classic_assignment(
    view: &dyn ClusterView,
    assigned: &Partitions,
    protocols: &[ClassicProtocol],
) -> Bytes {
    let version = protocols
        .first()
        .map_or(0, |protocol| match protocol.metadata[..] {
            [high, low, ..] => i16::from_be_bytes([high, low]).clamp(0, 3),
            _ => 0,
        });
    let topics = assigned.iter().filter_map(|(id, partitions)| {
        Some(TopicPartition {
            topic: view.topic_by_id(*id)?.name,
            partitions: partitions.iter().copied().collect(),
        })
    });
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: topics.collect(),
        user_data: None,
    };
    assignment
        .encode_versioned(version)
        .expect("every assignment fits every version")
}
