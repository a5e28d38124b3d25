//! What other nodes and clients ask of this one, and what it answers.

use bytes::Bytes;
use tidelog_protocol::messages::{
    add_raft_voter, begin_quorum_epoch, end_quorum_epoch, fetch, fetch_snapshot, remove_raft_voter,
    update_raft_voter, vote,
};
use tidelog_protocol::{Payload, Request, Response};
use tidelog_replication::quorum::message::{self as quorum, Fetched, LeaderAndEpoch};
use tidelog_replication::quorum::{Endpoint, ReplicaKey, SnapshotId, VersionRange};
use tidelog_types::{ErrorCode, NodeId, Offset, Str, TopicId, TopicName};

use super::{Cluster, PARTITION, known, leader_endpoints};

/// A request that the machine can answer.
#[derive(Clone, Debug)]
pub(in crate::metadata) struct Asked {
    pub(in crate::metadata) request: quorum::Request,
    /// How many bytes the answer may bring.
    pub(in crate::metadata) max_bytes: usize,
}

/// Makes an answer of this kind out of the code for the whole request.
macro_rules! refusal {
    ($module:ident::$response:ident) => {
        |error_code: ErrorCode| {
            let response = $module::$response {
                error_code,
                ..Default::default()
            };
            Box::new(Response::from(response))
        }
    };
}

/// The request as the machine knows it, or the answer that refuses it: it may be of another cluster, or about another
/// partition. `None` if it is no request for the machine.
pub(in crate::metadata) fn asked(
    cluster: &Cluster,
    request: Request,
) -> Option<Result<Asked, Box<Response>>> {
    let plain = |request| Asked {
        request,
        max_bytes: 0,
    };
    Some(match request {
        Request::Vote(request) => checked(cluster, request.cluster_id.clone(), vote(request))
            .map(plain)
            .map_err(refusal!(vote::VoteResponse)),
        Request::BeginQuorumEpoch(request) => {
            checked(cluster, request.cluster_id.clone(), begin_epoch(request))
                .map(plain)
                .map_err(refusal!(begin_quorum_epoch::BeginQuorumEpochResponse))
        }
        Request::EndQuorumEpoch(request) => {
            checked(cluster, request.cluster_id.clone(), end_epoch(request))
                .map(plain)
                .map_err(refusal!(end_quorum_epoch::EndQuorumEpochResponse))
        }
        Request::Fetch(request) => {
            fetch_records(cluster, request).map_err(refusal!(fetch::FetchResponse))
        }
        Request::FetchSnapshot(request) => fetch_snapshot(cluster, request),
        Request::AddRaftVoter(request) => add_voter(cluster, request)
            .map(plain)
            .map_err(refusal!(add_raft_voter::AddRaftVoterResponse)),
        Request::RemoveRaftVoter(request) => remove_voter(cluster, request)
            .map(plain)
            .map_err(refusal!(remove_raft_voter::RemoveRaftVoterResponse)),
        Request::UpdateRaftVoter(request) => update_voter(cluster, request)
            .map(plain)
            .map_err(refusal!(update_raft_voter::UpdateRaftVoterResponse)),
        _ => return None,
    })
}

/// Refuses what is of another cluster, or about another partition.
fn checked(
    cluster: &Cluster,
    cluster_id: Option<Str>,
    request: Option<quorum::Request>,
) -> Result<quorum::Request, ErrorCode> {
    if !cluster.is_ours(cluster_id.as_ref()) {
        return Err(ErrorCode::INCONSISTENT_CLUSTER_ID);
    }
    request.ok_or(ErrorCode::INVALID_REQUEST)
}

/// The only partition of the only topic.
fn only<T, P>(topics: Vec<T>, open: impl Fn(T) -> (TopicName, Vec<P>)) -> Option<(TopicName, P)> {
    let mut topics = topics.into_iter();
    let (name, partitions) = open(topics.next()?);
    let mut partitions = partitions.into_iter();
    let partition = partitions.next()?;
    (topics.next().is_none() && partitions.next().is_none()).then_some((name, partition))
}

fn vote(request: vote::VoteRequest) -> Option<quorum::Request> {
    let voter_id = known(request.voter_id);
    let (name, partition) = only(request.topics, |topic| (topic.topic_name, topic.partitions))?;
    if !Cluster::is_metadata(&name, partition.partition_index) {
        return None;
    }
    Some(quorum::Request::Vote(quorum::VoteRequest {
        replica: ReplicaKey {
            id: partition.replica_id,
            directory_id: partition.replica_directory_id,
        },
        replica_epoch: partition.replica_epoch,
        voter: voter_id.map(|id| ReplicaKey {
            id,
            directory_id: partition.voter_directory_id,
        }),
        last_offset_epoch: partition.last_offset_epoch,
        last_offset: partition.last_offset,
        pre_vote: partition.pre_vote,
    }))
}

fn begin_epoch(request: begin_quorum_epoch::BeginQuorumEpochRequest) -> Option<quorum::Request> {
    let voter_id = known(request.voter_id);
    let leader_endpoints = leader_endpoints(&request.leader_endpoints);
    let (name, partition) = only(request.topics, |topic| (topic.topic_name, topic.partitions))?;
    if !Cluster::is_metadata(&name, partition.partition_index) {
        return None;
    }
    let request = quorum::BeginQuorumEpochRequest {
        voter: voter_id.map(|id| ReplicaKey {
            id,
            directory_id: partition.voter_directory_id,
        }),
        leader_id: partition.leader_id,
        leader_epoch: partition.leader_epoch,
        leader_endpoints,
    };
    Some(quorum::Request::BeginQuorumEpoch(request))
}

fn end_epoch(request: end_quorum_epoch::EndQuorumEpochRequest) -> Option<quorum::Request> {
    let leader_endpoints = leader_endpoints(&request.leader_endpoints);
    let (name, partition) = only(request.topics, |topic| (topic.topic_name, topic.partitions))?;
    if !Cluster::is_metadata(&name, partition.partition_index) {
        return None;
    }
    let candidates = partition.preferred_candidates.iter();
    let mut preferred_candidates: Vec<_> = candidates
        .map(|candidate| ReplicaKey {
            id: candidate.candidate_id,
            directory_id: candidate.candidate_directory_id,
        })
        .collect();
    if preferred_candidates.is_empty() {
        // Version 0 knows no directories.
        let successors = partition.preferred_successors.iter();
        preferred_candidates.extend(successors.map(|id| ReplicaKey {
            id: *id,
            directory_id: Default::default(),
        }));
    }
    let request = quorum::EndQuorumEpochRequest {
        leader_id: partition.leader_id,
        leader_epoch: partition.leader_epoch,
        preferred_candidates,
        leader_endpoints,
    };
    Some(quorum::Request::EndQuorumEpoch(request))
}

fn fetch_records(cluster: &Cluster, request: fetch::FetchRequest) -> Result<Asked, ErrorCode> {
    if !cluster.is_ours(request.cluster_id.as_ref()) {
        return Err(ErrorCode::INCONSISTENT_CLUSTER_ID);
    }
    let replica_id = known(request.replica_state.replica_id).unwrap_or(request.replica_id);
    let [topic] = &request.topics[..] else {
        return Err(ErrorCode::INVALID_REQUEST);
    };
    let [partition] = &topic.partitions[..] else {
        return Err(ErrorCode::INVALID_REQUEST);
    };
    if !Cluster::is_metadata_in_fetch(topic, partition.partition) {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let max_bytes = request.max_bytes.min(partition.partition_max_bytes);
    let max_bytes = max_bytes.clamp(0, cluster.fetch_max_bytes);
    Ok(Asked {
        request: quorum::Request::Fetch(quorum::FetchRequest {
            replica: ReplicaKey {
                id: replica_id,
                directory_id: partition.replica_directory_id,
            },
            current_leader_epoch: partition.current_leader_epoch,
            fetch_offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            high_watermark: partition.high_watermark,
            max_wait_ms: request.max_wait_ms,
        }),
        max_bytes: usize::try_from(max_bytes).unwrap_or(0),
    })
}

fn fetch_snapshot(
    cluster: &Cluster,
    request: fetch_snapshot::FetchSnapshotRequest,
) -> Result<Asked, Box<Response>> {
    let refuse = refusal!(fetch_snapshot::FetchSnapshotResponse);
    if !cluster.is_ours(request.cluster_id.as_ref()) {
        return Err(refuse(ErrorCode::INCONSISTENT_CLUSTER_ID));
    }
    let max_bytes = request.max_bytes.clamp(0, cluster.fetch_snapshot_max_bytes);
    let replica_id = request.replica_id;
    let found = only(request.topics, |topic| (topic.name, topic.partitions));
    let Some((name, partition)) = found else {
        return Err(refuse(ErrorCode::INVALID_REQUEST));
    };
    if !Cluster::is_metadata(&name, partition.partition) {
        let result = fetch_snapshot::PartitionSnapshotResult {
            index: partition.partition,
            error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ..Default::default()
        };
        let response = fetch_snapshot::FetchSnapshotResponse {
            topics: vec![fetch_snapshot::TopicSnapshotResult {
                name,
                partitions: vec![result],
            }],
            ..Default::default()
        };
        return Err(Box::new(response.into()));
    }
    Ok(Asked {
        request: quorum::Request::FetchSnapshot(quorum::FetchSnapshotRequest {
            replica: ReplicaKey {
                id: replica_id,
                directory_id: partition.replica_directory_id,
            },
            current_leader_epoch: partition.current_leader_epoch,
            snapshot_id: SnapshotId {
                end_offset: partition.snapshot_id.end_offset,
                epoch: partition.snapshot_id.epoch,
            },
            position: partition.position,
        }),
        max_bytes: usize::try_from(max_bytes).unwrap_or(0),
    })
}

fn add_voter(
    cluster: &Cluster,
    request: add_raft_voter::AddRaftVoterRequest,
) -> Result<quorum::Request, ErrorCode> {
    if !cluster.is_ours(request.cluster_id.as_ref()) {
        return Err(ErrorCode::INCONSISTENT_CLUSTER_ID);
    }
    Ok(quorum::Request::AddRaftVoter(quorum::AddRaftVoterRequest {
        voter: ReplicaKey {
            id: request.voter_id,
            directory_id: request.voter_directory_id,
        },
        endpoints: endpoints(&request.listeners),
        ack_when_committed: request.ack_when_committed,
    }))
}

fn remove_voter(
    cluster: &Cluster,
    request: remove_raft_voter::RemoveRaftVoterRequest,
) -> Result<quorum::Request, ErrorCode> {
    if !cluster.is_ours(request.cluster_id.as_ref()) {
        return Err(ErrorCode::INCONSISTENT_CLUSTER_ID);
    }
    let voter = ReplicaKey {
        id: request.voter_id,
        directory_id: request.voter_directory_id,
    };
    Ok(quorum::Request::RemoveRaftVoter(
        quorum::RemoveRaftVoterRequest { voter },
    ))
}

fn update_voter(
    cluster: &Cluster,
    request: update_raft_voter::UpdateRaftVoterRequest,
) -> Result<quorum::Request, ErrorCode> {
    if !cluster.is_ours(request.cluster_id.as_ref()) {
        return Err(ErrorCode::INCONSISTENT_CLUSTER_ID);
    }
    let feature = &request.kraft_version_feature;
    Ok(quorum::Request::UpdateRaftVoter(
        quorum::UpdateRaftVoterRequest {
            current_leader_epoch: request.current_leader_epoch,
            voter: ReplicaKey {
                id: request.voter_id,
                directory_id: request.voter_directory_id,
            },
            endpoints: endpoints(&request.listeners),
            kraft_versions: VersionRange {
                min: feature.min_supported_version,
                max: feature.max_supported_version,
            },
        },
    ))
}

fn endpoints(listeners: &[add_raft_voter::Listener]) -> Vec<Endpoint> {
    let endpoint = |listener: &add_raft_voter::Listener| Endpoint {
        listener: listener.name.clone(),
        host: listener.host.clone(),
        port: listener.port,
    };
    listeners.iter().map(endpoint).collect()
}

/// The answer of the machine as it is sent to who came over `listener`, with the bytes that belong to it.
pub(in crate::metadata) fn answer(
    response: quorum::Response,
    listener: &str,
    bytes: Bytes,
) -> Response {
    match response {
        quorum::Response::Vote(response) => vote_answer(&response, listener).into(),
        quorum::Response::BeginQuorumEpoch(response) => {
            begin_quorum_epoch::BeginQuorumEpochResponse {
                topics: epoch_results(&response),
                node_endpoints: node_endpoints(&response.leader, listener),
                ..Default::default()
            }
            .into()
        }
        quorum::Response::EndQuorumEpoch(response) => end_quorum_epoch::EndQuorumEpochResponse {
            topics: epoch_results(&response),
            node_endpoints: node_endpoints(&response.leader, listener),
            ..Default::default()
        }
        .into(),
        quorum::Response::Fetch(response) => records_answer(&response, listener, bytes).into(),
        quorum::Response::FetchSnapshot(response) => {
            snapshot_answer(&response, listener, bytes).into()
        }
        quorum::Response::AddRaftVoter(response) => add_raft_voter::AddRaftVoterResponse {
            error_code: response.error,
            error_message: reason(&response),
            ..Default::default()
        }
        .into(),
        quorum::Response::RemoveRaftVoter(response) => remove_raft_voter::RemoveRaftVoterResponse {
            error_code: response.error,
            error_message: reason(&response),
            ..Default::default()
        }
        .into(),
        quorum::Response::UpdateRaftVoter(response) => update_answer(&response, listener).into(),
        quorum::Response::ApiVersions(_) => unreachable!("only others are asked for versions"),
    }
}

fn reason(response: &quorum::VoterChangeResponse) -> Option<Str> {
    let text = || response.reason.map(Str::from_static);
    response.error.is_err().then(text).flatten()
}

/// Where the leader is reached over the listener.
fn leader_address<'a>(leader: &'a LeaderAndEpoch, listener: &str) -> Option<&'a Endpoint> {
    let mut endpoints = leader.endpoints.iter();
    endpoints.find(|endpoint| endpoint.listener.eq_ignore_ascii_case(listener))
}

fn leader_id(leader: &LeaderAndEpoch) -> NodeId {
    leader.leader_id.unwrap_or(NodeId::NONE)
}

fn node_endpoints(leader: &LeaderAndEpoch, listener: &str) -> Vec<vote::NodeEndpoint> {
    let endpoint = leader_address(leader, listener).map(|endpoint| vote::NodeEndpoint {
        node_id: leader_id(leader),
        host: endpoint.host.clone(),
        port: endpoint.port,
    });
    endpoint.into_iter().collect()
}

fn vote_answer(response: &quorum::VoteResponse, listener: &str) -> vote::VoteResponse {
    let partition = vote::PartitionResult {
        partition_index: PARTITION,
        error_code: response.error,
        leader_id: leader_id(&response.leader),
        leader_epoch: response.leader.leader_epoch,
        vote_granted: response.vote_granted,
    };
    vote::VoteResponse {
        topics: vec![vote::TopicResult {
            topic_name: TopicName::CLUSTER_METADATA,
            partitions: vec![partition],
        }],
        node_endpoints: node_endpoints(&response.leader, listener),
        ..Default::default()
    }
}

fn epoch_results(response: &quorum::QuorumResponse) -> Vec<begin_quorum_epoch::TopicResult> {
    let partition = begin_quorum_epoch::PartitionResult {
        partition_index: PARTITION,
        error_code: response.error,
        leader_id: leader_id(&response.leader),
        leader_epoch: response.leader.leader_epoch,
    };
    vec![begin_quorum_epoch::TopicResult {
        topic_name: TopicName::CLUSTER_METADATA,
        partitions: vec![partition],
    }]
}

fn records_answer(
    response: &quorum::FetchResponse,
    listener: &str,
    bytes: Bytes,
) -> fetch::FetchResponse {
    let mut partition = fetch::PartitionData {
        partition_index: PARTITION,
        error_code: response.error,
        high_watermark: response.high_watermark.unwrap_or(Offset::NONE),
        log_start_offset: response.log_start_offset,
        current_leader: fetch::LeaderIdAndEpoch {
            leader_id: leader_id(&response.leader),
            leader_epoch: response.leader.leader_epoch,
        },
        records: Some(Payload::from(bytes)),
        ..Default::default()
    };
    match &response.fetched {
        Fetched::Records { .. } => {}
        Fetched::Diverging(end) => {
            partition.diverging_epoch = fetch::EpochEndOffset {
                epoch: end.epoch,
                end_offset: end.end_offset,
            };
        }
        Fetched::Snapshot(id) => {
            partition.snapshot_id = fetch::SnapshotId {
                end_offset: id.end_offset,
                epoch: id.epoch,
            };
        }
    }
    let endpoint = leader_address(&response.leader, listener).map(|endpoint| fetch::NodeEndpoint {
        node_id: leader_id(&response.leader),
        host: endpoint.host.clone(),
        port: i32::from(endpoint.port),
        rack: None,
    });
    fetch::FetchResponse {
        responses: vec![fetch::FetchableTopicResponse {
            topic: TopicName::CLUSTER_METADATA,
            topic_id: TopicId::CLUSTER_METADATA,
            partitions: vec![partition],
        }],
        node_endpoints: endpoint.into_iter().collect(),
        ..Default::default()
    }
}

fn snapshot_answer(
    response: &quorum::FetchSnapshotResponse,
    listener: &str,
    bytes: Bytes,
) -> fetch_snapshot::FetchSnapshotResponse {
    let partition = fetch_snapshot::PartitionSnapshotResult {
        index: PARTITION,
        error_code: response.error,
        snapshot_id: fetch_snapshot::SnapshotId {
            end_offset: response.snapshot_id.end_offset,
            epoch: response.snapshot_id.epoch,
        },
        current_leader: fetch_snapshot::LeaderIdAndEpoch {
            leader_id: leader_id(&response.leader),
            leader_epoch: response.leader.leader_epoch,
        },
        size: response.size,
        position: response.position,
        unaligned_records: bytes.into(),
    };
    fetch_snapshot::FetchSnapshotResponse {
        topics: vec![fetch_snapshot::TopicSnapshotResult {
            name: TopicName::CLUSTER_METADATA,
            partitions: vec![partition],
        }],
        node_endpoints: node_endpoints(&response.leader, listener),
        ..Default::default()
    }
}

fn update_answer(
    response: &quorum::QuorumResponse,
    listener: &str,
) -> update_raft_voter::UpdateRaftVoterResponse {
    let endpoint = leader_address(&response.leader, listener);
    update_raft_voter::UpdateRaftVoterResponse {
        error_code: response.error,
        current_leader: update_raft_voter::CurrentLeader {
            leader_id: leader_id(&response.leader),
            leader_epoch: response.leader.leader_epoch,
            host: endpoint.map_or(Str::EMPTY, |endpoint| endpoint.host.clone()),
            port: endpoint.map_or(0, |endpoint| i32::from(endpoint.port)),
        },
        ..Default::default()
    }
}
