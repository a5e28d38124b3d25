//! What a node of a cluster does with its machines and its logs, without sockets, threads and clocks.
//!
//! A machine decides and does nothing; a log does what it is told. What lies between the two is here, once: a
//! [`PartitionCore`](partition::PartitionCore) is a log with its replica and whoever waits for it. The broker puts it behind
//! a mutex and the simulator calls it as it is, so what the simulator finds is true of the broker. A
//! [`Shard`](groups::Shard) is the same for the coordinator of groups, whose log is such a partition.
//!
//! The key decision: **everything is a call that returns**. The time is an argument, what others are to do comes back in an
//! `After`, and what takes long (a flush) is begun, run by the owner wherever it likes, and reported.

pub mod groups;
pub mod metadata;
pub mod partition;
