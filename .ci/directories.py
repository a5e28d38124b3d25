#!/usr/bin/env python3
"""Directories that Apache Kafka has left are served, Kafka goes on with what we leave, and its tools find no fault in it.

directories.py [--binary PATH] [NAME ...]. The directories and what Kafka's readers found in them are in crates/log/testdata.
"""

import gzip
import json
import pathlib
import sys
import tarfile

import harness
from harness import REPOSITORY, Kafka, Tidelog, check, eventually, expect, expect_that, java, run, scratch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "clients"))
from common import CODECS, admin, consumer, create_topic, fresh, produce, read_all, read_to_end, results, values  # noqa: E402

from confluent_kafka import KafkaException, TopicPartition  # noqa: E402
from confluent_kafka.admin import ConfigResource  # noqa: E402

TESTDATA = REPOSITORY / "crates/log/testdata"
CONTROLLER_PORT = 19291  # stands in the metadata log, as the address of its only voter
NO_POSITION = -1001


class Nobody:
    """In the place of a shared server: these checks have their own."""

    process = None


def unpacked(which):
    """A broker of ours on a copy of the directory, and what was found in it."""
    folder = scratch("directory")
    with tarfile.open(TESTDATA / f"kafka-4.3.1-{which}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    server = on_same_port(Tidelog(OPTIONS.binary, folder))
    return server, json.loads(gzip.open(TESTDATA / f"expected-{which}.json.gz").read())


def on_same_port(server):
    listeners = f"PLAINTEXT://127.0.0.1:{server.port},CONTROLLER://127.0.0.1:{CONTROLLER_PORT}"
    server.properties.update({"listeners": listeners, "controller.quorum.bootstrap.servers": f"127.0.0.1:{CONTROLLER_PORT}"})
    return server


def kafka_on(server):
    """Kafka on the directory and the ports of a server that has stopped."""
    kafka = Kafka(server.folder)
    kafka.port, kafka.properties = server.port, server.properties
    kafka.output, kafka.errors = server.folder / "kafka.log", server.folder / "kafka.err"
    return kafka


def text(data):
    return data if data is None else data.decode()


def seen(message, long_values):
    value = message.value()
    headers = [[name, text(value)] for name, value in message.headers() or []]
    return [message.offset(), message.timestamp()[1], text(message.key()), len(value) if long_values and value is not None else text(value), headers]


def read_partition(server, topic, partition, start, isolation):
    reader = consumer(server, isolation_level=isolation)
    try:
        return read_to_end(reader, [TopicPartition(topic, partition, start)])
    finally:
        reader.close()


def read_partitions(server, starts, isolation):
    """The records of many partitions, by the name of the folder; all are read at once."""
    reader = consumer(server, isolation_level=isolation)
    places = [TopicPartition(*split(folder), start) for folder, start in starts.items()]
    records = {folder: [] for folder in starts}
    for message in read_to_end(reader, places, 60):
        records[f"{message.topic()}-{message.partition()}"].append(message)
    reader.close()
    return records


def split(folder):
    topic, partition = folder.rsplit("-", 1)
    return topic, int(partition)


def compare_records(server, expected, skip=()):
    """Every record of every partition, in both isolation levels."""
    wanted = {folder: found for folder, found in expected["read_uncommitted"].items() if folder not in skip}
    reader = consumer(server, isolation_level="read_uncommitted")
    for folder, found in wanted.items():
        place = TopicPartition(*split(folder))
        # A broker that has just started may not lead it yet.
        ends = (found["log_start_offset"], found["high_watermark"])
        eventually(f"watermarks of {folder}", lambda: attempt(lambda: reader.get_watermark_offsets(place, timeout=20)), ends)
    reader.close()
    starts = {folder: found["log_start_offset"] for folder, found in wanted.items()}
    records = read_partitions(server, starts, "read_uncommitted")
    committed_records = read_partitions(server, starts, "read_committed")
    for folder, found in wanted.items():
        expect(f"records of {folder}", [seen(m, folder == "segmented-0") for m in records[folder]], found["records"])
        offsets = [m.offset() for m in committed_records[folder]]
        expect(f"committed records of {folder}", offsets, expected["read_committed"][folder]["offsets"])


def committed(server, group, topic, partition):
    try:
        return consumer(server, group).committed([TopicPartition(topic, partition)], timeout=20)[0].offset
    except KafkaException as error:
        return error.args[0].name()


def compare_groups(server, expected):
    lines = [line.split() for line in expected["groups"] if line and not line.startswith("GROUP ")]
    for group, topic, partition, offset, *_ in lines:
        want = NO_POSITION if offset == "-" else int(offset)
        eventually(f"offset of {group} in {topic}-{partition}", lambda: committed(server, group, topic, int(partition)), want)


def compare_configs(server, expected):
    wanted, topic = {}, None
    for line in expected["configs"]["topics"]:
        if line.startswith("Dynamic configs for topic "):
            topic = line.split()[4]
            wanted[topic] = {}
        else:
            key, value = line.split()[0].split("=", 1)
            wanted[topic][key] = value
    for topic, configs in wanted.items():
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        described = admin(server).describe_configs([resource])[resource].result(10)
        # 1: set on the topic itself.
        expect(f"configs of {topic}", {n: c.value for n, c in described.items() if c.source == 1}, configs)


def compare_topics(server, expected):
    lines = [line for line in expected["topics"] if line.startswith("Topic: ")]
    wanted = {}
    for line in lines:
        fields = dict(field.split(": ", 1) for field in line.split("\t"))
        wanted[fields["Topic"]] = int(fields["PartitionCount"])
    topics = admin(server).list_topics(timeout=10).topics
    expect("topics", {name: len(t.partitions) for name, t in topics.items()}, wanted)


def verify(server):
    """What `tidelog log verify` says of the directory of a broker that has stopped."""
    ran = run([OPTIONS.binary, "log", "verify", "--records", server.data], code=None)
    expect_that("tidelog log verify finds nothing damaged", ran.code == 0, str(ran))


def served(which):
    server, expected = unpacked(which)
    run([OPTIONS.binary, "log", "verify", "--records", server.data])
    server.start()
    compare_topics(server, expected)
    compare_configs(server, expected)
    compare_records(server, expected)
    compare_groups(server, expected)
    words = server.output.read_text() + server.errors.read_text()
    expect("warnings of the open transaction", words.count("a transaction is open"), 1)
    server.expect_sound()
    server.stop()
    verify(server)


@check
def a_directory_that_kafka_has_closed(_):
    """A node goes on where Kafka stopped: topics, configs, records in both isolation levels, committed offsets."""
    served("clean")


@check
def a_directory_of_a_killed_kafka(_):
    """The same after kill -9."""
    served("killed")


@check
def kafka_goes_on_after_us(_):
    """Kafka to us, to Kafka, to us: what each has added is there, and Kafka ends the transaction that it had left open."""
    server, expected = unpacked("clean")
    server.start()
    produce(server, "partitions", values(30, partition=6), enable_idempotence=True, compression_type="zstd")
    late = create_topic(server, "late")
    produce(server, late, values(10))
    group = fresh("group")
    reader = consumer(server, group)
    eventually("a commit", lambda: attempt(lambda: reader.commit(offsets=[TopicPartition(late, 0, 7)], asynchronous=False)[0].offset), 7)
    reader.close()
    server.stop()
    verify(server)
    changed = {"partitions-6", "txn-0"}

    def compare(who, records):
        compare_records(who, expected, changed)
        compare_configs(who, expected)
        expect("records added to partitions-6", len(read_partition(who, "partitions", 6, 0, "read_committed")), 30)
        expect("records of the topic that was added", len(read_all(who, late)), records)
        eventually("the offset that was committed", lambda: committed(who, group, late, 0), 7)

    kafka = kafka_on(server)
    kafka.start()
    compare(kafka, 10)
    compare_groups(kafka, expected)
    # The transaction coordinator aborts what is older than its timeout.
    watcher = consumer(kafka, isolation_level="read_uncommitted")
    eventually("watermarks of txn-0", lambda: attempt(lambda: watcher.get_watermark_offsets(TopicPartition("txn", 0), timeout=20)), (0, 24))
    watcher.close()
    offsets = [0, 1, 2, 3, 4, 11, 12, 20, 21, 22]
    eventually("committed records of txn-0", lambda: [m.offset() for m in read_partition(kafka, "txn", 0, 0, "read_committed")], offsets)
    produce(kafka, late, values(5))
    kafka.stop()
    server.start()
    compare(server, 15)
    expect("committed records of txn-0 with us", [m.offset() for m in read_partition(server, "txn", 0, 0, "read_committed")], offsets)
    server.stop()
    verify(server)


def attempt(function):
    """What the function returns, or the name of its error: a coordinator may still be loading."""
    try:
        return function()
    except KafkaException as error:
        return error.args[0].name()


FAULTS = ("isvalid: false", "Mismatches in", "Found timestamp mismatch", "Found out of order timestamp", "are not found in the log", "Exception", "at least one error")


def dump(*arguments):
    """Kafka's DumpLogSegments on files, which must not complain."""
    ran = java("org.apache.kafka.tools.DumpLogSegments", *arguments, code=None)
    expect_that(f"DumpLogSegments {arguments[:2]} has exit code 0", ran.code == 0, str(ran))
    for fault in FAULTS:
        lines = [line for line in (ran.out + ran.err).splitlines() if fault in line]
        expect(f"lines with {fault!r}", lines[:3], [])
    return ran.out


@check
def kafkas_tools_find_no_fault(_):
    """DumpLogSegments on every file that a broker of ours has written: segments, indexes, snapshots, metadata, offsets."""
    server = Tidelog(OPTIONS.binary, offsets_topic_num_partitions=3)
    server.start()
    rolled = create_topic(server, "rolled", 2, segment_bytes=1 << 20, index_interval_bytes=1024)
    for codec in CODECS:
        produce(server, rolled, ({"key": f"{n}", "value": bytes(2000) + f"{n}".encode(), "partition": n % 2, "headers": [("h", b"v")]} for n in range(700)),
                compression_type=codec, enable_idempotence=True)
    stamped = create_topic(server, "stamped", message_timestamp_type="LogAppendTime")
    produce(server, stamped, values(50), linger_ms=0)
    gone = create_topic(server, "gone")
    produce(server, gone, values(5))
    expect("delete", results(admin(server).delete_topics([gone])), {gone: None})
    shortened = TopicPartition(rolled, 1, 400)
    results(admin(server).delete_records([shortened]))
    for n in range(30):
        group = f"group-{n}"
        eventually(f"a commit of {group}", lambda: attempt(lambda: consumer(server, group).commit(offsets=[TopicPartition(rolled, 0, n)], asynchronous=False)[0].offset), n)
    server.kill()
    server.start()
    produce(server, rolled, values(100, partition=0), enable_idempotence=True)
    server.stop()
    verify(server)
    files = lambda pattern: ",".join(str(path) for path in sorted(server.data.glob(pattern)))
    out = dump("--deep-iteration", "--files", files("*-?/*.log"))
    expect_that("every record is in it", out.count("| offset: ") >= 5 * 700 - 400 + 150, out.count("| offset: "))
    for kind in ("index", "timeindex", "snapshot"):
        dump("--files", files(f"*-?/*.{kind}"))
    dump("--index-sanity-check", "--files", files("*-?/*.index"))
    out = dump("--cluster-metadata-decoder", "--files", files("__cluster_metadata-0/*.log"))
    for kind in ("TOPIC_RECORD", "PARTITION_RECORD", "CONFIG_RECORD", "REMOVE_TOPIC_RECORD", "REGISTER_BROKER_RECORD"):
        expect_that(f"{kind} in the metadata log", kind in out, out[-500:])
    dump("--cluster-metadata-decoder", "--skip-record-metadata", "--files", files("__cluster_metadata-0/*.checkpoint"))
    out = dump("--offsets-decoder", "--files", files("__consumer_offsets-?/*.log"))
    expect_that("committed offsets in it", out.count('"group":"group-') >= 30, out[-500:])
    kafka = kafka_on(server)
    kafka.start()
    for n in range(30):
        eventually(f"the offset of group-{n}, with Kafka", lambda: committed(kafka, f"group-{n}", rolled, 0), n)
    expect("records, with Kafka", len(read_all(kafka, rolled, 2)), 5 * 700 + 100 - 400)
    kafka.stop()


def main():
    global OPTIONS
    parser = harness.arguments(__doc__)
    parser.add_argument("name", nargs="*")
    OPTIONS = parser.parse_args()
    OPTIONS.binary = pathlib.Path(OPTIONS.binary).resolve()
    harness.finish(*harness.run_checks(OPTIONS, Nobody, harness.CHECKS, OPTIONS.name))


if __name__ == "__main__":
    main()
