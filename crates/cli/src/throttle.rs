//! How fast replicas move from broker to broker (KIP-73): what `kafka-reassign-partitions --throttle` sets and takes back.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_client::{Client, ClientError, ConfigChange, ConfigResource, EndpointType};
use tidelog_types::{NodeId, Str, TopicName};

use crate::replicas::Move;

/// The brokers' bounds in bytes a second: on what leaders send, and on what followers fetch.
const RATES: [&str; 2] = [
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
];
/// The topics' lists of the replicas that are bounded.
const REPLICAS: [&str; 2] = [
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
];

/// Bounds these moves on all brokers that take part in them. To be called before they begin.
pub(crate) async fn set(
    client: &Client,
    moves: &[Move],
    bytes_per_second: u64,
) -> Result<(), ClientError> {
    let rate = ConfigChange::Set(Str::from(bytes_per_second.to_string()));
    let of_broker: BTreeMap<_, _> = RATES
        .iter()
        .map(|name| (Str::from_static(name), rate.clone()))
        .collect();
    let of_brokers = taking_part(moves).into_iter();
    let mut changes: BTreeMap<_, _> = of_brokers
        .map(|broker| (ConfigResource::Broker(broker), of_broker.clone()))
        .collect();
    for (topic, lists) in lists(moves) {
        let lists = REPLICAS.iter().zip(lists).map(|(name, list)| {
            let change = ConfigChange::Set(Str::from(list.join(",")));
            (Str::from_static(name), change)
        });
        changes.insert(ConfigResource::Topic(topic), lists.collect());
    }
    alter(client, changes).await
}

/// Takes back every bound of these topics, and the rates of all brokers.
pub(crate) async fn clear(
    client: &Client,
    topics: impl IntoIterator<Item = TopicName>,
) -> Result<(), ClientError> {
    let unset = |names: [&'static str; 2]| -> BTreeMap<_, _> {
        let names = names.into_iter().map(Str::from_static);
        names.map(|name| (name, ConfigChange::Unset)).collect()
    };
    let nodes = client.describe_cluster(EndpointType::Brokers).await?.nodes;
    // One that is down takes it from the metadata when it is back, but cannot be asked to.
    let nodes = nodes.into_iter().filter(|node| !node.is_fenced);
    let brokers = nodes.map(|node| (ConfigResource::Broker(node.broker.id), unset(RATES)));
    let topics = topics.into_iter();
    let topics = topics.map(|topic| (ConfigResource::Topic(topic), unset(REPLICAS)));
    alter(client, brokers.chain(topics).collect()).await
}

async fn alter(
    client: &Client,
    changes: BTreeMap<ConfigResource, BTreeMap<Str, ConfigChange>>,
) -> Result<(), ClientError> {
    for (_, result) in client.alter_configs(&changes, false).await? {
        result?;
    }
    Ok(())
}

/// Who sends or gets something.
fn taking_part(moves: &[Move]) -> BTreeSet<NodeId> {
    let moving = moves.iter().filter(|moved| comes(moved).next().is_some());
    moving
        .flat_map(|moved| moved.from.iter().copied().chain(comes(moved)))
        .collect()
}

/// Of each topic the replicas that may send, which are those of before, and those that come.
fn lists(moves: &[Move]) -> BTreeMap<TopicName, [Vec<String>; 2]> {
    let mut lists: BTreeMap<TopicName, [Vec<String>; 2]> = BTreeMap::new();
    for moved in moves.iter().filter(|moved| comes(moved).next().is_some()) {
        let [leaders, followers] = lists.entry(moved.partition.topic.clone()).or_default();
        let index = moved.partition.partition;
        leaders.extend(moved.from.iter().map(|id| format!("{index}:{id}")));
        followers.extend(comes(moved).map(|id| format!("{index}:{id}")));
    }
    lists
}

fn comes(moved: &Move) -> impl Iterator<Item = NodeId> {
    let new = moved.to.iter().filter(|id| !moved.from.contains(id));
    new.copied()
}

#[cfg(test)]
mod tests {
    use tidelog_types::TopicPartition;

    use super::*;

    #[test]
    fn who_sends_and_who_gets_is_bounded() {
        let ids = |ids: &[i32]| ids.iter().copied().map(NodeId::new).collect::<Vec<_>>();
        let moved = |partition, from: &[i32], to: &[i32]| Move {
            partition: TopicPartition::new(TopicName::from("orders"), partition),
            from: ids(from),
            to: ids(to),
        };
        // The second is only put into another order, and copies nothing.
        let moves = [
            moved(0, &[1, 2], &[3, 1]),
            moved(1, &[4, 2], &[2, 4]),
            moved(2, &[1], &[5, 3]),
        ];
        let lists = lists(&moves);
        let [leaders, followers] = &lists[&TopicName::from("orders")];
        assert_eq!(leaders.join(","), "0:1,0:2,2:1");
        assert_eq!(followers.join(","), "0:3,2:5,2:3");
        let brokers: Vec<_> = taking_part(&moves).into_iter().collect();
        assert_eq!(brokers, ids(&[1, 2, 3, 5]));
    }
}
