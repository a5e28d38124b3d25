//! Every broker config, by subject. Each row is all there is to say about a key: parsing, DescribeConfigs, the rules for
//! changes and the documentation come from here.

mod cluster;
mod dynamic;
mod groups;
mod log;
mod security;
mod server;
mod tiered;

use crate::configs::def::ConfigDef;

pub(crate) use self::dynamic::DYNAMIC;

/// The tables, by subject.
pub(crate) static TABLES: [&[ConfigDef]; 6] = [
    server::SERVER,
    cluster::CLUSTER,
    log::LOG,
    groups::GROUPS,
    security::SECURITY,
    tiered::TIERED,
];
