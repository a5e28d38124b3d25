//! DescribeLogDirs: which replicas lie in which directory, and how large they are (KIP-113, KIP-827, KIP-1066).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use tidelog_protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use tidelog_types::{ErrorCode, TopicName, TopicPartition};

use super::{Answer, Context};
use crate::store::Store;
use crate::store::directories::{DataDirectory, absolute};
use crate::store::partition::Partition;

pub(super) async fn handle(context: Context, request: DescribeLogDirsRequest) -> Answer {
    let store = Arc::clone(&context.node.store);
    // Disks may take long to answer, above all those in trouble.
    let described = tokio::task::spawn_blocking(move || describe(&store, &request));
    match described.await {
        Ok(results) => context.answer(&DescribeLogDirsResponse {
            results,
            ..Default::default()
        }),
        Err(panic) => context.mismatch(&panic),
    }
}

fn describe(store: &Store, request: &DescribeLogDirsRequest) -> Vec<DescribeLogDirsResult> {
    let wanted = request.topics.as_deref().map(wanted);
    let is_wanted = |name: &TopicPartition| match &wanted {
        None => true,
        Some(wanted) => {
            let partitions = wanted.get(&name.topic);
            partitions.is_some_and(|all| all.contains(&name.partition))
        }
    };
    let mut by_directory: Vec<BTreeMap<TopicName, Vec<DescribeLogDirsPartition>>> = Vec::new();
    by_directory.resize_with(store.directories().len(), BTreeMap::new);
    for topic in store.topics.all() {
        for partition in topic.partitions() {
            if is_wanted(&partition.name) {
                by_directory[partition.directory()]
                    .entry(topic.name.clone())
                    .or_default()
                    .push(replica(&partition));
            }
        }
    }
    for future in store.moves.future_replicas() {
        if is_wanted(&future.name) {
            by_directory[future.directory]
                .entry(future.name.topic)
                .or_default()
                .push(DescribeLogDirsPartition {
                    partition_index: future.name.partition,
                    partition_size: i64::try_from(future.size).unwrap_or(i64::MAX),
                    offset_lag: future.lag.max(0),
                    is_future_key: true,
                });
        }
    }
    let directories = store.directories().iter().zip(by_directory);
    let described = directories.map(|(directory, topics)| result(directory, topics));
    let unavailable = store.unavailable().iter();
    described
        .chain(unavailable.map(|path| out_of_service(path)))
        .collect()
}

fn out_of_service(path: &Path) -> DescribeLogDirsResult {
    DescribeLogDirsResult {
        error_code: ErrorCode::KAFKA_STORAGE_ERROR,
        log_dir: absolute(path).into(),
        ..Default::default()
    }
}

fn wanted(topics: &[DescribableLogDirTopic]) -> HashMap<&TopicName, &[i32]> {
    let topics = topics.iter();
    topics
        .map(|topic| (&topic.topic, topic.partitions.as_slice()))
        .collect()
}

fn replica(partition: &Partition) -> DescribeLogDirsPartition {
    let (size, lag) = partition.with_log(|log, marks| {
        let lag = marks.high_watermark.value() - log.log_end_offset().value();
        (log.size(), lag)
    });
    DescribeLogDirsPartition {
        partition_index: partition.name.partition,
        partition_size: i64::try_from(size).unwrap_or(i64::MAX),
        offset_lag: lag.max(0),
        is_future_key: false,
    }
}

fn result(
    directory: &DataDirectory,
    topics: BTreeMap<TopicName, Vec<DescribeLogDirsPartition>>,
) -> DescribeLogDirsResult {
    if directory.has_failed() {
        return out_of_service(&directory.path);
    }
    let space = match directory.files.space() {
        Ok(space) => space,
        Err(error) => {
            let path = directory.path.display();
            tracing::warn!(%path, %error, "cannot find out how large a log directory is");
            return out_of_service(&directory.path);
        }
    };
    let bytes = |bytes: Option<u64>| bytes.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX));
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| DescribeLogDirsTopic { name, partitions });
    DescribeLogDirsResult {
        log_dir: absolute(&directory.path).into(),
        topics: topics.collect(),
        total_bytes: bytes(space.map(|space| space.total_bytes)),
        usable_bytes: bytes(space.map(|space| space.usable_bytes)),
        is_cordoned: directory.is_cordoned(),
        ..Default::default()
    }
}
