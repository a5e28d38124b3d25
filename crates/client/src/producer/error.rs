use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{ErrorCode, PartitionIndex, TopicName};

use crate::ClientError;

/// Why a record was not delivered. All records of a batch share it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The settings contradict each other.
    #[error("the producer cannot be set like this: {what}")]
    Config {
        /// What is wrong, and what to do.
        what: &'static str,
    },
    /// The producer was made without this codec.
    #[error("batches cannot be compressed: {reason}")]
    Codec {
        /// What is missing.
        reason: Arc<str>,
    },
    /// There is no room for the record just now; said only by [`try_send`](super::Producer::try_send).
    #[error(
        "the producer holds as many records as it may (buffer_bytes_max); wait for some of them, or use send, which waits"
    )]
    Full,
    /// Nothing is known of the topic yet; said only by [`try_send`](super::Producer::try_send).
    #[error(
        "topic {topic} has not been looked up yet; call prepare first, or use send, which does"
    )]
    TopicNotPrepared {
        /// The topic.
        topic: TopicName,
    },
    /// The cluster has no such topic, or does not let us have it.
    #[error("topic {topic}: {}{}", .code.text(), advice(*.code))]
    Topic {
        /// The topic.
        topic: TopicName,
        /// What the cluster says.
        code: ErrorCode,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}, it has {partitions}")]
    NoPartition {
        /// The topic.
        topic: TopicName,
        /// What the record, or the partitioner, asked for.
        partition: PartitionIndex,
        /// How many there are.
        partitions: i32,
    },
    /// The record is larger than a request may be.
    #[error(
        "a record of {bytes} bytes is larger than request_bytes_max, {max}; mind that brokers have a bound of their own (message.max.bytes)"
    )]
    TooLarge {
        /// About how large it is.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// The broker does not want the batch.
    #[error("{topic}-{partition}: {}{}", said(*.code, .message.as_deref()), advice(*.code))]
    Refused {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// Kafka's error code.
        code: ErrorCode,
        /// What the broker says of it, or of this record (KIP-467).
        message: Option<Arc<str>>,
    },
    /// Other records of the batch broke a rule, and the broker takes a batch whole or not at all (KIP-467). The record itself may
    /// be sent again.
    #[error(
        "{topic}-{partition}: not written, since other records of the same batch were refused: {}", .code.text()
    )]
    BesideRefused {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// Kafka's error code for the others.
        code: ErrorCode,
    },
    /// The record was not acknowledged in time. If it was sent at all, it may be in the log.
    #[error("{topic}-{partition}: not acknowledged within {timeout:?}{}", because(.cause.as_deref()))]
    TimedOut {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// The delivery timeout.
        timeout: Duration,
        /// What went wrong last.
        cause: Option<Arc<str>>,
    },
    /// The cluster gives no producer id, without which there is no idempotence.
    #[error("no producer id, which idempotence needs: {}{}", .code.text(), advice(*.code))]
    Unidentified {
        /// What the cluster says.
        code: ErrorCode,
    },
    /// The producer was closed or dropped.
    #[error("the producer has ended")]
    Closed,
    /// The cluster could not be asked.
    #[error(transparent)]
    Client(#[from] Arc<ClientError>),
}

impl ProduceError {
    /// Kafka's error code, if a broker has refused.
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Topic { code, .. }
            | Self::Refused { code, .. }
            | Self::BesideRefused { code, .. }
            | Self::Unidentified { code } => Some(*code),
            _ => None,
        }
    }

    /// Whether sending the same record once more may succeed. After [`TimedOut`](Self::TimedOut) that may double it.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Full
            | Self::TopicNotPrepared { .. }
            | Self::BesideRefused { .. }
            | Self::TimedOut { .. } => true,
            Self::Topic { code, .. } | Self::Refused { code, .. } => code.is_retriable(),
            Self::Client(error) => error.is_retriable(),
            _ => false,
        }
    }
}

fn said(code: ErrorCode, message: Option<&str>) -> String {
    format!("{} ({code})", message.unwrap_or_else(|| code.text()))
}

fn because(cause: Option<&str>) -> String {
    cause.map_or_else(String::new, |cause| format!("; the last failure: {cause}"))
}

/// What the user can do.
const fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            "; create it first (tidelog topic create), or look for a typing mistake"
        }
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            "; this client's principal needs the right to WRITE to it"
        }
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            "; before Kafka 2.8 idempotence needs the right to IDEMPOTENT_WRITE on the cluster, or set idempotent = false"
        }
        ErrorCode::MESSAGE_TOO_LARGE => "; see max.message.bytes of the topic",
        ErrorCode::UNSUPPORTED_COMPRESSION_TYPE => "; choose another codec for this broker",
        ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            "; see min.insync.replicas of the topic"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_sentences() {
        let missing = ProduceError::Topic {
            topic: "orders".into(),
            code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        };
        let text = missing.to_string();
        assert!(
            text.starts_with("topic orders: This broker does not know the topic"),
            "{text}"
        );
        assert!(text.ends_with("look for a typing mistake"), "{text}");
        let late = ProduceError::TimedOut {
            topic: "orders".into(),
            partition: 3,
            timeout: Duration::from_secs(2),
            cause: Some("nothing listens".into()),
        };
        let text = "orders-3: not acknowledged within 2s; the last failure: nothing listens";
        assert_eq!(late.to_string(), text);
        assert!(late.is_retriable());
    }
}
