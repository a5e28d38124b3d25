//! Listening, reading requests, writing answers: over sockets, or within the process.

pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod memory;
pub(crate) mod network;
mod output;
pub(crate) mod quota;
pub(crate) mod transport;
