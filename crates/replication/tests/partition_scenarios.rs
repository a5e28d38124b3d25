//! What one replica of a data partition does, told as scenarios.

mod scenario;

use std::fmt::Write as _;
use std::task::Poll;
use std::time::Instant;

use scenario::Command;
use tidelog_replication::partition::{
    BecomeFollower, BecomeLeader, Config, DurableWhen, Effect, Input, Replica, Restored, Role,
    Watermarks,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset, Timestamp};

#[test]
fn scenarios() {
    scenario::run("partition", || None, step);
}

fn step(world: &mut Option<Replica>, command: &Command<'_>) -> String {
    if command.name == "new" {
        let replica = Replica::new(config(command), restored(command));
        let output = marks(&replica.watermarks()) + "\n";
        *world = Some(replica);
        return output;
    }
    let replica = world.as_mut().expect("a scenario begins with 'new'");
    if let Some(answer) = ask(replica, command) {
        return answer + "\n";
    }
    let mut effects = Vec::new();
    replica.handle(now(), input(command), &mut effects);
    replica.check();
    let mut output = String::new();
    for effect in &effects {
        match effect {
            Effect::PublishWatermarks(watermarks) => {
                writeln!(output, "publish {}", marks(watermarks))
            }
            Effect::StartLeaderEpoch {
                leader_epoch,
                start_offset,
            } => {
                writeln!(
                    output,
                    "start leader epoch {leader_epoch} at {start_offset}"
                )
            }
            Effect::WakeWaiters => writeln!(output, "wake waiters"),
        }
        .expect("writing to a string");
    }
    if output.is_empty() {
        "nothing\n".into()
    } else {
        output
    }
}

/// Nothing in a replica is timed yet; any moment will do.
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

fn offset(command: &Command<'_>, key: &str) -> Offset {
    Offset::new(command.value(key))
}

fn maybe_offset(command: &Command<'_>, key: &str) -> Option<Offset> {
    command.maybe(key).map(Offset::new)
}

fn nodes(command: &Command<'_>, key: &str) -> Vec<NodeId> {
    command.list(key).into_iter().map(NodeId::new).collect()
}

fn epoch(command: &Command<'_>) -> LeaderEpoch {
    command
        .maybe("epoch")
        .map_or(LeaderEpoch::NONE, LeaderEpoch::new)
}

fn config(command: &Command<'_>) -> Config {
    Config {
        node_id: NodeId::new(1),
        min_insync_replicas: command.maybe("min-isr").unwrap_or(1),
        durable_when: match command.text("durable") {
            None | Some("flushed") => DurableWhen::Flushed,
            Some("appended") => DurableWhen::Appended,
            Some(other) => panic!("durable={other}"),
        },
    }
}

fn restored(command: &Command<'_>) -> Restored {
    let end = maybe_offset(command, "end").unwrap_or_default();
    Restored {
        log_start_offset: maybe_offset(command, "start").unwrap_or_default(),
        log_end_offset: end,
        durable_end_offset: maybe_offset(command, "flushed").unwrap_or(end),
        high_watermark: maybe_offset(command, "hw").unwrap_or_default(),
        first_unstable_offset: maybe_offset(command, "open-txn"),
    }
}

fn input(command: &Command<'_>) -> Input {
    let end = || offset(command, "end");
    let first_unstable_offset = maybe_offset(command, "open-txn");
    match command.name {
        "become-leader" => Input::BecomeLeader(BecomeLeader {
            leader_epoch: epoch(command),
            partition_epoch: command.value("partition-epoch"),
            replicas: nodes(command, "replicas"),
            isr: nodes(command, "isr"),
        }),
        "become-follower" => Input::BecomeFollower(BecomeFollower {
            leader_epoch: epoch(command),
            partition_epoch: command.value("partition-epoch"),
            leader: command.maybe("leader").map(NodeId::new),
        }),
        "appended" => Input::Appended {
            end: end(),
            first_unstable_offset,
        },
        "truncated" => Input::Truncated {
            end: end(),
            first_unstable_offset,
        },
        "flushed" => Input::Flushed { end: end() },
        "fetched" => Input::Fetched {
            replica: NodeId::new(command.value("by")),
            offset: offset(command, "offset"),
        },
        "fetch-answered" => Input::FetchAnswered {
            high_watermark: offset(command, "hw"),
        },
        "log-start-advanced" => Input::LogStartAdvanced {
            log_start_offset: offset(command, "start"),
        },
        "config-changed" => Input::ConfigChanged(config(command)),
        "failed" => Input::Failed,
        other => panic!("no such command: {other}"),
    }
}

/// Commands that ask and change nothing.
fn ask(replica: &Replica, command: &Command<'_>) -> Option<String> {
    let end = || offset(command, "end");
    let answer = match command.name {
        "role" => match replica.role() {
            Role::Unassigned => "unassigned".into(),
            Role::Offline => "offline".into(),
            Role::Follower(follower) => {
                format!(
                    "follower of {:?} epoch={}",
                    follower.leader(),
                    replica.leader_epoch()
                )
            }
            Role::Leader(leader) => format!(
                "leader epoch={} isr={:?}",
                replica.leader_epoch(),
                leader.isr()
            ),
        },
        "check-leader-epoch" => verdict(replica.check_leader_epoch(epoch(command))),
        "check-follower" => {
            verdict(replica.check_follower(NodeId::new(command.value("by")), epoch(command)))
        }
        "check-min-isr" => verdict(replica.check_min_isr()),
        "check-end-known" => verdict(
            replica
                .leadership()
                .check_end_known(replica.watermarks().high_watermark),
        ),
        "poll-committed" => waited(replica.poll_committed(epoch(command), end())),
        "poll-durable" => waited(replica.poll_durable(epoch(command), end())),
        "delete-records" => match replica.delete_records_end(offset(command, "before")) {
            Ok(start) => format!("new log start {start}"),
            Err(error) => error.to_string(),
        },
        _ => return None,
    };
    Some(answer)
}

fn verdict(result: Result<(), ErrorCode>) -> String {
    result.map_or_else(|error| error.to_string(), |()| "ok".into())
}

fn waited(poll: Poll<Result<(), ErrorCode>>) -> String {
    match poll {
        Poll::Pending => "pending".into(),
        Poll::Ready(result) => verdict(result),
    }
}

fn marks(watermarks: &Watermarks) -> String {
    format!(
        "start={} stable={} hw={} durable={} end={}",
        watermarks.log_start_offset,
        watermarks.last_stable_offset,
        watermarks.high_watermark,
        watermarks.durable_end_offset,
        watermarks.log_end_offset
    )
}
