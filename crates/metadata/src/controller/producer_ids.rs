//! Blocks of producer ids (KIP-730).

use tidelog_protocol::records::metadata::ProducerIdsRecord;
use tidelog_types::{ErrorCode, ProducerId};

use super::{BrokerEpoch, Controller, ControllerResponse, Decision, ProducerIdBlock};
use crate::ApiError;

/// How many producer ids are handed out at a time.
const PRODUCER_IDS_PER_BLOCK: i32 = 1000;

impl Controller {
    pub(super) fn allocate_producer_ids(&self, broker: BrokerEpoch) -> Decision {
        let first = self.image.next_producer_id();
        let block = self.registered(broker).and_then(|_| {
            let next = first.value().checked_add(i64::from(PRODUCER_IDS_PER_BLOCK));
            let exhausted =
                || ApiError::new(ErrorCode::UNKNOWN_SERVER_ERROR, "no producer ids are left");
            next.map(ProducerId::new).ok_or_else(exhausted)
        });
        let record = |next_producer_id: ProducerId| {
            let BrokerEpoch {
                broker_id,
                broker_epoch,
            } = broker;
            ProducerIdsRecord {
                broker_id,
                broker_epoch,
                next_producer_id,
            }
            .into()
        };
        let records = block.iter().copied().map(record).collect();
        let block = block.map(|_| ProducerIdBlock {
            first,
            len: PRODUCER_IDS_PER_BLOCK,
        });
        Decision::atomic(records, ControllerResponse::AllocateProducerIds(block))
    }
}
