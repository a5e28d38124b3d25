use std::collections::BTreeSet;

use tidelog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use tidelog_types::Str;

use super::heartbeat::{check_instance, unknown_member};
use super::{Assigned, ConsumerGroup, LEAVE_STATIC_EPOCH, Refusal};
use crate::group::GroupRecord;
use crate::group::config::Config;
use crate::group::context::Context;
use crate::group::history::Cause;

impl ConsumerGroup {
    /// Who leaves with a heartbeat of epoch -1 or -2.
    pub(in crate::group) fn leaver(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<Str, Refusal> {
        let member = match &request.instance_id {
            None => self.members.get(&request.member_id),
            Some(instance_id) => {
                let holder = self.static_members.get(instance_id);
                let holder = holder.and_then(|member_id| self.members.get(member_id));
                let holder = holder.ok_or_else(|| unknown_member(instance_id))?;
                check_instance(holder, &request.member_id)?;
                Some(holder)
            }
        };
        let member = member.ok_or_else(|| unknown_member(&request.member_id))?;
        Ok(member.member_id.clone())
    }

    /// A static member leaves, and will be back before its session ends: its partitions stay its own.
    pub(in crate::group) fn leave_for_a_while(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &Str,
    ) -> ConsumerGroupHeartbeatResponse {
        if let Some(member) = self.members.get_mut(member_id) {
            let kept = std::mem::take(&mut member.pending_revocation);
            let epoch = std::mem::replace(&mut member.epoch, LEAVE_STATIC_EPOCH);
            let record = member.current_record(&self.id);
            // The record says how it will be; applying it makes it so.
            (member.pending_revocation, member.epoch) = (kept, epoch);
            let mut records = Vec::new();
            self.push(&mut records, record);
            self.append(cx, records);
        }
        ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id.clone()),
            member_epoch: LEAVE_STATIC_EPOCH,
            ..Default::default()
        }
    }

    /// Takes a member out, with the partitions that it has.
    pub(super) fn remove_member(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &Str,
        records: &mut Vec<GroupRecord>,
    ) {
        self.disarm_timers(cx, member_id);
        let (group_id, member_id) = (self.id.clone(), member_id.clone());
        let removal = [
            GroupRecord::ConsumerGroupCurrentMember {
                group_id: group_id.clone(),
                member_id: member_id.clone(),
                value: None,
            },
            GroupRecord::ConsumerGroupTargetMember {
                group_id: group_id.clone(),
                member_id: member_id.clone(),
                value: None,
            },
            GroupRecord::ConsumerGroupMember {
                group_id,
                member_id,
                value: None,
            },
        ];
        for record in removal {
            self.push(records, record);
        }
    }

    /// Members are gone: the group epoch rises.
    pub(in crate::group) fn remove_members(
        &mut self,
        cx: &mut Context<'_>,
        leaving: &[Str],
        causes: Vec<Cause>,
    ) {
        let mut records = Vec::new();
        let mut regexes = BTreeSet::new();
        for member_id in leaving {
            if let Some(member) = self.members.get(member_id) {
                regexes.extend(member.regex().cloned());
                let (now, gave_up) = (cx.now, is_timeout(&causes));
                if gave_up && !member.is_reconciled_to(self.assignment_epoch) {
                    self.history.waited(now, || member.who(), true);
                }
            }
            self.remove_member(cx, member_id, &mut records);
        }
        for regex in regexes {
            self.drop_regex_if_unused(&regex, &mut records);
        }
        let metadata_hash = self.compute_metadata_hash(cx);
        self.bump_epoch(cx, metadata_hash, causes, &mut records);
        self.append(cx, records);
        self.note_progress(cx);
    }

    /// Whether only members with the classic protocol stay when these leave, and the group may become theirs.
    pub(in crate::group) fn may_downgrade_without(&self, config: &Config, leaving: &[Str]) -> bool {
        let leavers = leaving.iter().filter_map(|id| self.members.get(id));
        let staying = self.members.len() - leaving.len();
        leavers.clone().all(|member| !member.is_classic())
            && self.classic_members == staying
            && staying > 0
            && config.consumer_group_migration_policy.allows_downgrade()
            && staying <= config.group_max_size
    }

    /// The same, when a static member with the classic protocol takes the place of the last one without.
    pub(super) fn may_downgrade_with(&self, config: &Config, replaced: &Str) -> bool {
        let replaced = self.members.get(replaced);
        replaced.is_some_and(|member| !member.is_classic())
            && self.classic_members == self.members.len() - 1
            && config.consumer_group_migration_policy.allows_downgrade()
            && self.members.len() <= config.group_max_size
    }

    /// Every partition that a member has or has yet to give up, for the invariants.
    pub(super) fn holdings(&self) -> impl Iterator<Item = (&Str, &Assigned)> {
        self.members.values().flat_map(|member| {
            [
                (&member.member_id, &member.assigned),
                (&member.member_id, &member.pending_revocation),
            ]
        })
    }
}

fn is_timeout(causes: &[Cause]) -> bool {
    causes.iter().any(|cause| {
        matches!(
            cause,
            Cause::SessionTimedOut { .. } | Cause::RebalanceTimedOut { .. }
        )
    })
}
