//! Brokers as their clients see them: real sockets, real files, every test a broker of its own.
//!
//! Tests named `corner_N` prove statement N of the list of hard corners, on which other brokers and clients have stumbled.

#![allow(
    clippy::disallowed_methods,
    reason = "clients have a clock of their own"
)]

mod client;
mod cluster;
mod clusters;
mod compaction;
mod connections;
mod consumer_groups;
mod direct;
mod disk;
mod faults;
mod fetch;
#[path = "../../../log/tests/support/fixture.rs"]
mod fixture;
mod groups;
mod kafka;
mod log_dirs;
mod memory;
mod offsets;
mod old_formats;
mod ops;
mod presence;
mod produce;
mod quorum;
mod replication;
mod restart;
mod server;
#[cfg(feature = "testing")]
mod testing;
mod topics;
mod wire;
