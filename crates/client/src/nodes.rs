//! Nodes that come to a cluster and go: voters of its quorum, brokers that will not come back, and where brokers keep replicas.

use std::collections::BTreeMap;

use tidelog_protocol::messages::add_raft_voter::{AddRaftVoterRequest, Listener};
use tidelog_protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use tidelog_protocol::messages::remove_raft_voter::RemoveRaftVoterRequest;
use tidelog_protocol::messages::unregister_broker::UnregisterBrokerRequest;
use tidelog_types::{NodeId, Str, TopicPartition, Uuid};

use crate::offsets::by_topic;
use crate::{Client, ClientError, PerPartition};

impl Client {
    /// Gives a controller a vote in the metadata quorum, once it has caught up (KIP-853). `directory_id` is that of its metadata
    /// log, `listeners` are name, host and port.
    pub async fn add_voter(
        &self,
        id: NodeId,
        directory_id: Uuid,
        listeners: &[(Str, Str, u16)],
    ) -> Result<(), ClientError> {
        let listeners = listeners.iter().map(|(name, host, port)| Listener {
            name: name.clone(),
            host: host.clone(),
            port: *port,
        });
        let request = AddRaftVoterRequest {
            timeout_ms: self.timeout_ms(),
            voter_id: id,
            voter_directory_id: directory_id,
            listeners: listeners.collect(),
            ..Default::default()
        };
        let answer = self.ask_controller(&request, |answer| answer.error_code);
        let answer = answer.await?;
        let message = answer.error_message.as_ref();
        ClientError::check(answer.error_code, message, || format!("controller {id}"))
    }

    /// Takes the vote from a controller (KIP-853).
    pub async fn remove_voter(&self, id: NodeId, directory_id: Uuid) -> Result<(), ClientError> {
        let request = RemoveRaftVoterRequest {
            voter_id: id,
            voter_directory_id: directory_id,
            ..Default::default()
        };
        let answer = self.ask_controller(&request, |answer| answer.error_code);
        let answer = answer.await?;
        let message = answer.error_message.as_ref();
        ClientError::check(answer.error_code, message, || format!("controller {id}"))
    }

    /// Has the cluster forget a broker that will not come back. Its replicas stay assigned to it.
    pub async fn unregister_broker(&self, id: NodeId) -> Result<(), ClientError> {
        let request = UnregisterBrokerRequest { broker_id: id };
        let answer = self.ask_controller(&request, |answer| answer.error_code);
        let answer = answer.await?;
        let message = answer.error_message.as_ref();
        ClientError::check(answer.error_code, message, || format!("broker {id}"))
    }

    /// Moves replicas of a broker into log directories, named by their absolute paths (KIP-113). The call returns when the moves
    /// have begun; [`describe_log_dirs`](Self::describe_log_dirs) shows how they go on.
    pub async fn alter_log_dirs(
        &self,
        broker: NodeId,
        paths: &BTreeMap<TopicPartition, Str>,
    ) -> Result<PerPartition<()>, ClientError> {
        let mut dirs: BTreeMap<&Str, Vec<TopicPartition>> = BTreeMap::new();
        for (partition, path) in paths {
            dirs.entry(path).or_default().push(partition.clone());
        }
        let dirs = dirs.into_iter().map(|(path, partitions)| {
            let topics = by_topic(&partitions, |partition| partition.partition);
            let topics =
                topics.map(|(name, partitions)| AlterReplicaLogDirTopic { name, partitions });
            AlterReplicaLogDir {
                path: path.clone(),
                topics: topics.collect(),
            }
        });
        let request = AlterReplicaLogDirsRequest {
            dirs: dirs.collect(),
        };
        let answer = self.broker(broker).await?.send(&request).await?;
        let topics = answer.results.into_iter();
        let results = topics.flat_map(|topic| {
            let name = topic.topic_name;
            let partitions = topic.partitions.into_iter();
            partitions.map(move |result| {
                let partition = TopicPartition::new(name.clone(), result.partition_index);
                let subject = || format!("partition {partition}");
                let checked = ClientError::check(result.error_code, None, subject);
                (partition, checked)
            })
        });
        Ok(results.collect())
    }
}
