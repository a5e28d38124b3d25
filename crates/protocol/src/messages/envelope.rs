//! Envelope, key 58.

use super::*;

/// Brings a request of a client from a broker to the controller (KIP-590).
#[message(versions = 0..=0, flexible = 0..)]
pub struct EnvelopeRequest {
    /// The request of the client with its header.
    #[wire(secret)]
    pub request_data: Bytes,
    /// Who the client is, as [`DefaultPrincipal`](crate::records::principal::DefaultPrincipal), or
    /// null.
    pub request_principal: Option<Bytes>,
    /// The address of the client: 4 or 16 bytes.
    pub client_host_address: Bytes,
}

/// Brings the response back to the broker.
#[message(versions = 0..=0, flexible = 0..)]
pub struct EnvelopeResponse {
    /// The response for the client with its header; null if there was an error.
    #[wire(secret)]
    pub response_data: Option<Bytes>,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
