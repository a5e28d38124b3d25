//! A member, whichever protocol it speaks.

use std::time::Instant;

use tidelog_types::{Now, Str, TopicPartition};

use super::{ClassicMember, Effect, Input, Member};

/// A member by one protocol or the other.
#[derive(Debug)]
pub enum AnyMember {
    /// KIP-848.
    Consumer(Box<Member>),
    /// The protocol before.
    Classic(Box<ClassicMember>),
}

impl AnyMember {
    /// Takes in what has happened, and adds what is to be done to `effects`.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match self {
            Self::Consumer(member) => member.handle(now, input, effects),
            Self::Classic(member) => member.handle(now, input, effects),
        }
    }

    /// When something is due though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Consumer(member) => member.deadline(),
            Self::Classic(member) => member.deadline(),
        }
    }

    /// The member's id, and its epoch or generation, if it is one.
    pub fn identity(&self) -> Option<(Str, i32)> {
        match self {
            Self::Consumer(member) => member.identity(),
            Self::Classic(member) => member.identity(),
        }
    }

    /// Whether the group may be in another epoch or generation than this one, of which the member is about to hear.
    pub fn may_have_left(&self, epoch: i32) -> bool {
        let is_joining = match self {
            Self::Consumer(_) => false,
            Self::Classic(member) => member.is_joining(),
        };
        is_joining || self.identity().is_some_and(|(_, now)| now != epoch)
    }

    /// What the application is to give up, and the number of the demand.
    pub fn demand(&self) -> Option<(u64, Vec<TopicPartition>)> {
        match self {
            Self::Consumer(member) => member.demand(),
            Self::Classic(member) => member.demand(),
        }
    }
}
