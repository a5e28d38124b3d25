"""Topics, configs, records and the cluster through confluent-kafka's AdminClient, with the errors that Kafka gives."""

import json
import time

from confluent_kafka import OFFSET_END, TopicCollection, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions, NewTopic

from common import admin, consumer, create_topic, error_name, fresh, produce, producer, read_all, results, topic_id, values
from harness import check, eventually, expect, expect_that, java


def configs_of(server, name, kind=ConfigResource.Type.TOPIC):
    resource = ConfigResource(kind, name)
    return admin(server).describe_configs([resource])[resource].result(10)


def incremental(server, name, *changes, kind=ConfigResource.Type.TOPIC):
    entries = [ConfigEntry(key, value, incremental_operation=operation) for key, operation, value in changes]
    resource = ConfigResource(kind, name, incremental_configs=entries)
    [outcome] = results(admin(server).incremental_alter_configs([resource])).values()
    return outcome


@check
def creating_topics(server):
    """Create, list and describe; each mistake gets Kafka's error and creates nothing."""
    client = admin(server)
    name = create_topic(server, "created", 3, retention_ms=1234567)
    described = client.describe_topics(TopicCollection([name]))[name].result(10)
    expect("partitions", [(p.id, p.leader.id, [r.id for r in p.replicas], [r.id for r in p.isr]) for p in described.partitions], [(p, 1, [1], [1]) for p in range(3)])
    expect("retention.ms", configs_of(server, name)["retention.ms"].value, "1234567")
    mistakes = {
        name: (NewTopic(name, 1, 1), "TOPIC_ALREADY_EXISTS"),
        "a b": (NewTopic("a b", 1, 1), "TOPIC_EXCEPTION"),
        "x" * 250: (NewTopic("x" * 250, 1, 1), "TOPIC_EXCEPTION"),
        "..": (NewTopic("..", 1, 1), "TOPIC_EXCEPTION"),
        "ci-rf": (NewTopic("ci-rf", 1, 2), "INVALID_REPLICATION_FACTOR"),
        "ci-config": (NewTopic("ci-config", 1, 1, config={"no.such.config": "1"}), "INVALID_CONFIG"),
        "ci-value": (NewTopic("ci-value", 1, 1, config={"retention.ms": "long"}), "INVALID_CONFIG"),
        "ci-codec": (NewTopic("ci-codec", 1, 1, config={"compression.type": "brotli"}), "INVALID_CONFIG"),
    }
    outcome = results(client.create_topics([topic for topic, _ in mistakes.values()]))
    expect("errors", outcome, {key: error for key, (_, error) in mistakes.items()})
    expect("validate only", results(client.create_topics([NewTopic("ci-validated", 2, 1)], validate_only=True)), {"ci-validated": None})
    left = [t for t in client.list_topics(timeout=10).topics if t in mistakes and t != name or t == "ci-validated"]
    expect("topics that should not be", left, [])


@check
def fifty_partitions_in_no_time(server):
    """A topic of 50 partitions is there, and takes records in each, soon after it was asked for."""
    topic = create_topic(server, "fifty", 50)
    produce(server, topic, ({"value": f"{n}", "partition": n % 50} for n in range(500)))
    expect("records", sorted(int(m.value()) for m in read_all(server, topic, 50)), list(range(500)))


@check
def more_partitions(server):
    """Partitions can be added, not taken away."""
    client, name = admin(server), create_topic(server, "more", 2)
    expect("add", results(client.create_partitions([NewPartitions(name, 5)])), {name: None})
    eventually("partitions", lambda: len(client.list_topics(name, timeout=10).topics[name].partitions), 5)
    produce(server, name, values(3, partition=4))
    expect("the same count", results(client.create_partitions([NewPartitions(name, 5)])), {name: "INVALID_PARTITIONS"})
    expect("fewer", results(client.create_partitions([NewPartitions(name, 1)])), {name: "INVALID_PARTITIONS"})
    absent = fresh("absent")
    expect("no such topic", results(client.create_partitions([NewPartitions(absent, 9)])), {absent: "UNKNOWN_TOPIC_OR_PART"})


@check
def deleting_topics(server):
    """A deleted topic is gone, with its data; one of the same name begins anew under a new id."""
    client, name = admin(server), create_topic(server, "deleted", 2)
    produce(server, name, values(10, partition=1))
    first = topic_id(server, name)
    expect("delete", results(client.delete_topics([name])), {name: None})
    eventually("the topic is out of the list", lambda: name in client.list_topics(timeout=10).topics, False)
    expect("delete again", results(client.delete_topics([name])), {name: "UNKNOWN_TOPIC_OR_PART"})
    expect("create again", results(client.create_topics([NewTopic(name, 2, 1)])), {name: None})
    expect_that("the topic id is new", topic_id(server, name) != first, first)
    expect("records of the new topic", len(read_all(server, name, 2)), 0)
    delivered = produce(server, name, values(3, partition=1))
    expect("offsets of the new topic", [m.offset() for m in delivered], [0, 1, 2])


@check
def topic_configs(server):
    """Describe with sources and synonyms; set, delete, append and subtract one by one; refuse what is wrong."""
    name = create_topic(server, "configs", 1, segment_bytes=2_000_000)
    before = configs_of(server, name)
    expect("segment.bytes", (before["segment.bytes"].value, before["segment.bytes"].source), ("2000000", ConfigSource.DYNAMIC_TOPIC_CONFIG.value))
    expect("retention.ms", (before["retention.ms"].value, before["retention.ms"].is_default), ("604800000", True))
    known = {"cleanup.policy", "compression.type", "delete.retention.ms", "max.message.bytes", "message.timestamp.type", "min.insync.replicas", "segment.ms"}
    expect("configs that are missing", known - set(before), set())

    Op = AlterConfigOpType
    expect("set", incremental(server, name, ("retention.ms", Op.SET, "1000000"), ("cleanup.policy", Op.APPEND, "compact")), None)
    changed = lambda key: configs_of(server, name)[key].value
    eventually("retention.ms after set", lambda: changed("retention.ms"), "1000000")
    expect("cleanup.policy after append", set(changed("cleanup.policy").split(",")), {"delete", "compact"})
    expect("subtract and delete", incremental(server, name, ("cleanup.policy", Op.SUBTRACT, "delete"), ("retention.ms", Op.DELETE, None)), None)
    eventually("cleanup.policy after subtract", lambda: changed("cleanup.policy"), "compact")
    expect("retention.ms after delete", changed("retention.ms"), "604800000")
    expect("a value that is no number", incremental(server, name, ("retention.ms", Op.SET, "soon")), "INVALID_CONFIG")
    expect("a value out of range", incremental(server, name, ("segment.bytes", Op.SET, "-5")), "INVALID_CONFIG")
    expect("a config that does not exist", incremental(server, name, ("no.such.thing", Op.SET, "1")), "INVALID_CONFIG")
    expect("segment.bytes meanwhile", changed("segment.bytes"), "2000000")
    expect("a topic that does not exist", incremental(server, fresh("absent"), ("retention.ms", Op.SET, "1")), "UNKNOWN_TOPIC_OR_PART")

    expect("max.message.bytes", incremental(server, name, ("cleanup.policy", Op.SET, "delete"), ("max.message.bytes", Op.SET, "500")), None)
    errors, client = [], producer(server)
    client.produce(name, bytes(2000), on_delivery=lambda e, _: errors.append(e))
    client.flush(20)
    expect("a record above the new limit", [error_name(e) for e in errors], ["MSG_SIZE_TOO_LARGE"])


@check
def legacy_alter_configs(server):
    """AlterConfigs replaces all configs of a topic at once."""
    name = create_topic(server, "legacy", 1, retention_ms=1000)
    resource = ConfigResource(ConfigResource.Type.TOPIC, name, set_config={"segment.bytes": "3000000"})
    expect("alter", list(results(admin(server).alter_configs([resource])).values()), [None])
    eventually("segment.bytes", lambda: configs_of(server, name)["segment.bytes"].value, "3000000")
    expect("retention.ms is the default again", configs_of(server, name)["retention.ms"].value, "604800000")


@check
def broker_configs(server):
    """The broker's own configs can be read, with the values it was started with."""
    found = configs_of(server, "1", ConfigResource.Type.BROKER)
    expect("node.id", found["node.id"].value, "1")
    expect("log.dirs", found["log.dirs"].value, str(server.data))
    expect("num.partitions", found["num.partitions"].value, "1")


@check
def the_cluster(server):
    """DescribeCluster and Metadata name one node, this one, and a cluster id that meta.properties holds."""
    cluster = admin(server).describe_cluster().result(10)
    expect("nodes", [(n.id, n.host, n.port) for n in cluster.nodes], [(1, "127.0.0.1", server.port)])
    expect("controller", cluster.controller.id, 1)
    stored = dict(line.split("=", 1) for line in (server.data / "meta.properties").read_text().splitlines() if "=" in line)
    expect("cluster id", cluster.cluster_id, stored["cluster.id"])
    expect("cluster id in Metadata", admin(server).list_topics(timeout=10).cluster_id, stored["cluster.id"])


@check
def deleting_records(server):
    """DeleteRecords moves the start of the log exactly, and a restart keeps it."""

    def delete_before(offset):
        admin(server).list_topics(timeout=10)  # connects again after a restart
        [outcome] = results(admin(server).delete_records([TopicPartition(topic, 0, offset)])).values()
        return getattr(outcome, "low_watermark", outcome)

    topic = create_topic(server, "records-deleted")
    produce(server, topic, values(100))
    expect("low watermark", delete_before(42), 42)
    expect("offsets left", [m.offset() for m in read_all(server, topic)], list(range(42, 100)))
    expect("beyond the end", delete_before(101), "OFFSET_OUT_OF_RANGE")
    for restart in (server.stop, server.kill):
        restart()
        server.start()
        expect("offsets left after a restart", [m.offset() for m in read_all(server, topic)], list(range(42, 100)))
    expect("all of it", delete_before(OFFSET_END), 100)
    expect("offsets left", [m.offset() for m in read_all(server, topic)], [])
    expect("the next offset", [m.offset() for m in produce(server, topic, values(1))], [100])


@check
def retention(server):
    """Segments beyond retention.bytes or older than retention.ms go away, whole; the rest reads on from the new start."""
    large = create_topic(server, "by-size", 1, segment_bytes=1_048_576, retention_bytes=3_000_000, file_delete_delay_ms=100)
    old = create_topic(server, "by-time", 1, retention_ms=3_600_000, file_delete_delay_ms=100)
    produce(server, large, ({"value": bytes(10_000)} for _ in range(1000)), batch_num_messages=10)
    produce(server, old, values(20, timestamp=int(time.time() * 1000) - 7_200_000))
    reader = consumer(server)
    bounds = lambda topic: reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    eventually("the log is cut to its size", lambda: bounds(large)[0] > 500, seconds=60)
    eventually("the old log is gone", lambda: bounds(old), (20, 20), seconds=60)
    start = bounds(large)[0]
    reader.close()
    expect("offsets left", [m.offset() for m in read_all(server, large)], list(range(start, 1000)))
    expect("the next offset of the old log", [m.offset() for m in produce(server, old, values(1))], [20])
    size = lambda: sum(f.stat().st_size for f in (server.data / f"{large}-0").glob("*.log"))
    eventually("bytes on disk", lambda: 3_000_000 <= size() < 5_000_000)


@check
def files_as_kafka_names_them(server):
    """The data directory holds Kafka's files: a segment with its indexes, the epochs, the topic's id, the checkpoints."""
    topic = create_topic(server, "files", 2)
    produce(server, topic, values(10, partition=1))
    names = {p.name for p in (server.data / f"{topic}-1").iterdir()}
    want = {"00000000000000000000.log", "leader-epoch-checkpoint", "partition.metadata"}
    expect("files that are missing", want - names, set())
    tops = {p.name for p in server.data.iterdir()}
    expect("top files that are missing", {"meta.properties", ".lock", "__cluster_metadata-0"} - tops, set())
    stored = (server.data / f"{topic}-1" / "partition.metadata").read_text()
    expect("partition.metadata", stored.split("\n"), ["version: 0", f"topic_id: {topic_id(server, topic)}"])


@check
def the_log_reads_with_kafkas_own_tool(server):
    """DumpLogSegments reads what we wrote, with CRCs, indexes and the metadata log."""
    topic = create_topic(server, "dumped", 1, index_interval_bytes=200)
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        produce(server, topic, values(50, key=b"k", headers=[("h", b"v")]), compression_type=codec)
    server.stop()
    try:
        files = [server.data / f"{topic}-0" / f"00000000000000000000.{kind}" for kind in ("log", "index", "timeindex")]
        ran = java("org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--print-data-log", "--files", ",".join(map(str, files)))
        expect("offsets dumped", ran.out.count("payload: "), 250)
        bad = [line for line in ran.out.splitlines() if "isvalid: false" in line or "mismatch" in line.lower() or "corrupt" in line.lower()]
        expect("complaints", bad, [])
        metadata = next(iter(sorted((server.data / "__cluster_metadata-0").glob("*.log"))))
        ran = java("org.apache.kafka.tools.DumpLogSegments", "--cluster-metadata-decoder", "--files", metadata)
        records = [json.loads(line.split("payload: ", 1)[1]) for line in ran.out.splitlines() if "payload: {" in line]
        ours = [r for r in records if r["type"] == "TOPIC_RECORD" and r["data"]["name"] == topic]
        expect("its TOPIC_RECORD in the metadata log", len(ours), 1)
        expect("undecodable metadata", [line for line in ran.out.splitlines() if "Could not decode" in line], [])
    finally:
        server.start()
