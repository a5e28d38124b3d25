//! Where the replicas of partitions shall be, if there are to be more or fewer of them, or others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidelog_client::{Client, ClientError, EndpointType, PerTopic, TopicDescription};
use tidelog_types::{NodeId, Str, TopicPartition};

use crate::output::{ids, table};

/// A partition that gets other replicas.
pub(crate) struct Move {
    pub(crate) partition: TopicPartition,
    pub(crate) from: Vec<NodeId>,
    pub(crate) to: Vec<NodeId>,
}

/// A table of them.
pub(crate) fn moves_in_text(moves: &[Move]) -> String {
    let rows = moves.iter().map(|moved| {
        vec![
            moved.partition.topic.to_string(),
            moved.partition.partition.to_string(),
            ids(&moved.from),
            ids(&moved.to),
        ]
    });
    table(&["TOPIC", "PARTITION", "REPLICAS", "TO BE"], rows)
}

pub(crate) fn moves_in_json(moves: &[Move]) -> Value {
    let numbers = |ids: &[NodeId]| ids.iter().map(|id| id.value()).collect::<Vec<_>>();
    let moves = moves.iter().map(|moved| {
        json!({
            "topic": moved.partition.topic.as_str(),
            "partition": moved.partition.partition,
            "from": numbers(&moved.from),
            "to": numbers(&moved.to),
        })
    });
    moves.collect()
}

/// Begins these moves; those at which a broker takes offence are taken out, and their errors given.
pub(crate) async fn begin(
    client: &Client,
    moves: &mut Vec<Move>,
) -> Result<Vec<(TopicPartition, ClientError)>, ClientError> {
    if moves.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = moves.iter();
    let wanted = wanted.map(|moved| (moved.partition.clone(), Some(moved.to.clone())));
    let answers = client.alter_reassignments(&wanted.collect()).await?;
    let refused = answers.into_iter().filter_map(|(partition, result)| {
        let error = result.err()?;
        Some((partition, error))
    });
    let refused: Vec<_> = refused.collect();
    moves.retain(|moved| {
        refused
            .iter()
            .all(|(partition, _)| *partition != moved.partition)
    });
    Ok(refused)
}

/// The brokers in service, with the replicas that each has of all topics, and these topics.
pub(crate) async fn brokers(
    client: &Client,
) -> Result<(Brokers, PerTopic<TopicDescription>), ClientError> {
    let nodes = client.describe_cluster(EndpointType::Brokers).await?.nodes;
    let topics = client.describe_topics(None).await?;
    let partitions = topics
        .values()
        .flatten()
        .flat_map(|topic| &topic.partitions);
    let brokers = Brokers::new(
        nodes
            .into_iter()
            .filter(|node| !node.is_fenced)
            .map(|node| (node.broker.id, node.rack)),
        partitions.map(|partition| &partition.replicas[..]),
    );
    Ok((brokers, topics))
}

/// The replicas of a partition as they are.
pub(crate) struct Placed<'a> {
    pub(crate) replicas: &'a [NodeId],
    pub(crate) isr: &'a [NodeId],
    pub(crate) leader: Option<NodeId>,
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
pub(crate) struct Brokers {
    racks: BTreeMap<NodeId, Option<Str>>,
    loads: BTreeMap<NodeId, usize>,
}

impl Brokers {
    /// These brokers with their racks, and the replicas of all partitions.
    pub(crate) fn new<'a>(
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
    pub(crate) fn len(&self) -> usize {
        self.racks.len()
    }

    /// The replicas of a partition that shall have so many; fewer, if there are not enough brokers. Who leads stays, and those
    /// that stay keep their order.
    pub(crate) fn place(&mut self, partition: &Placed<'_>, count: usize) -> Vec<NodeId> {
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

    /// Takes a broker out, which is to get nothing more.
    pub(crate) fn without(mut self, id: NodeId) -> Self {
        self.racks.remove(&id);
        self
    }

    /// The replicas of a partition with another broker in the place of this one; `None` if there is no other. The other goes to the end,
    /// and whoever comes next leads.
    pub(crate) fn replace(&mut self, replicas: &[NodeId], gone: NodeId) -> Option<Vec<NodeId>> {
        let mut left: Vec<_> = replicas.iter().copied().filter(|id| *id != gone).collect();
        let comes = self.next(&left)?;
        left.push(comes);
        *self.loads.entry(comes).or_default() += 1;
        Some(left)
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
    fn a_broker_that_is_drained_is_replaced_by_who_has_the_fewest() {
        let all = [ids([1, 2]), ids([1, 3]), ids([2, 3])];
        let racks = [1, 2, 3, 4].map(|id| (NodeId::new(id), None));
        let brokers = Brokers::new(racks, all.iter().map(|ids| &ids[..]));
        let mut brokers = brokers.without(NodeId::new(1));
        let gone = NodeId::new(1);
        assert_eq!(brokers.replace(&all[0], gone), Some(ids([2, 4]).to_vec()));
        assert_eq!(brokers.replace(&all[1], gone), Some(ids([3, 4]).to_vec()));
        assert_eq!(brokers.replace(&ids([1, 2, 3, 4]), gone), None);
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
