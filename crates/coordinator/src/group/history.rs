//! Why a group rebalanced: kept for each change of its generation or epoch, bounded, in memory.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use tidelog_types::{Now, PartitionIndex, Str, Timestamp, TopicName};

use super::TopicChangeKind;

/// How many causes of one rebalance are kept; there is one for each member that joins.
const CAUSES_MAX: usize = 32;
/// How many members are kept that took longest.
const WAITS_MAX: usize = 8;

/// One change of a group's generation (classic protocol) or epoch (consumer protocol), from its cause until every member
/// has what it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// Which protocol the group spoke.
    pub protocol: Protocol,
    /// The generation or the group epoch that came of it.
    pub epoch: i32,
    /// When it began.
    pub started: Timestamp,
    /// What led to it, in the order in which it happened.
    pub causes: Vec<Cause>,
    /// How many more causes there were.
    pub causes_omitted: usize,
    /// How long each phase took, in the order of the phases.
    pub phases: Vec<PhaseTime>,
    /// The members that took longest, the slowest first.
    pub waited_for: Vec<Wait>,
    /// Partitions that changed hands, as far as they are kept.
    pub moves: Vec<Move>,
    /// How many partitions changed hands.
    pub moves_count: usize,
    /// How many members the group had when it ended, or has while it is under way.
    pub members: usize,
    /// How it ended.
    pub outcome: Outcome,
}

/// The protocol of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The leader among the members assigns.
    Classic,
    /// The broker assigns (KIP-848).
    Consumer,
}

/// How a rebalance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It has not ended.
    UnderWay,
    /// Every member has what it is to have.
    Stable,
    /// Another rebalance began before it ended.
    Superseded,
    /// Nobody is left.
    Empty,
}

/// A part of a rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Members join (classic).
    Joining,
    /// The leader, or the broker, works out who gets what.
    Assigning,
    /// Members give up and take over partitions (consumer), or the assignment is made durable (classic).
    Reconciling,
}

/// How long a phase took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseTime {
    /// The phase.
    pub phase: Phase,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// A member, in the words in which somebody might look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Its member id.
    pub member_id: Str,
    /// The name under which a static member survives restarts.
    pub instance_id: Option<Str>,
    /// Its client id.
    pub client_id: Str,
    /// Its address.
    pub client_host: Str,
}

/// How long a member was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The member.
    pub who: Who,
    /// In which phase.
    pub phase: Phase,
    /// How long, in milliseconds from the beginning of the phase.
    pub millis: u64,
    /// It never came.
    pub gave_up: bool,
}

/// A partition has changed hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// The member that had it.
    pub from: Option<Str>,
    /// The member that gets it.
    pub to: Option<Str>,
}

/// What led to a rebalance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A new member.
    Joined {
        /// The member.
        who: Who,
        /// What it says of its reason (KIP-800).
        reason: Option<Str>,
    },
    /// A member that takes part joins again and thereby asks for a new assignment: it leads, or its metadata changed.
    Rejoined {
        /// The member.
        who: Who,
        /// Whether it leads the group.
        leader: bool,
        /// What it says of its reason (KIP-800).
        reason: Option<Str>,
    },
    /// A member has left by itself.
    Left {
        /// The member.
        who: Who,
        /// What it says of its reason (KIP-800).
        reason: Option<Str>,
    },
    /// Nothing was heard of a member for the whole of its session.
    SessionTimedOut {
        /// The member.
        who: Who,
        /// The length of the session in milliseconds.
        after_ms: i32,
    },
    /// A member did not give up partitions, join again, or ask for its assignment in time.
    RebalanceTimedOut {
        /// The member.
        who: Who,
        /// How long it had, in milliseconds.
        after_ms: i32,
    },
    /// Another process has taken over the name of a static member.
    StaticMemberReplaced {
        /// The new one.
        who: Who,
        /// The member id of the old one.
        old_member_id: Str,
    },
    /// A member subscribes to something else.
    SubscriptionChanged {
        /// The member.
        who: Who,
        /// Topics that it did not want before.
        added: Vec<TopicName>,
        /// Topics that it does not want any more.
        removed: Vec<TopicName>,
    },
    /// A topic to which the group subscribes has changed.
    TopicChanged {
        /// The topic.
        topic: TopicName,
        /// What has happened to it.
        kind: TopicChangeKind,
    },
    /// An expression to which members subscribe matches other topics.
    RegexResolved {
        /// The expression.
        regex: Str,
        /// Topics that it did not match before.
        added: Vec<TopicName>,
        /// Topics that it does not match any more.
        removed: Vec<TopicName>,
    },
    /// The first member with the consumer protocol came into a classic group.
    Upgraded,
    /// The last member with the consumer protocol has left.
    Downgraded,
    /// The coordinator found the group unfinished, or too large, when it took over.
    TakenOver,
    /// The leader's assignment could not be stored.
    AssignmentRefused,
}

/// The rebalances of one group, the newest last.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Boxed, since a queue sets aside room for several.
    entries: VecDeque<Box<Rebalance>>,
    open: Option<Open>,
}

/// What is known of the newest rebalance while it is under way.
#[derive(Debug)]
struct Open {
    phase: Phase,
    phase_started: Instant,
}

impl History {
    /// Something leads to a rebalance whose generation or epoch will be `epoch`. True if it is a new one.
    pub(super) fn cause(
        &mut self,
        now: Now,
        max: usize,
        protocol: Protocol,
        epoch: i32,
        cause: Cause,
    ) -> bool {
        if let Some(last) = self.current_mut()
            && last.epoch == epoch
            && last.protocol == protocol
        {
            if last.causes.len() < CAUSES_MAX {
                last.causes.push(cause);
            } else {
                last.causes_omitted += 1;
            }
            return false;
        }
        self.finish(now, Outcome::Superseded, None);
        let phase = match protocol {
            Protocol::Classic => Phase::Joining,
            Protocol::Consumer => Phase::Assigning,
        };
        self.open = Some(Open {
            phase,
            phase_started: now.instant,
        });
        self.entries.push_back(Box::new(Rebalance {
            protocol,
            epoch,
            started: now.timestamp,
            causes: vec![cause],
            causes_omitted: 0,
            phases: Vec::new(),
            waited_for: Vec::new(),
            moves: Vec::new(),
            moves_count: 0,
            members: 0,
            outcome: Outcome::UnderWay,
        }));
        while self.entries.len() > max.max(1) {
            self.entries.pop_front();
        }
        true
    }

    /// The next phase begins.
    pub(super) fn enter(&mut self, now: Now, phase: Phase) {
        self.end_phase(now);
        if let Some(open) = &mut self.open {
            *open = Open {
                phase,
                phase_started: now.instant,
            };
        }
    }

    /// A member has done its part of the phase, or never will.
    pub(super) fn waited(&mut self, now: Now, who: impl FnOnce() -> Who, gave_up: bool) {
        let Some(open) = &self.open else { return };
        let (phase, millis) = (open.phase, millis_between(open.phase_started, now.instant));
        let Some(last) = self.current_mut() else {
            return;
        };
        let waits = &mut last.waited_for;
        let place = waits.partition_point(|wait| (wait.gave_up, wait.millis) >= (gave_up, millis));
        if place >= WAITS_MAX {
            return;
        }
        let who = who();
        waits.insert(
            place,
            Wait {
                who,
                phase,
                millis,
                gave_up,
            },
        );
        waits.truncate(WAITS_MAX);
    }

    /// A partition goes from one member to another; `max` of a rebalance are kept, all are counted.
    pub(super) fn moved(&mut self, max: usize, moves: impl IntoIterator<Item = Move>) {
        let Some(last) = self.current_mut() else {
            return;
        };
        for one in moves {
            last.moves_count += 1;
            if last.moves.len() < max {
                last.moves.push(one);
            }
        }
    }

    /// The newest rebalance ends. Gives it, unless none was under way.
    pub(super) fn finish(
        &mut self,
        now: Now,
        outcome: Outcome,
        members: Option<usize>,
    ) -> Option<&Rebalance> {
        self.open.as_ref()?;
        self.end_phase(now);
        self.open = None;
        let last = self.entries.back_mut()?;
        last.outcome = outcome;
        last.members = members.unwrap_or(last.members);
        // It stays for long, and grows no more.
        last.causes.shrink_to_fit();
        last.phases.shrink_to_fit();
        last.waited_for.shrink_to_fit();
        last.moves.shrink_to_fit();
        Some(last)
    }

    /// How many members take part, while the rebalance is under way.
    pub(super) fn set_members(&mut self, members: usize) {
        if let Some(last) = self.current_mut() {
            last.members = members;
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn last(&self) -> Option<&Rebalance> {
        self.entries.back().map(Box::as_ref)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rebalance> {
        self.entries.iter().map(Box::as_ref)
    }

    fn current_mut(&mut self) -> Option<&mut Rebalance> {
        self.open.as_ref()?;
        self.entries.back_mut().map(Box::as_mut)
    }

    fn end_phase(&mut self, now: Now) {
        let (Some(open), Some(last)) = (&self.open, self.entries.back_mut()) else {
            return;
        };
        last.phases.push(PhaseTime {
            phase: open.phase,
            millis: millis_between(open.phase_started, now.instant),
        });
    }
}

fn millis_between(earlier: Instant, later: Instant) -> u64 {
    let millis = later.saturating_duration_since(earlier).as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX)
}

impl Rebalance {
    /// How long it took, or has taken so far in the phases that have ended, in milliseconds.
    pub fn millis(&self) -> u64 {
        self.phases.iter().map(|phase| phase.millis).sum()
    }
}

impl Protocol {
    /// The name that ListGroups has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

impl Outcome {
    /// One word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnderWay => "under-way",
            Self::Stable => "stable",
            Self::Superseded => "superseded",
            Self::Empty => "empty",
        }
    }
}

impl Phase {
    /// One word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Assigning => "assigning",
            Self::Reconciling => "reconciling",
        }
    }
}

impl Cause {
    /// One word for the kind of cause.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Joined { .. } => "joined",
            Self::Rejoined { .. } => "rejoined",
            Self::Left { .. } => "left",
            Self::SessionTimedOut { .. } => "session-timed-out",
            Self::RebalanceTimedOut { .. } => "rebalance-timed-out",
            Self::StaticMemberReplaced { .. } => "static-member-replaced",
            Self::SubscriptionChanged { .. } => "subscription-changed",
            Self::TopicChanged { .. } => "topic-changed",
            Self::RegexResolved { .. } => "regex-resolved",
            Self::Upgraded => "upgraded",
            Self::Downgraded => "downgraded",
            Self::TakenOver => "taken-over",
            Self::AssignmentRefused => "assignment-refused",
        }
    }

    /// The member that it is about.
    pub const fn who(&self) -> Option<&Who> {
        match self {
            Self::Joined { who, .. }
            | Self::Rejoined { who, .. }
            | Self::Left { who, .. }
            | Self::SessionTimedOut { who, .. }
            | Self::RebalanceTimedOut { who, .. }
            | Self::StaticMemberReplaced { who, .. }
            | Self::SubscriptionChanged { who, .. } => Some(who),
            Self::TopicChanged { .. }
            | Self::RegexResolved { .. }
            | Self::Upgraded
            | Self::Downgraded
            | Self::TakenOver
            | Self::AssignmentRefused => None,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.member_id)?;
        if let Some(instance_id) = &self.instance_id {
            write!(f, " ({instance_id})")?;
        }
        Ok(())
    }
}

/// A sentence without its full stop.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = |reason: &Option<Str>| match reason {
            Some(reason) if !reason.is_empty() => format!(": {reason}"),
            _ => String::new(),
        };
        match self {
            Self::Joined { who, reason } => write!(f, "{who} joined{}", because(reason)),
            Self::Rejoined {
                who,
                leader,
                reason,
            } => {
                let role = if *leader { ", the leader," } else { "" };
                write!(f, "{who}{role} joined again{}", because(reason))
            }
            Self::Left { who, reason } => write!(f, "{who} left{}", because(reason)),
            Self::SessionTimedOut { who, after_ms } => {
                write!(f, "nothing was heard of {who} for {after_ms} ms")
            }
            Self::RebalanceTimedOut { who, after_ms } => {
                write!(f, "{who} did not do its part within {after_ms} ms")
            }
            Self::StaticMemberReplaced { who, old_member_id } => {
                write!(f, "{who} took the place of {old_member_id}")
            }
            Self::SubscriptionChanged {
                who,
                added,
                removed,
            } => {
                write!(
                    f,
                    "{who} changed its subscription{}",
                    changes(added, removed)
                )
            }
            Self::TopicChanged { topic, kind } => match kind {
                TopicChangeKind::Created => write!(f, "topic {topic} was created"),
                TopicChangeKind::Changed => write!(f, "topic {topic} has other partitions"),
                TopicChangeKind::Deleted => write!(f, "topic {topic} was deleted"),
            },
            Self::RegexResolved {
                regex,
                added,
                removed,
            } => {
                write!(f, "{regex} matches other topics{}", changes(added, removed))
            }
            Self::Upgraded => f.write_str("the first member with the consumer protocol came"),
            Self::Downgraded => f.write_str("the last member with the consumer protocol left"),
            Self::TakenOver => f.write_str("the coordinator took over and found it unfinished"),
            Self::AssignmentRefused => f.write_str("the assignment of the leader was too large"),
        }
    }
}

fn changes(added: &[TopicName], removed: &[TopicName]) -> String {
    let signed = |sign: &str, topics: &[TopicName]| {
        topics
            .iter()
            .map(|topic| format!(" {sign}{topic}"))
            .collect::<String>()
    };
    let text = signed("+", added) + &signed("-", removed);
    if text.is_empty() {
        text
    } else {
        format!(":{text}")
    }
}
