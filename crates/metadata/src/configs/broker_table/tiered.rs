//! Tiered storage.

use crate::configs::def::{ConfigDef, boolean, int, long, string};

#[rustfmt::skip]
pub(crate) static TIERED: &[ConfigDef] = &[
    boolean("remote.log.storage.system.enable").default("false")
        .doc("Switch tiered storage on (KIP-405)."),
    string("remote.log.storage.manager.class.name")
        .doc("A plug-in class that stores tiered segments; classes cannot be loaded here."),
    string("remote.log.storage.manager.class.path")
        .doc("Where that class is found."),
    string("remote.log.metadata.manager.class.name").default("org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager")
        .doc("A plug-in class that knows where tiered segments are; classes cannot be loaded here."),
    string("remote.log.metadata.manager.class.path")
        .doc("Where that class is found."),
    string("remote.log.metadata.manager.listener.name")
        .doc("The listener that the metadata of tiered segments goes over."),
    long("remote.log.index.file.cache.total.size.bytes").default("1073741824").at_least(1).cluster_wide()
        .doc("Disk space for indexes of tiered segments."),
    long("remote.log.manager.task.interval.ms").default("30000").at_least(1)
        .doc("How often the broker looks for segments to tier."),
    int("remote.log.manager.copier.thread.pool.size").default("10").at_least(1).cluster_wide()
        .doc("Segments that are copied at the same time."),
    int("remote.log.manager.expiration.thread.pool.size").default("10").at_least(1).cluster_wide()
        .doc("Partitions whose tiered segments are expired at the same time."),
    long("remote.log.manager.copy.max.bytes.per.second").default("9223372036854775807").at_least(1).cluster_wide()
        .doc("Bytes per second that go to tiered storage."),
    long("remote.log.manager.fetch.max.bytes.per.second").default("9223372036854775807").at_least(1).cluster_wide()
        .doc("Bytes per second that come from tiered storage."),
    int("remote.log.reader.threads").default("10").at_least(1).cluster_wide()
        .doc("Reads of tiered segments at the same time."),
    int("remote.log.reader.max.pending.tasks").default("100").at_least(1)
        .doc("Reads of tiered segments that may wait."),
    int("remote.fetch.max.wait.ms").default("500").at_least(1).cluster_wide()
        .doc("How long a fetch waits for tiered storage."),
    long("remote.list.offsets.request.timeout.ms").default("30000").at_least(1).cluster_wide()
        .doc("How long a look-up of offsets waits for tiered storage."),
];
