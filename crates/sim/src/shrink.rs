//! From a failing cluster to the few faults that it takes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::plan::Plan;
use crate::planted::Bug;
use crate::world::run;

/// Leaves out faults, half of them at first and then ever fewer, as long as something is wrong without them, and ends the
/// rest sooner. A plan with which all is well comes back as it is.
pub fn shrink(plan: &Plan, bug: Option<Bug>) -> Plan {
    let mut plan = plan.clone();
    if !fails(&plan, bug) {
        return plan;
    }
    let mut size = plan.faults_count().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < plan.faults_count() {
            let to = (from + size).min(plan.faults_count());
            let smaller = plan.without(from..to);
            if fails(&smaller, bug) {
                plan = smaller;
            } else {
                from = to;
            }
        }
        size /= 2;
    }
    let shorter = plan.shortened();
    if fails(&shorter, bug) { shorter } else { plan }
}

fn fails(plan: &Plan, bug: Option<Bug>) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(plan, bug, false)));
    outcome.map_or(true, |outcome| outcome.wrong.is_some())
}
