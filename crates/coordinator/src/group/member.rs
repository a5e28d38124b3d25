use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;
use tidelog_protocol::messages::join_group::JoinGroupRequest;
use tidelog_types::Str;

use super::ClientInfo;
use super::history::Who;
use super::timers::TimerId;

/// A request that waits for the rest of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parked {
    pub(super) request_id: u64,
    pub(super) version: i16,
}

/// A way of assigning partitions that a member can take part in, with what the leader has to know of the member for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) name: Str,
    pub(super) metadata: Bytes,
}

/// A JoinGroup request, checked and copied out of the network buffer, since what it says is kept for long.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    pub(super) parked: Parked,
    pub(super) member_id: Str,
    pub(super) instance_id: Option<Str>,
    pub(super) client_id: Str,
    pub(super) client_host: Str,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    pub(super) protocol_type: Str,
    pub(super) protocols: Vec<Protocol>,
    /// Why it joins, in its own words (KIP-800).
    pub(super) reason: Option<Str>,
}

impl Joining {
    pub(super) fn new(client: &ClientInfo, parked: Parked, request: &JoinGroupRequest) -> Self {
        let mut protocols: Vec<Protocol> = Vec::with_capacity(request.protocols.len());
        let mut names = HashSet::new();
        for protocol in &request.protocols {
            // A name that comes twice must not count as two votes.
            if names.insert(&*protocol.name) {
                let metadata = Bytes::copy_from_slice(&protocol.metadata);
                protocols.push(Protocol {
                    name: protocol.name.detach(),
                    metadata,
                });
            }
        }
        Self {
            parked,
            member_id: request.member_id.detach(),
            instance_id: request.group_instance_id.as_ref().map(Str::detach),
            client_id: client.client_id.detach(),
            client_host: client.client_host.detach(),
            // Version 0 has no time for the rebalance: the session counts.
            rebalance_timeout_ms: match request.rebalance_timeout_ms {
                ..0 => request.session_timeout_ms,
                millis => millis,
            },
            session_timeout_ms: request.session_timeout_ms,
            protocol_type: request.protocol_type.detach(),
            protocols,
            reason: request.reason.as_ref().map(Str::detach),
        }
    }
}

/// A member of a classic group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) member_id: Str,
    /// `group.instance.id`: the member is static (KIP-345).
    pub(super) instance_id: Option<Str>,
    pub(super) client_id: Str,
    pub(super) client_host: Str,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// Members that joined earlier have a smaller number.
    pub(super) joined: u64,
    /// The member has not been through a rebalance, and may not even know its id.
    pub(super) is_new: bool,
    pub(super) awaiting_join: Option<Parked>,
    pub(super) awaiting_sync: Option<Parked>,
    /// The member has not asked for its assignment of this generation.
    pub(super) owes_sync: bool,
    pub(super) session: Session,
}

/// When a member counts as gone. A heartbeat only moves `deadline`; the timer follows when it fires, so that a heartbeat costs
/// no work in the queue of timers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) deadline: Instant,
    pub(super) timer: Option<TimerId>,
}

impl Member {
    pub(super) fn who(&self) -> Who {
        Who {
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
        }
    }

    pub(super) fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// What the leader is told about this member.
    pub(super) fn metadata(&self, protocol_name: &str) -> Bytes {
        let protocol = self
            .protocols
            .iter()
            .find(|protocol| protocol.name == *protocol_name);
        protocol
            .map(|protocol| protocol.metadata.clone())
            .unwrap_or_default()
    }

    /// A member whose request is parked cannot send heartbeats and is alive, unless it is new: then it may have gone away
    /// without having heard of its id, and only time tells.
    pub(super) const fn is_excused_from_heartbeats(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}
