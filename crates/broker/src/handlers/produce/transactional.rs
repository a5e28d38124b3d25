//! Batches of transactions: whether their coordinator counts the partitions as part of the transaction (KIP-890).

use std::collections::HashMap;
use std::sync::Arc;

use tidelog_protocol::messages::produce::{PartitionProduceData, ProduceRequest};
use tidelog_record::BatchHeader;
use tidelog_types::{ErrorCode, TopicName};

use super::local_topic;
use crate::handlers::Context;
use crate::store::partition::{Beginning, Partition};
use crate::transactions::{Operation, Producer, Turn};

/// From this version on a producer knows the error of a transaction that can only be aborted.
const ABORTABLE_FROM_VERSION: i16 = 11;
/// From this version on a producer leaves it to the leader to make the partition part of the transaction.
const ADDED_BY_LEADER_FROM_VERSION: i16 = 12;

/// Whose transaction a request is about, if it is about one. Batches of a transaction need its id, and come from one producer.
/// What is no batch at all is dealt with later.
pub(super) fn producer_of(request: &ProduceRequest) -> Result<Option<Producer>, ErrorCode> {
    let partitions = request
        .topic_data
        .iter()
        .flat_map(|topic| &topic.partition_data);
    let mut transactional = partitions.filter_map(transactional_header);
    let Some(first) = transactional.next() else {
        return Ok(None);
    };
    let Some(transactional_id) = &request.transactional_id else {
        return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    };
    if transactional.any(|header| header.producer_id != first.producer_id) {
        return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    }
    Ok(Some(Producer {
        transactional_id: transactional_id.clone(),
        id: first.producer_id,
        epoch: first.producer_epoch,
    }))
}

fn transactional_header(data: &PartitionProduceData) -> Option<BatchHeader> {
    let header = BatchHeader::decode(data.records.as_ref()?).ok()?;
    header.attributes.is_transactional().then_some(header)
}

/// What may be appended of a request in a transaction. While this is there, no other request of the producer is looked at.
pub(super) struct Admission<'a> {
    _turn: Turn<'a>,
    /// By the place in the request.
    partitions: HashMap<usize, Result<Admitted, ErrorCode>>,
}

struct Admitted {
    partition: Arc<Partition>,
    /// `None` where the transaction is open already.
    beginning: Option<Beginning>,
}

/// Asks the coordinator about the partitions in which the transaction is not open yet.
pub(super) async fn admit<'a>(
    context: &'a Context,
    request: &ProduceRequest,
    producer: Producer,
) -> Admission<'a> {
    let transactions = &context.node.transactions;
    let mut admission = Admission {
        _turn: transactions.turn(producer.id).await,
        partitions: HashMap::new(),
    };
    let topics = request.topic_data.iter();
    let all = topics.flat_map(|topic| topic.partition_data.iter().map(move |data| (topic, data)));
    let mut asked: Vec<(usize, (TopicName, i32))> = Vec::new();
    for (index, (topic, data)) in all.enumerate() {
        let Some(header) = transactional_header(data) else {
            continue;
        };
        let begins = local_topic(context, topic).and_then(|local| {
            let partition = local.partition(data.index)?;
            let partition = partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
            let beginning = partition.transaction_begins(&header)?;
            if beginning.is_some() {
                asked.push((index, (local.name.clone(), data.index)));
            }
            Ok(Admitted {
                partition,
                beginning,
            })
        });
        admission.partitions.insert(index, begins);
    }
    if asked.is_empty() {
        return admission;
    }
    let operation = match context.header.api_version {
        ADDED_BY_LEADER_FROM_VERSION.. => Operation::Add,
        ABORTABLE_FROM_VERSION.. => Operation::Verify,
        _ => Operation::VerifyForOlder,
    };
    let names: Vec<_> = asked.iter().map(|(_, name)| name.clone()).collect();
    let refused = transactions.ask(&producer, operation, &names).await;
    for (index, name) in asked {
        if let Some(code) = refused.get(&name)
            && let Some(Ok(admitted)) = admission.partitions.insert(index, Err(*code))
        {
            admitted.give_up();
        }
    }
    admission
}

impl Admission<'_> {
    /// What the transactional batch at this place of the request needs to be appended.
    pub(super) fn of(&self, index: usize) -> Result<Option<&Beginning>, ErrorCode> {
        match self.partitions.get(&index) {
            Some(Ok(admitted)) => Ok(admitted.beginning.as_ref()),
            Some(Err(code)) => Err(*code),
            None => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        for admitted in self.partitions.values().flatten() {
            admitted.give_up();
        }
    }
}

impl Admitted {
    /// What has not begun by now does not.
    fn give_up(&self) {
        if let Some(beginning) = &self.beginning {
            self.partition.transaction_refused(beginning);
        }
    }
}
