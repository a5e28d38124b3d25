#!/usr/bin/env python3
"""Three nodes under producers and a consumer group, while one after another is killed or stopped for a while.

cluster.py [--binary PATH | --kafka] [--faults 20] [--stalls 0.2] [--seed N] [--property KEY=VALUE ...]

Every acknowledged record (acks=all, idempotence, min.insync.replicas=2 of 3) must be there once and in order, with the same
offset, and must have come to the group. One more producer, with the defaults of its library, writes a record each 10 ms: how
long it goes without an acknowledgement around each fault is printed. The node that leads its partition is the victim of half
of the faults.
"""

import pathlib
import random
import signal
import sys
import threading
import time
import uuid

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

import harness
from crash import Writer, figures, verify
from harness import Failed, eventually, expect, expect_that

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "clients"))
from common import QUIET  # noqa: E402

SETTLE_SECONDS_MAX = 90


class Cluster:
    """Three nodes, each of them broker and controller."""

    def __init__(self, options):
        self.nodes = [harness.new_server(options) for _ in range(3)]
        voters = ",".join(f"{n}@127.0.0.1:{node.controller_port}" for n, node in enumerate(self.nodes, 1))
        cluster_id = str(uuid.uuid4()) if not options.kafka else None
        for n, node in enumerate(self.nodes, 1):
            del node.properties["controller.quorum.bootstrap.servers"]
            node.properties.update({
                "node.id": n,
                "controller.quorum.voters": voters,
                "offsets.topic.replication.factor": 3,
                "offsets.topic.num.partitions": 5,
                "min.insync.replicas": 2,
                **dict(line.split("=", 1) for line in options.property),
            })
            node.write_properties()
            if options.kafka:
                cluster_id = cluster_id or harness.java("kafka.tools.StorageTool", "random-uuid").out.split()[-1]
                harness.java("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", node.properties_file)
            else:
                harness.run([options.binary, "format", "-t", cluster_id, "-c", node.properties_file])

    @property
    def address(self):
        return ",".join(node.address for node in self.nodes)

    def start(self):
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            eventually("a node that is ready", lambda node=node: node.ready in node.printed() or node.process.poll() is not None, seconds=node.ready_seconds_max)
            expect_that("the node runs", node.process.poll() is None, node.last_words())

    def expect_sound(self):
        for node in self.nodes:
            node.expect_sound()

    def stop(self):
        for node in self.nodes:
            node.process.send_signal(signal.SIGTERM)
        for node in self.nodes:
            node.process.wait(60)


class Pulse(threading.Thread):
    """A record each 10 ms by a producer whose settings are the defaults of its library."""

    def __init__(self, cluster, topic):
        super().__init__(daemon=True)
        self.topic, self.stopping, self.acknowledged = topic, threading.Event(), [time.monotonic()]
        self.producer = Producer({"bootstrap.servers": cluster.address, "log_level": 2, "acks": "all", "enable.idempotence": True})

    def run(self):
        while not self.stopping.is_set():
            self.producer.produce(self.topic, b"pulse", partition=0, on_delivery=self.delivered)
            self.producer.poll(0.01)

    def delivered(self, error, _):
        if error is None:
            self.acknowledged.append(time.monotonic())

    def longest_gap(self, since):
        """From the last acknowledgement before `since` on, until now."""
        times = [*self.acknowledged, time.monotonic()]
        return max(b - a for a, b in zip(times, times[1:]) if b >= since)


class Reader(threading.Thread):
    """A member of the group."""

    def __init__(self, cluster, topic, seen):
        super().__init__(daemon=True)
        self.seen, self.stopping = seen, threading.Event()
        self.consumer = Consumer({"bootstrap.servers": cluster.address, **QUIET, "group.id": "readers", "auto.offset.reset": "earliest"})
        self.consumer.subscribe([topic])

    def run(self):
        while not self.stopping.is_set():
            for message in self.consumer.consume(1000, 0.1):
                if message.error() is None:
                    index, number, _ = message.value().decode().split(":")
                    self.seen.add((int(index), int(number)))
        self.consumer.close()


def partitions_of(admin, topic):
    return admin.list_topics(topic, timeout=10).topics[topic].partitions


def settle(admin, topics):
    """Waits until every replica is in sync again."""

    def in_sync():
        try:
            return all(len(p.isrs) == 3 for topic in topics for p in partitions_of(admin, topic).values())
        except Exception:  # the node that was asked has just gone
            return False

    return eventually("all replicas are in sync", in_sync, seconds=SETTLE_SECONDS_MAX)


def torment(cluster, options):
    dice = random.Random(options.seed)
    cluster.start()
    admin = AdminClient({"bootstrap.servers": cluster.address, **QUIET})
    count = options.producers * options.partitions
    topics = {"cluster": count, "pulse": 1}
    for future in admin.create_topics([NewTopic(name, n, 3) for name, n in topics.items()]).values():
        future.result(30)
    settle(admin, topics)
    writers = [Writer(cluster, "cluster", index, options) for index in range(options.producers)]
    seen = set()
    readers = [Reader(cluster, "cluster", seen) for _ in range(2)]
    pulse = Pulse(cluster, "pulse")
    for thread in [*writers, *readers, pulse]:
        thread.start()
    gaps, settled = {"kill": [], "stall": []}, []
    for fault in range(options.faults):
        time.sleep(dice.uniform(0.3, 1.0))
        leader = partitions_of(admin, "pulse")[0].leader
        victim = cluster.nodes[leader - 1] if dice.random() < 0.5 and leader > 0 else dice.choice(cluster.nodes)
        kind = "stall" if dice.random() < options.stalls else "kill"
        leads = victim is cluster.nodes[leader - 1]
        started = time.monotonic()
        if kind == "kill":
            victim.kill()
            time.sleep(dice.uniform(1.0, 2.0))
            victim.spawn()
        else:
            victim.process.send_signal(signal.SIGSTOP)
            time.sleep(options.stall_seconds)
            victim.process.send_signal(signal.SIGCONT)
        settled.append(settle(admin, topics))
        gap = pulse.longest_gap(started)
        if leads:
            gaps[kind].append(gap)
        print(f"  {fault + 1:4} {kind:5} of node {cluster.nodes.index(victim) + 1}{', the leader' if leads else '':12} {gap * 1000:7.0f} ms without an acknowledgement,"
              f" all in sync {settled[-1]:5.1f} s later, {sum(len(w.acknowledged) for w in writers):8} records", flush=True)
    time.sleep(0.5)
    pulse.stopping.set()
    for writer in writers:
        writer.finish()
    verify(cluster, "cluster", writers, count)
    owed = {(w.index, number) for w in writers for number in w.acknowledged}
    eventually("acknowledged records that the group has not had", lambda: len(owed - seen), 0, seconds=60)
    for reader in readers:
        reader.stopping.set()
        reader.join()
    cluster.expect_sound()
    total = sum(len(w.acknowledged) for w in writers)
    print(f"{options.faults} faults, seed {options.seed}: {total} records, each there once, in order, and with the group", flush=True)
    for kind, times in gaps.items():
        figures(f"without an acknowledgement ({kind})", times)
    figures("all replicas in sync after", settled)
    cluster.stop()
    expect("exit codes", [node.process.returncode for node in cluster.nodes], [143 if options.kafka else 0] * 3)


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--stalls", type=float, default=0.2, help="share of faults that stop a node for a while")
    parser.add_argument("--stall-seconds", type=float, default=12)
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=3, help="partitions of each producer")
    parser.add_argument("--rate", type=int, default=1000, help="records a second of each producer")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--property", action="append", default=[], metavar="KEY=VALUE", help="a line for server.properties")
    options = parser.parse_args()
    cluster = Cluster(options)
    try:
        torment(cluster, options)
    except Failed as failure:
        print(f"FAIL  seed {options.seed}: {failure}", flush=True)
        for node in cluster.nodes:
            print(node.last_words(), flush=True)
        harness.finish(0, 1)
    harness.finish(1, 0)


if __name__ == "__main__":
    main()
