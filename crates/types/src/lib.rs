//! Newtypes that every Tidelog crate shares.
//!
//! An offset is not a timestamp, a leader epoch is not a node id, and the text of a request is a slice of the request.
//! These types say so, cost nothing, and know no encoding: how they travel is the business of `tidelog-protocol`.
//! Only the text form of `java.util.Properties` is here too ([`properties`]), because configurations and log directories share
//! it.
//!
//! ```
//! use tidelog_types::{ErrorCode, Offset, Str};
//!
//! let base = Offset::new(40);
//! assert_eq!(base + 2, Offset::new(42));
//! assert_eq!(Offset::new(42) - base, 2);
//!
//! assert_eq!(ErrorCode::NOT_COORDINATOR.to_string(), "NOT_COORDINATOR (16)");
//! assert!(ErrorCode::NOT_COORDINATOR.is_retriable());
//!
//! let name = Str::from("orders");
//! assert_eq!(&*name, "orders");
//! ```

mod error_code;
mod number;
pub mod properties;
mod str;
mod text;
mod time;
mod uuid;

pub use error_code::ErrorCode;
pub use number::{LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId};
pub use str::{InvalidUtf8, Str};
pub use text::{GroupId, InvalidTopicName, TopicName, TransactionalId};
pub use time::{Now, Timestamp};
pub use uuid::{InvalidUuid, TopicId, Uuid};

/// A topic and the number of one of its partitions, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition within the topic, from 0.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<TopicName>, partition: PartitionIndex) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
