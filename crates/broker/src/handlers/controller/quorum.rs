//! The APIs of the metadata quorum: its thread answers.

use std::future::Future;

use tidelog_protocol::{Request, Response};

use super::ControllerNode;
use crate::handlers::{Answer, Closed, Context, Role};
use crate::node::Node;

/// A role whose listeners take questions to the quorum.
pub(in crate::handlers) trait Asked: Role {
    fn ask(
        context: &Context<Self>,
        request: Request,
    ) -> impl Future<Output = Option<Response>> + Send;
}

impl Asked for ControllerNode {
    async fn ask(context: &Context<Self>, request: Request) -> Option<Response> {
        let listener = context.peer.listener.clone();
        context.node.controller.ask(request, listener).await
    }
}

impl Asked for Node {
    /// Brokers pass on what only the leader can answer.
    async fn ask(context: &Context<Self>, request: Request) -> Option<Response> {
        let client = context.peer.address.ip();
        match context.node.controller.ask_quorum(client, request).await {
            Ok(response) => Some(response),
            Err(error) => {
                tracing::warn!(api = %context.header.api_key, %error, "the quorum did not answer");
                None
            }
        }
    }
}

/// Declares handlers that pass a request to the quorum and its response back.
macro_rules! pass_on {
    ($($module:ident: $api:ident($request:ident);)*) => {$(
        pub(in crate::handlers) mod $module {
            use tidelog_protocol::messages::$module::$request;

            use super::*;

            #[doc = concat!("Answers a ", stringify!($api), " request.")]
            pub(in crate::handlers) async fn handle<R: Asked>(
                context: Context<R>,
                request: $request,
            ) -> Answer {
                match R::ask(&context, request.into()).await {
                    Some(Response::$api(response)) => context.answer(&response),
                    Some(other) => context.mismatch(&other),
                    None => not_at_work(),
                }
            }
        }
    )*};
}

fn not_at_work() -> Answer {
    Answer::Close(Closed::BadRequest(
        "the metadata quorum is not at work here".to_owned(),
    ))
}

pass_on! {
    fetch: Fetch(FetchRequest);
    vote: Vote(VoteRequest);
    begin_quorum_epoch: BeginQuorumEpoch(BeginQuorumEpochRequest);
    end_quorum_epoch: EndQuorumEpoch(EndQuorumEpochRequest);
    fetch_snapshot: FetchSnapshot(FetchSnapshotRequest);
    add_raft_voter: AddRaftVoter(AddRaftVoterRequest);
    remove_raft_voter: RemoveRaftVoter(RemoveRaftVoterRequest);
    update_raft_voter: UpdateRaftVoter(UpdateRaftVoterRequest);
}

pub(in crate::handlers) mod describe_quorum {
    use tidelog_protocol::messages::describe_quorum::{
        DescribeQuorumRequest, DescribeQuorumResponse,
    };
    use tidelog_types::Uuid;

    use super::*;

    /// From this version on directories and addresses are told (KIP-853).
    const DIRECTORIES_FROM_VERSION: i16 = 2;

    /// Answers a DescribeQuorum request.
    pub(in crate::handlers) async fn handle<R: Asked>(
        context: Context<R>,
        request: DescribeQuorumRequest,
    ) -> Answer {
        match R::ask(&context, request.into()).await {
            Some(Response::DescribeQuorum(mut response)) => {
                if context.header.api_version < DIRECTORIES_FROM_VERSION {
                    leave_out_directories(&mut response);
                }
                context.answer(&response)
            }
            Some(other) => context.mismatch(&other),
            None => not_at_work(),
        }
    }

    fn leave_out_directories(response: &mut DescribeQuorumResponse) {
        response.nodes.clear();
        let topics = response.topics.iter_mut();
        for partition in topics.flat_map(|topic| &mut topic.partitions) {
            let voters = partition.current_voters.iter_mut();
            for replica in voters.chain(&mut partition.observers) {
                replica.replica_directory_id = Uuid::ZERO;
            }
        }
    }
}
