//! Roles, listeners, sockets, requests, topic defaults, quotas, metrics.

use crate::configs::def::{ConfigDef, boolean, class, int, list, long, string};

#[rustfmt::skip]
pub(crate) static SERVER: &[ConfigDef] = &[
    list("process.roles").default("broker,controller").one_of(&["broker", "controller"])
        .doc("What this node does: `broker`, `controller`, or both. The default here is both, a cluster of one."),
    int("node.id").default("1").at_least(0)
        .doc("The number of this node, unique among all brokers and controllers of the cluster. The default here is 1."),
    int("broker.id").default("-1")
        .doc("The older name of `node.id`; when both are given they must agree."),
    string("broker.rack")
        .doc("The rack or zone this broker stands in. Replicas of a partition are spread over racks (KIP-36)."),
    list("listeners").default("PLAINTEXT://:9092").per_broker()
        .doc("Addresses to listen on, `NAME://host:port`, separated by commas. An empty host means all interfaces, port 0 any free port."),
    list("advertised.listeners")
        .doc("Addresses that clients are told to connect to; as `listeners` when not given."),
    string("listener.security.protocol.map").default("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT").per_broker()
        .doc("Which security protocol each listener name speaks, `NAME:PROTOCOL`, separated by commas (KIP-103)."),
    string("inter.broker.listener.name")
        .doc("The listener over which brokers talk to each other; by default the one that speaks `security.inter.broker.protocol`."),
    string("security.inter.broker.protocol").default("PLAINTEXT").one_of(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
        .doc("The security protocol among brokers, when `inter.broker.listener.name` does not name a listener."),
    list("controller.listener.names").default("CONTROLLER")
        .doc("The listeners of the controller role; the first one is also the one that brokers connect to. The default here is CONTROLLER."),
    list("early.start.listeners")
        .doc("Listeners that open before the broker has caught up with the metadata."),
    boolean("controlled.shutdown.enable").default("true")
        .doc("Hand leadership over to other brokers before this one stops."),
    int("num.network.threads").default("3").at_least(1).cluster_wide()
        .doc("Threads per listener that read requests and write responses in Kafka. Accepted, and without effect on tasks here."),
    int("num.io.threads").default("8").at_least(1).cluster_wide()
        .doc("Threads that carry out requests in Kafka. Accepted, and without effect on tasks here."),
    int("background.threads").default("10").at_least(1).cluster_wide()
        .doc("Threads for background work in Kafka. Accepted, and without effect on tasks here."),
    int("num.replica.fetchers").default("1").at_least(1).cluster_wide()
        .doc("Connections per source broker over which followers fetch."),
    int("num.replica.alter.log.dirs.threads")
        .doc("Threads that move replicas between log directories; by default as many as there are directories."),
    int("socket.send.buffer.bytes").default("102400")
        .doc("Send buffer of a socket in bytes; -1 leaves it to the operating system."),
    int("socket.receive.buffer.bytes").default("102400")
        .doc("Receive buffer of a socket in bytes; -1 leaves it to the operating system."),
    int("socket.request.max.bytes").default("104857600").at_least(1)
        .doc("Largest request in bytes; a connection that announces a larger one is closed."),
    int("socket.listen.backlog.size").default("50").at_least(1)
        .doc("Connections that may wait to be accepted."),
    long("socket.connection.setup.timeout.ms").default("10000")
        .doc("How long a connection to another node may take to be set up, at first."),
    long("socket.connection.setup.timeout.max.ms").default("30000")
        .doc("Upper bound of that time, which doubles with each failure in a row."),
    int("queued.max.requests").default("500").at_least(1)
        .doc("Requests that may wait for a handler before reading from sockets pauses."),
    long("queued.max.request.bytes").default("-1")
        .doc("Bytes of requests that may wait before reading pauses; -1 for no bound."),
    int("max.connections").default("2147483647").at_least(0).cluster_wide()
        .doc("Connections that there may be; beyond it a listener waits until one is closed, but for that between brokers (KIP-402). A listener may have a bound of its own, `listener.name.<listener>.max.connections`."),
    int("max.connections.per.ip").default("2147483647").at_least(0).cluster_wide()
        .doc("Connections from one address; one beyond it is closed at once."),
    string("max.connections.per.ip.overrides").default("").cluster_wide()
        .doc("Exceptions to the bound per address, `host:count`, separated by commas."),
    int("max.connection.creation.rate").default("2147483647").at_least(0).cluster_wide()
        .doc("New connections per second of the whole broker in Kafka (KIP-612). Accepted, and without effect."),
    long("connections.max.idle.ms").default("600000")
        .doc("A connection without traffic for this long is closed."),
    long("connections.max.reauth.ms").default("0")
        .doc("A SASL session is closed after this long unless the client authenticates again (KIP-368); 0 for never."),
    int("connection.failed.authentication.delay.ms").default("100").at_least(0)
        .doc("How long the answer to a failed authentication is held back."),
    int("request.timeout.ms").default("30000")
        .doc("How long this node waits for the answer to a request that it sent."),
    int("fetch.max.bytes").default("57671680").at_least(1024)
        .doc("Most bytes that one fetch is answered with."),
    int("fetch.purgatory.purge.interval.requests").default("1000")
        .doc("Kafka's clean-up interval of waiting fetches. Accepted, and without effect."),
    int("producer.purgatory.purge.interval.requests").default("1000")
        .doc("Kafka's clean-up interval of waiting produce requests. Accepted, and without effect."),
    int("delete.records.purgatory.purge.interval.requests").default("1")
        .doc("Kafka's clean-up interval of waiting delete-records requests. Accepted, and without effect."),
    int("share.fetch.purgatory.purge.interval.requests").default("1000")
        .doc("Kafka's clean-up interval of waiting share fetches. Accepted, and without effect."),
    int("max.incremental.fetch.session.cache.slots").default("1000").at_least(0)
        .doc("Incremental fetch sessions that are remembered (KIP-227)."),
    int("max.request.partition.size.limit").default("2000").at_least(1)
        .doc("Most partitions that one answer to DescribeTopicPartitions lists."),
    boolean("auto.create.topics.enable").default("true")
        .doc("Create a topic when a client asks for the metadata of one that does not exist."),
    boolean("delete.topic.enable").default("true")
        .doc("Allow topics to be deleted."),
    int("num.partitions").default("1").at_least(1)
        .doc("Partitions of a topic that is created without a number."),
    int("default.replication.factor").default("1")
        .doc("Replicas of a topic that is created without a number."),
    int("quota.window.num").default("11").at_least(1)
        .doc("Samples kept per client quota."),
    int("quota.window.size.seconds").default("1").at_least(1)
        .doc("Time span of one sample of a client quota."),
    int("replication.quota.window.num").default("11").at_least(1)
        .doc("Samples kept per replication quota."),
    int("replication.quota.window.size.seconds").default("1").at_least(1)
        .doc("Time span of one sample of a replication quota."),
    int("alter.log.dirs.replication.quota.window.num").default("11").at_least(1)
        .doc("Samples kept per quota on moves between log directories."),
    int("alter.log.dirs.replication.quota.window.size.seconds").default("1").at_least(1)
        .doc("Time span of one sample of a quota on moves between log directories."),
    int("controller.quota.window.num").default("11").at_least(1)
        .doc("Samples kept per quota on changes to the cluster."),
    int("controller.quota.window.size.seconds").default("1").at_least(1)
        .doc("Time span of one sample of a quota on changes to the cluster."),
    class("client.quota.callback.class")
        .doc("A plug-in class that decides quotas; classes cannot be loaded here."),
    class("create.topic.policy.class.name")
        .doc("A plug-in class that may refuse new topics; classes cannot be loaded here."),
    class("alter.config.policy.class.name")
        .doc("A plug-in class that may refuse changes of configuration; classes cannot be loaded here."),
    list("config.providers").default("").cluster_wide()
        .doc("Names of plug-ins that replace variables in values; none can be loaded here."),
    list("metric.reporters").default("org.apache.kafka.common.metrics.JmxReporter").cluster_wide()
        .doc("Plug-in classes that publish metrics; classes cannot be loaded here."),
    list("kafka.metrics.reporters").default("")
        .doc("Older plug-in classes that publish metrics; classes cannot be loaded here."),
    int("kafka.metrics.polling.interval.secs").default("10").at_least(1)
        .doc("Interval of the older metrics plug-ins."),
    int("metrics.num.samples").default("2").at_least(1)
        .doc("Samples kept per metric."),
    long("metrics.sample.window.ms").default("30000").at_least(1)
        .doc("Time span of one sample of a metric."),
    string("metrics.recording.level").default("INFO")
        .doc("The least important metrics that are recorded: INFO, DEBUG or TRACE."),
    int("telemetry.max.bytes").default("1048576").at_least(1)
        .doc("Largest set of metrics that a client may push (KIP-714), compressed, in bytes."),
];
