#!/usr/bin/env python3
"""One of our brokers in a cluster of Apache Kafka: controllers, brokers and clients of Kafka, and what every replica has on its disk.

mixed.py [--binary PATH] [NAME ...]. The checks build on each other; NAME picks those whose name contains it, which may need others
before them. Node 1 is a controller of Kafka, 2 and 3 are brokers of Kafka, 4 is a broker of ours, 5 a controller of ours, which has no vote at first.
"""

import argparse
import concurrent.futures
import json
import pathlib
import re
import struct
import sys
import threading
import time

import harness
from crash import Writer, verify
from harness import Kafka, Tidelog, eventually, expect, expect_that, java, run, scratch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "clients"))
from common import CODECS, QUIET, admin, consumer, fresh, produce, read_all, results, values  # noqa: E402

from confluent_kafka import Consumer, ElectionType, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import NewTopic  # noqa: E402

TOOLS = "org.apache.kafka.tools."
CONTROLLER, FIRST, SECOND, OURS, OUR_CONTROLLER = 1, 2, 3, 4, 5
CHECKS = []


def check(one):
    CHECKS.append(one)
    return one


class Mixed:
    """The cluster. Our nodes are formatted, and started by the checks."""

    original = False

    def __init__(self, options):
        self.binary = options.binary
        self.nodes = {CONTROLLER: Kafka(), FIRST: Kafka(), SECOND: Kafka(), OURS: Tidelog(options.binary), OUR_CONTROLLER: Tidelog(options.binary)}
        controllers = (CONTROLLER, OUR_CONTROLLER)
        common = {
            "controller.quorum.bootstrap.servers": ",".join(f"127.0.0.1:{self.nodes[n].controller_port}" for n in controllers),
            "offsets.topic.replication.factor": 3,
            "offsets.topic.num.partitions": 3,
            "transaction.state.log.replication.factor": 2,
            "transaction.state.log.num.partitions": 1,
            # Whoever starts late finds a snapshot.
            "metadata.log.max.record.bytes.between.snapshots": 2000,
            "broker.session.timeout.ms": 6000,
            "broker.heartbeat.interval.ms": 1000,
            "auto.create.topics.enable": "false",
            "replica.lag.time.max.ms": 5000,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
        }
        for number, node in self.nodes.items():
            is_controller = number in controllers
            node.properties.update({
                "node.id": number,
                "process.roles": "controller" if is_controller else "broker",
                "listeners": f"CONTROLLER://127.0.0.1:{node.controller_port}" if is_controller else f"PLAINTEXT://{node.address}",
                **common,
            })
            if is_controller:
                del node.properties["advertised.listeners"], node.properties["inter.broker.listener.name"]
            node.write_properties()
        cluster_id = java("kafka.tools.StorageTool", "random-uuid").out.split()[-1]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda number: self.format(number, cluster_id), self.nodes))

    def format(self, number, cluster_id):
        node = self.nodes[number]
        voters = {CONTROLLER: ["--standalone"], OUR_CONTROLLER: ["--no-initial-controllers"]}
        arguments = ["-t", cluster_id, "-c", node.properties_file, *voters.get(number, [])]
        if isinstance(node, Tidelog):
            run([self.binary, "format", *arguments])
        else:
            java("kafka.tools.StorageTool", "format", *arguments)

    @property
    def ours(self):
        return self.nodes[OURS]

    @property
    def brokers(self):
        return {number: self.nodes[number] for number in (FIRST, SECOND, OURS)}

    @property
    def address(self):
        return ",".join(node.address for node in self.brokers.values())

    def start(self):
        kafkas = [node for node in self.nodes.values() if isinstance(node, Kafka)]
        for node in kafkas:
            node.spawn()
        for node in kafkas:
            eventually("a node that is ready", lambda node=node: node.ready in node.printed() or node.process.poll() is not None, seconds=node.ready_seconds_max)
            expect_that("the node runs", node.process.poll() is None, node.last_words())

    def stop(self):
        for node in self.nodes.values():
            if node.process:
                node.kill()

    # What `run_checks` asks of a server.
    @property
    def process(self):
        return self.nodes[FIRST].process

    def last_words(self):
        return "\n".join(f"node {number}\n{node.last_words()}" for number, node in self.nodes.items())

    def expect_sound(self):
        for node in self.brokers.values():
            if node.process:
                node.expect_sound()


def create(cluster, what, *assignment, **config):
    """A topic with these replicas for each partition, the first of which is to lead."""
    topic = what if what.startswith("__") else fresh(what)
    config = {key.replace("_", "."): str(value) for key, value in config.items()}
    made = NewTopic(topic, len(assignment), replica_assignment=[list(replicas) for replicas in assignment], config=config)
    expect(f"create topic {topic}", results(admin(cluster).create_topics([made])), {topic: None})
    everywhere(cluster, topic)
    return topic


def described(cluster, topic):
    return admin(cluster).list_topics(topic, timeout=10).topics[topic].partitions


def leaders(cluster, topic):
    return {number: partition.leader for number, partition in described(cluster, topic).items()}


def everywhere(cluster, topic, seconds=30):
    """Waits until all replicas are in sync."""

    def lacking():
        partitions = described(cluster, topic)
        return {n: (p.replicas, p.isrs) for n, p in partitions.items() if set(p.replicas) != set(p.isrs) or p.leader < 0} if partitions else "unknown"

    eventually(f"all replicas of {topic} are in sync", lacking, {}, seconds=seconds)


def tidelog(cluster, *arguments, through=FIRST, code=0):
    return run([cluster.binary, *arguments, "--bootstrap-server", cluster.nodes[through].address], code=code).out


def tool(cluster, name, *arguments, through=None, **options):
    address = cluster.address if through is None else cluster.nodes[through].address
    return java(name, "--bootstrap-server", address, *arguments, **options)


def reassign(cluster, topic, *assignment):
    """Gives the partitions these replicas, and waits until that is so."""
    rows = [{"topic": topic, "partition": n, "replicas": list(replicas)} for n, replicas in enumerate(assignment)]
    file = scratch("mixed") / "plan.json"
    file.write_text(json.dumps({"version": 1, "partitions": rows}))
    tidelog(cluster, "cluster", "reassign", "--file", file)
    wanted = {n: list(replicas) for n, replicas in enumerate(assignment)}
    eventually(f"{topic} has moved", lambda: {n: p.replicas for n, p in described(cluster, topic).items()}, wanted, seconds=60)
    everywhere(cluster, topic)


def elect(cluster, topic, *wanted):
    """Has the preferred replicas lead; `wanted` are those."""
    partitions = [TopicPartition(topic, n) for n in leaders(cluster, topic)]
    admin(cluster).elect_leaders(ElectionType.PREFERRED, partitions).result(20)
    eventually(f"leaders of {topic}", lambda: list(leaders(cluster, topic).values()), list(wanted))


def log_of(node, topic, partition):
    """The batches on the disk of a node, one after the other, whatever segments they are in."""
    segments = sorted((node.data / f"{topic}-{partition}").glob("*.log"))
    logs = (segment.read_bytes() for segment in segments)
    # The newest file may end in room for more.
    return b"".join(log[: sum(batch[-1] for batch in batches(log))] for log in logs)


def batches(log):
    """Base offset, last offset, epoch, attributes and bytes of each batch."""
    found, at = [], 0
    while at + 61 <= len(log):
        base, length, epoch, _, _, attributes, last = struct.unpack_from(">qiibIhi", log, at)
        if length == 0:
            break
        found.append((base, base + last, epoch, attributes, length + 12))
        at += length + 12
    return found


def same_on_every_disk(cluster, topic):
    """Every replica of every partition has the same bytes."""
    everywhere(cluster, topic)
    for number, partition in described(cluster, topic).items():
        logs = lambda: {n: log_of(cluster.nodes[n], topic, number) for n in partition.replicas}
        same = lambda: len(set(logs().values())) == 1
        try:
            eventually(f"equal logs of {topic}-{number}", same, seconds=10)
        except harness.Failed as failure:
            tails = {n: batches(log)[-6:] for n, log in logs().items()}
            raise harness.Failed(f"{failure}\n    the last batches: {tails}") from None


def counted(cluster, topic, count, partitions, **config):
    got = read_all(cluster, topic, partitions, **config)
    expect(f"records of {topic}", len(got), count)
    return got


@check
def our_broker_joins_a_cluster_that_has_lived(cluster):
    """A snapshot is fetched from Kafka's controller, the rest of the log follows, and the broker is unfenced."""
    lived = [create(cluster, "lived", (FIRST, SECOND), (SECOND, FIRST)) for _ in range(10)]
    produce(cluster, lived[0], [{"value": f"{n}", "partition": n % 2} for n in range(500)])
    controller = cluster.nodes[CONTROLLER]
    newest = lambda folder: max((int(file.name[:20]) for file in folder.glob("__cluster_metadata-0/*.checkpoint") if file.name[0] == "0"), default=0)
    eventually("a snapshot of Kafka's controller", lambda: newest(controller.data) > 0)
    took = cluster.ours.start()
    expect_that("the node fetched a snapshot", newest(cluster.ours.data) > 0, list(cluster.ours.data.glob("__cluster_metadata-0/*")))
    described_by_kafka = tidelog(cluster, "cluster", "describe")
    expect_that("a Kafka broker knows of it", cluster.ours.address in described_by_kafka, described_by_kafka)
    said = tool(cluster, TOOLS + "MetadataQuorumCommand", "describe", "--replication", through=OURS).out
    expect("who has a vote and who has none", sorted(re.findall(r"^(\d+)\s.*(Leader|Follower|Observer)", said, re.M)), [("1", "Leader"), ("2", "Observer"), ("3", "Observer"), ("4", "Observer")])
    expect("topics as our node has them", set(lived) <= set(admin(cluster.ours).list_topics(timeout=10).topics), True)
    print(f"      ready after {took:.2f} s", flush=True)


@check
def our_broker_follows(cluster):
    """It copies what Kafka's brokers lead, in every codec, is in the ISR, and has the same bytes."""
    topic = create(cluster, "followed", (FIRST, OURS, SECOND), (SECOND, OURS, FIRST), min_insync_replicas=2)
    for codec in CODECS:
        produce(cluster, topic, [{"value": f"{codec} {n}", "key": str(n), "headers": {"h": b"x"}, "partition": n % 2} for n in range(400)],
                acks="all", compression_type=codec, enable_idempotence=True)
    tool(cluster, TOOLS + "ConsoleProducer", "--topic", topic, text="".join(f"Java {n}\n" for n in range(300)))
    counted(cluster, topic, 400 * len(CODECS) + 300, 2)
    same_on_every_disk(cluster, topic)
    # What was there before it came.
    old = create(cluster, "older", (FIRST,), (SECOND,), segment_bytes=1 << 20)
    blob = bytes(range(256)) * 40
    produce(cluster, old, [{"value": blob, "partition": n % 2} for n in range(500)])
    reassign(cluster, old, (FIRST, OURS), (SECOND, OURS))
    same_on_every_disk(cluster, old)


@check
def our_broker_leads(cluster):
    """Kafka's brokers copy what it leads; librdkafka and Java write and read through it."""
    topic = create(cluster, "led", (OURS, FIRST, SECOND), (OURS, SECOND, FIRST), (FIRST, OURS, SECOND), min_insync_replicas=2)
    eventually("leaders", lambda: leaders(cluster, topic), {0: OURS, 1: OURS, 2: FIRST})
    for codec in CODECS:
        produce(cluster, topic, [{"value": f"{codec} {n}", "partition": n % 3} for n in range(300)], acks="all", compression_type=codec, enable_idempotence=True)
    tool(cluster, TOOLS + "ConsoleProducer", "--topic", topic, text="".join(f"Java {n}\n" for n in range(300)), through=OURS)
    total = 300 * len(CODECS) + 300
    counted(cluster, topic, total, 3)
    got = tool(cluster, TOOLS + "consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--max-messages", str(total)).out
    expect("records that Java reads", len(got.splitlines()), total)
    same_on_every_disk(cluster, topic)
    # The preferred replica becomes another one, and is elected, there and back.
    reassign(cluster, topic, (FIRST, OURS), (SECOND, OURS, FIRST), (OURS, FIRST))
    elect(cluster, topic, FIRST, SECOND, OURS)
    produce(cluster, topic, [{"value": "moved", "partition": n % 3} for n in range(300)], acks="all", enable_idempotence=True)
    reassign(cluster, topic, (OURS, FIRST), (OURS, SECOND, FIRST), (FIRST, OURS, SECOND))
    elect(cluster, topic, OURS, OURS, FIRST)
    produce(cluster, topic, [{"value": "back", "partition": n % 3} for n in range(300)], acks="all", enable_idempotence=True)
    counted(cluster, topic, total + 600, 3)
    same_on_every_disk(cluster, topic)


@check
def clients_ask_our_broker_for_everything(cluster):
    """Topics, partitions, configs, features and producer ids by way of our broker, which passes it on to Kafka's controller."""
    topic = fresh("asked")
    tool(cluster, TOOLS + "TopicCommand", "--create", "--topic", topic, "--partitions", "3", "--replication-factor", "3", through=OURS)
    tool(cluster, TOOLS + "TopicCommand", "--alter", "--topic", topic, "--partitions", "5", through=OURS)
    tool(cluster, "kafka.admin.ConfigCommand", "--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", "retention.ms=123456789", through=OURS)
    said = tool(cluster, TOOLS + "TopicCommand", "--describe", "--topic", topic, through=SECOND).out
    expect_that("Kafka shows it", "PartitionCount: 5" in said and "retention.ms=123456789" in said, said)
    everywhere(cluster, topic)
    for n in range(5):
        produce(cluster.ours, topic, values(20, partition=n), enable_idempotence=True)
    counted(cluster.ours, topic, 100, 5)
    same_on_every_disk(cluster, topic)
    before = admin(cluster).delete_records([TopicPartition(topic, n, 10) for n in range(5)])
    expect("new starts", sorted(found.low_watermark for found in results(before).values()), [10] * 5)
    tool(cluster, TOOLS + "TopicCommand", "--delete", "--topic", topic, through=OURS)
    eventually("its folders are gone", lambda: [p for node in cluster.brokers.values() for p in node.data.glob(f"{topic}-?")], [])


class Group:
    """Members of a group, in both protocols, that note what they have read."""

    def __init__(self, cluster, topic, protocol, count=2):
        self.name, self.seen, self.stopping = fresh(f"group-{protocol}"), [], threading.Event()
        settings = {"bootstrap.servers": cluster.address, **QUIET, "group.id": self.name, "group.protocol": protocol, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        self.threads = [threading.Thread(target=self.read, args=(settings, topic), daemon=True) for _ in range(count)]
        self.errors = []
        for thread in self.threads:
            thread.start()

    def read(self, settings, topic):
        reader = Consumer(settings)
        reader.subscribe([topic])
        while not self.stopping.is_set():
            message = reader.poll(0.1)
            if message is None:
                continue
            if message.error():
                self.errors.append(message.error())
                continue
            self.seen.append((message.partition(), message.offset()))
            try:
                reader.commit(message=message, asynchronous=False)
            except KafkaException as error:
                # A commit that was under way when the coordinator moved; the next one says the same and more.
                self.errors.append(error)
        reader.close()

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)


@check
def groups_move_between_coordinators(cluster):
    """Groups of both protocols live on while their coordinator goes from Kafka to us and back; what they committed stays."""
    topic = create(cluster, "grouped", (OURS, FIRST), (FIRST, OURS), (SECOND, OURS), (OURS, SECOND))
    produce(cluster, topic, values(20, partition=0))
    groups = [Group(cluster, topic, protocol) for protocol in ("classic", "consumer")]
    eventually("each group reads", lambda: all(len(set(group.seen)) == 20 for group in groups), seconds=60)
    homes = [(FIRST, OURS, SECOND), (OURS, FIRST, SECOND), (SECOND, OURS, FIRST), (OURS, SECOND, FIRST)]
    written = 20
    for home in homes:
        reassign(cluster, "__consumer_offsets", home, home, home)
        elect(cluster, "__consumer_offsets", *[home[0]] * 3)
        for n in range(4):
            produce(cluster, topic, values(10, partition=n))
        written += 40
        eventually(f"each group reads on with coordinator {home[0]}", lambda: [len(set(group.seen)) for group in groups], [written] * 2, seconds=45)
    for group in groups:
        group.end()
    ends = {0: 60, 1: 40, 2: 40, 3: 40}
    for through in (OURS, FIRST):
        for group in groups:
            reader = consumer(cluster.nodes[through], group.name)
            places = [TopicPartition(topic, n) for n in ends]
            found = lambda: {place.partition: place.offset for place in reader.committed(places, timeout=20)}
            eventually(f"offsets of {group.name}", found, ends)
            reader.close()
    same_on_every_disk(cluster, "__consumer_offsets")


class Transactions:
    """A producer of librdkafka, and what it should have left."""

    def __init__(self, cluster, topic, through=OURS, **config):
        self.topic, self.committed, self.aborted = topic, [], []
        self.id = fresh("transactional")
        settings = {"bootstrap.servers": cluster.nodes[through].address, **QUIET, "transactional.id": self.id, "transaction.timeout.ms": 20_000}
        self.producer = Producer({**settings, **{key.replace("_", "."): value for key, value in config.items()}})
        self.producer.init_transactions(60)

    def begin(self, *partitions, count=10):
        self.producer.begin_transaction()
        self.open = []
        self.write(*partitions, count=count)

    def write(self, *partitions, count=10):
        for n in range(count):
            value = f"{self.id} {len(self.committed) + len(self.aborted) + len(self.open)}"
            self.producer.produce(self.topic, value, partition=partitions[n % len(partitions)])
            self.open.append(value)
        expect("records left", self.producer.flush(60), 0)

    def commit(self):
        self.producer.commit_transaction(60)
        self.committed += self.open

    def abort(self):
        self.producer.abort_transaction(60)
        self.aborted += self.open


@check
def transactions_of_kafka_reach_our_partitions(cluster):
    """A coordinator of Kafka commits and aborts in partitions that we lead, also while they change hands; Java and librdkafka read what counts."""
    create(cluster, "__transaction_state", (FIRST, SECOND), cleanup_policy="compact")
    topic = create(cluster, "transactional", (OURS, FIRST, SECOND), (FIRST, OURS, SECOND), (OURS, SECOND, FIRST))
    one, other = Transactions(cluster, topic), Transactions(cluster, topic, through=SECOND)
    for n in range(4):
        one.begin(0, 1, 2)
        other.begin(2, 0)
        one.commit() if n % 2 else one.abort()
        other.abort() if n % 3 else other.commit()
    # A leader of each kind ends what began under one of the other.
    for home in (FIRST, OURS):
        one.begin(0, 1, 2)
        reassign(cluster, topic, *[(home, *(n for n in (FIRST, SECOND, OURS) if n != home))] * 3)
        elect(cluster, topic, *[home] * 3)
        one.write(0, 1, 2)
        one.commit() if home == OURS else one.abort()
    # Whoever leaves one open holds back others, until the coordinator gives it up.
    lost = Transactions(cluster, topic, transaction_timeout_ms=8000)
    lost.begin(0)
    other.begin(0, 1)
    other.commit()
    committed = one.committed + other.committed
    count = len(committed) + len(one.aborted) + len(other.aborted) + 10
    read = lambda: [m.value().decode() for m in read_all(cluster, topic, 3, isolation_level="read_committed")]
    expect("what is behind an open transaction is not read", set(read()) < set(committed), True)
    eventually("records that count", lambda: sorted(read()), sorted(committed), seconds=60)
    expect("all records", len(read_all(cluster, topic, 3, isolation_level="read_uncommitted")), count)
    tool = ["--num-records", "2000", "--record-size", "100", "--throughput", "2000", "--transactional-id", fresh("java"), "--transaction-duration-ms", "100"]
    said = java(TOOLS + "ProducerPerformance", "--topic", topic, *tool, "--bootstrap-server", cluster.ours.address).out
    expect_that("the Java producer has written all", "2000 records sent" in said, said)
    expect("records that count", len(read()), len(committed) + 2000)
    got = java(TOOLS + "consumer.ConsoleConsumer", "--bootstrap-server", cluster.address, "--topic", topic, "--from-beginning", "--isolation-level", "read_committed",
               "--max-messages", str(len(committed) + 2000)).out
    expect("records that Java reads", len(got.splitlines()), len(committed) + 2000)
    same_on_every_disk(cluster, topic)


class Load:
    """Writers with acks=all and idempotence, each acknowledged record of which must be there once and in order."""

    def __init__(self, cluster, *assignment):
        self.cluster, self.count = cluster, len(assignment)
        self.topic = create(cluster, "load", *assignment, min_insync_replicas=2)
        options = argparse.Namespace(partitions=self.count // 2, rate=500)
        self.writers = [Writer(cluster, self.topic, index, options) for index in range(2)]
        for writer in self.writers:
            writer.start()
        self.goes_on(time.monotonic())

    def goes_on(self, since):
        """Waits for acknowledgements of what was written after that moment."""
        marks = [writer.written for writer in self.writers]
        eventually("the writers go on", lambda: all(w.last_ack > since and max(w.acknowledged, default=-1) >= mark for w, mark in zip(self.writers, marks)), seconds=60)

    def end(self):
        for writer in self.writers:
            writer.finish()
        everywhere(self.cluster, self.topic, 60)
        verify(self.cluster, self.topic, self.writers, self.count)
        same_on_every_disk(self.cluster, self.topic)


@check
def nodes_of_both_kinds_are_killed(cluster):
    """kill -9 of a Kafka broker, of ours, of Kafka's controller, under load: others take over, whoever comes back is in sync again."""
    replicas = [(FIRST, OURS, SECOND), (OURS, FIRST, SECOND), (OURS, SECOND, FIRST), (SECOND, OURS, FIRST)]
    load = Load(cluster, *replicas)
    for victim in (FIRST, OURS, CONTROLLER):
        node = cluster.nodes[victim]
        node.kill()
        time.sleep(0.5)
        if victim != CONTROLLER:
            eventually(f"nobody follows {victim}", lambda: victim not in leaders(cluster, load.topic).values() and -1 not in leaders(cluster, load.topic).values(), seconds=30)
        load.goes_on(time.monotonic())
        node.start()
        if victim != CONTROLLER:
            everywhere(cluster, load.topic, 60)
        load.goes_on(time.monotonic())
    elect(cluster, load.topic, *[r[0] for r in replicas])
    load.end()


@check
def our_broker_is_restarted_in_order(cluster):
    """Controlled shutdown: Kafka's controller moves what it leads, nobody waits, and it comes back with its data."""
    replicas = [(OURS, FIRST, SECOND), (OURS, SECOND, FIRST)]
    load = Load(cluster, *replicas)
    for _ in range(2):
        expect("exit code", cluster.ours.stop(), 0)
        expect_that("others lead", OURS not in leaders(cluster, load.topic).values(), leaders(cluster, load.topic))
        load.goes_on(time.monotonic())
        cluster.ours.start()
        everywhere(cluster, load.topic)
        elect(cluster, load.topic, OURS, OURS)
        load.goes_on(time.monotonic())
    load.end()


def voters(cluster):
    """Who leads the quorum, and who votes."""
    said = tidelog(cluster, "cluster", "quorum")
    rows = re.findall(r"^(\d+)\s+(leader|voter|observer)", said, re.M)
    return [n for n, role in rows if role == "leader"], sorted(n for n, role in rows if role != "observer")


@check
def the_quorum_moves_to_our_controller_and_back(cluster):
    """Our controller gets a vote beside Kafka's, then has the only one: Kafka's brokers and ours live under it, and under Kafka's again."""
    theirs, ours = cluster.nodes[CONTROLLER], cluster.nodes[OUR_CONTROLLER]
    load = Load(cluster, (FIRST, OURS, SECOND), (OURS, SECOND, FIRST))
    ours.start()
    number = lambda node: str(node.properties["node.id"])
    for new, old, victim in ((ours, theirs, FIRST), (theirs, ours, OURS)):
        follows = lambda: re.search(rf"^{number(new)}\s+observer\s+(\d+)\s+0\s", tidelog(cluster, "cluster", "quorum"), re.M) is not None
        eventually("the other controller follows", follows)
        tidelog(cluster, "cluster", "quorum", "--add", f"{number(new)}@127.0.0.1:{new.controller_port}")
        expect("voters", voters(cluster)[1], ["1", "5"])
        metadata = lambda node: log_of(node, "__cluster_metadata", 0)
        tidelog(cluster, "cluster", "quorum", "--remove", number(old))
        eventually("the only voter", lambda: voters(cluster), ([number(new)], [number(new)]))
        # Without a vote a controller follows, and has the same log.
        same = lambda: metadata(old) == metadata(new)[-len(metadata(old)):] or metadata(new) == metadata(old)[-len(metadata(new)):]
        eventually("equal logs of the metadata", same)
        expect("exit code", old.stop(), 0 if old is ours else 143)
        topic = create(cluster, "governed", (FIRST, OURS, SECOND), (OURS, SECOND, FIRST))
        one = Transactions(cluster, topic)
        one.begin(0, 1)
        one.commit()
        one.begin(0, 1)
        one.abort()
        expect("records that count", len(read_all(cluster, topic, 2, isolation_level="read_committed")), 10)
        cluster.nodes[victim].kill()
        eventually(f"nobody follows {victim}", lambda: not {victim, -1} & set(leaders(cluster, topic).values()), seconds=60)
        load.goes_on(time.monotonic())
        cluster.nodes[victim].start()
        everywhere(cluster, topic, 60)
        elect(cluster, topic, FIRST, OURS)
        same_on_every_disk(cluster, topic)
        old.start()
    load.end()
    expect("exit code", ours.stop(), 0)


@check
def our_broker_is_drained_and_forgotten(cluster):
    """`tidelog cluster drain` moves everything to Kafka's brokers, the cluster forgets the broker, and takes it again."""
    topic = create(cluster, "drained", (OURS, FIRST), (SECOND, OURS))
    produce(cluster, topic, [{"value": str(n), "partition": n % 2} for n in range(400)])
    # Topics that have a replica on every broker cannot lose one: they are made smaller, or go.
    for name in list(admin(cluster).list_topics(timeout=10).topics):
        if name.startswith("__"):
            reassign(cluster, name, *[(FIRST, SECOND)] * len(leaders(cluster, name)))
        elif any(len(p.replicas) == 3 for p in described(cluster, name).values()):
            tidelog(cluster, "topic", "delete", name, through=OURS)
    tidelog(cluster, "cluster", "drain", str(OURS))
    expect("replicas", {n: sorted(p.replicas) for n, p in described(cluster, topic).items()}, {n: [FIRST, SECOND] for n in range(2)})
    said = lambda: tool(cluster, TOOLS + "LogDirsCommand", "--describe", "--broker-list", str(OURS), through=FIRST).out
    eventually("nothing of it is left", lambda: "partition\":\"" in said(), False)
    expect("exit code", cluster.ours.stop(), 0)
    java(TOOLS + "ClusterTool", "unregister", "--bootstrap-server", cluster.nodes[FIRST].address, "--id", str(OURS))
    eventually("the cluster has forgotten it", lambda: cluster.ours.address in tidelog(cluster, "cluster", "describe"), False)
    counted(cluster, topic, 400, 2)
    same_on_every_disk(cluster, topic)
    cluster.ours.start()
    reassign(cluster, topic, (OURS, FIRST), (SECOND, OURS))
    elect(cluster, topic, OURS, SECOND)
    counted(cluster, topic, 400, 2)
    same_on_every_disk(cluster, topic)


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("name", nargs="*")
    options = parser.parse_args()
    # Nodes of Kafka take long to start where something else is busy.
    harness.CHECK_SECONDS_MAX = 300
    cluster = Mixed(options)
    cluster.start()
    passed, failed = harness.run_checks(options, cluster, CHECKS, options.name)
    if failed:
        print(cluster.last_words(), flush=True)
    cluster.stop()
    harness.finish(passed, failed)


if __name__ == "__main__":
    main()
