//! Consumer groups (KIP-848): the broker divides the partitions, and moves each member to its share step by step.
//!
//! ```text
//! group epoch       rises when members, subscriptions or topics change
//! assignment epoch  the group epoch for which it was last worked out who is to have what: the target
//! member epoch      how far a member has come: it reaches the assignment epoch when it has given up what is not its own
//! ```
//!
//! Everything durable changes in [`ConsumerGroup::apply`] alone, by the records of Kafka. A request makes its records one by
//! one, each on top of those before it, and appends them together.

mod apply;
mod classic_members;
mod describe;
mod heartbeat;
mod invariants;
mod leave;
mod member;
mod metadata;
mod reconcile;
mod regexes;
mod request;
mod target;
mod timers;

use std::collections::BTreeMap;

use tidelog_protocol::records::group::consumer::{
    ConsumerGroupMetadataValue, ConsumerGroupTargetAssignmentMetadataValue,
};
use tidelog_types::{ErrorCode, GroupId, PartitionIndex, Str, Timestamp, TopicId, TopicName};

pub(super) use self::classic_members::{CommitFence, Joined, classic_assignment};
pub(super) use self::describe::describe_nobody;
pub(super) use self::member::{Assigned, Member, MemberState, target_value};
pub(super) use self::metadata::TopicHashes;
pub(super) use self::regexes::ResolvedRegex;
pub(super) use self::request::refuse_heartbeat;

use super::appends::batches;
use super::context::Context;
use super::history::{Cause, History, Outcome, Protocol};
use super::{Effect, GroupRecord};
use crate::assignor::Partitions;

/// The epoch with which a member leaves.
pub(super) const LEAVE_EPOCH: i32 = -1;
/// The epoch with which a static member leaves for a while, and in which it is until it is back.
pub(super) const LEAVE_STATIC_EPOCH: i32 = -2;

/// Why a request is refused: nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error_code: ErrorCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(error_code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            error_code,
            message,
        }
    }
}

/// A group whose partitions the broker divides.
#[derive(Debug)]
pub(super) struct ConsumerGroup {
    pub(super) id: GroupId,

    // Durable: changed by `apply` alone.
    /// `None` before the first one was written.
    pub(super) epoch: Option<i32>,
    /// A hash of the topics to which the group subscribes, at the group epoch.
    pub(super) metadata_hash: i64,
    pub(super) assignment_epoch: i32,
    /// When the target was worked out; 0 if that is not known.
    pub(super) assignment_timestamp: Timestamp,
    /// Boxed, since a map sets aside room for several: most groups have few members, or none.
    pub(super) members: BTreeMap<Str, Box<Member>>,
    /// What each member is to have; a member that is to have nothing may be missing.
    pub(super) targets: BTreeMap<Str, Partitions>,
    pub(super) regexes: BTreeMap<Str, ResolvedRegex>,
    /// Kafka 4.0 wrote the partitions of the topics down; the record goes with the next epoch.
    pub(super) has_partition_metadata: bool,

    // Follows from it.
    /// Member ids by `group.instance.id`.
    pub(super) static_members: BTreeMap<Str, Str>,
    /// Who owns a partition, or has yet to give it up.
    pub(super) owners: BTreeMap<TopicId, BTreeMap<PartitionIndex, Str>>,
    /// How many members and expressions want each topic.
    pub(super) topics: BTreeMap<TopicName, usize>,
    /// How many members subscribe by each expression.
    pub(super) regex_members: BTreeMap<Str, usize>,
    /// How many members ask for each assignor.
    pub(super) assignors: BTreeMap<Str, usize>,
    /// How many members speak the classic protocol, and how many of them know each of its assignors.
    pub(super) classic_members: usize,
    pub(super) classic_protocols: BTreeMap<Str, usize>,
    /// How many members have reached the target.
    pub(super) reconciled: usize,

    // In memory.
    /// Topics have changed, and nobody has looked yet whether that matters.
    pub(super) needs_refresh: bool,
    /// What has changed in the topics since the last epoch, for the history.
    pub(super) topic_causes: Vec<Cause>,
    /// Somebody is finding out what the expressions match.
    pub(super) is_resolving: bool,
    /// The newest append with a record of this group.
    pub(super) last_append: u64,
    pub(super) history: History,
}

impl ConsumerGroup {
    pub(super) fn new(id: GroupId) -> Self {
        Self {
            id,
            epoch: None,
            metadata_hash: 0,
            assignment_epoch: 0,
            assignment_timestamp: Timestamp::from_millis(0),
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            regexes: BTreeMap::new(),
            has_partition_metadata: false,
            static_members: BTreeMap::new(),
            owners: BTreeMap::new(),
            topics: BTreeMap::new(),
            regex_members: BTreeMap::new(),
            assignors: BTreeMap::new(),
            classic_members: 0,
            classic_protocols: BTreeMap::new(),
            reconciled: 0,
            needs_refresh: true,
            topic_causes: Vec::new(),
            is_resolving: false,
            last_append: 0,
            history: History::default(),
        }
    }

    /// The group epoch. It begins with 1, which is not written down.
    pub(super) fn group_epoch(&self) -> i32 {
        self.epoch.unwrap_or(1)
    }

    /// Kafka's name of the state.
    ///
    /// ```text
    ///          a member joins              the target is worked out
    ///   Empty ----------------> Assigning --------------------------> Reconciling
    ///     ^                       ^  ^                                    |
    ///     | nobody is left        |  | the group epoch rises              | everybody has reached the target
    ///     +-----------------------+  +---------------- Stable <-----------+
    /// ```
    pub(super) fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.group_epoch() > self.assignment_epoch {
            "Assigning"
        } else if self.reconciled < self.members.len() {
            "Reconciling"
        } else {
            "Stable"
        }
    }

    pub(super) fn is_stable(&self) -> bool {
        self.state_name() == "Stable"
    }

    /// Whether the group is nothing but a name.
    pub(super) fn is_void(&self) -> bool {
        self.epoch.is_none() && self.members.is_empty() && self.regexes.is_empty()
    }

    /// Whether a member consumes the topic.
    pub(super) fn is_subscribed_to(&self, topic: &TopicName) -> bool {
        self.topics.contains_key(topic)
    }

    /// Makes one more record take effect, to be appended with the others.
    pub(super) fn push(&mut self, records: &mut Vec<GroupRecord>, record: GroupRecord) {
        self.apply(&record);
        records.push(record);
    }

    /// Makes records durable that have taken effect already. What tells of them waits for `last_append`.
    pub(super) fn append(&mut self, cx: &mut Context<'_>, records: Vec<GroupRecord>) {
        for records in batches(records, cx.config.append_bytes_max) {
            let deadline = cx.after(cx.config.offset_commit_timeout_ms);
            let append_id = cx.appends.push(deadline);
            self.last_append = append_id;
            cx.effects.push(Effect::Append { append_id, records });
        }
    }

    /// The group epoch rises, and the reason is noted. The hash of the topics is written down with it.
    pub(super) fn bump_epoch(
        &mut self,
        cx: &mut Context<'_>,
        metadata_hash: i64,
        causes: Vec<Cause>,
        records: &mut Vec<GroupRecord>,
    ) {
        let epoch = self.group_epoch().checked_add(1).unwrap_or(1);
        self.push_epoch(epoch, metadata_hash, records);
        self.needs_refresh = false;
        self.topic_causes.clear();
        self.note(cx, epoch, causes);
    }

    pub(super) fn push_epoch(
        &mut self,
        epoch: i32,
        metadata_hash: i64,
        records: &mut Vec<GroupRecord>,
    ) {
        let record = GroupRecord::ConsumerGroupMetadata {
            group_id: self.id.clone(),
            value: Some(ConsumerGroupMetadataValue {
                epoch,
                metadata_hash,
            }),
        };
        self.push(records, record);
        if self.has_partition_metadata {
            let group_id = self.id.clone();
            let record = GroupRecord::ConsumerGroupPartitionMetadata {
                group_id,
                value: None,
            };
            self.push(records, record);
        }
    }

    pub(super) fn push_assignment_epoch(
        &mut self,
        assignment_epoch: i32,
        assignment_timestamp: Timestamp,
        records: &mut Vec<GroupRecord>,
    ) {
        let record = GroupRecord::ConsumerGroupTarget {
            group_id: self.id.clone(),
            value: Some(ConsumerGroupTargetAssignmentMetadataValue {
                assignment_epoch,
                assignment_timestamp,
            }),
        };
        self.push(records, record);
    }

    /// Notes why the group has come to a new epoch.
    fn note(&mut self, cx: &mut Context<'_>, epoch: i32, causes: Vec<Cause>) {
        let max = cx.config.history_max;
        let mut is_new = false;
        for cause in causes {
            is_new |= self
                .history
                .cause(cx.now, max, Protocol::Consumer, epoch, cause);
        }
        self.history.set_members(self.members.len());
        if is_new {
            cx.report(&self.id, &self.history);
        }
    }

    /// Notes that everybody has reached the target, or that nobody is left.
    pub(super) fn note_progress(&mut self, cx: &mut Context<'_>) {
        let outcome = if self.members.is_empty() {
            Outcome::Empty
        } else if self.is_stable() {
            Outcome::Stable
        } else {
            return;
        };
        let members = self.members.len();
        if self
            .history
            .finish(cx.now, outcome, Some(members))
            .is_some()
        {
            cx.report(&self.id, &self.history);
        }
    }

    /// Tombstones for everything that the group has in the log but its offsets, in Kafka's order.
    pub(super) fn tombstones(&self) -> Vec<GroupRecord> {
        let group_id = || self.id.clone();
        let members = || self.members.keys().cloned();
        let mut records = Vec::new();
        records.extend(
            members().map(|member_id| GroupRecord::ConsumerGroupCurrentMember {
                group_id: group_id(),
                member_id,
                value: None,
            }),
        );
        records.extend(
            members().map(|member_id| GroupRecord::ConsumerGroupTargetMember {
                group_id: group_id(),
                member_id,
                value: None,
            }),
        );
        records.push(GroupRecord::ConsumerGroupTarget {
            group_id: group_id(),
            value: None,
        });
        records.extend(members().map(|member_id| GroupRecord::ConsumerGroupMember {
            group_id: group_id(),
            member_id,
            value: None,
        }));
        records.extend(
            self.regexes
                .keys()
                .map(|regex| GroupRecord::ConsumerGroupRegex {
                    group_id: group_id(),
                    regex: regex.clone(),
                    value: None,
                }),
        );
        if self.has_partition_metadata {
            records.push(GroupRecord::ConsumerGroupPartitionMetadata {
                group_id: group_id(),
                value: None,
            });
        }
        records.push(GroupRecord::ConsumerGroupMetadata {
            group_id: group_id(),
            value: None,
        });
        records
    }

    /// What is durable, as the shortest list of records that restores it.
    pub(super) fn records(&self) -> Vec<GroupRecord> {
        let group_id = || self.id.clone();
        let mut records = Vec::new();
        records.extend(self.members.values().map(|m| m.metadata_record(&self.id)));
        if let Some(epoch) = self.epoch {
            records.push(GroupRecord::ConsumerGroupMetadata {
                group_id: group_id(),
                value: Some(ConsumerGroupMetadataValue {
                    epoch,
                    metadata_hash: self.metadata_hash,
                }),
            });
        }
        records.extend(self.targets.iter().map(|(member_id, target)| {
            GroupRecord::ConsumerGroupTargetMember {
                group_id: group_id(),
                member_id: member_id.clone(),
                value: Some(target_value(target)),
            }
        }));
        records.push(GroupRecord::ConsumerGroupTarget {
            group_id: group_id(),
            value: Some(ConsumerGroupTargetAssignmentMetadataValue {
                assignment_epoch: self.assignment_epoch,
                assignment_timestamp: self.assignment_timestamp,
            }),
        });
        records.extend(self.members.values().map(|m| m.current_record(&self.id)));
        records.extend(self.regexes.iter().map(|(regex, resolved)| {
            GroupRecord::ConsumerGroupRegex {
                group_id: group_id(),
                regex: regex.clone(),
                value: Some(resolved.to_record()),
            }
        }));
        records
    }
}
