use tidelog_types::{GroupId, Str};

use super::{GroupRecord, GroupResponse, Rebalance};

/// What a shard wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append these records as one batch to the shard's partition, in the order of the appends, and report
    /// [`Input::Committed`](super::Input::Committed) once they are committed.
    Append {
        /// Rises by one from append to append, from 1.
        append_id: u64,
        /// At least one record.
        records: Vec<GroupRecord>,
    },
    /// Answer a request.
    Reply {
        /// The id from [`Input::Request`](super::Input::Request).
        request_id: u64,
        /// The answer, made for the version of the request.
        response: GroupResponse,
    },
    /// Find out which topics the expressions match, with [`resolve_regexes`](super::resolve_regexes) over the newest view,
    /// and report it with [`Input::RegexesResolved`](super::Input::RegexesResolved).
    ResolveRegexes {
        /// The group whose members subscribe by them.
        group_id: GroupId,
        /// The expressions.
        regexes: Vec<Str>,
    },
    /// A rebalance has begun or ended. Nothing is to be done but to tell whoever watches.
    Report {
        /// The group.
        group_id: GroupId,
        /// The rebalance as far as it has come.
        rebalance: Box<Rebalance>,
    },
}
