use std::collections::BTreeSet;
use std::sync::Arc;

use tidelog_types::{ErrorCode, GroupId, Str, TopicId, TopicName};

use super::{ClusterView, GroupRequest, TopicChange};

/// What happens to a shard.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every input is a request")]
pub enum Input {
    /// Every record of the partition has been replayed: the shard takes over. Sessions of all members start now.
    Loaded,
    /// A client asks for something; exactly one [`Effect::Reply`](super::Effect::Reply) with its id will follow.
    Request {
        /// Names the request in the reply.
        request_id: u64,
        /// The version of the API that the client speaks.
        version: i16,
        /// Who asks.
        client: ClientInfo,
        /// What is asked for.
        request: GroupRequest,
    },
    /// The records of this append and of all before it are committed: the high watermark has passed them.
    Committed {
        /// The id from [`Effect::Append`](super::Effect::Append).
        append_id: u64,
    },
    /// Records could not be appended or committed. The shard answers what is parked and is of no use any more: its state is
    /// ahead of its log, so the shell drops it and loads another one.
    AppendFailed {
        /// The error of the partition; it is translated for the clients.
        error: ErrorCode,
    },
    /// Topics were deleted: committed offsets for them go.
    TopicsDeleted {
        /// The deleted topics.
        topics: Vec<DeletedTopic>,
    },
    /// The cluster looks different: topics were created, changed or deleted, or a group has other settings.
    ClusterChanged {
        /// What there is by now.
        view: Arc<dyn ClusterView>,
        /// What has happened to topics.
        changes: Vec<TopicChange>,
    },
    /// What [`Effect::ResolveRegexes`](super::Effect::ResolveRegexes) asked for.
    RegexesResolved {
        /// The group.
        group_id: GroupId,
        /// The [version](ClusterView::version) of the view that was looked through.
        version: i64,
        /// The topics that each expression matches.
        resolved: Vec<(Str, BTreeSet<TopicName>)>,
    },
    /// The time that [`deadline`](super::GroupCoordinator::deadline) named has come.
    Timeout,
    /// This broker no longer leads the partition: everything parked is answered with `NOT_COORDINATOR`.
    Unload,
}

/// Who sent a request, as remembered for each member and shown by DescribeGroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The client id of the request header, empty if it had none.
    pub client_id: Str,
    /// The address of the client, which Kafka writes with a leading slash: `/127.0.0.1`.
    pub client_host: Str,
}

/// A topic that is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its name, under which another topic may exist by now.
    pub name: TopicName,
    /// Its id. Offsets that were committed for another topic of the same name stay.
    pub topic_id: TopicId,
}
