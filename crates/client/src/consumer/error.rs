use std::sync::Arc;

use tidelog_record::BatchError;
use tidelog_types::{ErrorCode, GroupId, Offset, Str, TopicName, TopicPartition};

use crate::ClientError;

/// Why a consumer cannot go on as it was told. Other partitions go on.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The settings contradict each other.
    #[error("the consumer cannot be set like this: {what}")]
    Config {
        /// What is wrong, and what to do.
        what: &'static str,
    },
    /// The cluster has no such topic, or does not let us have it.
    #[error("topic {topic}: {}{}", .code.text(), advice(*.code))]
    Topic {
        /// The topic.
        topic: TopicName,
        /// What the cluster says.
        code: ErrorCode,
    },
    /// The broker does not hand out the partition. It is asked again nevertheless.
    #[error("partition {partition}: {} ({code}){}", .code.text(), advice(*.code))]
    Refused {
        /// The partition.
        partition: TopicPartition,
        /// Kafka's error code.
        code: ErrorCode,
    },
    /// The partition is not this consumer's.
    #[error("partition {partition} is not assigned to this consumer")]
    NotAssigned {
        /// The partition.
        partition: TopicPartition,
    },
    /// What comes next is no longer, or not yet, in the log, and [`OffsetReset::None`](crate::OffsetReset::None) leaves it to
    /// the application: the partition waits for a seek.
    #[error(
        "partition {partition} has nothing at offset {offset}; seek to where to go on, or set offset_reset"
    )]
    OutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        offset: Offset,
    },
    /// The group has committed nothing for the partition, and [`OffsetReset::None`](crate::OffsetReset::None) leaves it to the
    /// application: the partition waits for a seek.
    #[error(
        "nothing is committed for partition {partition}; seek to where to begin, or set offset_reset"
    )]
    NoOffset {
        /// The partition.
        partition: TopicPartition,
    },
    /// Records that were consumed are no longer in the log: a leader without them took over (KIP-320). With
    /// [`OffsetReset::None`](crate::OffsetReset::None) the partition waits for a seek.
    #[error(
        "partition {partition} was truncated: the consumer is at offset {offset}, the logs part at {diverging_offset}; seek to where to go on"
    )]
    Truncated {
        /// The partition.
        partition: TopicPartition,
        /// Where the consumer is.
        offset: Offset,
        /// The first offset that may hold another record than the one that was consumed.
        diverging_offset: Offset,
    },
    /// The records cannot be read. The partition waits for a seek.
    #[error(
        "partition {partition} is damaged behind offset {offset}: {source}; seek beyond it to go on"
    )]
    Damaged {
        /// The partition.
        partition: TopicPartition,
        /// Where the consumer is.
        offset: Offset,
        /// What is wrong.
        source: Arc<BatchError>,
    },
    /// The consumer is in no group, which what was asked for needs.
    #[error("the consumer has no group; set group_id")]
    NoGroup,
    /// The group does not take the consumer. It reads nothing until it subscribes again.
    #[error("group {group}: {} ({code}){}", said(*.code, .message.as_ref()), advice(*.code))]
    Group {
        /// The group.
        group: GroupId,
        /// Kafka's error code.
        code: ErrorCode,
        /// What the broker says of it.
        message: Option<Str>,
    },
    /// The offsets were not committed.
    #[error("group {group}: the offsets are not committed: {} ({code}){}", .code.text(), advice(*.code))]
    NotCommitted {
        /// The group.
        group: GroupId,
        /// Kafka's error code.
        code: ErrorCode,
    },
    /// The consumer was closed.
    #[error("the consumer has ended")]
    Closed,
    /// The cluster could not be asked.
    #[error(transparent)]
    Client(#[from] Arc<ClientError>),
}

impl ConsumeError {
    /// Kafka's error code, if a broker has refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Topic { code, .. }
            | Self::Refused { code, .. }
            | Self::Group { code, .. }
            | Self::NotCommitted { code, .. } => Some(*code),
            Self::Client(error) => error.code(),
            _ => None,
        }
    }

    /// Whether the same call may succeed a little later.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Client(error) => error.is_retriable(),
            Self::NotCommitted { code, .. } => {
                code.is_retriable()
                    || matches!(
                        *code,
                        ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::STALE_MEMBER_EPOCH
                    )
            }
            _ => self.code().is_some_and(ErrorCode::is_retriable),
        }
    }
}

impl From<ClientError> for ConsumeError {
    fn from(error: ClientError) -> Self {
        Self::Client(Arc::new(error))
    }
}

fn said(code: ErrorCode, message: Option<&Str>) -> &str {
    message.map_or_else(|| code.text(), Str::as_str)
}

/// What the user can do.
const fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            "; create it first (tidelog topic create), or look for a typing mistake"
        }
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            "; this client's principal needs the right to READ it"
        }
        ErrorCode::GROUP_AUTHORIZATION_FAILED => {
            "; this client's principal needs the right to READ the group"
        }
        ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
            "; the group has gone on without this consumer, and its partitions are another one's, or soon will be"
        }
        ErrorCode::FENCED_INSTANCE_ID => {
            "; another consumer has joined with the same group_instance_id"
        }
        ErrorCode::UNSUPPORTED_VERSION => {
            "; the consumer protocol (KIP-848) needs Kafka 4.0 or newer, with group.version 1; GroupProtocol::Auto does without where there is none"
        }
        ErrorCode::UNRELEASED_INSTANCE_ID => {
            "; another member has this group_instance_id, or had it less than a session timeout ago"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_sentences() {
        let error = ConsumeError::OutOfRange {
            partition: TopicPartition::new("orders", 3),
            offset: Offset::new(7),
        };
        let text = "partition orders-3 has nothing at offset 7; seek to where to go on, or set offset_reset";
        assert_eq!(error.to_string(), text);
        assert!(!error.is_retriable());
        let error = ConsumeError::Topic {
            topic: "orders".into(),
            code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        };
        assert!(error.to_string().ends_with("look for a typing mistake"));
        assert!(error.is_retriable());
    }
}
