//! Sockets: listening, reading requests, writing answers.

pub(crate) mod connection;
pub(crate) mod listener;
mod output;
pub(crate) mod transport;
