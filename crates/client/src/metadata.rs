//! What a client knows of the cluster: brokers, topics, and who leads what.

use std::collections::HashMap;

use tidelog_protocol::messages::metadata::{
    MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, PartitionIndex, Str, TopicName, Uuid};

use crate::Broker;

/// A partition, as the client last heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// The leader, if there is one.
    pub(crate) leader: Option<NodeId>,
    /// How often the leadership has changed hands; -1 before KIP-320.
    pub(crate) leader_epoch: LeaderEpoch,
}

/// A topic, as the client last heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    /// Zero if the broker is too old to say (before KIP-516).
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Partition>,
}

/// What the client knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) brokers: HashMap<NodeId, Broker>,
    pub(crate) topics: HashMap<TopicName, Topic>,
}

impl Cluster {
    /// Takes over what a broker says. Its view may be older than ours: a leader of an older epoch than the known one of the same
    /// incarnation of the topic is not believed (KIP-320). The topics that have an error come back with it.
    pub(crate) fn update(&mut self, answer: MetadataResponse) -> Vec<(TopicName, ErrorCode)> {
        let brokers = answer.brokers.into_iter().map(|broker| {
            let known = Broker {
                id: broker.node_id,
                host: broker.host.detach(),
                port: broker.port,
            };
            (broker.node_id, known)
        });
        // A broker that is asked while it starts may know of none.
        let brokers: HashMap<_, _> = brokers.collect();
        if !brokers.is_empty() {
            self.brokers = brokers;
        }
        let mut failed = Vec::new();
        for topic in answer.topics {
            let Some(name) = topic.name.as_ref().map(TopicName::detach) else {
                continue;
            };
            if topic.error_code.is_ok() {
                self.update_topic(name, topic);
                continue;
            }
            if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                self.topics.remove(&name);
            }
            failed.push((name, topic.error_code));
        }
        failed
    }

    fn update_topic(&mut self, name: TopicName, topic: MetadataResponseTopic) {
        let before = self.topics.remove(&name);
        let before = before.filter(|before| before.id == topic.topic_id);
        let before = before.map_or_else(Vec::new, |before| before.partitions);
        let mut answers = topic.partitions;
        answers.sort_unstable_by_key(|partition| partition.partition_index);
        let partitions = answers.iter().enumerate().map(|(index, answer)| {
            let said = said(answer);
            match before.get(index) {
                Some(known) if said.leader_epoch < known.leader_epoch => *known,
                _ => said,
            }
        });
        let partitions = partitions.collect();
        let id = topic.topic_id;
        self.topics.insert(name, Topic { id, partitions });
    }

    /// What a broker said of its successor (KIP-951); true if that was news.
    pub(crate) fn hint(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
        leader: NodeId,
        leader_epoch: LeaderEpoch,
        endpoint: Option<Broker>,
    ) -> bool {
        if let Some(endpoint) = endpoint {
            self.brokers.insert(leader, endpoint);
        }
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        let topic = self.topics.get_mut(topic);
        let Some(known) = topic.and_then(|topic| topic.partitions.get_mut(index)) else {
            return false;
        };
        let is_news = leader_epoch > known.leader_epoch && self.brokers.contains_key(&leader);
        if is_news {
            *known = Partition {
                leader: Some(leader),
                leader_epoch,
            };
        }
        is_news
    }
}

fn said(answer: &MetadataResponsePartition) -> Partition {
    let has_leader = answer.leader_id.value() >= 0;
    Partition {
        leader: has_leader.then_some(answer.leader_id),
        leader_epoch: answer.leader_epoch,
    }
}

/// A broker where it says that it listens.
pub(crate) fn endpoint(id: NodeId, host: &Str, port: i32) -> Broker {
    Broker {
        id,
        host: host.detach(),
        port,
    }
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::messages::metadata::MetadataResponseBroker;

    use super::*;

    fn answer(id: u8, leaders: &[(i32, i32)]) -> MetadataResponse {
        let partitions =
            leaders
                .iter()
                .enumerate()
                .map(|(index, (leader, epoch))| MetadataResponsePartition {
                    partition_index: index as i32,
                    leader_id: NodeId::new(*leader),
                    leader_epoch: LeaderEpoch::new(*epoch),
                    ..Default::default()
                });
        let broker = |id| MetadataResponseBroker {
            node_id: NodeId::new(id),
            host: "host".into(),
            port: 9092,
            ..Default::default()
        };
        MetadataResponse {
            brokers: vec![broker(1), broker(2)],
            topics: vec![MetadataResponseTopic {
                name: Some("t".into()),
                topic_id: Uuid::from_bytes([id; 16]),
                partitions: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn leader(cluster: &Cluster) -> (i32, i32) {
        let partition = cluster.topics["t"].partitions[0];
        (
            partition.leader.map_or(-1, NodeId::value),
            partition.leader_epoch.value(),
        )
    }

    #[test]
    fn an_older_view_is_not_believed() {
        let mut cluster = Cluster::default();
        assert_eq!(cluster.update(answer(7, &[(1, 5)])), []);
        cluster.update(answer(7, &[(2, 4)]));
        assert_eq!(leader(&cluster), (1, 5));
        cluster.update(answer(7, &[(2, 6)]));
        assert_eq!(leader(&cluster), (2, 6));
        // Another incarnation of the topic begins anew.
        cluster.update(answer(8, &[(1, 0)]));
        assert_eq!(leader(&cluster), (1, 0));
    }

    #[test]
    fn a_hint_counts_if_it_is_newer() {
        let mut cluster = Cluster::default();
        cluster.update(answer(7, &[(1, 5)]));
        let mut hint = |leader: i32, epoch: i32, endpoint| {
            let (leader, epoch) = (NodeId::new(leader), LeaderEpoch::new(epoch));
            cluster.hint("t", 0, leader, epoch, endpoint)
        };
        assert!(!hint(2, 5, None));
        assert!(!hint(9, 6, None), "where that broker is, nobody knows");
        assert!(hint(
            9,
            6,
            Some(endpoint(NodeId::new(9), &"nine".into(), 1))
        ));
        assert_eq!(leader(&cluster), (9, 6));
    }

    #[test]
    fn a_topic_that_is_gone_is_forgotten() {
        let mut cluster = Cluster::default();
        cluster.update(answer(7, &[(1, 5)]));
        let mut gone = answer(7, &[]);
        gone.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let failed = cluster.update(gone);
        let expected = ("t".into(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(failed, [expected]);
        assert!(cluster.topics.is_empty());
    }
}
