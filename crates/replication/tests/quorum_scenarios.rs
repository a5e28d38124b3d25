//! What one replica of the metadata log does, told as scenarios.
//!
//! The replica is node 1. Its log grows, and its disk stores and flushes, when the scenario says so; other nodes are lines
//! of the scenario. `request=` and `to=` name requests by numbers.

mod scenario;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use scenario::Command;
use tidelog_replication::divergence::EpochEnd;
use tidelog_replication::quorum::message::{
    AddRaftVoterRequest, ApiVersionsResponse, BeginQuorumEpochRequest, EndQuorumEpochRequest,
    FetchRequest, FetchResponse, FetchSnapshotRequest, FetchSnapshotResponse, Fetched,
    LeaderAndEpoch, QuorumResponse, RemoveRaftVoterRequest, Request, Response,
    UpdateRaftVoterRequest, VoteRequest, VoteResponse, VoterChangeResponse,
};
use tidelog_replication::quorum::{
    Appended, Config, ControlRecord, Destination, Effect, Endpoint, EpochStart, Input, LogEnd,
    Quorum, QuorumState, ReplicaKey, Restored, Role, Snapshot, SnapshotId, VersionRange, Voter,
    VoterSet,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset, Str, Timestamp, Uuid};

#[test]
fn scenarios() {
    scenario::run("quorum", || None, step);
}

/// A replica, and the last quorum state that it wanted stored.
struct World {
    quorum: Quorum,
    to_store: Option<QuorumState>,
    now: Now,
}

fn step(world: &mut Option<World>, command: &Command<'_>) -> String {
    if command.name == "new" {
        let now = now();
        let quorum = Quorum::new(now, config(command), restored(command));
        let mut new = World {
            quorum,
            to_store: None,
            now,
        };
        let output = format!("{}\n", describe(&mut new));
        *world = Some(new);
        return output;
    }
    let world = world.as_mut().expect("a scenario begins with 'new'");
    if command.name == "describe" {
        return describe_quorum(world);
    }
    if command.name == "check-upgrade" {
        return match world.quorum.check_upgrade(command.value("version")) {
            Ok(()) => "it can be\n".into(),
            Err(reason) => format!("{reason}\n"),
        };
    }
    if command.name == "stored" && world.to_store.is_none() {
        return "NOTHING TO STORE\n".into();
    }
    let input = input(world, command);
    let mut effects = Vec::new();
    world.quorum.handle(world.now, input, &mut effects);
    world.quorum.check();
    let mut output = String::new();
    for effect in effects {
        if let Effect::StoreQuorumState(state) = effect {
            world.to_store = Some(state);
        }
        writeln!(output, "{}", effect_text(&effect)).expect("writing to a string");
    }
    writeln!(output, "{}", describe(world)).expect("writing to a string");
    output
}

fn input(world: &mut World, command: &Command<'_>) -> Input {
    match command.name {
        // To the deadline, or so many milliseconds.
        "timeout" => {
            let wait = match command.maybe("after") {
                Some(millis) => Duration::from_millis(millis),
                None => {
                    let deadline = world.quorum.deadline().expect("a deadline");
                    deadline.saturating_duration_since(world.now.instant)
                }
            };
            world.now = world.now + wait;
            Input::Timeout
        }
        "stored" => Input::QuorumStateStored(world.to_store.take().expect("something to store")),
        "appended" => Input::Appended(Appended {
            end: Offset::new(command.value("end")),
            epochs: epochs(command),
            control_records: control_records(command),
        }),
        "flushed" => Input::Flushed {
            end: Offset::new(command.value("end")),
        },
        "truncated" => Input::Truncated {
            end: Offset::new(command.value("end")),
        },
        "snapshots" => Input::SnapshotsChanged {
            snapshots: snapshots(command),
            log_start_offset: Offset::new(command.value("start")),
        },
        "written" => Input::SnapshotChunkWritten {
            snapshot_id: snapshot_id(command, "snapshot").expect("a snapshot"),
            position: command.value("position"),
        },
        "installed" => Input::SnapshotInstalled {
            snapshot: snapshots(command)[0],
            control_records: control_records(command),
        },
        "refused" => Input::SnapshotRefused {
            snapshot_id: snapshot_id(command, "snapshot").expect("a snapshot"),
        },
        "unreachable" => Input::Unreachable {
            node: NodeId::new(command.value("node")),
        },
        "upgrade" => Input::UpgradeKRaftVersion {
            kraft_version: command.value("version"),
        },
        "resign" => Input::Resign {
            leader_epoch: epoch(command, "epoch"),
        },
        "failed" => Input::Failed,
        "shutdown" => Input::Shutdown,
        "lost" => Input::RequestFailed {
            request_id: command.value("request"),
        },
        name => match name.strip_suffix("-answer") {
            Some(name) => Input::Response {
                request_id: command.value("request"),
                response: response(name, command),
            },
            None => Input::Request {
                request_id: command.value("request"),
                request: request(name, command),
            },
        },
    }
}

fn request(name: &str, command: &Command<'_>) -> Request {
    let from = || key(command.value("from"), command.maybe("from-dir"));
    let addressee = || {
        let id: Option<i32> = command.maybe("voter");
        id.map(|id| key(id, command.maybe("voter-dir")))
    };
    match name {
        "vote" | "pre-vote" => Request::Vote(VoteRequest {
            replica: from(),
            replica_epoch: epoch(command, "epoch"),
            voter: addressee(),
            last_offset_epoch: epoch(command, "last-epoch"),
            last_offset: Offset::new(command.value("last-offset")),
            pre_vote: name == "pre-vote",
        }),
        "begin" => Request::BeginQuorumEpoch(BeginQuorumEpochRequest {
            voter: addressee(),
            leader_id: NodeId::new(command.value("from")),
            leader_epoch: epoch(command, "epoch"),
            leader_endpoints: endpoints(command),
        }),
        "end" => Request::EndQuorumEpoch(EndQuorumEpochRequest {
            leader_id: NodeId::new(command.value("from")),
            leader_epoch: epoch(command, "epoch"),
            preferred_candidates: command
                .list("preferred")
                .into_iter()
                .map(|id| key(id, None))
                .collect(),
            leader_endpoints: Vec::new(),
        }),
        "fetch" => Request::Fetch(FetchRequest {
            replica: from(),
            current_leader_epoch: epoch(command, "epoch"),
            fetch_offset: Offset::new(command.value("offset")),
            last_fetched_epoch: epoch(command, "last-epoch"),
            high_watermark: command
                .maybe("hw")
                .map_or(FetchRequest::NO_HIGH_WATERMARK, Offset::new),
            max_wait_ms: command.maybe("wait").unwrap_or(0),
        }),
        "fetch-snapshot" => Request::FetchSnapshot(FetchSnapshotRequest {
            replica: from(),
            current_leader_epoch: epoch(command, "epoch"),
            snapshot_id: snapshot_id(command, "snapshot").expect("a snapshot"),
            position: command.value("position"),
        }),
        "add" => Request::AddRaftVoter(AddRaftVoterRequest {
            voter: addressee().expect("a voter"),
            endpoints: endpoints(command),
            ack_when_committed: command.maybe("ack").unwrap_or(true),
        }),
        "remove" => Request::RemoveRaftVoter(RemoveRaftVoterRequest {
            voter: addressee().expect("a voter"),
        }),
        "update" => Request::UpdateRaftVoter(UpdateRaftVoterRequest {
            current_leader_epoch: epoch(command, "epoch"),
            voter: addressee().expect("a voter"),
            endpoints: endpoints(command),
            kraft_versions: VersionRange {
                min: 0,
                max: command.maybe("kraft-max").unwrap_or(1),
            },
        }),
        other => panic!("no such command: {other}"),
    }
}

fn response(name: &str, command: &Command<'_>) -> Response {
    let error = ErrorCode::new(command.maybe("error").unwrap_or(0));
    let leader = || LeaderAndEpoch {
        leader_id: command.maybe("leader").map(NodeId::new),
        leader_epoch: epoch(command, "epoch"),
        endpoints: endpoints(command),
    };
    let quorum = || QuorumResponse {
        error,
        leader: leader(),
    };
    match name {
        "vote" => Response::Vote(VoteResponse {
            error,
            leader: leader(),
            vote_granted: command.maybe("granted").unwrap_or(false),
        }),
        "begin" => Response::BeginQuorumEpoch(quorum()),
        "end" => Response::EndQuorumEpoch(quorum()),
        "update" => Response::UpdateRaftVoter(quorum()),
        "fetch" => Response::Fetch(FetchResponse {
            error,
            leader: leader(),
            high_watermark: command.maybe("hw").map(Offset::new),
            log_start_offset: Offset::ZERO,
            fetched: fetched(command),
        }),
        "fetch-snapshot" => Response::FetchSnapshot(FetchSnapshotResponse {
            error,
            leader: leader(),
            snapshot_id: snapshot_id(command, "snapshot").expect("a snapshot"),
            size: command.maybe("size").unwrap_or(0),
            position: command.maybe("position").unwrap_or(0),
            bytes: command.maybe("bytes").unwrap_or(0),
        }),
        "add" => Response::AddRaftVoter(VoterChangeResponse {
            error,
            reason: None,
        }),
        "remove" => Response::RemoveRaftVoter(VoterChangeResponse {
            error,
            reason: None,
        }),
        "api-versions" => Response::ApiVersions(ApiVersionsResponse {
            error,
            kraft_versions: command
                .maybe("kraft-max")
                .map(|max| VersionRange { min: 0, max }),
        }),
        other => panic!("no such answer: {other}"),
    }
}

fn fetched(command: &Command<'_>) -> Fetched {
    if let Some(id) = snapshot_id(command, "snapshot") {
        return Fetched::Snapshot(id);
    }
    if let Some((epoch, end)) = command.text("diverging").map(pair) {
        return Fetched::Diverging(EpochEnd {
            epoch: LeaderEpoch::new(epoch),
            end_offset: Offset::new(end),
        });
    }
    let from = Offset::new(command.maybe("records-from").unwrap_or(0));
    Fetched::Records {
        from,
        to: command.maybe("to").map_or(from, Offset::new),
    }
}

/// The moment at which a scenario begins.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock"
)]
fn now() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(1_000_000),
    }
}

/// Directory `n` of a node.
fn directory(n: u8) -> Uuid {
    Uuid::from_bytes([n; 16])
}

fn key(id: i32, dir: Option<u8>) -> ReplicaKey {
    ReplicaKey {
        id: NodeId::new(id),
        directory_id: dir.map_or(Uuid::ZERO, directory),
    }
}

fn pair(text: &str) -> (i32, i64) {
    let (epoch, offset) = text.split_once(':').expect("epoch:offset");
    (
        epoch.parse().expect("an epoch"),
        offset.parse().expect("an offset"),
    )
}

fn epoch(command: &Command<'_>, name: &str) -> LeaderEpoch {
    LeaderEpoch::new(command.value(name))
}

fn epochs(command: &Command<'_>) -> Vec<EpochStart> {
    let pairs: Vec<String> = command.list("epochs");
    let start = |(epoch, offset)| EpochStart {
        leader_epoch: LeaderEpoch::new(epoch),
        start_offset: Offset::new(offset),
    };
    pairs.iter().map(|text| start(pair(text))).collect()
}

/// `end-epoch`
fn id_of(text: &str) -> SnapshotId {
    let (offset, epoch) = text.rsplit_once('-').expect("offset-epoch");
    SnapshotId {
        end_offset: Offset::new(offset.parse().expect("an offset")),
        epoch: LeaderEpoch::new(epoch.parse().expect("an epoch")),
    }
}

fn snapshot_id(command: &Command<'_>, name: &str) -> Option<SnapshotId> {
    command.text(name).map(id_of)
}

fn snapshots(command: &Command<'_>) -> Vec<Snapshot> {
    let ids: Vec<String> = command.list("snapshots");
    let snapshot = |text: &String| Snapshot {
        id: id_of(text),
        size: 100,
    };
    ids.iter().map(snapshot).collect()
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        listener: Str::from("CONTROLLER"),
        host: Str::from("host"),
        port,
    }
}

fn endpoints(command: &Command<'_>) -> Vec<Endpoint> {
    command.maybe("port").map(endpoint).into_iter().collect()
}

/// `id` or `id/dir`; node 3 listens on port 9003.
fn voter(text: &str) -> Voter {
    let (id, dir) = text.split_once('/').map_or((text, None), |(id, dir)| {
        (id, Some(dir.parse().expect("a directory")))
    });
    let id = id.parse().expect("a node id");
    Voter {
        key: key(id, dir),
        endpoints: vec![endpoint(9000 + u16::try_from(id).expect("a small id"))],
        kraft_versions: VersionRange { min: 0, max: 1 },
    }
}

fn voters(command: &Command<'_>, name: &str) -> Vec<Voter> {
    let texts: Vec<String> = command.list(name);
    texts.iter().map(|text| voter(text)).collect()
}

/// `voters-at=5 voters=1/1,2/2`, with kraft.version 1 at the same place.
fn control_records(command: &Command<'_>) -> Vec<ControlRecord> {
    let Some(offset) = command.maybe("voters-at").map(Offset::new) else {
        return Vec::new();
    };
    vec![
        ControlRecord::KRaftVersion {
            offset,
            kraft_version: 1,
        },
        ControlRecord::Voters {
            offset,
            voters: VoterSet::new(voters(command, "voters")),
        },
    ]
}

fn config(command: &Command<'_>) -> Config {
    let dynamic = command.text("voters-at").is_some();
    let configured = if dynamic {
        VoterSet::default()
    } else {
        VoterSet::new(voters(command, "voters"))
    };
    let bootstrap: Vec<u16> = command.list("bootstrap");
    Config {
        endpoints: vec![endpoint(command.maybe("own-port").unwrap_or(9001))],
        can_become_voter: !command.maybe("broker").unwrap_or(false),
        auto_join: command.maybe("auto-join").unwrap_or(false),
        bootstrap_servers: bootstrap.into_iter().map(endpoint).collect(),
        ..Config::new(key(1, Some(1)), configured, 7)
    }
}

fn restored(command: &Command<'_>) -> Restored {
    let offset = |key| command.maybe(key).map(Offset::new);
    let end = offset("end").unwrap_or_default();
    Restored {
        quorum_state: command.maybe("stored-epoch").map(|epoch| QuorumState {
            leader_epoch: LeaderEpoch::new(epoch),
            leader_id: command.maybe("stored-leader").map(NodeId::new),
            voted: command.maybe("stored-vote").map(|id| key(id, None)),
        }),
        log_start_offset: offset("start").unwrap_or_default(),
        log_end_offset: end,
        durable_end_offset: offset("flushed").unwrap_or(end),
        epochs: epochs(command),
        snapshots: snapshots(command),
        control_records: control_records(command),
        high_watermark: offset("hw").unwrap_or_default(),
        lost: snapshot_id(command, "lost").map(|id| LogEnd {
            epoch: id.epoch,
            offset: id.end_offset,
        }),
    }
}

fn ids(keys: &[ReplicaKey]) -> String {
    let ids: Vec<String> = keys.iter().map(|key| key.id.to_string()).collect();
    format!("[{}]", ids.join(","))
}

fn voters_text(voters: &VoterSet) -> String {
    let text = |voter: &Voter| {
        let port = voter.endpoints.first().map_or(0, |e| e.port);
        format!("{}:{port}", voter.key.id)
    };
    let texts: Vec<String> = voters.iter().map(text).collect();
    format!("[{}]", texts.join(","))
}

fn id_text(id: Option<NodeId>) -> String {
    id.map_or_else(|| "none".into(), |id| id.to_string())
}

fn leader_text(leader: &LeaderAndEpoch) -> String {
    let port = leader.endpoints.first().map(|e| format!(":{}", e.port));
    format!(
        "leader={}{} epoch={}",
        id_text(leader.leader_id),
        port.unwrap_or_default(),
        leader.leader_epoch
    )
}

fn destination_text(to: &Destination) -> String {
    let port = to.endpoints.first().map(|e| format!(":{}", e.port));
    format!("{}{}", id_text(to.node_id), port.unwrap_or_default())
}

fn effect_text(effect: &Effect) -> String {
    match effect {
        Effect::Send {
            request_id,
            to,
            request,
        } => format!(
            "send {request_id} to {}: {}",
            destination_text(to),
            request_text(request)
        ),
        Effect::Answer {
            request_id,
            response,
        } => format!("answer {request_id}: {}", response_text(response)),
        Effect::StoreQuorumState(state) => format!(
            "store epoch={} leader={} voted={}",
            state.leader_epoch,
            id_text(state.leader_id),
            id_text(state.voted.map(|key| key.id))
        ),
        Effect::AppendLeaderChange(change) => {
            let first = change.first_voters.as_ref().map(|(version, voters)| {
                format!(", kraft version {version}, voters {}", voters_text(voters))
            });
            format!(
                "append leader change epoch={} leader={} voters={} granting={}{}",
                change.leader_epoch,
                change.leader_id,
                ids(&change.voters),
                ids(&change.granting_voters),
                first.unwrap_or_default()
            )
        }
        Effect::AppendVoters {
            leader_epoch,
            kraft_version,
            voters,
        } => {
            let version = kraft_version.map(|version| format!("kraft version {version}, "));
            format!(
                "append {}voters {} epoch={leader_epoch}",
                version.unwrap_or_default(),
                voters_text(voters)
            )
        }
        Effect::AppendFetched { request_id } => format!("append what came with {request_id}"),
        Effect::Truncate { end } => format!("truncate to {end}"),
        Effect::WriteSnapshotChunk {
            request_id,
            snapshot_id,
            position,
        } => format!("write {snapshot_id:?} at {position}, from {request_id}"),
        Effect::InstallSnapshot { snapshot_id } => format!("install {snapshot_id:?}"),
        Effect::PublishHighWatermark(offset) => format!("publish hw={offset}"),
        Effect::AnnounceLeader(leader) => format!("announce {}", leader_text(leader)),
        Effect::Lead { leader_epoch } => format!("lead epoch={leader_epoch}"),
        Effect::StopLeading { leader_epoch } => format!("stop leading epoch={leader_epoch}"),
        Effect::Report(anomaly) => format!("report {anomaly:?}"),
    }
}

fn request_text(request: &Request) -> String {
    match request {
        Request::Vote(r) => format!(
            "{} epoch={} log={}/{}",
            if r.pre_vote { "pre-vote" } else { "vote" },
            r.replica_epoch,
            r.last_offset_epoch,
            r.last_offset
        ),
        Request::BeginQuorumEpoch(r) => format!("begin epoch={}", r.leader_epoch),
        Request::EndQuorumEpoch(r) => format!(
            "end epoch={} preferred={}",
            r.leader_epoch,
            ids(&r.preferred_candidates)
        ),
        Request::Fetch(r) => format!(
            "fetch epoch={} from={}/{} hw={}",
            r.current_leader_epoch, r.last_fetched_epoch, r.fetch_offset, r.high_watermark
        ),
        Request::FetchSnapshot(r) => {
            format!("fetch snapshot {:?} at {}", r.snapshot_id, r.position)
        }
        Request::AddRaftVoter(r) => format!("add voter {}", r.voter.id),
        Request::RemoveRaftVoter(r) => format!("remove voter {}", r.voter.id),
        Request::UpdateRaftVoter(r) => format!("update voter {}", r.voter.id),
        Request::ApiVersions => "api versions".into(),
    }
}

fn response_text(response: &Response) -> String {
    let error = |error: ErrorCode| match error {
        ErrorCode::NONE => String::new(),
        error => format!("{error} "),
    };
    match response {
        Response::Vote(r) => format!(
            "{}granted={} {}",
            error(r.error),
            r.vote_granted,
            leader_text(&r.leader)
        ),
        Response::BeginQuorumEpoch(r)
        | Response::EndQuorumEpoch(r)
        | Response::UpdateRaftVoter(r) => {
            format!("{}{}", error(r.error), leader_text(&r.leader))
        }
        Response::Fetch(r) => {
            let fetched = match &r.fetched {
                Fetched::Records { .. } if r.error.is_err() => String::new(),
                Fetched::Records { from, to } => format!("records {from}..{to} "),
                Fetched::Diverging(end) => {
                    format!("diverging {}:{} ", end.epoch, end.end_offset)
                }
                Fetched::Snapshot(id) => format!("snapshot {id:?} "),
            };
            let hw = r.high_watermark.map(|hw| format!("hw={hw} "));
            format!(
                "{}{fetched}{}{}",
                error(r.error),
                hw.unwrap_or_default(),
                leader_text(&r.leader)
            )
        }
        Response::FetchSnapshot(r) => format!(
            "{}{:?} at {} of {} {}",
            error(r.error),
            r.snapshot_id,
            r.position,
            r.size,
            leader_text(&r.leader)
        ),
        Response::AddRaftVoter(r) | Response::RemoveRaftVoter(r) => match r.reason {
            Some(reason) => format!("{}{reason}", error(r.error)),
            None => format!("{}", r.error),
        },
        Response::ApiVersions(_) => unreachable!("the owner answers that"),
    }
}

fn describe(world: &mut World) -> String {
    let quorum = &world.quorum;
    let mut text = format!(
        "= {} epoch={} hw={} end={}",
        quorum.role().name(),
        quorum.leader_epoch(),
        quorum.high_watermark(),
        quorum.log_end_offset()
    );
    if let Role::Follower(follower) = quorum.role() {
        write!(text, " of {}", follower.leader_id()).expect("writing to a string");
    }
    if !quorum.is_voter() {
        text.push_str(", observer");
    }
    if let Some(lost) = quorum.lost_end() {
        write!(text, ", had {}-{}", lost.offset, lost.epoch).expect("writing to a string");
    }
    if let Some(deadline) = quorum.deadline() {
        let wait = deadline.saturating_duration_since(world.now.instant);
        if wait.is_zero() {
            text.push_str(", a timeout is due");
        }
    }
    text
}

fn describe_quorum(world: &World) -> String {
    let description = match world.quorum.describe(world.now) {
        Ok(description) => description,
        Err(error) => return format!("{error}\n"),
    };
    let mut text = format!(
        "leader={} epoch={} hw={}\n",
        description.leader_id,
        description.leader_epoch,
        description
            .high_watermark
            .map_or_else(|| "unknown".into(), |hw| hw.to_string())
    );
    // Times count from the beginning of the scenario.
    let millis = |at: Option<Timestamp>| {
        at.map_or_else(
            || "never".into(),
            |at| (at.as_millis() - 1_000_000).to_string(),
        )
    };
    let lists = [
        ("voter", description.voters),
        ("observer", description.observers),
    ];
    for (name, replicas) in lists {
        for replica in replicas {
            let end = replica.log_end_offset;
            writeln!(
                text,
                "{name} {} end={} fetched={} caught-up={}",
                replica.key.id,
                end.map_or_else(|| "unknown".into(), |end| end.to_string()),
                millis(replica.last_fetch),
                millis(replica.last_caught_up)
            )
            .expect("writing to a string");
        }
    }
    text
}
