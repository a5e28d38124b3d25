//! What is under way to whom: one request to a node at a time, and a pause after each that brought no answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidelog_types::NodeId;

/// Somebody to whom requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    Node(NodeId),
    /// One of the bootstrap servers, whoever that is.
    Bootstrap(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { request_id: u64, until: Instant },
    BackingOff { until: Instant },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connections {
    /// Who is not here is ready.
    states: BTreeMap<Peer, State>,
    next_request_id: u64,
    request_timeout: Duration,
    retry_backoff: Duration,
}

impl Connections {
    pub(super) const fn new(request_timeout: Duration, retry_backoff: Duration) -> Self {
        Self {
            states: BTreeMap::new(),
            next_request_id: 0,
            request_timeout,
            retry_backoff,
        }
    }

    /// Answers to all that was sent are of no interest any more.
    pub(super) fn reset(&mut self) {
        self.states.clear();
    }

    /// Whoever has not answered in time gets a pause.
    pub(super) fn expire(&mut self, now: Instant) {
        let retry_backoff = self.retry_backoff;
        self.states.retain(|_, state| match *state {
            State::Waiting { until, .. } if until <= now => {
                *state = State::BackingOff {
                    until: now + retry_backoff,
                };
                true
            }
            State::Waiting { .. } => true,
            State::BackingOff { until } => until > now,
        });
    }

    pub(super) fn is_ready(&self, peer: Peer) -> bool {
        !self.states.contains_key(&peer)
    }

    pub(super) fn is_backing_off(&self, peer: Peer) -> bool {
        matches!(self.states.get(&peer), Some(State::BackingOff { .. }))
    }

    pub(super) fn is_waiting_for_any(&self) -> bool {
        self.states
            .values()
            .any(|state| matches!(state, State::Waiting { .. }))
    }

    /// Notes a request; gives its id.
    pub(super) fn sent(&mut self, now: Instant, peer: Peer) -> u64 {
        let request_id = self.next_request_id;
        self.next_request_id += 1;
        let until = now + self.request_timeout;
        self.states
            .insert(peer, State::Waiting { request_id, until });
        request_id
    }

    /// Who has answered, if the answer is still awaited.
    pub(super) fn answered(&mut self, request_id: u64) -> Option<Peer> {
        let awaited = |state: &State| matches!(state, State::Waiting { request_id: id, .. } if *id == request_id);
        let peer = self
            .states
            .iter()
            .find_map(|(peer, state)| awaited(state).then_some(*peer))?;
        self.states.remove(&peer);
        Some(peer)
    }

    #[cfg(test)]
    pub(super) fn awaits(&self, request_id: u64) -> bool {
        let awaited = |state: &State| matches!(state, State::Waiting { request_id: id, .. } if *id == request_id);
        self.states.values().any(awaited)
    }

    pub(super) fn back_off(&mut self, now: Instant, peer: Peer) {
        let until = now + self.retry_backoff;
        self.states.insert(peer, State::BackingOff { until });
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.states
            .values()
            .map(|state| match *state {
                State::Waiting { until, .. } | State::BackingOff { until } => until,
            })
            .min()
    }
}
