//! The arithmetic of majorities.

use tidelog_types::Offset;

/// How many of `voters` are a majority.
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest offset that a majority of the voters has reached, given the end of each voter's log. The slice is
/// sorted on the way.
///
/// # Panics
/// If there are no voters: nobody could agree to anything.
pub fn majority_end(ends: &mut [Offset]) -> Offset {
    assert!(!ends.is_empty(), "a quorum has voters");
    ends.sort_unstable();
    ends[ends.len() - majority(ends.len())]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_majorities_always_share_a_voter() {
        for voters in 1..10 {
            assert!(2 * majority(voters) > voters);
            assert!(2 * (majority(voters) - 1) <= voters);
        }
    }

    proptest! {
        #[test]
        fn a_majority_has_the_end_and_none_has_more(ends in proptest::collection::vec(0..6_i64, 1..8)) {
            let mut ends: Vec<Offset> = ends.into_iter().map(Offset::new).collect();
            let end = majority_end(&mut ends);
            let reached = |offset: Offset| ends.iter().filter(|e| **e >= offset).count();
            prop_assert!(reached(end) >= majority(ends.len()));
            prop_assert!(reached(end.next()) < majority(ends.len()));
        }
    }
}
