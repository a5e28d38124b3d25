//! Records: deleted from the front of partitions.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use tidelog_types::{ErrorCode, Offset, Str, TopicPartition};

use crate::offsets::by_topic;
use crate::{Client, ClientError};

/// Why records cannot be deleted.
const KEPT: &str = "the cleanup.policy of the topic does not have delete";

/// For each partition what came of a call.
pub type PerPartition<T> = BTreeMap<TopicPartition, Result<T, ClientError>>;

impl Client {
    /// Deletes the records in front of an offset of each partition; `None` deletes all that consumers can see. The answer is the
    /// first offset that is left, on the replica that has kept the most.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, Option<Offset>>,
    ) -> Result<PerPartition<Offset>, ClientError> {
        let partitions = before.keys().cloned().collect();
        self.settle(
            partitions,
            |partitions: BTreeSet<TopicPartition>| async move {
                let wanted: Vec<_> = partitions.into_iter().map(|p| (p, ())).collect();
                let (leaders, lost) = self.leaders(&wanted).await?;
                let subject = |partition: &TopicPartition| format!("partition {partition}");
                let mut results: Vec<_> = lost
                    .into_iter()
                    .map(|(partition, code)| {
                        let refused = ClientError::check(code, None, || subject(&partition));
                        (partition, refused.map(|()| Offset::NONE))
                    })
                    .collect();
                for (address, wanted) in leaders {
                    let topics = by_topic(wanted.keys(), |partition| DeleteRecordsPartition {
                        partition_index: partition.partition,
                        offset: before[partition].unwrap_or(Offset::NONE),
                    });
                    let topics =
                        topics.map(|(name, partitions)| DeleteRecordsTopic { name, partitions });
                    let request = DeleteRecordsRequest {
                        topics: topics.collect(),
                        timeout_ms: self.timeout_ms(),
                    };
                    let answer = self.at(&address).await?.send(&request).await?;
                    for topic in answer.topics {
                        for result in topic.partitions {
                            let name = topic.name.clone();
                            let partition = TopicPartition::new(name, result.partition_index);
                            // The answer has no words of its own.
                            let message = match result.error_code {
                                ErrorCode::POLICY_VIOLATION => Some(KEPT),
                                _ => None,
                            };
                            let message = message.map(Str::from_static);
                            let code = result.error_code;
                            let checked =
                                ClientError::check(code, message.as_ref(), || subject(&partition));
                            results.push((partition, checked.map(|()| result.low_watermark)));
                        }
                    }
                }
                Ok(results)
            },
        )
        .await
    }
}
