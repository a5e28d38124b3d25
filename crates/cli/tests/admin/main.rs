//! What an operator does to a cluster, by the client's calls and by the commands: against a broker in this process or, with
//! `TIDELOG_TEST_BOOTSTRAP=host:port`, against one that runs already.

mod bench;
mod calls;
mod cluster;
mod config;
mod guide;
mod profile;
mod records;
mod ship;
mod support;
mod topic;
