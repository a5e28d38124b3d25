use super::{GroupRecord, GroupResponse};

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
}
