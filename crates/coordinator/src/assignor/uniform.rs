use std::collections::{BTreeMap, BTreeSet};

use tidelog_types::{PartitionIndex, TopicId};

use super::{MemberSpec, Partitions};

/// How often the topics are gone through to even out what members have who subscribe to different things. Each pass that
/// finds something to do brings the members closer together, so that a handful is usual.
const PASSES_MAX: usize = 64;

/// Gives every member as much as any other, and leaves with it what it has.
pub(super) fn assign(
    members: &[MemberSpec<'_>],
    partitions: &BTreeMap<TopicId, i32>,
) -> Vec<Partitions> {
    let Some(first) = members.first() else {
        return Vec::new();
    };
    let (mut assigned, unassigned) = keep(members, partitions);
    if members.iter().all(|member| member.topics == first.topics) {
        share_equally(&mut assigned, unassigned);
    } else {
        let subscribers = subscribers(members, partitions);
        let mut loads: Vec<usize> = assigned.iter().map(load).collect();
        hand_out(&mut assigned, &mut loads, unassigned, &subscribers);
        even_out(&mut assigned, &mut loads, &subscribers);
    }
    assigned
}

/// What members had and may keep, and what nobody has.
fn keep(
    members: &[MemberSpec<'_>],
    partitions: &BTreeMap<TopicId, i32>,
) -> (Vec<Partitions>, Vec<(TopicId, PartitionIndex)>) {
    let wanted: BTreeSet<&TopicId> = members.iter().flat_map(|member| member.topics).collect();
    let mut free: Partitions = partitions
        .iter()
        .filter(|(id, count)| **count > 0 && wanted.contains(id))
        .map(|(id, count)| (*id, (0..*count).collect()))
        .collect();
    let mut assigned = Vec::with_capacity(members.len());
    for member in members {
        let mut kept = Partitions::new();
        for (id, held) in member.assigned {
            let Some(free) = free.get_mut(id).filter(|_| member.topics.contains(id)) else {
                continue;
            };
            let held: BTreeSet<_> = held.iter().copied().filter(|p| free.remove(p)).collect();
            if !held.is_empty() {
                kept.insert(*id, held);
            }
        }
        assigned.push(kept);
    }
    let unassigned = free.into_iter();
    let unassigned = unassigned.flat_map(|(id, free)| free.into_iter().map(move |p| (id, p)));
    (assigned, unassigned.collect())
}

fn load(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

/// Everybody may have everything: the loads differ by one at most. Who already has one more than the others keeps it.
fn share_equally(assigned: &mut [Partitions], mut unassigned: Vec<(TopicId, PartitionIndex)>) {
    let total = unassigned.len() + assigned.iter().map(load).sum::<usize>();
    let (least, extra) = (total / assigned.len(), total % assigned.len());
    let mut quotas = vec![least; assigned.len()];
    let (rich, poor): (Vec<usize>, Vec<usize>) =
        (0..assigned.len()).partition(|&index| load(&assigned[index]) > least);
    for index in rich.into_iter().chain(poor).take(extra) {
        quotas[index] += 1;
    }
    for (partitions, &quota) in assigned.iter_mut().zip(&quotas) {
        for _ in quota..load(partitions) {
            unassigned.extend(take_last(partitions));
        }
    }
    unassigned.sort_unstable();
    let mut rest = unassigned.into_iter();
    for (partitions, quota) in assigned.iter_mut().zip(quotas) {
        let missing = quota - load(partitions);
        for (id, partition) in rest.by_ref().take(missing) {
            partitions.entry(id).or_default().insert(partition);
        }
    }
    assert!(rest.next().is_none(), "the quotas add up to everything");
}

fn take_last(partitions: &mut Partitions) -> Option<(TopicId, PartitionIndex)> {
    let mut last = partitions.last_entry()?;
    let id = *last.key();
    let partition = last.get_mut().pop_last()?;
    if last.get().is_empty() {
        last.remove();
    }
    Some((id, partition))
}

/// Who may have a topic.
fn subscribers(
    members: &[MemberSpec<'_>],
    partitions: &BTreeMap<TopicId, i32>,
) -> BTreeMap<TopicId, Vec<usize>> {
    let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for id in member
            .topics
            .iter()
            .filter(|id| partitions.contains_key(id))
        {
            subscribers.entry(*id).or_default().push(index);
        }
    }
    subscribers
}

/// Gives what nobody has to whoever has least, topics that few may have first.
fn hand_out(
    assigned: &mut [Partitions],
    loads: &mut [usize],
    unassigned: Vec<(TopicId, PartitionIndex)>,
    subscribers: &BTreeMap<TopicId, Vec<usize>>,
) {
    let mut by_topic: BTreeMap<TopicId, Vec<PartitionIndex>> = BTreeMap::new();
    for (id, partition) in unassigned {
        by_topic.entry(id).or_default().push(partition);
    }
    let mut topics: Vec<_> = by_topic.into_iter().collect();
    topics.sort_by_key(|(id, _)| (subscribers.get(id).map_or(0, Vec::len), *id));
    for (id, partitions) in topics {
        let candidates = subscribers.get(&id).map_or(&[][..], Vec::as_slice);
        let mut queue: BTreeSet<(usize, usize)> = candidates
            .iter()
            .map(|&index| (loads[index], index))
            .collect();
        for partition in partitions {
            let Some((_, index)) = queue.pop_first() else {
                break;
            };
            assigned[index].entry(id).or_default().insert(partition);
            loads[index] += 1;
            queue.insert((loads[index], index));
        }
    }
}

/// Moves partitions from who has most to who has least, as long as that brings two members closer together.
fn even_out(
    assigned: &mut [Partitions],
    loads: &mut [usize],
    subscribers: &BTreeMap<TopicId, Vec<usize>>,
) {
    for _ in 0..PASSES_MAX {
        let mut moved = false;
        for (id, candidates) in subscribers {
            moved |= even_out_topic(assigned, loads, *id, candidates);
        }
        if !moved {
            return;
        }
    }
}

fn even_out_topic(
    assigned: &mut [Partitions],
    loads: &mut [usize],
    id: TopicId,
    candidates: &[usize],
) -> bool {
    let mut all: BTreeSet<(usize, usize)> = candidates
        .iter()
        .map(|&index| (loads[index], index))
        .collect();
    let mut owners: BTreeSet<(usize, usize)> = all
        .iter()
        .copied()
        .filter(|(_, index)| assigned[*index].contains_key(&id))
        .collect();
    let mut moved = false;
    while let (Some(&(most, from)), Some(&(least, to))) = (owners.last(), all.first()) {
        if most < least + 2 {
            break;
        }
        moved = true;
        let Some(held) = assigned[from].get_mut(&id) else {
            break;
        };
        let Some(partition) = held.pop_last() else {
            break;
        };
        let has_more = !held.is_empty();
        if !has_more {
            assigned[from].remove(&id);
        }
        assigned[to].entry(id).or_default().insert(partition);
        for index in [from, to] {
            all.remove(&(loads[index], index));
            owners.remove(&(loads[index], index));
        }
        loads[from] -= 1;
        loads[to] += 1;
        all.extend([(loads[from], from), (loads[to], to)]);
        owners.insert((loads[to], to));
        if has_more {
            owners.insert((loads[from], from));
        }
    }
    moved
}
