//! Why a group rebalanced, for the log and as JSON for who asks over the wire (ADR 7).

use serde_json::{Value, json};
use tidelog_coordinator::group::history::{Cause, Outcome, Rebalance};
use tidelog_types::{GroupId, TopicName};

/// Says in the broker's log that a rebalance has begun or ended.
pub(super) fn log(group_id: &GroupId, rebalance: &Rebalance) {
    let (protocol, epoch) = (rebalance.protocol.name(), rebalance.epoch);
    if rebalance.outcome == Outcome::UnderWay {
        let because = rebalance.causes.first().map(ToString::to_string);
        let because = because.unwrap_or_default();
        tracing::info!(%group_id, protocol, epoch, because, "the group rebalances");
        return;
    }
    let phases = rebalance.phases.iter();
    let phases: Vec<_> = phases
        .map(|phase| format!("{} {} ms", phase.phase.name(), phase.millis))
        .collect();
    let slowest = rebalance
        .waited_for
        .first()
        .map(|wait| wait.who.to_string());
    tracing::info!(
        %group_id,
        protocol,
        epoch,
        outcome = rebalance.outcome.name(),
        members = rebalance.members,
        moved = rebalance.moves_count,
        took = phases.join(", "),
        slowest = slowest.unwrap_or_default(),
        "the group has rebalanced"
    );
}

/// The rebalances of a group, oldest first.
pub(super) fn to_json<'a>(history: impl Iterator<Item = &'a Rebalance>) -> String {
    Value::Array(history.map(rebalance).collect()).to_string()
}

fn rebalance(rebalance: &Rebalance) -> Value {
    let phases = rebalance.phases.iter();
    let waits = rebalance.waited_for.iter();
    let moves = rebalance.moves.iter();
    json!({
        "protocol": rebalance.protocol.name(),
        "epoch": rebalance.epoch,
        "startedMs": rebalance.started.as_millis(),
        "outcome": rebalance.outcome.name(),
        "members": rebalance.members,
        "causes": rebalance.causes.iter().map(cause).collect::<Vec<_>>(),
        "causesOmitted": rebalance.causes_omitted,
        "phases": phases
            .map(|phase| json!({"phase": phase.phase.name(), "ms": phase.millis}))
            .collect::<Vec<_>>(),
        "waitedFor": waits
            .map(|wait| json!({
                "memberId": &*wait.who.member_id,
                "instanceId": wait.who.instance_id.as_deref(),
                "clientId": &*wait.who.client_id,
                "clientHost": &*wait.who.client_host,
                "phase": wait.phase.name(),
                "ms": wait.millis,
                "gaveUp": wait.gave_up,
            }))
            .collect::<Vec<_>>(),
        "moves": moves
            .map(|one| json!({
                "topic": &*one.topic,
                "partition": one.partition,
                "from": one.from.as_deref(),
                "to": one.to.as_deref(),
            }))
            .collect::<Vec<_>>(),
        "movesCount": rebalance.moves_count,
    })
}

fn cause(cause: &Cause) -> Value {
    let names = |topics: &[TopicName]| topics.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut value = json!({"cause": cause.name(), "text": cause.to_string()});
    if let Some(who) = cause.who() {
        value["memberId"] = (*who.member_id).into();
        value["instanceId"] = who.instance_id.as_deref().into();
        value["clientId"] = (*who.client_id).into();
        value["clientHost"] = (*who.client_host).into();
    }
    match cause {
        Cause::Joined { reason, .. }
        | Cause::Rejoined { reason, .. }
        | Cause::Left { reason, .. } => {
            value["reason"] = reason.as_deref().into();
        }
        Cause::SessionTimedOut { after_ms, .. } | Cause::RebalanceTimedOut { after_ms, .. } => {
            value["afterMs"] = (*after_ms).into();
        }
        Cause::SubscriptionChanged { added, removed, .. } => {
            value["added"] = names(added).into();
            value["removed"] = names(removed).into();
        }
        Cause::RegexResolved {
            regex,
            added,
            removed,
        } => {
            value["regex"] = (**regex).into();
            value["added"] = names(added).into();
            value["removed"] = names(removed).into();
        }
        Cause::TopicChanged { topic, .. } => value["topic"] = (**topic).into(),
        Cause::StaticMemberReplaced { old_member_id, .. } => {
            value["oldMemberId"] = (**old_member_id).into();
        }
        Cause::Upgraded | Cause::Downgraded | Cause::TakenOver | Cause::AssignmentRefused => {}
    }
    value
}
