//! What is set while a broker runs, and no other way: `server.properties` does not know it.

use crate::configs::def::{ConfigDef, long};

#[rustfmt::skip]
pub(crate) static DYNAMIC: &[ConfigDef] = &[
    long("leader.replication.throttled.rate").default("9223372036854775807").at_least(0).cluster_wide()
        .doc("Most bytes a second that a broker sends to the replicas in `leader.replication.throttled.replicas` of its topics (KIP-73)."),
    long("follower.replication.throttled.rate").default("9223372036854775807").at_least(0).cluster_wide()
        .doc("Most bytes a second that a broker fetches for its replicas in `follower.replication.throttled.replicas` of their topics (KIP-73)."),
    long("replica.alter.log.dirs.io.max.bytes.per.second").default("9223372036854775807").at_least(0).cluster_wide()
        .doc("Most bytes a second that a broker copies between its log directories (KIP-113)."),
];
