//! One shard: the machine, its partition, and the requests it has not answered yet.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tidelog_coordinator::group::{
    ClientInfo, ClusterView, Config, DeletedTopic, Effect, GroupCoordinator, GroupRecord,
    GroupRequest, GroupResponse, Input, TopicChange, resolve_regexes,
};
use tidelog_log::LogError;
use tidelog_record::control::{ControlType, TransactionResult};
use tidelog_record::{Batch, BatchBuilder, Codec};
use tidelog_types::{ErrorCode, GroupId, LeaderEpoch, Offset, ProducerId, Str, TopicPartition};
use tokio::sync::oneshot;

use super::{Groups, explain};
use crate::random::random_seed;
use crate::store::partition::{
    Accepted, Acknowledge, Acks, AppendRefused, Partition, TransactionEnd, Waiter,
};

/// The coordinator of the groups in one partition of `__consumer_offsets`.
pub(crate) struct Shard {
    partition: Arc<Partition>,
    groups: Weak<Groups>,
    this: Weak<Self>,
    state: Mutex<State>,
    /// Acknowledged appends that the machine has not heard of. They are not handed in at once, since whoever reports
    /// them may be inside the machine at that moment.
    acknowledged: Mutex<Vec<(u64, Result<(), ErrorCode>)>>,
    deadline: Mutex<Option<Instant>>,
}

enum State {
    Loading,
    Active(Box<Active>),
    /// The partition is led by another node, or failed: every request gets this answer.
    Gone(ErrorCode),
}

struct Active {
    machine: GroupCoordinator,
    parked: HashMap<u64, oneshot::Sender<GroupResponse>>,
    request_id: u64,
    effects: Vec<Effect>,
    /// The machine is ahead of its log, and must be loaded anew.
    failed: bool,
}

impl Shard {
    pub(super) fn new(partition: Arc<Partition>, groups: Weak<Groups>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            partition,
            groups,
            this: this.clone(),
            state: Mutex::new(State::Loading),
            acknowledged: Mutex::new(Vec::new()),
            deadline: Mutex::new(None),
        })
    }

    /// Whether there is nothing to load.
    pub(super) fn is_quick_to_load(&self) -> bool {
        let marks = self.partition.published().marks;
        marks.log_start_offset == marks.log_end_offset
    }

    /// Replays the partition into a new machine, and opens the shard for requests.
    pub(super) fn load(&self) {
        let Some(groups) = self.groups.upgrade() else {
            return;
        };
        let loaded = self.replay(&groups);
        let mut state = self.state.lock();
        if !matches!(*state, State::Loading) {
            return;
        }
        match loaded {
            Ok(machine) => {
                *state = State::Active(Box::new(Active {
                    machine,
                    parked: HashMap::new(),
                    request_id: 0,
                    effects: Vec::new(),
                    failed: false,
                }));
                drop(state);
                if let Some(view) = groups.view() {
                    self.cluster_changed(view, Vec::new());
                }
                self.handle(Input::Loaded);
            }
            Err(error) => {
                tracing::error!(partition = %self.partition.name, %error, "cannot load the groups");
                *state = State::Gone(ErrorCode::NOT_COORDINATOR);
            }
        }
    }

    fn replay(&self, groups: &Groups) -> Result<GroupCoordinator, String> {
        let published = self.partition.published();
        // Where the log has failed, loading again would go round in circles.
        published
            .leadership
            .check_leader_epoch(LeaderEpoch::NONE)
            .map_err(|c| c.to_string())?;
        let (marks, epoch) = (published.marks, published.leadership.leader_epoch());
        let config = Config {
            seed: random_seed(),
            ..groups.config.clone()
        };
        let mut machine = GroupCoordinator::new(groups.clock.now(), config, epoch);
        let batches = self
            .partition
            .reader()
            .batches(marks.log_start_offset, marks.log_end_offset);
        for batch in batches {
            match batch {
                Ok(batch) => replay_batch(&mut machine, &self.partition.name, &batch),
                Err(error @ LogError::DamagedBatch { .. }) => {
                    tracing::error!(partition = %self.partition.name, %error, "records of groups are left out");
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(machine)
    }

    /// Answers what is parked with `NOT_COORDINATOR`, and everything from now on.
    pub(super) fn unload(&self) {
        self.handle(Input::Unload);
        *self.state.lock() = State::Gone(ErrorCode::NOT_COORDINATOR);
        *self.deadline.lock() = None;
    }

    pub(super) async fn request(
        &self,
        version: i16,
        client: ClientInfo,
        request: GroupRequest,
    ) -> GroupResponse {
        let refusal = |code| request.error_response(code, version);
        let parked = match &mut *self.state.lock() {
            State::Active(active) => {
                let (sender, receiver) = oneshot::channel();
                active.request_id += 1;
                let request_id = active.request_id;
                active.parked.insert(request_id, sender);
                let request = request.clone();
                self.step(
                    active,
                    Input::Request {
                        request_id,
                        version,
                        client,
                        request,
                    },
                );
                Ok(receiver)
            }
            State::Loading => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            State::Gone(code) => Err(*code),
        };
        self.settle();
        match parked {
            Ok(receiver) => receiver
                .await
                .unwrap_or_else(|_| refusal(ErrorCode::NOT_COORDINATOR)),
            Err(code) => refusal(code),
        }
    }

    pub(super) fn topics_deleted(&self, topics: Vec<DeletedTopic>) {
        self.handle(Input::TopicsDeleted { topics });
    }

    pub(super) fn cluster_changed(&self, view: Arc<dyn ClusterView>, changes: Vec<TopicChange>) {
        self.handle(Input::ClusterChanged { view, changes });
    }

    /// Why a group of this shard rebalanced, as JSON.
    pub(super) fn explain(&self, group_id: &GroupId) -> Option<String> {
        match &*self.state.lock() {
            State::Active(active) => active.machine.explain(group_id).map(explain::to_json),
            State::Loading | State::Gone(_) => None,
        }
    }

    /// Writes the end of a transaction, and takes it over.
    pub(super) fn end_transaction(
        &self,
        end: &TransactionEnd,
        waiter: Waiter,
    ) -> Result<Accepted, AppendRefused> {
        let ended = match &mut *self.state.lock() {
            State::Active(active) => {
                let accepted = self.partition.end_transaction(end, waiter);
                if accepted.is_ok() {
                    let is_committed = end.marker.result == TransactionResult::Commit;
                    active
                        .machine
                        .replay_end_transaction(end.producer_id, is_committed);
                }
                accepted
            }
            // The coordinator tries again.
            State::Loading | State::Gone(_) => {
                Err(AppendRefused::Replica(ErrorCode::NOT_LEADER_OR_FOLLOWER))
            }
        };
        self.settle();
        ended
    }

    pub(super) fn timeout(&self) {
        self.handle(Input::Timeout);
    }

    /// When [`timeout`](Self::timeout) is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock()
    }

    fn handle(&self, input: Input) {
        if let State::Active(active) = &mut *self.state.lock() {
            self.step(active, input);
        }
        self.settle();
    }

    /// Hands one input to the machine, and carries out what it wants until it wants nothing more.
    fn step(&self, active: &mut Active, input: Input) {
        let Some(groups) = self.groups.upgrade() else {
            return;
        };
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = std::mem::take(&mut active.effects);
            active
                .machine
                .handle(groups.clock.now(), input, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Append { append_id, records } => {
                        if let Err(error) = self.append(append_id, &records) {
                            active.failed = true;
                            inputs.push(Input::AppendFailed { error });
                        }
                    }
                    Effect::Reply {
                        request_id,
                        response,
                    } => {
                        if let Some(parked) = active.parked.remove(&request_id) {
                            // A client that has gone does not hear the answer.
                            let _ = parked.send(response);
                        }
                    }
                    Effect::ResolveRegexes { group_id, regexes } => {
                        self.resolve(&groups, group_id, regexes);
                    }
                    Effect::Report {
                        group_id,
                        rebalance,
                    } => explain::log(&group_id, &rebalance),
                }
            }
            active.effects = effects;
        }
        let deadline = active.machine.deadline();
        *self.deadline.lock() = deadline;
        if let Some(deadline) = deadline {
            groups.schedule(deadline);
        }
    }

    /// Looks for the topics that expressions match, on a thread of its own: there may be many topics.
    fn resolve(&self, groups: &Groups, group_id: GroupId, regexes: Vec<Str>) {
        let (Some(this), Some(view)) = (self.this.upgrade(), groups.view()) else {
            return;
        };
        let resolving = move || {
            let resolved = resolve_regexes(&*view, &regexes);
            this.handle(Input::RegexesResolved {
                group_id,
                version: view.version(),
                resolved,
            });
        };
        let thread = std::thread::Builder::new().name("tidelog-regexes".into());
        if let Err(error) = thread.spawn(resolving) {
            tracing::error!(%error, "cannot look for the topics of a group");
        }
    }

    /// Writes records as one batch to the partition. That they are committed is reported later, also if it is so at once.
    fn append(&self, append_id: u64, records: &[GroupRecord]) -> Result<(), ErrorCode> {
        let batch = self.encode(records).map_err(|error| {
            tracing::error!(partition = %self.partition.name, %error, "cannot encode group records");
            ErrorCode::UNKNOWN_SERVER_ERROR
        })?;
        let target = self.this.upgrade().ok_or(ErrorCode::NOT_COORDINATOR)?;
        let waiter = Waiter {
            target,
            token: append_id,
        };
        match self
            .partition
            .append(&batch, LeaderEpoch::NONE, Acks::All, waiter)
        {
            Ok(accepted) => {
                if accepted.flush {
                    self.partition.request_flush();
                }
                if accepted.done {
                    self.acknowledged.lock().push((append_id, Ok(())));
                }
                Ok(())
            }
            Err(refused) => {
                tracing::warn!(partition = %self.partition.name, error = ?refused, "group records were refused");
                Err(refused.error_code())
            }
        }
    }

    fn encode(&self, records: &[GroupRecord]) -> Result<Batch, String> {
        let groups = self.groups.upgrade().ok_or("the broker has stopped")?;
        let now = groups.clock.now().timestamp;
        let mut batch = BatchBuilder::new(Codec::None.into());
        for record in records {
            let (key, value) = record.encode().map_err(|e| e.to_string())?;
            batch.push(now, Some(&key), value.as_deref(), &[]);
        }
        batch.build().map_err(|e| e.to_string())
    }

    /// Hands acknowledged appends to the machine. Whoever holds the machine does so before it is done; who finds it held
    /// leaves it to them.
    fn settle(&self) {
        loop {
            {
                let Some(mut state) = self.state.try_lock() else {
                    return;
                };
                let acknowledged = std::mem::take(&mut *self.acknowledged.lock());
                if let State::Active(active) = &mut *state {
                    for (append_id, result) in acknowledged {
                        let input = match result {
                            Ok(()) => Input::Committed { append_id },
                            Err(error) => Input::AppendFailed { error },
                        };
                        active.failed |= result.is_err();
                        self.step(active, input);
                    }
                    if active.failed {
                        *state = State::Loading;
                        self.reload();
                    }
                }
            }
            if self.acknowledged.lock().is_empty() {
                return;
            }
        }
    }

    /// Loads the machine on a thread of its own: at the beginning, and again when its log has refused a write.
    pub(super) fn reload(&self) {
        let Some(this) = self.this.upgrade() else {
            return;
        };
        let loading = std::thread::Builder::new().name("tidelog-groups".into());
        if let Err(error) = loading.spawn(move || this.load()) {
            tracing::error!(%error, "cannot load groups again");
        }
    }
}

impl Acknowledge for Shard {
    fn acknowledged(&self, token: u64, result: Result<(), ErrorCode>) {
        self.acknowledged.lock().push((token, result));
        self.settle();
    }
}

/// Replays one batch of the partition: records, or how a transaction with commits ended. What cannot be read is named in the
/// log and left out; the groups that it does not concern are served all the same.
fn replay_batch(machine: &mut GroupCoordinator, partition: &TopicPartition, batch: &Batch) {
    let header = batch.header();
    let producer_id = if header.attributes.is_transactional() {
        header.producer_id
    } else {
        ProducerId::NONE
    };
    let skip = |offset: Offset, error: &dyn std::fmt::Display| {
        tracing::error!(%partition, %offset, %error, "a record of a group cannot be read and is left out");
    };
    let records = match batch.records() {
        Ok(records) => records,
        Err(error) => return skip(header.base_offset, &error),
    };
    for record in records {
        let record = match record {
            Ok(record) => record,
            // Nobody knows where the next one begins.
            Err(error) => return skip(header.base_offset, &error),
        };
        let Some(key) = &record.key else { continue };
        if header.attributes.is_control() {
            match ControlType::decode_key(key) {
                Ok(ControlType::Commit) => machine.replay_end_transaction(producer_id, true),
                Ok(ControlType::Abort) => machine.replay_end_transaction(producer_id, false),
                Ok(_) => {}
                Err(error) => skip(record.offset, &error),
            }
            continue;
        }
        match GroupRecord::decode(key, record.value.as_ref()) {
            Ok(Some(record)) => machine.replay(producer_id, &record),
            Ok(None) => {}
            Err(error) => skip(record.offset, &error),
        }
    }
}
