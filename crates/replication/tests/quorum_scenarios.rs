//! What one voter of the metadata quorum does, told as scenarios.

mod scenario;

use std::fmt::Write as _;
use std::time::Instant;

use scenario::Command;
use tidelog_replication::quorum::{
    Config, Effect, Input, Quorum, QuorumState, Restored, Role, Voter,
};
use tidelog_types::{LeaderEpoch, NodeId, Now, Offset, Timestamp, Uuid};

#[test]
fn scenarios() {
    scenario::run("quorum", || None, step);
}

/// A voter and the last quorum state that it wanted stored.
struct World {
    quorum: Quorum,
    to_store: Option<QuorumState>,
    now: Now,
}

fn step(world: &mut Option<World>, command: &Command<'_>) -> String {
    if command.name == "new" {
        let now = now();
        let quorum = Quorum::new(now, config(command), restored(command));
        let output = format!("{}\n", describe(&quorum, now));
        *world = Some(World {
            quorum,
            to_store: None,
            now,
        });
        return output;
    }
    let world = world.as_mut().expect("a scenario begins with 'new'");
    let mut effects = Vec::new();
    let input = match command.name {
        "timeout" => Input::Timeout,
        "stored" => Input::QuorumStateStored(world.to_store.take().expect("something to store")),
        "appended" => Input::Appended {
            end: Offset::new(command.value("end")),
        },
        "flushed" => Input::Flushed {
            end: Offset::new(command.value("end")),
        },
        "shutdown" => Input::Shutdown,
        other => panic!("no such command: {other}"),
    };
    world.quorum.handle(world.now, input, &mut effects);
    world.quorum.check();
    let mut output = String::new();
    for effect in effects {
        match effect {
            Effect::StoreQuorumState(state) => {
                world.to_store = Some(state);
                let voted = state.voted.map(|voter| voter.id);
                let QuorumState { leader_epoch, leader_id, .. } = state;
                writeln!(output, "store epoch={leader_epoch} leader={leader_id:?} voted={voted:?}")
            }
            Effect::AppendLeaderChange { leader_epoch, leader_id, voters, granting_voters } => {
                let ids = |voters: &[Voter]| voters.iter().map(|v| v.id).collect::<Vec<_>>();
                let (voters, granting) = (ids(&voters), ids(&granting_voters));
                writeln!(
                    output,
                    "append leader change epoch={leader_epoch} leader={leader_id} voters={voters:?} granting={granting:?}"
                )
            }
            Effect::PublishHighWatermark(offset) => writeln!(output, "publish hw={offset}"),
            Effect::Lead { leader_epoch } => writeln!(output, "lead epoch={leader_epoch}"),
        }
        .expect("writing to a string");
    }
    writeln!(output, "{}", describe(&world.quorum, world.now)).expect("writing to a string");
    output
}

/// The moment at which a scenario plays.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock"
)]
fn now() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(0),
    }
}

fn voter(id: i32) -> Voter {
    Voter {
        id: NodeId::new(id),
        directory_id: Uuid::ZERO,
    }
}

fn config(command: &Command<'_>) -> Config {
    Config {
        node: voter(1),
        voters: command.list("voters").into_iter().map(voter).collect(),
    }
}

fn restored(command: &Command<'_>) -> Restored {
    let offset = |key| command.maybe(key).map(Offset::new);
    let end = offset("end").unwrap_or_default();
    Restored {
        quorum_state: command.maybe("stored-epoch").map(|epoch| QuorumState {
            leader_epoch: LeaderEpoch::new(epoch),
            leader_id: command.maybe("stored-leader").map(NodeId::new),
            voted: command.maybe("stored-vote").map(voter),
        }),
        log_end_epoch: command
            .maybe("end-epoch")
            .map_or(LeaderEpoch::NONE, LeaderEpoch::new),
        log_end_offset: end,
        durable_end_offset: offset("flushed").unwrap_or(end),
        high_watermark: offset("hw").unwrap_or_default(),
    }
}

fn describe(quorum: &Quorum, now: Now) -> String {
    let role = match quorum.role() {
        Role::Unattached { .. } => "unattached",
        Role::Candidate { .. } => "candidate",
        Role::Leader(_) => "leader",
        Role::Resigned => "resigned",
    };
    let due = if quorum.deadline().is_some_and(|at| at <= now.instant) {
        ", a timeout is due"
    } else {
        ""
    };
    let (epoch, hw, end) = (
        quorum.leader_epoch(),
        quorum.high_watermark(),
        quorum.log_end_offset(),
    );
    format!("= {role} epoch={epoch} hw={hw} end={end}{due}")
}
