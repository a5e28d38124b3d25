#!/usr/bin/env python3
"""Starts from a server.properties: what it says is honoured, and a data directory passes from Apache Kafka to us and back.

starts.py [--binary PATH | --kafka] [NAME ...]. Each check has servers of its own. With --kafka the original is both sides.
"""

import pathlib
import signal
import sys

import harness
from harness import Kafka, check, eventually, expect, expect_that, free_port, java, new_server, run
from wire import Connection, metadata

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "clients"))
from common import CODECS, admin, consumer, create_topic, fresh, produce, read_all, results, topic_id, values  # noqa: E402

from confluent_kafka import KafkaException, TopicPartition  # noqa: E402
from confluent_kafka.admin import ConfigResource, NewTopic  # noqa: E402

CLUSTER_ID = "dGlkZWxvZy1jaS1jbHVzdA"


class Nobody:
    """In the place of a shared server: these checks have their own."""

    process = None


@check
def named_listeners(_):
    """Listeners of any name: each client is told the address of the listener that it came by."""
    server = new_server(OPTIONS)
    other = free_port()
    server.properties.update(
        {
            "listeners": f"EXTERNAL://127.0.0.1:{server.port},INSIDE://127.0.0.1:{other},CONTROLLER://127.0.0.1:{server.controller_port}",
            "advertised.listeners": f"EXTERNAL://localhost:{server.port},INSIDE://127.0.0.1:{other}",
            "listener.security.protocol.map": "EXTERNAL:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "INSIDE",
        }
    )
    server.start()
    for port, host in ((server.port, b"localhost"), (other, b"127.0.0.1")):
        with Connection(f"127.0.0.1:{port}") as c:
            answer = c.ask(metadata([]))
        expect_that(f"Metadata by port {port} names {host}:{port}", host in answer and port.to_bytes(4, "big") in answer, answer)
    expect("records by the first listener", len(produce(server, create_topic(server, "named"), values(3))), 3)
    server.stop()


@check
def properties_are_honoured(_):
    """num.partitions, auto.create.topics.enable, message.max.bytes, log.retention.* and the node's id take effect and are described."""
    server = new_server(OPTIONS)
    server.properties.update({"node.id": 7, "num.partitions": 5, "message.max.bytes": 2000, "log.retention.hours": 2, "log.segment.bytes": 5_000_000})
    server.start()
    topic = fresh("auto")
    produce(server, topic, values(1))
    eventually("partitions of an auto-created topic", lambda: len(admin(server).list_topics(topic, timeout=10).topics[topic].partitions), 5)
    expect("node", [n.id for n in admin(server).describe_cluster().result(10).nodes], [7])
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    described = admin(server).describe_configs([resource])[resource].result(10)
    for key, want in {"max.message.bytes": "2000", "retention.ms": "7200000", "segment.bytes": "5000000"}.items():
        expect(f"{key} of a topic without its own", described[key].value, want)
    try:
        produce(server, topic, [{"value": bytes(5000)}])
        outcome = "written"
    except harness.Failed as failure:
        outcome = "MSG_SIZE_TOO_LARGE" if "MSG_SIZE_TOO_LARGE" in str(failure) else str(failure)
    expect("a record above message.max.bytes", outcome, "MSG_SIZE_TOO_LARGE")
    server.stop()
    server.properties["auto.create.topics.enable"] = "false"
    server.start()
    absent = fresh("absent")
    expect("errors of a topic that may not come by itself", error_of_produce(server, absent), "UNKNOWN_TOPIC_OR_PART")
    server.stop()


def error_of_produce(server, topic):
    from common import producer

    errors, client = [], producer(server, topic_metadata_propagation_max_ms=500, message_timeout_ms=5000)
    try:
        client.produce(topic, b"x", on_delivery=lambda e, _: errors.append(e))
    except KafkaException as error:
        return error.args[0].name()
    client.flush(20)
    return errors[0].name() if errors[0] else "none"


@check
def an_interrupt_stops_in_order(_):
    """SIGINT is as good as SIGTERM, and leaves the mark of a clean shutdown."""
    server = new_server(OPTIONS)
    server.start()
    produce(server, create_topic(server, "interrupted"), values(10))
    server.process.send_signal(signal.SIGINT)
    expect("exit code", server.process.wait(30), 130 if server.original else 0)
    expect_that("the mark of a clean shutdown", (server.data / ".kafka_cleanshutdown").exists(), sorted(p.name for p in server.data.iterdir()))
    server.start()
    expect_that("the mark is gone while the broker runs", not (server.data / ".kafka_cleanshutdown").exists())
    server.stop()


def storage_tool(server, *arguments, **options):
    if server.original:
        return java("kafka.tools.StorageTool", *arguments, **options)
    return run([server.binary, *arguments], **options)


@check
def format_once(_):
    """format writes Kafka's files under the cluster id it is given, once; --ignore-formatted lets a second one be."""
    server, twin = new_server(OPTIONS), Kafka()
    for one in (server, twin):
        one.write_properties()
        storage_tool(one, "format", "--standalone", "-t", CLUSTER_ID, "-c", one.properties_file)
    names = lambda s: sorted(str(p.relative_to(s.data)) for p in s.data.rglob("*"))
    expect("files", names(server), names(twin))
    before = (server.data / "meta.properties").read_text()
    expect_that("the cluster id is stored", f"cluster.id={CLUSTER_ID}\n" in before, before)
    again = storage_tool(server, "format", "--standalone", "-t", CLUSTER_ID, "-c", server.properties_file, code=None)
    expect_that("a second format fails and says why", again.code != 0 and "already formatted" in again.out + again.err, str(again))
    storage_tool(server, "format", "--standalone", "-t", CLUSTER_ID, "-c", server.properties_file, "--ignore-formatted")
    expect("meta.properties", (server.data / "meta.properties").read_text(), before)
    server.start()
    expect("cluster id", admin(server).list_topics(timeout=10).cluster_id, CLUSTER_ID)
    server.stop()


@check
def format_with_features(_):
    """--release-version and --feature choose what is written; an unknown one is refused and nothing is written."""
    for arguments, works in (
        (["--release-version", "4.3"], True),
        (["--feature", "metadata.version=29"], True),
        (["--release-version", "99.9"], False),
        (["--feature", "no.such.feature=1"], False),
    ):
        server = new_server(OPTIONS)
        server.write_properties()
        ran = storage_tool(server, "format", "--standalone", "-t", CLUSTER_ID, "-c", server.properties_file, *arguments, code=None)
        expect_that(f"format {arguments} {'works' if works else 'is refused'}", (ran.code == 0) == works, str(ran))
        expect(f"format {arguments}: meta.properties is there", (server.data / "meta.properties").exists(), works)
        if works:
            server.start()
            server.stop()


def attempt(function):
    """What the function returns, or the name of its error: a coordinator may still be loading."""
    try:
        return function()
    except KafkaException as error:
        return error.args[0].name()


def handed_over(first, second):
    """Writes with `first`, reads and writes with `second` on the same directory, reads all of it with `first` again."""
    first.start()
    topic, group = create_topic(first, "handed", 3, retention_ms=99_000_000), fresh("group")
    for codec in CODECS:
        produce(first, topic, ({"key": f"{n}", "value": f"{codec} {n}", "partition": n % 3, "headers": [("h", b"v")]} for n in range(300)), compression_type=codec, enable_idempotence=True)
    gone = create_topic(first, "gone")
    expect("delete", results(admin(first).delete_topics([gone])), {gone: None})
    reader = consumer(first, group)
    places = [TopicPartition(topic, p, 100 + p, metadata="note") for p in range(3)]
    eventually("a commit", lambda: attempt(lambda: [t.offset for t in reader.commit(offsets=places, asynchronous=False)]), [100, 101, 102])
    reader.close()
    first_id, cluster_id = topic_id(first, topic), admin(first).list_topics(timeout=10).cluster_id
    content = lambda server: [(m.partition(), m.offset(), m.timestamp(), m.key(), m.value(), m.headers()) for m in sorted(read_all(server, topic, 3), key=lambda m: (m.partition(), m.offset()))]
    committed = lambda server: [(t.offset, t.metadata) for t in consumer(server, group).committed([TopicPartition(topic, p) for p in range(3)], timeout=20)]
    written, commits = content(first), committed(first)
    expect("records written", len(written), 1500)

    def compare(who, server, records):
        eventually(f"{who}: committed offsets", lambda: attempt(lambda: committed(server)), commits)
        expect(f"{who}: records", content(server), records)
        expect(f"{who}: topic id", topic_id(server, topic), first_id)
        expect(f"{who}: cluster id", admin(server).list_topics(timeout=10).cluster_id, cluster_id)
        expect(f"{who}: a deleted topic is gone", gone in admin(server).list_topics(timeout=10).topics, False)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        expect(f"{who}: retention.ms", admin(server).describe_configs([resource])[resource].result(10)["retention.ms"].value, "99000000")

    first.stop()
    second.start()
    compare("the second owner", second, written)
    produce(second, topic, ({"value": f"more {n}", "partition": n % 3} for n in range(300)), enable_idempotence=True)
    late = fresh("late")
    expect("create", results(admin(second).create_topics([NewTopic(late, 2, 1)])), {late: None})
    produce(second, late, values(10))
    grown = content(second)
    expect("records after more were written", len(grown), 1800)
    second.stop()
    first.start()
    compare("the first owner again", first, grown)
    expect("records of the topic that the second owner made", len(read_all(first, late, 2)), 10)
    produce(first, late, values(10))
    first.stop()


def pair(first, second):
    """Two servers of one directory and one port."""
    second.folder, second.data, second.properties_file, second.properties = first.folder, first.data, first.properties_file, first.properties
    second.port, second.controller_port = first.port, first.controller_port
    second.output, second.errors = first.folder / "second.log", first.folder / "second.err"
    return first, second


@check
def a_directory_from_us_to_kafka_and_back(_):
    """Kafka opens a directory that we have written: topics, ids, records, offsets, configs; and we open it again behind Kafka."""
    handed_over(*pair(new_server(OPTIONS), Kafka()))


@check
def a_directory_from_kafka_to_us_and_back(_):
    """The same, the other way round, with the features that Kafka switches on by itself."""
    handed_over(*pair(Kafka(), new_server(OPTIONS)))


def main():
    global OPTIONS
    parser = harness.arguments(__doc__)
    parser.add_argument("name", nargs="*")
    OPTIONS = parser.parse_args()
    if not OPTIONS.kafka:
        OPTIONS.binary = pathlib.Path(OPTIONS.binary).resolve()
    harness.finish(*harness.run_checks(OPTIONS, Nobody, harness.CHECKS, OPTIONS.name))


if __name__ == "__main__":
    main()
