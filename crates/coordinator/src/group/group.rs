use tidelog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use tidelog_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use tidelog_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use tidelog_protocol::messages::sync_group::SyncGroupRequest;
use tidelog_types::{ErrorCode, GroupId, ProducerId, Str};

use super::classic::Classic;
use super::consumer::{ConsumerGroup, LEAVE_STATIC_EPOCH, Refusal};
use super::context::Context;
use super::history::{Cause, History, Protocol};
use super::member::{Joining, Parked};
use super::migrate::{downgrade, join_consumer_group, upgrade};
use super::offsets::Offsets;
use super::state::State;
use super::sync::leave_response;
use super::timers::{MemberTimer, Timers};
use super::{ClientInfo, GroupRecord, GroupResponse};

/// A group of whichever protocol, with its offsets.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) kind: Kind,
    pub(super) offsets: Offsets,
    /// The newest append with an offset of this group.
    pub(super) last_append: u64,
}

/// The protocol that a group speaks. A group with nothing but offsets is a classic one.
#[derive(Debug)]
pub(super) enum Kind {
    Classic(Box<Classic>),
    Consumer(Box<ConsumerGroup>),
}

impl Group {
    /// A group that nobody has heard of.
    pub(super) fn new(id: GroupId) -> Self {
        Self {
            kind: Kind::Classic(Box::new(Classic::new(id.clone()))),
            id,
            offsets: Offsets::default(),
            last_append: 0,
        }
    }

    /// The only place that changes what survives: used alike when records are appended and when they are loaded.
    pub(super) fn apply(&mut self, producer_id: ProducerId, record: &GroupRecord) {
        match (record, &mut self.kind) {
            (
                GroupRecord::OffsetCommit {
                    topic,
                    partition,
                    value,
                    ..
                },
                _,
            ) => {
                self.offsets
                    .apply(producer_id, topic, *partition, value.as_ref());
            }
            (GroupRecord::GroupMetadata { value, .. }, Kind::Classic(classic)) => {
                classic.apply(value.as_ref());
            }
            (
                GroupRecord::GroupMetadata {
                    value: Some(value), ..
                },
                Kind::Consumer(_),
            ) => {
                let mut classic = Classic::new(self.id.clone());
                classic.apply(Some(value));
                self.kind = Kind::Classic(Box::new(classic));
            }
            (GroupRecord::GroupMetadata { value: None, .. }, Kind::Consumer(_)) => {}
            (record, Kind::Consumer(consumer)) => {
                consumer.apply(record);
                if record.is_tombstone() && consumer.is_void() {
                    self.kind = Kind::Classic(Box::new(Classic::new(self.id.clone())));
                }
            }
            (record, Kind::Classic(_)) if record.is_tombstone() => {}
            (record, Kind::Classic(_)) => {
                let mut consumer = ConsumerGroup::new(self.id.clone());
                consumer.apply(record);
                self.kind = Kind::Consumer(Box::new(consumer));
            }
        }
    }

    /// Whoever is told of what this record says waits for the append, 0 if there is nothing to wait for.
    pub(super) fn note_append(&mut self, record: &GroupRecord, append_id: u64) {
        let last = match (record, &mut self.kind) {
            (GroupRecord::OffsetCommit { .. }, _) => &mut self.last_append,
            (_, Kind::Classic(classic)) => &mut classic.last_append,
            (_, Kind::Consumer(consumer)) => &mut consumer.last_append,
        };
        *last = append_id.max(*last);
    }

    /// Whether nothing of the group is in the log.
    pub(super) fn is_void(&self) -> bool {
        self.offsets.is_empty()
            && match &self.kind {
                Kind::Classic(classic) => classic.metadata.is_none(),
                Kind::Consumer(_) => false,
            }
    }

    /// Brings the members to life that the records tell of.
    pub(super) fn restore(&mut self, cx: &mut Context<'_>) {
        match &mut self.kind {
            Kind::Classic(classic) => classic.restore(cx),
            Kind::Consumer(consumer) => consumer.restore(cx),
        }
    }

    /// What is durable, as the shortest list of records that restores it. Open transactions are left out.
    pub(super) fn records(&self) -> Vec<GroupRecord> {
        let mut records = match &self.kind {
            Kind::Classic(classic) => classic
                .metadata
                .clone()
                .map(|value| GroupRecord::GroupMetadata {
                    group_id: self.id.clone(),
                    value: Some(value),
                })
                .into_iter()
                .collect(),
            Kind::Consumer(consumer) => consumer.records(),
        };
        records.extend(self.offsets.iter().map(|(topic, partition, offset)| {
            GroupRecord::OffsetCommit {
                group_id: self.id.clone(),
                topic: topic.clone(),
                partition,
                value: Some(offset.to_record()),
            }
        }));
        records
    }

    /// Whether the group has no members.
    pub(super) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Classic(classic) => classic.state == State::Empty,
            Kind::Consumer(consumer) => consumer.members.is_empty(),
        }
    }

    /// Whether nothing keeps the group here but its offsets.
    pub(super) fn is_abandoned(&self) -> bool {
        self.is_empty()
            && match &self.kind {
                Kind::Classic(classic) => classic.pending_members.is_empty(),
                Kind::Consumer(_) => true,
            }
    }

    /// Kafka's name of the state.
    pub(super) fn state_name(&self) -> &'static str {
        match &self.kind {
            Kind::Classic(classic) => classic.state.name(),
            Kind::Consumer(consumer) => consumer.state_name(),
        }
    }

    /// The protocol that the group speaks.
    pub(super) const fn protocol(&self) -> Protocol {
        match &self.kind {
            Kind::Classic(_) => Protocol::Classic,
            Kind::Consumer(_) => Protocol::Consumer,
        }
    }

    pub(super) fn history(&self) -> &History {
        match &self.kind {
            Kind::Classic(classic) => &classic.history,
            Kind::Consumer(consumer) => &consumer.history,
        }
    }

    /// Tombstones that take a group without members out of the log, but for its offsets.
    pub(super) fn tombstones(&self) -> Vec<GroupRecord> {
        match &self.kind {
            // Also a group that has only offsets gets one, as in Kafka.
            Kind::Classic(_) => vec![GroupRecord::GroupMetadata {
                group_id: self.id.clone(),
                value: None,
            }],
            Kind::Consumer(consumer) => consumer.tombstones(),
        }
    }

    // Requests of members with the classic protocol.

    pub(super) fn join(&mut self, cx: &mut Context<'_>, joining: Joining) {
        if let Kind::Consumer(consumer) = &mut self.kind
            && consumer.members.is_empty()
        {
            // Nobody is there whom it would concern.
            let (records, history) = (consumer.tombstones(), std::mem::take(&mut consumer.history));
            consumer.append(cx, records);
            let mut classic = Classic::new(self.id.clone());
            classic.history = history;
            classic.state_timestamp = cx.now.timestamp;
            self.kind = Kind::Classic(Box::new(classic));
        }
        match &mut self.kind {
            Kind::Classic(classic) => {
                classic.join(cx, joining);
                let nobody = classic.state == State::Empty && classic.pending_members.is_empty();
                if classic.metadata.is_none() && !nobody {
                    classic.append_empty_metadata(cx);
                }
            }
            Kind::Consumer(consumer) => {
                let parked = joining.parked;
                match join_consumer_group(cx, consumer, joining) {
                    Ok((answer, classic)) => {
                        let after = cx.appends.newest();
                        cx.reply_after(after, parked.request_id, GroupResponse::JoinGroup(answer));
                        if let Some(classic) = classic {
                            self.kind = Kind::Classic(Box::new(classic));
                        }
                    }
                    Err((error_code, member_id)) => cx.refuse_join(parked, error_code, member_id),
                }
            }
        }
    }

    pub(super) fn sync(
        &mut self,
        cx: &mut Context<'_>,
        parked: Parked,
        request: &SyncGroupRequest,
    ) {
        match &mut self.kind {
            Kind::Classic(classic) => classic.sync(cx, parked, request),
            Kind::Consumer(consumer) => match consumer.sync(cx, request) {
                Ok(response) => {
                    let response = GroupResponse::SyncGroup(response);
                    cx.reply_after(consumer.last_append, parked.request_id, response);
                }
                Err(error_code) => cx.refuse_sync(parked, error_code),
            },
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        request_id: u64,
        request: &HeartbeatRequest,
    ) {
        let result = match &mut self.kind {
            Kind::Classic(classic) => classic.heartbeat(cx, request),
            Kind::Consumer(consumer) => consumer.classic_heartbeat(cx, request),
        };
        let response = HeartbeatResponse {
            error_code: result.err().unwrap_or_default(),
            ..Default::default()
        };
        cx.reply(request_id, GroupResponse::Heartbeat(response));
    }

    pub(super) fn leave(
        &mut self,
        cx: &mut Context<'_>,
        parked: Parked,
        request: &LeaveGroupRequest,
    ) {
        let version = parked.version;
        let (response, after) = match &mut self.kind {
            Kind::Classic(classic) => (classic.leave(cx, version, request), 0),
            Kind::Consumer(_) => {
                let response = self.leave_consumer_group(cx, version, request);
                (response, cx.appends.newest())
            }
        };
        cx.reply_after(
            after,
            parked.request_id,
            GroupResponse::LeaveGroup(response),
        );
    }

    fn leave_consumer_group(
        &mut self,
        cx: &mut Context<'_>,
        version: i16,
        request: &LeaveGroupRequest,
    ) -> LeaveGroupResponse {
        let Kind::Consumer(consumer) = &mut self.kind else {
            return LeaveGroupResponse::default();
        };
        let (mut leaving, mut causes) = (Vec::new(), Vec::new());
        let response =
            leave_response(
                version,
                request,
                |member_id, instance_id, reason| match consumer
                    .classic_leaver(member_id, instance_id)
                {
                    Ok(member_id) if leaving.contains(&member_id) => ErrorCode::UNKNOWN_MEMBER_ID,
                    Ok(member_id) => {
                        let who = consumer.members.get(&member_id).map(|member| member.who());
                        causes.extend(who.map(|who| Cause::Left {
                            who,
                            reason: reason.cloned(),
                        }));
                        leaving.push(member_id);
                        ErrorCode::NONE
                    }
                    Err(error_code) => error_code,
                },
            );
        self.remove(cx, &leaving, causes);
        response
    }

    // Requests of members with the consumer protocol.

    /// A member joins, leaves, or says that it is alive. A refusal changes nothing.
    pub(super) fn consumer_heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        client: &ClientInfo,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        if request.member_epoch < 0 {
            return self.consumer_leave(cx, request);
        }
        let (mut records, mut causes) = (Vec::new(), Vec::new());
        if let Kind::Classic(classic) = &mut self.kind {
            if request.member_epoch != 0 {
                return Err(not_a_consumer_group(&self.id));
            }
            // What the new group would refuse is found out before the old one is given up.
            ConsumerGroup::new(self.id.clone()).check_heartbeat(cx.config, request)?;
            let consumer = if classic.state == State::Empty {
                classic.disarm_all(cx);
                records.extend(classic.tombstone());
                let mut consumer = ConsumerGroup::new(self.id.clone());
                consumer.history = std::mem::take(&mut classic.history);
                consumer
            } else {
                let size = classic.members.len();
                if size >= cx.config.consumer_group_max_size {
                    let message = format!("the group has {size} members already");
                    return Err(Refusal::new(ErrorCode::GROUP_MAX_SIZE_REACHED, message));
                }
                let (consumer, upgraded) = upgrade(cx, classic)?;
                records = upgraded;
                causes.push(Cause::Upgraded);
                consumer
            };
            self.kind = Kind::Consumer(Box::new(consumer));
        }
        let Kind::Consumer(consumer) = &mut self.kind else {
            return Err(not_a_consumer_group(&self.id));
        };
        consumer.check_heartbeat(cx.config, request)?;
        Ok(consumer.heartbeat(cx, client, request, causes, records))
    }

    fn consumer_leave(
        &mut self,
        cx: &mut Context<'_>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let Kind::Consumer(consumer) = &mut self.kind else {
            return Err(not_a_consumer_group(&self.id));
        };
        let member_id = consumer.leaver(request)?;
        if request.instance_id.is_some() && request.member_epoch == LEAVE_STATIC_EPOCH {
            return Ok(consumer.leave_for_a_while(cx, &member_id));
        }
        let who = consumer.members.get(&member_id).map(|member| member.who());
        let causes = who
            .map(|who| Cause::Left { who, reason: None })
            .into_iter()
            .collect();
        self.remove(cx, &[member_id], causes);
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(request.member_id.clone()),
            member_epoch: request.member_epoch,
            ..Default::default()
        })
    }

    /// The append for which an answer about the members of a consumer group waits.
    pub(super) fn newest_append(&self, cx: &Context<'_>) -> u64 {
        match &self.kind {
            Kind::Consumer(consumer) => consumer.last_append,
            Kind::Classic(_) => cx.appends.newest(),
        }
    }

    /// Members of a consumer group are gone.
    fn remove(&mut self, cx: &mut Context<'_>, leaving: &[Str], mut causes: Vec<Cause>) {
        let Kind::Consumer(consumer) = &mut self.kind else {
            return;
        };
        if leaving.is_empty() {
            return;
        }
        if consumer.may_downgrade_without(cx.config, leaving) {
            causes.push(Cause::Downgraded);
            let classic = downgrade(cx, consumer, leaving, Vec::new(), causes);
            self.kind = Kind::Classic(Box::new(classic));
        } else {
            consumer.remove_members(cx, leaving, causes);
        }
    }

    /// The time of a member of a consumer group is up.
    pub(super) fn member_timer_fired(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &Str,
        timer: MemberTimer,
    ) {
        if let Kind::Consumer(consumer) = &mut self.kind
            && let Some(cause) = consumer.timer_fired(cx, member_id, timer)
        {
            self.remove(cx, std::slice::from_ref(member_id), vec![cause]);
        }
    }

    // Invariants.

    /// Asserts everything that must hold between two inputs.
    pub(super) fn check(&self, timers: &Timers) {
        assert_eq!(
            self.offsets.len(),
            self.offsets.iter().count(),
            "{}",
            self.id
        );
        match &self.kind {
            Kind::Classic(classic) => classic.check(timers),
            Kind::Consumer(consumer) => consumer.check(timers),
        }
    }

    /// How many timers the group has armed.
    pub(super) fn timers_count(&self) -> usize {
        match &self.kind {
            Kind::Classic(classic) => classic.timers_count(),
            Kind::Consumer(consumer) => consumer.timers_count(),
        }
    }

    /// Every parked request.
    pub(super) fn parked(&self) -> Vec<Parked> {
        match &self.kind {
            Kind::Classic(classic) => classic.parked().collect(),
            Kind::Consumer(_) => Vec::new(),
        }
    }

    /// Answers everything that is parked with an error.
    pub(super) fn refuse_parked(&mut self, cx: &mut Context<'_>, error_code: ErrorCode) {
        if let Kind::Classic(classic) = &mut self.kind {
            classic.refuse_parked(cx, error_code);
        }
    }
}

pub(super) fn not_a_consumer_group(group_id: &GroupId) -> Refusal {
    let message = format!("there is no consumer group {group_id}");
    Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message)
}
