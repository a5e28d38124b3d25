//! Producer ids for idempotent producers (KIP-98), handed out of blocks that the controller allocates.

use tidelog_metadata::controller::{BrokerEpoch, ControllerRequest, ControllerResponse};
use tidelog_types::{ErrorCode, ProducerId};
use tokio::sync::Mutex;

use crate::metadata::ActiveController;

/// What is left of the current block. The lock is held while a new one is fetched, so that concurrent first producers
/// share one block.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    left: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    /// A producer id that nobody had before.
    pub(crate) async fn next(
        &self,
        controller: &ActiveController,
        broker: BrokerEpoch,
    ) -> Result<ProducerId, ErrorCode> {
        let mut left = self.left.lock().await;
        if left.is_empty() {
            *left = allocate(controller, broker).await?;
        }
        left.next()
            .map(ProducerId::new)
            .ok_or(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
    }
}

async fn allocate(
    controller: &ActiveController,
    broker: BrokerEpoch,
) -> Result<std::ops::Range<i64>, ErrorCode> {
    match controller
        .request(ControllerRequest::AllocateProducerIds(broker))
        .await?
    {
        ControllerResponse::AllocateProducerIds(Ok(block)) => {
            let first = block.first.value();
            Ok(first..first + i64::from(block.len))
        }
        ControllerResponse::AllocateProducerIds(Err(error)) => {
            tracing::warn!(%error, "no producer ids were allocated");
            Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
        }
        _ => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
    }
}
