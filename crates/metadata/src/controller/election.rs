//! Who leads a partition, and who is in sync, when a broker comes or goes.

use tidelog_protocol::records::metadata::PartitionChangeRecord;
use tidelog_types::{NodeId, PartitionIndex, TopicId};

use crate::image::{LeaderRecoveryState, NO_LEADER_CHANGE, PartitionImage};

/// What an election depends on, beside the partition.
pub(super) struct Election<'a> {
    /// Whether a replica may lead: its broker is active and its directory online.
    pub(super) is_acceptable: &'a dyn Fn(NodeId, &PartitionImage) -> bool,
    /// A broker that leaves the ISR, or [`NodeId::NONE`].
    pub(super) leaving: NodeId,
    /// Whether a replica that is not in sync may lead when no other can (`unclean.leader.election.enable`).
    pub(super) allow_unclean: bool,
    /// Whether eligible leader replicas are switched on (KIP-966).
    pub(super) elr_enabled: bool,
    /// Whether a shrunk ISR must come with a new leader epoch.
    pub(super) bump_on_isr_shrink: bool,
}

enum Outcome {
    Unchanged,
    Clean(NodeId),
    /// A replica from outside the ISR, known to have all that is committed.
    Eligible(NodeId),
    /// A replica that may lack records.
    Unclean(NodeId),
    Leaderless,
}

impl Election<'_> {
    /// The record that brings the partition to its new leader and ISR, if anything changes.
    pub(super) fn hold(
        &self,
        topic_id: TopicId,
        partition_id: PartitionIndex,
        partition: &PartitionImage,
    ) -> Option<PartitionChangeRecord> {
        let isr: Vec<NodeId> = partition
            .isr
            .iter()
            .copied()
            .filter(|node| *node != self.leaving)
            .collect();
        let mut record = PartitionChangeRecord {
            topic_id,
            partition_id,
            ..Default::default()
        };
        match self.elect(partition, &isr) {
            Outcome::Unchanged => self.shrink_isr(partition, isr, &mut record),
            Outcome::Clean(node) => {
                self.shrink_isr(partition, isr, &mut record);
                record.leader = node;
            }
            Outcome::Leaderless => {
                self.shrink_isr(partition, isr, &mut record);
                record.leader = NodeId::NONE;
            }
            Outcome::Eligible(node) => {
                let mut elr = partition.eligible_leader_replicas.clone();
                elr.retain(|member| *member != node);
                record.eligible_leader_replicas = Some(elr);
                record.isr = Some(vec![node]);
                record.leader = node;
            }
            Outcome::Unclean(node) => {
                record.isr = Some(vec![node]);
                record.leader = node;
                if partition.leader_recovery_state == LeaderRecoveryState::Recovered {
                    record.leader_recovery_state = LeaderRecoveryState::Recovering as i8;
                }
                if !partition.eligible_leader_replicas.is_empty() {
                    record.eligible_leader_replicas = Some(Vec::new());
                }
                if !partition.last_known_elr.is_empty() {
                    record.last_known_elr = Some(Vec::new());
                }
            }
        }
        (record.leader != NO_LEADER_CHANGE || record.isr.is_some()).then_some(record)
    }

    /// The order of Kafka: the leader itself, replicas in sync, eligible ones if nobody is in sync, the last known leader
    /// if nobody is eligible, and any live replica if losing records is allowed.
    fn elect(&self, partition: &PartitionImage, isr: &[NodeId]) -> Outcome {
        let alive = |node: NodeId| node != self.leaving && (self.is_acceptable)(node, partition);
        let leader = partition.leader;
        if isr.contains(&leader) && alive(leader) {
            return Outcome::Unchanged;
        }
        let mut candidates = partition
            .replicas
            .iter()
            .copied()
            .filter(|node| alive(*node));
        if let Some(node) = candidates.clone().find(|node| isr.contains(node)) {
            return Outcome::Clean(node);
        }
        let elr = &partition.eligible_leader_replicas;
        if isr.is_empty()
            && let Some(node) = candidates.clone().find(|node| elr.contains(node))
        {
            return Outcome::Eligible(node);
        }
        if let [last] = partition.last_known_elr[..]
            && self.elr_enabled
            && isr.is_empty()
            && elr.is_empty()
            && alive(last)
        {
            return Outcome::Unclean(last);
        }
        match candidates.next() {
            Some(node) if self.allow_unclean => Outcome::Unclean(node),
            _ if leader == NodeId::NONE => Outcome::Unchanged,
            _ => Outcome::Leaderless,
        }
    }

    /// The last member stays in the ISR though it is gone: it is the one who has everything.
    fn shrink_isr(
        &self,
        partition: &PartitionImage,
        isr: Vec<NodeId>,
        record: &mut PartitionChangeRecord,
    ) {
        if !isr.is_empty() && isr != partition.isr {
            record.isr = Some(isr);
            if self.bump_on_isr_shrink {
                record.leader = partition.leader;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId::new).collect()
    }

    /// `leader recovering? isr` after the election among the `alive`, or "unchanged".
    fn hold(partition: &PartitionImage, leaving: i32, alive: &[i32], unclean: bool) -> String {
        let alive = nodes(alive);
        let election = Election {
            is_acceptable: &|node, _| alive.contains(&node),
            leaving: NodeId::new(leaving),
            allow_unclean: unclean,
            elr_enabled: true,
            bump_on_isr_shrink: false,
        };
        let Some(record) = election.hold(TopicId::ZERO, 0, partition) else {
            return "unchanged".into();
        };
        let next = partition.changed(&record).unwrap();
        let recovering = match next.leader_recovery_state {
            LeaderRecoveryState::Recovered => "",
            LeaderRecoveryState::Recovering => " recovering",
        };
        format!(
            "{}{recovering} isr={:?} elr={:?}",
            next.leader, next.isr, next.eligible_leader_replicas
        )
    }

    fn partition(replicas: &[i32], isr: &[i32], leader: i32) -> PartitionImage {
        PartitionImage {
            replicas: nodes(replicas),
            directories: vec![crate::image::directory::UNASSIGNED; replicas.len()],
            isr: nodes(isr),
            leader: NodeId::new(leader),
            ..Default::default()
        }
    }

    #[test]
    fn leaders_are_replaced_in_the_order_of_the_replicas() {
        let three = partition(&[2, 3, 1], &[1, 2, 3], 2);
        assert_eq!(hold(&three, 2, &[1, 2, 3], false), "3 isr=[1, 3] elr=[]");
        assert_eq!(hold(&three, 1, &[1, 2, 3], false), "2 isr=[2, 3] elr=[]");
        assert_eq!(hold(&three, 4, &[1, 2, 3], false), "unchanged");
        assert_eq!(hold(&three, 2, &[], false), "-1 isr=[1, 3] elr=[]");
    }

    #[test]
    fn the_last_replica_in_sync_stays_in_sync_while_it_is_gone() {
        let one = partition(&[1, 2], &[1], 1);
        assert_eq!(hold(&one, 1, &[1, 2], false), "-1 isr=[1] elr=[]");
        assert_eq!(hold(&one, 1, &[1, 2], true), "2 recovering isr=[2] elr=[]");
        let leaderless = partition(&[1, 2], &[1], -1);
        assert_eq!(hold(&leaderless, -1, &[1, 2], false), "1 isr=[1] elr=[]");
        assert_eq!(hold(&leaderless, -1, &[2], false), "unchanged");
    }

    #[test]
    fn eligible_and_last_known_leaders_step_in_when_nobody_is_in_sync() {
        let mut elr = partition(&[1, 2, 3], &[], -1);
        elr.eligible_leader_replicas = nodes(&[2, 3]);
        assert_eq!(hold(&elr, -1, &[1, 3], false), "3 isr=[3] elr=[2]");
        let mut last_known = partition(&[1, 2], &[], -1);
        last_known.last_known_elr = nodes(&[2]);
        assert_eq!(
            hold(&last_known, -1, &[1, 2], false),
            "2 recovering isr=[2] elr=[]"
        );
        assert_eq!(hold(&last_known, -1, &[1], false), "unchanged");
    }
}
