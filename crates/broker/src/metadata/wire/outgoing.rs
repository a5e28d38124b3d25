//! What this node asks of others, and what they answer.

use bytes::Bytes;
use tidelog_metadata::bootstrap::KRAFT_VERSION;
use tidelog_protocol::messages::{
    add_raft_voter, api_versions, begin_quorum_epoch, end_quorum_epoch, fetch, fetch_snapshot,
    remove_raft_voter, update_raft_voter, vote,
};
use tidelog_protocol::{Payload, Request, Response};
use tidelog_record::Batch;
use tidelog_replication::divergence::EpochEnd;
use tidelog_replication::quorum::message::{self as quorum, Fetched};
use tidelog_replication::quorum::{Endpoint, ReplicaKey, SnapshotId, VersionRange};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, Str, TopicId, TopicName, Uuid};

use super::{Brought, Cluster, PARTITION, endpoint_of, told_endpoints};

/// Nobody, where a version does not name whom it asks.
const NOBODY: ReplicaKey = ReplicaKey {
    id: NodeId::NONE,
    directory_id: Uuid::ZERO,
};
const METADATA: TopicName = TopicName::CLUSTER_METADATA;

/// The request as it is sent.
pub(in crate::metadata) fn ask(cluster: &Cluster, request: &quorum::Request) -> Request {
    let cluster_id = Some(cluster.id.clone());
    match request {
        quorum::Request::Vote(request) => ask_for_vote(cluster_id, request).into(),
        quorum::Request::BeginQuorumEpoch(request) => begin_epoch(cluster_id, request).into(),
        quorum::Request::EndQuorumEpoch(request) => end_epoch(cluster_id, request).into(),
        quorum::Request::Fetch(request) => ask_for_records(cluster, request).into(),
        quorum::Request::FetchSnapshot(request) => ask_for_snapshot(cluster, request).into(),
        quorum::Request::AddRaftVoter(request) => add_raft_voter::AddRaftVoterRequest {
            cluster_id,
            timeout_ms: cluster.voter_change_timeout_ms,
            voter_id: request.voter.id,
            voter_directory_id: request.voter.directory_id,
            listeners: listeners(&request.endpoints),
            ack_when_committed: request.ack_when_committed,
        }
        .into(),
        quorum::Request::RemoveRaftVoter(request) => remove_raft_voter::RemoveRaftVoterRequest {
            cluster_id,
            voter_id: request.voter.id,
            voter_directory_id: request.voter.directory_id,
        }
        .into(),
        quorum::Request::UpdateRaftVoter(request) => update_raft_voter::UpdateRaftVoterRequest {
            cluster_id,
            current_leader_epoch: request.current_leader_epoch,
            voter_id: request.voter.id,
            voter_directory_id: request.voter.directory_id,
            listeners: listeners(&request.endpoints),
            kraft_version_feature: update_raft_voter::KRaftVersionFeature {
                min_supported_version: request.kraft_versions.min,
                max_supported_version: request.kraft_versions.max,
            },
        }
        .into(),
        quorum::Request::ApiVersions => api_versions::ApiVersionsRequest {
            client_software_name: "tidelog".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        }
        .into(),
    }
}

fn ask_for_vote(cluster_id: Option<Str>, request: &quorum::VoteRequest) -> vote::VoteRequest {
    let voter = request.voter.unwrap_or(NOBODY);
    let partition = vote::PartitionData {
        partition_index: PARTITION,
        replica_epoch: request.replica_epoch,
        replica_id: request.replica.id,
        replica_directory_id: request.replica.directory_id,
        voter_directory_id: voter.directory_id,
        last_offset_epoch: request.last_offset_epoch,
        last_offset: request.last_offset,
        pre_vote: request.pre_vote,
    };
    vote::VoteRequest {
        cluster_id,
        voter_id: voter.id,
        topics: vec![vote::TopicData {
            topic_name: METADATA,
            partitions: vec![partition],
        }],
    }
}

fn begin_epoch(
    cluster_id: Option<Str>,
    request: &quorum::BeginQuorumEpochRequest,
) -> begin_quorum_epoch::BeginQuorumEpochRequest {
    let voter = request.voter.unwrap_or(NOBODY);
    let partition = begin_quorum_epoch::PartitionData {
        partition_index: PARTITION,
        voter_directory_id: voter.directory_id,
        leader_id: request.leader_id,
        leader_epoch: request.leader_epoch,
    };
    begin_quorum_epoch::BeginQuorumEpochRequest {
        cluster_id,
        voter_id: voter.id,
        topics: vec![begin_quorum_epoch::TopicData {
            topic_name: METADATA,
            partitions: vec![partition],
        }],
        leader_endpoints: told_endpoints(&request.leader_endpoints),
    }
}

fn end_epoch(
    cluster_id: Option<Str>,
    request: &quorum::EndQuorumEpochRequest,
) -> end_quorum_epoch::EndQuorumEpochRequest {
    let candidates = request.preferred_candidates.iter();
    let partition = end_quorum_epoch::PartitionData {
        partition_index: PARTITION,
        leader_id: request.leader_id,
        leader_epoch: request.leader_epoch,
        preferred_successors: candidates.clone().map(|candidate| candidate.id).collect(),
        preferred_candidates: candidates
            .map(|candidate| end_quorum_epoch::ReplicaInfo {
                candidate_id: candidate.id,
                candidate_directory_id: candidate.directory_id,
            })
            .collect(),
    };
    end_quorum_epoch::EndQuorumEpochRequest {
        cluster_id,
        topics: vec![end_quorum_epoch::TopicData {
            topic_name: METADATA,
            partitions: vec![partition],
        }],
        leader_endpoints: told_endpoints(&request.leader_endpoints),
    }
}

fn ask_for_records(cluster: &Cluster, request: &quorum::FetchRequest) -> fetch::FetchRequest {
    let partition = fetch::FetchPartition {
        partition: PARTITION,
        current_leader_epoch: request.current_leader_epoch,
        fetch_offset: request.fetch_offset,
        last_fetched_epoch: request.last_fetched_epoch,
        log_start_offset: Offset::NONE,
        partition_max_bytes: cluster.fetch_max_bytes,
        replica_directory_id: request.replica.directory_id,
        high_watermark: request.high_watermark,
    };
    fetch::FetchRequest {
        cluster_id: Some(cluster.id.clone()),
        replica_state: fetch::ReplicaState {
            replica_id: request.replica.id,
            replica_epoch: -1,
        },
        max_wait_ms: request.max_wait_ms,
        max_bytes: cluster.fetch_max_bytes,
        topics: vec![fetch::FetchTopic {
            topic: METADATA,
            topic_id: TopicId::CLUSTER_METADATA,
            partitions: vec![partition],
        }],
        ..Default::default()
    }
}

fn ask_for_snapshot(
    cluster: &Cluster,
    request: &quorum::FetchSnapshotRequest,
) -> fetch_snapshot::FetchSnapshotRequest {
    let partition = fetch_snapshot::PartitionSnapshot {
        partition: PARTITION,
        current_leader_epoch: request.current_leader_epoch,
        snapshot_id: fetch_snapshot::SnapshotId {
            end_offset: request.snapshot_id.end_offset,
            epoch: request.snapshot_id.epoch,
        },
        position: request.position,
        replica_directory_id: request.replica.directory_id,
    };
    fetch_snapshot::FetchSnapshotRequest {
        cluster_id: Some(cluster.id.clone()),
        replica_id: request.replica.id,
        max_bytes: cluster.fetch_snapshot_max_bytes,
        topics: vec![fetch_snapshot::TopicSnapshot {
            name: METADATA,
            partitions: vec![partition],
        }],
    }
}

fn listeners(endpoints: &[Endpoint]) -> Vec<add_raft_voter::Listener> {
    let listener = |endpoint: &Endpoint| add_raft_voter::Listener {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
    };
    endpoints.iter().map(listener).collect()
}

/// What an answer says, and the bytes that came with it. The error says why it is none that the machine could use.
pub(in crate::metadata) fn brought(
    cluster: &Cluster,
    response: Response,
) -> Result<(quorum::Response, Brought), ErrorCode> {
    let plain = |response| Ok((response, Brought::Nothing));
    match response {
        Response::Vote(response) => {
            check(response.error_code)?;
            let endpoints = &response.node_endpoints;
            let partition = only(response.topics, |topic| topic.partitions)?;
            plain(quorum::Response::Vote(quorum::VoteResponse {
                error: partition.error_code,
                leader: cluster.leader(
                    partition.leader_id,
                    partition.leader_epoch,
                    endpoint_of(endpoints, partition.leader_id),
                ),
                vote_granted: partition.vote_granted,
            }))
        }
        Response::BeginQuorumEpoch(response) => {
            check(response.error_code)?;
            let partition = only(response.topics, |topic| topic.partitions)?;
            plain(quorum::Response::BeginQuorumEpoch(epoch_answer(
                cluster,
                &partition,
                &response.node_endpoints,
            )))
        }
        Response::EndQuorumEpoch(response) => {
            check(response.error_code)?;
            let partition = only(response.topics, |topic| topic.partitions)?;
            plain(quorum::Response::EndQuorumEpoch(epoch_answer(
                cluster,
                &partition,
                &response.node_endpoints,
            )))
        }
        Response::Fetch(response) => fetched(cluster, response),
        Response::FetchSnapshot(response) => piece(cluster, response),
        Response::AddRaftVoter(response) => {
            plain(quorum::Response::AddRaftVoter(change(response.error_code)))
        }
        Response::RemoveRaftVoter(response) => plain(quorum::Response::RemoveRaftVoter(change(
            response.error_code,
        ))),
        Response::UpdateRaftVoter(response) => plain(quorum::Response::UpdateRaftVoter(updated(
            cluster, response,
        ))),
        Response::ApiVersions(response) => {
            let mut features = response.supported_features.iter();
            let feature = features.find(|feature| feature.name == *KRAFT_VERSION);
            plain(quorum::Response::ApiVersions(quorum::ApiVersionsResponse {
                error: response.error_code,
                kraft_versions: feature.map(|feature| VersionRange {
                    min: feature.min_version,
                    max: feature.max_version,
                }),
            }))
        }
        _ => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
    }
}

fn check(error: ErrorCode) -> Result<(), ErrorCode> {
    if error.is_ok() { Ok(()) } else { Err(error) }
}

/// The only partition of the only topic; which one it is was said by the request.
fn only<T, P>(topics: Vec<T>, partitions: impl Fn(T) -> Vec<P>) -> Result<P, ErrorCode> {
    let mut found = topics.into_iter().flat_map(partitions);
    found.next().ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)
}

fn epoch_answer(
    cluster: &Cluster,
    partition: &begin_quorum_epoch::PartitionResult,
    endpoints: &[vote::NodeEndpoint],
) -> quorum::QuorumResponse {
    quorum::QuorumResponse {
        error: partition.error_code,
        leader: cluster.leader(
            partition.leader_id,
            partition.leader_epoch,
            endpoint_of(endpoints, partition.leader_id),
        ),
    }
}

const fn change(error: ErrorCode) -> quorum::VoterChangeResponse {
    quorum::VoterChangeResponse {
        error,
        reason: None,
    }
}

fn updated(
    cluster: &Cluster,
    response: update_raft_voter::UpdateRaftVoterResponse,
) -> quorum::QuorumResponse {
    let leader = response.current_leader;
    let port = u16::try_from(leader.port).ok().filter(|port| *port > 0);
    quorum::QuorumResponse {
        error: response.error_code,
        leader: cluster.leader(
            leader.leader_id,
            leader.leader_epoch,
            port.map(|port| (leader.host, port)),
        ),
    }
}

fn fetched(
    cluster: &Cluster,
    response: fetch::FetchResponse,
) -> Result<(quorum::Response, Brought), ErrorCode> {
    check(response.error_code)?;
    let endpoints = response.node_endpoints;
    let partition = only(response.responses, |topic| topic.partitions)?;
    let leader_id = partition.current_leader.leader_id;
    let endpoint = endpoints
        .iter()
        .find(|endpoint| endpoint.node_id == leader_id);
    let endpoint = endpoint.and_then(|endpoint| {
        let port = u16::try_from(endpoint.port).ok()?;
        Some((endpoint.host.clone(), port))
    });
    let diverging = &partition.diverging_epoch;
    let snapshot = &partition.snapshot_id;
    let mut brought = Brought::Nothing;
    let fetched = if diverging.epoch != LeaderEpoch::NONE || diverging.end_offset != Offset::NONE {
        Fetched::Diverging(EpochEnd {
            epoch: diverging.epoch,
            end_offset: diverging.end_offset,
        })
    } else if snapshot.epoch != LeaderEpoch::NONE || snapshot.end_offset != Offset::NONE {
        if snapshot.epoch < LeaderEpoch::new(0) || snapshot.end_offset < Offset::ZERO {
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
        }
        Fetched::Snapshot(SnapshotId {
            end_offset: snapshot.end_offset,
            epoch: snapshot.epoch,
        })
    } else {
        let batches = match partition.records {
            Some(Payload::Bytes(bytes)) => whole_batches(bytes),
            _ => Vec::new(),
        };
        let range = match (batches.first(), batches.last()) {
            (Some(first), Some(last)) => Fetched::Records {
                from: first.header().base_offset,
                to: last.header().next_offset(),
            },
            _ => Fetched::Records {
                from: Offset::ZERO,
                to: Offset::ZERO,
            },
        };
        brought = Brought::Records(batches);
        range
    };
    let response = quorum::FetchResponse {
        error: partition.error_code,
        leader: cluster.leader(leader_id, partition.current_leader.leader_epoch, endpoint),
        high_watermark: Some(partition.high_watermark).filter(|offset| *offset >= Offset::ZERO),
        log_start_offset: partition.log_start_offset,
        fetched,
    };
    Ok((quorum::Response::Fetch(response), brought))
}

/// The batches that are whole and undamaged, up to the first that is not: the last one may be cut off, as fetches go.
fn whole_batches(mut bytes: Bytes) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Ok(Some(batch)) = Batch::split_from(&mut bytes) {
        if let Err(error) = batch.verify_crc() {
            tracing::warn!(%error, "a batch of the metadata log came damaged; it is fetched again");
            break;
        }
        batches.push(batch);
    }
    batches
}

fn piece(
    cluster: &Cluster,
    response: fetch_snapshot::FetchSnapshotResponse,
) -> Result<(quorum::Response, Brought), ErrorCode> {
    check(response.error_code)?;
    let endpoints = response.node_endpoints;
    let partition = only(response.topics, |topic| topic.partitions)?;
    let bytes = match partition.unaligned_records {
        Payload::Bytes(bytes) => bytes,
        Payload::Deferred { .. } => Bytes::new(),
    };
    let leader_id = partition.current_leader.leader_id;
    let leader = cluster.leader(
        leader_id,
        partition.current_leader.leader_epoch,
        endpoint_of(&endpoints, leader_id),
    );
    let response = quorum::FetchSnapshotResponse {
        error: partition.error_code,
        leader,
        snapshot_id: SnapshotId {
            end_offset: partition.snapshot_id.end_offset,
            epoch: partition.snapshot_id.epoch,
        },
        size: partition.size,
        position: partition.position,
        bytes: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
    };
    Ok((
        quorum::Response::FetchSnapshot(response),
        Brought::Piece(bytes),
    ))
}
