//! Random messages, made from the schemas that the derive gives out, survive writing and reading in
//! every version.

use proptest::prelude::*;

use crate::support::random::{Numbers, message};
use crate::support::subjects;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_written_is_read_again(seed: u64) {
        let mut numbers = Numbers(seed);
        for subject in subjects() {
            for number in subject.versions.iter() {
                let place = format!("{} {number}", subject.name);
                let bytes = message(&mut numbers, &subject, number);
                // Tagged fields that say the default are left out the first time.
                let once = subject.recode(&bytes, number).expect(&place);
                prop_assert!(once.len() <= bytes.len(), "{}", place);
                prop_assert_eq!(subject.recode(&once, number).expect(&place), once, "{}", place);
            }
        }
    }
}
