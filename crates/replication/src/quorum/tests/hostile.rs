//! Messages that nobody sends who means well.

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset, Uuid};

use super::super::message::{
    AddRaftVoterRequest, ApiVersionsResponse, BeginQuorumEpochRequest, EndQuorumEpochRequest,
    FetchRequest, FetchResponse, FetchSnapshotRequest, FetchSnapshotResponse, Fetched,
    LeaderAndEpoch, QuorumResponse, RemoveRaftVoterRequest, Request, Response,
    UpdateRaftVoterRequest, VoteRequest, VoteResponse, VoterChangeResponse,
};
use super::super::random::Random;
use super::super::{Endpoint, Input, Quorum, ReplicaKey, SnapshotId, VersionRange};
use super::world::World;
use crate::divergence::EpochEnd;

/// Throws many messages at each node of a world; each by itself, at a copy of the node.
pub(super) fn bombard(world: &World, seed: u64) {
    let mut random = Random::new(seed);
    for (node, quorum) in world.running() {
        let now = world.now(node);
        for _ in 0..500 {
            let mut quorum = quorum.clone();
            let input = input(&mut random, &quorum);
            suffer(&mut quorum, now, input);
        }
    }
}

fn suffer(quorum: &mut Quorum, now: Now, input: Input) {
    let mut effects = Vec::new();
    quorum.handle(now, input, &mut effects);
    quorum.check();
    let state = quorum.quorum_state();
    quorum.handle(now, Input::QuorumStateStored(state), &mut effects);
    let later = now + std::time::Duration::from_secs(5);
    quorum.handle(later, Input::Timeout, &mut effects);
    quorum.check();
}

fn input(random: &mut Random, quorum: &Quorum) -> Input {
    if random.below(2) == 0 {
        return Input::Request {
            request_id: 1,
            request: request(random, quorum),
        };
    }
    // Answers count only if they are awaited.
    let awaited: Vec<u64> = (0..2000)
        .filter(|id| quorum.connections.awaits(*id))
        .collect();
    let request_id = awaited
        .get(random.below(awaited.len()))
        .copied()
        .unwrap_or(0);
    Input::Response {
        request_id,
        response: response(random, quorum),
    }
}

fn number(random: &mut Random, near: i64) -> i64 {
    [near, near, near - 1, near + 1, 0, -1, i64::MIN, i64::MAX][random.below(8)]
}

fn epoch(random: &mut Random, quorum: &Quorum) -> LeaderEpoch {
    let near = quorum.leader_epoch().value();
    let epochs = [
        near,
        near,
        near,
        near + 1,
        near - 1,
        0,
        -1,
        i32::MIN,
        i32::MAX,
        i32::MAX - 1,
    ];
    LeaderEpoch::new(epochs[random.below(epochs.len())])
}

fn offset(random: &mut Random, quorum: &Quorum) -> Offset {
    let near = [quorum.log_end_offset(), quorum.high_watermark()][random.below(2)];
    Offset::new(number(random, near.value()))
}

fn node_id(random: &mut Random) -> NodeId {
    NodeId::new([0, 1, 2, 3, 4, 5, -1, i32::MIN, i32::MAX][random.below(9)])
}

fn replica(random: &mut Random) -> ReplicaKey {
    let directory_id = Uuid::from_bytes([random.below(6) as u8; 16]);
    ReplicaKey {
        id: node_id(random),
        directory_id,
    }
}

fn endpoints(random: &mut Random) -> Vec<Endpoint> {
    let endpoint = Endpoint {
        listener: "CONTROLLER".into(),
        host: "x".into(),
        port: 0,
    };
    vec![endpoint; random.below(3)]
}

fn snapshot_id(random: &mut Random, quorum: &Quorum) -> SnapshotId {
    SnapshotId {
        end_offset: offset(random, quorum),
        epoch: epoch(random, quorum),
    }
}

fn leader(random: &mut Random, quorum: &Quorum) -> LeaderAndEpoch {
    LeaderAndEpoch {
        leader_id: (random.below(3) > 0).then(|| node_id(random)),
        leader_epoch: epoch(random, quorum),
        endpoints: endpoints(random),
    }
}

fn request(random: &mut Random, quorum: &Quorum) -> Request {
    let voter = Some(replica(random)).filter(|_| random.below(4) == 0);
    match random.below(9) {
        0 | 1 => Request::Vote(VoteRequest {
            replica: replica(random),
            replica_epoch: epoch(random, quorum),
            voter,
            last_offset_epoch: epoch(random, quorum),
            last_offset: offset(random, quorum),
            pre_vote: random.below(2) == 0,
        }),
        2 => Request::BeginQuorumEpoch(BeginQuorumEpochRequest {
            voter,
            leader_id: node_id(random),
            leader_epoch: epoch(random, quorum),
            leader_endpoints: endpoints(random),
        }),
        3 => Request::EndQuorumEpoch(EndQuorumEpochRequest {
            leader_id: node_id(random),
            leader_epoch: epoch(random, quorum),
            preferred_candidates: (0..random.below(80)).map(|_| replica(random)).collect(),
            leader_endpoints: endpoints(random),
        }),
        4 => Request::Fetch(FetchRequest {
            replica: replica(random),
            current_leader_epoch: epoch(random, quorum),
            fetch_offset: offset(random, quorum),
            last_fetched_epoch: epoch(random, quorum),
            high_watermark: offset(random, quorum),
            max_wait_ms: [0, 1, -1, i32::MAX, i32::MIN][random.below(5)],
        }),
        5 => Request::FetchSnapshot(FetchSnapshotRequest {
            replica: replica(random),
            current_leader_epoch: epoch(random, quorum),
            snapshot_id: snapshot_id(random, quorum),
            position: number(random, 10),
        }),
        6 => Request::AddRaftVoter(AddRaftVoterRequest {
            voter: replica(random),
            endpoints: endpoints(random),
            ack_when_committed: random.below(2) == 0,
        }),
        7 => Request::RemoveRaftVoter(RemoveRaftVoterRequest {
            voter: replica(random),
        }),
        _ => Request::UpdateRaftVoter(UpdateRaftVoterRequest {
            current_leader_epoch: epoch(random, quorum),
            voter: replica(random),
            endpoints: endpoints(random),
            kraft_versions: VersionRange {
                min: i16::MIN,
                max: i16::MAX,
            },
        }),
    }
}

fn response(random: &mut Random, quorum: &Quorum) -> Response {
    let errors = [0, 0, 0, 6, 7, 8, 42, 74, 75, 98, 99, 104, 125, 999];
    let error = ErrorCode::new(errors[random.below(errors.len())]);
    let leader = leader(random, quorum);
    match random.below(7) {
        0 | 1 => Response::Vote(VoteResponse {
            error,
            leader,
            vote_granted: random.below(2) == 0,
        }),
        2 | 3 => Response::Fetch(FetchResponse {
            error,
            leader,
            high_watermark: Some(offset(random, quorum)),
            log_start_offset: offset(random, quorum),
            fetched: match random.below(3) {
                0 => Fetched::Records {
                    from: offset(random, quorum),
                    to: offset(random, quorum),
                },
                1 => Fetched::Diverging(EpochEnd {
                    epoch: epoch(random, quorum),
                    end_offset: offset(random, quorum),
                }),
                _ => Fetched::Snapshot(snapshot_id(random, quorum)),
            },
        }),
        4 => Response::FetchSnapshot(FetchSnapshotResponse {
            error,
            leader,
            snapshot_id: snapshot_id(random, quorum),
            size: number(random, 100),
            position: number(random, 0),
            bytes: number(random, 40),
        }),
        5 => Response::EndQuorumEpoch(QuorumResponse { error, leader }),
        _ => match random.below(2) {
            0 => Response::AddRaftVoter(VoterChangeResponse {
                error,
                reason: None,
            }),
            _ => Response::ApiVersions(ApiVersionsResponse {
                error,
                kraft_versions: None,
            }),
        },
    }
}
