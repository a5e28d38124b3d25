use std::collections::BTreeMap;

use bytes::Bytes;
use tidelog_protocol::records::group::consumer::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataValue,
};
use tidelog_types::{Str, TopicName};

use super::member::{from_target_value, from_topic_partitions};
use super::{Assigned, ConsumerGroup, LEAVE_EPOCH, Member, MemberState, ResolvedRegex};
use crate::group::{GroupRecord, release_if_empty};

impl ConsumerGroup {
    /// The only place that changes what survives: used alike when records are appended and when they are loaded.
    pub(in crate::group) fn apply(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::ConsumerGroupMetadata { value, .. } => {
                self.epoch = value.as_ref().map(|value| value.epoch);
                self.metadata_hash = value.as_ref().map_or(0, |value| value.metadata_hash);
            }
            GroupRecord::ConsumerGroupPartitionMetadata { value, .. } => {
                self.has_partition_metadata = value.is_some();
            }
            GroupRecord::ConsumerGroupMember {
                member_id,
                value: Some(value),
                ..
            } => {
                self.apply_metadata(member_id, value);
            }
            GroupRecord::ConsumerGroupMember {
                member_id,
                value: None,
                ..
            } => {
                self.forget_member(member_id);
            }
            GroupRecord::ConsumerGroupTarget { value, .. } => {
                let value = value.clone().unwrap_or_default();
                self.assignment_epoch = value.assignment_epoch;
                self.assignment_timestamp = value.assignment_timestamp;
                self.count_reconciled();
            }
            GroupRecord::ConsumerGroupTargetMember {
                member_id, value, ..
            } => match value {
                Some(value) => {
                    self.targets
                        .insert(member_id.detach(), from_target_value(value));
                }
                None => {
                    self.targets.remove(member_id);
                }
            },
            GroupRecord::ConsumerGroupCurrentMember {
                member_id,
                value: Some(value),
                ..
            } => {
                self.apply_current(member_id, value);
            }
            GroupRecord::ConsumerGroupCurrentMember {
                member_id,
                value: None,
                ..
            } => {
                if self.members.contains_key(member_id) {
                    let gone = ConsumerGroupCurrentMemberAssignmentValue {
                        member_epoch: LEAVE_EPOCH,
                        previous_member_epoch: LEAVE_EPOCH,
                        ..Default::default()
                    };
                    self.apply_current(member_id, &gone);
                }
            }
            GroupRecord::ConsumerGroupRegex { regex, value, .. } => {
                let former = match value {
                    Some(value) => {
                        let resolved = ResolvedRegex::from_record(value);
                        for topic in &resolved.topics {
                            count_up(&mut self.topics, topic);
                        }
                        self.regexes.insert(regex.detach(), resolved)
                    }
                    None => self.regexes.remove(regex),
                };
                for topic in former.iter().flat_map(|former| &former.topics) {
                    count_down(&mut self.topics, topic);
                }
            }
            GroupRecord::OffsetCommit { .. } | GroupRecord::GroupMetadata { .. } => {}
        }
    }

    fn apply_metadata(&mut self, member_id: &Str, value: &ConsumerGroupMemberMetadataValue) {
        let mut member = self.take_member(member_id);
        member.metadata = detach_metadata(value);
        self.put_member(member);
    }

    fn apply_current(
        &mut self,
        member_id: &Str,
        value: &ConsumerGroupCurrentMemberAssignmentValue,
    ) {
        let mut member = self.take_member(member_id);
        member.epoch = value.member_epoch;
        member.previous_epoch = value.previous_member_epoch;
        member.state = MemberState::from_value(value.state);
        member.assigned = from_topic_partitions(&value.assigned_partitions, value.member_epoch);
        member.pending_revocation =
            from_topic_partitions(&value.partitions_pending_revocation, value.member_epoch);
        self.put_member(member);
    }

    /// Takes a member out of all books, or makes a new one.
    fn take_member(&mut self, member_id: &Str) -> Box<Member> {
        let Some(member) = self.members.remove(member_id) else {
            return Box::new(Member::new(member_id.detach()));
        };
        for assigned in [&member.assigned, &member.pending_revocation] {
            for (id, partitions) in assigned {
                let Some(owners) = self.owners.get_mut(id) else {
                    continue;
                };
                for partition in partitions.keys() {
                    if owners.get(partition) == Some(member_id) {
                        owners.remove(partition);
                    }
                }
                if owners.is_empty() {
                    self.owners.remove(id);
                }
            }
        }
        for topic in &member.metadata.subscribed_topic_names {
            count_down(&mut self.topics, topic);
        }
        if let Some(regex) = member.regex() {
            count_down(&mut self.regex_members, regex);
        }
        if let Some(assignor) = &member.metadata.server_assignor {
            count_down(&mut self.assignors, assignor);
        }
        for protocol in member.classic_protocols() {
            count_down(&mut self.classic_protocols, &protocol.name);
        }
        self.classic_members -= usize::from(member.is_classic());
        self.reconciled -= usize::from(member.is_reconciled_to(self.assignment_epoch));
        if let Some(instance_id) = member.instance_id()
            && self.static_members.get(instance_id) == Some(&member.member_id)
        {
            self.static_members.remove(instance_id);
        }
        member
    }

    fn put_member(&mut self, member: Box<Member>) {
        self.own(&member.member_id, &member.assigned);
        self.own(&member.member_id, &member.pending_revocation);
        for topic in &member.metadata.subscribed_topic_names {
            count_up(&mut self.topics, topic);
        }
        if let Some(regex) = member.regex() {
            count_up(&mut self.regex_members, regex);
        }
        if let Some(assignor) = &member.metadata.server_assignor {
            count_up(&mut self.assignors, assignor);
        }
        for protocol in member.classic_protocols() {
            count_up(&mut self.classic_protocols, &protocol.name);
        }
        self.classic_members += usize::from(member.is_classic());
        self.reconciled += usize::from(member.is_reconciled_to(self.assignment_epoch));
        if let Some(instance_id) = member.instance_id() {
            self.static_members
                .insert(instance_id.clone(), member.member_id.clone());
        }
        self.members.insert(member.member_id.clone(), member);
    }

    fn own(&mut self, member_id: &Str, assigned: &Assigned) {
        for (id, partitions) in assigned {
            let owners = self.owners.entry(*id).or_default();
            for partition in partitions.keys() {
                owners.insert(*partition, member_id.clone());
            }
        }
    }

    /// A member is gone; its timers were disarmed before.
    fn forget_member(&mut self, member_id: &Str) {
        if self.members.contains_key(member_id) {
            self.take_member(member_id);
        }
        if self.members.is_empty() {
            self.release();
        }
    }

    fn release(&mut self) {
        release_if_empty(&mut self.members);
        release_if_empty(&mut self.targets);
        release_if_empty(&mut self.regexes);
        release_if_empty(&mut self.static_members);
        release_if_empty(&mut self.owners);
        release_if_empty(&mut self.topics);
        release_if_empty(&mut self.regex_members);
        release_if_empty(&mut self.assignors);
        release_if_empty(&mut self.classic_protocols);
    }

    fn count_reconciled(&mut self) {
        let members = self.members.values();
        self.reconciled = members
            .filter(|member| member.is_reconciled_to(self.assignment_epoch))
            .count();
    }
}

fn count_up<K: Ord + Clone + Detach>(counts: &mut BTreeMap<K, usize>, key: &K) {
    match counts.get_mut(key) {
        Some(count) => *count += 1,
        None => {
            counts.insert(key.detached(), 1);
        }
    }
}

fn count_down<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A copy that keeps no buffer alive.
trait Detach {
    fn detached(&self) -> Self;
}

impl Detach for Str {
    fn detached(&self) -> Self {
        self.detach()
    }
}

impl Detach for TopicName {
    fn detached(&self) -> Self {
        self.detach()
    }
}

/// A copy that keeps no buffer of a request or of the log alive.
pub(super) fn detach_metadata(
    value: &ConsumerGroupMemberMetadataValue,
) -> ConsumerGroupMemberMetadataValue {
    let text = |text: &Option<Str>| text.as_ref().map(Str::detach);
    let classic = value.classic_member_metadata.as_ref();
    ConsumerGroupMemberMetadataValue {
        instance_id: text(&value.instance_id),
        rack_id: text(&value.rack_id),
        client_id: value.client_id.detach(),
        client_host: value.client_host.detach(),
        subscribed_topic_names: value
            .subscribed_topic_names
            .iter()
            .map(TopicName::detach)
            .collect(),
        subscribed_topic_regex: text(&value.subscribed_topic_regex),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        server_assignor: text(&value.server_assignor),
        classic_member_metadata: classic.map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic
                .supported_protocols
                .iter()
                .map(|protocol| ClassicProtocol {
                    name: protocol.name.detach(),
                    metadata: Bytes::copy_from_slice(&protocol.metadata),
                })
                .collect(),
        }),
    }
}
