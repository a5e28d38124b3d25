//! AlterReplicaLogDirs: moves replicas of this broker to other log directories (KIP-113).

use std::sync::Arc;

use tidelog_protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
};
use tidelog_types::{ErrorCode, TopicPartition};

use super::{Answer, Context};
use crate::store::Store;

pub(super) async fn handle(context: Context, request: AlterReplicaLogDirsRequest) -> Answer {
    let store = Arc::clone(&context.node.store);
    // Copies of former moves may have to be removed, and folders read.
    let begun = tokio::task::spawn_blocking(move || begin(&store, &request));
    match begun.await {
        Ok(results) => context.answer(&AlterReplicaLogDirsResponse {
            results,
            ..Default::default()
        }),
        Err(panic) => context.mismatch(&panic),
    }
}

fn begin(
    store: &Store,
    request: &AlterReplicaLogDirsRequest,
) -> Vec<AlterReplicaLogDirTopicResult> {
    let directories = request.dirs.iter();
    let topics = directories.flat_map(|dir| dir.topics.iter().map(|topic| (&dir.path, topic)));
    let results = topics.map(|(path, topic)| {
        let partitions = topic.partitions.iter().map(|index| {
            let name = TopicPartition::new(topic.name.clone(), *index);
            let begun = store.move_replica(&name, path);
            AlterReplicaLogDirPartitionResult {
                partition_index: *index,
                error_code: begun.err().unwrap_or(ErrorCode::NONE),
            }
        });
        AlterReplicaLogDirTopicResult {
            topic_name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    });
    results.collect()
}
