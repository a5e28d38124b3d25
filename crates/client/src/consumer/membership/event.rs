//! What happens to a member of a group, and what it wants done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Assignor;
use tidelog_types::{ErrorCode, PartitionIndex, Str, TopicId, TopicName, TopicPartition};

/// A request that is in flight; never used again.
pub type RequestId = u64;

/// What a member subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub topics: Vec<TopicName>,
    /// An expression that the broker resolves, or in a classic group the owner of the machine. In a heartbeat an empty one takes the
    /// last one back.
    pub regex: Option<Str>,
}

/// What a member says of itself (KIP-848). What is `None` has not changed since it was said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub member_id: Str,
    /// 0 to join, -1 to leave, -2 to leave as a static member that will be back.
    pub member_epoch: i32,
    pub rebalance_timeout: Option<Duration>,
    pub subscription: Option<Subscription>,
    /// What it owns, by topic.
    pub owned: Option<Vec<(TopicId, Vec<PartitionIndex>)>>,
}

/// What the coordinator says to a heartbeat (KIP-848).
#[derive(Clone, Debug)]
pub struct HeartbeatAnswer {
    pub error_code: ErrorCode,
    /// What it says of the error.
    pub message: Option<Str>,
    /// The id that the member has from now on, if the coordinator hands them out.
    pub member_id: Option<Str>,
    pub member_epoch: i32,
    pub interval: Duration,
    /// What the member should own, if that is news.
    pub assignment: Option<Vec<(TopicId, PartitionIndex)>>,
}

/// A member of a classic group, as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    pub member_id: Str,
    /// The name under which a static member survives restarts (KIP-345).
    pub instance_id: Option<Str>,
    pub topics: Vec<TopicName>,
    /// What it owns, or had last.
    pub owned: Vec<TopicPartition>,
    /// In which generation that was.
    pub generation_id: i32,
}

/// What a member wants to be in the next generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Empty to be given one.
    pub member_id: Str,
    pub topics: Vec<TopicName>,
    /// What it owns.
    pub owned: Vec<TopicPartition>,
    /// What it had last, for assignors that want to know though it was given up.
    pub last: Vec<TopicPartition>,
    /// In which generation that was.
    pub generation_id: i32,
}

/// A new generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    pub generation_id: i32,
    pub member_id: Str,
    /// How partitions are divided.
    pub assignor: Option<Assignor>,
    /// The members, for the leader.
    pub peers: Option<Vec<Peer>>,
    /// The leader need not divide anything (KIP-814).
    pub skips_assignment: bool,
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The application wants these topics.
    Subscribe { subscription: Subscription },
    /// The application wants nothing any more.
    Leave,
    /// The application has asked for records: it is alive.
    Polled,
    /// The application is done with what it was to give up, by the number of the demand.
    Revoked { demand: u64 },
    /// The names of topics.
    Named { names: BTreeMap<TopicId, TopicName> },
    /// The coordinator has answered.
    Heartbeat {
        request: RequestId,
        answer: HeartbeatAnswer,
    },
    /// A classic group has a new generation, or the reason why the member is not in it, with the id that it is to have.
    Joined {
        request: RequestId,
        answer: Result<Generation, (ErrorCode, Str)>,
    },
    /// What the member is to own in this generation.
    Synced {
        request: RequestId,
        answer: Result<Vec<TopicPartition>, ErrorCode>,
    },
    /// What the coordinator of a classic group says to a heartbeat, or to a farewell.
    Acknowledged {
        request: RequestId,
        error_code: ErrorCode,
    },
    /// How many partitions topics have, as far as they exist.
    Counted { counts: BTreeMap<TopicName, i32> },
    /// The topics that the expression matches now, for a member of a classic group.
    Matched { topics: BTreeSet<TopicName> },
    /// No answer will come.
    Lost { request: RequestId },
    /// [`deadline`](super::Member::deadline) has passed.
    Timeout,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a heartbeat; answered by [`Input::Heartbeat`].
    Heartbeat {
        request: RequestId,
        heartbeat: Heartbeat,
    },
    /// Join the next generation of a classic group; answered by [`Input::Joined`].
    Join { request: RequestId, join: Join },
    /// Ask for the assignment of a generation; the leader brings it. Answered by [`Input::Synced`].
    Sync {
        request: RequestId,
        generation_id: i32,
        member_id: Str,
        assignor: Option<Assignor>,
        assignments: Vec<(Str, Vec<TopicPartition>)>,
    },
    /// Send a heartbeat in this generation; answered by [`Input::Acknowledged`].
    Beat {
        request: RequestId,
        generation_id: i32,
        member_id: Str,
    },
    /// Leave the classic group; answered by [`Input::Acknowledged`].
    Leave { request: RequestId, member_id: Str },
    /// Find out how many partitions these topics have, and watch them; answered by [`Input::Counted`].
    Count { topics: BTreeSet<TopicName> },
    /// Find out the names of these topics; answered by [`Input::Named`].
    Name { topics: Vec<TopicId> },
    /// Stop reading these partitions, and let the application finish; answered by [`Input::Revoked`].
    Revoke {
        demand: u64,
        partitions: Vec<TopicPartition>,
    },
    /// Read these partitions, too.
    Assign { partitions: Vec<TopicPartition> },
    /// These partitions are another one's already. Nothing of them can be committed.
    Lose { partitions: Vec<TopicPartition> },
    /// The member has left.
    Left,
    /// The member cannot be one.
    Fail {
        error_code: ErrorCode,
        message: Option<Str>,
    },
}
