//! Group, share and transaction coordinators.

use crate::configs::def::{ConfigDef, boolean, int, list, long, short, string};

#[rustfmt::skip]
pub(crate) static GROUPS: &[ConfigDef] = &[
    int("offsets.topic.num.partitions").default("50").at_least(1)
        .doc("Partitions of `__consumer_offsets`; not to be changed once it exists."),
    short("offsets.topic.replication.factor").default("3").at_least(1)
        .doc("Replicas of `__consumer_offsets`."),
    int("offsets.topic.segment.bytes").default("104857600").at_least(1)
        .doc("Size of a segment of `__consumer_offsets`, in bytes."),
    int("offsets.topic.compression.codec").default("0")
        .doc("Codec of the batches in `__consumer_offsets`: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."),
    int("offsets.retention.minutes").default("10080").at_least(1)
        .doc("Minutes that offsets of an empty group are kept."),
    long("offsets.retention.check.interval.ms").default("600000").at_least(1)
        .doc("How often the coordinator looks for offsets to drop."),
    int("offsets.commit.timeout.ms").default("5000").at_least(1)
        .doc("How long a commit waits for its replicas."),
    int("offsets.load.buffer.size").default("5242880").at_least(1)
        .doc("Bytes read at a time while a coordinator loads its state."),
    int("offset.metadata.max.bytes").default("4096")
        .doc("Longest text that may be stored with a committed offset."),
    int("group.initial.rebalance.delay.ms").default("3000")
        .doc("How long a new classic group waits for more members before its first rebalance."),
    int("group.min.session.timeout.ms").default("6000")
        .doc("Shortest session timeout of a classic member."),
    int("group.max.session.timeout.ms").default("1800000")
        .doc("Longest session timeout of a classic member."),
    int("group.max.size").default("2147483647").at_least(1)
        .doc("Members of a classic group."),
    int("group.coordinator.threads").default("4").at_least(1)
        .doc("Threads of the group coordinator in Kafka. Accepted, and without effect on tasks here."),
    int("group.coordinator.background.threads").default("2").at_least(1)
        .doc("Background threads of the group coordinator in Kafka. Accepted, and without effect here."),
    int("group.coordinator.append.linger.ms").default("-1").at_least(-1)
        .doc("How long the coordinator gathers records before it writes them; -1 lets it adapt."),
    int("group.coordinator.cached.buffer.max.bytes").default("1048588").at_least(524288).cluster_wide()
        .doc("Largest write buffer that a coordinator keeps for reuse."),
    list("group.coordinator.rebalance.protocols").default("classic,consumer,streams").one_of(&["consumer", "classic", "share", "streams"])
        .doc("Group protocols that are served. Deprecated in Kafka 4.3."),
    int("group.consumer.session.timeout.ms").default("45000").at_least(1)
        .doc("Session timeout of a member of a consumer group (KIP-848)."),
    int("group.consumer.min.session.timeout.ms").default("45000").at_least(1)
        .doc("Smallest value a group may set its session timeout to."),
    int("group.consumer.max.session.timeout.ms").default("60000").at_least(1)
        .doc("Largest value a group may set its session timeout to."),
    int("group.consumer.heartbeat.interval.ms").default("5000").at_least(1)
        .doc("Heartbeat interval that members of a consumer group are told."),
    int("group.consumer.min.heartbeat.interval.ms").default("5000").at_least(1)
        .doc("Smallest value a group may set its heartbeat interval to."),
    int("group.consumer.max.heartbeat.interval.ms").default("15000").at_least(1)
        .doc("Largest value a group may set its heartbeat interval to."),
    int("group.consumer.max.size").default("2147483647").at_least(1)
        .doc("Members of a consumer group."),
    list("group.consumer.assignors").default("uniform,range")
        .doc("Assignors that run on the broker, the first being the default."),
    string("group.consumer.migration.policy").default("bidirectional").one_of_any_case(&["disabled", "downgrade", "upgrade", "bidirectional"])
        .doc("Which way a group may change between the classic and the consumer protocol while it runs."),
    int("group.consumer.assignment.interval.ms").default("1000").at_least(0).cluster_wide()
        .doc("Time between two assignments of a consumer group."),
    int("group.consumer.min.assignment.interval.ms").default("0").at_least(0)
        .doc("Smallest value a group may set its assignment interval to."),
    int("group.consumer.max.assignment.interval.ms").default("15000").at_least(0)
        .doc("Largest value a group may set its assignment interval to."),
    int("group.share.session.timeout.ms").default("45000").at_least(1)
        .doc("Session timeout of a member of a share group (KIP-932)."),
    int("group.share.min.session.timeout.ms").default("45000").at_least(1)
        .doc("Smallest value a share group may set its session timeout to."),
    int("group.share.max.session.timeout.ms").default("60000").at_least(1)
        .doc("Largest value a share group may set its session timeout to."),
    int("group.share.heartbeat.interval.ms").default("5000").at_least(1)
        .doc("Heartbeat interval that members of a share group are told."),
    int("group.share.min.heartbeat.interval.ms").default("5000").at_least(1)
        .doc("Smallest value a share group may set its heartbeat interval to."),
    int("group.share.max.heartbeat.interval.ms").default("15000").at_least(1)
        .doc("Largest value a share group may set its heartbeat interval to."),
    int("group.share.max.size").default("200").between(1, 1000)
        .doc("Members of a share group."),
    int("group.share.max.share.sessions").default("2000").at_least(1)
        .doc("Share sessions of one broker."),
    list("group.share.assignors").default("simple")
        .doc("Assignors of share groups; there is one."),
    int("group.share.assignment.interval.ms").default("1000").at_least(0).cluster_wide()
        .doc("Time between two assignments of a share group."),
    int("group.share.min.assignment.interval.ms").default("0").at_least(0)
        .doc("Smallest value a share group may set its assignment interval to."),
    int("group.share.max.assignment.interval.ms").default("15000").at_least(0)
        .doc("Largest value a share group may set its assignment interval to."),
    int("group.share.delivery.count.limit").default("5").between(2, 10)
        .doc("How often a record is delivered before it counts as undeliverable."),
    int("group.share.min.delivery.count.limit").default("2").between(2, 5)
        .doc("Smallest value a share group may set its delivery count limit to."),
    int("group.share.max.delivery.count.limit").default("10").between(5, 25)
        .doc("Largest value a share group may set its delivery count limit to."),
    int("group.share.partition.max.record.locks").default("2000").between(100, 10000)
        .doc("Records of one partition that a share group may have in flight."),
    int("group.share.min.partition.max.record.locks").default("100").between(100, 2000)
        .doc("Smallest value a share group may set its record locks to."),
    int("group.share.max.partition.max.record.locks").default("4000").between(2000, 10000)
        .doc("Largest value a share group may set its record locks to."),
    int("group.share.record.lock.duration.ms").default("30000").between(1000, 3600000)
        .doc("How long a consumer of a share group holds a record."),
    int("group.share.min.record.lock.duration.ms").default("15000").between(1000, 30000)
        .doc("Smallest value a share group may set its lock duration to."),
    int("group.share.max.record.lock.duration.ms").default("60000").between(30000, 3600000)
        .doc("Largest value a share group may set its lock duration to."),
    int("group.streams.session.timeout.ms").default("45000").at_least(1)
        .doc("Session timeout of a member of a streams group (KIP-1071)."),
    int("group.streams.min.session.timeout.ms").default("45000").at_least(1)
        .doc("Smallest value a streams group may set its session timeout to."),
    int("group.streams.max.session.timeout.ms").default("60000").at_least(1)
        .doc("Largest value a streams group may set its session timeout to."),
    int("group.streams.heartbeat.interval.ms").default("5000").at_least(1)
        .doc("Heartbeat interval that members of a streams group are told."),
    int("group.streams.min.heartbeat.interval.ms").default("5000").at_least(1)
        .doc("Smallest value a streams group may set its heartbeat interval to."),
    int("group.streams.max.heartbeat.interval.ms").default("15000").at_least(1)
        .doc("Largest value a streams group may set its heartbeat interval to."),
    int("group.streams.max.size").default("2147483647").at_least(1)
        .doc("Members of a streams group."),
    int("group.streams.num.standby.replicas").default("0").at_least(0)
        .doc("Standby copies of each task of a streams group."),
    int("group.streams.max.standby.replicas").default("2").at_least(0)
        .doc("Largest number of standby copies a streams group may set."),
    int("group.streams.initial.rebalance.delay.ms").default("3000").at_least(0)
        .doc("How long a new streams group waits for more members before its first assignment."),
    int("group.streams.assignment.interval.ms").default("1000").at_least(0).cluster_wide()
        .doc("Time between two assignments of a streams group."),
    int("group.streams.min.assignment.interval.ms").default("0").at_least(0)
        .doc("Smallest value a streams group may set its assignment interval to."),
    int("group.streams.max.assignment.interval.ms").default("15000").at_least(0)
        .doc("Largest value a streams group may set its assignment interval to."),
    int("share.coordinator.state.topic.num.partitions").default("50").at_least(1)
        .doc("Partitions of `__share_group_state`; not to be changed once it exists."),
    short("share.coordinator.state.topic.replication.factor").default("3").at_least(1)
        .doc("Replicas of `__share_group_state`."),
    int("share.coordinator.state.topic.segment.bytes").default("104857600").at_least(1)
        .doc("Size of a segment of `__share_group_state`, in bytes."),
    short("share.coordinator.state.topic.min.isr").default("2").at_least(1)
        .doc("Replicas of `__share_group_state` that must be in sync."),
    int("share.coordinator.state.topic.compression.codec").default("0")
        .doc("Codec of the batches in `__share_group_state`, by number."),
    int("share.coordinator.snapshot.update.records.per.snapshot").default("500").between(0, 500)
        .doc("Update records after which a snapshot of a share partition is written."),
    int("share.coordinator.write.timeout.ms").default("5000").at_least(1)
        .doc("How long a write of the share coordinator waits for its replicas."),
    int("share.coordinator.load.buffer.size").default("5242880").at_least(1)
        .doc("Bytes read at a time while a share coordinator loads its state."),
    int("share.coordinator.threads").default("1").at_least(1)
        .doc("Threads of the share coordinator in Kafka. Accepted, and without effect on tasks here."),
    int("share.coordinator.append.linger.ms").default("-1").at_least(-1)
        .doc("How long the share coordinator gathers records before it writes them; -1 lets it adapt."),
    int("share.coordinator.cached.buffer.max.bytes").default("1048588").at_least(524288).cluster_wide()
        .doc("Largest write buffer that a share coordinator keeps for reuse."),
    int("transaction.state.log.num.partitions").default("50").at_least(1)
        .doc("Partitions of `__transaction_state`; not to be changed once it exists."),
    short("transaction.state.log.replication.factor").default("3").at_least(1)
        .doc("Replicas of `__transaction_state`."),
    int("transaction.state.log.min.isr").default("2").at_least(1)
        .doc("Replicas of `__transaction_state` that must be in sync."),
    int("transaction.state.log.segment.bytes").default("104857600").at_least(1)
        .doc("Size of a segment of `__transaction_state`, in bytes."),
    int("transaction.state.log.load.buffer.size").default("5242880").at_least(1)
        .doc("Bytes read at a time while a transaction coordinator loads its state."),
    int("transaction.max.timeout.ms").default("900000").at_least(1)
        .doc("Longest transaction timeout that a producer may ask for."),
    int("transactional.id.expiration.ms").default("604800000").at_least(1)
        .doc("A transactional id that was not used for this long is forgotten."),
    int("transaction.abort.timed.out.transaction.cleanup.interval.ms").default("10000").at_least(1)
        .doc("How often the coordinator looks for transactions that took too long."),
    int("transaction.remove.expired.transaction.cleanup.interval.ms").default("3600000").at_least(1)
        .doc("How often the coordinator looks for transactional ids to forget."),
    boolean("transaction.partition.verification.enable").default("true").cluster_wide()
        .doc("Check with the coordinator that a partition belongs to an open transaction (KIP-890). Accepted, and without effect: it is always checked."),
    boolean("transaction.two.phase.commit.enable").default("false")
        .doc("Allow transactions that an outside coordinator decides (KIP-939)."),
    int("add.partitions.to.txn.retry.backoff.ms").default("20").at_least(1)
        .doc("First wait before Kafka asks the transaction coordinator again that is busy with the transaction. Accepted, and without effect: the producer is told, and asks again."),
    int("add.partitions.to.txn.retry.backoff.max.ms").default("100").at_least(0)
        .doc("Longest wait of that kind. Accepted, and without effect."),
];
