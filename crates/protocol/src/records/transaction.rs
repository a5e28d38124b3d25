//! Records of `__transaction_state`: what coordinators know of transactional ids (KIP-98).

use tidelog_types::{ProducerEpoch, ProducerId, Timestamp, TopicName, TransactionalId};

use crate::{Wire, message};

coordinator_records! {
    TransactionRecordKey, TransactionRecordValue;
    TransactionLog = 0: TransactionLogKey, TransactionLogValue;
}

/// Key of a transactional id.
#[message(versions = 0..=0)]
pub struct TransactionLogKey {
    /// The transactional id.
    pub transactional_id: TransactionalId,
}

/// The state of a transactional id.
///
/// Version 1 is flexible and tells which producer id and epoch come before and after (KIP-890).
#[message(versions = 0..=1, flexible = 1..)]
pub struct TransactionLogValue {
    /// The producer.
    pub producer_id: ProducerId,
    /// The producer id of the last transaction, or -1.
    #[wire(versions = 1.., tag = 0, default = ProducerId::NONE)]
    pub previous_producer_id: ProducerId,
    /// The producer id of the next transaction if it gets another one, or -1.
    #[wire(versions = 1.., tag = 1, default = ProducerId::NONE)]
    pub next_producer_id: ProducerId,
    /// The epoch of the producer.
    pub producer_epoch: ProducerEpoch,
    /// The epoch of the producer in the next transaction, or -1.
    #[wire(versions = 1.., tag = 3, default = ProducerEpoch::NONE)]
    pub next_producer_epoch: ProducerEpoch,
    /// After how many milliseconds the coordinator aborts a transaction.
    pub transaction_timeout_ms: i32,
    /// 0 empty, 1 ongoing, 2 about to commit, 3 about to abort, 4 committed, 5 aborted, 6 dead, 7
    /// about to be fenced.
    pub transaction_status: i8,
    /// The partitions in the transaction; null if there is none.
    pub transaction_partitions: Option<Vec<PartitionsSchema>>,
    /// When the state last changed.
    pub transaction_last_update_timestamp_ms: Timestamp,
    /// When the transaction began, or -1.
    pub transaction_start_timestamp_ms: Timestamp,
    /// The version of transactions that the client speaks.
    #[wire(versions = 1.., tag = 2)]
    pub client_transaction_version: i16,
}

/// Partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionsSchema {
    /// The topic.
    pub topic: TopicName,
    /// The partitions.
    pub partition_ids: Vec<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transactional_id_and_back() {
        let key = TransactionRecordKey::from(TransactionLogKey {
            transactional_id: "t".into(),
        });
        let bytes = key.encode().unwrap();
        assert_eq!(bytes, &[0, 0, 0, 1, b't'][..]);
        assert_eq!(TransactionRecordKey::decode(&bytes), Ok(key.clone()));

        let value = TransactionRecordValue::from(TransactionLogValue {
            producer_id: ProducerId::new(7),
            transaction_status: 1,
            ..Default::default()
        });
        for version in [0, 1] {
            let bytes = value.encode(version).unwrap();
            assert_eq!(key.decode_value(&bytes), Ok(value.clone()));
        }
    }
}
