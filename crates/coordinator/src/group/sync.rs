use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
use tidelog_protocol::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberResponse,
};
use tidelog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use tidelog_protocol::records::consumer_protocol::ConsumerProtocolAssignment;
use tidelog_protocol::records::group::classic::GroupMetadataValue;
use tidelog_types::{ErrorCode, PartitionIndex, Str, TopicName};

use super::appends::Completion;
use super::classic::Classic;
use super::context::Context;
use super::history::{Cause, Move, Outcome, Phase, Who};
use super::member::Parked;
use super::record::group_metadata_size;
use super::state::State;
use super::{GroupResponse, release_if_empty};

/// From this version of LeaveGroup on, several members may leave at once, static ones by their instance id (KIP-345).
const LEAVE_MANY_FROM: i16 = 3;

impl Classic {
    /// A member asks for its assignment; the leader brings those of all.
    pub(super) fn sync(
        &mut self,
        cx: &mut Context<'_>,
        parked: Parked,
        request: &SyncGroupRequest,
    ) {
        if let Err(error_code) = self.validate_sync(request) {
            return cx.refuse_sync(parked, error_code);
        }
        let member_id = &request.member_id;
        match self.state {
            State::Empty => cx.refuse_sync(parked, ErrorCode::UNKNOWN_MEMBER_ID),
            State::PreparingRebalance { .. } => {
                cx.refuse_sync(parked, ErrorCode::REBALANCE_IN_PROGRESS);
            }
            State::CompletingRebalance { assignment } => {
                self.sync_received(cx, member_id);
                if let Some(member) = self.members.get_mut(member_id)
                    && let Some(former) = member.awaiting_sync.replace(parked)
                {
                    // The client has given up on its former request and sent another.
                    cx.refuse_sync(former, ErrorCode::REBALANCE_IN_PROGRESS);
                }
                if assignment.is_none() && self.leader.as_ref() == Some(member_id) {
                    self.store_assignment(cx, request);
                }
            }
            State::Stable => {
                self.sync_received(cx, member_id);
                self.renew_own_session(cx, member_id);
                let response = GroupResponse::SyncGroup(self.assignment_for(member_id));
                cx.reply_after(self.last_append, parked.request_id, response);
            }
        }
    }

    fn validate_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        let differs = |theirs: &Option<Str>, ours: &Option<Str>| {
            theirs.is_some() && ours.is_some() && theirs != ours
        };
        self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation_id {
            Err(ErrorCode::ILLEGAL_GENERATION)
        } else if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol_name)
        {
            Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
        } else {
            Ok(())
        }
    }

    /// Makes the leader's assignment durable. Only then is it told to anybody, so that a new coordinator never knows less
    /// than the members.
    fn store_assignment(&mut self, cx: &mut Context<'_>, request: &SyncGroupRequest) {
        let assignments: HashMap<&str, &Bytes> = request
            .assignments
            .iter()
            .map(|assignment| (&*assignment.member_id, &assignment.assignment))
            .collect();
        let value = self.metadata_record(|member| {
            assignments
                .get(&*member.member_id)
                .copied()
                .cloned()
                .unwrap_or_default()
        });
        if group_metadata_size(&self.id, &value) > cx.config.append_bytes_max {
            self.abandon_assignment(cx, ErrorCode::UNKNOWN_SERVER_ERROR);
            return self.prepare_rebalance(cx, Cause::AssignmentRefused);
        }
        self.note_assignment(cx, &value);
        let append_id = self.append_metadata(cx, value);
        self.state = State::CompletingRebalance {
            assignment: Some(append_id),
        };
        cx.appends.follow(
            append_id,
            Completion::Assignment {
                group_id: self.id.clone(),
            },
        );
    }

    /// Notes what moves with a new assignment, as far as it can be read.
    fn note_assignment(&mut self, cx: &Context<'_>, value: &GroupMetadataValue) {
        if let Some(leader) = self.leader.clone() {
            self.note_wait(cx, &leader, false);
        }
        self.history.enter(cx.now, Phase::Reconciling);
        if !self.uses_consumer_protocol() {
            return;
        }
        let old = self.metadata.as_ref().map(owners).unwrap_or_default();
        let new = owners(value);
        let places: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let moves = places.into_iter().filter_map(|place| {
            let (from, to) = (old.get(place), new.get(place));
            (from != to).then(|| Move {
                topic: place.0.detach(),
                partition: place.1,
                from: from.cloned(),
                to: to.cloned(),
            })
        });
        self.history.moved(cx.config.history_moves_max, moves);
    }

    /// The assignment is durable: everybody who has asked for it gets it.
    pub(super) fn assignment_committed(&mut self, cx: &mut Context<'_>, append_id: u64) {
        // Members may have come or gone meanwhile; then the assignment is of no use any more.
        if self.state
            != (State::CompletingRebalance {
                assignment: Some(append_id),
            })
        {
            return;
        }
        let metadata = self
            .metadata
            .as_ref()
            .expect("the assignment was applied when appended");
        assert_eq!(
            metadata.generation, self.generation_id,
            "nothing was written since"
        );
        for stored in &metadata.members {
            if let Some(member) = self.members.get_mut(&stored.member_id) {
                member.assignment = stored.assignment.clone();
            }
        }
        self.transition(cx, State::Stable);
        self.note_end(cx, Outcome::Stable);
        for (member_id, parked) in self.unpark_syncs() {
            let response = self.assignment_for(&member_id);
            cx.reply(parked.request_id, GroupResponse::SyncGroup(response));
            self.renew_own_session(cx, &member_id);
        }
    }

    /// The assignment takes too long to become durable: nobody waits for it any longer.
    pub(super) fn assignment_overdue(&mut self, cx: &mut Context<'_>, append_id: u64) {
        if self.state
            == (State::CompletingRebalance {
                assignment: Some(append_id),
            })
        {
            for (member_id, parked) in self.unpark_syncs() {
                cx.refuse_sync(parked, ErrorCode::COORDINATOR_NOT_AVAILABLE);
                self.renew_own_session(cx, &member_id);
            }
        }
    }

    /// No assignment will come for this generation.
    pub(super) fn abandon_assignment(&mut self, cx: &mut Context<'_>, error_code: ErrorCode) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (member_id, parked) in self.unpark_syncs() {
            cx.refuse_sync(parked, error_code);
            self.renew_own_session(cx, &member_id);
        }
    }

    fn unpark_syncs(&mut self) -> Vec<(Str, Parked)> {
        let members = self.members.values_mut();
        members
            .filter_map(|m| Some((m.member_id.clone(), m.awaiting_sync.take()?)))
            .collect()
    }

    fn assignment_for(&self, member_id: &Str) -> SyncGroupResponse {
        let member = self.members.get(member_id);
        SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: member
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
            ..Default::default()
        }
    }

    fn sync_received(&mut self, cx: &mut Context<'_>, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        if std::mem::take(&mut member.owes_sync) {
            self.owing_sync -= 1;
        }
        if self.owing_sync == 0
            && let Some(timer) = self.sync_timer.take()
        {
            cx.timers.disarm(timer);
        }
    }

    pub(super) fn forget_owed_syncs(&mut self, cx: &mut Context<'_>) {
        self.members
            .values_mut()
            .for_each(|member| member.owes_sync = false);
        self.owing_sync = 0;
        if let Some(timer) = self.sync_timer.take() {
            cx.timers.disarm(timer);
        }
    }

    /// Members that know of the generation for so long and have not asked for their assignment are gone.
    pub(super) fn sync_timed_out(&mut self, cx: &mut Context<'_>) {
        self.sync_timer = None;
        let mut causes = Vec::new();
        let missing = self.members.values().filter(|member| member.owes_sync);
        for member_id in missing
            .map(|member| member.member_id.clone())
            .collect::<Vec<_>>()
        {
            causes.push(Cause::RebalanceTimedOut {
                who: self.who(&member_id),
                after_ms: self.rebalance_timeout_ms(),
            });
            self.remove_member(cx, &member_id);
        }
        for cause in causes {
            self.rebalance_or_complete_join(cx, cause);
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), ErrorCode> {
        self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation_id {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        self.renew_own_session(cx, &request.member_id);
        match self.state {
            State::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            State::PreparingRebalance { .. } => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            // The answer to JoinGroup starts the heartbeats, before the group is stable.
            State::CompletingRebalance { .. } | State::Stable => Ok(()),
        }
    }

    /// Members leave, all of them before the group rebalances.
    pub(super) fn leave(
        &mut self,
        cx: &mut Context<'_>,
        version: i16,
        request: &LeaveGroupRequest,
    ) -> LeaveGroupResponse {
        let mut causes = Vec::new();
        let response = leave_response(
            version,
            request,
            |member_id, instance_id, reason| match self.leave_one(cx, member_id, instance_id) {
                Ok(who) => {
                    causes.extend(who.map(|who| Cause::Left {
                        who,
                        reason: reason.cloned(),
                    }));
                    ErrorCode::NONE
                }
                Err(error_code) => error_code,
            },
        );
        // The first of them starts the rebalance, which may be over before the others are noted.
        let mut causes = causes.into_iter();
        match causes.next_back() {
            None => {
                // A rebalance may have waited only for an id that was given out and is not going to be used.
                self.maybe_complete_join(cx);
            }
            Some(last) => {
                causes.for_each(|cause| self.note_cause(cx, cause));
                self.rebalance_or_complete_join(cx, last);
            }
        }
        response
    }

    fn leave_one(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &Str,
        instance_id: Option<&Str>,
    ) -> Result<Option<Who>, ErrorCode> {
        if member_id.is_empty() {
            // An administrator removes a static member without knowing its member id.
            let current = instance_id.and_then(|instance_id| self.static_members.get(instance_id));
            let member_id = current.cloned().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            let who = self.who(&member_id);
            self.remove_member(cx, &member_id);
            return Ok(Some(who));
        }
        if self.remove_pending_member(cx, member_id) {
            return Ok(None);
        }
        self.validate_member(member_id, instance_id)?;
        let who = self.who(member_id);
        self.remove_member(cx, member_id);
        Ok(Some(who))
    }

    /// The timer of a session has fired.
    pub(super) fn session_timed_out(&mut self, cx: &mut Context<'_>, member_id: &Str) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        member.session.timer = None;
        if member.session.deadline > cx.now.instant {
            // There were signs of life since the timer was armed.
            self.arm_session(cx, member_id);
        } else if !member.is_excused_from_heartbeats() {
            let cause = Cause::SessionTimedOut {
                who: member.who(),
                after_ms: member.session_timeout_ms,
            };
            self.note_wait(cx, member_id, true);
            self.remove_member(cx, member_id);
            self.rebalance_or_complete_join(cx, cause);
        }
    }

    /// A member has not used the id that it was given.
    pub(super) fn pending_member_timed_out(&mut self, cx: &mut Context<'_>, member_id: &Str) {
        self.pending_members.remove(member_id);
        release_if_empty(&mut self.pending_members);
        self.maybe_complete_join(cx);
    }
}

/// Who has what in a generation of consumers.
fn owners(value: &GroupMetadataValue) -> BTreeMap<(TopicName, PartitionIndex), Str> {
    let mut owners = BTreeMap::new();
    for member in &value.members {
        let assignment = ConsumerProtocolAssignment::decode_versioned(&member.assignment);
        for topic in assignment
            .map(|a| a.assigned_partitions)
            .unwrap_or_default()
        {
            for partition in topic.partitions {
                owners.insert((topic.topic.clone(), partition), member.member_id.clone());
            }
        }
    }
    owners
}

/// Answers LeaveGroup with what `leave` says of each member.
pub(super) fn leave_response(
    version: i16,
    request: &LeaveGroupRequest,
    mut leave: impl FnMut(&Str, Option<&Str>, Option<&Str>) -> ErrorCode,
) -> LeaveGroupResponse {
    if version < LEAVE_MANY_FROM {
        let error_code = leave(&request.member_id, None, None);
        return LeaveGroupResponse {
            error_code,
            ..Default::default()
        };
    }
    let members = request.members.iter();
    let members = members.map(|member| MemberResponse {
        member_id: member.member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        error_code: leave(
            &member.member_id,
            member.group_instance_id.as_ref(),
            member.reason.as_ref(),
        ),
    });
    LeaveGroupResponse {
        members: members.collect(),
        ..Default::default()
    }
}
