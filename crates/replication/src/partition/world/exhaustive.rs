//! All steps that there are, in all orders, as far as a few records and faults go.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use super::{Ask, DurableWhen, Message, Node, Rules, Step, Violation, World, beginning, id};
use crate::partition::planted::{Bug, plant};
use crate::partition::{Replica, Role};

/// How often each thing may still happen. Everything else happens as often as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    records: u8,
    crashes: u8,
    disks: u8,
    fences: u8,
    elections: u8,
    answers_lost: u8,
    waits: u8,
}

/// What may be under way before a follower asks for more.
const NETWORK_MAX: usize = 4;

const NONE: Budget = Budget {
    records: 0,
    crashes: 0,
    disks: 0,
    fences: 0,
    elections: 0,
    answers_lost: 0,
    waits: 0,
};

const fn nodes(nodes: usize, isr: usize) -> Rules {
    Rules {
        nodes,
        isr,
        min_insync_replicas: 1,
        durable_when: DurableWhen::Flushed,
    }
}

#[rustfmt::skip]
const SMALL: [(Rules, Budget); 7] = [
    (nodes(2, 1), Budget { records: 2, ..NONE }),
    (nodes(2, 1), Budget { records: 1, crashes: 1, ..NONE }),
    (nodes(2, 1), Budget { records: 1, answers_lost: 1, waits: 1, ..NONE }),
    (nodes(2, 2), Budget { records: 2, elections: 1, ..NONE }),
    (nodes(2, 2), Budget { records: 1, fences: 1, ..NONE }),
    (nodes(3, 2), Budget { records: 1, ..NONE }),
    (nodes(3, 3), Budget { records: 1, ..NONE }),
];

#[rustfmt::skip]
const LARGE: [(Rules, Budget); 7] = [
    (nodes(2, 1), Budget { records: 1, disks: 1, ..NONE }),
    (nodes(2, 2), Budget { records: 3, elections: 2, ..NONE }),
    (nodes(2, 2), Budget { records: 2, fences: 1, ..NONE }),
    (nodes(2, 2), Budget { records: 2, answers_lost: 1, waits: 1, ..NONE }),
    (nodes(2, 2), Budget { records: 1, elections: 1, crashes: 1, ..NONE }),
    (Rules { min_insync_replicas: 2, ..nodes(3, 2) }, Budget { records: 2, ..NONE }),
    (nodes(3, 3), Budget { records: 1, elections: 1, ..NONE }),
];

fn all_are_sound(worlds: &[(Rules, Budget)]) {
    for (rules, budget) in worlds {
        if let Err((violation, steps)) = explore(*rules, *budget) {
            panic!("{violation}: {rules:?}, {steps:?}");
        }
    }
}

/// Hard corners 24 and 46: no order of events loses anything.
#[test]
fn every_state_of_a_small_world_is_sound() {
    all_are_sound(&SMALL);
}

#[test]
#[ignore = "takes some minutes without optimization"]
fn every_state_of_a_larger_world_is_sound() {
    all_are_sound(&LARGE);
}

/// The checkers see: these defects are found, and the shortest way to each. The others, random steps find.
#[test]
fn planted_bugs_are_found_in_small_worlds() {
    #[rustfmt::skip]
    let bugs = [
        (Bug::CommittedIsrOnly, nodes(2, 1), Budget { records: 1, ..NONE }, 5),
        (Bug::ShrinkAtOnce, nodes(2, 2), Budget { records: 1, waits: 1, ..NONE }, 3),
        (Bug::RollBackOnAnyError, nodes(2, 1), Budget { records: 1, answers_lost: 1, waits: 1, ..NONE }, 6),
        (Bug::ExpandWithoutBrokerEpoch, nodes(2, 1), Budget { records: 1, disks: 1, ..NONE }, 12),
        (Bug::ExpandBelowHighWatermark, nodes(2, 1), Budget { records: 1, ..NONE }, 5),
        (Bug::LeaderCountsUnflushed, nodes(2, 1), Budget { records: 1, ..NONE }, 1),
        (Bug::OutdatedMetadata, nodes(2, 1), Budget { records: 1, waits: 1, ..NONE }, 14),
        (Bug::NoDivergenceCheck, nodes(2, 2), Budget { records: 2, elections: 1, ..NONE }, 9),
        (Bug::FetchFromUnflushed, nodes(2, 2), Budget { records: 1, ..NONE }, 7),
        (Bug::FetchesOfOtherEpochs, nodes(2, 2), Budget { records: 2, elections: 2, ..NONE }, 19),
    ];
    for (bug, rules, budget, steps) in bugs {
        plant(Some(bug));
        let found = explore(rules, budget);
        plant(None);
        let length = found.err().map(|(_, path)| path.len());
        assert_eq!(length, Some(steps), "{bug:?}");
    }
}

struct State {
    world: World,
    left: Budget,
    path: Option<Rc<Path>>,
}

/// How a state was reached, the last step first.
struct Path {
    step: Step,
    before: Option<Rc<Self>>,
}

impl State {
    fn steps(&self) -> Vec<Step> {
        let steps = std::iter::successors(self.path.as_deref(), |path| path.before.as_deref());
        let mut steps: Vec<_> = steps.map(|path| path.step).collect();
        steps.reverse();
        steps
    }
}

/// Goes through all states, in the order of how many steps lead there. Gives how many there are.
fn explore(rules: Rules, left: Budget) -> Result<usize, (Violation, Vec<Step>)> {
    let mut level = vec![State {
        world: World::new(beginning(), rules),
        left,
        path: None,
    }];
    let mut known = HashSet::new();
    while !level.is_empty() {
        let mut next = Vec::new();
        for state in &level {
            for (step, left) in possible(&state.world, state.left) {
                let mut world = state.world.clone();
                let result = world.step(step);
                let before = state.path.clone();
                let reached = State {
                    world,
                    left,
                    path: Some(Rc::new(Path { step, before })),
                };
                if let Err(violation) = result {
                    return Err((violation, reached.steps()));
                }
                let mut hasher = DefaultHasher::new();
                (&reached.world, reached.left).hash(&mut hasher);
                if known.insert(hasher.finish()) {
                    next.push(reached);
                }
            }
        }
        level = next;
    }
    Ok(known.len())
}

/// Every step that changes something, and what may happen after it.
fn possible(world: &World, left: Budget) -> Vec<(Step, Budget)> {
    let spend = |of: fn(&mut Budget) -> &mut u8| {
        let mut after = left;
        let count = of(&mut after);
        *count = count.checked_sub(1)?;
        Some(after)
    };
    let mut steps: Vec<(Step, Option<Budget>)> = Vec::new();
    for (at, message) in world.network.iter().enumerate() {
        steps.push((Step::Deliver(at), Some(left)));
        // A loss that nobody is told of is a message that never arrives.
        if let Message::AlterPartition { .. } | Message::Altered { .. } = message {
            steps.push((Step::Lose(at), spend(|b| &mut b.answers_lost)));
        }
    }
    let image = world.controller.now();
    for (node, machine) in world.machines.iter().enumerate() {
        let free = |possible: bool| possible.then_some(left);
        let fenced = world.controller.is_fenced(id(node));
        let fence = spend(|b| &mut b.fences).filter(|_| !fenced);
        steps.push((Step::Fence(node), fence));
        let Some(replica) = &machine.replica else {
            steps.push((Step::Start(node), Some(left)));
            continue;
        };
        let leads = matches!(replica.role(), Role::Leader(_));
        let electable = !fenced && image.leader != Some(id(node)) && image.isr.contains(&id(node));
        let behind = machine.metadata + 1 < world.controller.len();
        let produce = spend(|b| &mut b.records).filter(|_| leads);
        let elect = spend(|b| &mut b.elections).filter(|_| electable);
        let wait = spend(|b| &mut b.waits).filter(|_| replica.deadline().is_some());
        steps.extend([
            (Step::Produce(node), produce),
            (
                Step::Flush(node),
                free(machine.log.flushed() < machine.log.end()),
            ),
            (Step::Ask(node), free(may_ask(world, node))),
            (Step::LearnMetadata(node), free(behind)),
            (Step::Unfence(node), free(fenced)),
            (Step::Elect(node), elect),
            (Step::Crash(node), spend(|b| &mut b.crashes)),
            (Step::LoseDisk(node), spend(|b| &mut b.disks)),
            (Step::AwaitDeadline(node), wait),
        ]);
    }
    let steps = steps.into_iter();
    steps
        .filter_map(|(step, after)| Some((step, after?)))
        .collect()
}

/// Whether a follower has something to ask that is not on its way already.
fn may_ask(world: &World, node: Node) -> bool {
    let replica = world.machines[node].replica.as_ref();
    let Some(asks) = replica.and_then(Replica::asks) else {
        return false;
    };
    let asked = |message: &Message| match message {
        Message::Fetch { from, request, .. } => *from == node && asks == Ask::Records(*request),
        Message::FetchAnswer { to, request, .. } => *to == node && asks == Ask::Records(*request),
        Message::Offsets { from, .. } => *from == node,
        Message::OffsetsAnswer { to, .. } => *to == node,
        Message::AlterPartition { .. } | Message::Altered { .. } => false,
    };
    world.network.len() < NETWORK_MAX && !world.network.iter().any(asked)
}
