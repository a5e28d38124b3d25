//! What goes wrong, and is over again.

use tidelog_log::testing::Crash;
use tidelog_replication::quorum::Voter;
use tidelog_replication::quorum::message::{
    self as quorum, AddRaftVoterRequest, RemoveRaftVoterRequest, UpdateRaftVoterRequest,
};
use tidelog_types::{LeaderEpoch, NodeId, TopicName};

use super::{ADMIN, TOPIC, World, passing};
use crate::clock::{MS, SECOND, Time};
use crate::event::Event;
use crate::message::{Message, Request};
use crate::network::{CONSUMERS, Place};
use crate::node::voter;
use crate::plan::Fault;

impl World {
    pub(super) fn shut_down(&mut self, id: NodeId) {
        let (node, mut io) = self.at(id);
        if !node.paused
            && let Some(process) = &mut node.process
        {
            process.shut_down(&mut io);
        }
    }

    /// Asks whoever leads the quorum for another voter, or one less.
    pub(super) fn change_voters(&mut self, request: impl Fn(LeaderEpoch) -> quorum::Request) {
        let leaders = self.nodes.iter().filter_map(|node| {
            let process = node.process.as_ref()?;
            let leads = process.quorum.is_leader();
            leads.then(|| (node.id, process.quorum.leader_epoch()))
        });
        let leaders: Vec<_> = leaders.collect();
        for (node, epoch) in leaders {
            self.admin_id += 1;
            let id = self.admin_id;
            let request = Request::Quorum(request(epoch));
            let (_, mut io) = self.at(node);
            io.send(ADMIN, node.value(), Message::Request { id, request });
        }
    }

    pub(super) fn fault(&mut self, index: usize) {
        let planned = self.plan.faults[index];
        if self.is_calm {
            return;
        }
        let until = self.now + planned.lasts;
        *self.faults.entry(planned.fault.name()).or_default() += 1;
        self.trace.say(self.now, || {
            format!("--- {:?} for {} ms", planned.fault, planned.lasts / MS)
        });
        match planned.fault {
            Fault::Crash(node, how) => {
                self.crash(NodeId::new(node), how);
                self.queue.push(until, Event::Restart(NodeId::new(node)));
                return;
            }
            Fault::Pause(node) => self.at(NodeId::new(node)).0.paused = true,
            Fault::CutOneWay(a, b) => self.network.cut(a, b),
            Fault::CutLink(a, b) => {
                self.network.cut(a, b);
                self.network.cut(b, a);
            }
            Fault::Isolate(node) => {
                for other in (1..=self.plan.nodes).filter(|other| *other != node) {
                    self.network.cut(node, other);
                    self.network.cut(other, node);
                }
            }
            Fault::Break(a, b) => self.disconnect(a, b),
            Fault::Reassign(partition, seed) => {
                return self.reassign(TopicName::from(TOPIC), partition, seed);
            }
            Fault::Elect => return self.elect(),
            Fault::CreateTopic(number) => {
                return self.create_topic(&passing(number), 2);
            }
            Fault::DeleteTopic(number) => return self.delete_topic(&passing(number)),
            Fault::RecreateTopic(number, away) => {
                if let Some(node) = away.map(NodeId::new) {
                    self.crash(node, Crash::KeepAll);
                    self.queue.push(until, Event::Restart(node));
                }
                self.delete_topic(&passing(number));
                return self.create_topic(&passing(number), 2);
            }
            Fault::DeleteRecords(number) => {
                let (writer, mut io) = self.at_writer(number as usize);
                return writer.delete_records(&mut io);
            }
            Fault::CancelReassignment(partition, seed) => {
                self.reassign(TopicName::from(TOPIC), partition, seed);
                let soon = self.now + planned.lasts / 10;
                self.queue.push(soon, Event::Relief(index));
                return;
            }
            Fault::ShutDown(node) => return self.shut_down(NodeId::new(node)),
            Fault::RollingRestart => {
                for id in 1..=self.plan.nodes {
                    let at = self.now + (id - 1) as Time * 4 * SECOND;
                    self.queue.push(at, Event::ShutDown(NodeId::new(id)));
                }
                return;
            }
            Fault::AddVoter(node) => {
                let Voter { key, endpoints, .. } = voter(NodeId::new(node), true);
                return self.change_voters(|_| {
                    quorum::Request::AddRaftVoter(AddRaftVoterRequest {
                        voter: key,
                        endpoints: endpoints.clone(),
                        ack_when_committed: true,
                    })
                });
            }
            Fault::RemoveVoter(node) => {
                let voter = voter(NodeId::new(node), true).key;
                return self.change_voters(|_| {
                    quorum::Request::RemoveRaftVoter(RemoveRaftVoterRequest { voter })
                });
            }
            Fault::UpdateVoter(node, port) => {
                let mut voter = voter(NodeId::new(node), true);
                voter.endpoints.iter_mut().for_each(|it| it.port = port);
                return self.change_voters(|current_leader_epoch| {
                    quorum::Request::UpdateRaftVoter(UpdateRaftVoterRequest {
                        current_leader_epoch,
                        voter: voter.key,
                        endpoints: voter.endpoints.clone(),
                        kraft_versions: voter.kraft_versions,
                    })
                });
            }
            Fault::MoveCoordinator(seed) => {
                return self.reassign(TopicName::CONSUMER_OFFSETS, 0, seed);
            }
            Fault::KillConsumer(index) => {
                self.kill_consumer(index);
                self.trace
                    .say(self.now, || format!("consumer {index}: is gone"));
            }
            Fault::PauseConsumer(index) => self.consumers[index].paused = true,
            Fault::LeaveGroup(index) => {
                let (consumer, mut io) = self.at_consumer(index);
                if !consumer.paused {
                    consumer.leave(&mut io);
                }
            }
            Fault::Slow(node) => drop(self.network.slow.insert(node)),
            Fault::StallDisk(node) => {
                let (node, _) = self.at(NodeId::new(node));
                if let Some(process) = &mut node.process {
                    // Two at a time end with the later one: the disk does things in order.
                    process.stalled_until = process.stalled_until.max(until);
                }
                return;
            }
            Fault::FailDisk(node, op, nth) => {
                self.faulty[(node - 1) as usize] = true;
                let (node, _) = self.at(NodeId::new(node));
                node.disk.fail(op, nth, std::io::ErrorKind::Other);
            }
            Fault::FillDisk(node, bytes) => {
                self.faulty[(node - 1) as usize] = true;
                let (node, _) = self.at(NodeId::new(node));
                let used = node.disk.bytes_used();
                node.disk.limit_capacity(used + bytes);
            }
        }
        self.queue.push(until, Event::Relief(index));
    }

    pub(super) fn relieve(&mut self, index: usize) {
        match self.plan.faults[index].fault {
            Fault::Pause(node) => self.resume(NodeId::new(node)),
            Fault::CutOneWay(a, b) => self.mend(a, b),
            Fault::CutLink(a, b) => {
                self.mend(a, b);
                self.mend(b, a);
            }
            Fault::Isolate(node) => {
                for other in (1..=self.plan.nodes).filter(|other| *other != node) {
                    self.mend(node, other);
                    self.mend(other, node);
                }
            }
            Fault::Slow(node) => drop(self.network.slow.remove(&node)),
            Fault::FailDisk(node, ..) | Fault::FillDisk(node, _) => {
                // What it did was final for a process that has noticed.
                let (node, _) = self.at(NodeId::new(node));
                node.disk.heal();
            }
            Fault::PauseConsumer(index) => self.resume_consumer(index),
            Fault::KillConsumer(index) | Fault::LeaveGroup(index) => self.start_consumer(index),
            Fault::CancelReassignment(partition, _) => {
                self.ask_for_replicas(TopicName::from(TOPIC), partition, None);
            }
            Fault::Crash(..)
            | Fault::Break(..)
            | Fault::StallDisk(_)
            | Fault::Reassign(..)
            | Fault::Elect
            | Fault::CreateTopic(_)
            | Fault::DeleteTopic(_)
            | Fault::RecreateTopic(..)
            | Fault::DeleteRecords(_)
            | Fault::MoveCoordinator(_)
            | Fault::ShutDown(_)
            | Fault::RollingRestart
            | Fault::AddVoter(_)
            | Fault::RemoveVoter(_)
            | Fault::UpdateVoter(..) => {}
        }
    }

    pub(super) fn resume(&mut self, id: NodeId) {
        let (node, io) = self.at(id);
        node.paused = false;
        let deferred = std::mem::take(&mut node.deferred);
        let now = io.now;
        for event in deferred {
            self.queue.push(now, event);
        }
    }

    pub(super) fn kill_consumer(&mut self, index: usize) {
        let place = CONSUMERS + index as Place;
        for node in 1..=self.plan.nodes {
            self.network.break_between(node, place);
        }
        let (consumer, mut io) = self.at_consumer(index);
        consumer.kill(&mut io);
    }

    pub(super) fn resume_consumer(&mut self, index: usize) {
        let (consumer, _) = self.at_consumer(index);
        consumer.paused = false;
        for event in std::mem::take(&mut consumer.deferred) {
            self.queue.push(self.now, event);
        }
    }

    pub(super) fn start_consumer(&mut self, index: usize) {
        let has_topics = self.is_created(TOPIC) && self.is_created(&TopicName::CONSUMER_OFFSETS);
        let (consumer, mut io) = self.at_consumer(index);
        if has_topics && !consumer.paused {
            consumer.start(&mut io);
        }
    }

    pub(super) fn mend(&mut self, from: Place, to: Place) {
        for message in self.network.mend(from, to) {
            let (_, mut io) = self.at(NodeId::new(from));
            io.send(from, to, message);
        }
    }

    /// Nothing goes wrong any more.
    pub(super) fn calm_down(&mut self) {
        self.is_calm = true;
        self.trace
            .say(self.now, || "--- nothing goes wrong any more".to_owned());
        for (from, to) in self.network.cuts() {
            self.mend(from, to);
        }
        self.network.slow.clear();
        for index in 0..self.consumers.len() {
            self.resume_consumer(index);
            self.start_consumer(index);
        }
        for id in (1..=self.plan.nodes).map(NodeId::new) {
            self.resume(id);
            self.nodes[(id.value() - 1) as usize].disk.heal();
            self.queue.push(self.now + SECOND, Event::Restart(id));
        }
    }
}
