//! From the classic protocol to the consumer protocol and back, while the group is at work (KIP-848).
//!
//! ```text
//!            a member with the consumer protocol joins
//!   classic ------------------------------------------> consumer, with members of both kinds
//!           <------------------------------------------
//!            the last member with the consumer protocol leaves
//! ```

use std::collections::BTreeSet;

use bytes::Bytes;
use tidelog_protocol::messages::join_group::JoinGroupResponse;
use tidelog_protocol::records::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use tidelog_protocol::records::group::consumer::{ClassicMemberMetadata, ClassicProtocol};
use tidelog_types::{ErrorCode, Str, Timestamp};

use super::appends::batches;
use super::classic::{CONSUMER, Classic};
use super::consumer::{
    Assigned, ConsumerGroup, Joined, Member as ConsumerMember, Refusal, classic_assignment,
    target_value,
};
use super::context::Context;
use super::history::{Cause, Outcome};
use super::member::{Joining, Member, Protocol, Session};
use super::state::State;
use super::{ClusterView, Config, Effect, GroupRecord};
use crate::assignor::Partitions;

/// `group.consumer.migration.policy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MigrationPolicy {
    /// A group with members speaks one protocol.
    Disabled,
    /// Classic groups may become consumer groups.
    Upgrade,
    /// Consumer groups may become classic groups.
    Downgrade,
    /// Both.
    #[default]
    Bidirectional,
}

impl MigrationPolicy {
    /// The policy of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "disabled" => Some(Self::Disabled),
            "upgrade" => Some(Self::Upgrade),
            "downgrade" => Some(Self::Downgrade),
            "bidirectional" => Some(Self::Bidirectional),
            _ => None,
        }
    }

    const fn allows_upgrade(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    pub(super) const fn allows_downgrade(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }

    /// Whether a member with the classic protocol may join a consumer group.
    pub(super) const fn allows_mixed_groups(self) -> bool {
        !matches!(self, Self::Disabled)
    }
}

/// What a classic member becomes.
struct Upgraded {
    subscription: ConsumerProtocolSubscription,
    assigned: Partitions,
}

/// Makes a consumer group out of a classic one whose members stay, with the records that say so; they have yet to be
/// appended. Nothing changes if it is refused.
pub(super) fn upgrade(
    cx: &mut Context<'_>,
    classic: &mut Classic,
) -> Result<(ConsumerGroup, Vec<GroupRecord>), Refusal> {
    let members = check_upgrade(cx.config, cx.view, classic)?;
    classic.refuse_parked(cx, ErrorCode::REBALANCE_IN_PROGRESS);
    classic.disarm_all(cx);
    classic
        .history
        .finish(cx.now, Outcome::Superseded, Some(classic.members.len()));
    let mut group = ConsumerGroup::new(classic.id.clone());
    group.history = std::mem::take(&mut classic.history);
    let epoch = classic.generation_id;
    let mut records = classic.tombstone().into_iter().collect::<Vec<_>>();
    for (member, upgraded) in classic.members.values().zip(members) {
        let member = upgrade_member(member, upgraded, epoch);
        group.push(&mut records, member.metadata_record(&classic.id));
        let target = member.assigned.iter();
        let target: Partitions = target
            .map(|(id, partitions)| (*id, partitions.keys().copied().collect()))
            .collect();
        let record = GroupRecord::ConsumerGroupTargetMember {
            group_id: classic.id.clone(),
            member_id: member.member_id.clone(),
            value: Some(target_value(&target)),
        };
        group.push(&mut records, record);
        group.push(&mut records, member.current_record(&classic.id));
    }
    let metadata_hash = group.compute_metadata_hash(cx);
    group.push_epoch(epoch, metadata_hash, &mut records);
    group.push_assignment_epoch(epoch, Timestamp::from_millis(0), &mut records);
    group.restore(cx);
    Ok((group, records))
}

/// Whether a classic group with members may become a consumer group, and what its members become.
fn check_upgrade(
    config: &Config,
    view: &dyn ClusterView,
    classic: &Classic,
) -> Result<Vec<Upgraded>, Refusal> {
    let refuse = |why: &str| {
        let message = format!("the classic group {} cannot be upgraded: {why}", classic.id);
        Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message)
    };
    if !config.consumer_group_migration_policy.allows_upgrade() {
        return Err(refuse("group.consumer.migration.policy does not allow it"));
    }
    if !classic.uses_consumer_protocol() {
        return Err(refuse("its members are no consumers"));
    }
    if classic.members.len() > config.consumer_group_max_size {
        return Err(refuse("it has too many members"));
    }
    let mut taken = BTreeSet::new();
    let mut upgraded = Vec::with_capacity(classic.members.len());
    for member in classic.members.values() {
        let name = classic.protocol_name.as_ref();
        let chosen = name
            .map(|name| member.metadata(name))
            .filter(|chosen| !chosen.is_empty());
        let metadata = chosen.or_else(|| member.protocols.first().map(|p| p.metadata.clone()));
        let subscription = metadata
            .and_then(|metadata| ConsumerProtocolSubscription::decode_versioned(&metadata).ok())
            .ok_or_else(|| refuse("what a member subscribes to cannot be read"))?;
        let mut assigned = Partitions::new();
        if !member.assignment.is_empty() {
            let assignment = ConsumerProtocolAssignment::decode_versioned(&member.assignment)
                .map_err(|_| refuse("the assignment of a member cannot be read"))?;
            if assignment.user_data.is_some_and(|data| !data.is_empty()) {
                return Err(refuse(
                    "its assignor keeps data of its own, which would be lost",
                ));
            }
            for topic in &assignment.assigned_partitions {
                let Some(known) = view.topic(&topic.topic) else {
                    continue;
                };
                let into = assigned.entry(known.id).or_default();
                // A leader may have given a partition away twice; here it has one owner.
                into.extend(
                    topic
                        .partitions
                        .iter()
                        .filter(|p| taken.insert((known.id, **p))),
                );
            }
            assigned.retain(|_, partitions| !partitions.is_empty());
        }
        upgraded.push(Upgraded {
            subscription,
            assigned,
        });
    }
    Ok(upgraded)
}

fn upgrade_member(member: &Member, upgraded: Upgraded, epoch: i32) -> ConsumerMember {
    let mut new = ConsumerMember::new(member.member_id.clone());
    new.epoch = epoch;
    new.previous_epoch = epoch;
    let assigned = upgraded.assigned.into_iter();
    new.assigned = assigned
        .map(|(id, partitions)| (id, partitions.into_iter().map(|p| (p, epoch)).collect()))
        .collect::<Assigned>();
    let topics: BTreeSet<_> = upgraded
        .subscription
        .topics
        .iter()
        .map(|name| name.detach())
        .collect();
    let rack_id = upgraded
        .subscription
        .rack_id
        .filter(|rack| !rack.is_empty());
    let protocols = member.protocols.iter().map(|protocol| ClassicProtocol {
        name: protocol.name.clone(),
        metadata: protocol.metadata.clone(),
    });
    new.metadata.instance_id = member.instance_id.clone();
    new.metadata.rack_id = rack_id.map(|rack| rack.detach());
    new.metadata.client_id = member.client_id.clone();
    new.metadata.client_host = member.client_host.clone();
    new.metadata.rebalance_timeout_ms = member.rebalance_timeout_ms;
    new.metadata.subscribed_topic_names = topics.into_iter().collect();
    new.metadata.classic_member_metadata = Some(ClassicMemberMetadata {
        session_timeout_ms: member.session_timeout_ms,
        supported_protocols: protocols.collect(),
    });
    new
}

/// Makes a classic group out of a consumer group in which only members with the classic protocol stay. `records` were not
/// appended yet. The members go on with what they have if nothing is said, or all have to join again for `causes`.
pub(super) fn downgrade(
    cx: &mut Context<'_>,
    group: &mut ConsumerGroup,
    leaving: &[Str],
    mut records: Vec<GroupRecord>,
    causes: Vec<Cause>,
) -> Classic {
    group.disarm_all(cx);
    let members = group.members.len() - leaving.len();
    group
        .history
        .finish(cx.now, Outcome::Superseded, Some(members));
    records.extend(group.tombstones());
    let mut classic = Classic::new(group.id.clone());
    classic.history = std::mem::take(&mut group.history);
    classic.generation_id = group.group_epoch();
    classic.protocol_type = Some(Str::from_static(CONSUMER));
    let staying = group
        .members
        .values()
        .filter(|member| !leaving.contains(&member.member_id));
    for member in staying {
        let nothing = Partitions::new();
        let target = group.targets.get(&member.member_id).unwrap_or(&nothing);
        let assignment = classic_assignment(cx.view, target, member.classic_protocols());
        classic.insert_member(downgrade_member(cx, member, assignment));
    }
    classic.leader = classic.members.keys().next().cloned();
    classic.protocol_name = classic.select_protocol();
    classic.transition(cx, State::Stable);
    classic.subscribed_topics = classic.compute_subscribed_topics();
    let value = classic.metadata_record(|member| member.assignment.clone());
    records.push(classic.apply_metadata(value));
    for records in batches(records, cx.config.append_bytes_max) {
        let append_id = cx
            .appends
            .push(cx.after(cx.config.offset_commit_timeout_ms));
        classic.last_append = append_id;
        cx.effects.push(Effect::Append { append_id, records });
    }
    let members: Vec<Str> = classic.members.keys().cloned().collect();
    members
        .iter()
        .for_each(|member_id| classic.renew_own_session(cx, member_id));
    for cause in causes {
        classic.rebalance_or_complete_join(cx, cause);
    }
    classic
}

fn downgrade_member(cx: &Context<'_>, member: &ConsumerMember, assignment: Bytes) -> Member {
    let classic = member.metadata.classic_member_metadata.as_ref();
    let protocols = member.classic_protocols().iter().map(|protocol| Protocol {
        name: protocol.name.clone(),
        metadata: protocol.metadata.clone(),
    });
    Member {
        member_id: member.member_id.clone(),
        instance_id: member.metadata.instance_id.clone(),
        client_id: member.metadata.client_id.clone(),
        client_host: member.metadata.client_host.clone(),
        rebalance_timeout_ms: member.metadata.rebalance_timeout_ms,
        session_timeout_ms: classic.map_or(0, |classic| classic.session_timeout_ms),
        protocols: protocols.collect(),
        assignment,
        joined: 0,
        is_new: false,
        awaiting_join: None,
        awaiting_sync: None,
        owes_sync: false,
        session: Session {
            deadline: cx.now.instant,
            timer: None,
        },
    }
}

/// A member joins a consumer group with the classic protocol. Gives the answer, and the classic group that comes of it if the
/// last member with the consumer protocol has thereby gone.
pub(super) fn join_consumer_group(
    cx: &mut Context<'_>,
    group: &mut ConsumerGroup,
    joining: Joining,
) -> Result<(JoinGroupResponse, Option<Classic>), (ErrorCode, Str)> {
    let subscription = group.check_join(cx, &joining)?;
    match group.join(cx, joining, &subscription) {
        Joined::Answer(answer) => Ok((answer, None)),
        Joined::Downgrade {
            answer,
            records,
            rebalance,
        } => {
            let causes = if rebalance {
                vec![Cause::Downgraded]
            } else {
                Vec::new()
            };
            let classic = downgrade(cx, group, &[], records, causes);
            Ok((answer, Some(classic)))
        }
    }
}
