use std::collections::BTreeSet;

use bytes::Bytes;
use tidelog_protocol::messages::join_group::JoinGroupResponse;
use tidelog_types::{ErrorCode, Str};

use super::appends::{Completion, SkipAssignment};
use super::classic::{Classic, parse_subscription};
use super::context::Context;
use super::history::{Cause, Outcome, Phase};
use super::member::{Joining, Member, Parked, Session};
use super::record::group_metadata_size;
use super::state::{InitialDelay, State};
use super::timers::Timer;

/// From this version of JoinGroup on, a new dynamic member is given its id first (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// From this version of JoinGroup on, the leader may be told not to assign anything (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

impl Classic {
    /// A member joins for the first time, or again.
    pub(super) fn join(&mut self, cx: &mut Context<'_>, joining: Joining) {
        if !self.accepts(&joining, cx.config.group_max_size) {
            self.remove_pending_member(cx, &joining.member_id);
            self.remove_member(cx, &joining.member_id);
            cx.refuse_join(
                joining.parked,
                ErrorCode::GROUP_MAX_SIZE_REACHED,
                Str::EMPTY,
            );
            self.maybe_complete_join(cx);
        } else if !self.supports(&joining) {
            let error_code = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
            cx.refuse_join(joining.parked, error_code, joining.member_id);
        } else if joining.member_id.is_empty() {
            self.join_as_new(cx, joining);
        } else {
            self.join_as_known(cx, joining);
        }
    }

    /// Whether there is room for the member.
    fn accepts(&self, joining: &Joining, group_max_size: usize) -> bool {
        let instance = joining.instance_id.as_ref();
        let returns = instance.is_some_and(|instance| self.static_members.contains_key(instance));
        let member = self.members.get(&joining.member_id);
        match self.state {
            State::Empty => true,
            // Members who wait count, not members: when `group.max.size` was lowered, the last ones to rejoin are left out.
            State::PreparingRebalance { .. } => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || self.awaiting_join < group_max_size
            }
            State::CompletingRebalance { .. } | State::Stable => {
                member.is_some() || returns || self.members.len() < group_max_size
            }
        }
    }

    fn join_as_new(&mut self, cx: &mut Context<'_>, mut joining: Joining) {
        let prefix = joining.instance_id.as_ref().unwrap_or(&joining.client_id);
        joining.member_id = cx.member_ids.next(prefix);
        if let Some(instance_id) = &joining.instance_id {
            match self.static_members.get(instance_id).cloned() {
                Some(old_member_id) => self.replace_static_member(cx, &old_member_id, joining),
                None => self.add_member(cx, joining),
            }
        } else if joining.parked.version < MEMBER_ID_REQUIRED_FROM {
            self.add_member(cx, joining);
        } else if self.pending_members.len() >= cx.config.group_pending_members_max {
            cx.refuse_join(
                joining.parked,
                ErrorCode::GROUP_MAX_SIZE_REACHED,
                Str::EMPTY,
            );
        } else {
            // KIP-394: a client that gives up and starts over must not leave a member behind.
            let (group_id, member_id) = (self.id.clone(), joining.member_id.clone());
            let deadline = cx.after(joining.session_timeout_ms);
            let timer = cx.timers.arm(
                deadline,
                Timer::PendingMember {
                    group_id,
                    member_id,
                },
            );
            self.pending_members
                .insert(joining.member_id.clone(), timer);
            cx.refuse_join(
                joining.parked,
                ErrorCode::MEMBER_ID_REQUIRED,
                joining.member_id,
            );
        }
    }

    fn join_as_known(&mut self, cx: &mut Context<'_>, joining: Joining) {
        if joining.instance_id.is_none() && self.remove_pending_member(cx, &joining.member_id) {
            return self.add_member(cx, joining);
        }
        let instance_id = joining.instance_id.as_ref();
        if let Err(error_code) = self.validate_member(&joining.member_id, instance_id) {
            return cx.refuse_join(joining.parked, error_code, joining.member_id);
        }
        let is_leader = self.leader.as_ref() == Some(&joining.member_id);
        let has_changed = self
            .members
            .get(&joining.member_id)
            .is_none_or(|member| member.protocols != joining.protocols);
        let rebalances = match self.state {
            State::Empty | State::PreparingRebalance { .. } => true,
            // With the same metadata the member has merely missed the answer to its former request.
            State::CompletingRebalance { .. } => has_changed,
            // The leader may know of changes that no member's metadata shows, such as new partitions.
            State::Stable => has_changed || is_leader,
        };
        if rebalances {
            let cause = self.rejoin_cause(&joining, has_changed, is_leader);
            let member_id = joining.member_id.clone();
            self.update_member(cx, joining);
            match cause {
                // Who joins because everybody was asked to is no reason for anything.
                None => {
                    self.note_wait(cx, &member_id, false);
                    self.maybe_complete_join(cx);
                }
                Some(cause) => {
                    self.rebalance_or_complete_join(cx, cause);
                    self.note_wait(cx, &member_id, false);
                }
            }
        } else {
            self.renew_own_session(cx, &joining.member_id);
            let response = self.generation_for(&joining.member_id);
            cx.reply_join(joining.parked, response);
        }
    }

    /// Why a member that joins again makes the group rebalance; `None` if it was asked to.
    fn rejoin_cause(&self, joining: &Joining, has_changed: bool, leader: bool) -> Option<Cause> {
        let who = self.who(&joining.member_id);
        if has_changed && let Some(cause) = self.subscription_cause(joining) {
            return Some(cause);
        }
        let was_asked = matches!(self.state, State::PreparingRebalance { .. });
        (!was_asked).then(|| Cause::Rejoined {
            who,
            leader,
            reason: joining.reason.clone(),
        })
    }

    /// What a consumer wants besides what it wanted before.
    fn subscription_cause(&self, joining: &Joining) -> Option<Cause> {
        let topics = |protocols: &[super::member::Protocol]| {
            let metadata = &protocols.first()?.metadata;
            let subscription = parse_subscription(metadata)?;
            Some(subscription.topics.into_iter().collect::<BTreeSet<_>>())
        };
        let member = self.members.get(&joining.member_id)?;
        if !self.uses_consumer_protocol() {
            return None;
        }
        let (old, new) = (topics(&member.protocols)?, topics(&joining.protocols)?);
        (old != new).then(|| Cause::SubscriptionChanged {
            who: member.who(),
            added: new.difference(&old).map(|name| name.detach()).collect(),
            removed: old.difference(&new).map(|name| name.detach()).collect(),
        })
    }

    fn add_member(&mut self, cx: &mut Context<'_>, joining: Joining) {
        if let State::PreparingRebalance {
            initial: Some(initial),
            ..
        } = &mut self.state
        {
            initial.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(joining.protocol_type.clone());
            self.leader = Some(joining.member_id.clone());
        }
        let member_id = joining.member_id.clone();
        let reason = joining.reason.clone();
        self.insert_member(new_member(cx, joining, Bytes::new(), true));
        self.renew_session(cx, &member_id, cx.config.group_new_member_join_timeout_ms);
        let who = self.who(&member_id);
        self.rebalance_or_complete_join(cx, Cause::Joined { who, reason });
        self.note_wait(cx, &member_id, false);
    }

    /// KIP-345: a static member is back, usually after a restart, and does not know the member id that it had.
    fn replace_static_member(
        &mut self,
        cx: &mut Context<'_>,
        old_member_id: &Str,
        joining: Joining,
    ) {
        let Some(old) = self.take_member(cx, old_member_id) else {
            return;
        };
        if let Some(parked) = old.awaiting_join {
            cx.refuse_join(parked, ErrorCode::FENCED_INSTANCE_ID, old.member_id.clone());
        }
        if let Some(parked) = old.awaiting_sync {
            cx.refuse_sync(parked, ErrorCode::FENCED_INSTANCE_ID);
        }
        let (parked, member_id) = (joining.parked, joining.member_id.clone());
        let previous_leader = self.leader.clone().unwrap_or_default();
        if previous_leader == *old_member_id {
            self.leader = Some(member_id.clone());
        }
        let mut member = new_member(cx, joining, old.assignment, false);
        member.owes_sync = old.owes_sync;
        self.insert_member(member);
        self.renew_own_session(cx, &member_id);

        let value = self.metadata_record(|member| member.assignment.clone());
        let fits = group_metadata_size(&self.id, &value) <= cx.config.append_bytes_max;
        if self.state != State::Stable || self.select_protocol() != self.protocol_name || !fits {
            // While the leader works out the assignment, it does so for the old member id: start over.
            let cause = Cause::StaticMemberReplaced {
                who: self.who(&member_id),
                old_member_id: old_member_id.clone(),
            };
            self.rebalance_or_complete_join(cx, cause);
            return self.note_wait(cx, &member_id, false);
        }
        let append_id = self.append_metadata(cx, value);
        let skip_assignment = if parked.version >= SKIP_ASSIGNMENT_FROM {
            SkipAssignment::Supported
        } else {
            SkipAssignment::NotSupported { previous_leader }
        };
        let (group_id, request_id) = (self.id.clone(), parked.request_id);
        let completion = Completion::StaticMember {
            group_id,
            member_id,
            request_id,
            skip_assignment,
        };
        cx.appends.follow(append_id, completion);
    }

    /// The new id of a static member is durable: the member takes up its work where it left off.
    pub(super) fn static_member_committed(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &Str,
        request_id: u64,
        skip_assignment: SkipAssignment,
    ) {
        // If a rebalance has begun meanwhile, the request takes part in it.
        if self.state != State::Stable {
            return;
        }
        let Some(parked) = self.unpark_join(member_id, request_id) else {
            return;
        };
        let mut response = self.generation_for(member_id);
        match skip_assignment {
            SkipAssignment::Supported => {
                response.skip_assignment = self.leader.as_ref() == Some(member_id);
            }
            SkipAssignment::NotSupported { previous_leader } => {
                response.members.clear();
                response.leader = previous_leader;
            }
        }
        cx.reply_join(parked, response);
        self.renew_own_session(cx, member_id);
    }

    /// The new id of a static member takes too long to become durable: the member has to try again.
    pub(super) fn static_member_overdue(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &Str,
        request_id: u64,
    ) {
        if self.state != State::Stable {
            return;
        }
        if let Some(parked) = self.unpark_join(member_id, request_id) {
            cx.refuse_join(parked, ErrorCode::COORDINATOR_NOT_AVAILABLE, Str::EMPTY);
            self.renew_own_session(cx, member_id);
        }
    }

    /// Takes the parked JoinGroup of a member, if it is still this one.
    fn unpark_join(&mut self, member_id: &Str, request_id: u64) -> Option<Parked> {
        let member = self.members.get_mut(member_id)?;
        let parked = member
            .awaiting_join
            .take_if(|parked| parked.request_id == request_id)?;
        self.awaiting_join -= 1;
        Some(parked)
    }

    /// The answer that tells a member of the current generation.
    fn generation_for(&self, member_id: &Str) -> JoinGroupResponse {
        let is_leader = self.leader.as_ref() == Some(member_id);
        JoinGroupResponse {
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.clone(),
            members: if is_leader {
                self.members_for_leader()
            } else {
                Vec::new()
            },
            ..Default::default()
        }
    }

    /// Members have changed: starts a rebalance, or goes on with the one that is under way.
    pub(super) fn rebalance_or_complete_join(&mut self, cx: &mut Context<'_>, cause: Cause) {
        match self.state {
            State::PreparingRebalance { .. } => {
                self.note_cause(cx, cause);
                self.maybe_complete_join(cx);
            }
            State::Empty | State::CompletingRebalance { .. } | State::Stable => {
                self.prepare_rebalance(cx, cause);
            }
        }
    }

    /// Starts a rebalance: everybody has to join again.
    pub(super) fn prepare_rebalance(&mut self, cx: &mut Context<'_>, cause: Cause) {
        self.note_cause(cx, cause);
        if matches!(self.state, State::CompletingRebalance { .. }) {
            self.abandon_assignment(cx, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.forget_owed_syncs(cx);
        let rebalance_timeout_ms = self.rebalance_timeout_ms();
        let delay_ms = cx.config.group_initial_rebalance_delay_ms;
        let initial = (self.state == State::Empty).then(|| InitialDelay {
            delay_ms,
            remaining_ms: rebalance_timeout_ms.saturating_sub(delay_ms).max(0),
            new_member_added: false,
        });
        let wait_ms = if initial.is_some() {
            delay_ms
        } else {
            rebalance_timeout_ms
        };
        let timer = cx.timers.arm(
            cx.after(wait_ms),
            Timer::Join {
                group_id: self.id.clone(),
            },
        );
        self.transition(cx, State::PreparingRebalance { initial, timer });
        self.maybe_complete_join(cx);
    }

    /// Ends the join phase if nobody is missing. The first rebalance of a group waits for its time instead, since nobody knows
    /// who will come.
    pub(super) fn maybe_complete_join(&mut self, cx: &mut Context<'_>) {
        let waits_for_nobody =
            self.awaiting_join == self.members.len() && self.pending_members.is_empty();
        if matches!(self.state, State::PreparingRebalance { initial: None, .. }) && waits_for_nobody
        {
            self.complete_join(cx);
        }
    }

    /// The time of the join phase is up.
    pub(super) fn join_timed_out(&mut self, cx: &mut Context<'_>) {
        let State::PreparingRebalance {
            initial: Some(initial),
            ..
        } = self.state
        else {
            return self.complete_join(cx);
        };
        if !initial.new_member_added || initial.remaining_ms == 0 {
            return self.complete_join(cx);
        }
        let delay_ms = cx
            .config
            .group_initial_rebalance_delay_ms
            .min(initial.remaining_ms);
        let remaining_ms = initial.remaining_ms.saturating_sub(initial.delay_ms).max(0);
        let initial = Some(InitialDelay {
            delay_ms,
            remaining_ms,
            new_member_added: false,
        });
        let timer = cx.timers.arm(
            cx.after(delay_ms),
            Timer::Join {
                group_id: self.id.clone(),
            },
        );
        self.state = State::PreparingRebalance { initial, timer };
    }

    /// Ends the join phase with those who have joined, and static members even if they have not.
    fn complete_join(&mut self, cx: &mut Context<'_>) {
        let State::PreparingRebalance { timer, .. } = self.state else {
            return;
        };
        cx.timers.disarm(timer);
        let missing = self
            .members
            .values()
            .filter(|m| m.awaiting_join.is_none() && !m.is_static())
            .map(|m| m.member_id.clone());
        for member_id in missing.collect::<Vec<_>>() {
            self.note_wait(cx, &member_id, true);
            self.remove_member(cx, &member_id);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left, and none has come. Their sessions decide.
            let deadline = cx.after(self.rebalance_timeout_ms());
            let timer = cx.timers.arm(
                deadline,
                Timer::Join {
                    group_id: self.id.clone(),
                },
            );
            self.state = State::PreparingRebalance {
                initial: None,
                timer,
            };
            return;
        }
        self.generation_id = self.generation_id.checked_add(1).unwrap_or(1);
        self.protocol_name = self.select_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        if self.members.is_empty() {
            self.leader = None;
            self.transition(cx, State::Empty);
            let value = self.metadata_record(|_| Bytes::new());
            self.append_metadata(cx, value);
            self.note_end(cx, Outcome::Empty);
        } else {
            self.history.enter(cx.now, Phase::Assigning);
            self.transition(cx, State::CompletingRebalance { assignment: None });
            self.announce_generation(cx);
        }
    }

    /// Tells everybody who has joined of the new generation, and expects everybody to ask for an assignment.
    fn announce_generation(&mut self, cx: &mut Context<'_>) {
        let member_ids: Vec<Str> = self.members.keys().cloned().collect();
        for member_id in &member_ids {
            let response = self.generation_for(member_id);
            let Some(member) = self.members.get_mut(member_id) else {
                continue;
            };
            member.is_new = false;
            member.owes_sync = true;
            if let Some(parked) = member.awaiting_join.take() {
                cx.reply_join(parked, response);
            }
            self.renew_own_session(cx, member_id);
        }
        self.awaiting_join = 0;
        self.owing_sync = self.members.len();
        let deadline = cx.after(self.rebalance_timeout_ms());
        self.sync_timer = Some(cx.timers.arm(
            deadline,
            Timer::Sync {
                group_id: self.id.clone(),
            },
        ));
    }

    /// The leader stays as long as it joins; then comes whoever has been there longest. False if nobody has joined.
    fn elect_leader(&mut self) -> bool {
        let joins = |member: &Member| member.awaiting_join.is_some();
        let leader = self
            .leader
            .as_ref()
            .and_then(|leader| self.members.get(leader));
        if leader.is_some_and(|leader| joins(leader)) {
            return true;
        }
        let next = self
            .members
            .values()
            .filter(|member| joins(member))
            .min_by_key(|member| member.joined);
        let Some(next) = next.map(|member| member.member_id.clone()) else {
            return false;
        };
        self.leader = Some(next);
        true
    }
}

fn new_member(cx: &Context<'_>, joining: Joining, assignment: Bytes, is_new: bool) -> Member {
    Member {
        member_id: joining.member_id,
        instance_id: joining.instance_id,
        client_id: joining.client_id,
        client_host: joining.client_host,
        rebalance_timeout_ms: joining.rebalance_timeout_ms,
        session_timeout_ms: joining.session_timeout_ms,
        protocols: joining.protocols,
        assignment,
        joined: 0,
        is_new,
        awaiting_join: Some(joining.parked),
        awaiting_sync: None,
        owes_sync: false,
        session: Session {
            deadline: cx.now.instant,
            timer: None,
        },
    }
}
