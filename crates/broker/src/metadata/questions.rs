//! What other nodes and clients ask of the quorum.

use std::time::Duration;

use bytes::Bytes;
use tidelog_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionResult, ReplicaState,
    TopicResult,
};
use tidelog_protocol::{Request, Response};
use tidelog_replication::quorum::message::{self, Fetched};
use tidelog_replication::quorum::{self, ReplicaDescription};
use tidelog_types::{ErrorCode, NodeId, Offset, Str, Timestamp, TopicName};
use tokio::sync::oneshot;

use super::Question;
use super::thread::{Fatal, MetadataThread};
use super::wire::{self, Brought};
use crate::clock::real;

/// How often it is said that nodes of another cluster ask: they ask many times a second.
const STRANGERS_SAID_EVERY: Duration = Duration::from_secs(60);

/// A request that the machine has not answered.
pub(super) struct Asked {
    listener: Str,
    /// How many bytes the answer may bring.
    max_bytes: usize,
    reply: oneshot::Sender<Response>,
}

impl MetadataThread {
    pub(super) fn question(&mut self, question: Question) -> Result<(), Fatal> {
        let Question {
            request,
            listener,
            reply,
        } = question;
        if let Request::DescribeQuorum(request) = &request {
            // Whoever asked may have gone.
            let _ = reply.send(self.describe(request).into());
            return Ok(());
        }
        let wire::Asked { request, max_bytes } = match wire::asked(&self.cluster, request) {
            Some(Ok(asked)) => asked,
            Some(Err(refusal)) => {
                self.say_of_strangers(&refusal, "a node of another cluster asks this one");
                let _ = reply.send(*refusal);
                return Ok(());
            }
            // Dropping the sender tells that nobody answers this.
            None => return Ok(()),
        };
        self.next_id += 1;
        let request_id = self.next_id;
        let asked = Asked {
            listener,
            max_bytes,
            reply,
        };
        self.asked.insert(request_id, asked);
        let input = quorum::Input::Request {
            request_id,
            request,
        };
        self.drive(input, Brought::Nothing)
    }

    /// Sends the answer of the machine, with the bytes that belong to it.
    pub(super) fn answer(&mut self, request_id: u64, response: message::Response) {
        let Some(asked) = self.asked.remove(&request_id) else {
            return;
        };
        let bytes = match &response {
            message::Response::Fetch(fetch) => match fetch.fetched {
                Fetched::Records { from, to } if from < to => self.read(from, to, asked.max_bytes),
                _ => Ok(Bytes::new()),
            },
            message::Response::FetchSnapshot(fetch) if fetch.error.is_ok() => {
                let id = fetch.snapshot_id;
                self.snapshots
                    .read_piece(id, fetch.position, asked.max_bytes)
            }
            _ => Ok(Bytes::new()),
        };
        match bytes {
            // Whoever asked may have gone.
            Ok(bytes) => drop(
                asked
                    .reply
                    .send(wire::answer(response, &asked.listener, bytes)),
            ),
            // Without an answer the connection is closed, and the follower turns to somebody else.
            Err(error) => tracing::error!(error, "the metadata log cannot be read"),
        }
    }

    /// Up to so many bytes of the log, but at least one batch. They are read here, and not when they are sent: the log may
    /// be cut in between.
    fn read(&self, from: Offset, to: Offset, max_bytes: usize) -> Result<Bytes, Fatal> {
        let reader = self.log.with(|log| log.reader());
        let slice = reader
            .read(from, max_bytes, to, true)
            .map_err(|error| error.to_string())?;
        slice.data.read_all().map_err(|error| error.to_string())
    }

    /// Says, now and then, that nodes of two clusters talk to each other, where this is an answer that says so.
    pub(super) fn say_of_strangers(&mut self, answer: &Response, what: &str) {
        let code = match answer {
            Response::Vote(response) => response.error_code,
            Response::BeginQuorumEpoch(response) => response.error_code,
            Response::EndQuorumEpoch(response) => response.error_code,
            Response::Fetch(response) => response.error_code,
            Response::FetchSnapshot(response) => response.error_code,
            _ => ErrorCode::NONE,
        };
        let now = real::now();
        let is_said = self
            .strangers_said_at
            .is_some_and(|at| now < at + STRANGERS_SAID_EVERY);
        if code == ErrorCode::INCONSISTENT_CLUSTER_ID && !is_said {
            self.strangers_said_at = Some(now);
            let cluster_id = &self.cluster.id;
            tracing::error!(
                %cluster_id,
                "{what} for metadata; correct the cluster id of who asks, or the addresses that it is given"
            );
        }
    }

    /// How the quorum is (KIP-595, KIP-836).
    fn describe(&self, request: &DescribeQuorumRequest) -> DescribeQuorumResponse {
        let mut partitions = request
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
        let is_metadata = |name: &TopicName, index| {
            *name == TopicName::CLUSTER_METADATA && index == wire::PARTITION
        };
        let wanted = partitions.next();
        let is_only = partitions.next().is_none();
        let Some((topic, partition)) = wanted.filter(|_| is_only) else {
            return DescribeQuorumResponse {
                error_code: ErrorCode::INVALID_REQUEST,
                ..Default::default()
            };
        };
        let refuse = |error_code: ErrorCode| PartitionResult {
            partition_index: partition.partition_index,
            error_code,
            error_message: Some(error_code.to_string().into()),
            ..Default::default()
        };
        let description = self.quorum.describe(self.clock.steady());
        let result = match description {
            _ if !is_metadata(&topic.topic_name, partition.partition_index) => {
                refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
            }
            Err(code) => refuse(code),
            Ok(found) => PartitionResult {
                partition_index: partition.partition_index,
                leader_id: found.leader_id,
                leader_epoch: found.leader_epoch,
                high_watermark: found.high_watermark.unwrap_or(Offset::NONE),
                current_voters: found.voters.iter().map(replica_state).collect(),
                observers: found.observers.iter().map(replica_state).collect(),
                ..Default::default()
            },
        };
        let nodes = match result.error_code.is_ok() {
            true => self.nodes(),
            false => Vec::new(),
        };
        DescribeQuorumResponse {
            topics: vec![TopicResult {
                topic_name: topic.topic_name.clone(),
                partitions: vec![result],
            }],
            nodes,
            ..Default::default()
        }
    }

    /// Where the voters are reached.
    fn nodes(&self) -> Vec<Node> {
        let listener = |endpoint: &quorum::Endpoint| Listener {
            name: endpoint.listener.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
        };
        let voters = self.quorum.voters().iter();
        voters
            .map(|voter| Node {
                node_id: NodeId::new(voter.key.id.value()),
                listeners: voter.endpoints.iter().map(listener).collect(),
            })
            .collect()
    }
}

fn replica_state(replica: &ReplicaDescription) -> ReplicaState {
    ReplicaState {
        replica_id: replica.key.id,
        replica_directory_id: replica.key.directory_id,
        log_end_offset: replica.log_end_offset.unwrap_or(Offset::NONE),
        last_fetch_timestamp: replica.last_fetch.unwrap_or(Timestamp::NONE),
        last_caught_up_timestamp: replica.last_caught_up.unwrap_or(Timestamp::NONE),
    }
}
