//! The network: connections that deliver in order, late, or not at all.
//!
//! What is sent over a link that is cut waits, as TCP repeats it, and arrives when the link is whole again, unless a
//! connection broke meanwhile. Who asked may have given up by then.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{MS, Time};
use crate::message::Message;
use crate::random::Random;

/// A node, or a client (from [`CLIENTS`] on).
pub(crate) type Place = i32;

/// Whoever has a number from here on is a client.
pub(crate) const CLIENTS: Place = 1000;

/// Whoever has a number from here on is a writer.
pub(crate) const WRITERS: Place = 1500;

/// Whoever has a number from here on is a consumer of a group.
pub(crate) const CONSUMERS: Place = 2000;

#[derive(Debug, Default)]
pub(crate) struct Network {
    /// When the last message of a connection arrives: none overtakes another.
    last: BTreeMap<(Place, Place, u8), Time>,
    /// How often the connections between two places were broken. What was sent before is lost.
    breaks: BTreeMap<(Place, Place), u32>,
    cut: BTreeSet<(Place, Place)>,
    held: BTreeMap<(Place, Place), Vec<Message>>,
    /// Messages from and to here are slow.
    pub(crate) slow: BTreeSet<Place>,
}

const fn pair(a: Place, b: Place) -> (Place, Place) {
    if a < b { (a, b) } else { (b, a) }
}

impl Network {
    /// When a message arrives, and over which connection; it comes back if the link is cut.
    pub(crate) fn send(
        &mut self,
        now: Time,
        random: &mut Random,
        (from, to): (Place, Place),
        message: Message,
    ) -> Option<(Time, u32, Message)> {
        if self.cut.contains(&(from, to)) {
            self.held.entry((from, to)).or_default().push(message);
            return None;
        }
        let mut delay = random.between(MS / 10, MS);
        if random.one_in(100) {
            delay += random.below(30 * MS);
        }
        if self.slow.contains(&from) || self.slow.contains(&to) {
            delay += random.below(400 * MS);
        }
        let last = self.last.entry((from, to, message.lane())).or_default();
        *last = (now + delay).max(*last + 1);
        Some((*last, self.breaks_of(from, to), message))
    }

    /// How often connections between the two were broken.
    pub(crate) fn breaks_of(&self, a: Place, b: Place) -> u32 {
        self.breaks.get(&pair(a, b)).copied().unwrap_or(0)
    }

    /// Breaks the connections between the two.
    pub(crate) fn break_between(&mut self, a: Place, b: Place) {
        *self.breaks.entry(pair(a, b)).or_default() += 1;
        self.held.remove(&(a, b));
        self.held.remove(&(b, a));
        self.last
            .retain(|(from, to, _), _| pair(*from, *to) != pair(a, b));
    }

    pub(crate) fn cut(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    pub(crate) fn is_cut(&self, from: Place, to: Place) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Makes a link whole again; gives what has waited.
    pub(crate) fn mend(&mut self, from: Place, to: Place) -> Vec<Message> {
        self.cut.remove(&(from, to));
        self.held.remove(&(from, to)).unwrap_or_default()
    }

    /// All links that are cut.
    pub(crate) fn cuts(&self) -> Vec<(Place, Place)> {
        self.cut.iter().copied().collect()
    }
}
