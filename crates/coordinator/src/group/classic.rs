use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use tidelog_protocol::messages::join_group::JoinGroupResponseMember;
use tidelog_protocol::records::consumer_protocol::ConsumerProtocolSubscription;
use tidelog_protocol::records::group::classic::{GroupMetadataValue, MemberMetadata};
use tidelog_protocol::{Message, Reader};
use tidelog_types::{ErrorCode, GroupId, Str, Timestamp, TopicName};

use super::context::Context;
use super::history::{Cause, History, Outcome, Protocol as Spoken, Who};
use super::member::{Joining, Member, Parked, Protocol, Session};
use super::state::State;
use super::timers::{Timer, TimerId};
use super::{Effect, GroupRecord, release_if_empty};

/// The protocol type of consumers; other users of groups (Kafka Connect, schema registries) have their own.
pub(super) const CONSUMER: &str = "consumer";

/// A group whose leader assigns: what its record says, and the life of its members in memory.
#[derive(Debug)]
pub(super) struct Classic {
    pub(super) id: GroupId,

    // Durable: changed by `apply` alone.
    /// The newest generation that was written down.
    pub(super) metadata: Option<GroupMetadataValue>,

    // In memory.
    pub(super) state: State,
    pub(super) state_timestamp: Timestamp,
    pub(super) generation_id: i32,
    pub(super) protocol_type: Option<Str>,
    pub(super) protocol_name: Option<Str>,
    /// `None` also while the leader is gone and the rebalance that elects another is not over.
    pub(super) leader: Option<Str>,
    /// Boxed, since a map sets aside room for several: most groups have few members, or none.
    pub(super) members: BTreeMap<Str, Box<Member>>,
    /// Member ids by `group.instance.id`.
    pub(super) static_members: BTreeMap<Str, Str>,
    /// Member ids that were given out but not used yet (KIP-394).
    pub(super) pending_members: BTreeMap<Str, TimerId>,
    /// How many members know each protocol.
    pub(super) supporters: HashMap<Str, usize>,
    /// How many members have a JoinGroup request parked.
    pub(super) awaiting_join: usize,
    /// How many members owe a SyncGroup request.
    pub(super) owing_sync: usize,
    pub(super) sync_timer: Option<TimerId>,
    /// What the members of the newest generation consume, in order, as far as the coordinator can tell.
    pub(super) subscribed_topics: Option<Box<[TopicName]>>,
    /// How many members have ever joined.
    pub(super) joined: u64,
    /// The newest append with a generation of this group.
    pub(super) last_append: u64,
    pub(super) history: History,
}

impl Classic {
    /// A group that nobody has heard of.
    pub(super) fn new(id: GroupId) -> Self {
        Self {
            id,
            metadata: None,
            state: State::Empty,
            state_timestamp: Timestamp::NONE,
            generation_id: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            supporters: HashMap::new(),
            awaiting_join: 0,
            owing_sync: 0,
            sync_timer: None,
            subscribed_topics: None,
            joined: 0,
            last_append: 0,
            history: History::default(),
        }
    }

    /// The only place that changes what survives: used alike when records are appended and when they are loaded.
    pub(super) fn apply(&mut self, value: Option<&GroupMetadataValue>) {
        self.metadata = value.map(|value| self.detach_metadata(value));
    }

    /// A copy that keeps no buffer of a request or of the log alive.
    fn detach_metadata(&self, value: &GroupMetadataValue) -> GroupMetadataValue {
        let detach_member = |value: &MemberMetadata| {
            let known = self.members.get(&value.member_id).map(Box::as_ref);
            let protocols = known.iter().flat_map(|known| &known.protocols);
            let mut subscriptions = protocols.map(|protocol| &protocol.metadata);
            let subscription = subscriptions.find(|known| **known == value.subscription);
            let instance_id = known.and_then(|known| known.instance_id.as_ref());
            MemberMetadata {
                member_id: share(&value.member_id, known.map(|known| &known.member_id)),
                group_instance_id: value
                    .group_instance_id
                    .as_ref()
                    .map(|id| share(id, instance_id)),
                client_id: share(&value.client_id, known.map(|known| &known.client_id)),
                client_host: share(&value.client_host, known.map(|known| &known.client_host)),
                rebalance_timeout: value.rebalance_timeout,
                session_timeout: value.session_timeout,
                subscription: match subscription {
                    Some(known) => known.clone(),
                    None => Bytes::copy_from_slice(&value.subscription),
                },
                assignment: Bytes::copy_from_slice(&value.assignment),
            }
        };
        let leader = |id: &Str| share(id, self.members.get(id).map(|known| &known.member_id));
        let protocol = |name: &Str| share(name, self.protocol_name.as_ref());
        GroupMetadataValue {
            protocol_type: share(&value.protocol_type, self.protocol_type.as_ref()),
            generation: value.generation,
            protocol: value.protocol.as_ref().map(protocol),
            leader: value.leader.as_ref().map(leader),
            current_state_timestamp: value.current_state_timestamp,
            members: value.members.iter().map(detach_member).collect(),
        }
    }

    /// Brings the members to life that the records tell of.
    pub(super) fn restore(&mut self, cx: &mut Context<'_>) {
        let Some(metadata) = self.metadata.clone() else {
            return;
        };
        self.state_timestamp = metadata.current_state_timestamp;
        self.generation_id = metadata.generation;
        self.protocol_type = Some(metadata.protocol_type).filter(|name| !name.is_empty());
        self.protocol_name = metadata.protocol.clone();
        if !metadata.members.is_empty() {
            self.state = State::Stable;
        }
        for member in metadata.members {
            if self.members.contains_key(&member.member_id) {
                continue;
            }
            // Only the metadata for the selected protocol is written down; the others come with the next JoinGroup.
            let name = metadata.protocol.clone().unwrap_or_default();
            let member = Member {
                instance_id: member.group_instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: match member.rebalance_timeout {
                    ..0 => member.session_timeout,
                    millis => millis,
                },
                session_timeout_ms: member.session_timeout,
                protocols: vec![Protocol {
                    name,
                    metadata: member.subscription,
                }],
                assignment: member.assignment,
                joined: 0,
                is_new: false,
                awaiting_join: None,
                awaiting_sync: None,
                owes_sync: false,
                session: Session {
                    deadline: cx.now.instant,
                    timer: None,
                },
                member_id: member.member_id,
            };
            let (member_id, timeout_ms) = (member.member_id.clone(), member.session_timeout_ms);
            self.insert_member(member);
            self.renew_session(cx, &member_id, timeout_ms);
        }
        self.leader = metadata
            .leader
            .filter(|leader| self.members.contains_key(leader));
        self.subscribed_topics = self.compute_subscribed_topics();
        // A generation that nobody leads, or that is larger than it may be by now, is not worth going on with.
        let is_complete = self.leader.is_some() && self.protocol_name.is_some();
        let is_too_large = self.members.len() > cx.config.group_max_size;
        if !self.members.is_empty() && (is_too_large || !is_complete) {
            self.prepare_rebalance(cx, Cause::TakenOver);
        }
    }

    /// The newest generation as a record, with `assignment` for each member.
    pub(super) fn metadata_record(
        &self,
        assignment: impl Fn(&Member) -> Bytes,
    ) -> GroupMetadataValue {
        let protocol_name = self.protocol_name.clone();
        let name = protocol_name.clone().unwrap_or_default();
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation_id,
            protocol: protocol_name,
            leader: self.leader.clone(),
            current_state_timestamp: self.state_timestamp,
            members: self
                .members
                .values()
                .map(|member| MemberMetadata {
                    member_id: member.member_id.clone(),
                    group_instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    rebalance_timeout: member.rebalance_timeout_ms,
                    session_timeout: member.session_timeout_ms,
                    subscription: member.metadata(&name),
                    assignment: assignment(member),
                })
                .collect(),
        }
    }

    /// Makes a generation durable, and lets the group go on in memory as if it already were.
    pub(super) fn append_metadata(
        &mut self,
        cx: &mut Context<'_>,
        value: GroupMetadataValue,
    ) -> u64 {
        let record = self.apply_metadata(value);
        let append_id = cx
            .appends
            .push(cx.after(cx.config.offset_commit_timeout_ms));
        self.last_append = append_id;
        let records = vec![record];
        cx.effects.push(Effect::Append { append_id, records });
        append_id
    }

    /// Lets a generation take effect; gives the record that is to be appended.
    pub(super) fn apply_metadata(&mut self, value: GroupMetadataValue) -> GroupRecord {
        self.apply(Some(&value));
        GroupRecord::GroupMetadata {
            group_id: self.id.clone(),
            value: Some(value),
        }
    }

    /// What takes the group out of the log, if it is there.
    pub(super) fn tombstone(&self) -> Option<GroupRecord> {
        self.metadata.as_ref()?;
        Some(GroupRecord::GroupMetadata {
            group_id: self.id.clone(),
            value: None,
        })
    }

    /// Writes down that the group exists: it has no generation yet.
    pub(super) fn append_empty_metadata(&mut self, cx: &mut Context<'_>) -> u64 {
        let current_state_timestamp = self.state_timestamp;
        self.append_metadata(
            cx,
            GroupMetadataValue {
                current_state_timestamp,
                ..Default::default()
            },
        )
    }

    pub(super) fn transition(&mut self, cx: &Context<'_>, state: State) {
        self.state = state;
        self.state_timestamp = cx.now.timestamp;
    }

    // Members.

    /// Takes in a member that is set up already.
    pub(super) fn insert_member(&mut self, mut member: Member) {
        self.joined += 1;
        member.joined = self.joined;
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member.member_id.clone());
        }
        for protocol in &member.protocols {
            *self.supporters.entry(protocol.name.clone()).or_default() += 1;
        }
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.owing_sync += usize::from(member.owes_sync);
        self.members
            .insert(member.member_id.clone(), Box::new(member));
    }

    /// Takes a member out of all books, with its requests still parked.
    pub(super) fn take_member(&mut self, cx: &mut Context<'_>, member_id: &str) -> Option<Member> {
        let mut member = self.members.remove(member_id)?;
        release_if_empty(&mut self.members);
        if let Some(timer) = member.session.timer.take() {
            cx.timers.disarm(timer);
        }
        self.forget_protocols(&member.protocols);
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        self.owing_sync -= usize::from(member.owes_sync);
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id) == Some(&member.member_id)
        {
            self.static_members.remove(instance_id);
        }
        Some(*member)
    }

    /// Removes a member. Its parked requests are answered with `UNKNOWN_MEMBER_ID`, so that a client that is still there
    /// joins anew.
    pub(super) fn remove_member(&mut self, cx: &mut Context<'_>, member_id: &str) {
        let Some(member) = self.take_member(cx, member_id) else {
            return;
        };
        if self.leader.as_ref() == Some(&member.member_id) {
            self.leader = None;
        }
        if let Some(parked) = member.awaiting_join {
            cx.refuse_join(parked, ErrorCode::UNKNOWN_MEMBER_ID, Str::EMPTY);
        }
        if let Some(parked) = member.awaiting_sync {
            cx.refuse_sync(parked, ErrorCode::UNKNOWN_MEMBER_ID);
        }
    }

    /// Forgets a member id that was given out. False if it was not, or has been used.
    pub(super) fn remove_pending_member(&mut self, cx: &mut Context<'_>, member_id: &str) -> bool {
        let timer = self.pending_members.remove(member_id);
        release_if_empty(&mut self.pending_members);
        if let Some(timer) = timer {
            cx.timers.disarm(timer);
        }
        timer.is_some()
    }

    /// Takes over what a member says of itself when it joins again, and parks its request.
    pub(super) fn update_member(&mut self, cx: &mut Context<'_>, joining: Joining) {
        let Some(member) = self.members.get_mut(&joining.member_id) else {
            return;
        };
        let former = std::mem::replace(&mut member.protocols, joining.protocols);
        for protocol in &member.protocols {
            *self.supporters.entry(protocol.name.clone()).or_default() += 1;
        }
        member.rebalance_timeout_ms = joining.rebalance_timeout_ms;
        member.session_timeout_ms = joining.session_timeout_ms;
        member.client_id = joining.client_id;
        member.client_host = joining.client_host;
        match member.awaiting_join.replace(joining.parked) {
            // The client has given up on its former request and sent another.
            Some(former) => {
                cx.refuse_join(former, ErrorCode::REBALANCE_IN_PROGRESS, joining.member_id);
            }
            None => self.awaiting_join += 1,
        }
        self.forget_protocols(&former);
    }

    // Why it rebalances.

    /// Notes what leads to the next generation.
    pub(super) fn note_cause(&mut self, cx: &mut Context<'_>, cause: Cause) {
        let epoch = self.generation_id.checked_add(1).unwrap_or(1);
        let max = cx.config.history_max;
        let is_new = self
            .history
            .cause(cx.now, max, Spoken::Classic, epoch, cause);
        self.history.set_members(self.members.len());
        if is_new {
            cx.report(&self.id, &self.history);
        }
    }

    /// Notes how the rebalance has ended.
    pub(super) fn note_end(&mut self, cx: &mut Context<'_>, outcome: Outcome) {
        let members = self.members.len();
        if self
            .history
            .finish(cx.now, outcome, Some(members))
            .is_some()
        {
            cx.report(&self.id, &self.history);
        }
    }

    /// Notes that a member has done its part, or never will.
    pub(super) fn note_wait(&mut self, cx: &Context<'_>, member_id: &str, gave_up: bool) {
        if let Some(member) = self.members.get(member_id) {
            self.history.waited(cx.now, || member.who(), gave_up);
        }
    }

    /// What the history says of a member, also of one that is no member yet.
    pub(super) fn who(&self, member_id: &Str) -> Who {
        match self.members.get(member_id) {
            Some(member) => member.who(),
            None => Who {
                member_id: member_id.clone(),
                instance_id: None,
                client_id: Str::EMPTY,
                client_host: Str::EMPTY,
            },
        }
    }

    fn forget_protocols(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.supporters.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supporters.remove(&protocol.name);
                }
            }
        }
    }

    /// Whether a request may speak for a member.
    pub(super) fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&Str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                // KIP-345: another process has taken over the instance id.
                Some(current) if *current != *member_id => {
                    return Err(ErrorCode::FENCED_INSTANCE_ID);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        }
    }

    /// Whether the sender of a commit may speak for the group.
    pub(super) fn validate_commit(
        &self,
        member_id: &Str,
        instance_id: Option<&Str>,
        generation_id: i32,
    ) -> Result<(), ErrorCode> {
        if generation_id < 0 && self.state == State::Empty {
            // A consumer that assigns partitions to itself, or an administrator.
            return Ok(());
        }
        if generation_id < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.validate_member(member_id, instance_id)?;
        if generation_id != self.generation_id {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        match self.state {
            // The member knows of the new generation, but may not own the partitions any more.
            State::CompletingRebalance { .. } => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    /// The session of a member starts anew, and lasts for `timeout_ms`.
    pub(super) fn renew_session(&mut self, cx: &mut Context<'_>, member_id: &str, timeout_ms: i32) {
        let deadline = cx.after(timeout_ms);
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        member.session.deadline = deadline;
        // A timer that fires earlier than needed is armed again then.
        if member
            .session
            .timer
            .is_none_or(|timer| timer.deadline > deadline)
        {
            self.arm_session(cx, member_id);
        }
    }

    /// Arms the timer of a member's session for its deadline.
    pub(super) fn arm_session(&mut self, cx: &mut Context<'_>, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let (group_id, member_id) = (self.id.clone(), member.member_id.clone());
        let timer = cx.timers.arm(
            member.session.deadline,
            Timer::Session {
                group_id,
                member_id,
            },
        );
        if let Some(former) = member.session.timer.replace(timer) {
            cx.timers.disarm(former);
        }
    }

    /// Like [`Self::renew_session`], for the session that the member has asked for.
    pub(super) fn renew_own_session(&mut self, cx: &mut Context<'_>, member_id: &str) {
        if let Some(timeout_ms) = self.members.get(member_id).map(|m| m.session_timeout_ms) {
            self.renew_session(cx, member_id, timeout_ms);
        }
    }

    /// The longest time that a member needs for joining again.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        self.members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
    }

    // Protocols.

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type
            .as_ref()
            .is_some_and(|name| *name == CONSUMER)
    }

    /// Whether a member with these protocols could take part in the next generation.
    pub(super) fn supports(&self, joining: &Joining) -> bool {
        if matches!(self.state, State::Empty) {
            return !joining.protocol_type.is_empty() && !joining.protocols.is_empty();
        }
        let supporters = |name: &Str| self.supporters.get(name).copied().unwrap_or(0);
        self.protocol_type.as_ref() == Some(&joining.protocol_type)
            && joining
                .protocols
                .iter()
                .any(|p| supporters(&p.name) == self.members.len())
    }

    /// Of the protocols that all members know, the one that most members like best.
    pub(super) fn select_protocol(&self) -> Option<Str> {
        let everybody = self.members.len();
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut known = member.protocols.iter().map(|protocol| &protocol.name);
            if let Some(name) = known.find(|name| self.supporters.get(*name) == Some(&everybody)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        // A tie goes to the first name in the alphabet, so that the outcome does not depend on member ids.
        let (name, _) = votes.into_iter().rev().max_by_key(|(_, votes)| *votes)?;
        Some(name.clone())
    }

    /// What the members consume: known for consumers whose subscriptions can be read.
    pub(super) fn compute_subscribed_topics(&self) -> Option<Box<[TopicName]>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(Box::default());
        }
        let protocol_name = self.protocol_name.as_ref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let subscription = parse_subscription(&member.metadata(protocol_name))?;
            topics.extend(subscription.topics.iter().map(TopicName::detach));
        }
        Some(topics.into_iter().collect())
    }

    /// Whether a member consumes the topic, or may do so.
    pub(super) fn is_subscribed_to(&self, topic: &TopicName) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.binary_search(topic).is_ok(),
            None => self.uses_consumer_protocol(),
        }
    }

    // The shape of answers.

    /// All members as the leader needs to know them.
    pub(super) fn members_for_leader(&self) -> Vec<JoinGroupResponseMember> {
        let name = self.protocol_name.clone().unwrap_or_default();
        self.members
            .values()
            .map(|member| JoinGroupResponseMember {
                member_id: member.member_id.clone(),
                group_instance_id: member.instance_id.clone(),
                metadata: member.metadata(&name),
            })
            .collect()
    }

    /// Answers everything that is parked with an error.
    pub(super) fn refuse_parked(&mut self, cx: &mut Context<'_>, error_code: ErrorCode) {
        for member in self.members.values_mut() {
            if let Some(parked) = member.awaiting_join.take() {
                cx.refuse_join(parked, error_code, member.member_id.clone());
            }
            if let Some(parked) = member.awaiting_sync.take() {
                cx.refuse_sync(parked, error_code);
            }
        }
        self.awaiting_join = 0;
    }

    /// Nothing is waited for any more.
    pub(super) fn disarm_all(&mut self, cx: &mut Context<'_>) {
        let sessions = self.members.values_mut();
        let sessions = sessions.filter_map(|member| member.session.timer.take());
        let join = match self.state {
            State::PreparingRebalance { timer, .. } => Some(timer),
            _ => None,
        };
        let pending = std::mem::take(&mut self.pending_members).into_values();
        let timers = sessions
            .chain(pending)
            .chain(self.sync_timer.take())
            .chain(join);
        timers.for_each(|timer| cx.timers.disarm(timer));
    }

    /// Every parked request, for the invariants.
    pub(super) fn parked(&self) -> impl Iterator<Item = Parked> + '_ {
        self.members
            .values()
            .flat_map(|m| m.awaiting_join.into_iter().chain(m.awaiting_sync))
    }
}

/// Out of the network buffer; the copy that is there already, if it says the same.
fn share(text: &Str, known: Option<&Str>) -> Str {
    match known {
        Some(known) if known == text => known.clone(),
        _ => text.detach(),
    }
}

/// The subscription inside a consumer's metadata. Version 0 is the beginning of every version.
pub(super) fn parse_subscription(metadata: &Bytes) -> Option<ConsumerProtocolSubscription> {
    let mut reader = Reader::new(metadata.clone());
    reader.i16().ok()?;
    ConsumerProtocolSubscription::read(&mut reader, 0).ok()
}
