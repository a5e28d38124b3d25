//! Clusters from seeds: all is well with sound ones, and a planted defect shows.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidelog_sim::{Bug, Plan, run, shrink};

#[test]
fn nothing_goes_wrong_whatever_goes_wrong() {
    for seed in 0..40 {
        let outcome = run(&Plan::new(seed), None, false);
        assert_eq!(outcome.wrong, None, "seed {seed}");
        assert!(outcome.acknowledged_count > 0, "seed {seed} has no load");
    }
}

#[test]
fn a_seed_says_all_that_happens() {
    let mut hashes = Vec::new();
    for seed in 0..6 {
        let (once, again) = (
            run(&Plan::new(seed), None, false),
            run(&Plan::new(seed), None, true),
        );
        assert_eq!(once.hash, again.hash, "seed {seed}");
        assert_eq!(once.events_count, again.events_count, "seed {seed}");
        hashes.push(once.hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 6, "other seeds, other fates");
}

fn is_found(bug: Bug, seed: u64) -> bool {
    let lived = catch_unwind(AssertUnwindSafe(|| run(&Plan::new(seed), Some(bug), false)));
    lived.map_or(true, |outcome| outcome.wrong.is_some())
}

/// Seeds that find many of the defects, so that it does not take long.
const TELLING: [u64; 6] = [0, 7, 11, 56, 65, 21];

#[test]
fn each_planted_defect_is_found() {
    for bug in Bug::ALL {
        let mut seeds = TELLING.into_iter().chain(0..150);
        let found = seeds.any(|seed| is_found(bug, seed));
        assert!(found, "{bug:?} was not found");
    }
}

#[test]
fn a_failing_seed_shrinks_to_what_it_takes() {
    let bug = Some(Bug::CountsWhatWasSent);
    let seed = (0..50).find(|seed| run(&Plan::new(*seed), bug, false).wrong.is_some());
    let plan = Plan::new(seed.expect("the defect shows"));
    let small = shrink(&plan, bug);
    assert!(small.faults_count() < plan.faults_count());
    assert!(run(&small, bug, false).wrong.is_some());
    let sound = shrink(&plan, None);
    assert_eq!(
        sound.describe(),
        plan.describe(),
        "nothing is wrong with it"
    );
}
