use tidelog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use tidelog_types::{ErrorCode, Str};

use super::{LEAVE_EPOCH, LEAVE_STATIC_EPOCH, Refusal};
use crate::assignor::Assignor;
use crate::group::Config;

/// From this version of the heartbeat on a member makes up its id itself (KIP-1082).
const OWN_MEMBER_ID_FROM: i16 = 1;

/// Whether a heartbeat makes sense, whatever the group looks like.
pub(super) fn validate(
    config: &Config,
    version: i16,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<(), Refusal> {
    let refuse = |message: &str| Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    let is_blank = |text: &Option<Str>| text.as_ref().is_some_and(|text| text.trim().is_empty());
    let epoch = request.member_epoch;
    let needs_member_id = version >= OWN_MEMBER_ID_FROM || epoch > 0 || epoch == LEAVE_EPOCH;
    if needs_member_id && request.member_id.trim().is_empty() {
        return refuse("the member has no id");
    }
    if request.group_id.trim().is_empty() {
        return refuse("the group has no name");
    }
    if is_blank(&request.instance_id) {
        return refuse("the name of a static member is not empty");
    }
    if is_blank(&request.rack_id) {
        return refuse("the name of a rack is not empty");
    }
    match epoch {
        0 if request.rebalance_timeout_ms == -1 => {
            return refuse("who joins says how long it needs for giving up partitions");
        }
        0 if !request.topic_partitions.as_ref().is_some_and(Vec::is_empty) => {
            return refuse("who joins owns no partitions, and says so");
        }
        0 if request.subscribed_topic_names.is_none()
            && request.subscribed_topic_regex.is_none() =>
        {
            return refuse("who joins subscribes to something");
        }
        LEAVE_STATIC_EPOCH if request.instance_id.is_none() => {
            return refuse("only static members leave for a while");
        }
        ..LEAVE_STATIC_EPOCH => return refuse("there is no such member epoch"),
        _ => {}
    }
    match &request.server_assignor {
        Some(name)
            if !config
                .consumer_group_assignors
                .iter()
                .any(|known| known.name() == &**name) =>
        {
            let known: Vec<&str> = Assignor::ALL.iter().map(|known| known.name()).collect();
            let message = format!(
                "there is no assignor {name}; known are {}",
                known.join(", ")
            );
            Err(Refusal::new(ErrorCode::UNSUPPORTED_ASSIGNOR, message))
        }
        _ => Ok(()),
    }
}

/// The answer to a heartbeat that is refused.
pub(in crate::group) fn refuse_heartbeat(
    error_code: ErrorCode,
    message: impl Into<Str>,
) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code,
        error_message: Some(message.into()),
        ..Default::default()
    }
}
