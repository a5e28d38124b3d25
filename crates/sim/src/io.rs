//! What a node sees of the world while it does something.

use std::fmt::Write as _;

use crate::check::Oracle;
use crate::clock::Time;
use crate::event::{Event, Queue};
use crate::message::Message;
use crate::network::{Network, Place};
use crate::planted::Bug;
use crate::random::Random;

pub(crate) struct Io<'a> {
    pub(crate) now: Time,
    pub(crate) random: &'a mut Random,
    pub(crate) queue: &'a mut Queue,
    pub(crate) network: &'a mut Network,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) trace: &'a mut Trace,
    pub(crate) bug: Option<Bug>,
}

impl Io<'_> {
    pub(crate) fn send(&mut self, from: Place, to: Place, message: Message) {
        if from == to {
            // Within a node nothing is lost, but nothing is at once either.
            let breaks = self.network.breaks_of(from, to);
            let event = Event::Deliver {
                from,
                to,
                breaks,
                message,
            };
            self.queue.push(self.now + 1_000, event);
            return;
        }
        let sent = self
            .network
            .send(self.now, self.random, (from, to), message);
        if let Some((at, breaks, message)) = sent {
            let event = Event::Deliver {
                from,
                to,
                breaks,
                message,
            };
            self.queue.push(at, event);
        }
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Puts a line into the trace, if somebody reads it.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        self.trace.say(self.now, line);
    }
}

/// What has happened, as a number always, and in words on demand.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
    pub(crate) events_count: u64,
}

impl Trace {
    pub(crate) fn new(in_words: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: in_words.then(Vec::new),
            events_count: 0,
        }
    }

    pub(crate) const fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(17);
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn say(&mut self, now: Time, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let mut text = format!("{:>4}.{:06} ", now / 1_000_000_000, now / 1_000 % 1_000_000);
            // Writing to a string does not fail.
            let _ = write!(text, "{}", line());
            lines.push(text);
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
