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
/// Partitions are striped over the racks and, within a rack, over its brokers, beginning at a random place:
///
/// ```text
/// racks A {1, 2}, B {3, 4}, C {5, 6}, two replicas:   1 3 · 4 5 · 6 2 · 1 4 · ...
/// ```
///
/// So the replicas of a partition are in different racks as far as there are racks, every broker leads its share, and the
/// followers of one leader are not always the same. Brokers that are not active come last within their rack.
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

/// The brokers of one rack in one state, read round by round, each time beginning one further.
#[derive(Debug, Default)]
struct Ring {
    brokers: Vec<NodeId>,
    offset: usize,
    taken: usize,
}

impl Ring {
    /// Where the first round begins, when each round begins with [`Ring::begin`].
    fn begin_anywhere(&mut self, random: &mut Random) {
        if !self.brokers.is_empty() {
            self.offset = random.below(self.brokers.len());
        }
    }

    fn begin(&mut self) {
        self.taken = 0;
        if !self.brokers.is_empty() {
            self.offset = (self.offset + 1) % self.brokers.len();
        }
    }

    fn take(&mut self) -> Option<NodeId> {
        if self.taken == self.brokers.len() {
            return None;
        }
        self.taken += 1;
        Some(self.brokers[(self.offset + self.taken - 1) % self.brokers.len()])
    }
}

#[derive(Debug, Default)]
struct Rack {
    active: Ring,
    others: Ring,
    /// The round in which brokers were last taken from here.
    round: Option<usize>,
}

impl Rack {
    fn begin(&mut self, round: usize) {
        if self.round != Some(round) {
            self.round = Some(round);
            self.active.begin();
            self.others.begin();
        }
    }

    fn take_active(&mut self, round: usize) -> Option<NodeId> {
        self.begin(round);
        self.active.take()
    }

    fn take(&mut self, round: usize) -> Option<NodeId> {
        self.begin(round);
        self.active.take().or_else(|| self.others.take())
    }
}

struct Stripes {
    racks: Vec<Rack>,
    /// The rack at which the next partition begins.
    first: usize,
    round: usize,
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
            active += usize::from(candidate.active);
            let rack = racks.entry(candidate.rack).or_default();
            let ring = if candidate.active {
                &mut rack.active
            } else {
                &mut rack.others
            };
            ring.brokers.push(candidate.id);
        }
        let mut racks: Vec<Rack> = racks.into_values().collect();
        for rack in &mut racks {
            rack.active.begin_anywhere(random);
            rack.others.begin_anywhere(random);
        }
        let first = if racks.is_empty() {
            0
        } else {
            random.below(racks.len())
        };
        Self {
            racks,
            first,
            round: 0,
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
            if let Some(leader) = self.racks[rack].take_active(self.round) {
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
            } else if let Some(follower) = self.racks[rack].take(self.round) {
                replicas.push(follower);
            }
            rack = (rack + 1) % count;
        }
        self.first = (self.first + 1) % count;
        self.round += 1;
        self.since_shuffle += 1;
        replicas
    }

    fn shuffle(&mut self, random: &mut Random) {
        self.since_shuffle = 0;
        random.shuffle(&mut self.racks);
        for rack in &mut self.racks {
            random.shuffle(&mut rack.active.brokers);
            random.shuffle(&mut rack.others.brokers);
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
        let spec = [
            (1, "a", true),
            (2, "a", true),
            (3, "b", true),
            (4, "b", true),
            (5, "c", true),
            (6, "c", true),
        ];
        for seed in 0..20 {
            let placed = place(candidates(&spec), 6, 3, &mut random(seed)).unwrap();
            let leaders: BTreeSet<NodeId> = placed.iter().map(|replicas| replicas[0]).collect();
            assert_eq!(leaders.len(), 6, "{placed:?}");
            for replicas in &placed {
                let racks: BTreeSet<i32> = replicas.iter().map(|id| (id.value() - 1) / 2).collect();
                assert_eq!(racks.len(), 3, "{placed:?}");
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
