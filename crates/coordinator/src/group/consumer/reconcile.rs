use std::collections::BTreeSet;

use tidelog_protocol::messages::consumer_group_heartbeat::TopicPartitions;
use tidelog_types::{Str, TopicId};

use super::{Assigned, ConsumerGroup, Member, MemberState};
use crate::group::GroupRecord;
use crate::group::context::Context;

/// Where a member stands after a step towards the target.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    state: MemberState,
    epoch: i32,
    assigned: Assigned,
    pending_revocation: Assigned,
}

impl ConsumerGroup {
    /// Takes a member a step towards the target.
    ///
    /// What it has and is not to have any more is taken away first: until it has given that up it stays in its epoch. Then it
    /// comes to the epoch of the target, and gets of it what nobody else has. What others have yet to give up it gets later.
    ///
    /// `owned` is what the member says it has, `None` if it says nothing. `has_changed` tells that it has just changed its
    /// subscription, so that it loses at once what it does not want any more.
    pub(super) fn reconcile(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &Str,
        has_changed: bool,
        owned: Option<&[TopicPartitions]>,
        records: &mut Vec<GroupRecord>,
    ) {
        let Some(member) = self.members.get(member_id) else {
            return;
        };
        if !has_changed && member.is_reconciled_to(self.assignment_epoch) {
            return;
        }
        let step = match member.state {
            MemberState::Stable if member.epoch != self.assignment_epoch => {
                Some(self.next_step(cx, member, member.epoch, owned))
            }
            MemberState::Stable if has_changed => self.unsubscribe(cx, member, owned),
            MemberState::Stable => None,
            MemberState::UnrevokedPartitions => {
                if !owns_any(owned, &member.pending_revocation) {
                    Some(self.next_step(cx, member, member.epoch, owned))
                } else if has_changed {
                    self.unsubscribe(cx, member, owned)
                } else {
                    None
                }
            }
            MemberState::UnreleasedPartitions => {
                Some(self.next_step(cx, member, member.epoch, owned))
            }
            // It was made to give up everything: a heartbeat of one that owns anything is refused.
            MemberState::Unknown(_) => {
                Some(self.next_step(cx, member, self.assignment_epoch, owned))
            }
        };
        if let Some(step) = step {
            self.take_step(cx, member_id, step, records);
        }
    }

    fn take_step(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &Str,
        step: Step,
        records: &mut Vec<GroupRecord>,
    ) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let is_same = member.state == step.state
            && member.epoch == step.epoch
            && member.previous_epoch == member.epoch
            && member.assigned == step.assigned
            && member.pending_revocation == step.pending_revocation;
        if is_same {
            return;
        }
        let was_behind = !member.is_reconciled_to(self.assignment_epoch);
        let record = {
            // The record is made of a copy of the member as it will be; applying it makes it so.
            let mut next = Member::new(member_id.clone());
            next.state = step.state;
            next.epoch = step.epoch;
            next.previous_epoch = member.epoch;
            next.assigned = step.assigned;
            next.pending_revocation = step.pending_revocation;
            next.current_record(&self.id)
        };
        self.push(records, record);
        let Some(member) = self.members.get(member_id) else {
            return;
        };
        if was_behind && member.is_reconciled_to(self.assignment_epoch) {
            let now = cx.now;
            self.history.waited(now, || member.who(), false);
        }
        if !member.is_classic() {
            if member.state == MemberState::UnrevokedPartitions {
                self.arm_rebalance_timer(cx, member_id);
            } else {
                self.disarm_rebalance_timer(cx, member_id);
            }
        }
    }

    fn next_step(
        &self,
        cx: &Context<'_>,
        member: &Member,
        epoch: i32,
        owned: Option<&[TopicPartitions]>,
    ) -> Step {
        let subscribed = self.subscribed_ids(cx, member);
        let mut assigned = Assigned::new();
        let mut revoked = Assigned::new();
        let mut missing = Assigned::new();
        let mut unreleased = false;
        let target = self.targets.get(&member.member_id);
        let target_of = |id: &TopicId| {
            let target = target.and_then(|target| target.get(id));
            target.filter(|_| subscribed.contains(id))
        };
        for (id, partitions) in &member.assigned {
            let target = target_of(id);
            for (&partition, &epoch) in partitions {
                let keeps = target.is_some_and(|target| target.contains(&partition));
                let into = if keeps { &mut assigned } else { &mut revoked };
                into.entry(*id).or_default().insert(partition, epoch);
            }
        }
        for id in target.into_iter().flat_map(|target| target.keys()) {
            let has = member.assigned.get(id);
            for &partition in target_of(id).into_iter().flatten() {
                if has.is_some_and(|has| has.contains_key(&partition)) {
                    continue;
                }
                let owners = self.owners.get(id);
                if owners.is_some_and(|owners| owners.contains_key(&partition)) {
                    unreleased = true;
                } else {
                    let into = missing.entry(*id).or_default();
                    into.insert(partition, self.assignment_epoch);
                }
            }
        }
        if !revoked.is_empty() && owns_any(owned, &revoked) {
            return Step {
                state: MemberState::UnrevokedPartitions,
                epoch,
                assigned,
                pending_revocation: revoked,
            };
        }
        for (id, partitions) in missing {
            assigned.entry(id).or_default().extend(partitions);
        }
        Step {
            state: if unreleased {
                MemberState::UnreleasedPartitions
            } else {
                MemberState::Stable
            },
            epoch: self.assignment_epoch,
            assigned,
            pending_revocation: Assigned::new(),
        }
    }

    /// Takes away the topics that the member does not want any more, without waiting for a new target.
    fn unsubscribe(
        &self,
        cx: &Context<'_>,
        member: &Member,
        owned: Option<&[TopicPartitions]>,
    ) -> Option<Step> {
        let subscribed = self.subscribed_ids(cx, member);
        let (assigned, dropped): (Assigned, Assigned) = member
            .assigned
            .clone()
            .into_iter()
            .partition(|(id, _)| subscribed.contains(id));
        if dropped.is_empty() {
            return None;
        }
        let mut revoked = member.pending_revocation.clone();
        for (id, partitions) in dropped {
            revoked.entry(id).or_default().extend(partitions);
        }
        let must_give_up = owns_any(owned, &revoked);
        Some(Step {
            state: if must_give_up {
                MemberState::UnrevokedPartitions
            } else {
                member.state
            },
            epoch: member.epoch,
            assigned,
            pending_revocation: if must_give_up {
                revoked
            } else {
                member.pending_revocation.clone()
            },
        })
    }

    fn subscribed_ids(&self, cx: &Context<'_>, member: &Member) -> BTreeSet<TopicId> {
        let names = self.subscription_of(member);
        names
            .filter_map(|name| cx.view.topic(name))
            .map(|topic| topic.id)
            .collect()
    }

    /// Whether a member with the classic protocol waits for partitions that others have not given up.
    pub(super) fn waits_for_others(&self, member: &Member) -> bool {
        let target = self.targets.get(&member.member_id);
        member.state == MemberState::UnreleasedPartitions
            && target.into_iter().flatten().any(|(id, partitions)| {
                let has = member.assigned.get(id);
                let owners = self.owners.get(id);
                partitions.iter().any(|partition| {
                    !has.is_some_and(|has| has.contains_key(partition))
                        && owners.is_some_and(|owners| owners.contains_key(partition))
                })
            })
    }
}

/// Whether a member says that it owns any of these. One that says nothing might own all.
fn owns_any(owned: Option<&[TopicPartitions]>, partitions: &Assigned) -> bool {
    let Some(owned) = owned else { return true };
    owned.iter().any(|topic| {
        partitions.get(&topic.topic_id).is_some_and(|partitions| {
            let mut owned = topic.partitions.iter();
            owned.any(|partition| partitions.contains_key(partition))
        })
    })
}

/// Whether a member owns nothing but what it was given.
pub(super) fn is_subset(owned: Option<&[TopicPartitions]>, assigned: &Assigned) -> bool {
    let Some(owned) = owned else { return false };
    owned.iter().all(|topic| {
        assigned.get(&topic.topic_id).is_some_and(|assigned| {
            let mut owned = topic.partitions.iter();
            owned.all(|partition| assigned.contains_key(partition))
        })
    })
}
