//! The quorum as a whole: many nodes, and everything that can go wrong.

/// A defect that a test puts in on purpose, to see that the checkers find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// A vote leaves before it is stored.
    AnswersBeforeStoring,
    /// A new leader commits what its predecessors left, as soon as a majority has it.
    CommitsEarlierEpochs,
    /// A vote goes to a candidate whose log lacks records.
    VotesForShorterLogs,
    /// Whoever asks is promised a vote, also while there is a leader.
    PromisesAnyVote,
    /// A voter that hears nothing stands for election without asking whether it would win.
    NoPreVote,
    /// The leader counts itself by what it has appended.
    CountsUnflushed,
    /// A follower asks for what follows the end of its log, flushed or not.
    FetchesUnflushed,
    /// Voters are changed again before the last change is committed.
    OverlappingChanges,
    /// A voter that has lost a part of its log stands for election, and votes by what is left.
    ForgetsLoss,
}

mod disk;
mod exhaustive;
mod hostile;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use self::world::{Options, World};

/// A world of its own for each seed.
fn options(seed: u64) -> Options {
    let voters = 1 + (seed % 5) as usize;
    Options {
        seed,
        nodes: (voters + (seed / 5 % 2) as usize).min(5),
        voters,
        dynamic: seed / 10 % 2 == 1,
        faults_s: 15,
        churns: false,
        planted: None,
    }
}

/// How many worlds a test looks at. More for a long run: `TIDELOG_QUORUM_SEEDS=100000 cargo test --release -p
/// tidelog-replication whatever_happens`.
fn seeds() -> u64 {
    let asked = option_env!("TIDELOG_QUORUM_SEEDS");
    asked.map_or(40, |seeds| seeds.parse().expect("a number of seeds"))
}

/// What has to go wrong, and come right, in any number of worlds.
const HAPPENINGS: [&str; 16] = [
    "change of voters",
    "crash",
    "cut link",
    "cut node",
    "damaged snapshot",
    "doubled message",
    "election",
    "failed disk",
    "lost disk",
    "lost message",
    "pause",
    "shutdown",
    "snapshot fetched",
    "snapshot made",
    "truncation",
    "wrong hint",
];

#[test]
fn whatever_happens_no_committed_record_is_lost_and_all_ends_well() {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..seeds() {
        let live = || {
            let mut world = World::new(options(seed));
            world.live();
            world.counts
        };
        let lived = catch_unwind(AssertUnwindSafe(live));
        let lived = lived.unwrap_or_else(|_| panic!("seed {seed}"));
        for (what, count) in lived {
            *counts.entry(what).or_default() += count;
        }
    }
    let happened: Vec<&str> = counts.into_keys().collect();
    assert_eq!(happened, HAPPENINGS);
}

/// Whether something that is wrong shows with one of these seeds.
fn is_found(planted: Planted, mut seeds: Range<u64>) -> bool {
    seeds.any(|seed| {
        let churns = planted == Planted::OverlappingChanges;
        let options = Options {
            churns,
            dynamic: churns || options(seed).dynamic,
            planted: Some(planted),
            ..options(seed)
        };
        catch_unwind(AssertUnwindSafe(|| World::new(options).live())).is_err()
    })
}

/// Where the search begins is where it ended once; after a change of the machine it may take longer. What is not here is found
/// by [`exhaustive`], which needs no luck.
#[test]
fn planted_defects_are_found() {
    for (planted, first_seed) in [
        (Planted::AnswersBeforeStoring, 20),
        (Planted::VotesForShorterLogs, 2),
        (Planted::CountsUnflushed, 0),
        (Planted::FetchesUnflushed, 22),
        (Planted::OverlappingChanges, 44),
        (Planted::ForgetsLoss, 340),
    ] {
        let found = is_found(planted, first_seed..first_seed + 1500);
        assert!(found, "{planted:?} was not found");
    }
}

/// A leader that a majority can reach stays, whatever the others think who cannot reach it (KIP-996).
fn is_undisturbed(seed: u64, is_one_way: bool, planted: Option<Planted>) -> bool {
    let options = Options {
        seed,
        nodes: 3,
        voters: 3,
        dynamic: false,
        faults_s: 0,
        churns: false,
        planted,
    };
    let mut world = World::new(options);
    world.run_for(8000);
    let (leader, epoch) = world.leader().expect("somebody leads by then");
    let lost = (leader + 1) % 3;
    world.cut[leader][lost] = true;
    if !is_one_way {
        world.cut[lost][leader] = true;
        world.cut[lost][(leader + 2) % 3] = true;
        world.cut[(leader + 2) % 3][lost] = true;
    }
    world.run_for(15_000);
    world.calm_down();
    world.run_for(5000);
    world.check_all_is_well();
    world.leader() == Some((leader, epoch))
}

#[test]
fn who_is_cut_off_disturbs_nobody() {
    for seed in 0..4 {
        for is_one_way in [true, false] {
            assert!(
                is_undisturbed(seed, is_one_way, None),
                "{seed} {is_one_way}"
            );
        }
    }
    let planted = [Planted::NoPreVote, Planted::PromisesAnyVote];
    for planted in planted {
        assert!(!is_undisturbed(0, true, Some(planted)), "{planted:?}");
    }
}

#[test]
fn no_message_causes_a_panic() {
    for seed in 0..20 {
        let mut world = World::new(Options {
            faults_s: 3,
            ..options(seed)
        });
        world.run_for(seed * 500);
        hostile::bombard(&world, seed);
    }
}

/// For how many milliseconds nobody leads when the leader gets no time to do anything any more; with a hint, the others know
/// that its process is gone.
fn replaced_after(seed: u64, hint: bool) -> u64 {
    let options = Options {
        seed,
        nodes: 3,
        voters: 3,
        dynamic: false,
        faults_s: 0,
        churns: false,
        planted: None,
    };
    let mut world = World::new(options);
    world.run_for(8000);
    let (leader, _) = world.leader().expect("somebody leads by then");
    world.stop(leader, hint);
    let stopped = world.time;
    while world.leader().is_none() {
        world.run_for(5);
    }
    (world.time - stopped) / 1000
}

#[test]
fn a_leader_is_replaced_soon() {
    for seed in 0..20 {
        let (gone, stalled) = (replaced_after(seed, true), replaced_after(seed, false));
        assert!(gone < 200, "{gone} ms after the process was gone");
        assert!(stalled < 3500, "{stalled} ms after the process was stopped");
    }
}
