//! Steps at random, also such as do a little harm each.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{DurableWhen, Rules, Step, World, beginning};
use crate::partition::planted::{Bug, plant};

/// One of the messages that are under way.
fn message() -> impl Strategy<Value = usize> {
    // The oldest one mostly: the world makes headway.
    prop_oneof![3 => Just(0), 1 => 0..6_usize]
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..3_usize;
    prop_oneof![
        8 => node.clone().prop_map(Step::Produce),
        16 => node.clone().prop_map(Step::Flush),
        16 => node.clone().prop_map(Step::Ask),
        30 => message().prop_map(Step::Deliver),
        2 => message().prop_map(Step::Lose),
        2 => message().prop_map(Step::DeliverTwice),
        10 => node.clone().prop_map(Step::LearnMetadata),
        2 => node.clone().prop_map(Step::Crash),
        1 => node.clone().prop_map(Step::LoseDisk),
        6 => node.clone().prop_map(Step::Start),
        2 => node.clone().prop_map(Step::Fence),
        6 => node.clone().prop_map(Step::Unfence),
        2 => node.clone().prop_map(Step::Elect),
        1 => node.clone().prop_map(Step::Reassign),
        2 => node.clone().prop_map(Step::AwaitDeadline),
        1 => (1..12_000_u64).prop_map(Step::Elapse),
        1 => node.clone().prop_map(Step::DeleteRecords),
        1 => node.prop_map(Step::Checkpoint),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let durable_when = prop_oneof![
        3 => Just(DurableWhen::Flushed),
        1 => Just(DurableWhen::Appended)
    ];
    (1..=3_usize, 1..=2_u32, durable_when).prop_map(|(isr, min_insync_replicas, durable_when)| {
        Rules {
            nodes: 3,
            isr,
            min_insync_replicas,
            durable_when,
        }
    })
}

fn run(rules: Rules, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(beginning(), rules);
    for step in steps {
        world.step(*step).map_err(TestCaseError::fail)?;
    }
    world.settle().map_err(TestCaseError::fail)
}

/// The same steps each time, and no shorter ones once a defect is found.
fn runner() -> TestRunner {
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::with_cases(1_000)
    };
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[1; 32]);
    TestRunner::new_with_rng(config, seed)
}

proptest! {
    #![proptest_config(Config::with_cases(128))]

    /// Hard corners 24, 45 and 46, whatever happens, as long as somebody has what was acknowledged.
    #[test]
    fn nothing_acknowledged_is_lost(rules in rules(), steps in proptest::collection::vec(step(), 1..250)) {
        run(rules, &steps)?;
    }
}

/// The checkers see: these defects are found. The others, [`super::exhaustive`] finds.
#[test]
fn planted_bugs_are_found() {
    for bug in [Bug::ExpandBelowEpochStart, Bug::TruncateToHighWatermark] {
        plant(Some(bug));
        let strategy = (rules(), proptest::collection::vec(step(), 1..250));
        let found = runner().run(&strategy, |(rules, steps)| run(rules, &steps));
        plant(None);
        assert!(found.is_err(), "{bug:?} was not found");
    }
}

/// Steps that were found at random, after which a follower has a record of a lost branch where its leader has deleted.
#[test]
fn a_record_of_a_lost_branch_does_not_come_to_light() {
    let rules = Rules {
        nodes: 3,
        isr: 1,
        min_insync_replicas: 1,
        durable_when: DurableWhen::Flushed,
    };
    let steps = [
        // Node 3 joins the ISR, and leads when node 1 is fenced.
        Step::Ask(2),
        Step::Deliver(0),
        Step::Deliver(0),
        Step::Fence(0),
        Step::LearnMetadata(2),
        Step::LearnMetadata(2),
        Step::Produce(2),
        Step::Flush(2),
        // Node 1 has not heard of it. What it takes in will never be committed.
        Step::Produce(0),
        Step::DeleteRecords(2),
    ];
    run(rules, &steps).expect("it settles");
    plant(Some(Bug::ExpandBelowLogStart));
    let found = run(rules, &steps);
    plant(None);
    assert!(found.is_err(), "it was not found");
}
