//! Transactions as leaders of partitions see them (KIP-890): before the first batch of one is taken, its coordinator is asked.
//!
//! The coordinator is the leader of a partition of `__transaction_state`, a broker of Apache Kafka: this kind has none. It adds
//! the partition to the transaction if the producer leaves that to the leader, or says whether the producer has done so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tidelog_coordinator::group::partition_for;
use tidelog_metadata::configs::BrokerConfig;
use tidelog_metadata::image::Image;
use tidelog_protocol::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
};
use tidelog_protocol::{Request, Response};
use tidelog_types::{
    ErrorCode, NodeId, PartitionIndex, ProducerEpoch, ProducerId, TopicName, TransactionalId,
};
use tokio::runtime::Handle;

use crate::clock::real;
use crate::peers::{self, Address, Network, Peer};

/// How long, and how often in that time, a coordinator is asked again that is still ending the transaction before.
const CONCURRENT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(20));
/// How long nothing is sent to a coordinator that could not be reached, at first and at most.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How long the answer of a coordinator may be.
const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// What a coordinator is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Add the partitions (transaction.version 2).
    Add,
    /// Say whether the producer has added them. It knows the error of a transaction that can only be aborted.
    Verify,
    /// The same for a producer that does not know that error.
    VerifyForOlder,
}

/// Who writes, and in which transaction.
#[derive(Clone, Debug)]
pub(crate) struct Producer {
    pub(crate) transactional_id: TransactionalId,
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

/// The connections to coordinators, and who waits for one.
pub(crate) struct Transactions {
    node_id: NodeId,
    image: Arc<ArcSwap<Image>>,
    config: Arc<ArcSwap<BrokerConfig>>,
    network: Arc<dyn Network>,
    coordinators: Mutex<HashMap<NodeId, Arc<Peer>>>,
    turns: Mutex<HashMap<ProducerId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Transactions {
    pub(crate) fn new(
        node_id: NodeId,
        image: Arc<ArcSwap<Image>>,
        config: Arc<ArcSwap<BrokerConfig>>,
        network: Arc<dyn Network>,
    ) -> Self {
        Self {
            node_id,
            image,
            config,
            network,
            coordinators: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    /// Waits until all earlier requests of the producer have appended what they brought. Requests overlap, and a batch must
    /// not overtake the one for which a coordinator is asked.
    pub(crate) async fn turn(&self, producer: ProducerId) -> Turn<'_> {
        let turns = Arc::clone(self.turns.lock().entry(producer).or_default());
        Turn {
            held: Some(turns.lock_owned().await),
            producer,
            transactions: self,
        }
    }

    /// Has the coordinator make partitions part of a transaction, or say whether they are. Gives those that are not, with the
    /// reason as a producer is told of it.
    pub(crate) async fn ask(
        &self,
        producer: &Producer,
        operation: Operation,
        partitions: &[(TopicName, PartitionIndex)],
    ) -> HashMap<(TopicName, PartitionIndex), ErrorCode> {
        let deadline = real::now() + CONCURRENT.0;
        loop {
            let refused = self.ask_once(producer, operation, partitions).await;
            let is_ending = |code: &ErrorCode| *code == ErrorCode::CONCURRENT_TRANSACTIONS;
            if !refused.values().any(is_ending) || real::now() >= deadline {
                let told = refused.into_iter();
                return told
                    .map(|(partition, code)| (partition, for_producer(code, operation)))
                    .collect();
            }
            real::sleep(CONCURRENT.1).await;
        }
    }

    async fn ask_once(
        &self,
        producer: &Producer,
        operation: Operation,
        partitions: &[(TopicName, PartitionIndex)],
    ) -> HashMap<(TopicName, PartitionIndex), ErrorCode> {
        let all = |code: ErrorCode| {
            let partitions = partitions.iter().cloned();
            partitions.map(|partition| (partition, code)).collect()
        };
        let coordinator = match self.coordinator(&producer.transactional_id) {
            Ok(coordinator) => coordinator,
            Err(code) => return all(code),
        };
        let request = request(producer, operation, partitions);
        match coordinator.request(request, None).await {
            Ok(Response::AddPartitionsToTxn(answer)) if answer.error_code.is_err() => {
                match answer.error_code {
                    // It is not the producer who may not ask this.
                    ErrorCode::CLUSTER_AUTHORIZATION_FAILED => all(ErrorCode::INVALID_TXN_STATE),
                    code => all(code),
                }
            }
            Ok(Response::AddPartitionsToTxn(answer)) => refused(answer),
            Ok(_) => all(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(error) => {
                tracing::warn!(%error, transactional_id = %producer.transactional_id, "the coordinator of a transaction cannot be asked");
                all(ErrorCode::NETWORK_EXCEPTION)
            }
        }
    }

    /// The connection to the coordinator of a transactional id.
    fn coordinator(&self, id: &TransactionalId) -> Result<Arc<Peer>, ErrorCode> {
        let image = self.image.load();
        // Without that topic there is no coordinator anywhere, and none will come.
        let topic = image
            .topic(&TopicName::TRANSACTION_STATE)
            .ok_or(ErrorCode::INVALID_TXN_STATE)?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let leader = topic
            .partition(partition_for(id, count))
            .map_or(NodeId::NONE, |partition| partition.leader);
        if leader == self.node_id {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        let config = self.config.load();
        let listener = config.inter_broker_listener();
        let endpoint = listener
            .zip(image.broker(leader))
            .and_then(|(listener, broker)| broker.endpoint(&listener.name))
            .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let address = Address {
            host: endpoint.host.clone(),
            port: endpoint.port,
        };
        let mut coordinators = self.coordinators.lock();
        let kept = coordinators
            .get(&leader)
            .filter(|peer| *peer.address() == address);
        if let Some(peer) = kept {
            return Ok(Arc::clone(peer));
        }
        let peer = Arc::new(self.connect(&config, address));
        coordinators.insert(leader, Arc::clone(&peer));
        Ok(peer)
    }

    fn connect(&self, config: &BrokerConfig, address: Address) -> Peer {
        let millis = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let request_timeout = millis(config.request_timeout_ms().into());
        let config = peers::Config {
            client_id: format!("broker-{}-transactions", self.node_id).into(),
            connect_timeout: millis(config.socket_connection_setup_timeout_ms())
                .min(request_timeout),
            request_timeout,
            reconnect_backoff: RECONNECT.0,
            reconnect_backoff_max: RECONNECT.1,
            response_bytes_max: RESPONSE_BYTES_MAX,
        };
        let network = Arc::clone(&self.network);
        Peer::start(&Handle::current(), network, address, config, |_| {})
    }
}

fn request(
    producer: &Producer,
    operation: Operation,
    partitions: &[(TopicName, PartitionIndex)],
) -> Request {
    let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
    for (name, partition) in partitions {
        match topics.iter_mut().find(|topic| topic.name == *name) {
            Some(topic) => topic.partitions.push(*partition),
            None => topics.push(AddPartitionsToTxnTopic {
                name: name.clone(),
                partitions: vec![*partition],
            }),
        }
    }
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: producer.transactional_id.clone(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        verify_only: operation != Operation::Add,
        topics,
    };
    AddPartitionsToTxnRequest {
        transactions: vec![transaction],
        ..Default::default()
    }
    .into()
}

/// The partitions that are not part of the transaction.
fn refused(answer: AddPartitionsToTxnResponse) -> HashMap<(TopicName, PartitionIndex), ErrorCode> {
    let topics = answer.results_by_transaction.into_iter();
    let topics = topics.flat_map(|transaction| transaction.topic_results);
    let partitions = topics.flat_map(|topic| {
        let name = topic.name;
        let partitions = topic.results_by_partition.into_iter();
        partitions.map(move |found| {
            let partition = (name.clone(), found.partition_index);
            (partition, found.partition_error_code)
        })
    });
    partitions.filter(|(_, code)| code.is_err()).collect()
}

/// What a producer is told that knows the errors of Produce.
fn for_producer(code: ErrorCode, operation: Operation) -> ErrorCode {
    match code {
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::TRANSACTION_ABORTABLE if operation == Operation::VerifyForOlder => {
            ErrorCode::INVALID_TXN_STATE
        }
        // It tries again, and does not look for another leader.
        ErrorCode::CONCURRENT_TRANSACTIONS
        | ErrorCode::NETWORK_EXCEPTION
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::NOT_COORDINATOR => ErrorCode::NOT_ENOUGH_REPLICAS,
        code => code,
    }
}

/// The turn of one request of a producer; the next one comes when this is dropped.
pub(crate) struct Turn<'a> {
    held: Option<tokio::sync::OwnedMutexGuard<()>>,
    producer: ProducerId,
    transactions: &'a Transactions,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.transactions.turns.lock();
        self.held = None;
        // Whoever waits has it too.
        if turns
            .get(&self.producer)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            turns.remove(&self.producer);
        }
    }
}
