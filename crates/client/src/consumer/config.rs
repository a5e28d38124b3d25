use std::time::Duration;

use tidelog_types::{GroupId, Str};

use super::membership::Assignor;
use super::{ConsumeError, fetcher};
use crate::backoff::Random;

/// Where a consumer begins in a partition of which nothing was committed, and where it goes on if its position is no longer
/// there (`auto.offset.reset`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// With the first record that there still is.
    Earliest,
    /// With what comes from now on.
    #[default]
    Latest,
    /// With the first record that is no older than this (KIP-1106).
    ByDuration(Duration),
    /// Nowhere: it is an error, and the application seeks.
    None,
}

/// Which records of transactions are seen (`isolation.level`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationLevel {
    /// All of them, at once.
    #[default]
    ReadUncommitted,
    /// Those of committed transactions, and no record beyond the first transaction that is still open.
    ReadCommitted,
}

impl IsolationLevel {
    pub(crate) const fn code(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// By which protocol the members of a group meet (`group.protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// The broker divides the partitions (KIP-848). Brokers before Kafka 4.0 do not know how.
    #[default]
    Consumer,
    /// A member divides them.
    Classic,
    /// The broker if it knows how, a member otherwise: the classic protocol if the coordinator serves no other.
    Auto,
}

/// How a consumer behaves. The words in parentheses are Kafka's names for the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerConfig {
    /// The group in which the consumer's progress is kept (`group.id`). Without one it can be assigned partitions by hand, and commits
    /// nothing.
    pub group_id: Option<GroupId>,
    /// A name under which the consumer survives a restart: within the session timeout it gets its partitions back, and no others move
    /// (`group.instance.id`, KIP-345). Each member has another one.
    pub group_instance_id: Option<Str>,
    /// By which protocol the members of the group meet (`group.protocol`). A group may have members of both.
    pub group_protocol: GroupProtocol,
    /// How the leader of a classic group divides the partitions, the preferred one first (`partition.assignment.strategy`). All members need
    /// one in common. If all of them are [`Assignor::CooperativeSticky`], only what changes hands is given up in a rebalance.
    pub assignors: Vec<Assignor>,
    /// After how long without a heartbeat a member of a classic group is taken for dead (`session.timeout.ms`).
    pub session_timeout: Duration,
    /// How often a member of a classic group sends a heartbeat (`heartbeat.interval.ms`).
    pub heartbeat_interval: Duration,
    /// How the broker divides the partitions, such as `uniform` or `range`; `None` for what the broker prefers
    /// (`group.remote.assignor`).
    pub remote_assignor: Option<Str>,
    /// How long the application may take until it asks for the next record, or gives partitions up. After that its partitions
    /// go to others until it asks again (`max.poll.interval.ms`).
    pub poll_interval_max: Duration,
    /// Where to begin (`auto.offset.reset`).
    pub offset_reset: OffsetReset,
    /// Which records of transactions are seen (`isolation.level`).
    pub isolation_level: IsolationLevel,
    /// After how long positions are committed by themselves (`auto.commit.interval.ms`); `None` to commit by hand only
    /// (`enable.auto.commit`). Without a group nothing is.
    pub auto_commit_interval: Option<Duration>,
    /// How many bytes an answer should have at least, if [`fetch_wait_max`](Self::fetch_wait_max) allows (`fetch.min.bytes`).
    pub fetch_bytes_min: usize,
    /// How many bytes an answer may have (`fetch.max.bytes`).
    pub fetch_bytes_max: usize,
    /// How many bytes of one partition an answer may have (`max.partition.fetch.bytes`).
    pub partition_bytes_max: usize,
    /// How long the broker may wait for [`fetch_bytes_min`](Self::fetch_bytes_min) (`fetch.max.wait.ms`).
    pub fetch_wait_max: Duration,
    /// How many bytes of batches, as they come from the broker, may be fetched ahead. A batch that is larger comes all the same.
    pub buffer_bytes_max: usize,
    /// Whether the checksum of each batch is checked (`check.crcs`).
    pub check_crcs: bool,
    /// Where the consumer is, so that it may read from a replica nearby (`client.rack`, KIP-392).
    pub rack: Option<Str>,
    /// For how long a topic that the cluster does not know is waited for before that is an error.
    pub topic_timeout: Duration,
    /// Whether asking for an unknown topic may create it, if the cluster allows that (`allow.auto.create.topics`).
    pub may_create_topics: bool,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group_id: None,
            group_instance_id: None,
            group_protocol: GroupProtocol::Consumer,
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            remote_assignor: None,
            poll_interval_max: Duration::from_secs(300),
            offset_reset: OffsetReset::Latest,
            isolation_level: IsolationLevel::ReadUncommitted,
            auto_commit_interval: Some(Duration::from_secs(5)),
            fetch_bytes_min: 1,
            fetch_bytes_max: 50 << 20,
            partition_bytes_max: 1 << 20,
            fetch_wait_max: Duration::from_millis(500),
            buffer_bytes_max: 16 << 20,
            check_crcs: true,
            rack: None,
            topic_timeout: Duration::from_secs(5),
            may_create_topics: false,
        }
    }
}

/// So little that no answer need be waited for to have it taken first.
const AHEAD_BYTES_MIN: usize = 64 << 10;

/// Far more than any broker sends, and so little that every sum fits.
const BYTES_MAX: usize = 1 << 30;

impl ConsumerConfig {
    /// A consumer that keeps its progress in this group.
    pub fn group(group_id: impl Into<GroupId>) -> Self {
        Self {
            group_id: Some(group_id.into()),
            ..Self::default()
        }
    }

    /// Refuses what contradicts itself.
    pub(super) fn check(&self, client: &crate::Config) -> Result<(), ConsumeError> {
        let wrong = |what: &'static str| Err(ConsumeError::Config { what });
        if self.group_id.as_ref().is_some_and(|group| group.is_empty()) {
            return wrong("a group_id that is empty names no group");
        }
        if self
            .group_instance_id
            .as_ref()
            .is_some_and(|it| it.is_empty())
        {
            return wrong("a group_instance_id that is empty names no member");
        }
        if self.group_protocol != GroupProtocol::Consumer && self.assignors.is_empty() {
            return wrong("a classic group needs assignors");
        }
        if self.heartbeat_interval >= self.session_timeout || self.heartbeat_interval.is_zero() {
            return wrong(
                "heartbeat_interval has to be less than session_timeout, and more than 0",
            );
        }
        let sizes = [
            self.fetch_bytes_max,
            self.partition_bytes_max,
            self.buffer_bytes_max,
        ];
        if sizes.iter().any(|size| !(1..=BYTES_MAX).contains(size)) {
            return wrong(
                "fetch_bytes_max, partition_bytes_max and buffer_bytes_max have to be from 1 byte to 1 GiB",
            );
        }
        if self.fetch_bytes_min > self.fetch_bytes_max {
            return wrong("fetch_bytes_min has to be no more than fetch_bytes_max");
        }
        if self.fetch_wait_max >= client.request_timeout {
            return wrong("fetch_wait_max has to be less than the client's request_timeout");
        }
        Ok(())
    }

    pub(super) fn fetcher(&self, client: &crate::Config) -> fetcher::Config {
        fetcher::Config {
            reset: self.offset_reset,
            buffer_bytes_max: self.buffer_bytes_max,
            fetch_bytes_max: self.fetch_bytes_max,
            ahead_bytes_min: AHEAD_BYTES_MIN,
            retry_backoff: client.retry_backoff,
            retry_backoff_max: client.retry_backoff_max,
            preferred_for: client.metadata_age_max,
            seed: Random::seeded().next(),
        }
    }
}
