//! Envelope: what a broker passes on for a client (KIP-590).

use bytes::{Bytes, BytesMut};
use tidelog_protocol::messages::envelope::{EnvelopeRequest, EnvelopeResponse};
use tidelog_protocol::records::principal::DefaultPrincipal;
use tidelog_protocol::{ApiKey, Chunk, Reader, Request, RequestHeader};
use tidelog_types::ErrorCode;

use super::ControllerNode;
use crate::handlers::{Answer, Context, Role};

/// The length that stands before every frame, and is left out in an envelope.
const LENGTH_BYTES: usize = 4;

/// What may come in an envelope: what clients ask of brokers and controllers decide.
const FORWARDED: &[ApiKey] = &[
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::AlterConfigs,
    ApiKey::CreatePartitions,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::UnregisterBroker,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
];

pub(super) async fn handle(context: Context<ControllerNode>, request: EnvelopeRequest) -> Answer {
    let refuse = |error_code| EnvelopeResponse {
        response_data: None,
        error_code,
    };
    let principal = request.request_principal.unwrap_or_default();
    if DefaultPrincipal::decode_versioned(&principal).is_err() {
        return context.answer(&refuse(ErrorCode::PRINCIPAL_DESERIALIZATION_FAILURE));
    }
    let (header, request) = match opened(request.request_data) {
        Ok(opened) => opened,
        Err(code) => return context.answer(&refuse(code)),
    };
    let leadership = context.node.controller.leadership();
    let before = leadership.borrow().clone();
    if !before.is_here {
        return context.answer(&refuse(ErrorCode::NOT_CONTROLLER));
    }
    // The quorum's own answers stand: a leader that has voted itself out says so, and leads no longer.
    let by_quorum = matches!(
        header.api_key,
        ApiKey::DescribeQuorum | ApiKey::AddRaftVoter | ApiKey::RemoveRaftVoter
    );
    let inner = Context {
        node: context.node.clone(),
        peer: context.peer.clone(),
        header,
    };
    let answer = ControllerNode::route(inner, request).await;
    let after = leadership.borrow().clone();
    if !by_quorum && (!after.is_here || after.leader_epoch != before.leader_epoch) {
        // What was answered may be that there is no controller here any more: the broker finds the next one.
        return context.answer(&refuse(ErrorCode::NOT_CONTROLLER));
    }
    match answer {
        Answer::Send(response) => context.answer(&EnvelopeResponse {
            response_data: Some(joined(&response.chunks)),
            error_code: ErrorCode::NONE,
        }),
        other => other,
    }
}

/// Reads the request in the envelope.
fn opened(data: Bytes) -> Result<(RequestHeader, Request), ErrorCode> {
    let mut reader = Reader::new(data);
    let header = RequestHeader::read(&mut reader).map_err(|_| ErrorCode::INVALID_REQUEST)?;
    if !FORWARDED.contains(&header.api_key) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let version = header.api_version;
    let is_known = |api: &tidelog_protocol::Api| api.supported.contains(version);
    if !header.api_key.api().is_some_and(is_known) {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let request = Request::read(&mut reader, header.api_key, version);
    Ok((header, request.map_err(|_| ErrorCode::INVALID_REQUEST)?))
}

/// The response without its length.
fn joined(chunks: &[Chunk]) -> Bytes {
    let mut bytes = BytesMut::new();
    for chunk in chunks {
        // Nothing that may come in an envelope is answered with pieces of files.
        if let Chunk::Bytes(chunk) = chunk {
            bytes.extend_from_slice(chunk);
        }
    }
    let bytes = bytes.freeze();
    bytes.slice(LENGTH_BYTES.min(bytes.len())..)
}
