//! What consumers tell each other through a classic group of type `consumer`: two bytes of version,
//! and the struct.

use bytes::Bytes;
use tidelog_types::{Str, TopicName};

use crate::{Wire, message};

versioned!(ConsumerProtocolSubscription, ConsumerProtocolAssignment);

/// What a member of a classic group wants.
///
/// Version 1 tells what it owns (KIP-429), 2 in which generation (KIP-792), 3 its rack (KIP-881).
#[message(versions = 0..=3)]
pub struct ConsumerProtocolSubscription {
    /// The topics to which the member subscribes.
    pub topics: Vec<TopicName>,
    /// What the assignor of the client adds, or null.
    pub user_data: Option<Bytes>,
    /// What the member owns now (KIP-429).
    #[wire(versions = 1.., ignorable)]
    pub owned_partitions: Vec<TopicPartition>,
    /// The generation in which the partitions were owned, or -1 (KIP-792).
    #[wire(versions = 2.., default = -1, ignorable)]
    pub generation_id: i32,
    /// The rack of the member, or null (KIP-881).
    #[wire(versions = 3.., ignorable)]
    pub rack_id: Option<Str>,
}

/// Partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// What the leader of a classic group gives to a member.
#[message(versions = 0..=3)]
pub struct ConsumerProtocolAssignment {
    /// What the member is given.
    pub assigned_partitions: Vec<TopicPartition>,
    /// What the assignor of the client adds, or null.
    pub user_data: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_of_a_later_version_is_read_as_far_as_known() {
        let subscription = ConsumerProtocolSubscription {
            topics: vec!["t".into()],
            ..Default::default()
        };
        let bytes = subscription.encode_versioned(3).unwrap();
        let mut later = bytes.to_vec();
        later[1] = 99;
        later.extend_from_slice(b"more");
        let read = ConsumerProtocolSubscription::decode_versioned(&Bytes::from(later));
        assert_eq!(read, Ok(subscription));
    }
}
