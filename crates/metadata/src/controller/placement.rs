//! Which brokers get the replicas of new partitions.

use std::collections::BTreeMap;

use tidelog_types::{NodeId, Str};

use super::random::Random;

/// A broker on which replicas may be placed.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) id: NodeId,
    pub(super) rack: Option<Str>,
    /// Whether it can lead. The first replica of a partition must be able to.
    pub(super) active: bool,
}

/// Why there is no placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unplaceable {
    NoActiveBroker,
    TooFewBrokers { known: usize },
}

/// Replicas for each of `partitions` partitions, the preferred leader first.
///
/// Partitions are striped over the racks and, within a rack, over its brokers, beginning at random places:
///
/// ```text
/// racks A {1, 2}, B {3, 4}, C {5, 6}, two replicas:   1 3 · 3 5 · 5 1 · 2 4 · 4 6 · 6 2 · ...
/// ```
///
/// So the replicas of a partition are in different racks as far as there are racks, every broker of a rack leads equally
/// often, and the followers of one leader are not always the same. Brokers that are not active come last within their rack.
/// Kafka turns leaders and followers of a rack in one circle, and with as many brokers in a rack as there are racks the same
/// ones lead again and again; here each has a circle of its own.
pub(super) fn place(
    candidates: impl IntoIterator<Item = Candidate>,
    partitions: usize,
    replication_factor: usize,
    random: &mut Random,
) -> Result<Vec<Vec<NodeId>>, Unplaceable> {
    let mut stripes = Stripes::new(candidates, random);
    if stripes.active == 0 {
        return Err(Unplaceable::NoActiveBroker);
    }
    if replication_factor > stripes.known {
        return Err(Unplaceable::TooFewBrokers {
            known: stripes.known,
        });
    }
    Ok((0..partitions)
        .map(|_| stripes.next(replication_factor, random))
        .collect())
}

/// Brokers that take turns.
#[derive(Clone, Debug, Default)]
struct Circle {
    brokers: Vec<NodeId>,
    next: usize,
}

impl Circle {
    fn begin_anywhere(&mut self, random: &mut Random) {
        if !self.brokers.is_empty() {
            self.next = random.below(self.brokers.len());
        }
    }

    /// The next one that is not among the `taken`.
    fn take(&mut self, taken: &[NodeId]) -> Option<NodeId> {
        let count = self.brokers.len();
        let turns = (0..count).map(|i| (self.next + i) % count);
        let turn = turns
            .into_iter()
            .find(|turn| !taken.contains(&self.brokers[*turn]))?;
        self.next = (turn + 1) % count;
        Some(self.brokers[turn])
    }
}

/// The brokers of one rack.
#[derive(Clone, Debug, Default)]
struct Rack {
    /// The active ones, taking turns as leaders.
    leaders: Circle,
    /// The active ones, taking turns as followers.
    followers: Circle,
    /// The others.
    inactive: Circle,
}

impl Rack {
    fn circles(&mut self) -> [&mut Circle; 3] {
        [&mut self.leaders, &mut self.followers, &mut self.inactive]
    }

    fn follower(&mut self, taken: &[NodeId]) -> Option<NodeId> {
        self.followers
            .take(taken)
            .or_else(|| self.inactive.take(taken))
    }
}

struct Stripes {
    racks: Vec<Rack>,
    /// The rack at which the next partition begins.
    first: usize,
    since_shuffle: usize,
    active: usize,
    known: usize,
}

impl Stripes {
    fn new(candidates: impl IntoIterator<Item = Candidate>, random: &mut Random) -> Self {
        let mut racks: BTreeMap<Option<Str>, Rack> = BTreeMap::new();
        let (mut active, mut known) = (0, 0);
        for candidate in candidates {
            known += 1;
            let rack = racks.entry(candidate.rack).or_default();
            if candidate.active {
                active += 1;
                rack.leaders.brokers.push(candidate.id);
                rack.followers.brokers.push(candidate.id);
            } else {
                rack.inactive.brokers.push(candidate.id);
            }
        }
        let mut racks: Vec<Rack> = racks.into_values().collect();
        for circle in racks.iter_mut().flat_map(Rack::circles) {
            circle.begin_anywhere(random);
        }
        let first = if racks.is_empty() {
            0
        } else {
            random.below(racks.len())
        };
        Self {
            racks,
            first,
            since_shuffle: 0,
            active,
            known,
        }
    }

    /// The replicas of the next partition. There are enough brokers.
    fn next(&mut self, replication_factor: usize, random: &mut Random) -> Vec<NodeId> {
        // Once every broker has led, the pattern would repeat itself.
        if self.since_shuffle == self.active && self.active > 1 {
            self.shuffle(random);
        }
        let count = self.racks.len();
        let mut replicas = Vec::with_capacity(replication_factor);
        let mut rack = self.first;
        let leader_rack = loop {
            if let Some(leader) = self.racks[rack].leaders.take(&[]) {
                replicas.push(leader);
                break rack;
            }
            rack = (rack + 1) % count;
        };
        rack = self.first;
        let mut leader_rack_had_its_turn = false;
        while replicas.len() < replication_factor {
            if rack == leader_rack && !leader_rack_had_its_turn {
                leader_rack_had_its_turn = true;
            } else if let Some(follower) = self.racks[rack].follower(&replicas) {
                replicas.push(follower);
            }
            rack = (rack + 1) % count;
        }
        self.first = (self.first + 1) % count;
        self.since_shuffle += 1;
        replicas
    }

    fn shuffle(&mut self, random: &mut Random) {
        self.since_shuffle = 0;
        random.shuffle(&mut self.racks);
        for circle in self.racks.iter_mut().flat_map(Rack::circles) {
            random.shuffle(&mut circle.brokers);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn candidates(spec: &[(i32, &str, bool)]) -> Vec<Candidate> {
        let candidate = |(id, rack, active): &(i32, &str, bool)| Candidate {
            id: NodeId::new(*id),
            rack: (!rack.is_empty()).then(|| Str::from(*rack)),
            active: *active,
        };
        spec.iter().map(candidate).collect()
    }

    fn random(seed: u8) -> Random {
        Random::new([seed; 32])
    }

    #[test]
    fn without_enough_brokers_there_is_no_placement() {
        let place = |spec: &[_], factor| place(candidates(spec), 1, factor, &mut random(1));
        assert_eq!(place(&[], 1), Err(Unplaceable::NoActiveBroker));
        assert_eq!(
            place(&[(1, "", false)], 1),
            Err(Unplaceable::NoActiveBroker)
        );
        assert_eq!(
            place(&[(1, "", true)], 2),
            Err(Unplaceable::TooFewBrokers { known: 1 })
        );
        assert_eq!(place(&[(1, "", true)], 1), Ok(vec![vec![NodeId::new(1)]]));
    }

    #[test]
    fn racks_come_before_brokers_and_every_broker_leads_its_share() {
        // As many brokers in a rack as there are racks, and not.
        for (racks, brokers) in [(3, 3), (3, 2), (2, 2), (1, 4)] {
            let spec: Vec<(i32, String)> = (0..racks * brokers)
                .map(|id| (id, format!("rack-{}", id / brokers)))
                .collect();
            let spec: Vec<(i32, &str, bool)> = spec
                .iter()
                .map(|(id, rack)| (*id, rack.as_str(), true))
                .collect();
            for seed in 0..20 {
                let count = spec.len() * 2;
                let placed = place(candidates(&spec), count, 3, &mut random(seed)).unwrap();
                let leads = |id: i32| placed.iter().filter(|r| r[0] == NodeId::new(id)).count();
                assert!((0..racks * brokers).all(|id| leads(id) == 2), "{placed:?}");
                for replicas in &placed {
                    let used: BTreeSet<i32> =
                        replicas.iter().map(|id| id.value() / brokers).collect();
                    assert_eq!(used.len() as i32, racks.min(3), "{placed:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn placements_are_valid(
            brokers in proptest::collection::vec((0..4_u8, any::<bool>()), 1..12),
            partitions in 1..40_usize,
            factor in 1..6_usize,
            seed: u8,
        ) {
            let candidates: Vec<Candidate> = brokers
                .iter()
                .enumerate()
                .map(|(id, (rack, active))| Candidate {
                    id: NodeId::new(id as i32),
                    rack: (*rack > 0).then(|| Str::from(format!("rack-{rack}"))),
                    active: *active,
                })
                .collect();
            let active = brokers.iter().any(|(_, active)| *active);
            match place(candidates, partitions, factor, &mut random(seed)) {
                Ok(placed) => {
                    prop_assert_eq!(placed.len(), partitions);
                    for replicas in placed {
                        let distinct: BTreeSet<NodeId> = replicas.iter().copied().collect();
                        prop_assert_eq!(distinct.len(), factor);
                        prop_assert!(brokers[replicas[0].value() as usize].1, "the leader is active");
                    }
                }
                Err(Unplaceable::NoActiveBroker) => prop_assert!(!active),
                Err(Unplaceable::TooFewBrokers { known }) => {
                    prop_assert!(active && known == brokers.len() && factor > known);
                }
            }
        }
    }
}
