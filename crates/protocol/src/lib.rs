//! The Kafka wire protocol: messages, headers and frames, in every version, byte for byte.
//!
//! **The Rust struct is the schema.** `#[derive(Wire)]` turns a struct with a few attributes (from
//! which version on a field is there, its tag, its default) into code that reads and writes every
//! version in a single pass. There is no generated code to check in and no schema language beside
//! Rust, because Kafka's schema is regular enough for attributes, and a reader of this crate should
//! see what a message is by looking at its struct.
//!
//! What is read shares the buffer it was read from: texts and byte strings are slices. What is
//! written is a list of [`Chunk`]s, so that record batches go from the log to the socket uncopied.
//! Unknown tagged fields are dropped, unless [asked for](UnknownTags). Hostile bytes give an error
//! that names the field; they cause no panic and no allocation beyond a small multiple of what has
//! arrived.
//!
//! The feature `json` adds messages as the JSON of Kafka's own converters. Rust 1.95 is the oldest
//! compiler.
//!
//! ```
//! use bytes::BytesMut;
//! use tidelog_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
//! use tidelog_protocol::{Reader, Request, ResponseHeader, Message, Writer};
//! use tidelog_protocol::{encode_request, encode_response, frame};
//!
//! // A client asks, in version 4.
//! let request = HeartbeatRequest {
//!     group_id: "billing".into(),
//!     generation_id: 7,
//!     ..Default::default()
//! };
//! let mut writer = Writer::new();
//! encode_request(&mut writer, 4, 1, Some(&"app".into()), &request)?;
//! let mut socket = BytesMut::from(&writer.finish_contiguous()?[..]);
//!
//! // A broker answers.
//! let frame = frame::next_frame(&mut socket, 1024 * 1024)?.expect("the whole frame has arrived");
//! let (header, request) = Request::read_frame(frame)?;
//! let Request::Heartbeat(request) = request else { panic!("a heartbeat was sent") };
//! assert_eq!(request.group_id, "billing");
//! let response = HeartbeatResponse::default();
//! encode_response(&mut writer, header.api_version, header.correlation_id, &response)?;
//! let mut socket = BytesMut::from(&writer.finish_contiguous()?[..]);
//!
//! // And the client reads the answer.
//! let frame = frame::next_frame(&mut socket, 1024 * 1024)?.expect("the whole frame has arrived");
//! let mut reader = Reader::new(frame);
//! assert_eq!(ResponseHeader::read(&mut reader, header.api_key, 4)?.correlation_id, 1);
//! assert_eq!(HeartbeatResponse::read(&mut reader, 4)?, response);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// The derive names this crate by its full name, also from within.
extern crate self as tidelog_protocol;

pub mod api;
mod error;
pub mod frame;
mod header;
#[cfg(feature = "json")]
pub mod json;
mod message;
pub mod messages;

mod reader;
pub mod records;
mod schema;
mod show;
mod tags;
mod version;
mod wire;
mod writer;

pub use api::{
    APIS, Api, ApiKey, ApiRequest, ApiResponse, Listener, RETIRED, Request, Response,
    encode_request, encode_response,
};
pub use error::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
pub use header::{RequestHeader, ResponseHeader};
pub use message::Message;
pub use reader::{Reader, Start, TagsRead};
pub use schema::{Field, Kind, Schema};
pub use show::{Fields, Line, Secret, Show, debug};
pub use tags::UnknownTags;
pub use tidelog_protocol_derive::{Wire, message};
pub use version::{Version, VersionRange};
pub use wire::{Fixed, Payload, Wire, part};
pub use writer::{Chunk, Mark, TagsWritten, Writer};
