//! One shard: the machine, its partition, and the requests it has not answered yet.

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tidelog_coordinator::group::{
    ClientInfo, ClusterView, Config, DeletedTopic, GroupRequest, GroupResponse, Input, TopicChange,
    resolve_regexes,
};
use tidelog_node::groups::{After, Replayed, Shard as Core, replay};
use tidelog_record::Batch;
use tidelog_record::control::TransactionResult;
use tidelog_types::{ErrorCode, GroupId, LeaderEpoch, Now, Offset, Str};
use tokio::sync::oneshot;

use super::{Groups, explain};
use crate::random::random_seed;
use crate::store::partition::{
    Accepted, Acknowledge, Acks, AppendRefused, Partition, TransactionEnd, Waiter,
};

/// Who waits for an answer.
type Asker = oneshot::Sender<GroupResponse>;

/// The coordinator of the groups in one partition of `__consumer_offsets`.
pub(crate) struct Shard {
    partition: Arc<Partition>,
    groups: Weak<Groups>,
    this: Weak<Self>,
    core: Mutex<Core<Asker>>,
    /// Appends of which it is known what became of them, and the machine has not heard. They are not handed in at once, since
    /// whoever reports them may be inside the machine at that moment.
    acknowledged: Mutex<Vec<(u64, Result<(), ErrorCode>)>>,
    deadline: Mutex<Option<Instant>>,
}

impl Shard {
    pub(super) fn new(partition: Arc<Partition>, groups: Weak<Groups>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            partition,
            groups,
            this: this.clone(),
            core: Mutex::default(),
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
        match self.replay(&groups) {
            Ok(replayed) => {
                let view = groups.view();
                self.call(|core, now, append, after| core.open(now, replayed, view, append, after));
            }
            Err(error) => {
                tracing::error!(partition = %self.partition.name, %error, "cannot load the groups");
                self.core.lock().give_up(ErrorCode::NOT_COORDINATOR);
            }
        }
    }

    fn replay(&self, groups: &Groups) -> Result<Replayed, String> {
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
        let reader = self.partition.reader();
        let replayed = replay(groups.clock.now(), config, epoch, &reader, marks);
        let replayed = replayed.map_err(|error| error.to_string())?;
        for (offset, error) in &replayed.skipped {
            let partition = &self.partition.name;
            tracing::error!(%partition, %offset, %error, "a record of a group cannot be read and is left out");
        }
        Ok(replayed)
    }

    /// Answers what is parked with `NOT_COORDINATOR`, and everything from now on.
    pub(super) fn unload(&self) {
        self.call(Core::unload);
        *self.deadline.lock() = None;
    }

    pub(super) async fn request(
        &self,
        version: i16,
        client: ClientInfo,
        request: GroupRequest,
    ) -> GroupResponse {
        let refusal = request.error_response(ErrorCode::NOT_COORDINATOR, version);
        let (asker, answer) = oneshot::channel();
        self.call(|core, now, append, after| {
            core.request(now, version, client, request, asker, append, after);
        });
        answer.await.unwrap_or(refusal)
    }

    pub(super) fn topics_deleted(&self, topics: Vec<DeletedTopic>) {
        self.handle(Input::TopicsDeleted { topics });
    }

    pub(super) fn cluster_changed(&self, view: Arc<dyn ClusterView>, changes: Vec<TopicChange>) {
        self.handle(Input::ClusterChanged { view, changes });
    }

    /// Why a group of this shard rebalanced, as JSON.
    pub(super) fn explain(&self, group_id: &GroupId) -> Option<String> {
        let core = self.core.lock();
        core.machine()?.explain(group_id).map(explain::to_json)
    }

    /// Writes the end of a transaction, and takes it over.
    pub(super) fn end_transaction(
        &self,
        end: &TransactionEnd,
        waiter: Waiter,
    ) -> Result<Accepted, AppendRefused> {
        let is_committed = end.marker.result == TransactionResult::Commit;
        let result = (end.producer_id, is_committed);
        let write = || self.partition.end_transaction(end, waiter);
        let end_of = |accepted: &Accepted| accepted.appended.end.offset;
        let mut ended = None;
        self.call(|core, now, _, after| {
            ended = core.end_transaction(now, result, write, end_of, after);
        });
        // While it is not loaded, the coordinator of the transaction tries again.
        ended.unwrap_or(Err(AppendRefused::Replica(
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
        )))
    }

    pub(super) fn timeout(&self) {
        self.handle(Input::Timeout);
    }

    /// When [`timeout`](Self::timeout) is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock()
    }

    fn handle(&self, input: Input) {
        self.call(|core, now, append, after| core.handle(now, input, append, after));
    }

    /// Makes one call of the core, and does what it leaves to do.
    fn call(
        &self,
        call: impl FnOnce(
            &mut Core<Asker>,
            Now,
            &mut dyn FnMut(u64, &Batch) -> Result<(), ErrorCode>,
            &mut After<Asker>,
        ),
    ) {
        if let Some(groups) = self.groups.upgrade() {
            self.step(&groups, &mut self.core.lock(), call);
        }
        self.settle();
    }

    fn step(
        &self,
        groups: &Groups,
        core: &mut Core<Asker>,
        call: impl FnOnce(
            &mut Core<Asker>,
            Now,
            &mut dyn FnMut(u64, &Batch) -> Result<(), ErrorCode>,
            &mut After<Asker>,
        ),
    ) {
        let mut after = After::default();
        let mut append = |append_id, batch: &Batch| self.append(append_id, batch);
        call(core, groups.clock.now(), &mut append, &mut after);
        for (asker, response) in after.replies {
            // A client that has gone does not hear the answer.
            let _ = asker.send(response);
        }
        for (group_id, rebalance) in &after.reports {
            explain::log(group_id, rebalance);
        }
        for (number, end) in after.waits {
            self.await_committed(number, end);
        }
        for (group_id, regexes) in after.regexes {
            self.resolve(groups, group_id, regexes);
        }
        let deadline = core.deadline();
        *self.deadline.lock() = deadline;
        if let Some(deadline) = deadline {
            groups.schedule(deadline);
        }
        if after.reload {
            self.reload();
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

    fn waiter(&self, number: u64) -> Option<Waiter> {
        let target = self.this.upgrade()?;
        let token = number;
        Some(Waiter { target, token })
    }

    /// Has the machine told when the log is committed up to `end`: later, also if it is so at once.
    fn await_committed(&self, number: u64, end: Offset) {
        let Some(waiter) = self.waiter(number) else {
            return;
        };
        let result = match self.partition.await_committed(end, waiter) {
            Ok(false) => return,
            Ok(true) => Ok(()),
            Err(code) => Err(code),
        };
        self.acknowledged.lock().push((number, result));
    }

    /// Writes a batch to the partition. That it is committed is reported later, also if it is so at once.
    fn append(&self, append_id: u64, batch: &Batch) -> Result<(), ErrorCode> {
        let waiter = self.waiter(append_id).ok_or(ErrorCode::NOT_COORDINATOR)?;
        match self
            .partition
            .append(batch, LeaderEpoch::NONE, Acks::All, waiter)
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

    /// Tells the machine what became of its appends. Whoever holds the machine does so before it is done; who finds it held
    /// leaves it to them.
    fn settle(&self) {
        let Some(groups) = self.groups.upgrade() else {
            return;
        };
        loop {
            {
                let Some(mut core) = self.core.try_lock() else {
                    return;
                };
                let acknowledged = std::mem::take(&mut *self.acknowledged.lock());
                for (append_id, result) in acknowledged {
                    self.step(&groups, &mut core, |core, now, append, after| {
                        core.appended(now, append_id, result, append, after);
                    });
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
