//! Where the replicas of partitions shall be, if there are to be more or fewer of them.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_types::{NodeId, Str};

/// The replicas of a partition as they are.
pub(super) struct Placed<'a> {
    pub(super) replicas: &'a [NodeId],
    pub(super) isr: &'a [NodeId],
    pub(super) leader: Option<NodeId>,
}

impl Placed<'_> {
    /// Which of those that are left goes first: the last that is not in sync, or else the last that does not lead.
    fn superfluous(&self, left: &[NodeId]) -> usize {
        let leads = |id: &NodeId| self.leader == Some(*id);
        left.iter()
            .rposition(|id| !self.isr.contains(id) && !leads(id))
            .or_else(|| left.iter().rposition(|id| !leads(id)))
            .unwrap_or(0)
    }
}

/// The brokers that may get replicas, and how many each has.
pub(super) struct Brokers {
    racks: BTreeMap<NodeId, Option<Str>>,
    loads: BTreeMap<NodeId, usize>,
}

impl Brokers {
    /// These brokers with their racks, and the replicas of all partitions.
    pub(super) fn new<'a>(
        racks: impl IntoIterator<Item = (NodeId, Option<Str>)>,
        partitions: impl IntoIterator<Item = &'a [NodeId]>,
    ) -> Self {
        let racks: BTreeMap<_, _> = racks.into_iter().collect();
        let mut loads: BTreeMap<_, usize> = racks.keys().map(|id| (*id, 0)).collect();
        for id in partitions.into_iter().flatten() {
            if let Some(load) = loads.get_mut(id) {
                *load += 1;
            }
        }
        Self { racks, loads }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.racks.len()
    }

    /// The replicas of a partition that shall have so many; fewer, if there are not enough brokers. Who leads stays, and those
    /// that stay keep their order.
    pub(super) fn place(&mut self, partition: &Placed<'_>, count: usize) -> Vec<NodeId> {
        let mut replicas = partition.replicas.to_vec();
        while replicas.len() > count.max(1) {
            let goes = replicas.remove(partition.superfluous(&replicas));
            if let Some(load) = self.loads.get_mut(&goes) {
                *load = load.saturating_sub(1);
            }
        }
        while replicas.len() < count {
            let Some(comes) = self.next(&replicas) else {
                break;
            };
            replicas.push(comes);
            *self.loads.entry(comes).or_default() += 1;
        }
        replicas
    }

    /// The broker that gets the next replica beside these: one in a rack that has none, if there is one; then the one with the
    /// fewest replicas.
    fn next(&self, beside: &[NodeId]) -> Option<NodeId> {
        let taken: BTreeSet<_> = beside
            .iter()
            .filter_map(|id| self.racks.get(id)?.as_ref())
            .collect();
        let free = self.racks.iter().filter(|(id, _)| !beside.contains(id));
        let best = free.min_by_key(|(id, rack)| {
            let is_taken = rack.as_ref().is_some_and(|rack| taken.contains(rack));
            (is_taken, self.loads[*id], **id)
        });
        best.map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<const N: usize>(ids: [i32; N]) -> [NodeId; N] {
        ids.map(NodeId::new)
    }

    #[test]
    fn new_replicas_go_to_other_racks_and_then_to_who_has_the_fewest() {
        let racks = [(1, "a"), (2, "a"), (3, "b"), (4, "b")];
        let racks = racks.map(|(id, rack)| (NodeId::new(id), Some(Str::from_static(rack))));
        let others = ids([3, 3]);
        let mut brokers = Brokers::new(racks, [&others[..], &ids([1])]);
        let placed = Placed {
            replicas: &ids([1]),
            isr: &ids([1]),
            leader: Some(NodeId::new(1)),
        };
        // Rack b has two brokers, and 4 has less to carry; then only rack is left where the other has some already.
        assert_eq!(brokers.place(&placed, 3), ids([1, 4, 2]));
        // What was given away counts for the next partition.
        assert_eq!(brokers.place(&placed, 2), ids([1, 4]));
        assert_eq!(brokers.place(&placed, 9).len(), brokers.len());
    }

    #[test]
    fn who_leads_stays_and_who_is_out_of_sync_goes_first() {
        let brokers = (1..=4).map(|id| (NodeId::new(id), None));
        let mut brokers = Brokers::new(brokers, []);
        let placed = Placed {
            replicas: &ids([1, 2, 3, 4]),
            isr: &ids([1, 3, 4]),
            leader: Some(NodeId::new(4)),
        };
        assert_eq!(brokers.place(&placed, 3), ids([1, 3, 4]));
        assert_eq!(brokers.place(&placed, 2), ids([1, 4]));
        assert_eq!(brokers.place(&placed, 1), ids([4]));
        assert_eq!(brokers.place(&placed, 4), ids([1, 2, 3, 4]));
    }
}
