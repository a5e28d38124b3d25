//! A small world of brokers that lose requests, move leaders and forget sessions: what the application gets is whole and in order,
//! nothing is fetched that is not wanted, and in the end everything arrives.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset, Uuid};

use super::super::{
    Effect, FetchAnswer, FetchAnswers, Fetcher, Input, Position, Slot, Start, Wanted,
};
use crate::OffsetSpec;
use crate::backoff::Random;

const SLOTS: usize = 4;
const NODES: i32 = 3;
const RECORD_BYTES: usize = 10;
const END: i64 = 300;
const BYTES_MAX: usize = 1000;

/// What a broker remembers of a session.
#[derive(Default)]
struct Session {
    id: i32,
    epoch: i32,
    partitions: BTreeMap<Slot, Wanted>,
}

struct World {
    fetcher: Fetcher,
    now: Now,
    random: Random,
    leaders: [(i32, i32); SLOTS],
    sessions: BTreeMap<i32, Session>,
    next_session: i32,
    pending: Vec<Effect>,
    /// Where the application is, what is kept for it, and where that ends.
    read: [i64; SLOTS],
    kept: [VecDeque<(i64, i64)>; SLOTS],
    kept_to: [i64; SLOTS],
    is_assigned: [bool; SLOTS],
    is_paused: [bool; SLOTS],
    /// What the answer that is handed over brings.
    brought: BTreeMap<Slot, (i64, i64)>,
    is_calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = super::start();
        let mut world = Self {
            fetcher: Fetcher::new(now, super::config()),
            now,
            random: Random::new(seed),
            leaders: [(1, 0); SLOTS],
            sessions: BTreeMap::new(),
            next_session: 1,
            pending: Vec::new(),
            read: [0; SLOTS],
            kept: Default::default(),
            kept_to: [0; SLOTS],
            is_assigned: [false; SLOTS],
            is_paused: [false; SLOTS],
            brought: BTreeMap::new(),
            is_calm: false,
        };
        for slot in 0..SLOTS {
            world.tell_leader(slot);
            world.start(slot, Start::Lookup(OffsetSpec::Earliest));
        }
        world
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.next() as usize % bound
    }

    fn chance(&mut self, percent: usize) -> bool {
        !self.is_calm && self.below(100) < percent
    }

    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.fetcher.handle(self.now, input, &mut effects);
        self.fetcher.check();
        let mut further = Vec::new();
        for effect in effects {
            match effect {
                Effect::Keep { slot, from } => {
                    let (begin, end) = self.brought.remove(&slot).expect("something came");
                    assert_eq!(from, Offset::new(begin), "what came is what was asked for");
                    assert_eq!(
                        begin, self.kept_to[slot],
                        "nothing is missing, nothing twice"
                    );
                    assert!(self.is_assigned[slot]);
                    self.kept[slot].push_back((begin, end));
                    self.kept_to[slot] = end;
                }
                Effect::Begin { slot, position } => {
                    assert!(
                        self.kept[slot].is_empty() || self.kept_to[slot] == position.offset.value()
                    );
                    self.kept_to[slot] = position.offset.value();
                    if self.kept[slot].is_empty() {
                        self.read[slot] = position.offset.value();
                    }
                }
                Effect::Refresh => (0..SLOTS).for_each(|slot| {
                    further.push(slot);
                }),
                Effect::Truncated { .. } => panic!("no log here is ever cut"),
                Effect::OutOfRange { .. } | Effect::NoOffset { .. } => {
                    panic!("there is a policy")
                }
                Effect::Refused { .. } => panic!("nothing is refused for good"),
                request => self.pending.push(request),
            }
        }
        let kept: i64 = self.kept.iter().flatten().map(|(from, to)| to - from).sum();
        assert_eq!(kept as usize * RECORD_BYTES, self.fetcher.buffered_bytes());
        assert!(
            self.fetcher.buffered_bytes() <= BYTES_MAX,
            "the bound holds"
        );
        for slot in further {
            // What a broker knows may be old.
            if self.is_calm || self.random.next().is_multiple_of(2) {
                self.tell_leader(slot);
            }
        }
    }

    fn tell_leader(&mut self, slot: Slot) {
        let (leader, epoch) = self.leaders[slot];
        self.input(Input::Leader {
            slot,
            topic_id: Uuid::from_bytes([1; 16]),
            leader: (leader > 0).then(|| NodeId::new(leader)),
            leader_epoch: LeaderEpoch::new(epoch),
        });
    }

    fn start(&mut self, slot: Slot, start: Start) {
        self.kept[slot].clear();
        if !self.is_assigned[slot] {
            // A new assignment is not paused.
            self.is_paused[slot] = false;
        }
        self.is_assigned[slot] = true;
        let starts = vec![(slot, start)];
        self.input(Input::Assign { starts });
    }

    fn step(&mut self) {
        match self.below(20) {
            0..8 if !self.pending.is_empty() => {
                let index = self.below(self.pending.len());
                let request = self.pending.swap_remove(index);
                self.answer(request);
            }
            8..14 => self.take(),
            14 if !self.is_calm => {
                let slot = self.below(SLOTS);
                let to = self.below(END as usize) as i64;
                let position = Position {
                    offset: Offset::new(to),
                    leader_epoch: LeaderEpoch::new(self.below(2) as i32 - 1),
                };
                self.start(slot, Start::At(position));
            }
            15 if !self.is_calm => {
                let slot = self.below(SLOTS);
                if self.is_assigned[slot] {
                    self.is_paused[slot] ^= true;
                    self.input(match self.is_paused[slot] {
                        true => Input::Pause { slot },
                        false => Input::Resume { slot },
                    });
                }
            }
            16 if !self.is_calm => {
                let slot = self.below(SLOTS);
                let leader = self.below(NODES as usize + 1) as i32;
                self.leaders[slot] = (leader, self.leaders[slot].1 + 1);
            }
            17 if !self.is_calm => {
                let slot = self.below(SLOTS);
                self.kept[slot].clear();
                self.is_assigned[slot] = false;
                self.input(Input::Unassign { slot });
            }
            _ => {
                self.now = self.now + Duration::from_millis(50);
                self.input(Input::Timeout);
            }
        }
    }

    /// The application takes the next chunk of a partition.
    fn take(&mut self) {
        let slot = self.below(SLOTS);
        if let Some((from, to)) = self.kept[slot].pop_front() {
            assert_eq!(from, self.read[slot], "in order");
            self.read[slot] = to;
            let bytes = (to - from) as usize * RECORD_BYTES;
            self.input(Input::Taken { slot, bytes });
        }
    }

    fn answer(&mut self, request: Effect) {
        let is_lost = self.chance(10);
        match request {
            Effect::Lookup {
                request,
                node,
                partitions,
            } => {
                let answers = partitions.iter().map(|(slot, ..)| {
                    let found = match self.leaders[*slot].0 == node.value() {
                        true => Ok(Some(Position::at(Offset::ZERO))),
                        false => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                    };
                    (*slot, found)
                });
                let answers = answers.collect();
                self.input(match is_lost {
                    true => Input::Lost { request },
                    false => Input::Found { request, answers },
                });
            }
            Effect::AskEpochEnds {
                request,
                node,
                partitions,
            } => {
                let answers = partitions.iter().map(|(slot, _, of)| {
                    let end = Position {
                        offset: Offset::new(END),
                        leader_epoch: *of,
                    };
                    let end = match self.leaders[*slot].0 == node.value() {
                        true => Ok(end),
                        false => Err(ErrorCode::FENCED_LEADER_EPOCH),
                    };
                    (*slot, end)
                });
                let answers = answers.collect();
                self.input(match is_lost {
                    true => Input::Lost { request },
                    false => Input::EpochEnds { request, answers },
                });
            }
            fetch @ Effect::Fetch { .. } => self.answer_fetch(fetch, is_lost),
            other => panic!("{other:?} is not asked here"),
        }
    }

    fn answer_fetch(&mut self, fetch: Effect, is_lost: bool) {
        let Effect::Fetch {
            request,
            node,
            session_id,
            session_epoch,
            bytes_max,
            partitions,
            forgotten,
        } = fetch
        else {
            unreachable!("matched by the caller");
        };
        if self.chance(5) {
            self.sessions.remove(&node.value());
        }
        let may_be_carried_out = !is_lost || self.random.next().is_multiple_of(2);
        if !may_be_carried_out {
            return self.input(Input::Lost { request });
        }
        let answers = self.serve(
            node,
            session_id,
            session_epoch,
            partitions,
            &forgotten,
            bytes_max,
        );
        let input = match is_lost {
            true => Input::Lost { request },
            false => Input::Fetched { request, answers },
        };
        self.input(input);
        self.brought.clear();
    }

    fn serve(
        &mut self,
        node: NodeId,
        session_id: i32,
        session_epoch: i32,
        partitions: Vec<Wanted>,
        forgotten: &[Slot],
        bytes_max: usize,
    ) -> FetchAnswers {
        let session = self.sessions.entry(node.value()).or_default();
        let mut answers = FetchAnswers {
            error_code: ErrorCode::NONE,
            session_id: 0,
            throttle_ms: 0,
            partitions: Vec::new(),
        };
        if session_epoch == 0 {
            *session = Session {
                id: self.next_session,
                epoch: 0,
                partitions: BTreeMap::new(),
            };
            self.next_session += 1;
        } else if session.id != session_id {
            answers.error_code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
            return answers;
        } else if session_epoch != session.epoch + 1 {
            answers.error_code = ErrorCode::INVALID_FETCH_SESSION_EPOCH;
            return answers;
        } else {
            session.epoch = session_epoch;
        }
        for slot in forgotten {
            assert!(session.partitions.remove(slot).is_some(), "it was there");
        }
        for wanted in partitions {
            session.partitions.insert(wanted.slot, wanted);
        }
        answers.session_id = session.id;
        let wanted: Vec<_> = session.partitions.values().copied().collect();
        let mut room = bytes_max / RECORD_BYTES;
        for Wanted {
            slot, fetch_offset, ..
        } in wanted
        {
            let mut answer = FetchAnswer {
                error_code: ErrorCode::NONE,
                preferred_replica: None,
                records: None,
            };
            if self.leaders[slot].0 != node.value() {
                answer.error_code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
            } else {
                let from = fetch_offset.value();
                let count = (self.below(20) as i64).min(END - from).min(room as i64);
                room -= count.max(0) as usize;
                if count > 0 {
                    let position = Position {
                        offset: Offset::new(from + count),
                        leader_epoch: LeaderEpoch::new(0),
                    };
                    answer.records = Some((count as usize * RECORD_BYTES, position));
                    self.brought.insert(slot, (from, from + count));
                }
            }
            answers.partitions.push((slot, answer));
        }
        answers
    }

    /// Faults end: everything arrives.
    fn settle(&mut self) {
        self.is_calm = true;
        for slot in 0..SLOTS {
            let (leader, epoch) = self.leaders[slot];
            self.leaders[slot] = (leader.max(1), epoch + 1);
            self.tell_leader(slot);
            if !self.is_assigned[slot] {
                self.start(slot, Start::Reset);
            }
            if std::mem::take(&mut self.is_paused[slot]) {
                self.input(Input::Resume { slot });
            }
        }
        for _ in 0..100_000 {
            if self.read.iter().all(|read| *read == END) {
                return;
            }
            self.step();
        }
        panic!("stuck at {:?} with {:#?}", self.read, self.fetcher);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everything_arrives_once_and_in_order(seed: u64, steps in 0..2000_usize) {
        let mut world = World::new(seed);
        for _ in 0..steps {
            world.step();
        }
        world.settle();
    }
}
