//! What one replica of a data partition does, told as scenarios.

mod scenario;

use std::task::Poll;
use std::time::{Duration, Instant};

use scenario::Command;
use tidelog_replication::divergence::EpochEnd;
use tidelog_replication::partition::{
    AlterPartition, AlteredPartition, Ask, BecomeFollower, BecomeLeader, Broker, Config,
    DurableWhen, Effect, FetchAnswer, FetchState, FollowerFetch, Input, LogRange, Replica,
    Restored, Role, UNKNOWN_BROKER_EPOCH, Watermarks,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset, Timestamp};

#[test]
fn scenarios() {
    scenario::run(
        "partition",
        || World {
            replica: None,
            now: start(),
        },
        step,
    );
}

struct World {
    replica: Option<Replica>,
    now: Now,
}

fn step(world: &mut World, command: &Command<'_>) -> String {
    match command.name {
        "new" => {
            let replica = Replica::new(config(command), restored(command));
            let output = marks(&replica.watermarks()) + "\n";
            world.replica = Some(replica);
            return output;
        }
        "elapse" => {
            world.now = world.now + Duration::from_millis(command.value("ms"));
            return "so be it\n".into();
        }
        _ => {}
    }
    let now = world.now;
    let replica = world.replica.as_mut();
    let replica = replica.expect("a scenario begins with 'new'");
    if let Some(answer) = ask(replica, now, command) {
        return answer + "\n";
    }
    let mut output = String::new();
    if command.name == "fetched" {
        match replica.check_fetch(&follower_fetch(replica, command)) {
            Ok(None) => {}
            Ok(Some(end)) => output += &format!("answer diverging {}\n", epoch_end(end)),
            Err(error) => output += &format!("answer {error}\n"),
        }
    }
    let mut effects = Vec::new();
    let input = input(replica, command);
    replica.handle(now, input, &mut effects);
    replica.check();
    for effect in &effects {
        output += &told(effect);
        output.push('\n');
    }
    if output.is_empty() {
        "nothing\n".into()
    } else {
        output
    }
}

fn told(effect: &Effect) -> String {
    match effect {
        Effect::PublishWatermarks(watermarks) => format!("publish {}", marks(watermarks)),
        Effect::PublishLowWatermark(offset) => format!("publish low watermark {offset}"),
        Effect::StartLeaderEpoch {
            leader_epoch,
            start_offset,
        } => format!("start leader epoch {leader_epoch} at {start_offset}"),
        Effect::WakeWaiters => "wake waiters".into(),
        Effect::AlterPartition(request) => alter_partition(request),
        Effect::AskLeader(ask) => asks(*ask),
        Effect::AppendFetched => "append what was fetched".into(),
        Effect::Truncate { end } => format!("truncate to {end}"),
        Effect::Restart { offset } => format!("drop the log and begin at {offset}"),
        Effect::AdvanceLogStart { log_start_offset } => {
            format!("delete below {log_start_offset}")
        }
        Effect::ReportCommittedLost { from, to } => {
            format!("report committed records lost: {from} to {to}")
        }
    }
}

fn alter_partition(request: &AlterPartition) -> String {
    let isr: Vec<_> = request
        .new_isr
        .iter()
        .map(|member| match member.broker_epoch {
            UNKNOWN_BROKER_EPOCH => member.id.to_string(),
            epoch => format!("{}:{epoch}", member.id),
        })
        .collect();
    format!(
        "alter partition id={} epoch={} partition-epoch={} isr={}",
        request.id,
        request.leader_epoch,
        request.partition_epoch,
        isr.join(",")
    )
}

fn asks(ask: Option<Ask>) -> String {
    match ask {
        None => "ask for nothing".into(),
        Some(Ask::Offsets {
            leader,
            leader_epoch,
        }) => format!("ask {leader} for offsets, epoch={leader_epoch}"),
        Some(Ask::Records(FetchState {
            leader,
            leader_epoch,
            fetch_offset,
            last_fetched_epoch,
            log_start_offset,
        })) => format!(
            "ask {leader} for records, epoch={leader_epoch} offset={fetch_offset} \
             last-epoch={last_fetched_epoch} start={log_start_offset}"
        ),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock"
)]
fn start() -> Now {
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
    epoch_at(command, "epoch")
}

fn epoch_at(command: &Command<'_>, key: &str) -> LeaderEpoch {
    command
        .maybe(key)
        .map_or(LeaderEpoch::NONE, LeaderEpoch::new)
}

/// Most of what is asked and answered is of the epoch that the replica is in.
fn epoch_or_current(replica: &Replica, command: &Command<'_>) -> LeaderEpoch {
    match command.maybe("epoch") {
        Some(epoch) => LeaderEpoch::new(epoch),
        None => replica.leader_epoch(),
    }
}

/// An epoch and its end, such as `3:10`.
fn maybe_epoch_end(command: &Command<'_>, key: &str) -> Option<EpochEnd> {
    let (epoch, end) = command.text(key)?.split_once(':').expect("epoch:end");
    Some(EpochEnd {
        epoch: LeaderEpoch::new(epoch.parse().expect("an epoch")),
        end_offset: Offset::new(end.parse().expect("an offset")),
    })
}

fn epoch_end(end: EpochEnd) -> String {
    format!("{}:{}", end.epoch, end.end_offset)
}

fn error(command: &Command<'_>) -> Option<ErrorCode> {
    let name = command.text("error")?;
    let known = |code: &&ErrorCode| code.name() == Some(name);
    Some(*ErrorCode::ALL.iter().find(known).expect("an error code"))
}

/// Brokers with the epochs of their registrations, such as `2:20,3:30`.
fn brokers(command: &Command<'_>) -> Vec<Broker> {
    let brokers = command.text("brokers").unwrap_or_default().split(',');
    brokers
        .filter(|text| !text.is_empty())
        .map(|text| {
            let (id, broker_epoch) = text.split_once(':').expect("id:epoch");
            Broker {
                id: NodeId::new(id.parse().expect("an id")),
                broker_epoch: broker_epoch.parse().expect("an epoch"),
                fenced: false,
                in_controlled_shutdown: false,
            }
        })
        .collect()
}

fn config(command: &Command<'_>) -> Config {
    Config {
        min_insync_replicas: command.maybe("min-isr").unwrap_or(1),
        durable_when: match command.text("durable") {
            None | Some("flushed") => DurableWhen::Flushed,
            Some("appended") => DurableWhen::Appended,
            Some(other) => panic!("durable={other}"),
        },
        ..Config::new(NodeId::new(1))
    }
}

fn restored(command: &Command<'_>) -> Restored {
    let end = maybe_offset(command, "end").unwrap_or_default();
    Restored {
        log_start_offset: maybe_offset(command, "start").unwrap_or_default(),
        log_end_offset: end,
        durable_end_offset: maybe_offset(command, "flushed").unwrap_or(end),
        high_watermark: maybe_offset(command, "hw").unwrap_or_default(),
        last_epoch: epoch_at(command, "last-epoch"),
        first_unstable_offset: maybe_offset(command, "open-txn"),
    }
}

fn follower_fetch(replica: &Replica, command: &Command<'_>) -> FollowerFetch {
    FollowerFetch {
        replica: NodeId::new(command.value("by")),
        broker_epoch: command
            .maybe("broker-epoch")
            .unwrap_or(UNKNOWN_BROKER_EPOCH),
        current_leader_epoch: epoch_or_current(replica, command),
        fetch_offset: offset(command, "offset"),
        last_fetched_epoch: epoch_at(command, "last-epoch"),
        epoch_end: maybe_epoch_end(command, "ours").unwrap_or(EpochEnd::UNKNOWN),
        log_start_offset: maybe_offset(command, "start").unwrap_or_default(),
    }
}

/// The answer to what the follower asks, or, with `offset=`, to what it asked for at that offset.
fn fetch_answered(replica: &Replica, command: &Command<'_>) -> Input {
    let mut request = match replica.asks() {
        Some(Ask::Records(request)) => request,
        _ => FetchState {
            leader: NodeId::NONE,
            leader_epoch: replica.leader_epoch(),
            fetch_offset: replica.watermarks().log_end_offset,
            last_fetched_epoch: LeaderEpoch::NONE,
            log_start_offset: Offset::ZERO,
        },
    };
    if let Some(offset) = maybe_offset(command, "offset") {
        request.fetch_offset = offset;
    }
    if let Some(epoch) = command.maybe("epoch") {
        request.leader_epoch = LeaderEpoch::new(epoch);
    }
    let answer = match (error(command), maybe_epoch_end(command, "diverging")) {
        (Some(error), _) => FetchAnswer::Error(error),
        (None, Some(leader)) => FetchAnswer::Diverging {
            leader,
            own: maybe_epoch_end(command, "own").unwrap_or(EpochEnd::UNKNOWN),
        },
        (None, None) => FetchAnswer::Records {
            is_empty: command.text("records").is_none(),
            high_watermark: offset(command, "hw"),
            log_start_offset: maybe_offset(command, "start").unwrap_or_default(),
        },
    };
    Input::FetchAnswered { request, answer }
}

fn altered(replica: &Replica, command: &Command<'_>) -> Input {
    let state = || AlteredPartition {
        leader_epoch: epoch_or_current(replica, command),
        partition_epoch: command.value("partition-epoch"),
        isr: nodes(command, "isr"),
        recovering: command.text("recovering").is_some(),
    };
    Input::AlterPartitionAnswered {
        id: command.value("id"),
        answer: error(command).map_or_else(|| Ok(state()), Err),
    }
}

fn input(replica: &Replica, command: &Command<'_>) -> Input {
    let end = || offset(command, "end");
    let first_unstable_offset = maybe_offset(command, "open-txn");
    match command.name {
        "timeout" => Input::Timeout,
        "become-leader" => Input::BecomeLeader(BecomeLeader {
            leader_epoch: epoch(command),
            partition_epoch: command.value("partition-epoch"),
            replicas: nodes(command, "replicas"),
            adding_replicas: nodes(command, "adding"),
            isr: nodes(command, "isr"),
            recovering: command.text("recovering").is_some(),
            brokers: brokers(command),
        }),
        "become-follower" => Input::BecomeFollower(BecomeFollower {
            leader_epoch: epoch(command),
            partition_epoch: command.value("partition-epoch"),
            leader: command.maybe("leader").map(NodeId::new),
        }),
        "broker-changed" => Input::BrokerChanged(Broker {
            id: NodeId::new(command.value("id")),
            broker_epoch: command.value("broker-epoch"),
            fenced: command.text("fenced").is_some(),
            in_controlled_shutdown: command.text("shutting-down").is_some(),
        }),
        "appended" => Input::Appended {
            end: end(),
            leader_epoch: epoch_or_current(replica, command),
            first_unstable_offset,
        },
        "truncated" => Input::Truncated {
            end: end(),
            last_epoch: epoch_at(command, "last-epoch"),
            first_unstable_offset,
        },
        "flushed" => Input::Flushed { end: end() },
        "fetched" => Input::Fetched(follower_fetch(replica, command)),
        "alter-partition-answered" => altered(replica, command),
        "fetch-answered" => fetch_answered(replica, command),
        "offsets-answered" => Input::OffsetsAnswered {
            leader_epoch: epoch_or_current(replica, command),
            answer: match error(command) {
                Some(error) => Err(error),
                None => Ok(LogRange {
                    log_start_offset: offset(command, "start"),
                    log_end_offset: offset(command, "end"),
                }),
            },
        },
        "append-refused" => Input::AppendRefused,
        "restarted" => Input::Restarted {
            offset: offset(command, "at"),
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
fn ask(replica: &Replica, now: Now, command: &Command<'_>) -> Option<String> {
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
                "leader epoch={} partition-epoch={} with {:?} in sync{}{}",
                replica.leader_epoch(),
                leader.partition_epoch(),
                leader.in_sync_followers().collect::<Vec<_>>(),
                if leader.is_under_replicated() {
                    ", under-replicated"
                } else {
                    ""
                },
                leader.proposed().map_or("", |_| ", change proposed"),
            ),
        },
        "asks" => asks(replica.asks()),
        "deadline" => match replica.deadline() {
            None => "none".into(),
            Some(at) => match at.checked_duration_since(now.instant) {
                None => "past".into(),
                Some(left) => format!("in {} ms", left.as_millis()),
            },
        },
        "low-watermark" => match replica.low_watermark() {
            Ok(offset) => offset.to_string(),
            Err(error) => error.to_string(),
        },
        "poll-deleted" => match replica.poll_deleted(epoch(command), offset(command, "before")) {
            Poll::Pending => "pending".into(),
            Poll::Ready(Ok(low_watermark)) => format!("deleted below {low_watermark}"),
            Poll::Ready(Err(error)) => error.to_string(),
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
