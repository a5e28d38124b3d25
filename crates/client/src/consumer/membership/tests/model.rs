//! Several members and a coordinator that keeps to the rules of KIP-848, with requests and answers that are lost: no partition is read by
//! two members of the group, and in the end each is read by the one that should.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tidelog_types::{ErrorCode, Now, TopicId, TopicPartition};

use super::super::{Effect, Heartbeat, HeartbeatAnswer, Input, Member, RequestId, Subscription};
use crate::backoff::Random;

const PARTITIONS: i32 = 6;

fn topic() -> TopicId {
    TopicId::from_bytes([1; 16])
}

/// What the coordinator knows of a member.
#[derive(Debug, Default)]
struct Known {
    epoch: i32,
    previous_epoch: i32,
    assigned: BTreeSet<i32>,
    /// What it still has to give up.
    revoking: BTreeSet<i32>,
}

#[derive(Default)]
struct Coordinator {
    epoch: i32,
    members: BTreeMap<String, Known>,
}

impl Coordinator {
    /// Partitions by turns.
    fn target(&self, member: &str) -> BTreeSet<i32> {
        let count = self.members.len();
        let index = self.members.keys().position(|it| it == member);
        let index = index.expect("a member");
        (0..PARTITIONS)
            .filter(|it| (*it as usize + self.epoch as usize) % count == index)
            .collect()
    }

    fn is_free(&self, partition: i32, for_member: &str) -> bool {
        self.members.iter().all(|(id, it)| {
            id == for_member
                || !(it.assigned.contains(&partition) || it.revoking.contains(&partition))
        })
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat) -> HeartbeatAnswer {
        let id = heartbeat.member_id.to_string();
        let mut answer = HeartbeatAnswer {
            error_code: ErrorCode::NONE,
            message: None,
            member_id: Some(heartbeat.member_id.clone()),
            member_epoch: heartbeat.member_epoch,
            interval: Duration::from_millis(100),
            assignment: None,
        };
        if heartbeat.member_epoch < 0 {
            if self.members.remove(&id).is_some() {
                self.epoch += 1;
            }
            return answer;
        }
        let says: Option<BTreeSet<i32>> = heartbeat.owned.as_ref().map(|owned| {
            owned
                .iter()
                .flat_map(|(_, it)| it.iter().copied())
                .collect()
        });
        if heartbeat.member_epoch == 0 {
            assert!(heartbeat.subscription.is_some() && heartbeat.rebalance_timeout.is_some());
            assert_eq!(says, Some(BTreeSet::new()), "who joins owns nothing");
            self.members.insert(id.clone(), Known::default());
            self.epoch += 1;
        }
        let Some(known) = self.members.get_mut(&id) else {
            answer.error_code = ErrorCode::UNKNOWN_MEMBER_ID;
            return answer;
        };
        let is_current = heartbeat.member_epoch == known.epoch;
        let is_retry = heartbeat.member_epoch == known.previous_epoch
            && says
                .as_ref()
                .is_some_and(|says| says.is_subset(&known.assigned));
        if !is_current && !is_retry {
            answer.error_code = ErrorCode::FENCED_MEMBER_EPOCH;
            return answer;
        }
        let is_full = says.is_some() && heartbeat.subscription.is_some();
        if let Some(says) = &says {
            known.revoking.retain(|it| says.contains(it));
        }
        let before = known.assigned.clone();
        let target = self.target(&id);
        let known = &self.members[&id];
        let mut excess: BTreeSet<_> = known.assigned.difference(&target).copied().collect();
        // Who says that it owns none of them need not give them up: it has never heard that they were its own.
        if says.is_some_and(|says| says.is_disjoint(&excess)) {
            excess.clear();
        }
        let mut revoking = known.revoking.clone();
        revoking.extend(&excess);
        let assigned: BTreeSet<_> = match revoking.is_empty() {
            true => target
                .iter()
                .copied()
                .filter(|it| self.is_free(*it, &id))
                .collect(),
            false => known.assigned.intersection(&target).copied().collect(),
        };
        let epoch = self.epoch;
        let known = self.members.get_mut(&id).expect("just looked at");
        if revoking.is_empty() && known.epoch != epoch {
            known.previous_epoch = known.epoch;
            known.epoch = epoch;
        }
        known.revoking = revoking;
        known.assigned = assigned;
        answer.member_epoch = known.epoch.max(1);
        known.epoch = answer.member_epoch;
        if is_full || known.assigned != before || heartbeat.member_epoch == 0 {
            let assigned = known.assigned.iter();
            answer.assignment = Some(assigned.map(|it| (topic(), *it)).collect());
        }
        answer
    }
}

struct Client {
    member: Member,
    pending: Vec<(RequestId, Heartbeat)>,
    demand: Option<(u64, Vec<TopicPartition>)>,
    /// What the application reads.
    reads: BTreeSet<i32>,
    is_gone: bool,
}

struct World {
    clients: Vec<Client>,
    coordinator: Coordinator,
    now: Now,
    random: Random,
    is_calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = super::start();
        let clients = (0..3).map(|n| Client {
            member: Member::new(now, super::config(&format!("member-{n}"))),
            pending: Vec::new(),
            demand: None,
            reads: BTreeSet::new(),
            is_gone: true,
        });
        Self {
            clients: clients.collect(),
            coordinator: Coordinator::default(),
            now,
            random: Random::new(seed),
            is_calm: false,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.next() as usize % bound
    }

    fn input(&mut self, index: usize, input: Input) {
        let mut effects = Vec::new();
        let client = &mut self.clients[index];
        client.member.handle(self.now, input, &mut effects);
        client.member.check();
        let mut nameless = false;
        for effect in effects {
            match effect {
                Effect::Heartbeat { request, heartbeat } => {
                    client.pending.push((request, heartbeat));
                    assert_eq!(client.pending.len(), 1, "one at a time");
                }
                Effect::Name { .. } => nameless = true,
                Effect::Revoke { demand, partitions } => client.demand = Some((demand, partitions)),
                Effect::Assign { partitions } => {
                    client
                        .reads
                        .extend(partitions.iter().map(|it| it.partition));
                }
                Effect::Lose { .. } => {
                    client.reads.clear();
                    client.demand = None;
                }
                Effect::Left => assert!(client.reads.is_empty()),
                other => panic!("{other:?}"),
            }
        }
        if nameless {
            let names = BTreeMap::from([(topic(), "t".into())]);
            self.input(index, Input::Named { names });
        }
        self.check();
    }

    fn check(&self) {
        for partition in 0..PARTITIONS {
            // Whom the coordinator has put out reads until it hears of it.
            let readers = self.clients.iter().enumerate().filter(|(index, it)| {
                let known = self.coordinator.members.get(&format!("member-{index}"));
                it.reads.contains(&partition)
                    && known.is_some_and(|known| {
                        it.member.identity().is_some_and(|(_, epoch)| {
                            epoch == known.epoch || epoch == known.previous_epoch
                        })
                    })
            });
            assert!(readers.count() <= 1, "partition {partition} has one reader");
        }
    }

    fn step(&mut self) {
        let index = self.below(self.clients.len());
        match self.below(12) {
            0..5 => {
                let Some((request, heartbeat)) = self.clients[index].pending.pop() else {
                    return;
                };
                let fate = if self.is_calm { 9 } else { self.below(10) };
                let answer = (fate > 0).then(|| self.coordinator.heartbeat(&heartbeat));
                let input = match answer {
                    Some(answer) if fate > 1 => Input::Heartbeat { request, answer },
                    _ => Input::Lost { request },
                };
                self.input(index, input);
            }
            5..8 => {
                if let Some((demand, partitions)) = self.clients[index].demand.take() {
                    for partition in partitions {
                        self.clients[index].reads.remove(&partition.partition);
                    }
                    self.input(index, Input::Revoked { demand });
                }
            }
            8 if !self.is_calm => {
                let is_gone = self.clients[index].is_gone;
                self.clients[index].is_gone = !is_gone;
                let subscription = subscription();
                self.input(
                    index,
                    match is_gone {
                        true => Input::Subscribe { subscription },
                        false => Input::Leave,
                    },
                );
            }
            9 if !self.is_calm && self.below(10) == 0 => {
                // The session of the member has ended.
                let id = format!("member-{index}");
                if self.coordinator.members.remove(&id).is_some() {
                    self.coordinator.epoch += 1;
                }
            }
            _ => {
                self.now = self.now + Duration::from_millis(50);
                self.input(index, Input::Polled);
                self.input(index, Input::Timeout);
            }
        }
    }

    fn settle(&mut self) {
        self.is_calm = true;
        for index in 0..self.clients.len() {
            if std::mem::take(&mut self.clients[index].is_gone) {
                let subscription = subscription();
                self.input(index, Input::Subscribe { subscription });
            }
        }
        for _ in 0..20_000 {
            self.step();
            let read: usize = self.clients.iter().map(|it| it.reads.len()).sum();
            let is_even = self.clients.iter().all(|it| it.reads.len() == 2);
            if read == PARTITIONS as usize && is_even {
                return;
            }
        }
        panic!("no agreement: {:#?}", self.coordinator.members);
    }
}

fn subscription() -> Subscription {
    Subscription {
        topics: vec!["t".into()],
        regex: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn members_come_to_an_agreement(seed: u64, steps in 0..1500_usize) {
        let mut world = World::new(seed);
        for _ in 0..steps {
            world.step();
        }
        world.settle();
    }
}
