use std::collections::BTreeSet;

use tidelog_protocol::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use tidelog_protocol::records::group::consumer::ConsumerGroupMemberMetadataValue;
use tidelog_types::{ErrorCode, Str, TopicName};

use super::member::target_value;
use super::reconcile::is_subset;
use super::regexes::RegexChange;
use super::{Assigned, ConsumerGroup, LEAVE_STATIC_EPOCH, Member, MemberState, Refusal, request};
use crate::group::context::Context;
use crate::group::history::{Cause, Who};
use crate::group::{ClientInfo, Config, GroupRecord};

impl ConsumerGroup {
    /// Whether a heartbeat may be answered at all, whatever the group looks like.
    pub(in crate::group) fn validate_heartbeat(
        config: &Config,
        version: i16,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<(), Refusal> {
        request::validate(config, version, request)
    }

    /// Refuses a heartbeat, or nothing: then [`Self::heartbeat`] takes effect. Kept apart so that a refusal changes nothing,
    /// not even the kind of a group that a join would turn into a consumer group.
    pub(in crate::group) fn check_heartbeat(
        &self,
        config: &Config,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<(), Refusal> {
        let known = self.members.get(&request.member_id);
        if self.members.len() >= config.consumer_group_max_size && known.is_none() {
            return Err(Refusal::new(
                ErrorCode::GROUP_MAX_SIZE_REACHED,
                format!("the group has {} members already", self.members.len()),
            ));
        }
        let joins = request.member_epoch == 0;
        match &request.instance_id {
            None => match known {
                Some(member) => check_epoch(member, request)?,
                None if joins => {}
                None => return Err(unknown_member(&request.member_id)),
            },
            Some(instance_id) => {
                let holder = self.static_members.get(instance_id);
                let holder = holder.and_then(|id| self.members.get(id));
                match holder {
                    None if joins => {}
                    None => return Err(unknown_member(instance_id)),
                    // Only a member that is gone, or has said that it will be back, gives its name away.
                    Some(holder)
                        if joins && !holder.is_classic() && holder.epoch != LEAVE_STATIC_EPOCH =>
                    {
                        return Err(Refusal::new(
                            ErrorCode::UNRELEASED_INSTANCE_ID,
                            format!("{instance_id} is member {}", holder.member_id),
                        ));
                    }
                    Some(_) if joins => {}
                    Some(holder) => {
                        check_instance(holder, &request.member_id)?;
                        check_epoch(holder, request)?;
                    }
                }
            }
        }
        self.check_regex(request.subscribed_topic_regex.as_ref())
    }

    /// A member joins, or says that it is alive and what it owns. [`Self::check_heartbeat`] has let it through.
    pub(in crate::group) fn heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        client: &ClientInfo,
        request: &ConsumerGroupHeartbeatRequest,
        extra_causes: Vec<Cause>,
        mut records: Vec<GroupRecord>,
    ) -> ConsumerGroupHeartbeatResponse {
        let member_id = if request.member_id.is_empty() {
            cx.member_ids.next_uuid()
        } else {
            request.member_id.detach()
        };
        let replaced =
            self.replace_static(cx, &member_id, request.instance_id.as_ref(), &mut records);
        let before = self.members.get(&member_id);
        let former = before.map(|member| member.metadata.clone());
        let assigned_before = before
            .map(|member| member.assigned.clone())
            .unwrap_or_default();
        let metadata = updated(former.clone().unwrap_or_else(nobody), client, request);
        let change = Change {
            member_id: member_id.clone(),
            former,
            metadata,
            replaced,
            reason: None,
            extra_causes,
        };
        let has_changed = self.update_member(cx, change, &mut records);
        self.maybe_update_target(cx, &mut records);
        let owned = request.topic_partitions.as_deref();
        self.reconcile(cx, &member_id, has_changed, owned, &mut records);
        self.append(cx, records);
        let session_timeout_ms = self.session_timeout_ms(cx);
        self.renew_session(cx, &member_id, session_timeout_ms);
        self.note_progress(cx);

        let member = self
            .members
            .get(&member_id)
            .expect("it has just been put in");
        let is_full = request.member_epoch == 0
            || (request.rebalance_timeout_ms != -1
                && (request.subscribed_topic_names.is_some()
                    || request.subscribed_topic_regex.is_some())
                && request.topic_partitions.is_some());
        let settings = cx.view.group_settings(&self.id);
        ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id),
            member_epoch: member.epoch,
            heartbeat_interval_ms: settings
                .consumer_heartbeat_interval_ms
                .unwrap_or(cx.config.consumer_group_heartbeat_interval_ms),
            assignment: (is_full || member.assigned != assigned_before)
                .then(|| assignment(&member.assigned)),
            ..Default::default()
        }
    }

    /// Writes down what a member says of itself now, and lets the group epoch rise if that matters. True if the member
    /// subscribes to something else than before.
    pub(super) fn update_member(
        &mut self,
        cx: &mut Context<'_>,
        change: Change,
        records: &mut Vec<GroupRecord>,
    ) -> bool {
        let Change {
            member_id,
            former,
            metadata,
            replaced,
            reason,
            extra_causes,
        } = change;
        let is_new = former.is_none() && replaced.is_none();
        let old = former.clone().unwrap_or_else(nobody);
        let names_changed = metadata.subscribed_topic_names != old.subscribed_topic_names;
        let regex_of = |metadata: &ConsumerGroupMemberMetadataValue| {
            let regex = metadata.subscribed_topic_regex.clone();
            regex.filter(|regex| !regex.is_empty())
        };
        let (old_regex, new_regex) = (regex_of(&old), regex_of(&metadata));
        if former.as_ref() != Some(&metadata) {
            let record = GroupRecord::ConsumerGroupMember {
                group_id: self.id.clone(),
                member_id: member_id.clone(),
                value: Some(metadata.clone()),
            };
            self.push(records, record);
        }
        let regex = self.regex_changed(old_regex.as_ref(), new_regex.as_ref(), records);
        self.maybe_resolve_regexes(cx);

        let mut causes = extra_causes;
        if names_changed || regex == RegexChange::Resolved {
            let who = who(&member_id, &metadata);
            causes.push(match replaced {
                Some(old_member_id) => Cause::StaticMemberReplaced { who, old_member_id },
                None if is_new => Cause::Joined { who, reason },
                None => subscription_changed(who, &old, &metadata),
            });
        }
        self.update_epoch(cx, causes, records);
        names_changed || regex != RegexChange::None
    }

    /// A static member is back under another id: the new one takes over what the old one had. Gives the old id.
    pub(super) fn replace_static(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &Str,
        instance_id: Option<&Str>,
        records: &mut Vec<GroupRecord>,
    ) -> Option<Str> {
        let old_id = self.static_members.get(instance_id?)?.clone();
        if old_id == *member_id && self.members.get(&old_id)?.epoch != LEAVE_STATIC_EPOCH {
            return None;
        }
        let old = self.members.get(&old_id)?;
        let mut new = Member::new(member_id.clone());
        new.metadata = old.metadata.clone();
        new.state = old.state;
        new.epoch = 0;
        new.previous_epoch = 0;
        new.assigned = old.assigned.clone();
        new.pending_revocation = old.pending_revocation.clone();
        let target = self.targets.get(&old_id).cloned().unwrap_or_default();
        self.remove_member(cx, &old_id, records);
        let record = new.metadata_record(&self.id);
        self.push(records, record);
        let record = GroupRecord::ConsumerGroupTargetMember {
            group_id: self.id.clone(),
            member_id: member_id.clone(),
            value: Some(target_value(&target)),
        };
        self.push(records, record);
        let record = new.current_record(&self.id);
        self.push(records, record);
        Some(old_id)
    }

    /// The session of members that speak the consumer protocol.
    pub(super) fn session_timeout_ms(&self, cx: &Context<'_>) -> i32 {
        let settings = cx.view.group_settings(&self.id);
        settings
            .consumer_session_timeout_ms
            .unwrap_or(cx.config.consumer_group_session_timeout_ms)
    }
}

/// What a member says of itself by now.
pub(super) struct Change {
    pub(super) member_id: Str,
    /// What it said before; `None` if it is new.
    pub(super) former: Option<ConsumerGroupMemberMetadataValue>,
    pub(super) metadata: ConsumerGroupMemberMetadataValue,
    /// The id that a static member had before.
    pub(super) replaced: Option<Str>,
    /// Why it joins, in its own words.
    pub(super) reason: Option<Str>,
    /// What else has happened to the group.
    pub(super) extra_causes: Vec<Cause>,
}

/// A member that has said nothing of itself.
pub(super) fn nobody() -> ConsumerGroupMemberMetadataValue {
    Member::new(Str::EMPTY).metadata
}

fn who(member_id: &Str, metadata: &ConsumerGroupMemberMetadataValue) -> Who {
    Who {
        member_id: member_id.clone(),
        instance_id: metadata.instance_id.clone(),
        client_id: metadata.client_id.clone(),
        client_host: metadata.client_host.clone(),
    }
}

fn subscription_changed(
    who: Who,
    old: &ConsumerGroupMemberMetadataValue,
    new: &ConsumerGroupMemberMetadataValue,
) -> Cause {
    let topics = |metadata: &ConsumerGroupMemberMetadataValue| -> BTreeSet<TopicName> {
        metadata.subscribed_topic_names.iter().cloned().collect()
    };
    let (old, new) = (topics(old), topics(new));
    Cause::SubscriptionChanged {
        who,
        added: new.difference(&old).cloned().collect(),
        removed: old.difference(&new).cloned().collect(),
    }
}

/// A heartbeat says only what has changed.
fn updated(
    mut metadata: ConsumerGroupMemberMetadataValue,
    client: &ClientInfo,
    request: &ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupMemberMetadataValue {
    let take = |into: &mut Option<Str>, text: &Option<Str>| {
        if let Some(text) = text {
            *into = Some(text.detach());
        }
    };
    take(&mut metadata.instance_id, &request.instance_id);
    take(&mut metadata.rack_id, &request.rack_id);
    take(&mut metadata.server_assignor, &request.server_assignor);
    take(
        &mut metadata.subscribed_topic_regex,
        &request.subscribed_topic_regex,
    );
    if request.rebalance_timeout_ms != -1 {
        metadata.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    if let Some(names) = &request.subscribed_topic_names {
        metadata.subscribed_topic_names = sorted(names);
    }
    if metadata.client_id != client.client_id {
        metadata.client_id = client.client_id.detach();
    }
    if metadata.client_host != client.client_host {
        metadata.client_host = client.client_host.detach();
    }
    metadata.classic_member_metadata = None;
    metadata
}

/// Each name once, in order, in buffers of their own.
pub(super) fn sorted(names: &[TopicName]) -> Vec<TopicName> {
    let names: BTreeSet<TopicName> = names.iter().map(TopicName::detach).collect();
    names.into_iter().collect()
}

fn check_epoch(member: &Member, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let epoch = request.member_epoch;
    let owns_nothing = request.topic_partitions.as_ref().is_some_and(Vec::is_empty);
    if matches!(member.state, MemberState::Unknown(_)) && !owns_nothing {
        return Err(Refusal::new(
            ErrorCode::FENCED_MEMBER_EPOCH,
            "the state of the member is not known: it must give up everything and join again",
        ));
    }
    if epoch == 0 || epoch == member.epoch {
        return Ok(());
    }
    // The answer that told the member of its new epoch may have been lost.
    let has_missed_one = epoch < member.epoch
        && epoch == member.previous_epoch
        && is_subset(request.topic_partitions.as_deref(), &member.assigned);
    if has_missed_one {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::FENCED_MEMBER_EPOCH,
        format!(
            "the member is in epoch {}, not {epoch}: it must give up everything and join again",
            member.epoch
        ),
    ))
}

/// Whether the member of that id is still the one that has the name of the static member.
pub(super) fn check_instance(holder: &Member, member_id: &Str) -> Result<(), Refusal> {
    if holder.member_id == *member_id {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::FENCED_INSTANCE_ID,
        format!("{} has taken over", holder.member_id),
    ))
}

pub(super) fn unknown_member(member_id: &Str) -> Refusal {
    let message = format!("{member_id} is not a member of the group");
    Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, message)
}

fn assignment(assigned: &Assigned) -> Assignment {
    let topics = assigned.iter();
    Assignment {
        topic_partitions: topics
            .map(|(topic_id, partitions)| TopicPartitions {
                topic_id: *topic_id,
                partitions: partitions.keys().copied().collect(),
            })
            .collect(),
    }
}
