use std::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::messages::consumer_group_describe as describe;
use tidelog_types::{ErrorCode, GroupId, PartitionIndex, Str, TopicId};

use super::{ConsumerGroup, Member};
use crate::group::ClusterView;
use crate::group::context::Context;

/// What [`describe::Member::member_type`] says.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

impl ConsumerGroup {
    /// The group with its members.
    pub(in crate::group) fn describe(&self, cx: &Context<'_>) -> describe::DescribedGroup {
        let members = self.members.values();
        describe::DescribedGroup {
            group_id: self.id.clone(),
            group_state: Str::from_static(self.state_name()),
            group_epoch: self.group_epoch(),
            assignment_epoch: self.assignment_epoch,
            assignor_name: Str::from_static(self.assignor(cx).name()),
            members: members
                .map(|member| self.describe_member(cx.view, member))
                .collect(),
            ..Default::default()
        }
    }

    fn describe_member(&self, view: &dyn ClusterView, member: &Member) -> describe::Member {
        let mut owned: BTreeMap<TopicId, BTreeSet<PartitionIndex>> = BTreeMap::new();
        for assigned in [&member.assigned, &member.pending_revocation] {
            for (id, partitions) in assigned {
                owned.entry(*id).or_default().extend(partitions.keys());
            }
        }
        let target = self.targets.get(&member.member_id);
        describe::Member {
            member_id: member.member_id.clone(),
            instance_id: member.metadata.instance_id.clone(),
            rack_id: member.metadata.rack_id.clone(),
            member_epoch: member.epoch,
            client_id: member.metadata.client_id.clone(),
            client_host: member.metadata.client_host.clone(),
            subscribed_topic_names: member.metadata.subscribed_topic_names.clone(),
            subscribed_topic_regex: member.metadata.subscribed_topic_regex.clone(),
            assignment: named(view, owned.iter()),
            target_assignment: named(view, target.into_iter().flatten()),
            member_type: if member.is_classic() {
                CLASSIC
            } else {
                CONSUMER
            },
        }
    }
}

/// Partitions with the names of their topics; topics that are gone are left out.
fn named<'a>(
    view: &dyn ClusterView,
    topics: impl Iterator<Item = (&'a TopicId, &'a BTreeSet<PartitionIndex>)>,
) -> describe::Assignment {
    let topics = topics.filter_map(|(id, partitions)| {
        Some(describe::TopicPartitions {
            topic_id: *id,
            topic_name: view.topic_by_id(*id)?.name,
            partitions: partitions.iter().copied().collect(),
        })
    });
    describe::Assignment {
        topic_partitions: topics.collect(),
    }
}

/// The answer for a group that does not exist, or speaks another protocol.
pub(in crate::group) fn describe_nobody(
    group_id: &GroupId,
    message: String,
) -> describe::DescribedGroup {
    describe::DescribedGroup {
        error_code: ErrorCode::GROUP_ID_NOT_FOUND,
        error_message: Some(message.into()),
        group_id: group_id.clone(),
        ..Default::default()
    }
}
