//! What must hold in a world.

use tidelog_types::LeaderEpoch;

use super::super::super::{Anomaly, Quorum, Role};
use super::{Node, World};

impl World {
    pub(super) fn check(&mut self, node: usize) {
        let n = &self.nodes[node];
        let Some(quorum) = &n.quorum else { return };
        quorum.check();
        assert_eq!(
            quorum.log_end_offset().value(),
            n.disk.end(),
            "the log of node {node}"
        );
        if quorum.is_leader() {
            let (epoch, leader) = (quorum.leader_epoch(), (node, n.incarnation));
            let first = *self.leaders.entry(epoch).or_insert(leader);
            assert_eq!(first, leader, "two leaders in epoch {epoch}");
        }
    }

    /// What becomes committed is what everybody else holds for committed, and never less.
    pub(super) fn publish(&mut self, node: usize, high_watermark: i64) {
        let epoch = self.nodes[node].quorum.as_ref().map(Quorum::leader_epoch);
        let n = &mut self.nodes[node];
        assert!(
            high_watermark > n.applied,
            "the high watermark of node {node} went back"
        );
        for offset in n.applied..high_watermark {
            let record = match n.disk.record(offset) {
                Some(record) => record.clone(),
                None => n.disk.prefix(offset + 1)[offset as usize].clone(),
            };
            match self.committed.get(offset as usize) {
                Some(committed) => {
                    assert_eq!(*committed, record, "offset {offset} changed on node {node}");
                }
                None => {
                    self.committed.push(record);
                    self.committed_in.push(epoch.expect("it runs"));
                }
            }
        }
        n.applied = high_watermark;
    }

    /// Whoever is elected has all that was committed in earlier epochs.
    pub(super) fn check_leader_has_all(&self, node: usize, epoch: LeaderEpoch) {
        let disk = &self.nodes[node].disk;
        let log = disk.prefix(disk.end());
        let earlier = self.committed_in.iter().filter(|e| **e < epoch).count();
        assert!(
            log.starts_with(&self.committed[..earlier]),
            "leader {node} lacks committed records"
        );
    }

    pub(super) fn check_anomaly(&self, anomaly: &Anomaly) {
        assert!(
            self.has_lost_a_disk,
            "nothing that should not be happens without a lost disk: {anomaly:?}"
        );
    }

    /// One leader, and all that it writes gets to everybody.
    pub(in super::super) fn check_all_is_well(&mut self) {
        let leaders = self.leaders_now();
        assert_eq!(leaders.len(), 1, "one leader leads: {}", self.describe());
        self.write(leaders[0]);
        let end = self.nodes[leaders[0]].disk.end();
        self.run_for(2000);
        for (id, node) in self.nodes.iter().enumerate() {
            assert!(
                node.applied >= end,
                "node {id} lacks records: {}",
                self.describe()
            );
        }
    }

    pub(in super::super) fn describe(&self) -> String {
        let node = |(id, n): (usize, &Node)| match &n.quorum {
            None => format!("\n{id}: down"),
            Some(quorum) => format!(
                "\n{id}: {} epoch={} hw={} log={}..{} voters={:?} {:?}",
                quorum.role().name(),
                quorum.leader_epoch(),
                quorum.high_watermark(),
                n.disk.start,
                n.disk.end(),
                quorum.voters().keys().collect::<Vec<_>>(),
                match quorum.role() {
                    Role::Leader(_) => None,
                    role => Some(role),
                }
            ),
        };
        self.nodes.iter().enumerate().map(node).collect()
    }
}
