//! What nodes and clients say to each other: what the broker sends over the wire, before it is encoded.

use bytes::Bytes;
use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_node::partition::{Acks, Fetched};
use tidelog_record::Batch;
use tidelog_replication::partition::{FetchState, LogRange};
use tidelog_replication::quorum::message as quorum;
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, TopicId, TopicName};

/// A partition.
pub(crate) type Partition = (TopicId, i32);

/// What a consumer reads.
pub(crate) type Records = Result<Vec<Batch>, ErrorCode>;

#[derive(Clone, Debug)]
pub(crate) enum Message {
    Request {
        id: u64,
        request: Request,
    },
    Response {
        id: u64,
        response: Response,
    },
    /// The connection was closed; what was asked over it will not be answered.
    Closed {
        id: u64,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Request {
    Quorum(quorum::Request),
    Controller(ControllerRequest),
    /// A follower wants records.
    Fetch {
        broker_epoch: i64,
        partitions: Vec<(Partition, FetchState)>,
    },
    /// A follower wants to know where the leader's log begins and ends.
    Offsets(Partition, LeaderEpoch),
    Produce(Partition, Batch, Acks),
    /// An administrator wants everything deleted that is committed.
    DeleteRecords(Partition),
    /// A consumer wants what is committed from an offset on.
    Records(Partition, Offset),
    /// Of the coordinator of a group, in a version.
    Group(i16, Box<GroupRequest>),
    /// Who leads what.
    Metadata,
}

#[derive(Clone, Debug)]
pub(crate) enum Response {
    /// With the records, or the piece of a snapshot.
    Quorum(quorum::Response, Bytes),
    Controller(ControllerResponse),
    NotController,
    Fetch(Vec<(Partition, Fetched)>),
    Offsets(Result<LogRange, ErrorCode>),
    Produce(Result<Offset, ErrorCode>),
    Records(Records),
    Group(Box<GroupResponse>),
    Metadata(Vec<(TopicName, Partition, Option<NodeId>)>),
}

impl Message {
    /// Requests of different kinds go over connections of their own.
    pub(crate) const fn lane(&self) -> u8 {
        match self {
            Self::Request { request, .. } => match request {
                Request::Quorum(_) => 0,
                Request::Controller(_) => 1,
                Request::Fetch { .. } | Request::Offsets(..) => 2,
                Request::Produce(..)
                | Request::DeleteRecords(_)
                | Request::Metadata
                | Request::Records(..) => 3,
                Request::Group(..) => 5,
            },
            Self::Response { response, .. } => match response {
                Response::Quorum(..) => 0,
                Response::Controller(_) | Response::NotController => 1,
                Response::Fetch(_) | Response::Offsets(_) => 2,
                Response::Produce(_) | Response::Metadata(_) | Response::Records(_) => 3,
                Response::Group(_) => 5,
            },
            Self::Closed { .. } => 4,
        }
    }
}
