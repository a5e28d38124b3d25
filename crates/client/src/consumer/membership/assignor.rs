//! How the leader of a classic group divides partitions.
//!
//! What the broker divides by (KIP-848) looks alike and is another thing: it goes by ids of topics and by what the coordinator knows. Here a
//! member divides by names and by what the others claim to own, which may contradict each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidelog_types::{Str, TopicName, TopicPartition};

use super::Peer;

/// How the leader of a classic group divides partitions (`partition.assignment.strategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Assignor {
    /// Neighbouring partitions of each topic, the same numbers of all topics for the same member.
    Range,
    /// One partition after another, to one member after another.
    RoundRobin,
    /// As even as possible, and then with as few changes as possible. All partitions are given up at each rebalance.
    Sticky,
    /// Like [`Sticky`](Self::Sticky), and only what changes hands is given up (KIP-429), if it is the only one that a consumer has.
    /// What is given up is handed out by another rebalance.
    CooperativeSticky,
}

impl Assignor {
    /// Kafka's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The one of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::Range,
            Self::RoundRobin,
            Self::Sticky,
            Self::CooperativeSticky,
        ];
        all.into_iter().find(|it| it.name() == name)
    }

    /// What each member gets.
    pub(super) fn assign(
        self,
        peers: &[Peer],
        counts: &BTreeMap<TopicName, i32>,
    ) -> Vec<(Str, Vec<TopicPartition>)> {
        let mut order: Vec<&Peer> = peers.iter().collect();
        order.sort_by_key(|peer| {
            let name = peer.instance_id.as_ref().unwrap_or(&peer.member_id);
            (peer.instance_id.is_none(), name.clone())
        });
        let assigned = match self {
            Self::Range => range(&order, counts),
            Self::RoundRobin => round_robin(&order, counts),
            Self::Sticky => sticky(&order, counts),
            Self::CooperativeSticky => hold_back(&order, sticky(&order, counts)),
        };
        let members = order.into_iter().map(|peer| peer.member_id.clone());
        members.zip(assigned).collect()
    }
}

type Assigned = Vec<Vec<TopicPartition>>;

fn subscribers(peers: &[&Peer], topic: &TopicName) -> Vec<usize> {
    let peers = peers.iter().enumerate();
    let peers = peers.filter(|(_, peer)| peer.topics.contains(topic));
    peers.map(|(index, _)| index).collect()
}

fn partitions(counts: &BTreeMap<TopicName, i32>) -> impl Iterator<Item = TopicPartition> {
    counts.iter().flat_map(|(topic, count)| {
        (0..*count).map(|index| TopicPartition::new(topic.clone(), index))
    })
}

fn range(peers: &[&Peer], counts: &BTreeMap<TopicName, i32>) -> Assigned {
    let mut assigned = vec![Vec::new(); peers.len()];
    for (topic, count) in counts {
        let members = subscribers(peers, topic);
        if members.is_empty() {
            continue;
        }
        let each = *count as usize / members.len();
        let more = *count as usize % members.len();
        let mut next = 0;
        for (rank, member) in members.into_iter().enumerate() {
            let length = each + usize::from(rank < more);
            let range = next..next + length as i32;
            next = range.end;
            assigned[member].extend(range.map(|it| TopicPartition::new(topic.clone(), it)));
        }
    }
    assigned
}

fn round_robin(peers: &[&Peer], counts: &BTreeMap<TopicName, i32>) -> Assigned {
    let mut assigned = vec![Vec::new(); peers.len()];
    let mut turn = 0;
    for partition in partitions(counts) {
        let wants = |index: &usize| peers[*index].topics.contains(&partition.topic);
        let mut turns = (turn..turn + peers.len()).map(|it| it % peers.len());
        if let Some(member) = turns.find(wants) {
            turn = member + 1;
            assigned[member].push(partition);
        }
    }
    assigned
}

/// Keeps what members have, hands out the rest as evenly as that allows, and moves partitions until no move makes it more even.
///
/// What nobody has is divided in the best way before anything is taken from anybody. So what one round takes away, for another member to
/// get in the next, is in the next at least as even as it was meant to be, and whatever is taken away then makes it more even still: the
/// rounds come to an end.
fn sticky(peers: &[&Peer], counts: &BTreeMap<TopicName, i32>) -> Assigned {
    let wanted: BTreeMap<&TopicName, Vec<usize>> = counts
        .keys()
        .map(|topic| (topic, subscribers(peers, topic)))
        .collect();
    let owners = owners(peers);
    let mut assigned: Vec<BTreeSet<TopicPartition>> = vec![BTreeSet::new(); peers.len()];
    let mut free = Vec::new();
    for partition in partitions(counts) {
        let members = &wanted[&partition.topic];
        match owners.get(&partition) {
            Some(owner) if members.contains(owner) => {
                assigned[*owner].insert(partition);
            }
            _ if members.is_empty() => {}
            _ => free.push(partition),
        }
    }
    // Who has few to choose from comes first.
    free.sort_by_key(|partition| wanted[&partition.topic].len());
    for partition in &free {
        let members = wanted[&partition.topic].iter().copied();
        if let Some(least) = members.min_by_key(|member| assigned[*member].len()) {
            assigned[least].insert(partition.clone());
        }
    }
    let free: BTreeSet<_> = free.into_iter().collect();
    while let Some(moves) = chain(&assigned, &wanted, &free) {
        for (partition, from, to) in moves {
            assigned[from].remove(&partition);
            assigned[to].insert(partition);
        }
    }
    // Each move makes the sum of squares smaller, so it ends.
    while let Some((partition, from, to)) = improvement(&assigned, &wanted) {
        assigned[from].remove(&partition);
        assigned[to].insert(partition);
    }
    let assigned = assigned.into_iter();
    assigned.map(|it| it.into_iter().collect()).collect()
}

/// Moves of free partitions, each from where the one before it went to, after which the first member has one less and the last, who
/// had at least two less, one more. If there are none, nothing is more even.
fn chain(
    assigned: &[BTreeSet<TopicPartition>],
    wanted: &BTreeMap<&TopicName, Vec<usize>>,
    free: &BTreeSet<TopicPartition>,
) -> Option<Vec<(TopicPartition, usize, usize)>> {
    let mut loads: Vec<usize> = (0..assigned.len()).collect();
    loads.sort_by_key(|member| std::cmp::Reverse(assigned[*member].len()));
    // By which move a member is reached. Who was reached from one with more, in vain, leads nowhere.
    let mut reached = BTreeMap::<usize, Option<(&TopicPartition, usize)>>::new();
    let mut topics = BTreeSet::new();
    for from in loads {
        let load = assigned[from].len();
        if reached.contains_key(&from) {
            continue;
        }
        reached.insert(from, None);
        let mut next = VecDeque::from([from]);
        while let Some(member) = next.pop_front() {
            for partition in assigned[member].intersection(free) {
                if !topics.insert(&partition.topic) {
                    continue;
                }
                for to in &wanted[&partition.topic] {
                    if reached.contains_key(to) {
                        continue;
                    }
                    reached.insert(*to, Some((partition, member)));
                    next.push_back(*to);
                    if assigned[*to].len() + 1 < load {
                        return Some(moves_to(*to, &reached));
                    }
                }
            }
        }
    }
    None
}

/// The moves by which a member was reached, the last one first, so that nobody has to hold more than in the end.
fn moves_to(
    last: usize,
    reached: &BTreeMap<usize, Option<(&TopicPartition, usize)>>,
) -> Vec<(TopicPartition, usize, usize)> {
    let mut moves = Vec::new();
    let mut to = last;
    while let Some(Some((partition, from))) = reached.get(&to) {
        moves.push(((*partition).clone(), *from, to));
        to = *from;
    }
    moves
}

/// A partition that is better off with a member that has at least two less.
fn improvement(
    assigned: &[BTreeSet<TopicPartition>],
    wanted: &BTreeMap<&TopicName, Vec<usize>>,
) -> Option<(TopicPartition, usize, usize)> {
    let mut loads: Vec<usize> = (0..assigned.len()).collect();
    loads.sort_by_key(|member| std::cmp::Reverse(assigned[*member].len()));
    for from in loads {
        let load = assigned[from].len();
        for partition in assigned[from].iter().rev() {
            let members = wanted[&partition.topic].iter().copied();
            let least = members.min_by_key(|member| assigned[*member].len())?;
            if assigned[least].len() + 1 < load {
                return Some((partition.clone(), from, least));
            }
        }
    }
    None
}

/// Who owns what. If several claim a partition, the one of the youngest generation does; of two of the same generation neither
/// (KIP-792).
fn owners(peers: &[&Peer]) -> BTreeMap<TopicPartition, usize> {
    let mut claims = BTreeMap::<TopicPartition, (i32, Option<usize>)>::new();
    for (index, peer) in peers.iter().enumerate() {
        for partition in &peer.owned {
            let claim = (peer.generation_id, Some(index));
            let known = claims.entry(partition.clone()).or_insert(claim);
            if known.1 == Some(index) || known.0 > peer.generation_id {
                continue;
            }
            *known = match known.0 == peer.generation_id {
                true => (peer.generation_id, None),
                false => claim,
            };
        }
    }
    let claims = claims.into_iter();
    claims
        .filter_map(|(partition, (_, owner))| Some((partition, owner?)))
        .collect()
}

/// Leaves out what another member claims: it has to be given up first, and is handed out in the next round.
fn hold_back(peers: &[&Peer], mut assigned: Assigned) -> Assigned {
    for (index, partitions) in assigned.iter_mut().enumerate() {
        let claimed = |partition: &TopicPartition| {
            let mut others = peers.iter().enumerate().filter(|(it, _)| *it != index);
            others.any(|(_, peer)| peer.owned.contains(partition))
        };
        partitions
            .retain(|partition| peers[index].owned.contains(partition) || !claimed(partition));
    }
    assigned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOPICS: [&str; 3] = ["a", "b", "c"];

    fn peer(id: &str, topics: &[&str]) -> Peer {
        Peer {
            member_id: id.into(),
            topics: topics.iter().map(|it| (*it).into()).collect(),
            generation_id: 1,
            ..Peer::default()
        }
    }

    fn counts(counts: &[i32]) -> BTreeMap<TopicName, i32> {
        let topics = TOPICS.iter().map(|it| (*it).into());
        topics.zip(counts.iter().copied()).collect()
    }

    fn few() -> BTreeMap<TopicName, i32> {
        counts(&[1, 2, 3])
    }

    fn shown(assigned: &[(Str, Vec<TopicPartition>)]) -> String {
        let members = assigned.iter().map(|(id, partitions)| {
            let partitions: Vec<_> = partitions.iter().map(ToString::to_string).collect();
            format!("{id}: {}", partitions.join(" "))
        });
        members.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn the_examples_of_kafkas_documentation() {
        let peers = [peer("c0", &["a", "b"]), peer("c1", &["a", "b"])];
        let counts = counts(&[3, 3]);
        let range = Assignor::Range.assign(&peers, &counts);
        assert_eq!(shown(&range), "c0: a-0 a-1 b-0 b-1; c1: a-2 b-2");
        let round_robin = Assignor::RoundRobin.assign(&peers, &counts);
        assert_eq!(shown(&round_robin), "c0: a-0 a-2 b-1; c1: a-1 b-0 b-2");
        let peers = [
            peer("c0", &["a"]),
            peer("c1", &["a", "b"]),
            peer("c2", &["a", "b", "c"]),
        ];
        let few = few();
        let round_robin = Assignor::RoundRobin.assign(&peers, &few);
        assert_eq!(shown(&round_robin), "c0: a-0; c1: b-0; c2: b-1 c-0 c-1 c-2");
        let sticky = Assignor::Sticky.assign(&peers, &few);
        assert_eq!(shown(&sticky), "c0: a-0; c1: b-0 b-1; c2: c-0 c-1 c-2");
    }

    #[test]
    fn static_members_come_first_by_their_names() {
        let mut peers = [peer("a", &["a"]), peer("b", &["a"])];
        peers[1].instance_id = Some("z".into());
        let range = Assignor::Range.assign(&peers, &counts(&[1]));
        assert_eq!(shown(&range), "b: a-0; a: ");
    }

    fn world() -> impl Strategy<Value = (Vec<Peer>, BTreeMap<TopicName, i32>)> {
        let members = prop::collection::vec((1..8_usize, any::<bool>()), 1..6);
        (members, prop::collection::vec(0..8_i32, 3)).prop_map(|(members, sizes)| {
            let members = members.into_iter().enumerate();
            let peers = members.map(|(index, (topics, is_static))| {
                let topics: Vec<_> = (0..3).filter(|it| topics & (1 << it) != 0).collect();
                let topics: Vec<_> = topics.into_iter().map(|it| TOPICS[it]).collect();
                let mut peer = peer(&format!("m{index}"), &topics);
                peer.instance_id = is_static.then(|| format!("s{index}").as_str().into());
                peer
            });
            (peers.collect(), counts(&sizes))
        })
    }

    fn adopt(peers: &mut [Peer], assigned: &[(Str, Vec<TopicPartition>)]) {
        for peer in peers {
            let own = assigned.iter().find(|(id, _)| *id == peer.member_id);
            peer.owned = own.map(|(_, it)| it.clone()).unwrap_or_default();
            peer.generation_id += 1;
        }
    }

    fn check(
        peers: &[Peer],
        counts: &BTreeMap<TopicName, i32>,
        assigned: &[(Str, Vec<TopicPartition>)],
    ) {
        let mut seen = BTreeSet::new();
        for (id, partitions) in assigned {
            let peer = peers.iter().find(|it| it.member_id == *id).unwrap();
            for partition in partitions {
                assert!(peer.topics.contains(&partition.topic), "subscribed to");
                assert!(seen.insert(partition.clone()), "{partition} once");
            }
        }
        for partition in partitions(counts) {
            let is_wanted = peers.iter().any(|it| it.topics.contains(&partition.topic));
            assert_eq!(is_wanted, seen.contains(&partition), "{partition}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn every_partition_has_one_reader((mut peers, counts) in world(), leaver in 0..6_usize) {
            for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky] {
                check(&peers, &counts, &assignor.assign(&peers, &counts));
            }
            let first = Assignor::Sticky.assign(&peers, &counts);
            adopt(&mut peers, &first);
            // Nothing changes without a reason.
            prop_assert_eq!(&Assignor::Sticky.assign(&peers, &counts), &first);
            // No pair is uneven where a partition could go over.
            for (from, partitions) in &first {
                for partition in partitions {
                    for (to, others) in &first {
                        let other = peers.iter().find(|it| it.member_id == *to).unwrap();
                        if from != to && other.topics.contains(&partition.topic) {
                            prop_assert!(others.len() + 1 >= partitions.len());
                        }
                    }
                }
            }
            // Who stays keeps what it had, as far as that stays even.
            if peers.len() > 1 {
                let gone = peers.remove(leaver % peers.len());
                let second = Assignor::Sticky.assign(&peers, &counts);
                check(&peers, &counts, &second);
                let all_alike = peers.iter().all(|it| it.topics == gone.topics);
                for peer in peers.iter().filter(|_| all_alike) {
                    let now = second.iter().find(|(id, _)| *id == peer.member_id).unwrap();
                    prop_assert!(peer.owned.iter().all(|it| now.1.contains(it)));
                }
            }
        }

        #[test]
        fn nothing_is_handed_out_before_it_was_given_up((mut peers, counts) in world(), newcomer in 1..8_usize) {
            let first = Assignor::CooperativeSticky.assign(&peers, &counts);
            check(&peers, &counts, &first);
            adopt(&mut peers, &first);
            let topics: Vec<_> = (0..3).filter(|it| newcomer & (1 << it) != 0).map(|it| TOPICS[it]).collect();
            peers.push(peer("new", &topics));
            // Each round takes away less than the one before it hoped for, until one takes nothing.
            for round in 0.. {
                prop_assert!(round < 10, "{peers:?}");
                let assigned = Assignor::CooperativeSticky.assign(&peers, &counts);
                for (id, partitions) in &assigned {
                    for other in peers.iter().filter(|it| it.member_id != *id) {
                        prop_assert!(partitions.iter().all(|it| !other.owned.contains(it)));
                    }
                }
                let held_back = total(&Assignor::Sticky.assign(&peers, &counts)) - total(&assigned);
                adopt(&mut peers, &assigned);
                if held_back == 0 {
                    check(&peers, &counts, &assigned);
                    break;
                }
            }
        }
    }

    fn total(assigned: &[(Str, Vec<TopicPartition>)]) -> usize {
        assigned
            .iter()
            .map(|(_, partitions)| partitions.len())
            .sum()
    }

    #[test]
    fn what_is_handed_out_next_is_not_taken_from_others() {
        let subscriptions = [["b", "b", "b"], ["a", "b", "c"], ["a", "b", "b"]];
        let members = subscriptions.iter().enumerate();
        let mut peers: Vec<_> = members.map(|(n, it)| peer(&format!("m{n}"), it)).collect();
        let counts = counts(&[6, 7, 4]);
        let first = Assignor::CooperativeSticky.assign(&peers, &counts);
        adopt(&mut peers, &first);
        peers.push(peer("new", &["a", "c"]));
        let second = Assignor::CooperativeSticky.assign(&peers, &counts);
        adopt(&mut peers, &second);
        let third = Assignor::CooperativeSticky.assign(&peers, &counts);
        assert_eq!([total(&first), total(&third)], [17; 2], "{}", shown(&third));
        assert!(total(&second) < 17, "{}", shown(&second));
    }

    #[test]
    fn who_was_there_last_is_believed() {
        let mut peers = [peer("old", &["a"]), peer("young", &["a"])];
        for peer in &mut peers {
            peer.owned = vec![TopicPartition::new("a", 0)];
        }
        peers[1].generation_id = 2;
        let assigned = Assignor::Sticky.assign(&peers, &counts(&[1]));
        assert_eq!(shown(&assigned), "old: ; young: a-0");
    }
}
