//! The metadata quorum, broker sessions, replication.

use crate::configs::def::{ConfigDef, boolean, int, list, long, string};

#[rustfmt::skip]
pub(crate) static CLUSTER: &[ConfigDef] = &[
    list("controller.quorum.voters").default("")
        .doc("The fixed voters of the metadata quorum, `id@host:port`, separated by commas (kraft.version 0)."),
    list("controller.quorum.bootstrap.servers").default("")
        .doc("Addresses at which the metadata quorum can be found, `host:port`, separated by commas."),
    int("controller.quorum.election.timeout.ms").default("1000").at_least(0)
        .doc("A voter that hears from no leader for this long (up to twice, at random) starts an election."),
    int("controller.quorum.fetch.timeout.ms").default("2000").at_least(0)
        .doc("A voter that cannot fetch from the leader for this long becomes a candidate; a leader without a majority steps down."),
    int("controller.quorum.election.backoff.max.ms").default("1000").at_least(0)
        .doc("Longest wait between two elections without a winner."),
    int("controller.quorum.request.timeout.ms").default("2000").at_least(0)
        .doc("How long a voter waits for the answer to a request of the quorum."),
    int("controller.quorum.retry.backoff.ms").default("20").at_least(0)
        .doc("Wait before a failed request of the quorum is sent again."),
    int("controller.quorum.append.linger.ms").default("25").at_least(0)
        .doc("How long the leader gathers records before it writes them."),
    int("controller.quorum.fetch.max.bytes").default("1048576").at_least(1)
        .doc("Most bytes of metadata records that one fetch of the quorum returns."),
    int("controller.quorum.fetch.snapshot.max.bytes").default("1048576").at_least(1)
        .doc("Most bytes of a metadata snapshot that one fetch returns."),
    boolean("controller.quorum.auto.join.enable").default("false")
        .doc("A controller that is not a voter makes itself one."),
    int("controller.socket.timeout.ms").default("30000")
        .doc("How long the controller waits for a socket."),
    int("broker.heartbeat.interval.ms").default("2000")
        .doc("How often a broker reports to the controller. In a cluster of several nodes at least every 500 ms."),
    int("broker.session.timeout.ms").default("9000")
        .doc("A broker that has not reported for this long is fenced. Where it is not set, a broker of this kind is fenced after 2 s."),
    int("initial.broker.registration.timeout.ms").default("60000")
        .doc("A broker that could not register for this long after its start gives up."),
    long("leader.imbalance.check.interval.seconds").default("300").at_least(1)
        .doc("How often the controller looks for partitions not led by their preferred replica."),
    boolean("auto.leader.rebalance.enable").default("true")
        .doc("Give leadership back to preferred replicas in the background."),
    boolean("unclean.leader.election.enable").default("false").cluster_wide()
        .doc("Elect a replica that is not in sync when no other is left; records may be lost."),
    int("min.insync.replicas").default("1").at_least(1).cluster_wide()
        .doc("Replicas that must be in sync, the leader included, for a write with acks=all."),
    long("replica.lag.time.max.ms").default("30000")
        .doc("A follower that has not caught up with its leader for this long leaves the ISR."),
    int("replica.fetch.max.bytes").default("1048576").at_least(0)
        .doc("Most bytes a follower asks for per partition."),
    int("replica.fetch.wait.max.ms").default("500")
        .doc("How long a leader may hold back a follower's fetch that has nothing to return."),
    int("replica.fetch.min.bytes").default("1")
        .doc("Fewest bytes worth an answer to a follower's fetch."),
    int("replica.fetch.response.max.bytes").default("10485760").at_least(0)
        .doc("Most bytes a follower asks for in one fetch."),
    int("replica.fetch.backoff.ms").default("1000").at_least(0)
        .doc("Wait before a follower fetches again after an error."),
    int("replica.socket.timeout.ms").default("30000")
        .doc("How long a follower waits for the answer to a fetch."),
    int("replica.socket.receive.buffer.bytes").default("65536")
        .doc("Receive buffer of the sockets over which followers fetch, in bytes."),
    long("replica.high.watermark.checkpoint.interval.ms").default("5000")
        .doc("How often high watermarks are written to disk."),
    string("replica.selector.class")
        .doc("Which replica a consumer is sent to: `org.apache.kafka.common.replica.RackAwareReplicaSelector` for one in its rack; other classes cannot be loaded."),
    string("metadata.log.dir")
        .doc("The directory of the metadata log; the first of `log.dirs` when not given."),
    int("metadata.log.segment.bytes").default("1073741824").at_least(8388608)
        .doc("Size of a segment of the metadata log, in bytes."),
    long("metadata.log.segment.ms").default("604800000")
        .doc("Age at which a segment of the metadata log is rolled."),
    long("metadata.max.retention.bytes").default("104857600")
        .doc("Size of metadata log and snapshots above which the oldest are deleted."),
    long("metadata.max.retention.ms").default("604800000")
        .doc("Age of metadata log and snapshots after which they are deleted."),
    int("metadata.max.idle.interval.ms").default("500").at_least(0)
        .doc("An idle controller writes an empty record this often; 0 for never."),
    long("metadata.log.max.record.bytes.between.snapshots").default("20971520").at_least(1)
        .doc("Bytes of metadata records after which a snapshot is made."),
    long("metadata.log.max.snapshot.interval.ms").default("3600000").at_least(0)
        .doc("Time after which a snapshot of the metadata is made if there are new records; 0 for never."),
];
