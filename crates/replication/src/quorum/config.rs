use std::time::Duration;

use tidelog_types::{LeaderEpoch, Offset, Str};

use super::event::{ControlRecord, EpochStart, QuorumState};
use super::snapshot::Snapshot;
use super::voters::{Endpoint, ReplicaKey, VersionRange, VoterSet};

/// Who a replica is, whom it knows, and how patient it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This replica.
    pub node: ReplicaKey,
    /// Whether this node is a controller, and so votes or may come to vote. It fetches from where it has flushed. Others (the
    /// brokers) only follow.
    pub can_become_voter: bool,
    /// Where this node is reached.
    pub endpoints: Vec<Endpoint>,
    /// The listener of controllers that every voter must have (`controller.listener.names`, the first).
    pub listener: Str,
    /// What this node knows of `kraft.version`.
    pub kraft_versions: VersionRange,
    /// `controller.quorum.voters`: who votes as long as the log does not say. With no directories, since a static
    /// configuration knows none.
    pub voters: VoterSet,
    /// `controller.quorum.bootstrap.servers`: who is asked for the leader. Without any, the voters are.
    pub bootstrap_servers: Vec<Endpoint>,
    /// `controller.quorum.election.timeout.ms`: how long an election may take, and a node without leader waits. Up to twice
    /// this, at random.
    pub election_timeout: Duration,
    /// `controller.quorum.fetch.timeout.ms`: how long a voter follows a leader that does not answer. A leader that has not
    /// heard from a majority in one and a half of this steps down.
    pub fetch_timeout: Duration,
    /// `controller.quorum.election.backoff.max.ms`: how long the last of the preferred successors waits when a leader steps
    /// down.
    pub election_backoff_max: Duration,
    /// `controller.quorum.request.timeout.ms`: how long an answer may take.
    pub request_timeout: Duration,
    /// `controller.quorum.retry.backoff.ms`: how long to wait before a node is asked again that gave no answer.
    pub retry_backoff: Duration,
    /// How long a leader may hold back the answer to a fetch for which there is nothing.
    pub fetch_max_wait: Duration,
    /// When the leader's process is gone, voters ask for votes one after the other, this far apart, so that they do not take
    /// votes from each other.
    pub succession_step: Duration,
    /// `controller.quorum.auto.join.enable`: whether an observer that may vote asks to become a voter.
    pub auto_join: bool,
    /// How long a leader remembers an observer that does not fetch.
    pub observer_session: Duration,
    /// Of how many observers a leader remembers how far they are, and for how many fetches are held back.
    pub observers_max: usize,
    /// How many answers may wait for the quorum state to be stored. Further requests are refused with
    /// `BROKER_NOT_AVAILABLE`.
    pub parked_answers_max: usize,
    /// What random numbers begin with.
    pub seed: u64,
}

impl Config {
    /// A node with Kafka's timeouts.
    pub fn new(node: ReplicaKey, voters: VoterSet, seed: u64) -> Self {
        Self {
            node,
            can_become_voter: true,
            endpoints: voters.endpoints(node.id),
            listener: Str::from("CONTROLLER"),
            kraft_versions: VersionRange { min: 0, max: 1 },
            voters,
            bootstrap_servers: Vec::new(),
            election_timeout: Duration::from_secs(1),
            fetch_timeout: Duration::from_secs(2),
            election_backoff_max: Duration::from_secs(1),
            request_timeout: Duration::from_secs(2),
            retry_backoff: Duration::from_millis(20),
            fetch_max_wait: Duration::from_millis(500),
            succession_step: Duration::from_millis(50),
            auto_join: false,
            observer_session: Duration::from_mins(5),
            observers_max: 10_000,
            parked_answers_max: 10_000,
            seed,
        }
    }
}

/// What was found on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The content of `quorum-state`, if the file is there.
    pub quorum_state: Option<QuorumState>,
    /// The first offset of the log.
    pub log_start_offset: Offset,
    /// The log end offset.
    pub log_end_offset: Offset,
    /// Everything below it is known to survive a power failure.
    pub durable_end_offset: Offset,
    /// The epochs of the log, oldest first.
    pub epochs: Vec<EpochStart>,
    /// The snapshots that are there.
    pub snapshots: Vec<Snapshot>,
    /// The control records of the newest snapshot, at the offset of the last record that it replaces (-1 for what `format`
    /// wrote), and of the log behind it.
    pub control_records: Vec<ControlRecord>,
    /// Everything below it is known to be committed: the end of the latest snapshot.
    pub high_watermark: Offset,
    /// Where the log ended before some of it was lost, as long as it has not come so far again. What this replica has said of
    /// its log still counts: it votes as if it had all of that, and does not stand for election.
    pub lost: Option<LogEnd>,
}

/// Where a log ends. The later end is that of the log that has everything the other one may have (Raft, section 5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogEnd {
    /// The epoch of the last record.
    pub epoch: LeaderEpoch,
    /// The log end offset.
    pub offset: Offset,
}

impl Default for Restored {
    /// An empty directory.
    fn default() -> Self {
        Self {
            quorum_state: None,
            log_start_offset: Offset::ZERO,
            log_end_offset: Offset::ZERO,
            durable_end_offset: Offset::ZERO,
            epochs: Vec::new(),
            snapshots: Vec::new(),
            control_records: Vec::new(),
            high_watermark: Offset::ZERO,
            lost: None,
        }
    }
}

impl Restored {
    /// The epoch of the last record, or of the snapshot if the log is empty; [`LeaderEpoch::NONE`] if there is neither.
    pub fn log_end_epoch(&self) -> LeaderEpoch {
        let in_log = self.epochs.last().map(|epoch| epoch.leader_epoch);
        let snapshot = self.snapshots.iter().map(|snapshot| snapshot.id).max();
        in_log
            .or_else(|| snapshot.map(|id| id.epoch))
            .unwrap_or(LeaderEpoch::NONE)
    }
}
