"""Short ways to do with confluent-kafka what nearly every check does."""

import json
import pathlib
import signal
import sys
import threading
import uuid

from confluent_kafka import Consumer, KafkaError, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Failed, eventually, expect, scratch, spawn  # noqa: E402

MEMBER = pathlib.Path(__file__).with_name("member.py")
QUIET = {"log_level": 2, "reconnect.backoff.max.ms": 200}
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def fresh(what):
    """A name that no earlier check or run has used."""
    return f"{what}-{uuid.uuid4().hex[:8]}"


ADMINS = {}


def admin(server):
    """One client for a server, kept for good: a future of a client that was collected never comes true."""
    if server.address not in ADMINS:
        ADMINS[server.address] = AdminClient({"bootstrap.servers": server.address, **QUIET})
    return ADMINS[server.address]


def results(futures, seconds=20):
    """Waits for the futures of an admin call; the error code's name stands for each that failed."""
    outcome = {}
    for key, future in futures.items():
        try:
            outcome[key] = future.result(seconds)
        except Exception as error:  # KafkaException, or what else the client raises
            outcome[key] = error_name(error)
    return outcome


def error_name(error):
    inner = error.args[0] if getattr(error, "args", None) and isinstance(error.args[0], KafkaError) else error
    return inner.name() if isinstance(inner, KafkaError) else repr(error)


def create_topic(server, what, partitions=1, **config):
    name = fresh(what)
    topic = NewTopic(name, partitions, 1, config={key.replace("_", "."): str(value) for key, value in config.items()})
    expect(f"create topic {name}", results(admin(server).create_topics([topic])), {name: None})
    return name


def topic_id(server, topic):
    """The topic's id as Kafka writes it: base64 of the alphabet for URLs."""
    described = results(admin(server).describe_topics(TopicCollection([topic])))[topic]
    return str(described.topic_id).translate(str.maketrans("+/", "-_"))


def producer(server, **config):
    return Producer({"bootstrap.servers": server.address, **QUIET, "linger.ms": 5, **dotted(config)})


def dotted(config):
    return {key.replace("_", "."): value for key, value in config.items()}


def produce(server, topic, records, seconds=30, **config):
    """Produces `records` (keyword arguments of `Producer.produce`); answers the delivered messages, in the order of their delivery."""
    delivered, errors = [], []

    def report(error, message):
        (errors.append(error) if error else delivered.append(message))

    client = producer(server, **config)
    for record in records:
        while True:
            try:
                client.produce(topic, on_delivery=report, **record)
                break
            except BufferError:
                client.poll(0.1)
        client.poll(0)
    left = client.flush(seconds)
    expect(f"records to {topic} left unsent after {seconds} s", left, 0)
    expect(f"errors of records to {topic}", [error_name(e) for e in errors[:5]], [])
    return delivered


def values(count, start=0, **more):
    return [{"value": f"{n}".encode(), **more} for n in range(start, start + count)]


def consumer(server, group=None, **config):
    return Consumer(
        {
            "bootstrap.servers": server.address,
            **QUIET,
            "group.id": group or fresh("reader"),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            **dotted(config),
        }
    )


def read_all(server, topic, partitions=1, start=0, seconds=30, **config):
    """Every record of the topic from `start` on to each partition's end, in the order the consumer gave them."""
    reader = consumer(server, **config)
    try:
        return read_to_end(reader, [TopicPartition(topic, p, start) for p in range(partitions)], seconds)
    finally:
        reader.close()


def read_to_end(reader, assignment, seconds=30):
    reader.assign(assignment)
    records, open_partitions = [], {(tp.topic, tp.partition) for tp in assignment}
    give_up = threading.Event()
    timer = threading.Timer(seconds, give_up.set)
    timer.daemon = True
    timer.start()
    while open_partitions:
        if give_up.is_set():
            raise Failed(f"partitions not read to their end within {seconds} s: {sorted(open_partitions)}; {len(records)} records came")
        for message in reader.consume(1000, 0.2):
            if message.error() is None:
                records.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                open_partitions.discard((message.topic(), message.partition()))
            elif not message.error().retriable():
                raise Failed(f"the consumer of {message.topic()}[{message.partition()}] got {message.error()}")
    timer.cancel()
    return records


class Member:
    """A group member in a process of its own (member.py), so that it can be killed."""

    def __init__(self, server, group, topic, **config):
        self.log = scratch("member") / "events.jsonl"
        settings = {"bootstrap.servers": server.address, **QUIET, "group.id": group, **dotted(config)}
        with open(self.log, "w") as out, open(self.log.with_suffix(".err"), "w") as err:
            self.process = spawn([sys.executable, MEMBER, topic, json.dumps(settings)], stdout=out, stderr=err)

    def events(self, kind=None):
        lines = self.log.read_text().split("\n")[:-1]
        events = [json.loads(line) for line in lines]
        return [e for e in events if kind is None or e["event"] == kind]

    def owned(self):
        """The partitions that its last word on the matter gives it; none once it has ended."""
        owned = set()
        if self.process.poll() is not None:
            return owned
        for event in self.events():
            if event["event"] == "assigned":
                owned |= set(event["partitions"])
            elif event["event"] in ("revoked", "lost"):
                owned -= set(event["partitions"])
        return owned

    def records(self):
        return [e["value"] for e in self.events("record")]

    def errors(self):
        return [e["error"] for e in self.events("error")]

    def leave(self):
        self.process.send_signal(signal.SIGTERM)
        expect("exit code of a member that left", self.process.wait(20), 0)

    def kill(self):
        self.process.kill()
        self.process.wait()


def shares(members):
    """How many partitions each member owns, fewest first, and whether no partition is owned twice."""
    owned = [m.owned() for m in members]
    return sorted(len(o) for o in owned), sum(len(o) for o in owned) == len(set().union(*owned))


def await_shares(what, members, want, seconds=30):
    return eventually(what, lambda: shares(members), (sorted(want), True), seconds)


def await_records(what, members, want, seconds=30):
    """All members together have seen each of `want` once."""
    seen = lambda: [value for m in members for value in m.records()]
    missing = lambda: len(want) - len(set(seen()) & set(want))
    eventually(f"{what}: records not seen yet", missing, 0, seconds)
    twice = sorted(v for v in set(seen()) if seen().count(v) > 1) if len(seen()) != len(set(seen())) else []
    expect(f"{what}: records seen more than once", twice, [])
