//! A replica against a plain model of what should be committed, under random steps.

use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;
use tidelog_replication::divergence::EpochEnd;
use tidelog_replication::partition::{
    BecomeLeader, Config, Effect, FollowerFetch, Input, Replica, Restored, UNKNOWN_BROKER_EPOCH,
};
use tidelog_types::{LeaderEpoch, NodeId, Now, Offset, Timestamp};

const NODES: [i32; 4] = [1, 2, 3, 4];

#[derive(Clone, Debug)]
enum Step {
    /// A batch of this many records; with a producer, it belongs to that producer's transaction.
    Append { records: i64, producer: Option<u8> },
    /// The marker that ends the producer's transaction, if one is open.
    EndTransaction { producer: u8 },
    /// A flush of a part of what is not flushed, in percent.
    Flush { percent: i64 },
    /// A fetch by a follower, at this percentage of the log.
    Fetch { node: i32, percent: i64 },
    /// Another ISR: which of the other nodes are in it.
    AlterIsr { members: [bool; 3] },
    /// The same leader, elected anew.
    NextEpoch,
    /// `min.insync.replicas`
    MinInsyncReplicas(u32),
    /// Deletes this percentage of what is committed.
    DeleteRecords { percent: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5_i64, proptest::option::of(0..3_u8)).prop_map(|(records, producer)| Step::Append { records, producer }),
        2 => (0..3_u8).prop_map(|producer| Step::EndTransaction { producer }),
        4 => (0..=100_i64).prop_map(|percent| Step::Flush { percent }),
        6 => (1..=5_i32, 0..=100_i64).prop_map(|(node, percent)| Step::Fetch { node, percent }),
        1 => any::<[bool; 3]>().prop_map(|members| Step::AlterIsr { members }),
        1 => Just(Step::NextEpoch),
        1 => (1..=5_u32).prop_map(Step::MinInsyncReplicas),
        1 => (0..=100_i64).prop_map(|percent| Step::DeleteRecords { percent }),
    ]
}

struct Transaction {
    producer: u8,
    first: i64,
    marker: Option<i64>,
}

/// What should be, computed from the whole history each time.
struct Model {
    start: i64,
    end: i64,
    durable: i64,
    high_watermark: i64,
    leader_epoch: i32,
    partition_epoch: i32,
    min_insync_replicas: u32,
    isr: Vec<i32>,
    fetched: BTreeMap<i32, i64>,
    transactions: Vec<Transaction>,
}

impl Model {
    fn first_open(&self) -> Option<Offset> {
        self.transactions
            .iter()
            .filter(|t| t.marker.is_none())
            .map(|t| Offset::new(t.first))
            .min()
    }

    fn commit(&mut self) {
        if self.isr.len() < (self.min_insync_replicas as usize).min(NODES.len()) {
            return;
        }
        let ends = self.isr.iter().map(|node| match node {
            1 => self.durable,
            other => self.fetched.get(other).copied().unwrap_or(0),
        });
        self.high_watermark = self
            .high_watermark
            .max(ends.min().expect("the leader is in the ISR"));
    }

    fn last_stable_offset(&self) -> i64 {
        let undecided =
            |t: &&Transaction| t.marker.is_none_or(|marker| marker >= self.high_watermark);
        let first = self
            .transactions
            .iter()
            .filter(undecided)
            .map(|t| t.first)
            .min();
        first
            .map_or(self.high_watermark, |first| first.min(self.high_watermark))
            .max(self.start)
    }

    fn config(&self) -> Config {
        Config {
            min_insync_replicas: self.min_insync_replicas,
            ..Config::new(NodeId::new(1))
        }
    }

    fn become_leader(&mut self) -> Input {
        self.partition_epoch += 1;
        Input::BecomeLeader(BecomeLeader {
            leader_epoch: LeaderEpoch::new(self.leader_epoch),
            partition_epoch: self.partition_epoch,
            replicas: NODES.map(NodeId::new).to_vec(),
            adding_replicas: Vec::new(),
            isr: self.isr.iter().copied().map(NodeId::new).collect(),
            recovering: false,
            brokers: Vec::new(),
        })
    }

    fn append(&mut self, records: i64) -> Input {
        self.end += records;
        Input::Appended {
            end: Offset::new(self.end),
            leader_epoch: LeaderEpoch::new(self.leader_epoch),
            first_unstable_offset: self.first_open(),
        }
    }

    /// Takes the step, and tells the replica about it. Some steps make no sense just now.
    fn apply(&mut self, step: &Step) -> Option<Input> {
        let input = match *step {
            Step::Append { records, producer } => {
                if let Some(producer) = producer
                    && !self
                        .transactions
                        .iter()
                        .any(|t| t.producer == producer && t.marker.is_none())
                {
                    self.transactions.push(Transaction {
                        producer,
                        first: self.end,
                        marker: None,
                    });
                }
                self.append(records)
            }
            Step::EndTransaction { producer } => {
                let end = self.end;
                let open = self
                    .transactions
                    .iter_mut()
                    .find(|t| t.producer == producer && t.marker.is_none())?;
                open.marker = Some(end);
                self.append(1)
            }
            Step::Flush { percent } => {
                self.durable += (self.end - self.durable) * percent / 100;
                Input::Flushed {
                    end: Offset::new(self.durable),
                }
            }
            Step::Fetch { node, percent } => {
                let offset = self.start + (self.end - self.start) * percent / 100;
                if NODES[1..].contains(&node) {
                    self.fetched.insert(node, offset);
                }
                Input::Fetched(FollowerFetch {
                    replica: NodeId::new(node),
                    broker_epoch: UNKNOWN_BROKER_EPOCH,
                    current_leader_epoch: LeaderEpoch::new(self.leader_epoch),
                    fetch_offset: Offset::new(offset),
                    last_fetched_epoch: LeaderEpoch::NONE,
                    epoch_end: EpochEnd::UNKNOWN,
                    log_start_offset: Offset::ZERO,
                })
            }
            Step::AlterIsr { members } => {
                let others = NODES[1..]
                    .iter()
                    .zip(members)
                    .filter(|(_, member)| *member)
                    .map(|(node, _)| *node);
                self.isr = std::iter::once(1).chain(others).collect();
                self.become_leader()
            }
            Step::NextEpoch => {
                self.leader_epoch += 1;
                self.fetched.clear();
                self.become_leader()
            }
            Step::MinInsyncReplicas(min) => {
                self.min_insync_replicas = min;
                Input::ConfigChanged(self.config())
            }
            Step::DeleteRecords { percent } => {
                self.start += (self.high_watermark - self.start) * percent / 100;
                Input::LogStartAdvanced {
                    log_start_offset: Offset::new(self.start),
                }
            }
        };
        self.commit();
        Some(input)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an Instant can only be had from the clock")]
    fn commits_what_the_model_commits(steps in proptest::collection::vec(step(), 1..60)) {
        let mut model = Model {
            start: 0, end: 0, durable: 0, high_watermark: 0, leader_epoch: 0, partition_epoch: 0, min_insync_replicas: 1,
            isr: vec![1], fetched: BTreeMap::new(), transactions: Vec::new(),
        };
        let now = Now { instant: Instant::now(), timestamp: Timestamp::from_millis(0) };
        let mut replica = Replica::new(model.config(), Restored::default());
        let mut effects = Vec::new();
        let mut published = replica.watermarks();
        replica.handle(now, model.become_leader(), &mut effects);
        for step in &steps {
            let Some(input) = model.apply(step) else { continue };
            effects.clear();
            replica.handle(now, input, &mut effects);
            replica.check();
            for effect in &effects {
                if let Effect::PublishWatermarks(watermarks) = effect {
                    prop_assert!(watermarks.high_watermark >= published.high_watermark);
                    published = *watermarks;
                }
            }
            let marks = replica.watermarks();
            prop_assert_eq!(marks, published, "every change is published");
            prop_assert_eq!(marks.high_watermark.value(), model.high_watermark, "after {:?}", step);
            prop_assert_eq!(marks.last_stable_offset.value(), model.last_stable_offset(), "after {:?}", step);
            prop_assert_eq!(marks.log_start_offset.value(), model.start);
            prop_assert_eq!(marks.log_end_offset.value(), model.end);
        }
    }
}
