mod events;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_protocol::messages::consumer_group_describe::ConsumerGroupDescribeResponse;
use tidelog_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use tidelog_protocol::messages::delete_groups::{DeletableGroupResult, DeleteGroupsResponse};
use tidelog_protocol::messages::describe_groups::DescribeGroupsResponse;
use tidelog_protocol::messages::join_group::JoinGroupRequest;
use tidelog_protocol::messages::list_groups::ListGroupsResponse;
use tidelog_protocol::messages::offset_commit::OffsetCommitRequest;
use tidelog_types::{ErrorCode, GroupId, LeaderEpoch, Now, ProducerId, Str};

use super::admin::{describe_group, list_groups};
use super::appends::Appends;
use super::classic::Classic;
use super::consumer::{ConsumerGroup, Refusal, TopicHashes, describe_nobody, refuse_heartbeat};
use super::context::Context;
use super::group::{Group, Kind, not_a_consumer_group};
use super::member::{Joining, Parked};
use super::member_ids::MemberIds;
use super::offsets::fetch_from_nobody;
use super::request::{client_error, refuse_commit};
use super::sync::leave_response;
use super::timers::{Timer, Timers};
use super::view::NothingYet;
use super::{
    ClientInfo, ClusterView, Config, Effect, GroupRecord, GroupRequest, GroupResponse, Input,
    Rebalance,
};

/// From this version of OffsetCommit on, a group that does not exist has an error of its own (KIP-848).
const GROUP_ID_NOT_FOUND_FROM: i16 = 9;

/// Every group of one partition of `__consumer_offsets`.
///
/// Feed it the records of the partition with [`replay`](Self::replay), then [`Input::Loaded`]; from then on requests. See the
/// [module](super) for how it works.
#[derive(Debug)]
pub struct GroupCoordinator {
    config: Config,
    epoch: LeaderEpoch,
    phase: Phase,
    groups: BTreeMap<GroupId, Group>,
    /// Which groups have offsets in the open transactions of a producer.
    transactions: BTreeMap<ProducerId, BTreeSet<GroupId>>,
    timers: Timers,
    appends: Appends,
    member_ids: MemberIds,
    view: Arc<dyn ClusterView>,
    topic_hashes: TopicHashes,
    /// The version of the view in which topics were last created.
    new_topics_version: i64,
    /// The newest append that removed a group: whoever asks for a group that is not there waits for it.
    last_removal: u64,
    /// The append to which belongs what is replayed; 0 if that is committed.
    replayed_append: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Loading,
    Active,
    /// The shard lives elsewhere, or is to be loaded anew.
    Unloaded,
}

impl GroupCoordinator {
    /// A shard that nothing has been loaded into. `epoch` is the leader epoch of the partition under which it works.
    pub fn new(now: Now, config: Config, epoch: LeaderEpoch) -> Self {
        let member_ids = MemberIds::new(config.seed, epoch);
        let mut timers = Timers::default();
        timers.arm(
            now.instant + events::retention_check_interval(&config),
            Timer::Retention,
        );
        Self {
            config,
            epoch,
            phase: Phase::Loading,
            groups: BTreeMap::new(),
            transactions: BTreeMap::new(),
            timers,
            appends: Appends::default(),
            member_ids,
            view: Arc::new(NothingYet),
            topic_hashes: TopicHashes::default(),
            new_topics_version: -1,
            last_removal: 0,
            replayed_append: 0,
        }
    }

    /// The leader epoch under which the shard works.
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// How many groups there are.
    pub fn groups_count(&self) -> usize {
        self.groups.len()
    }

    /// What is replayed from now on lies beyond the high watermark: it is in the log, and may yet be lost. Gives the id of the append
    /// as which it counts, for [`Input::Committed`]; until then nobody hears of it.
    pub fn replay_uncommitted(&mut self, now: Now) -> u64 {
        assert_eq!(self.phase, Phase::Loading, "a shard is loaded once");
        self.replayed_append = self.push_append(now);
        self.replayed_append
    }

    /// Takes in one record of the log, in the order of the log. `producer_id` is that of the batch if it is transactional,
    /// else [`ProducerId::NONE`]: offsets in a transaction count once it is committed.
    pub fn replay(&mut self, producer_id: ProducerId, record: &GroupRecord) {
        let group_id = record.group_id();
        if !self.groups.contains_key(group_id) {
            if record.is_tombstone() {
                return;
            }
            let group_id = group_id.detach();
            self.groups.insert(group_id.clone(), Group::new(group_id));
        }
        let group = self
            .groups
            .get_mut(group_id)
            .expect("inserted if it was missing");
        group.apply(producer_id, record);
        group.note_append(record, self.replayed_append);
        if record.is_tombstone() && group.is_void() {
            self.last_removal = self.last_removal.max(self.replayed_append);
            if self.phase == Phase::Active {
                assert!(group.is_empty(), "only groups without members are removed");
            }
            if let Kind::Classic(classic) = &mut group.kind {
                for timer in std::mem::take(&mut classic.pending_members).into_values() {
                    self.timers.disarm(timer);
                }
            }
            self.groups.remove(group_id);
        } else if producer_id != ProducerId::NONE {
            self.transactions
                .entry(producer_id)
                .or_default()
                .insert(group_id.detach());
        }
    }

    /// Takes in the marker that ends a transaction of `producer_id` in this partition.
    pub fn replay_end_transaction(&mut self, producer_id: ProducerId, committed: bool) {
        for group_id in self.transactions.remove(&producer_id).unwrap_or_default() {
            if let Some(group) = self.groups.get_mut(&group_id) {
                group.offsets.end_transaction(producer_id, committed);
                group.last_append = group.last_append.max(self.replayed_append);
            }
        }
    }

    /// Takes in a marker that was appended just now. If it concerns a group, gives the id of the append as which it counts, for
    /// [`Input::Committed`].
    pub fn end_transaction(
        &mut self,
        now: Now,
        producer_id: ProducerId,
        committed: bool,
    ) -> Option<u64> {
        if !self.transactions.contains_key(&producer_id) {
            return None;
        }
        let append_id = self.push_append(now);
        self.replayed_append = append_id;
        self.replay_end_transaction(producer_id, committed);
        self.replayed_append = 0;
        Some(append_id)
    }

    fn push_append(&mut self, now: Now) -> u64 {
        let timeout_ms = self.config.offset_commit_timeout_ms.max(0).unsigned_abs();
        let timeout = Duration::from_millis(timeout_ms.into());
        self.appends.push(now.instant + timeout)
    }

    /// Handles one input; what is to be done is added to `effects`, in no particular order but that of the appends.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Loaded => self.loaded(now, effects),
            Input::Request {
                request_id,
                version,
                client,
                request,
            } => {
                self.request(now, request_id, version, &client, request, effects);
            }
            Input::Committed { append_id } => self.committed(now, append_id, effects),
            Input::AppendFailed { error } => self.unload(now, client_error(error), effects),
            Input::TopicsDeleted { topics } => self.topics_deleted(now, &topics, effects),
            Input::ClusterChanged { view, changes } => self.cluster_changed(view, &changes),
            Input::RegexesResolved {
                group_id,
                version,
                resolved,
            } => self.regexes_resolved(now, &group_id, version, resolved, effects),
            Input::Timeout => self.timeout(now, effects),
            Input::Unload => self.unload(now, ErrorCode::NOT_COORDINATOR, effects),
        }
    }

    /// When the shard wants [`Input::Timeout`].
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Active => [self.timers.deadline(), self.appends.deadline()]
                .into_iter()
                .flatten()
                .min(),
            Phase::Loading | Phase::Unloaded => None,
        }
    }

    /// What is durable, as the shortest list of records that restores it. Open transactions are left out.
    pub fn records(&self) -> Vec<GroupRecord> {
        self.groups.values().flat_map(Group::records).collect()
    }

    /// Why a group rebalanced, the newest time last; `None` if there is no such group. What happened before this coordinator
    /// took over is not known.
    pub fn explain<'a>(
        &'a self,
        group_id: &GroupId,
    ) -> Option<impl Iterator<Item = &'a Rebalance> + use<'a>> {
        Some(self.groups.get(group_id)?.history().iter())
    }

    /// Asserts every invariant. Costs a walk over everything, so it is for tests.
    ///
    /// # Panics
    ///
    /// If an invariant is broken.
    pub fn check(&self) {
        let mut request_ids = BTreeSet::new();
        let mut parked = |request_id| {
            assert!(
                request_ids.insert(request_id),
                "request {request_id} is parked twice"
            );
        };
        let mut timers = usize::from(self.phase != Phase::Unloaded);
        for (group_id, group) in &self.groups {
            assert_eq!(*group_id, group.id);
            if self.phase == Phase::Active {
                group.check(&self.timers);
            }
            for waiting in group.parked() {
                parked(waiting.request_id);
            }
            timers += group.timers_count();
        }
        assert_eq!(timers, self.timers.len(), "a timer belongs to nobody");
        self.appends.answers().for_each(parked);
    }

    // Inputs.

    fn loaded(&mut self, now: Now, effects: &mut Vec<Effect>) {
        assert_eq!(self.phase, Phase::Loading, "a shard is loaded once");
        self.phase = Phase::Active;
        self.replayed_append = 0;
        self.groups.retain(|_, group| {
            if group.is_void() {
                self.last_removal = self.last_removal.max(group.last_append);
            }
            !group.is_void()
        });
        let (groups, mut cx) = self.split(now, effects);
        for group in groups.values_mut() {
            group.restore(&mut cx);
        }
    }

    fn request(
        &mut self,
        now: Now,
        request_id: u64,
        version: i16,
        client: &ClientInfo,
        request: GroupRequest,
        effects: &mut Vec<Effect>,
    ) {
        let refusal = match self.phase {
            Phase::Loading => Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            Phase::Unloaded => Some(ErrorCode::NOT_COORDINATOR),
            Phase::Active => {
                refuse_without_protocol(version, &request).or_else(|| refuse_group_id(&request))
            }
        };
        if let Some(error_code) = refusal {
            let response = request.error_response(error_code, version);
            effects.push(Effect::Reply {
                request_id,
                response,
            });
            return;
        }
        let parked = Parked {
            request_id,
            version,
        };
        match request {
            GroupRequest::JoinGroup(request) => self.join(now, parked, client, &request, effects),
            GroupRequest::ConsumerGroupHeartbeat(request) => {
                self.consumer_heartbeat(now, parked, client, &request, effects);
            }
            GroupRequest::ConsumerGroupDescribe(request) => {
                self.consumer_describe(now, request_id, &request.group_ids, effects);
            }
            GroupRequest::OffsetCommit(request) => self.commit(now, parked, &request, effects),
            GroupRequest::DeleteGroups(request) => {
                self.delete_groups(now, request_id, &request.groups_names, effects);
            }
            GroupRequest::ListGroups(request) => {
                let groups = list_groups(&self.groups, &request);
                let response = ListGroupsResponse {
                    groups,
                    ..Default::default()
                };
                let response = GroupResponse::ListGroups(response);
                effects.push(Effect::Reply {
                    request_id,
                    response,
                });
            }
            GroupRequest::DescribeGroups(request) => {
                let group_ids = request.groups.iter();
                let groups = group_ids
                    .map(|id| describe_group(&self.groups, id, version))
                    .collect();
                let response = DescribeGroupsResponse {
                    groups,
                    ..Default::default()
                };
                let response = GroupResponse::DescribeGroups(response);
                let group_ids = request.groups.iter();
                let appends = group_ids.filter_map(|id| match &self.groups.get(id)?.kind {
                    Kind::Classic(classic) => Some(classic.last_append),
                    Kind::Consumer(_) => None,
                });
                let after = appends.max().unwrap_or(0);
                let (_, mut cx) = self.split(now, effects);
                cx.reply_after(after, request_id, response);
            }
            request => self.request_to_group(now, parked, &request, effects),
        }
    }

    /// A request about one group that must exist.
    fn request_to_group(
        &mut self,
        now: Now,
        parked: Parked,
        request: &GroupRequest,
        effects: &mut Vec<Effect>,
    ) {
        let last_removal = self.last_removal;
        let (groups, mut cx) = self.split(now, effects);
        let group = request
            .group_id()
            .and_then(|group_id| groups.get_mut(group_id));
        let Parked {
            request_id,
            version,
        } = parked;
        match (request, group) {
            (GroupRequest::SyncGroup(request), Some(group)) => {
                group.sync(&mut cx, parked, request);
            }
            (GroupRequest::Heartbeat(request), Some(group)) => {
                group.heartbeat(&mut cx, request_id, request);
            }
            (GroupRequest::LeaveGroup(request), Some(group)) => {
                group.leave(&mut cx, parked, request);
            }
            (GroupRequest::LeaveGroup(request), None) => {
                let unknown =
                    |_: &Str, _: Option<&Str>, _: Option<&Str>| ErrorCode::UNKNOWN_MEMBER_ID;
                let response = leave_response(version, request, unknown);
                cx.reply(request_id, GroupResponse::LeaveGroup(response));
            }
            (
                GroupRequest::OffsetFetch {
                    group: request,
                    require_stable,
                },
                group,
            ) => {
                // An offset that is not committed may yet be lost; whoever has seen it must not be set back.
                let (response, after) = match group {
                    Some(group) => (
                        group.fetch_offsets(request, *require_stable),
                        group.last_append,
                    ),
                    None => (fetch_from_nobody(request), last_removal),
                };
                cx.reply_after(after, request_id, GroupResponse::OffsetFetch(response));
            }
            (GroupRequest::OffsetDelete(request), Some(group)) => {
                group.delete_offsets(&mut cx, request_id, request);
            }
            (GroupRequest::OffsetDelete(_), None) => {
                let response = request.error_response(ErrorCode::GROUP_ID_NOT_FOUND, version);
                cx.reply(request_id, response);
            }
            (request, _) => {
                let response = request.error_response(ErrorCode::UNKNOWN_MEMBER_ID, version);
                cx.reply(request_id, response);
            }
        }
    }

    fn join(
        &mut self,
        now: Now,
        parked: Parked,
        client: &ClientInfo,
        request: &JoinGroupRequest,
        effects: &mut Vec<Effect>,
    ) {
        let groups_max = self.config.groups_max;
        let (groups, mut cx) = self.split(now, effects);
        let is_new = !groups.contains_key(&request.group_id);
        let session_timeout_ms = request.session_timeout_ms;
        let metadata_bytes: usize = request.protocols.iter().map(|p| p.metadata.len()).sum();
        let refusal = if session_timeout_ms < cx.config.group_min_session_timeout_ms
            || session_timeout_ms > cx.config.group_max_session_timeout_ms
        {
            Some(ErrorCode::INVALID_SESSION_TIMEOUT)
        } else if is_new && !request.member_id.is_empty() {
            Some(ErrorCode::UNKNOWN_MEMBER_ID)
        } else if metadata_bytes > cx.config.append_bytes_max {
            // No generation with this member could ever be written down.
            Some(ErrorCode::UNKNOWN_SERVER_ERROR)
        } else if is_new && groups.len() >= groups_max {
            Some(ErrorCode::GROUP_MAX_SIZE_REACHED)
        } else {
            None
        };
        if let Some(error_code) = refusal {
            return cx.refuse_join(parked, error_code, request.member_id.clone());
        }
        let joining = Joining::new(client, parked, request);
        let group_id = request.group_id.detach();
        let group = groups.entry(group_id.clone()).or_insert_with(|| {
            let mut group = Group::new(group_id.clone());
            if let Kind::Classic(classic) = &mut group.kind {
                classic.state_timestamp = now.timestamp;
            }
            group
        });
        group.join(&mut cx, joining);
        if is_new && group.is_abandoned() {
            // Nobody was let in.
            groups.remove(&group_id);
        }
    }

    fn consumer_heartbeat(
        &mut self,
        now: Now,
        parked: Parked,
        client: &ClientInfo,
        request: &ConsumerGroupHeartbeatRequest,
        effects: &mut Vec<Effect>,
    ) {
        let is_full = self.groups.len() >= self.config.groups_max;
        let (groups, mut cx) = self.split(now, effects);
        let Parked {
            request_id,
            version,
        } = parked;
        let result = match ConsumerGroup::validate_heartbeat(cx.config, version, request) {
            Err(refusal) => Err(refusal),
            Ok(()) => match groups.get_mut(&request.group_id) {
                Some(group) => {
                    let result = group.consumer_heartbeat(&mut cx, client, request);
                    result.map(|response| (response, group.newest_append(&cx)))
                }
                None if request.member_epoch != 0 => Err(not_a_consumer_group(&request.group_id)),
                None if is_full => Err(Refusal::new(
                    ErrorCode::GROUP_MAX_SIZE_REACHED,
                    "there are too many groups",
                )),
                None => {
                    let mut group = Group::new(request.group_id.detach());
                    let result = group.consumer_heartbeat(&mut cx, client, request);
                    result.map(|response| {
                        let after = group.newest_append(&cx);
                        groups.insert(group.id.clone(), group);
                        (response, after)
                    })
                }
            },
        };
        match result {
            Ok((response, after)) => {
                let response = GroupResponse::ConsumerGroupHeartbeat(response);
                cx.reply_after(after, request_id, response);
            }
            Err(refusal) => {
                let response = refuse_heartbeat(refusal.error_code, refusal.message);
                cx.reply(request_id, GroupResponse::ConsumerGroupHeartbeat(response));
            }
        }
    }

    fn consumer_describe(
        &mut self,
        now: Now,
        request_id: u64,
        group_ids: &[GroupId],
        effects: &mut Vec<Effect>,
    ) {
        let (groups, mut cx) = self.split(now, effects);
        let mut after = 0;
        let mut described = Vec::with_capacity(group_ids.len());
        for group_id in group_ids {
            described.push(match groups.get(group_id).map(|group| &group.kind) {
                Some(Kind::Consumer(consumer)) => {
                    after = after.max(consumer.last_append);
                    consumer.describe(&cx)
                }
                Some(Kind::Classic(_)) => {
                    let message = format!("Group {group_id} is not a consumer group.");
                    describe_nobody(group_id, message)
                }
                None => describe_nobody(group_id, format!("Group {group_id} not found.")),
            });
        }
        let response = ConsumerGroupDescribeResponse {
            groups: described,
            ..Default::default()
        };
        cx.reply_after(
            after,
            request_id,
            GroupResponse::ConsumerGroupDescribe(response),
        );
    }

    fn commit(
        &mut self,
        now: Now,
        parked: Parked,
        request: &OffsetCommitRequest,
        effects: &mut Vec<Effect>,
    ) {
        let groups_max = self.config.groups_max;
        let (groups, mut cx) = self.split(now, effects);
        let Parked {
            request_id,
            version,
        } = parked;
        if let Some(group) = groups.get_mut(&request.group_id) {
            return group.commit_offsets(&mut cx, parked, request);
        }
        let refusal = if request.generation_id_or_member_epoch >= 0 {
            // The group is gone; or was never there.
            Some(match version {
                GROUP_ID_NOT_FOUND_FROM.. => ErrorCode::GROUP_ID_NOT_FOUND,
                _ => ErrorCode::ILLEGAL_GENERATION,
            })
        } else if groups.len() >= groups_max {
            Some(ErrorCode::INVALID_COMMIT_OFFSET_SIZE)
        } else {
            None
        };
        if let Some(error_code) = refusal {
            let response = GroupResponse::OffsetCommit(refuse_commit(request, error_code));
            return cx.reply(request_id, response);
        }
        // A consumer that assigns partitions to itself keeps its offsets in a group without members.
        let mut group = Group::new(request.group_id.detach());
        group.commit_offsets(&mut cx, parked, request);
        if !group.offsets.is_empty() {
            groups.insert(group.id.clone(), group);
        }
    }

    fn delete_groups(
        &mut self,
        now: Now,
        request_id: u64,
        group_ids: &[GroupId],
        effects: &mut Vec<Effect>,
    ) {
        let mut records = Vec::new();
        let mut results = Vec::with_capacity(group_ids.len());
        let mut deleted = BTreeSet::new();
        for group_id in group_ids {
            let error_code = match self.groups.get(group_id) {
                None => ErrorCode::GROUP_ID_NOT_FOUND,
                Some(group) if !group.is_empty() => ErrorCode::NON_EMPTY_GROUP,
                Some(group) => {
                    if deleted.insert(group_id) {
                        group.all_offset_tombstones(&mut records);
                        records.extend(group.tombstones());
                    }
                    ErrorCode::NONE
                }
            };
            results.push(DeletableGroupResult {
                group_id: group_id.clone(),
                error_code,
            });
        }
        self.append_removals(now, records, effects);
        let response = DeleteGroupsResponse {
            results,
            ..Default::default()
        };
        let last = self.last_removal;
        let (_, mut cx) = self.split(now, effects);
        cx.reply_after(last, request_id, GroupResponse::DeleteGroups(response));
    }

    /// The groups, and what they need for handling an input.
    fn split<'a>(
        &'a mut self,
        now: Now,
        effects: &'a mut Vec<Effect>,
    ) -> (&'a mut BTreeMap<GroupId, Group>, Context<'a>) {
        let cx = Context {
            now,
            config: &self.config,
            timers: &mut self.timers,
            appends: &mut self.appends,
            member_ids: &mut self.member_ids,
            view: &*self.view,
            topic_hashes: &mut self.topic_hashes,
            new_topics_version: self.new_topics_version,
            effects,
        };
        (&mut self.groups, cx)
    }
}

/// The group, if it speaks the classic protocol by now.
fn classic<'a>(
    groups: &'a mut BTreeMap<GroupId, Group>,
    group_id: &GroupId,
) -> Option<&'a mut Classic> {
    match &mut groups.get_mut(group_id)?.kind {
        Kind::Classic(classic) => Some(classic),
        Kind::Consumer(_) => None,
    }
}

/// Members have to say from this version on for which protocol they want their assignment (KIP-559).
const SYNC_WITH_PROTOCOL_FROM_VERSION: i16 = 5;

fn refuse_without_protocol(version: i16, request: &GroupRequest) -> Option<ErrorCode> {
    let GroupRequest::SyncGroup(request) = request else {
        return None;
    };
    let is_named = request.protocol_type.is_some() && request.protocol_name.is_some();
    (version >= SYNC_WITH_PROTOCOL_FROM_VERSION && !is_named)
        .then_some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
}

/// Requests about members need a group id; offsets may be kept under the empty one, as old clients do.
fn refuse_group_id(request: &GroupRequest) -> Option<ErrorCode> {
    let needs_group_id = matches!(
        request,
        GroupRequest::JoinGroup(_)
            | GroupRequest::SyncGroup(_)
            | GroupRequest::Heartbeat(_)
            | GroupRequest::LeaveGroup(_)
            | GroupRequest::OffsetDelete(_)
    );
    let is_empty = request
        .group_id()
        .is_some_and(|group_id| group_id.is_empty());
    (needs_group_id && is_empty).then_some(ErrorCode::INVALID_GROUP_ID)
}
