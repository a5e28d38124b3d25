#!/usr/bin/env python3
"""The same requests, in every version, to a real Apache Kafka 4.3.1 and to us, side by side; every field of the answers must agree.

differential.py [--binary PATH | --kafka] [NAME ...]. With --kafka a second Kafka stands in our place, to prove the scenarios.
The schemas come from Kafka's jar. What must differ (ids, ports, times, the words of errors) is compared as "there" or "not there".
"""

import argparse
import json
import re
import struct
import sys
import time
import uuid

import harness
from harness import Failed, Kafka, check, eventually, expect
from schema import Schemas, within
from wire import Closed, Connection, batch, record, string

NOW = int(time.time() * 1000) - 60_000
CLIENT_ID = "wire"
DIFFERENCES_MAX = 12
# Eligible leader replicas (KIP-966) bring a default of their own for min.insync.replicas; we do not have the feature yet.
WITHOUT_ELR = ["eligible.leader.replicas.version=0"]
OUR_OWN = ("[tidelog.",)  # configs that Kafka does not have
ZERO = uuid.UUID(int=0)


class Id:
    """Stands in a request for the id that a topic has on the side that is asked."""

    def __init__(self, topic):
        self.topic = topic


class Member:
    """Stands in a request for the member id that the side has given; `remember` notes it."""

    def __init__(self, name):
        self.name = name


class Side:
    def __init__(self, server, schemas):
        self.server, self.schemas = server, schemas
        self.connections, self.pending, self.ids, self.members, self.numbers = {}, {}, {}, {}, {}

    def send(self, api, version, body, connection):
        request, _ = self.schemas[api]
        flexible = within(request.flexible, version)
        head = struct.pack(">hhi", request.key, version, 7) + string(CLIENT_ID) + (b"\0" if flexible else b"")
        data = head + request.encode(version, self.resolve(body))
        if connection not in self.connections:
            self.connections[connection] = Connection(self.server.address, timeout=15)
        self.pending[connection] = (api, version)
        try:
            self.connections[connection].send(struct.pack(">i", len(data)) + data)
        except Closed:
            pass

    def receive(self, connection):
        api, version = self.pending.pop(connection)
        _, response = self.schemas[api]
        try:
            correlation_id, data = self.connections[connection].receive()
        except (Closed, TimeoutError) as end:
            self.connections.pop(connection).close()
            return {"no answer": "closed" if isinstance(end, Closed) else "silent"}
        if within(response.flexible, version) and api != "ApiVersions":
            if data[:1] != b"\0":
                return {"tagged fields in the header": data[:20]}
            data = data[1:]
        try:
            return response.decode(version, data)
        except Exception as error:
            return {"undecodable": f"{error!r} in {data.hex()}"}

    def resolve(self, value):
        if isinstance(value, dict):
            return {k: self.resolve(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.resolve(v) for v in value]
        if isinstance(value, Id):
            return self.ids[value.topic]
        if isinstance(value, Member):
            return self.members.get(value.name, f"<no member id for {value.name}>")
        if callable(value):
            return value(self)
        return value

    def plain(self, value, key=""):
        """The value without what must differ between two brokers."""
        if isinstance(value, dict):
            return {k: self.plain(v, k) for k, v in value.items()}
        if isinstance(value, list):
            parts = [self.plain(v, key) for v in value]
            return sorted(parts, key=lambda p: json.dumps(p, sort_keys=True, default=str)) if parts and isinstance(parts[0], (dict, str)) else parts
        if isinstance(value, uuid.UUID):
            return next((f"<id of {t}>" for t, i in self.ids.items() if i == value), "<zero>" if value == ZERO else "<an id>")
        if isinstance(value, bytes):
            return value.hex()
        if key in ("ErrorMessage", "BatchIndexErrorMessage", "Documentation"):
            return "<text>" if value else value
        if key == "Port" and value == self.server.port:
            return "<port>"
        if key == "ClusterId" and value:
            return "<cluster>"
        if key in ("LogAppendTimeMs", "SessionId") and value > 0 or key == "ProducerId" and value >= 0:
            return f"<{key}>"
        if isinstance(value, str):
            for name, real in self.members.items():
                value = value.replace(real, f"<member {name}>")
            value = value.replace(str(self.server.data), "<data>").replace(str(self.server.port), "<port>").replace(str(self.server.controller_port), "<port>")
            return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>", value)
        return value


IDENTITY = ("Name", "Topic", "TopicId", "PartitionIndex", "Partition", "Index", "GroupId", "Key", "ResourceName", "NodeId", "MemberId", "BatchIndex")


def identities(parts):
    """A name for each part of a list, by what it is about, so that one that is missing does not shift the others."""
    seen = {}
    for n, part in enumerate(parts):
        name = next((str(part[k]) for k in IDENTITY if part.get(k) not in (None, "")), str(n)) if isinstance(part, dict) else str(n)
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} #{seen[name]}"


def paths(value, at=""):
    """Every leaf of a value with its path."""
    if isinstance(value, dict):
        for k, v in value.items():
            yield from paths(v, f"{at}.{k}" if at else k)
    elif isinstance(value, list) and value:
        for name, v in zip(identities(value), value):
            yield from paths(v, f"{at}[{name}]")
    else:
        yield at, value


class Both:
    """The two sides, and what differed so far."""

    def __init__(self, original, ours, schemas):
        self.sides, self.schemas = [Side(original, schemas), Side(ours, schemas)], schemas
        self.original, self.ours = self.sides
        self.differences, self.compared = [], 0

    @property
    def process(self):
        return self.ours.server.process

    def expect_sound(self):
        self.ours.server.expect_sound()

    def last_words(self):
        return self.ours.server.last_words()

    def range(self, api):
        low, high = self.schemas[api][0].versions
        return range(max(low, {"Produce": 3}.get(api, low)), high + 1)

    def send(self, api, version, body, connection="main"):
        for side in self.sides:
            side.send(api, version, body, connection)

    def receive(self, what, connection="main", ignore=()):
        api, version = self.ours.pending[connection]
        answers = [side.receive(connection) for side in self.sides]
        self.compared += 1
        original, ours = (dict(paths(side.plain(a))) for side, a in zip(self.sides, answers))
        if OPTIONS.answers:
            OPTIONS.answers.write(f"{api} {version}, {what}: {self.original.plain(answers[0])}\n")
        for path in sorted(original.keys() | ours.keys()):
            a, b = original.get(path, "absent"), ours.get(path, "absent")
            if path.endswith("ErrorMessage") and a in (None, ""):
                continue  # we may say more than Kafka does
            if path.endswith("ErrorCode") and a == -1 and b not in ("absent", 0):
                continue  # an exception slipped through in Kafka; a code that says what is wrong is as good
            if a != b and not any(word in path for word in (*ignore, *OUR_OWN)):
                self.differences.append(f"{api} {version}, {what}: {path} is {harness.short(b, 200)}, Kafka: {harness.short(a, 200)}")
        return answers

    def ask(self, what, api, version, body, connection="main", ignore=()):
        self.send(api, version, body, connection)
        return self.receive(what, connection, ignore)

    def remember(self, member, answers, field="MemberId"):
        for side, answer in zip(self.sides, answers):
            if answer.get(field):
                side.members[member] = answer[field]

    def settle(self):
        """Raises what has differed since the last time."""
        found, self.differences = self.differences, []
        if found:
            more = f"\n    and {len(found) - DIFFERENCES_MAX} more" if len(found) > DIFFERENCES_MAX and not OPTIONS.all else ""
            shown = found if OPTIONS.all else found[:DIFFERENCES_MAX]
            raise Failed(f"{len(found)} fields differ from Kafka's answers\n    " + "\n    ".join(shown) + more)

    def topic(self, name, partitions=1, **configs):
        """A new topic of the same name on both sides; their ids are noted."""
        body = {"Name": name, "NumPartitions": partitions, "ReplicationFactor": 1}
        body["Configs"] = [{"Name": k.replace("_", "."), "Value": str(v)} for k, v in configs.items()]
        for side in self.sides:
            side.send("CreateTopics", 7, {"Topics": [body], "timeoutMs": 10_000}, "setup")
            [created] = side.receive("setup")["Topics"]
            expect(f"create {name}", created["ErrorCode"], 0)
            side.ids[name] = created["TopicId"]
            eventually(f"leaders of {name}", lambda: self.led(side, name), partitions)
        return name

    def led(self, side, name):
        side.send("Metadata", 9, {"Topics": [{"Name": name}]}, "setup")
        [topic] = side.receive("setup")["Topics"]
        return sum(p["ErrorCode"] == 0 and p["LeaderId"] == 1 for p in topic["Partitions"])

    def fill(self, topic, batches, partition=0):
        for data in batches:
            for side in self.sides:
                side.send("Produce", 9, produce_body([(topic, partition, data)]), "setup")
                [answer] = side.receive("setup")["Responses"]
                expect(f"fill {topic}", answer["PartitionResponses"][0]["ErrorCode"], 0)


def produce_body(parts, acks=-1):
    topics = {}
    for topic, partition, data in parts:
        topics.setdefault(topic, []).append({"Index": partition, "Records": data})
    listed = [{"Name": t, "TopicId": Id(t) if t in KNOWN else uuid.UUID(int=77), "PartitionData": p} for t, p in topics.items()]
    return {"TransactionalId": None, "Acks": acks, "TimeoutMs": 5000, "TopicData": listed}


KNOWN = set()


def named(both, name, partitions=1, **configs):
    KNOWN.add(name)
    return both.topic(name, partitions, **configs)


def stamped(values, at=0, **fields):
    records = [record(v, delta=n) for n, v in enumerate(values)]
    return batch(records, base_timestamp=NOW + at, max_timestamp=NOW + at, **fields)


@check
def api_versions(both):
    """ApiVersions: the ranges of all that we advertise are Kafka's."""
    for version in both.range("ApiVersions"):
        for side in both.sides:
            side.send("ApiVersions", version, {"ClientSoftwareName": "wire", "ClientSoftwareVersion": "1"}, "main")
        theirs, ours = ({k["ApiKey"]: (k["MinVersion"], k["MaxVersion"]) for k in side.receive("main")["ApiKeys"]} for side in both.sides)
        expect(f"ranges in version {version}", ours, {k: v for k, v in theirs.items() if k in ours})
        expect(f"APIs of the group protocol and below in version {version}", {k for k in range(24) if k in theirs and k not in (17,)} - set(ours), set())
    for name, ask in {"empty software name": {"ClientSoftwareName": "", "ClientSoftwareVersion": "1"}, "impossible name": {"ClientSoftwareName": "a b*", "ClientSoftwareVersion": "1"}}.items():
        both.ask(name, "ApiVersions", 3, ask, ignore=("ApiKeys", "Features", "FinalizedFeaturesEpoch"))


@check
def metadata(both):
    """Metadata: named, all, none, by id, unknown and impossible topics, with and without creation."""
    one, many = named(both, "m-one"), named(both, "m-many", 4)
    for version in both.range("Metadata"):
        ask = lambda what, topics, **more: both.ask(what, "Metadata", version, {"Topics": topics, "AllowAutoTopicCreation": False, **more}, ignore=("ControllerId",) if version < 1 else ())
        ask("two topics", [{"Name": one}, {"Name": many}])
        ask("a topic twice", [{"Name": one}, {"Name": one}])
        if version >= 1:
            ask("no topics", [])
        ask("an impossible name", [{"Name": "a b"}]) if version >= 4 else None
        ask("an empty name", [{"Name": ""}]) if version >= 4 else None
        if version >= 4:
            ask("unknown", [{"Name": "m-unknown"}, {"Name": one}])
        if version >= 8:
            ask("authorized operations", [{"Name": one}], IncludeTopicAuthorizedOperations=True)
        if 8 <= version <= 10:
            ask("cluster's authorized operations", [{"Name": one}], IncludeClusterAuthorizedOperations=True)
        if version >= 12:
            ask("by id", [{"Name": None, "TopicId": Id(one)}])
            ask("by an unknown id", [{"Name": None, "TopicId": uuid.UUID(int=99)}, {"Name": None, "TopicId": Id(one)}])


@check
def produce(both):
    """Produce: good and bad partitions in one request, repeats and gaps of an idempotent producer, append time, acks."""
    good, bad = named(both, "p-good", 2), named(both, "p-bad")
    clock, keyed = named(both, "p-clock", message_timestamp_type="LogAppendTime"), named(both, "p-keyed", cleanup_policy="compact")
    for version in both.range("Produce"):
        ask = lambda what, parts, **more: both.ask(what, "Produce", version, produce_body(parts, **more))
        ask("two partitions", [(good, 0, stamped([b"a", b"b"])), (good, 1, stamped([b"c"]))])
        ask("a bad CRC beside a good one", [(good, 0, stamped([b"a"])), (bad, 0, batch(crc=5))])
        ask("unknown topic", [("p-none", 0, stamped([b"a"]))])
        ask("unknown partition", [(good, 9, stamped([b"a"]))])
        ask("the clock of the broker", [(clock, 0, stamped([b"a"]))])
        ask("no key in a compacted topic", [(keyed, 0, stamped([b"a", b"b"]))])
        ask("far in the future", [(good, 0, stamped([b"a", b"b"], at=100_000_000))])
        ask("acks 1", [(good, 0, stamped([b"a"]))], acks=1)
        ask("acks 3", [(good, 0, stamped([b"a"]))], acks=3)
        pid = 5000 + version
        sequence = lambda n, count=1, epoch=0: stamped([b"s"] * count, producer_id=pid, producer_epoch=epoch, base_sequence=n)
        ask("sequence 0", [(good, 0, sequence(0, 3))])
        ask("sequence 3", [(good, 0, sequence(3))])
        ask("sequence 0 again", [(good, 0, sequence(0, 3))])
        ask("sequence 9", [(good, 0, sequence(9))])
        ask("another epoch", [(good, 0, sequence(0, epoch=1))])
        ask("the old epoch", [(good, 0, sequence(4))])
        ask("no records", [(good, 0, b"")])
        ask("two batches", [(good, 0, stamped([b"a"]) + stamped([b"b"]))])
    both.ask("everything, read back", "Fetch", 12, fetch_body([(good, 0, 0), (good, 1, 0)]))


def fetch_body(parts, **more):
    topics = {}
    for topic, partition, offset, *rest in parts:
        extra = rest[0] if rest else {}
        topics.setdefault(topic, []).append({"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": 1 << 20, "CurrentLeaderEpoch": -1, **extra})
    listed = [{"Topic": t, "TopicId": Id(t) if t in KNOWN else uuid.UUID(int=78), "Partitions": p} for t, p in topics.items()]
    return {"ReplicaId": -1, "MaxWaitMs": 0, "MinBytes": 0, "MaxBytes": 50 << 20, "SessionEpoch": -1, "Topics": listed, **more}


@check
def fetch(both):
    """Fetch: data, limits, bounds, epochs, unknown topics, isolation levels, in every version."""
    one, two, empty = named(both, "f-one"), named(both, "f-two"), named(both, "f-empty")
    both.fill(one, [stamped([b"x" * 300] * 5, at=n) for n in range(6)])
    both.fill(two, [stamped([b"y" * 300] * 5, at=n) for n in range(6)])
    for version in both.range("Fetch"):
        ask = lambda what, parts, **more: both.ask(what, "Fetch", version, fetch_body(parts, **more))
        ask("two topics and an empty one", [(one, 0, 0), (two, 0, 7), (empty, 0, 0)])
        ask("at the end", [(one, 0, 30)])
        ask("beyond the end", [(one, 0, 31)])
        ask("below zero", [(one, 0, -5)])
        ask("read committed", [(one, 0, 0)], IsolationLevel=1)
        ask("unknown partition", [(one, 5, 0), (two, 0, 0)])
        ask("unknown topic", [("f-none", 0, 0), (two, 0, 0)])
        ask("a byte a partition", [(one, 0, 0, {"PartitionMaxBytes": 1}), (two, 0, 0, {"PartitionMaxBytes": 1})])
        ask("a byte in all", [(one, 0, 0), (two, 0, 0)], MaxBytes=1)
        ask("one batch and a half", [(one, 0, 0, {"PartitionMaxBytes": 2500})])
        ask("nothing asked", [])
        started = time.monotonic()
        ask("at the end, waiting", [(one, 0, 30)], MaxWaitMs=200, MinBytes=1)
        if time.monotonic() - started < 0.19:
            both.differences.append(f"Fetch {version}: max wait was not waited for")
        if version >= 9:
            for name, epoch in {"the right epoch": 0, "an epoch of the future": 4}.items():
                ask(name, [(one, 0, 0, {"CurrentLeaderEpoch": epoch})])
        if version >= 12:
            ask("a last fetched epoch", [(one, 0, 0, {"LastFetchedEpoch": 0, "CurrentLeaderEpoch": 0})])


@check
def fetch_sessions(both):
    """Fetch sessions (KIP-227): made, went on with, added to, forgotten from, with the wrong epoch, closed."""
    one, two, three = (named(both, f"s-{n}") for n in ("one", "two", "three"))
    for topic in (one, two, three):
        both.fill(topic, [stamped([topic.encode()])])
    for version in range(7, both.range("Fetch")[-1] + 1):
        end = [2 * (version - 7) + 1 if t == one else 1 for t in (one, two, three)]
        ask = lambda what, parts, epoch, session=lambda side: side.numbers["session"], **more: both.ask(what, "Fetch", version, fetch_body(parts, SessionEpoch=epoch, SessionId=session, **more))
        made = ask("a new session", [(one, 0, end[0]), (two, 0, 0)], 0, 0)
        for side, answer in zip(both.sides, made):
            side.numbers["session"] = answer.get("SessionId", 0)
        ask("nothing new", [(two, 0, 1)], 1)
        both.fill(one, [stamped([b"new"])])
        ask("news of one partition", [], 2)
        ask("the position moved on", [(one, 0, end[0] + 1)], 3)
        ask("a partition comes", [(three, 0, 0)], 4)
        ask("it is still there", [], 5)
        forget = {"Topic": two, "TopicId": Id(two), "Partitions": [0]}
        ask("a partition goes", [(three, 0, 1)], 6, ForgottenTopicsData=[forget])
        both.fill(one, [stamped([b"newer"])])
        ask("news again", [], 7)
        ask("an epoch left out", [], 9)
        ask("an unknown session", [], 1, 123_456_789)
        ask("an unknown topic in a session", [("s-none", 0, 0), (one, 0, 0)], 0, 0)
        ask("closed", [(one, 0, 0)], -1)
        ask("gone on with after its end", [], 8)


@check
def list_offsets(both):
    """ListOffsets: every special timestamp in every version, times inside and outside, unknown partitions, epochs."""
    topic = named(both, "l-topic", 2)
    both.fill(topic, [stamped([b"a"], at=100), stamped([b"b", b"c"], at=300), stamped([b"d"], at=200)])
    for version in both.range("ListOffsets"):
        ask = lambda what, partition, stamp, name=topic, **more: both.ask(
            what, "ListOffsets", version,
            {"ReplicaId": -1, "IsolationLevel": 0, "TimeoutMs": 1000, "Topics": [{"Name": name, "Partitions": [{"PartitionIndex": partition, "Timestamp": stamp, "CurrentLeaderEpoch": -1, **more}]}]},
        )  # fmt: skip
        for special in range(-8, 0):
            ask(f"timestamp {special}", 0, special)
            ask(f"timestamp {special}, empty partition", 1, special)
        for at in (-1000, 0, 100, 101, 250, 300, 301):
            ask(f"time {at}", 0, NOW + at)
        ask("unknown partition", 7, -1)
        ask("unknown topic", 0, -1, name="l-none")
        if version >= 4:
            ask("the right epoch", 0, -1, CurrentLeaderEpoch=0)
            ask("an epoch of the future", 0, -1, CurrentLeaderEpoch=3)


@check
def leader_epochs(both):
    """OffsetForLeaderEpoch: the current, a former and a future epoch."""
    topic = named(both, "e-topic")
    both.fill(topic, [stamped([b"a", b"b"])])
    for version in both.range("OffsetForLeaderEpoch"):
        for current in (-1, 0, 5):
            for epoch in (-1, 0, 1, 5):
                for name, partition in ((topic, 0), (topic, 3), ("e-none", 0)):
                    part = {"Partition": partition, "CurrentLeaderEpoch": current, "LeaderEpoch": epoch}
                    both.ask(f"current {current}, epoch {epoch}, {name}-{partition}", "OffsetForLeaderEpoch", version, {"ReplicaId": -2, "Topics": [{"Topic": name, "Partitions": [part]}]})


@check
def topics(both):
    """CreateTopics, CreatePartitions, DeleteRecords, DeleteTopics: what works, and each mistake."""
    many = max(both.range(a)[-1] for a in ("CreateTopics", "DeleteTopics"))
    for step in range(many + 1):
        at = lambda api: min(both.range(api)[0] + step, both.range(api)[-1])
        version = at("CreateTopics")
        topic = lambda name, partitions=1, factor=1, **more: {"Name": name, "NumPartitions": partitions, "ReplicationFactor": factor, **more}
        create = lambda what, *them, **more: both.ask(what, "CreateTopics", version, {"Topics": list(them), "timeoutMs": 5000, **more})
        name = f"t-{step}"
        config = lambda key, value: [{"Name": key, "Value": value}]
        create("a topic", topic(name, 2, Configs=config("retention.ms", "1000")))
        create("again", topic(name))
        create("twice in one request", topic(f"t-twice-{step}"), topic(f"t-twice-{step}"))
        create("only asked", topic(f"t-asked-{step}", 3), validateOnly=True)
        create("only asked, but there", topic(name), validateOnly=True)
        create("impossible names", topic("a b"), topic(""), topic("."), topic("x" * 250))
        create("replication factor 2", topic(f"t-factor-{step}", 1, 2))
        create("replication factor 0", topic(f"t-factor-{step}", 1, 0))
        create("no partitions", topic(f"t-parts-{step}", 0))
        create("minus 2 partitions", topic(f"t-parts-{step}", -2))
        create("an unknown config", topic(f"t-config-{step}", Configs=config("no.such", "1")))
        create("a wrong value", topic(f"t-config-{step}", Configs=config("retention.ms", "x")))
        create("a value null", topic(f"t-config-{step}", Configs=config("retention.ms", None)))
        create("assigned", topic(f"t-assigned-{step}", -1, -1, Assignments=[{"PartitionIndex": 0, "BrokerIds": [1]}, {"PartitionIndex": 1, "BrokerIds": [1]}]))
        create("assigned to nobody", topic(f"t-wrong-{step}", -1, -1, Assignments=[{"PartitionIndex": 0, "BrokerIds": [4]}]))
        create("assigned with a gap", topic(f"t-wrong-{step}", -1, -1, Assignments=[{"PartitionIndex": 1, "BrokerIds": [1]}]))
        create("assigned twice to one", topic(f"t-wrong-{step}", -1, -1, Assignments=[{"PartitionIndex": 0, "BrokerIds": [1, 1]}]))
        create("assigned and counted", topic(f"t-wrong-{step}", 1, 1, Assignments=[{"PartitionIndex": 0, "BrokerIds": [1]}]))
        if version >= 4:
            create("defaults", topic(f"t-default-{step}", -1, -1))
        KNOWN.add(name)
        for side in both.sides:
            eventually(f"leaders of {name}", lambda: both.led(side, name), 2)
            side.send("Metadata", 12, {"Topics": [{"Name": name}]}, "setup")
            side.ids[name] = side.receive("setup")["Topics"][0]["TopicId"]

        version = at("CreatePartitions")
        more = lambda what, *them, **rest: both.ask(what, "CreatePartitions", version, {"Topics": list(them), "TimeoutMs": 5000, "ValidateOnly": False, **rest})
        more("only asked", {"Name": name, "Count": 4, "Assignments": None}, ValidateOnly=True)
        more("four", {"Name": name, "Count": 4, "Assignments": None})
        more("four again", {"Name": name, "Count": 4, "Assignments": None})
        more("three", {"Name": name, "Count": 3, "Assignments": None})
        more("unknown", {"Name": "t-none", "Count": 3, "Assignments": None})
        more("assigned", {"Name": name, "Count": 5, "Assignments": [{"BrokerIds": [1]}]})
        more("assigned to nobody", {"Name": name, "Count": 6, "Assignments": [{"BrokerIds": [9]}]})
        more("too few assigned", {"Name": name, "Count": 7, "Assignments": [{"BrokerIds": [1]}]})
        more("twice in one request", {"Name": name, "Count": 8, "Assignments": None}, {"Name": name, "Count": 9, "Assignments": None})

        both.fill(name, [stamped([b"x"] * 10)])
        version = at("DeleteRecords")
        cut = lambda what, partition, offset, of=name: both.ask(what, "DeleteRecords", version, {"Topics": [{"Name": of, "Partitions": [{"PartitionIndex": partition, "Offset": offset}]}], "TimeoutMs": 5000})
        for what, offset in {"before 4": 4, "before 2": 2, "all": -1, "beyond the end": 11, "below zero": -7}.items():
            cut(what, 0, offset)
        cut("unknown partition", 77, 0)
        cut("unknown topic", 0, 0, "t-none")

        version = at("DeleteTopics")
        if version < 6:
            both.ask("two, one unknown", "DeleteTopics", version, {"TopicNames": [name, "t-none"], "TimeoutMs": 5000})
        else:
            by = lambda what, *them: both.ask(what, "DeleteTopics", version, {"Topics": list(them), "TimeoutMs": 5000})
            by("unknown id, unknown name", {"Name": None, "TopicId": uuid.UUID(int=5)}, {"Name": "t-none", "TopicId": ZERO})
            by("neither", {"Name": None, "TopicId": ZERO})
            by("by id", {"Name": None, "TopicId": Id(name)})
            by("by id again", {"Name": None, "TopicId": Id(name)})


@check
def configs(both):
    """DescribeConfigs of a topic and the broker, IncrementalAlterConfigs, AlterConfigs: entries, sources, synonyms, mistakes."""
    topic = named(both, "c-topic", segment_bytes=2_000_000, cleanup_policy="compact,delete")
    for version in both.range("DescribeConfigs"):
        ask = lambda what, *them, **more: both.ask(what, "DescribeConfigs", version, {"Resources": list(them), "IncludeSynonyms": False, **more})
        resource = lambda kind, name, keys=None: {"ResourceType": kind, "ResourceName": name, "ConfigurationKeys": keys}
        some = ["segment.bytes", "retention.ms", "cleanup.policy", "compression.type", "max.message.bytes", "min.insync.replicas", "no.such.key"]
        ask("some keys of the topic", resource(2, topic, some))
        ask("with synonyms", resource(2, topic, some), IncludeSynonyms=True)
        ask("no keys", resource(2, topic, []))
        if version >= 3:
            ask("with documentation", resource(2, topic, some), IncludeDocumentation=True)
        ask("unknown topic", resource(2, "c-none"))
        ask("impossible name", resource(2, "a b"))
        ask("the broker, some keys", resource(4, "1", ["node.id", "num.partitions", "log.dirs", "message.max.bytes", "auto.create.topics.enable", "log.retention.hours", "log.retention.ms"]), IncludeSynonyms=True)
        ask("another broker", resource(4, "9"))
        ask("not a broker", resource(4, "x"))
        ask("brokers' default", resource(4, "", ["num.partitions"]))
        ask("an unknown kind", resource(77, "x"))
    for version in both.range("IncrementalAlterConfigs"):
        ask = lambda what, *changes, name=topic, kind=2, **more: both.ask(
            what, "IncrementalAlterConfigs", version,
            {"Resources": [{"ResourceType": kind, "ResourceName": name, "Configs": [{"Name": k, "ConfigOperation": o, "Value": v} for k, o, v in changes]}], "ValidateOnly": False, **more},
        )  # fmt: skip
        for what, change in {
            "set": ("retention.ms", 0, "5"), "delete": ("retention.ms", 1, None), "append": ("cleanup.policy", 2, "delete"), "subtract": ("cleanup.policy", 3, "compact"),
            "append to no list": ("retention.ms", 2, "5"), "unknown": ("no.such", 0, "5"), "delete unknown": ("no.such", 1, None), "wrong value": ("retention.ms", 0, "x"),
            "null": ("retention.ms", 0, None), "unknown operation": ("retention.ms", 9, "1"), "not among the choices": ("compression.type", 0, "brotli"),
            "not among the choices of a list": ("cleanup.policy", 2, "burn"), "out of range": ("min.cleanable.dirty.ratio", 0, "7"),
        }.items():  # fmt: skip
            ask(what, change)
        ask("twice", ("retention.ms", 0, "5"), ("retention.ms", 0, "6"))
        ask("only asked", ("retention.ms", 0, "77"), ValidateOnly=True)
        ask("unknown topic", ("retention.ms", 0, "5"), name="c-none")
        ask("unknown kind", ("retention.ms", 0, "5"), kind=99)
    for version in both.range("AlterConfigs"):
        ask = lambda what, *pairs, name=topic, **more: both.ask(
            what, "AlterConfigs", version, {"Resources": [{"ResourceType": 2, "ResourceName": name, "Configs": [{"Name": k, "Value": v} for k, v in pairs]}], "ValidateOnly": False, **more}
        )
        ask("two", ("retention.ms", "5"), ("segment.bytes", "3000000"))
        ask("one", ("retention.ms", "6"))
        ask("unknown", ("no.such", "6"))
        ask("null", ("retention.ms", None))
        ask("only asked", ("retention.ms", "8"), ValidateOnly=True)
        ask("unknown topic", ("retention.ms", "6"), name="c-none")
    time.sleep(0.5)
    both.ask("the topic after all that", "DescribeConfigs", 4, {"Resources": [{"ResourceType": 2, "ResourceName": topic, "ConfigurationKeys": ["retention.ms", "segment.bytes", "cleanup.policy"]}], "IncludeSynonyms": True})


@check
def every_topic_config(both):
    """DescribeConfigs of all keys of a topic: names, types, values, sources, synonyms."""
    topic = named(both, "c-all")
    both.ask("all keys", "DescribeConfigs", 4, {"Resources": [{"ResourceType": 2, "ResourceName": topic, "ConfigurationKeys": None}], "IncludeSynonyms": True, "IncludeDocumentation": True})


@check
def cluster(both):
    """DescribeCluster, DescribeTopicPartitions, InitProducerId, FindCoordinator."""
    topic = named(both, "d-topic", 5)
    for version in both.range("DescribeCluster"):
        for more in ({}, {"IncludeClusterAuthorizedOperations": True}, {"EndpointType": 1}, {"EndpointType": 9}, {"IncludeFencedBrokers": True}):
            both.ask(f"{more}", "DescribeCluster", version, {k: v for k, v in more.items() if version >= {"EndpointType": 1, "IncludeFencedBrokers": 2}.get(k, 0)})
    page = lambda what, names, **more: both.ask(what, "DescribeTopicPartitions", 0, {"Topics": [{"Name": n} for n in names], **more})
    page("one", [topic])
    page("unknown", [topic, "d-none"])
    page("two partitions at most", [topic], ResponsePartitionLimit=2)
    page("from a cursor on", [topic], Cursor={"TopicName": topic, "PartitionIndex": 3})
    page("from a cursor on, two at most", [topic], Cursor={"TopicName": topic, "PartitionIndex": 1}, ResponsePartitionLimit=2)
    for side in both.sides:
        eventually("a block of producer ids", lambda: producer_id(side), 0)
    for version in both.range("InitProducerId"):
        ask = lambda what, **more: both.ask(what, "InitProducerId", version, {"TransactionalId": None, "TransactionTimeoutMs": 60_000, **more})
        ask("a producer")
        if version >= 3:
            ask("an epoch for an id", ProducerId=5, ProducerEpoch=3)
            ask("an id without an epoch", ProducerId=5)
            ask("an epoch without an id", ProducerEpoch=3)
    await_coordinator(both, "d-group")
    for version in both.range("FindCoordinator"):
        body = {"Key": "d-group", "KeyType": 0, "CoordinatorKeys": ["d-group", "d-other"]}
        both.ask("groups", "FindCoordinator", version, {k: v for k, v in body.items() if (k == "CoordinatorKeys") == (version >= 4) and (k != "KeyType" or version >= 1)})
        if version >= 1:
            both.ask("an unknown kind", "FindCoordinator", version, {"KeyType": 9, **({"CoordinatorKeys": ["x"]} if version >= 4 else {"Key": "x"})})
        if version >= 4:
            both.ask("no keys", "FindCoordinator", version, {"KeyType": 0, "CoordinatorKeys": []})


@check
def transaction_markers(both):
    """WriteTxnMarkers: epochs of producers and coordinators, late markers, partitions that are not there."""
    topic = named(both, "tm-topic")
    for version in both.range("WriteTxnMarkers"):
        def marker(what, epoch, coordinator=5, committed=True, transaction_version=0, partition=0, name=topic):
            levels = {"TransactionVersion": transaction_version} if version >= 2 else {}
            both.ask(what, "WriteTxnMarkers", version, {"Markers": [{
                "ProducerId": 7000 + version, "ProducerEpoch": epoch, "TransactionResult": committed, "CoordinatorEpoch": coordinator,
                "Topics": [{"Name": name, "PartitionIndexes": [partition]}], **levels}]})

        marker("of a producer that nobody knows", 3)
        marker("the same again", 3, committed=False)
        marker("an older epoch of the producer", 2)
        marker("an older epoch of the coordinator", 3, coordinator=4)
        marker("newer epochs", 4, coordinator=6)
        marker("a partition that is not there", 4, partition=7)
        marker("a topic that is not there", 4, name="tm-none")
        if version >= 2:
            marker("the same again, with an epoch for each transaction", 4, coordinator=6, transaction_version=2)
            marker("an older one, with an epoch for each transaction", 3, coordinator=6, transaction_version=2)
            marker("a newer one, with an epoch for each transaction", 5, coordinator=6, transaction_version=2)


@check
def elections(both):
    """ElectLeaders, AlterPartitionReassignments, ListPartitionReassignments, as far as one node goes."""
    topic = named(both, "e-leaders", 3)
    for version in both.range("ElectLeaders"):
        of = lambda name, *partitions: {"Topic": name, "Partitions": list(partitions)}
        ask = lambda what, kind, *topics: both.ask(what, "ElectLeaders", version, {**({"ElectionType": kind} if version >= 1 else {}), "TopicPartitions": list(topics), "TimeoutMs": 5000})
        for kind in (0, 1, 7) if version >= 1 else (0,):
            ask(f"type {kind}", kind, of(topic, 0, 2))
            ask(f"type {kind}, twice", kind, of(topic, 0, 0), of(topic, 0))
            ask(f"type {kind}, unknown", kind, of(topic, 1, 9), of("e-none", 0))
            ask(f"type {kind}, none", kind)
    to = lambda name, index, replicas: {"Name": name, "Partitions": [{"PartitionIndex": index, "Replicas": replicas}]}
    for version in both.range("AlterPartitionReassignments"):
        ask = lambda what, *topics, **more: both.ask(what, "AlterPartitionReassignments", version, {"TimeoutMs": 5000, "Topics": list(topics), **more})
        ask("none")
        ask("where it is", to(topic, 0, [1]))
        ask("cancelled, though none", to(topic, 0, None))
        ask("cancelled, unknown", to(topic, 9, None), to("e-none", 0, None))
        ask("nowhere", to(topic, 0, []))
        ask("unknown broker", to(topic, 0, [9]))
        ask("no broker", to(topic, 0, [-1]))
        ask("twice to one", to(topic, 0, [1, 1]))
        ask("unknown, and one that is known", to("e-none", 0, [1]), to(topic, 9, [1]), to(topic, 1, [1]))
        if version >= 1:
            for flag in (True, False):
                ask(f"none, {flag}", AllowReplicationFactorChange=flag)
                ask(f"as many, {flag}", to(topic, 0, [1]), AllowReplicationFactorChange=flag)
                ask(f"more, {flag}", to(topic, 0, [1, 9]), AllowReplicationFactorChange=flag)
    for version in both.range("ListPartitionReassignments"):
        ask = lambda what, topics: both.ask(what, "ListPartitionReassignments", version, {"TimeoutMs": 5000, "Topics": topics})
        ask("all", None)
        ask("none", [])
        ask("some", [{"Name": topic, "PartitionIndexes": [0, 9]}, {"Name": "e-none", "PartitionIndexes": [0]}])


def producer_id(side):
    side.send("InitProducerId", 3, {"TransactionalId": None, "TransactionTimeoutMs": 60_000}, "setup")
    return side.receive("setup")["ErrorCode"]


def await_coordinator(both, group):
    """The first question creates the topic of the offsets; then its partition has to load."""

    def answers(side):
        side.send("FindCoordinator", 3, {"Key": group}, "setup")
        found = side.receive("setup")["ErrorCode"]
        side.send("DescribeGroups", 5, {"Groups": [group]}, "setup")
        return found, side.receive("setup")["Groups"][0]["ErrorCode"]

    for side in both.sides:
        eventually(f"a coordinator of {group}", lambda: answers(side), (0, 0))


SUBSCRIPTION = struct.pack(">hi", 0, 1) + string("g-topic") + struct.pack(">i", -1)
ASSIGNMENT = struct.pack(">hii", 0, 1, 0)


class Group:
    """A group's requests, each API in the version of this round."""

    def __init__(self, both, step, name):
        self.both, self.step, self.name = both, step, name

    def version(self, api):
        versions = self.both.range(api)
        return min(versions[0] + self.step, versions[-1])

    def ask(self, what, api, body, connection="main", wait=True, ignore=()):
        body = {k: v for k, v in body.items() if any(f.name == k for f in self.both.schemas[api][0].fields)}
        if not wait:
            return self.both.send(api, self.version(api), body, connection)
        return self.both.ask(what, api, self.version(api), body, connection, ignore)

    def join(self, what, member="", **more):
        protocols = more.pop("protocols", [{"Name": "range", "Metadata": SUBSCRIPTION}])
        body = {"GroupId": self.name, "SessionTimeoutMs": 10_000, "RebalanceTimeoutMs": 4000, "MemberId": Member(member) if member else "", "ProtocolType": "consumer", "Protocols": protocols}
        return self.ask(what, "JoinGroup", {**body, **more.pop("body", {})}, **more)

    def sync(self, what, member, generation, assign=True, **more):
        assignments = [{"MemberId": Member(member), "Assignment": ASSIGNMENT}] if assign else []
        body = {"GroupId": self.name, "GenerationId": generation, "MemberId": Member(member), "ProtocolType": "consumer", "ProtocolName": "range", "Assignments": assignments}
        return self.ask(what, "SyncGroup", {**body, **more.pop("body", {})}, **more)

    def beat(self, what, member, generation, **more):
        return self.ask(what, "Heartbeat", {"GroupId": self.name, "GenerationId": generation, "MemberId": Member(member), **more})

    def leave(self, what, member, instance=None):
        body = {"GroupId": self.name, "MemberId": Member(member), "Members": [{"MemberId": Member(member), "GroupInstanceId": instance, "Reason": "done"}]}
        return self.ask(what, "LeaveGroup", body)

    def commit(self, what, member, generation, topic="g-topic", partition=0, offset=5, note="note", **more):
        part = {"PartitionIndex": partition, "CommittedOffset": offset, "CommittedLeaderEpoch": 0, "CommittedMetadata": note}
        topics = [{"Name": topic, "TopicId": Id(topic) if topic in KNOWN else uuid.UUID(int=3), "Partitions": [part]}]
        body = {"GroupId": self.name, "GenerationIdOrMemberEpoch": generation, "MemberId": Member(member) if member else "", "RetentionTimeMs": -1, "Topics": topics, **more}
        return self.ask(what, "OffsetCommit", body)

    def offsets(self, what, topics=None, group=None, **more):
        listed = None if topics is None else [{"Name": t, "TopicId": Id(t) if t in KNOWN else uuid.UUID(int=3), "PartitionIndexes": [0, 1, 9]} for t in topics]
        if listed is None and self.version("OffsetFetch") < 2:
            return None
        return self.ask(what, "OffsetFetch", {"GroupId": group or self.name, "Topics": listed, "Groups": [{"GroupId": group or self.name, "Topics": listed}], **more})

    def describe(self, what, *groups):
        return self.ask(what, "DescribeGroups", {"Groups": list(groups) or [self.name], "IncludeAuthorizedOperations": self.version("DescribeGroups") >= 3})


@check
def groups(both):
    """A classic group's whole life in each version: join, sync, heartbeat, commit, fetch, a second member, leave, delete, and each mistake."""
    named(both, "g-topic", 2)
    for step in range(max(both.range(a)[-1] for a in ("JoinGroup", "OffsetCommit", "OffsetFetch")) + 1):
        g = Group(both, step, f"g-{step}")
        await_coordinator(both, g.name)
        name = f"m{step}"
        g.describe("a group that is not there")
        g.offsets("offsets of a group that is not there", ["g-topic"])
        joined = g.join("the first member")
        both.remember(name, joined)
        if g.version("JoinGroup") >= 4:
            both.remember(name, g.join("the first member, with its id", name))
        g.describe("before the assignment")
        g.sync("the assignment", name, 1)
        g.describe("a stable group")
        g.beat("a heartbeat", name, 1)
        g.beat("the wrong generation", name, 9)
        g.beat("an unknown member", "nobody", 1)
        g.sync("the assignment again", name, 1, assign=False)
        g.sync("the wrong generation", name, 7)
        g.sync("an unknown member", "nobody", 1)
        if g.version("SyncGroup") >= 5:
            g.sync("another protocol", name, 1, body={"ProtocolName": "sticky"})
            g.sync("another kind of protocol", name, 1, body={"ProtocolType": "connect"})
        g.commit("a commit", name, 1)
        g.commit("a commit of the wrong generation", name, 6)
        g.commit("a commit of an unknown member", "nobody", 1)
        g.commit("a commit from outside", "", -1)
        g.commit("an unknown topic", name, 1, topic="g-none")
        g.commit("an unknown partition", name, 1, partition=7)
        g.commit("a long note", name, 1, note="x" * 5000)
        g.commit("a note that is null", name, 1, partition=1, note=None)
        g.offsets("some offsets", ["g-topic", "g-none"])
        g.offsets("all offsets")
        if g.version("OffsetFetch") >= 7:
            g.offsets("stable offsets", ["g-topic"], RequireStable=True)
        g.ask("delete a group in use", "DeleteGroups", {"GroupsNames": [g.name, "g-unheard-of"]})
        g.ask("delete offsets in use", "OffsetDelete", {"GroupId": g.name, "Topics": [{"Name": "g-topic", "Partitions": [{"PartitionIndex": 0}]}, {"Name": "g-none", "Partitions": [{"PartitionIndex": 0}]}]})

        # A second member: the first hears of it, both join anew.
        two = f"n{step}"
        g.join("the second member", connection="two", wait=False)
        if g.version("JoinGroup") >= 4:
            both.remember(two, both.receive("the second member", "two"))
            g.join("", two, connection="two", wait=False)
        for side in both.sides:
            eventually("the rebalance begins", lambda: rebalancing(side, g, name), 27)
        g.beat("a heartbeat in the rebalance", name, 1)
        g.commit("a commit in the rebalance", name, 1)
        g.describe("in the rebalance")
        both.remember(name, g.join("the first member again", name))
        both.remember(two, both.receive("the second member, joined", "two"))
        g.sync("", two, 2, assign=False, connection="two", wait=False)
        g.sync("the leader's assignment", name, 2)
        both.receive("the follower's assignment", "two")
        g.describe("two members")
        g.join("the follower joins again, unchanged", two)
        g.leave("the second leaves", two)
        g.beat("the one who left", two, 2)
        g.beat("the one who stayed", name, 2)
        g.leave("leaves twice", two)

        # Mistakes in joining.
        g.join("another kind of group", name, body={"ProtocolType": "connect"})
        g.join("no protocol in common", protocols=[{"Name": "other", "Metadata": b""}], body={"MemberId": ""})
        g.join("no protocols", protocols=[])
        g.join("a session of a millisecond", body={"SessionTimeoutMs": 1})
        g.join("a session of a year", body={"SessionTimeoutMs": 2**31 - 1})
        g.join("an id that nobody gave out", body={"MemberId": "made-up"})
        Group(both, step, "").join("a group without a name")

        g.leave("the last leaves", name)
        g.describe("an empty group")
        g.commit("a commit to an empty group from outside", "", -1, offset=9)
        g.ask("list", "ListGroups", {"StatesFilter": ["Empty"], "TypesFilter": ["classic"]} if g.version("ListGroups") >= 5 else {"StatesFilter": ["Empty"]} if g.version("ListGroups") >= 4 else {})
        g.ask("delete offsets", "OffsetDelete", {"GroupId": g.name, "Topics": [{"Name": "g-topic", "Partitions": [{"PartitionIndex": 0}, {"PartitionIndex": 5}]}]})
        g.offsets("offsets after that", ["g-topic"])
        g.ask("delete", "DeleteGroups", {"GroupsNames": [g.name]})
        g.ask("delete again", "DeleteGroups", {"GroupsNames": [g.name]})
        g.offsets("offsets of a deleted group", ["g-topic"])


def rebalancing(side, group, member):
    side.send("Heartbeat", 0, {"GroupId": group.name, "GenerationId": 1, "MemberId": Member(member)}, "setup")
    return side.receive("setup")["ErrorCode"]


@check
def static_groups(both):
    """Static members (KIP-345): return without a rebalance, are fenced by a twin, leave by name."""
    named(both, "g-static")
    for step in range(5, both.range("JoinGroup")[-1] + 1):
        g = Group(both, step, f"gs-{step}")
        await_coordinator(both, g.name)
        one, again = f"s{step}", f"r{step}"
        instance = {"body": {"GroupInstanceId": "one"}}
        both.remember(one, g.join("joins", **instance))
        g.sync("syncs", one, 1, **instance)
        g.describe("stable")
        both.remember(again, g.join("returns without its id", **instance))
        g.sync("syncs again", again, 1, assign=False, **instance)
        g.describe("after the return")
        g.beat("the old id", one, 1, GroupInstanceId="one")
        g.beat("the new id", again, 1, GroupInstanceId="one")
        g.beat("an unknown name", again, 1, GroupInstanceId="unheard")
        g.commit("a commit by the old id", one, 1, GroupInstanceId="one")
        g.commit("a commit by the new id", again, 1, GroupInstanceId="one")
        g.sync("a sync by the old id", one, 1, assign=False, **instance)
        g.join("a join by the old id", one, **instance)
        g.leave("leaves by an unknown name", "nobody", "unheard")
        for side in both.sides:
            side.members["by name"] = ""
        g.leave("leaves by name", "by name", "one")
        for side in both.sides:
            del side.members["by name"]
        g.describe("empty")


def await_in_groups(both, topic):
    """Kafka's coordinator of groups learns of a topic after others do: waits until it gives out a partition of it."""
    probe = {"GroupId": f"probe-{topic}", "MemberId": "probe"}
    joins = {**probe, "MemberEpoch": 0, "RebalanceTimeoutMs": 60_000, "TopicPartitions": [], "SubscribedTopicNames": [topic]}

    def beat(side, body):
        side.send("ConsumerGroupHeartbeat", 1, body, "setup")
        return side.receive("setup")

    await_coordinator(both, probe["GroupId"])
    for side in both.sides:
        eventually(f"{topic} in groups", lambda: bool((beat(side, joins)["Assignment"] or {}).get("TopicPartitions")))
        beat(side, {**probe, "MemberEpoch": -1})


class Consumers:
    """A consumer group's requests (KIP-848)."""

    def __init__(self, both, version, name):
        self.both, self.version, self.name = both, version, name

    def beat(self, what, member, epoch, owned=None, **more):
        joins = {"RebalanceTimeoutMs": 60_000, "TopicPartitions": []} if epoch == 0 else {}
        if owned is not None:
            joins["TopicPartitions"] = [{"TopicId": Id(t), "Partitions": p} for t, p in owned.items()]
        body = {"GroupId": self.name, "MemberId": member, "MemberEpoch": epoch, **joins, **more}
        return self.both.ask(what, "ConsumerGroupHeartbeat", self.version, body)

    def describe(self, what, *groups):
        body = {"GroupIds": list(groups) or [self.name], "IncludeAuthorizedOperations": True}
        return self.both.ask(what, "ConsumerGroupDescribe", self.version, body)

    def commit(self, what, member, epoch, topic, partition=0, version=9, instance=None):
        part = {"PartitionIndex": partition, "CommittedOffset": 5, "CommittedLeaderEpoch": 0, "CommittedMetadata": ""}
        body = {"GroupId": self.name, "GenerationIdOrMemberEpoch": epoch, "MemberId": member, "GroupInstanceId": instance, "RetentionTimeMs": -1, "Topics": [{"Name": topic, "TopicId": Id(topic), "Partitions": [part]}]}
        return self.both.ask(what, "OffsetCommit", version, body)

    def offsets(self, what, member, epoch, topic):
        group = {"GroupId": self.name, "MemberId": member, "MemberEpoch": epoch, "Topics": [{"Name": topic, "TopicId": Id(topic), "PartitionIndexes": [0, 1]}]}
        return self.both.ask(what, "OffsetFetch", 9, {"Groups": [group], "RequireStable": True})


@check
def consumer_groups(both):
    """Groups of KIP-848 in each version: epochs, hand-over, fencing, static members, commits, expressions, and each mistake."""
    named(both, "cg-topic", 4)
    named(both, "cg-more", 2)
    await_in_groups(both, "cg-topic")
    await_in_groups(both, "cg-more")
    topics = {"SubscribedTopicNames": ["cg-topic"]}
    for version in both.range("ConsumerGroupHeartbeat"):
        g = Consumers(both, version, f"cg-{version}")
        await_coordinator(both, g.name)
        g.describe("a group that is not there")
        g.beat("a heartbeat to no group", "a", 2)
        g.beat("leaving no group", "a", -1)
        g.beat("joining without a subscription", "a", 0)
        g.beat("joining with partitions", "a", 0, owned={"cg-topic": [0]}, **topics)
        g.beat("joining without a time for rebalances", "a", 0, RebalanceTimeoutMs=-1, **topics)
        g.beat("an epoch that there is not", "a", -7, **topics)
        g.beat("leaving for a while without a name", "a", -2)
        g.beat("an assignor that there is not", "a", 0, ServerAssignor="mine", **topics)
        g.beat("an empty name", "a", 0, InstanceId=" ", **topics)
        g.beat("an empty rack", "a", 0, RackId="", **topics)
        Consumers(both, version, "").beat("a group without a name", "a", 0, **topics)
        if version >= 1:
            g.beat("no member id", "", 0, **topics)
            g.beat("an expression that cannot be read", "a", 0, SubscribedTopicRegex="[")
        g.describe("still no group")

        g.beat("the first member", "a", 0, **topics)
        g.beat("a heartbeat", "a", 2)
        g.beat("a full heartbeat", "a", 2, owned={"cg-topic": [0, 1, 2, 3]}, RebalanceTimeoutMs=60_000, **topics)
        g.describe("one member")
        g.beat("an epoch ahead", "a", 3)
        g.beat("an unknown member", "x", 2)
        g.beat("the first joins again", "a", 0, **topics)
        g.beat("the second member", "b", 0, ServerAssignor="uniform", **topics)
        g.describe("two members, nothing handed over")
        g.beat("the first is to give up", "a", 2)
        g.beat("the first has not given up", "a", 2, owned={"cg-topic": [0, 1, 2, 3]})
        g.describe("while it gives up")
        g.beat("the second waits", "b", 3)
        g.beat("the first has given up", "a", 2, owned={"cg-topic": [0, 1]})
        g.beat("its answer was lost", "a", 2, owned={"cg-topic": [0, 1]})
        g.beat("it says nothing of what it owns", "a", 2)
        g.beat("it owns too much", "a", 2, owned={"cg-topic": [0, 1, 2]})
        g.beat("the second gets its share", "b", 3)
        g.describe("two members")
        both.ask("describe as a classic group", "DescribeGroups", 6, {"Groups": [g.name], "IncludeAuthorizedOperations": False})
        both.ask("list", "ListGroups", 5, {"StatesFilter": ["Stable"], "TypesFilter": ["consumer"]})

        g.commit("a commit", "a", 3, "cg-topic")
        g.commit("a commit of the epoch before", "a", 2, "cg-topic")
        g.commit("a commit of the epoch before for a partition that came later", "b", 2, "cg-topic", 2)
        g.commit("a commit ahead", "a", 4, "cg-topic")
        g.commit("a commit of an unknown member", "x", 3, "cg-topic")
        g.commit("a commit in an old version", "a", 3, "cg-topic", version=8)
        g.commit("a commit from outside", "", -1, "cg-topic")
        g.offsets("offsets", "a", 3, "cg-topic")
        g.offsets("offsets of another epoch", "a", 2, "cg-topic")
        g.offsets("offsets for an unknown member", "x", 2, "cg-topic")
        g.offsets("offsets for anybody", None, -1, "cg-topic")
        both.ask("delete a group in use", "DeleteGroups", 2, {"GroupsNames": [g.name]})
        both.ask("delete offsets in use", "OffsetDelete", 0, {"GroupId": g.name, "Topics": [{"Name": "cg-topic", "Partitions": [{"PartitionIndex": 0}]}]})

        g.beat("the second wants more", "b", 3, owned={"cg-topic": [2, 3]}, SubscribedTopicNames=["cg-more"])
        g.describe("another subscription")
        g.beat("the second has given up", "b", 3, owned={})
        g.beat("the first gets all", "a", 3)
        g.describe("each its own topic")
        g.beat("the second leaves", "b", -1)
        g.beat("it leaves again", "b", -1)
        g.beat("the first follows", "a", 4)
        g.beat("the first leaves", "a", -1)
        g.describe("an empty group")
        g.commit("a commit to an empty group", "", -1, "cg-topic")
        both.ask("delete", "DeleteGroups", 2, {"GroupsNames": [g.name]})
        g.describe("after that")

        s = Consumers(both, version, f"cg-static-{version}")
        s.beat("a static member", "a", 0, InstanceId="one", **topics)
        s.beat("a twin", "b", 0, InstanceId="one", **topics)
        s.beat("a heartbeat with its name", "a", 2, InstanceId="one")
        s.beat("another id with its name", "b", 2, InstanceId="one")
        s.beat("a name that there is not", "a", 2, InstanceId="two")
        s.beat("it leaves for a while", "a", -2, InstanceId="one")
        s.describe("away")
        s.beat("it is back", "b", 0, InstanceId="one", **topics)
        s.beat("the old id", "a", 2, InstanceId="one")
        s.describe("back")
        s.beat("it leaves", "b", -1, InstanceId="one")
        s.describe("empty")

        r = Consumers(both, version, f"cg-range-{version}")
        r.beat("range: the first", "a", 0, ServerAssignor="range", SubscribedTopicNames=["cg-topic", "cg-more"])
        r.beat("range: the second", "b", 0, ServerAssignor="range", SubscribedTopicNames=["cg-topic", "cg-more"])
        r.describe("range")


@check
def mixed_groups(both):
    """A classic group becomes a consumer group and goes back; members of both protocols hand over partitions."""
    named(both, "mixed-topic", 2)
    topics = {"SubscribedTopicNames": ["mixed-topic"]}
    owning = lambda *ps: struct.pack(">hi", 1, 1) + string("mixed-topic") + struct.pack(">ii", -1, 1) + string("mixed-topic") + struct.pack(">i", len(ps)) + b"".join(struct.pack(">i", p) for p in ps)
    whole = struct.pack(">hi", 1, 1) + string("mixed-topic") + struct.pack(">iiii", 2, 0, 1, -1)
    g, c = Group(both, 9, "mixed"), Consumers(both, 1, "mixed")
    await_coordinator(both, g.name)
    await_in_groups(both, "mixed-topic")
    protocols = lambda *ps: [{"Name": "range", "Metadata": owning(*ps)}]
    both.remember("old", g.join("the classic member", protocols=protocols()))
    both.remember("old", g.join("the classic member, with its id", "old", protocols=protocols()))
    g.sync("its assignment", "old", 1, body={"Assignments": [{"MemberId": Member("old"), "Assignment": whole}]})
    c.beat("a heartbeat of the other protocol", "new", 1)
    c.beat("the new member", "new", 0, **topics)
    c.describe("a mixed group")
    g.describe("a mixed group as a classic one")
    g.beat("the classic member is asked to join", "old", 1)
    g.commit("a commit of the classic member", "old", 1, topic="mixed-topic")
    g.sync("a sync before that", "old", 1, assign=False)
    g.join("it joins with what it owns", "old", protocols=protocols(0, 1))
    g.sync("it gets what is left", "old", 1, assign=False)
    c.describe("it is to give up")
    g.beat("it is asked once more", "old", 1)
    g.join("it has given up", "old", protocols=protocols(0))
    g.sync("and gets its share", "old", 2, assign=False)
    g.beat("it is up to date", "old", 2)
    g.beat("the wrong generation", "old", 1)
    c.beat("the new member gets its share", "new", 2)
    c.describe("both at peace")
    g.join("no protocol in common", protocols=[{"Name": "other", "Metadata": owning()}], body={"MemberId": "x"})
    g.join("another kind of protocol", body={"ProtocolType": "connect", "MemberId": "x"})
    c.beat("the new member leaves", "new", -1)
    g.describe("a classic group again")
    both.ask("list", "ListGroups", 5, {"StatesFilter": [], "TypesFilter": ["classic"]})
    g.join("the classic member joins", "old", protocols=protocols())
    g.describe("the next generation")


def new_side(properties):
    return Kafka(features=WITHOUT_ELR, **properties) if OPTIONS.kafka else harness.new_server(OPTIONS, **properties)


def main():
    global OPTIONS
    parser = harness.arguments(__doc__)
    parser.add_argument("--all", action="store_true", help="show every difference")
    parser.add_argument("--answers", type=argparse.FileType("w"), help="write Kafka's answers to this file")
    parser.add_argument("name", nargs="*")
    OPTIONS = parser.parse_args()
    [jar] = [p for p in harness.KAFKA_LIBS.glob("kafka-clients-*.jar") if "test" not in p.name]
    properties = {"log_initial_task_delay_ms": 1000, "group_consumer_assignment_interval_ms": 0}
    both = Both(Kafka(features=WITHOUT_ELR, **properties), new_side(properties), Schemas(jar))
    for side in both.sides:
        side.server.start()

    def settled(one):
        def checked(both):
            one(both)
            both.settle()

        checked.__name__, checked.__doc__ = one.__name__, one.__doc__
        return checked

    passed, failed = harness.run_checks(OPTIONS, both, [settled(c) for c in harness.CHECKS], OPTIONS.name)
    print(f"{both.compared} answers compared", flush=True)
    for side in both.sides:
        if side.server.process.poll() is None:
            side.server.stop()
    harness.finish(passed, failed)


if __name__ == "__main__":
    main()
