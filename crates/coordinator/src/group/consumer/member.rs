use std::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::records::group::consumer::{
    ClassicProtocol, ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue,
    ConsumerGroupTargetAssignmentMemberValue, TopicPartition, TopicPartitions,
};
use tidelog_types::{GroupId, PartitionIndex, Str, TopicId};

use crate::assignor::Partitions;
use crate::group::GroupRecord;
use crate::group::history::Who;
use crate::group::member::Session;
use crate::group::timers::TimerId;

/// Partitions that a member owns, each with the epoch in which it was given to it (KIP-1251).
pub(in crate::group) type Assigned = BTreeMap<TopicId, BTreeMap<PartitionIndex, i32>>;

/// How far a member is on its way to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group) enum MemberState {
    /// It has what it was to have in its epoch.
    Stable,
    /// It has to give up partitions first.
    UnrevokedPartitions,
    /// It waits for partitions that others have not given up.
    UnreleasedPartitions,
    /// A later version has written something else.
    Unknown(i8),
}

impl MemberState {
    pub(super) const fn from_value(value: i8) -> Self {
        match value {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            other => Self::Unknown(other),
        }
    }

    const fn value(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown(value) => value,
        }
    }
}

/// A member of a consumer group, whichever protocol it speaks.
#[derive(Debug)]
pub(in crate::group) struct Member {
    pub(in crate::group) member_id: Str,

    // Durable.
    /// What it says of itself.
    pub(in crate::group) metadata: ConsumerGroupMemberMetadataValue,
    pub(in crate::group) epoch: i32,
    /// The epoch before: an answer may have been lost.
    pub(in crate::group) previous_epoch: i32,
    pub(in crate::group) state: MemberState,
    pub(in crate::group) assigned: Assigned,
    pub(in crate::group) pending_revocation: Assigned,

    // In memory.
    pub(in crate::group) session: Option<Session>,
    /// Ends the time in which the member has to give up partitions; with the epoch in which it began.
    pub(in crate::group) rebalance_timer: Option<(TimerId, i32)>,
    /// Ends the time in which a member with the classic protocol has to join again.
    pub(in crate::group) join_timer: Option<TimerId>,
    /// Ends the time in which a member with the classic protocol has to ask for its assignment.
    pub(in crate::group) sync_timer: Option<TimerId>,
}

impl Member {
    /// A member that has said nothing of itself yet.
    pub(in crate::group) fn new(member_id: Str) -> Self {
        Self {
            member_id,
            metadata: ConsumerGroupMemberMetadataValue {
                subscribed_topic_regex: Some(Str::EMPTY),
                rebalance_timeout_ms: -1,
                classic_member_metadata: None,
                ..Default::default()
            },
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Assigned::new(),
            pending_revocation: Assigned::new(),
            session: None,
            rebalance_timer: None,
            join_timer: None,
            sync_timer: None,
        }
    }

    pub(in crate::group) fn instance_id(&self) -> Option<&Str> {
        self.metadata.instance_id.as_ref()
    }

    /// The expression by which it subscribes.
    pub(super) fn regex(&self) -> Option<&Str> {
        let regex = self.metadata.subscribed_topic_regex.as_ref();
        regex.filter(|regex| !regex.is_empty())
    }

    /// Whether it speaks the classic protocol.
    pub(in crate::group) const fn is_classic(&self) -> bool {
        self.metadata.classic_member_metadata.is_some()
    }

    /// The assignors of the classic protocol that it knows, with what it says of itself to each.
    pub(in crate::group) fn classic_protocols(&self) -> &[ClassicProtocol] {
        match &self.metadata.classic_member_metadata {
            Some(classic) => &classic.supported_protocols,
            None => &[],
        }
    }

    /// The session that it has asked for, if it speaks the classic protocol.
    pub(super) fn classic_session_timeout_ms(&self) -> Option<i32> {
        let classic = self.metadata.classic_member_metadata.as_ref()?;
        Some(classic.session_timeout_ms)
    }

    pub(super) fn is_reconciled_to(&self, assignment_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == assignment_epoch
    }

    /// In which epoch the member was given a partition, also one that it has to give up.
    pub(super) fn assignment_epoch(&self, id: TopicId, partition: PartitionIndex) -> Option<i32> {
        let find = |assigned: &Assigned| assigned.get(&id)?.get(&partition).copied();
        find(&self.assigned).or_else(|| find(&self.pending_revocation))
    }

    pub(in crate::group) fn who(&self) -> Who {
        Who {
            member_id: self.member_id.clone(),
            instance_id: self.metadata.instance_id.clone(),
            client_id: self.metadata.client_id.clone(),
            client_host: self.metadata.client_host.clone(),
        }
    }

    pub(in crate::group) fn metadata_record(&self, group_id: &GroupId) -> GroupRecord {
        GroupRecord::ConsumerGroupMember {
            group_id: group_id.clone(),
            member_id: self.member_id.clone(),
            value: Some(self.metadata.clone()),
        }
    }

    pub(in crate::group) fn current_record(&self, group_id: &GroupId) -> GroupRecord {
        GroupRecord::ConsumerGroupCurrentMember {
            group_id: group_id.clone(),
            member_id: self.member_id.clone(),
            value: Some(ConsumerGroupCurrentMemberAssignmentValue {
                member_epoch: self.epoch,
                previous_member_epoch: self.previous_epoch,
                state: self.state.value(),
                assigned_partitions: to_topic_partitions(&self.assigned),
                partitions_pending_revocation: to_topic_partitions(&self.pending_revocation),
            }),
        }
    }
}

fn to_topic_partitions(assigned: &Assigned) -> Vec<TopicPartitions> {
    let topics = assigned.iter();
    topics
        .map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.keys().copied().collect(),
            assignment_epochs: Some(partitions.values().copied().collect()),
        })
        .collect()
}

/// Partitions out of a record. Kafka before 4.3 wrote no epochs: then the member's counts.
pub(super) fn from_topic_partitions(topics: &[TopicPartitions], member_epoch: i32) -> Assigned {
    let mut assigned = Assigned::new();
    for topic in topics {
        let epochs = topic.assignment_epochs.as_deref().unwrap_or_default();
        let into = assigned.entry(topic.topic_id).or_default();
        for (index, partition) in topic.partitions.iter().enumerate() {
            into.insert(
                *partition,
                epochs.get(index).copied().unwrap_or(member_epoch),
            );
        }
    }
    assigned.retain(|_, partitions| !partitions.is_empty());
    assigned
}

pub(in crate::group) fn target_value(
    target: &Partitions,
) -> ConsumerGroupTargetAssignmentMemberValue {
    let topics = target.iter().map(|(topic_id, partitions)| TopicPartition {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
    });
    ConsumerGroupTargetAssignmentMemberValue {
        topic_partitions: topics.collect(),
    }
}

pub(super) fn from_target_value(value: &ConsumerGroupTargetAssignmentMemberValue) -> Partitions {
    let topics = value.topic_partitions.iter();
    topics
        .filter(|topic| !topic.partitions.is_empty())
        .map(|topic| {
            let partitions: BTreeSet<_> = topic.partitions.iter().copied().collect();
            (topic.topic_id, partitions)
        })
        .collect()
}
