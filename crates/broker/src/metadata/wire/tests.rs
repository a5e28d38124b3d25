use tidelog_protocol::{Reader, Writer};
use tidelog_record::{BatchBuilder, Compression};
use tidelog_replication::divergence::EpochEnd;
use tidelog_replication::quorum::message::{self as quorum, Fetched};
use tidelog_replication::quorum::{ReplicaKey, SnapshotId, VersionRange};
use tidelog_types::{ErrorCode, Offset, Timestamp, Uuid};

use super::*;

fn cluster() -> Cluster {
    Cluster {
        id: "ours".into(),
        listener: "CONTROLLER".into(),
        fetch_max_bytes: 1000,
        fetch_snapshot_max_bytes: 100,
        voter_change_timeout_ms: 2000,
    }
}

fn key(id: i32) -> ReplicaKey {
    ReplicaKey {
        id: NodeId::new(id),
        directory_id: Uuid::from_bytes([7; 16]),
    }
}

fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint {
        listener: "CONTROLLER".into(),
        host: "localhost".into(),
        port: 9093,
    }]
}

fn epoch(epoch: i32) -> LeaderEpoch {
    LeaderEpoch::new(epoch)
}

fn leader() -> LeaderAndEpoch {
    LeaderAndEpoch {
        leader_id: Some(NodeId::new(3)),
        leader_epoch: epoch(5),
        endpoints: endpoints(),
    }
}

fn snapshot_id() -> SnapshotId {
    SnapshotId {
        end_offset: Offset::new(40),
        epoch: epoch(4),
    }
}

fn requests() -> Vec<quorum::Request> {
    let vote = quorum::VoteRequest {
        replica: key(1),
        replica_epoch: epoch(5),
        voter: Some(key(2)),
        last_offset_epoch: epoch(4),
        last_offset: Offset::new(17),
        pre_vote: true,
    };
    let begin = quorum::BeginQuorumEpochRequest {
        voter: Some(key(2)),
        leader_id: NodeId::new(1),
        leader_epoch: epoch(5),
        leader_endpoints: endpoints(),
    };
    let end = quorum::EndQuorumEpochRequest {
        leader_id: NodeId::new(1),
        leader_epoch: epoch(5),
        preferred_candidates: vec![key(2), key(3)],
        leader_endpoints: endpoints(),
    };
    let fetch = quorum::FetchRequest {
        replica: key(1),
        current_leader_epoch: epoch(5),
        fetch_offset: Offset::new(17),
        last_fetched_epoch: epoch(4),
        high_watermark: Offset::new(16),
        max_wait_ms: 500,
    };
    let fetch_snapshot = quorum::FetchSnapshotRequest {
        replica: key(1),
        current_leader_epoch: epoch(5),
        snapshot_id: snapshot_id(),
        position: 1000,
    };
    let add = quorum::AddRaftVoterRequest {
        voter: key(4),
        endpoints: endpoints(),
        ack_when_committed: false,
    };
    let update = quorum::UpdateRaftVoterRequest {
        current_leader_epoch: epoch(5),
        voter: key(4),
        endpoints: endpoints(),
        kraft_versions: VersionRange { min: 0, max: 1 },
    };
    vec![
        quorum::Request::Vote(vote),
        quorum::Request::BeginQuorumEpoch(begin),
        quorum::Request::EndQuorumEpoch(end),
        quorum::Request::Fetch(fetch),
        quorum::Request::FetchSnapshot(fetch_snapshot),
        quorum::Request::AddRaftVoter(add),
        quorum::Request::RemoveRaftVoter(quorum::RemoveRaftVoterRequest { voter: key(4) }),
        quorum::Request::UpdateRaftVoter(update),
    ]
}

fn over_the_wire(request: &tidelog_protocol::Request) -> tidelog_protocol::Request {
    let version = request.key().api().unwrap().supported.max;
    let mut writer = Writer::contiguous();
    request.write(&mut writer, version).unwrap();
    let mut reader = Reader::new(writer.finish_contiguous().unwrap());
    tidelog_protocol::Request::read(&mut reader, request.key(), version).unwrap()
}

fn back(response: &tidelog_protocol::Response) -> tidelog_protocol::Response {
    let version = response.key().api().unwrap().supported.max;
    let mut writer = Writer::contiguous();
    response.write(&mut writer, version).unwrap();
    let mut reader = Reader::new(writer.finish_contiguous().unwrap());
    tidelog_protocol::Response::read(&mut reader, response.key(), version).unwrap()
}

#[test]
fn what_one_node_asks_another_is_asked() {
    for request in requests() {
        let sent = over_the_wire(&ask(&cluster(), &request));
        let asked = asked(&cluster(), sent).unwrap().unwrap();
        assert_eq!(asked.request, request);
        let max_bytes = match request {
            quorum::Request::Fetch(_) => 1000,
            quorum::Request::FetchSnapshot(_) => 100,
            _ => 0,
        };
        assert_eq!(asked.max_bytes, max_bytes);
    }
}

#[test]
fn a_request_of_another_cluster_is_refused() {
    let other = Cluster {
        id: "theirs".into(),
        ..cluster()
    };
    for request in requests() {
        let sent = over_the_wire(&ask(&other, &request));
        let refusal = asked(&cluster(), sent).unwrap().unwrap_err();
        let code = match brought(&cluster(), back(&refusal)) {
            Err(code) => code,
            Ok((quorum::Response::AddRaftVoter(response), _))
            | Ok((quorum::Response::RemoveRaftVoter(response), _)) => response.error,
            Ok((quorum::Response::UpdateRaftVoter(response), _)) => response.error,
            Ok(other) => panic!("{other:?}"),
        };
        assert_eq!(code, ErrorCode::INCONSISTENT_CLUSTER_ID);
    }
}

#[test]
fn what_a_node_answers_is_brought() {
    let error = ErrorCode::FENCED_LEADER_EPOCH;
    let simple = quorum::QuorumResponse {
        error,
        leader: leader(),
    };
    let vote = quorum::VoteResponse {
        error: ErrorCode::NONE,
        leader: leader(),
        vote_granted: true,
    };
    let fetch = |fetched| {
        quorum::Response::Fetch(quorum::FetchResponse {
            error: ErrorCode::NONE,
            leader: leader(),
            high_watermark: Some(Offset::new(16)),
            log_start_offset: Offset::new(3),
            fetched,
        })
    };
    let nothing = Fetched::Records {
        from: Offset::ZERO,
        to: Offset::ZERO,
    };
    let diverging = Fetched::Diverging(EpochEnd {
        epoch: epoch(3),
        end_offset: Offset::new(12),
    });
    let change = quorum::VoterChangeResponse {
        error: ErrorCode::DUPLICATE_VOTER,
        reason: None,
    };
    for response in [
        quorum::Response::Vote(vote),
        quorum::Response::BeginQuorumEpoch(simple.clone()),
        quorum::Response::EndQuorumEpoch(simple.clone()),
        quorum::Response::UpdateRaftVoter(simple),
        fetch(nothing),
        fetch(diverging),
        fetch(Fetched::Snapshot(snapshot_id())),
        quorum::Response::AddRaftVoter(change),
        quorum::Response::RemoveRaftVoter(change),
    ] {
        let sent = answer(response.clone(), "controller", Bytes::new());
        let (brought, _) = brought(&cluster(), back(&sent)).unwrap();
        assert_eq!(brought, response);
    }
}

#[test]
fn records_come_as_far_as_they_are_whole() {
    let batch = |offset, value: &[u8]| {
        let mut builder = BatchBuilder::new(Compression::NONE).base_offset(Offset::new(offset));
        builder.push(Timestamp::from_millis(1), None, Some(value), &[]);
        builder.push(Timestamp::from_millis(1), None, Some(value), &[]);
        builder.build().unwrap().bytes().clone()
    };
    let fetched = |bytes: Vec<u8>| {
        let response = quorum::FetchResponse {
            error: ErrorCode::NONE,
            leader: leader(),
            high_watermark: None,
            log_start_offset: Offset::ZERO,
            fetched: Fetched::Records {
                from: Offset::new(10),
                to: Offset::new(14),
            },
        };
        let sent = answer(
            quorum::Response::Fetch(response),
            "CONTROLLER",
            bytes.into(),
        );
        match brought(&cluster(), back(&sent)).unwrap() {
            (quorum::Response::Fetch(response), Brought::Records(batches)) => {
                (response.fetched, batches.len())
            }
            other => panic!("{other:?}"),
        }
    };
    let range = |from, to| Fetched::Records {
        from: Offset::new(from),
        to: Offset::new(to),
    };
    let both = [batch(10, b"a"), batch(12, b"b")].concat();
    assert_eq!(fetched(both.clone()), (range(10, 14), 2));
    // The last batch is cut off.
    assert_eq!(fetched(both[..both.len() - 1].to_vec()), (range(10, 12), 1));
    // The first one is damaged: what follows it is of no use.
    let mut damaged = both;
    damaged[65] ^= 1;
    assert_eq!(fetched(damaged), (range(0, 0), 0));
}

#[test]
fn a_piece_of_a_snapshot_comes_with_its_bytes() {
    let response = quorum::FetchSnapshotResponse {
        error: ErrorCode::NONE,
        leader: leader(),
        snapshot_id: snapshot_id(),
        size: 9,
        position: 4,
        bytes: 0,
    };
    let sent = answer(
        quorum::Response::FetchSnapshot(response.clone()),
        "CONTROLLER",
        Bytes::from_static(b"piece"),
    );
    let (came, Brought::Piece(bytes)) = brought(&cluster(), back(&sent)).unwrap() else {
        panic!("no piece");
    };
    assert_eq!(bytes, &b"piece"[..]);
    let expected = quorum::FetchSnapshotResponse {
        bytes: 5,
        ..response
    };
    assert_eq!(came, quorum::Response::FetchSnapshot(expected));
}

#[test]
fn another_partition_is_none_of_ours() {
    for request in requests() {
        let mut sent = ask(&cluster(), &request);
        match &mut sent {
            tidelog_protocol::Request::Vote(request) => {
                request.topics[0].partitions[0].partition_index = 1;
            }
            tidelog_protocol::Request::BeginQuorumEpoch(request) => request.topics.clear(),
            tidelog_protocol::Request::EndQuorumEpoch(request) => {
                request.topics[0].topic_name = "other".into();
            }
            tidelog_protocol::Request::Fetch(request) => {
                request.topics[0].partitions[0].partition = 1;
            }
            tidelog_protocol::Request::FetchSnapshot(request) => {
                request.topics[0].partitions[0].partition = 1;
            }
            _ => continue,
        }
        assert!(asked(&cluster(), sent).unwrap().is_err());
    }
}
