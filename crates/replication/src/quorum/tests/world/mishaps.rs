//! What goes wrong in a world, and what is done there meanwhile.

use std::sync::Arc;

use tidelog_types::{LeaderEpoch, NodeId, Offset};

use super::super::super::message::{AddRaftVoterRequest, RemoveRaftVoterRequest, Request};
use super::super::super::{Input, Quorum, SnapshotId};
use super::super::disk::{Body, Disk, SnapshotFile};
use super::{Event, Payload, World, endpoint, key};

impl World {
    pub(super) fn crash(&mut self, node: usize) {
        self.count("crash");
        let disk = &self.nodes[node].disk;
        let (flushed, end, storing) = (disk.flushed, disk.end(), disk.storing.len());
        let end = flushed + self.below((end - flushed) as u64 + 1) as i64;
        let stored = self.below(storing as u64 + 1) as usize;
        let n = &mut self.nodes[node];
        n.quorum = None;
        n.cuts += 1;
        n.disk.crash(end, stored);
        let back = self.time + 20_000 + self.below(3_000_000);
        self.at(back, Event::Start { node });
    }

    /// A node gets a new, empty disk. It is another replica from then on.
    fn lose_disk(&mut self, node: usize) {
        self.count("lost disk");
        self.crash(node);
        self.has_lost_a_disk = true;
        let n = &mut self.nodes[node];
        n.disk = Disk::default();
        n.key = key(node, 1, true);
    }

    /// A node stops, and no snapshot of it can be read when it starts again.
    fn damage_snapshots(&mut self, node: usize) {
        self.count("damaged snapshot");
        self.damaged = Some(node);
        self.crash(node);
        self.nodes[node].disk.lose_snapshots();
    }

    /// Whether the others can do without what a node has: they are enough to elect a leader, and stay enough.
    fn can_spare_snapshots(&self, node: usize) -> bool {
        let disk = &self.nodes[node].disk;
        let has_more_than_format_wrote = disk
            .snapshots
            .last()
            .is_some_and(|s| s.id != SnapshotId::BOOTSTRAP);
        let is_other = self.damaged.is_some_and(|damaged| damaged != node);
        has_more_than_format_wrote && !is_other && !self.has_lost_a_disk && self.agreed_voters() > 2
    }

    pub(super) fn mishap(&mut self) {
        if self.is_calm {
            return;
        }
        let node = self.below(self.nodes.len() as u64) as usize;
        let other = self.below(self.nodes.len() as u64) as usize;
        let is_up = self.nodes[node].quorum.is_some();
        let what = if self.options.churns {
            [0, 4, 7, 9, 10, 20, 20, 20, 20][self.below(9) as usize]
        } else {
            self.below(27)
        };
        match what {
            0..=3 if is_up => self.crash(node),
            4..=6 => {
                self.count("cut link");
                self.cut[node][other] = true;
            }
            7..=8 => {
                self.count("cut node");
                for other in 0..self.nodes.len() {
                    self.cut[node][other] = true;
                    self.cut[other][node] = true;
                }
            }
            9..=12 => self.cut = vec![vec![false; self.nodes.len()]; self.nodes.len()],
            13 => self.loss = self.random.below(300),
            14 => self.loss = 0,
            15 if is_up => {
                self.count("shutdown");
                let incarnation = self.nodes[node].incarnation;
                self.handle(node, Input::Shutdown, Payload::Nothing);
                self.at(self.time + 100_000, Event::Crash { node, incarnation });
            }
            16 if is_up => {
                self.count("failed disk");
                let incarnation = self.nodes[node].incarnation;
                self.handle(node, Input::Failed, Payload::Nothing);
                self.at(self.time + 500_000, Event::Crash { node, incarnation });
            }
            17 if is_up => {
                self.count("wrong hint");
                let other = NodeId::new(other as i32);
                self.handle(node, Input::Unreachable { node: other }, Payload::Nothing);
            }
            18..=19 if is_up => self.shorten_log(node),
            20..=22 => self.change_voters(node),
            23 if is_up && self.can_spare_a_disk() => self.lose_disk(node),
            25..=26 if is_up && self.can_spare_snapshots(node) => self.damage_snapshots(node),
            24 => {
                self.count("pause");
                self.nodes[node].paused_until = self.time + 20_000 + self.below(6_000_000);
            }
            _ => {}
        }
        let pause = if self.options.churns {
            150_000
        } else {
            400_000
        };
        let next = self.time + 1000 + self.below(pause);
        self.at(next, Event::Mishap);
    }

    /// A node makes a snapshot, and deletes what some snapshot replaces.
    fn shorten_log(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        let disk = &mut n.disk;
        let latest = disk.snapshots.last().map_or(0, |s| s.id.end_offset.value());
        if n.applied <= latest {
            return;
        }
        let last = disk
            .record(n.applied - 1)
            .expect("what is applied is there");
        let snapshot = SnapshotFile {
            id: SnapshotId {
                end_offset: Offset::new(n.applied),
                epoch: last.epoch,
            },
            records: Arc::new(disk.prefix(n.applied)),
            formatted: None,
        };
        // The last one stays in the log as well, so that followers that are near need no snapshot.
        if latest > disk.start {
            disk.records.drain(..(latest - disk.start) as usize);
            disk.start = latest;
            disk.flushed = disk.flushed.max(latest);
            disk.snapshots.retain(|s| s.id.end_offset.value() >= latest);
        }
        disk.snapshots.push(snapshot);
        let input = Input::SnapshotsChanged {
            snapshots: disk.snapshot_infos(),
            log_start_offset: Offset::new(disk.start),
        };
        self.count("snapshot made");
        self.handle(node, input, Payload::Nothing);
    }

    pub(super) fn leaders_now(&self) -> Vec<usize> {
        let leads = |node: &usize| {
            let n = &self.nodes[*node];
            let runs = n.paused_until <= self.time;
            runs && n.quorum.as_ref().is_some_and(Quorum::is_leader) && n.leads.is_some()
        };
        (0..self.nodes.len()).filter(leads).collect()
    }

    /// Whether a voter less is no harm: no other is lost, all agree that there are enough, and nobody takes any away later.
    fn can_spare_a_disk(&self) -> bool {
        let is_first = !self.has_lost_a_disk && self.damaged.is_none();
        is_first && self.options.dynamic && self.agreed_voters() > 2
    }

    /// How many voters there are, if all nodes run and say the same.
    fn agreed_voters(&self) -> usize {
        let mut sets = self
            .nodes
            .iter()
            .map(|node| node.quorum.as_ref().map(Quorum::voters));
        let first = sets.next().flatten();
        let agreed = sets.all(|voters| voters == first);
        first.filter(|_| agreed).map_or(0, |voters| voters.len())
    }

    /// Who leads, and in which epoch.
    pub(in super::super) fn leader(&self) -> Option<(usize, LeaderEpoch)> {
        let leader = *self.leaders_now().first()?;
        Some((leader, self.nodes[leader].leads?))
    }

    /// A node gets no time any more. With a hint the others take it for gone, a little later.
    pub(in super::super) fn stop(&mut self, node: usize, hint: bool) {
        self.nodes[node].paused_until = u64::MAX;
        for to in (0..self.nodes.len()).filter(|to| hint && *to != node) {
            let at = self.time + 1000 + self.below(4000);
            self.at(at, Event::Gone { to, node });
        }
    }

    /// Somebody asks a leader to make a node a voter, or not one.
    fn change_voters(&mut self, node: usize) {
        if !self.options.dynamic || self.has_lost_a_disk || self.damaged.is_some() {
            return;
        }
        for leader in self.leaders_now() {
            let quorum = self.nodes[leader].quorum.as_ref().expect("a leader runs");
            let voter = self.nodes[node].key;
            let request = if quorum.voters().contains(&voter) {
                Request::RemoveRaftVoter(RemoveRaftVoterRequest { voter })
            } else {
                Request::AddRaftVoter(AddRaftVoterRequest {
                    voter,
                    endpoints: vec![endpoint(node)],
                    ack_when_committed: true,
                })
            };
            let request_id = self.ask(None);
            self.handle(
                leader,
                Input::Request {
                    request_id,
                    request,
                },
                Payload::Nothing,
            );
        }
    }

    /// Every leader writes a record now and then.
    pub(super) fn work(&mut self) {
        for leader in self.leaders_now() {
            self.write(leader);
        }
        let next = self.time + 20_000 + self.below(100_000);
        self.at(next, Event::Work);
    }

    pub(in super::super) fn write(&mut self, leader: usize) {
        let epoch = self.nodes[leader].leads.expect("a leader has an epoch");
        self.written += 1;
        let input = self.append(leader, epoch, vec![Body::Data(self.written)]);
        self.handle(leader, input, Payload::Nothing);
    }
}
