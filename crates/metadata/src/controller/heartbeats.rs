//! What the controller hears from the brokers: who is alive, and how far each has read the metadata.
//!
//! Nothing of it is in the log. A new controller gives every broker that is not fenced a fresh session, and learns the
//! rest from the next heartbeats.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidelog_types::{NodeId, Offset};

use super::BrokerEpoch;
use crate::image::{BrokerImage, Image};

/// The sessions of all registered brokers.
#[derive(Clone, Debug)]
pub(super) struct Heartbeats {
    session_timeout: Duration,
    sessions: BTreeMap<NodeId, Session>,
}

#[derive(Clone, Debug)]
struct Session {
    broker_epoch: i64,
    /// When the broker was last heard of; `None` as long as it never was, and when its session was ended.
    last_contact: Option<Instant>,
    /// The last offset of the metadata log that the broker has applied; -1 when it has not said.
    metadata_offset: Offset,
    /// Who has applied this offset has read the registration.
    registration_offset: Offset,
    /// While the broker shuts down in order: who has applied this offset knows that it leads nothing any more.
    shutdown_offset: Option<Offset>,
}

impl Heartbeats {
    /// Fresh sessions for the brokers of `image`, which is the log up to `end_offset`.
    pub(super) fn new(
        now: Instant,
        session_timeout: Duration,
        image: &Image,
        end_offset: Offset,
    ) -> Self {
        let last_offset = before(end_offset);
        let session = |broker: &BrokerImage| Session {
            last_contact: (!broker.fenced).then_some(now),
            // Where in the log the move was is not known any more, but it is in there.
            shutdown_offset: broker.in_controlled_shutdown.then_some(last_offset),
            ..Session::new(broker.epoch, last_offset)
        };
        let sessions = image.brokers().map(|broker| (broker.id, session(broker)));
        Self {
            session_timeout,
            sessions: sessions.collect(),
        }
    }

    /// A broker was registered, changed or unregistered by records that end at `end_offset`.
    pub(super) fn follow(&mut self, id: NodeId, broker: Option<&BrokerImage>, end_offset: Offset) {
        match (broker, self.sessions.get(&id)) {
            (None, _) => {
                self.sessions.remove(&id);
            }
            (Some(broker), Some(session)) if session.broker_epoch == broker.epoch => {}
            (Some(broker), _) => {
                let session = Session::new(broker.epoch, before(end_offset));
                self.sessions.insert(id, session);
            }
        }
    }

    /// The broker has sent a heartbeat. Answers whether it has read its registration.
    pub(super) fn touch(
        &mut self,
        now: Instant,
        broker: BrokerEpoch,
        metadata_offset: Offset,
    ) -> bool {
        self.session_mut(broker).is_some_and(|session| {
            session.last_contact = Some(now);
            session.metadata_offset = metadata_offset;
            metadata_offset >= session.registration_offset
        })
    }

    /// Ends the session: the broker is gone, and another incarnation may take its place at once.
    pub(super) fn end(&mut self, broker: BrokerEpoch) {
        if let Some(session) = self.session_mut(broker) {
            session.last_contact = None;
        }
    }

    /// The broker's leaderships have moved by records up to `end_offset`, if they had not before.
    pub(super) fn shuts_down(&mut self, broker: BrokerEpoch, end_offset: Offset) {
        if let Some(session) = self.session_mut(broker) {
            let moved = before(end_offset);
            session.shutdown_offset.get_or_insert(moved);
        }
    }

    /// Whether everybody who may be asked by clients knows that the broker leads nothing any more.
    pub(super) fn shutdown_is_known(&self, image: &Image, broker: BrokerEpoch) -> bool {
        let session = self.sessions.get(&broker.broker_id);
        let shutdown_offset = session.and_then(|session| session.shutdown_offset);
        let active = image.brokers().filter(|broker| broker.is_active());
        let mut sessions = active.filter_map(|broker| self.sessions.get(&broker.id));
        sessions.all(|session| Some(session.metadata_offset) >= shutdown_offset)
    }

    /// Whether this incarnation was heard of lately.
    pub(super) fn has_session(&self, now: Instant, broker: BrokerEpoch) -> bool {
        let session = self.sessions.get(&broker.broker_id);
        let session = session.filter(|session| session.broker_epoch == broker.broker_epoch);
        session.is_some_and(|session| self.expiry(session).is_some_and(|expiry| now < expiry))
    }

    /// An unfenced broker whose session is over.
    ///
    /// A controller that comes to see it long after it was over has slept, perhaps with the whole machine, and could not
    /// hear anybody. So everybody may speak again before being judged.
    pub(super) fn stale(&mut self, now: Instant, image: &Image) -> Option<NodeId> {
        let (expiry, id) = self
            .first_expiry(image)
            .filter(|(expiry, _)| *expiry <= now)?;
        let grace = self.session_timeout / 4;
        if now.duration_since(expiry) <= grace {
            return Some(id);
        }
        let excused = now.checked_sub(self.session_timeout - grace);
        for session in self.sessions.values_mut() {
            session.last_contact = session
                .last_contact
                .map(|at| excused.map_or(at, |e| e.max(at)));
        }
        None
    }

    /// When the next session of an unfenced broker is over.
    pub(super) fn deadline(&self, image: &Image) -> Option<Instant> {
        self.first_expiry(image).map(|(expiry, _)| expiry)
    }

    /// Asserts what must hold between two inputs.
    pub(super) fn check(&self, image: &Image) {
        assert_eq!(
            self.sessions.len(),
            image.brokers().count(),
            "a session per broker"
        );
        for broker in image.brokers() {
            let session = self
                .sessions
                .get(&broker.id)
                .expect("every broker has a session");
            assert_eq!(
                session.broker_epoch, broker.epoch,
                "a session is that of an incarnation"
            );
            assert!(
                broker.fenced || session.last_contact.is_some(),
                "broker {} is unfenced without having been heard of",
                broker.id
            );
        }
    }

    fn first_expiry(&self, image: &Image) -> Option<(Instant, NodeId)> {
        let unfenced = image.brokers().filter(|broker| !broker.fenced);
        let expiries = unfenced.filter_map(|broker| {
            let session = self.sessions.get(&broker.id)?;
            Some((self.expiry(session)?, broker.id))
        });
        expiries.min()
    }

    fn expiry(&self, session: &Session) -> Option<Instant> {
        session.last_contact?.checked_add(self.session_timeout)
    }

    fn session_mut(&mut self, broker: BrokerEpoch) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&broker.broker_id);
        session.filter(|session| session.broker_epoch == broker.broker_epoch)
    }
}

impl Session {
    const fn new(broker_epoch: i64, registration_offset: Offset) -> Self {
        Self {
            broker_epoch,
            last_contact: None,
            metadata_offset: Offset::new(-1),
            registration_offset,
            shutdown_offset: None,
        }
    }
}

/// The last offset below `end`.
const fn before(end: Offset) -> Offset {
    Offset::new(end.value() - 1)
}
