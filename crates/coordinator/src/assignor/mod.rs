//! Dividing partitions among the members of a group, on the server (KIP-848).
//!
//! An [`Assignor`] is a function of what the members subscribe to, how many partitions there are, and who is to have what so
//! far. It knows nothing of epochs, of who really holds a partition at the moment, or of time. Racks are not looked at, as in
//! Kafka since 4.0.
//!
//! ```
//! use std::collections::{BTreeMap, BTreeSet};
//!
//! use tidelog_coordinator::assignor::{Assignor, MemberSpec, Partitions};
//! use tidelog_types::Uuid;
//!
//! let orders = Uuid::from_bytes([1; 16]);
//! let (topics, nothing) = (BTreeSet::from([orders]), Partitions::new());
//! let member = |member_id| MemberSpec { member_id, instance_id: None, topics: &topics, assigned: &nothing };
//!
//! let partitions = BTreeMap::from([(orders, 3)]);
//! let assigned = Assignor::Uniform.assign(&[member("a"), member("b")], &partitions);
//! assert_eq!(assigned[0][&orders].len(), 2);
//! assert_eq!(assigned[1][&orders].len(), 1);
//! ```

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use tidelog_types::{PartitionIndex, TopicId};

/// Partitions by topic; a topic has at least one.
pub type Partitions = BTreeMap<TopicId, BTreeSet<PartitionIndex>>;

/// What an assignor has to know of a member.
#[derive(Clone, Copy, Debug)]
pub struct MemberSpec<'a> {
    /// Its id.
    pub member_id: &'a str,
    /// The name under which a static member survives restarts.
    pub instance_id: Option<&'a str>,
    /// The topics to which it subscribes, as far as they exist.
    pub topics: &'a BTreeSet<TopicId>,
    /// What it was to have so far.
    pub assigned: &'a Partitions,
}

/// A way of dividing partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Assignor {
    /// As many partitions for each member as for any other, if the subscriptions allow it, and as few changes as possible.
    Uniform,
    /// Neighbouring partitions of each topic for each member, the same numbers of all topics for the same member, so that
    /// topics with the same keys can be joined.
    Range,
}

impl Assignor {
    /// Every assignor; the first is the default of the broker.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// The name by which members ask for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    /// Divides the partitions: what each member is to have, in the order of `members`. `partitions` says how many partitions
    /// each topic has; a topic that it does not name is left out.
    pub fn assign(
        self,
        members: &[MemberSpec<'_>],
        partitions: &BTreeMap<TopicId, i32>,
    ) -> Vec<Partitions> {
        match self {
            Self::Uniform => uniform::assign(members, partitions),
            Self::Range => range::assign(members, partitions),
        }
    }
}
