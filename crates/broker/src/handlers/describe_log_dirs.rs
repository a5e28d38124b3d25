//! DescribeLogDirs: which replicas lie in which directory, and how large they are (KIP-113, KIP-827, KIP-1066).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidelog_metadata::configs::BrokerConfig;
use tidelog_protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use tidelog_types::{ErrorCode, TopicName};

use super::{Answer, Context};
use crate::store::Store;
use crate::store::directories::DataDirectory;
use crate::store::partition::Partition;

pub(super) async fn handle(context: Context, request: DescribeLogDirsRequest) -> Answer {
    let store = Arc::clone(&context.node.store);
    let config = context.node.broker_config.load_full();
    // Disks may take long to answer, above all those in trouble.
    let described = tokio::task::spawn_blocking(move || describe(&store, &config, &request));
    match described.await {
        Ok(results) => context.answer(&DescribeLogDirsResponse {
            results,
            ..Default::default()
        }),
        Err(panic) => context.mismatch(&panic),
    }
}

fn describe(
    store: &Store,
    config: &BrokerConfig,
    request: &DescribeLogDirsRequest,
) -> Vec<DescribeLogDirsResult> {
    let wanted = request.topics.as_deref().map(wanted);
    let is_wanted = |partition: &Partition| match &wanted {
        None => true,
        Some(wanted) => {
            let partitions = wanted.get(&partition.name.topic);
            partitions.is_some_and(|all| all.contains(&partition.name.partition))
        }
    };
    let mut by_directory: Vec<BTreeMap<TopicName, Vec<DescribeLogDirsPartition>>> = Vec::new();
    by_directory.resize_with(store.directories().len(), BTreeMap::new);
    for topic in store.topics.all() {
        for partition in topic.partitions() {
            if is_wanted(&partition) {
                by_directory[partition.directory]
                    .entry(topic.name.clone())
                    .or_default()
                    .push(replica(&partition));
            }
        }
    }
    let directories = store.directories().iter().zip(by_directory);
    directories
        .map(|(directory, topics)| result(directory, config, topics))
        .collect()
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
    config: &BrokerConfig,
    topics: BTreeMap<TopicName, Vec<DescribeLogDirsPartition>>,
) -> DescribeLogDirsResult {
    let log_dir = directory.absolute_path().to_string_lossy().into_owned();
    let space = match directory.has_failed() {
        true => Err(()),
        false => directory.files.space().map_err(|error| {
            tracing::warn!(log_dir, %error, "cannot find out how large a log directory is");
        }),
    };
    let Ok(space) = space else {
        return DescribeLogDirsResult {
            error_code: ErrorCode::KAFKA_STORAGE_ERROR,
            log_dir: log_dir.into(),
            ..Default::default()
        };
    };
    let bytes = |bytes: Option<u64>| bytes.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX));
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| DescribeLogDirsTopic { name, partitions });
    DescribeLogDirsResult {
        log_dir: log_dir.into(),
        topics: topics.collect(),
        total_bytes: bytes(space.map(|space| space.total_bytes)),
        usable_bytes: bytes(space.map(|space| space.usable_bytes)),
        is_cordoned: directory.is_cordoned(config),
        ..Default::default()
    }
}
