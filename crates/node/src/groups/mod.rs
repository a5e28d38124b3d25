//! The groups of one partition of `__consumer_offsets`: their coordinator, its log, and whoever waits for an answer.
//!
//! A [`Shard`] lives as long as its node leads the partition. It is loaded from the log, opened, and from then on takes requests.
//! The log is not held here: what is to be written is handed to a closure, which says what came of it, and the owner reports
//! later what became of it ([`Shard::appended`]).
//!
//! A log that refuses a write leaves the machine ahead of it. The shard then refuses everything until it is loaded anew.

mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tidelog_coordinator::group::{
    ClientInfo, ClusterView, Config, Effect, GroupCoordinator, GroupRecord, GroupRequest,
    GroupResponse, Input, Rebalance,
};
use tidelog_log::{LogError, LogReader};
use tidelog_record::control::ControlType;
use tidelog_record::{Batch, BatchBuilder, Codec};
use tidelog_replication::partition::Watermarks;
use tidelog_types::{ErrorCode, GroupId, LeaderEpoch, Now, Offset, ProducerId, Str, Timestamp};

pub use self::view::{View, topic_changes};

/// What is to be done when a call has returned. `R` is whoever waits for an answer.
#[derive(Debug)]
pub struct After<R> {
    /// Answers that may leave.
    pub replies: Vec<(R, GroupResponse)>,
    /// Expressions of a group's members to be looked up; reported by [`Input::RegexesResolved`].
    pub regexes: Vec<(GroupId, Vec<Str>)>,
    /// Rebalances that have begun or ended, for whoever watches.
    pub reports: Vec<(GroupId, Box<Rebalance>)>,
    /// To be reported by [`Shard::appended`] under the number as soon as the log is committed up to the offset.
    pub waits: Vec<(u64, Offset)>,
    /// The log has refused a write: the shard is to be loaded anew.
    pub reload: bool,
    /// What could not be written, and why.
    pub refused: Vec<ErrorCode>,
}

impl<R> Default for After<R> {
    fn default() -> Self {
        Self {
            replies: Vec::new(),
            regexes: Vec::new(),
            reports: Vec::new(),
            waits: Vec::new(),
            reload: false,
            refused: Vec::new(),
        }
    }
}

/// Appends a batch, under the number by which [`Shard::appended`] reports that it is committed; or says why not. No number is used
/// twice, however often the shard is loaded.
pub type Append<'a> = &'a mut dyn FnMut(u64, &Batch) -> Result<(), ErrorCode>;

/// One shard: loading, at work, or gone.
#[derive(Debug)]
pub struct Shard<R> {
    state: State<R>,
    /// How many appends machines before this one have made. Of some of them it may become known only now what became of them.
    appends_before: u64,
    appends: u64,
    /// What the machine was loaded with and is not committed yet, which is its first append.
    loaded: Option<Loaded>,
}

/// The end of what was loaded, and the number under which it is waited for.
#[derive(Clone, Copy, Debug)]
struct Loaded {
    number: u64,
    end: Offset,
}

#[derive(Debug)]
enum State<R> {
    Loading,
    Active(Box<Active<R>>),
    /// The partition is led by another node, or failed: every request gets this answer.
    Gone(ErrorCode),
}

#[derive(Debug)]
struct Active<R> {
    machine: GroupCoordinator,
    parked: BTreeMap<u64, R>,
    request_id: u64,
    effects: Vec<Effect>,
    /// The machine is ahead of its log, and must be loaded anew.
    failed: bool,
}

impl<R> Default for Shard<R> {
    fn default() -> Self {
        Self {
            state: State::Loading,
            appends_before: 0,
            appends: 0,
            loaded: None,
        }
    }
}

impl<R> Shard<R> {
    /// Whether it waits to be [opened](Self::open).
    pub const fn is_loading(&self) -> bool {
        matches!(self.state, State::Loading)
    }

    /// Opens the shard for requests, with what was [replayed](replay). A shard that was let go of meanwhile stays as it is.
    pub fn open(
        &mut self,
        now: Now,
        replayed: Replayed,
        view: Option<Arc<dyn ClusterView>>,
        append: Append<'_>,
        after: &mut After<R>,
    ) {
        if !self.is_loading() {
            return;
        }
        self.appends_before = self.appends;
        self.await_loaded(replayed.uncommitted, after);
        self.state = State::Active(Box::new(Active {
            machine: replayed.machine,
            parked: BTreeMap::new(),
            request_id: 0,
            effects: Vec::new(),
            failed: false,
        }));
        if let Some(view) = view {
            let changes = Vec::new();
            self.handle(now, Input::ClusterChanged { view, changes }, append, after);
        }
        self.handle(now, Input::Loaded, append, after);
    }

    /// A log that refuses writes may be loaded over and over, and ends where it ended before.
    fn await_loaded(&mut self, uncommitted: Option<Offset>, after: &mut After<R>) {
        let Some(end) = uncommitted else {
            self.loaded = None;
            return;
        };
        if self.loaded.is_none_or(|loaded| loaded.end != end) {
            self.appends += 1;
            let number = self.appends;
            self.loaded = Some(Loaded { number, end });
            after.waits.push((number, end));
        }
    }

    /// The log cannot be loaded: every request gets `code`.
    pub fn give_up(&mut self, code: ErrorCode) {
        if self.is_loading() {
            self.state = State::Gone(code);
        }
    }

    /// Answers what is parked with `NOT_COORDINATOR`, and everything from now on.
    pub fn unload(&mut self, now: Now, append: Append<'_>, after: &mut After<R>) {
        self.handle(now, Input::Unload, append, after);
        self.state = State::Gone(ErrorCode::NOT_COORDINATOR);
        after.reload = false;
    }

    /// Takes a request; the answer to `asker` comes in an [`After`], this one or a later one. Once.
    #[expect(
        clippy::too_many_arguments,
        reason = "who asks what, and what it takes to write"
    )]
    pub fn request(
        &mut self,
        now: Now,
        version: i16,
        client: ClientInfo,
        request: GroupRequest,
        asker: R,
        append: Append<'_>,
        after: &mut After<R>,
    ) {
        let active = match &mut self.state {
            State::Active(active) => active,
            State::Loading => {
                let code = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
                let refusal = request.error_response(code, version);
                return after.replies.push((asker, refusal));
            }
            State::Gone(code) => {
                let refusal = request.error_response(*code, version);
                return after.replies.push((asker, refusal));
            }
        };
        active.request_id += 1;
        let request_id = active.request_id;
        active.parked.insert(request_id, asker);
        let input = Input::Request {
            request_id,
            version,
            client,
            request,
        };
        self.handle(now, input, append, after);
    }

    /// What was written under this number is committed, or it is unknown whether it ever will be.
    pub fn appended(
        &mut self,
        now: Now,
        number: u64,
        result: Result<(), ErrorCode>,
        append: Append<'_>,
        after: &mut After<R>,
    ) {
        let loaded = self.loaded.take_if(|loaded| loaded.number == number);
        let append_id = match loaded {
            Some(_) => 1,
            // A machine that was dropped has no use for it.
            None => match number.checked_sub(self.appends_before) {
                None | Some(0) => return,
                Some(append_id) => append_id,
            },
        };
        let input = match result {
            Ok(()) => Input::Committed { append_id },
            Err(error) => {
                self.has_failed();
                Input::AppendFailed { error }
            }
        };
        self.handle(now, input, append, after);
    }

    /// Hands one input to the machine, if there is one, and carries out what it wants until it wants nothing more.
    pub fn handle(&mut self, now: Now, input: Input, append: Append<'_>, after: &mut After<R>) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = std::mem::take(&mut active.effects);
            active.machine.handle(now, input, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Append { append_id, records } => {
                        let batch = encode(&records, now.timestamp);
                        let number = self.appends_before + append_id;
                        self.appends = self.appends.max(number);
                        if let Err(error) = batch.and_then(|batch| append(number, &batch)) {
                            active.failed = true;
                            after.refused.push(error);
                            inputs.push(Input::AppendFailed { error });
                        }
                    }
                    Effect::Reply {
                        request_id,
                        response,
                    } => {
                        if let Some(asker) = active.parked.remove(&request_id) {
                            after.replies.push((asker, response));
                        }
                    }
                    Effect::ResolveRegexes { group_id, regexes } => {
                        after.regexes.push((group_id, regexes));
                    }
                    Effect::Report {
                        group_id,
                        rebalance,
                    } => after.reports.push((group_id, rebalance)),
                }
            }
            active.effects = effects;
        }
        if active.failed {
            self.state = State::Loading;
            after.reload = true;
        }
    }

    fn has_failed(&mut self) {
        if let State::Active(active) = &mut self.state {
            active.failed = true;
        }
    }

    /// Has `write` append how a transaction ended, and takes that over if it works; `None` if no machine is loaded. `end` is where
    /// what was written ends.
    pub fn end_transaction<T, E>(
        &mut self,
        now: Now,
        (producer_id, is_committed): (ProducerId, bool),
        write: impl FnOnce() -> Result<T, E>,
        end: impl FnOnce(&T) -> Offset,
        after: &mut After<R>,
    ) -> Option<Result<T, E>> {
        let State::Active(active) = &mut self.state else {
            return None;
        };
        let written = write();
        if let Ok(accepted) = &written
            && let Some(append_id) = active
                .machine
                .end_transaction(now, producer_id, is_committed)
        {
            self.appends = self.appends_before + append_id;
            after.waits.push((self.appends, end(accepted)));
        }
        Some(written)
    }

    /// When the machine wants [`Input::Timeout`].
    pub fn deadline(&self) -> Option<Instant> {
        self.machine()?.deadline()
    }

    /// The machine, to look at.
    pub fn machine(&self) -> Option<&GroupCoordinator> {
        match &self.state {
            State::Active(active) => Some(&active.machine),
            State::Loading | State::Gone(_) => None,
        }
    }
}

/// Records as the batch in which they are written.
fn encode(records: &[GroupRecord], now: Timestamp) -> Result<Batch, ErrorCode> {
    let mut batch = BatchBuilder::new(Codec::None.into());
    for record in records {
        let (key, value) = record
            .encode()
            .map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        batch.push(now, Some(&key), value.as_deref(), &[]);
    }
    batch.build().map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)
}

/// What was read of a log.
#[derive(Debug)]
pub struct Replayed {
    /// A machine that knows all of it, and has yet to be [opened](Shard::open).
    pub machine: GroupCoordinator,
    /// The end of the log, if not all that was read is committed.
    pub uncommitted: Option<Offset>,
    /// What cannot be read and is left out, with its offset. The groups that it does not concern are served all the same.
    pub skipped: Vec<(Offset, String)>,
}

/// Reads all that is in a log of which so much is committed.
pub fn replay(
    now: Now,
    config: Config,
    epoch: LeaderEpoch,
    reader: &LogReader,
    marks: Watermarks,
) -> Result<Replayed, LogError> {
    let (from, to) = (marks.log_start_offset, marks.log_end_offset);
    let mut replayed = Replayed {
        machine: GroupCoordinator::new(now, config, epoch),
        uncommitted: None,
        skipped: Vec::new(),
    };
    for batch in reader.batches(from, to) {
        match batch {
            Ok(batch) => {
                let is_committed = batch.header().last_offset() < marks.high_watermark;
                if !is_committed && replayed.uncommitted.is_none() {
                    replayed.uncommitted = Some(to);
                    replayed.machine.replay_uncommitted(now);
                }
                replay_batch(&mut replayed.machine, &batch, &mut replayed.skipped);
            }
            Err(error @ LogError::DamagedBatch { .. }) => {
                replayed.skipped.push((from, error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(replayed)
}

/// Replays one batch of the partition: records, or how a transaction with commits ended.
fn replay_batch(
    machine: &mut GroupCoordinator,
    batch: &Batch,
    skipped: &mut Vec<(Offset, String)>,
) {
    let header = batch.header();
    let producer_id = if header.attributes.is_transactional() {
        header.producer_id
    } else {
        ProducerId::NONE
    };
    let records = match batch.records() {
        Ok(records) => records,
        Err(error) => return skipped.push((header.base_offset, error.to_string())),
    };
    for record in records {
        let record = match record {
            Ok(record) => record,
            // Nobody knows where the next one begins.
            Err(error) => return skipped.push((header.base_offset, error.to_string())),
        };
        let Some(key) = &record.key else { continue };
        if header.attributes.is_control() {
            match ControlType::decode_key(key) {
                Ok(ControlType::Commit) => machine.replay_end_transaction(producer_id, true),
                Ok(ControlType::Abort) => machine.replay_end_transaction(producer_id, false),
                Ok(_) => {}
                Err(error) => skipped.push((record.offset, error.to_string())),
            }
            continue;
        }
        match GroupRecord::decode(key, record.value.as_ref()) {
            Ok(Some(record)) => machine.replay(producer_id, &record),
            Ok(None) => {}
            Err(error) => skipped.push((record.offset, error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tidelog_protocol::messages::offset_commit::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    };
    use tidelog_protocol::messages::offset_fetch::OffsetFetchRequestGroup;
    use tidelog_protocol::records::group::classic::OffsetCommitValue;

    use super::*;

    fn commit() -> GroupRequest {
        GroupRequest::OffsetCommit(OffsetCommitRequest {
            group_id: "billing".into(),
            topics: vec![OffsetCommitRequestTopic {
                name: "orders".into(),
                partitions: vec![OffsetCommitRequestPartition {
                    committed_offset: Offset::new(42),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        })
    }

    fn fetch() -> GroupRequest {
        GroupRequest::OffsetFetch {
            group: OffsetFetchRequestGroup {
                group_id: "billing".into(),
                ..Default::default()
            },
            require_stable: false,
        }
    }

    /// A log with one commit, which ends at `uncommitted` if it is not committed yet.
    fn loaded(now: Now, uncommitted: Option<i64>) -> Replayed {
        let mut machine = GroupCoordinator::new(now, Config::default(), LeaderEpoch::new(0));
        if uncommitted.is_some() {
            machine.replay_uncommitted(now);
        }
        let record = GroupRecord::OffsetCommit {
            group_id: "billing".into(),
            topic: "orders".into(),
            partition: 0,
            value: Some(OffsetCommitValue::default()),
        };
        machine.replay(ProducerId::NONE, &record);
        Replayed {
            machine,
            uncommitted: uncommitted.map(Offset::new),
            skipped: Vec::new(),
        }
    }

    /// The log of a partition that lacks replicas ends where it ended, however often it is loaded.
    #[test]
    fn what_was_loaded_is_waited_for_once() {
        let now = Now {
            instant: Instant::now(),
            timestamp: Timestamp::from_millis(1_700_000_000_000),
        };
        let mut shard = Shard::default();
        let refuses = |_, _: &Batch| Err(ErrorCode::NOT_ENOUGH_REPLICAS);
        let open = |shard: &mut Shard<u32>, end: Option<i64>| {
            let mut after = After::default();
            let mut append = refuses;
            shard.open(now, loaded(now, end), None, &mut append, &mut after);
            let client = ClientInfo::default();
            shard.request(now, 8, client, fetch(), 1, &mut append, &mut after);
            (after.waits, after.replies.len())
        };
        let fail = |shard: &mut Shard<u32>| {
            let (client, mut after) = (ClientInfo::default(), After::default());
            let mut append = refuses;
            shard.request(now, 8, client, commit(), 2, &mut append, &mut after);
            assert!(after.reload, "the log took it");
        };
        let reached = |shard: &mut Shard<u32>, number| {
            let mut after = After::default();
            let mut nothing = |_, _: &Batch| Ok(());
            shard.appended(now, number, Ok(()), &mut nothing, &mut after);
            after.replies.len()
        };

        let (waits, answered) = open(&mut shard, Some(7));
        assert_eq!((&waits[..], answered), (&[(1, Offset::new(7))][..], 0));
        fail(&mut shard);
        assert_eq!(open(&mut shard, Some(7)), (vec![], 0));
        assert_eq!(reached(&mut shard, 1), 1);
        fail(&mut shard);
        // Another batch was taken meanwhile.
        let (waits, _) = open(&mut shard, Some(8));
        assert_eq!(waits[0].1, Offset::new(8));
        assert_eq!(reached(&mut shard, 1), 0, "this is no news");
        assert_eq!(reached(&mut shard, waits[0].0), 1);
        fail(&mut shard);
        assert_eq!(open(&mut shard, None), (vec![], 1));
    }

    /// The log may have taken an append, refused the next one, and tell only then that the first one is committed.
    #[test]
    fn a_machine_hears_nothing_of_what_the_one_before_has_written() {
        let now = Now {
            instant: Instant::now(),
            timestamp: Timestamp::from_millis(1_700_000_000_000),
        };
        let replayed = || loaded(now, None);
        let mut shard = Shard::default();
        let mut written = Vec::new();
        let mut ask = |shard: &mut Shard<u32>, asker, result: Result<(), ErrorCode>| {
            let mut after = After::default();
            let mut append = |number, _: &Batch| {
                written.push(number);
                result
            };
            let client = ClientInfo::default();
            shard.request(now, 8, client, commit(), asker, &mut append, &mut after);
            (written.last().copied(), after)
        };
        let mut nothing = |_, _: &Batch| Ok(());
        let mut after = After::default();
        shard.open(now, replayed(), None, &mut nothing, &mut after);
        let (first, _) = ask(&mut shard, 1, Ok(()));
        let (_, refused) = ask(&mut shard, 2, Err(ErrorCode::NOT_ENOUGH_REPLICAS));
        assert!(refused.reload && refused.replies.len() == 2 && shard.is_loading());

        shard.open(now, replayed(), None, &mut nothing, &mut after);
        let (third, _) = ask(&mut shard, 3, Ok(()));
        let mut appended = |number: Option<u64>| {
            let mut after = After::default();
            let number = number.expect("something was written");
            shard.appended(now, number, Ok(()), &mut nothing, &mut after);
            after.replies.len()
        };
        assert_eq!(appended(first), 0, "the third is not committed yet");
        assert_eq!(appended(third), 1);
    }
}
