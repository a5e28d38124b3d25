//! Why a group rebalanced, for the log and as JSON for who asks over the wire (ADR 7).

use tidelog_coordinator::group::history::{Cause, Move, Outcome, PhaseTime, Rebalance, Wait};
use tidelog_types::{GroupId, TopicName};

use super::json::Value;

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
    Value::array(history, rebalance).to_string()
}

fn rebalance(rebalance: &Rebalance) -> Value {
    Value::object([
        ("protocol", rebalance.protocol.name().into()),
        ("epoch", rebalance.epoch.into()),
        ("startedMs", rebalance.started.as_millis().into()),
        ("outcome", rebalance.outcome.name().into()),
        ("members", rebalance.members.into()),
        ("causes", Value::array(&rebalance.causes, cause)),
        ("causesOmitted", rebalance.causes_omitted.into()),
        ("phases", Value::array(&rebalance.phases, phase)),
        ("waitedFor", Value::array(&rebalance.waited_for, wait)),
        ("moves", Value::array(&rebalance.moves, one_move)),
        ("movesCount", rebalance.moves_count.into()),
    ])
}

fn phase(phase: &PhaseTime) -> Value {
    let name = phase.phase.name().into();
    Value::object([("phase", name), ("ms", phase.millis.into())])
}

fn wait(wait: &Wait) -> Value {
    Value::object([
        ("memberId", (*wait.who.member_id).into()),
        ("instanceId", wait.who.instance_id.as_deref().into()),
        ("clientId", (*wait.who.client_id).into()),
        ("clientHost", (*wait.who.client_host).into()),
        ("phase", wait.phase.name().into()),
        ("ms", wait.millis.into()),
        ("gaveUp", wait.gave_up.into()),
    ])
}

fn one_move(one: &Move) -> Value {
    Value::object([
        ("topic", (*one.topic).into()),
        ("partition", one.partition.into()),
        ("from", one.from.as_deref().into()),
        ("to", one.to.as_deref().into()),
    ])
}

fn cause(cause: &Cause) -> Value {
    let names = |topics: &[TopicName]| Value::array(topics, |topic| (**topic).into());
    let text = cause.to_string();
    let mut fields = vec![
        ("cause", cause.name().into()),
        ("text", text.as_str().into()),
    ];
    if let Some(who) = cause.who() {
        fields.push(("memberId", (*who.member_id).into()));
        fields.push(("instanceId", who.instance_id.as_deref().into()));
        fields.push(("clientId", (*who.client_id).into()));
        fields.push(("clientHost", (*who.client_host).into()));
    }
    match cause {
        Cause::Joined { reason, .. }
        | Cause::Rejoined { reason, .. }
        | Cause::Left { reason, .. } => fields.push(("reason", reason.as_deref().into())),
        Cause::SessionTimedOut { after_ms, .. } | Cause::RebalanceTimedOut { after_ms, .. } => {
            fields.push(("afterMs", (*after_ms).into()));
        }
        Cause::SubscriptionChanged { added, removed, .. } => {
            fields.extend([("added", names(added)), ("removed", names(removed))]);
        }
        Cause::RegexResolved {
            regex,
            added,
            removed,
        } => {
            fields.push(("regex", (**regex).into()));
            fields.extend([("added", names(added)), ("removed", names(removed))]);
        }
        Cause::TopicChanged { topic, .. } => fields.push(("topic", (**topic).into())),
        Cause::StaticMemberReplaced { old_member_id, .. } => {
            fields.push(("oldMemberId", (**old_member_id).into()));
        }
        Cause::Upgraded | Cause::Downgraded | Cause::TakenOver | Cause::AssignmentRefused => {}
    }
    Value::Object(fields)
}
