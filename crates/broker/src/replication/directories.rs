//! Tells the controller in which directories the replicas of this node are (AssignReplicasToDirs, KIP-858).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_protocol::messages::assign_replicas_to_dirs::{
    AssignReplicasToDirsRequest, DirectoryData, PartitionData, TopicData,
};
use tidelog_types::{ErrorCode, PartitionIndex, TopicId, Uuid};
use tokio::sync::Notify;

use super::Replication;
use crate::clock::real;

/// How many replicas one request may be about: so many Kafka takes.
const REPLICAS_MAX: usize = 2250;
/// How long to wait after a request that failed.
const RETRY: Duration = Duration::from_millis(500);

/// Replicas of which the controller does not know the directory.
#[derive(Default)]
pub(crate) struct Assignments {
    unknown: Mutex<BTreeMap<(TopicId, PartitionIndex), Uuid>>,
    added: Notify,
}

impl Assignments {
    /// The controller is to hear that a replica is in this directory.
    pub(crate) fn add(&self, topic: TopicId, partition: PartitionIndex, directory: Uuid) {
        self.unknown.lock().insert((topic, partition), directory);
        self.added.notify_one();
    }

    /// The controller knows, or the replica is gone.
    pub(crate) fn remove(&self, topic: TopicId, partition: PartitionIndex) {
        self.unknown.lock().remove(&(topic, partition));
    }

    async fn next(&self) -> Vec<((TopicId, PartitionIndex), Uuid)> {
        loop {
            {
                let unknown = self.unknown.lock();
                if !unknown.is_empty() {
                    let first = unknown.iter().take(REPLICAS_MAX);
                    return first.map(|(key, directory)| (*key, *directory)).collect();
                }
            }
            self.added.notified().await;
        }
    }

    /// Takes out what was told, unless it has changed meanwhile.
    fn told(&self, told: &[((TopicId, PartitionIndex), Uuid)]) {
        let mut unknown = self.unknown.lock();
        for (key, directory) in told {
            if unknown.get(key) == Some(directory) {
                unknown.remove(key);
            }
        }
    }
}

/// Tells the controller, one request at a time.
pub(super) async fn run(replication: Arc<Replication>) {
    let assignments = &replication.store.assignments;
    loop {
        let replicas = assignments.next().await;
        let request = AssignReplicasToDirsRequest {
            broker_id: replication.node_id,
            broker_epoch: replication.broker_epoch,
            directories: directories(&replicas),
        };
        let request = ControllerRequest::AssignReplicasToDirs(request);
        let code = match replication.controller.request(request).await {
            Ok(ControllerResponse::AssignReplicasToDirs(answer)) => answer.error_code,
            Ok(_) => ErrorCode::UNKNOWN_SERVER_ERROR,
            Err(code) => code,
        };
        if code.is_ok() {
            // A replica that the controller refused is one that it does not have on this node any more.
            assignments.told(&replicas);
        } else {
            tracing::warn!(%code, "the controller does not know yet in which directories replicas are");
            real::sleep(RETRY).await;
        }
    }
}

fn directories(replicas: &[((TopicId, PartitionIndex), Uuid)]) -> Vec<DirectoryData> {
    let mut by_directory: HashMap<Uuid, HashMap<TopicId, Vec<PartitionData>>> = HashMap::new();
    for ((topic, partition_index), directory) in replicas {
        let topics = by_directory.entry(*directory).or_default();
        topics.entry(*topic).or_default().push(PartitionData {
            partition_index: *partition_index,
        });
    }
    let directories = by_directory.into_iter().map(|(id, topics)| {
        let topics = topics.into_iter().map(|(topic_id, partitions)| TopicData {
            topic_id,
            partitions,
        });
        DirectoryData {
            id,
            topics: topics.collect(),
        }
    });
    directories.collect()
}
