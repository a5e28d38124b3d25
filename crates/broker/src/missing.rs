//! Brokers with which this node has just lost contact.
//!
//! A client whose connection to a leader breaks asks another broker at once who leads now, and that is before anybody can
//! know. If it is told of the former leader, it tries that one, and asks again when it has been patient for long enough: a
//! second, with some. So the answer waits for the moment that it takes the controller to decide ([`AWAITED_MAX`]).
//!
//! And for a while it goes on naming the broker that is gone among the others ([`NAMED_FOR`]), as it would as long as the broker's
//! session lasts. librdkafka drops a broker that is no longer named, with the partitions on it, before it reads who leads them
//! now, and is without a leader for another second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tidelog_metadata::image::{BrokerImage, Image};
use tidelog_types::NodeId;

use crate::peers::Contact;

/// How long an answer waits for the controller to notice what this node has noticed.
const AWAITED_MAX: Duration = Duration::from_millis(750);
/// How long clients are told of a broker that is gone.
const NAMED_FOR: Duration = Duration::from_secs(2);

/// Who is missed, and since when.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    image: Arc<ArcSwap<Image>>,
    lost: Mutex<HashMap<NodeId, Lost>>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    broker_epoch: i64,
    since: Instant,
}

impl Missing {
    pub(crate) fn new(image: Arc<ArcSwap<Image>>) -> Self {
        Self {
            image,
            lost: Mutex::default(),
        }
    }

    /// What has become of a connection to a broker.
    pub(crate) fn note(&self, broker: NodeId, contact: Contact, now: Instant) {
        let mut lost = self.lost.lock();
        lost.retain(|_, lost| now < lost.since + NAMED_FOR);
        if contact == Contact::Made {
            lost.remove(&broker);
            return;
        }
        let image = self.image.load();
        let Some(registered) = image.broker(broker) else {
            return;
        };
        let broker_epoch = registered.epoch;
        let is_known = lost
            .get(&broker)
            .is_some_and(|lost| lost.broker_epoch == broker_epoch);
        // Of one that is fenced nobody need be told any more.
        if !is_known && !registered.fenced {
            let since = now;
            lost.insert(
                broker,
                Lost {
                    broker_epoch,
                    since,
                },
            );
        }
    }

    /// Until when it may be waited for the controller to fence brokers that lead something in `image`, where `leads` tells
    /// that; `None` if there is nobody whom that concerns.
    pub(crate) fn awaited(
        &self,
        image: &Image,
        leads: impl Fn(NodeId) -> bool,
        now: Instant,
    ) -> Option<Instant> {
        let lost = self.lost.lock();
        let awaited = lost.iter().filter(|(id, lost)| {
            image
                .broker(**id)
                .is_some_and(|broker| broker.epoch == lost.broker_epoch && !broker.fenced)
        });
        let deadlines = awaited.map(|(id, lost)| (*id, lost.since + AWAITED_MAX));
        let mut deadlines = deadlines.filter(|(id, deadline)| now < *deadline && leads(*id));
        deadlines.next().map(|(_, deadline)| deadline)
    }

    /// Whether a broker is fenced, but clients are still told of it.
    pub(crate) fn is_named(&self, broker: &BrokerImage, now: Instant) -> bool {
        let lost = self.lost.lock();
        lost.get(&broker.id)
            .is_some_and(|lost| lost.broker_epoch == broker.epoch && now < lost.since + NAMED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::records::metadata::{
        BrokerRegistrationChangeRecord, MetadataRecord, RegisterBrokerRecord,
    };

    use super::*;

    const BROKER: NodeId = NodeId::new(2);

    fn registered(epoch: i64) -> MetadataRecord {
        RegisterBrokerRecord {
            broker_id: BROKER,
            broker_epoch: epoch,
            fenced: false,
            ..Default::default()
        }
        .into()
    }

    fn fenced(epoch: i64) -> MetadataRecord {
        BrokerRegistrationChangeRecord {
            broker_id: BROKER,
            broker_epoch: epoch,
            fenced: 1,
            ..Default::default()
        }
        .into()
    }

    struct World {
        missing: Missing,
        image: Image,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self {
                missing: Missing::default(),
                image: Image::default(),
                now: Instant::now(),
            };
            world.apply(&registered(7));
            world
        }

        fn apply(&mut self, record: &MetadataRecord) {
            self.image.apply(record).unwrap();
            self.missing.image.store(Arc::new(self.image.clone()));
        }

        fn note(&self, contact: Contact) {
            self.missing.note(BROKER, contact, self.now);
        }

        fn is_awaited(&self) -> bool {
            let awaited = self.missing.awaited(&self.image, |_| true, self.now);
            awaited.is_some()
        }

        fn is_named(&self) -> bool {
            let broker = self.image.broker(BROKER).unwrap();
            self.missing.is_named(broker, self.now)
        }
    }

    #[test]
    fn the_controller_is_awaited_until_it_has_decided() {
        let mut world = World::new();
        assert!(!world.is_awaited() && !world.is_named());
        world.note(Contact::Lost);
        assert!(world.is_awaited());
        let leads_nothing = world.missing.awaited(&world.image, |_| false, world.now);
        assert_eq!(leads_nothing, None);
        world.apply(&fenced(7));
        assert!(!world.is_awaited() && world.is_named());
        world.now += NAMED_FOR;
        assert!(!world.is_named());
        // That nobody listens there is no news any more.
        world.note(Contact::Refused);
        assert!(!world.is_named());
    }

    #[test]
    fn a_controller_that_does_not_notice_is_not_awaited_for_long() {
        let mut world = World::new();
        world.note(Contact::Lost);
        world.now += AWAITED_MAX / 2;
        world.note(Contact::Refused);
        assert!(world.is_awaited());
        world.now += AWAITED_MAX / 2;
        assert!(!world.is_awaited());
    }

    #[test]
    fn who_is_back_is_not_missed() {
        let mut world = World::new();
        world.note(Contact::Lost);
        world.note(Contact::Made);
        assert!(!world.is_awaited() && !world.is_named());
        world.note(Contact::Lost);
        world.apply(&registered(9));
        assert!(!world.is_awaited() && !world.is_named());
    }
}
