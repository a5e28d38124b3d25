//! What will go wrong, and when: all of it follows from the seed, and any part of it can be left out.

use tidelog_client::Assignor;
use tidelog_log::testing::{Crash, Op};

use crate::clock::{MS, SECOND, Time};
use crate::consumer::Protocol;
use crate::network::Place;
use crate::random::Random;

/// A cluster and its fate.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where all random numbers come from.
    pub seed: u64,
    pub(crate) nodes: i32,
    pub(crate) voters: i32,
    /// Whether voters come and go.
    pub(crate) dynamic: bool,
    pub(crate) partitions: i32,
    /// How many consumers share the work, and how.
    pub(crate) consumers: usize,
    pub(crate) protocol: Protocol,
    /// Whether there are writers, and topics that they write to.
    pub(crate) writers: bool,
    /// How long a producer waits between two batches.
    pub(crate) interval: Time,
    pub(crate) snapshot_bytes: i64,
    /// When the faults are over.
    pub(crate) calm_at: Time,
    pub(crate) faults: Vec<Planned>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) at: Time,
    pub(crate) lasts: Time,
    pub(crate) fault: Fault,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Crash(Place, Crash),
    Pause(Place),
    /// Nothing goes from the first to the second.
    CutOneWay(Place, Place),
    CutLink(Place, Place),
    /// Nothing reaches the node, nothing leaves it.
    Isolate(Place),
    /// All connections between the two break, once.
    Break(Place, Place),
    Slow(Place),
    StallDisk(Place),
    /// The nth operation from now on fails, and all later ones.
    FailDisk(Place, Op, usize),
    /// So many bytes more and the disk is full.
    FillDisk(Place, u64),
    /// No fault, but work under load: a partition goes to other nodes, which the number chooses.
    Reassign(i32, u64),
    /// Preferred leaders take over again.
    Elect,
    /// A topic of that number is created.
    CreateTopic(u64),
    /// A topic of that number is deleted.
    DeleteTopic(u64),
    /// A topic of that number is deleted, and another one of the same name is created; perhaps while a node is away.
    RecreateTopic(u64, Option<Place>),
    /// What is committed of a topic of that number is deleted.
    DeleteRecords(u64),
    /// A partition goes to other nodes, which the number chooses, until somebody thinks better of it.
    CancelReassignment(i32, u64),
    /// The coordinator of the group goes to other nodes, which the number chooses.
    MoveCoordinator(u64),
    /// A node stops in order, and starts again.
    ShutDown(Place),
    /// All nodes do, one after the other.
    RollingRestart,
    /// Nodes become voters, are none any more, or are reached at another port (KIP-853).
    AddVoter(Place),
    RemoveVoter(Place),
    UpdateVoter(Place, u16),
    /// The process of a consumer is gone, and a new member comes.
    KillConsumer(usize),
    PauseConsumer(usize),
    /// A consumer leaves, and comes back as a new member.
    LeaveGroup(usize),
}

impl Fault {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Crash(_, Crash::KeepAll) => "kill",
            Self::Crash(_, Crash::LoseUnsynced) => "power failure",
            Self::Crash(_, Crash::Tear(_)) => "power failure with torn writes",
            Self::Pause(_) => "pause",
            Self::CutOneWay(..) => "cut one way",
            Self::CutLink(..) => "cut link",
            Self::Isolate(_) => "cut node",
            Self::Break(..) => "broken connections",
            Self::Slow(_) => "slow network",
            Self::StallDisk(_) => "stalled disk",
            Self::FailDisk(..) => "failed disk",
            Self::FillDisk(..) => "full disk",
            Self::Reassign(..) => "reassignment",
            Self::Elect => "election of preferred leaders",
            Self::CreateTopic(_) => "topic created",
            Self::DeleteTopic(_) => "topic deleted",
            Self::RecreateTopic(..) => "topic deleted and created",
            Self::DeleteRecords(_) => "records deleted",
            Self::CancelReassignment(..) => "reassignment cancelled",
            Self::MoveCoordinator(_) => "coordinator moved",
            Self::ShutDown(_) => "orderly restart",
            Self::RollingRestart => "rolling restart",
            Self::AddVoter(_) => "voter added",
            Self::RemoveVoter(_) => "voter removed",
            Self::UpdateVoter(..) => "voter updated",
            Self::KillConsumer(_) => "consumer killed",
            Self::PauseConsumer(_) => "consumer paused",
            Self::LeaveGroup(_) => "consumer leaves",
        }
    }
}

/// How many kinds of faults there are.
const KINDS: u64 = 29;

/// How many names there are for topics that come and go.
pub(crate) const PASSING_TOPICS: u64 = 3;
/// The first of them is there from the beginning, and has the most to lose.
const PASSING: [u64; 5] = [0, 0, 0, 1, 2];

const PROTOCOLS: [Protocol; 5] = [
    Protocol::Consumer,
    Protocol::Consumer,
    Protocol::Classic(Assignor::Range),
    Protocol::Classic(Assignor::Sticky),
    Protocol::Classic(Assignor::CooperativeSticky),
];

impl Plan {
    /// The fate that goes with a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7469_6465_6c6f_6721);
        let nodes = random.pick(&[3, 3, 3, 3, 4, 5]);
        let voters = random.pick(&[3, 3, 3, nodes, 1]);
        let calm_at = random.between(15, 40) * SECOND;
        let mut plan = Self {
            seed,
            nodes,
            voters: voters.min(nodes),
            dynamic: random.one_in(2),
            partitions: random.between(1, 4) as i32,
            consumers: random.pick(&[0, 0, 1, 2, 3, 3]),
            protocol: random.pick(&PROTOCOLS),
            writers: random.one_in(2),
            interval: random.pick(&[20, 50, 50, 100]) * MS,
            snapshot_bytes: random.pick(&[4_000, 20_000, 1_000_000]),
            calm_at,
            faults: Vec::new(),
        };
        // How often something goes wrong differs from seed to seed, and what does too.
        let pause = random.pick(&[1, 2, 4, 8]) * SECOND;
        let kinds: Vec<u64> = (0..KINDS).filter(|_| !random.one_in(3)).collect();
        let mut at = 3 * SECOND + random.below(pause);
        while at < calm_at {
            let kind = match kinds.is_empty() {
                true => 0,
                false => random.pick(&kinds),
            };
            let lasts = match random.below(4) {
                0 => random.between(10 * MS, 500 * MS),
                1 => random.between(5 * SECOND, 12 * SECOND),
                _ => random.between(500 * MS, 5 * SECOND),
            };
            let fault = plan.fault(kind, &mut random);
            plan.faults.push(Planned { at, lasts, fault });
            at += random.between(pause / 4, pause * 2);
        }
        plan
    }

    fn fault(&self, kind: u64, random: &mut Random) -> Fault {
        let nodes = self.nodes as u64;
        let a = 1 + random.below(nodes) as Place;
        let b = 1 + (a + random.below(nodes - 1) as Place) % self.nodes;
        match kind {
            0 | 1 => Fault::Crash(a, Crash::Tear(random.next())),
            2 => Fault::Crash(a, Crash::LoseUnsynced),
            3 => Fault::Crash(a, Crash::KeepAll),
            4 => Fault::Pause(a),
            5 => Fault::CutOneWay(a, b),
            6 => Fault::CutLink(a, b),
            7 => Fault::Isolate(a),
            8 => Fault::Break(a, b),
            9 => Fault::Slow(a),
            10 => Fault::StallDisk(a),
            11 => Fault::Reassign(random.below(self.partitions as u64) as i32, random.next()),
            12 => Fault::Elect,
            13 => Fault::CreateTopic(random.below(PASSING_TOPICS)),
            14 => Fault::DeleteTopic(random.pick(&PASSING)),
            15..19 if self.consumers > 0 => {
                let consumer = random.below(self.consumers as u64) as usize;
                match kind {
                    15 => Fault::MoveCoordinator(random.next()),
                    16 => Fault::KillConsumer(consumer),
                    17 => Fault::PauseConsumer(consumer),
                    _ => Fault::LeaveGroup(consumer),
                }
            }
            19 => Fault::ShutDown(a),
            20 if random.one_in(3) => Fault::RollingRestart,
            21 if self.dynamic => Fault::AddVoter(a),
            22 if self.dynamic => Fault::RemoveVoter(a),
            23 if self.dynamic => Fault::UpdateVoter(a, random.between(9_093, 9_100) as u16),
            24 if self.writers => Fault::RecreateTopic(random.pick(&PASSING), None),
            25 if self.writers => Fault::RecreateTopic(random.pick(&PASSING), Some(a)),
            26 if self.writers => Fault::DeleteRecords(random.pick(&PASSING)),
            27 => Fault::CancelReassignment(
                random.below(self.partitions as u64) as i32,
                random.next(),
            ),
            _ if random.one_in(2) => Fault::FillDisk(a, random.below(3_000)),
            _ => {
                let op = random.pick(&[Op::Write, Op::Sync, Op::Change, Op::Mutation]);
                Fault::FailDisk(a, op, random.below(20) as usize)
            }
        }
    }

    /// How many faults there are.
    pub fn faults_count(&self) -> usize {
        self.faults.len()
    }

    /// The same without some of the faults.
    #[must_use]
    pub fn without(&self, range: std::ops::Range<usize>) -> Self {
        let mut plan = self.clone();
        plan.faults.drain(range);
        plan
    }

    /// The same with an earlier end.
    #[must_use]
    pub fn shortened(&self) -> Self {
        let mut plan = self.clone();
        let last = plan.faults.iter().map(|fault| fault.at).max();
        plan.calm_at = last.map_or(3 * SECOND, |at| at + SECOND).min(plan.calm_at);
        plan
    }

    /// What will go wrong, a line for each.
    pub fn describe(&self) -> Vec<String> {
        let head = format!(
            "{} nodes, {} of them {} voters, {} partitions, a batch each {} ms, {} consumers ({:?}), {} writers, calm after {} s",
            self.nodes,
            self.voters,
            if self.dynamic { "changing" } else { "fixed" },
            self.partitions,
            self.interval / MS,
            self.consumers,
            self.protocol,
            if self.writers { "with" } else { "no" },
            self.calm_at / SECOND
        );
        let faults = self.faults.iter().map(|planned| {
            let Planned { at, lasts, fault } = planned;
            format!("at {} ms for {} ms: {fault:?}", at / MS, lasts / MS)
        });
        std::iter::once(head).chain(faults).collect()
    }
}
