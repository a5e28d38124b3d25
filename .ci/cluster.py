#!/usr/bin/env python3
"""Three nodes under producers and a consumer group, while one after another is killed, stopped for a while, or cut off.

cluster.py [--binary PATH | --kafka] [--faults 20] [--stalls 0.2] [--cuts 0.2] [--controllers 0.2] [--seed N] [--property KEY=VALUE ...]

Every acknowledged record (acks=all, idempotence, min.insync.replicas=2 of 3) must be there once and in order, with the same
offset, and must have come to the group. Two more producers, one of librdkafka and one of Java, with the defaults of their
libraries, write a record each 10 ms: how long they go without an acknowledgement around each fault is printed. The node that
leads their partition is the victim of half of the faults. Where this runs as root each node has a network namespace of its own,
so that it can be cut off, from the others and from clients.
"""

import atexit
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

import harness
from crash import Writer, figures, verify
from harness import Failed, eventually, expect, expect_that

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "clients"))
from common import QUIET  # noqa: E402
from wire import Connection, describe_quorum, quorum_leader  # noqa: E402

SETTLE_SECONDS_MAX = 90


class Network:
    """A namespace for each node, on one bridge with this machine; names and addresses are those of this process."""

    def __init__(self, nodes):
        self.name = f"tl{os.getpid() % 100_000}"
        self.subnet = f"10.{os.getpid() // 250 % 250}.{os.getpid() % 250}"
        atexit.register(self.remove, nodes)
        self.ip("link add", f"{self.name}br", "type bridge")
        self.ip("addr add", f"{self.subnet}.254/24 dev {self.name}br")
        self.ip("link set", f"{self.name}br up")
        for n in range(1, nodes + 1):
            space, link = f"{self.name}n{n}", f"{self.name}v{n}"
            self.ip("netns add", space)
            self.ip("link add", f"{link} type veth peer name eth0 netns {space}")
            self.ip("link set", f"{link} master {self.name}br up")
            for inside in (f"addr add {self.address(n)}/24 dev eth0", "link set eth0 up", "link set lo up"):
                self.ip("netns exec", f"{space} ip {inside}")

    @staticmethod
    def ip(*words, check=True):
        subprocess.run(f"ip {' '.join(words)}".split(), check=check, stderr=None if check else subprocess.DEVNULL)

    @staticmethod
    def is_possible():
        if os.geteuid() != 0 or not shutil.which("ip"):
            return False
        name = f"tl{os.getpid() % 100_000}try"
        done = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True)
        subprocess.run(["ip", "link", "del", name], capture_output=True)
        return done.returncode == 0

    def address(self, node):
        return f"{self.subnet}.{node}"

    def prefix(self, node):
        return ["ip", "netns", "exec", f"{self.name}n{node}"]

    def cut(self, node, is_cut=True):
        self.ip("link set", f"{self.name}v{node} {'down' if is_cut else 'up'}")

    def remove(self, nodes):
        for n in range(1, nodes + 1):
            self.ip("netns del", f"{self.name}n{n}", check=False)
            self.ip("link del", f"{self.name}v{n}", check=False)
        self.ip("link del", f"{self.name}br", check=False)


class Cluster:
    """Three nodes, each of them broker and controller."""

    def __init__(self, options):
        self.nodes = [harness.new_server(options) for _ in range(3)]
        self.network = Network(3) if getattr(options, "namespaces", False) else None
        hosts = [self.network.address(n) if self.network else "127.0.0.1" for n in (1, 2, 3)]
        voters = ",".join(f"{n}@{host}:{node.controller_port}" for n, (node, host) in enumerate(zip(self.nodes, hosts), 1))
        cluster_id = str(uuid.uuid4()) if not options.kafka else None
        for n, (node, host) in enumerate(zip(self.nodes, hosts), 1):
            node.host = host
            if self.network:
                node.prefix = self.network.prefix(n)
            del node.properties["controller.quorum.bootstrap.servers"]
            node.properties.update({
                "node.id": n,
                "listeners": f"PLAINTEXT://{node.address},CONTROLLER://{host}:{node.controller_port}",
                "advertised.listeners": f"PLAINTEXT://{node.address}",
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

    def controller(self):
        """The node that leads the metadata quorum, as any of them says."""
        found = []

        def is_led():
            found[:] = [leader for node in self.nodes if (leader := self.controller_by(node))]
            return bool(found)

        eventually("the metadata quorum has a leader", is_led)
        return found[0]

    def controller_by(self, node):
        try:
            with Connection(node.address, timeout=2) as connection:
                leader = quorum_leader(connection.ask(describe_quorum()))
                return self.nodes[leader - 1] if leader > 0 else None
        except OSError:  # it is not there
            return None

    def expect_sound(self):
        for node in self.nodes:
            node.expect_sound()

    def stop(self):
        for node in self.nodes:
            node.process.send_signal(signal.SIGTERM)
        for node in self.nodes:
            node.process.wait(60)


class Gaps:
    """When a producer has heard of a written record."""

    def longest_gap(self, since):
        """From the last acknowledgement before `since` on, until now."""
        times = [*self.acknowledged, time.time()]
        return max(b - a for a, b in zip(times, times[1:]) if b >= since)


class Pulse(threading.Thread, Gaps):
    """A record each 10 ms by a librdkafka producer whose settings are the defaults of its library."""

    name = "librdkafka"

    def __init__(self, cluster, topic, partition=0):
        super().__init__(daemon=True)
        self.topic, self.partition, self.stopping, self.acknowledged = topic, partition, threading.Event(), [time.time()]
        self.producer = Producer({"bootstrap.servers": cluster.address, "log_level": 2})

    def run(self):
        while not self.stopping.is_set():
            self.producer.produce(self.topic, b"pulse", partition=self.partition, on_delivery=self.delivered)
            self.producer.poll(0.01)

    def delivered(self, error, _):
        if error is None:
            self.acknowledged.append(time.time())

    def stop(self):
        self.stopping.set()
        self.join()


class JavaPulse(threading.Thread, Gaps):
    """The same by a Java producer, which is idempotent by default."""

    name = "Java"

    def __init__(self, cluster, topic):
        super().__init__(daemon=True)
        self.acknowledged = []
        command = [*harness.JAVA, "-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", f"{harness.KAFKA_LIBS}/*", HERE / "Pulse.java", cluster.address, topic]
        self.process = harness.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self):
        for line in self.process.stdout:
            at, what = line.split(" ", 1)
            if not what.startswith("error"):
                self.acknowledged.append(int(at) / 1000)

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.join()


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


def choose(cluster, leader, dice, options):
    """What happens next, and to whom."""
    kind = dice.choices(
        ["kill", "stall", "cut", "controller"],
        [1 - options.stalls - options.cuts - options.controllers, options.stalls, options.cuts, options.controllers],
    )[0]
    if kind == "cut" and not cluster.network:
        kind = "stall"
    victim = leader if dice.random() < 0.5 and leader else dice.choice(cluster.nodes)
    if kind == "controller":
        victim = cluster.controller()
    return kind, victim


def strike(cluster, kind, victim, dice, options):
    number = cluster.nodes.index(victim) + 1
    if kind in ("kill", "controller"):
        victim.kill()
        time.sleep(dice.uniform(1.0, 2.0))
        victim.spawn()
    elif kind == "stall":
        victim.process.send_signal(signal.SIGSTOP)
        time.sleep(options.stall_seconds)
        victim.process.send_signal(signal.SIGCONT)
    else:
        cluster.network.cut(number)
        time.sleep(options.stall_seconds)
        cluster.network.cut(number, False)


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
    pulses = [Pulse(cluster, "pulse"), JavaPulse(cluster, "pulse")]
    for thread in [*writers, *readers, *pulses]:
        thread.start()
    eventually("each producer has written something", lambda: all(len(pulse.acknowledged) > 1 for pulse in pulses))
    gaps, settled = {}, []
    for fault in range(options.faults):
        time.sleep(dice.uniform(0.3, 1.0) + options.pause)
        leader = partitions_of(admin, "pulse")[0].leader
        leader = cluster.nodes[leader - 1] if leader > 0 else None
        kind, victim = choose(cluster, leader, dice, options)
        started = time.time()
        strike(cluster, kind, victim, dice, options)
        settled.append(settle(admin, topics))
        healed = time.time()
        eventually("each client goes on", lambda: all(pulse.acknowledged[-1] > healed for pulse in pulses), seconds=SETTLE_SECONDS_MAX)
        what = f"{'the leader' if victim is leader else 'another node'} {'killed' if kind in ('kill', 'controller') else kind}"
        what += ", the active controller" if kind == "controller" else ""
        of_each = [pulse.longest_gap(started) for pulse in pulses]
        for pulse, gap in zip(pulses, of_each):
            gaps.setdefault((what, pulse.name), []).append(gap)
        print(f"  {fault + 1:4} node {cluster.nodes.index(victim) + 1}, {what}: {' and '.join(f'{gap * 1000:.0f}' for gap in of_each)} ms without an acknowledgement,"
              f" all in sync {settled[-1]:.1f} s later, {sum(len(w.acknowledged) for w in writers)} records", flush=True)
    time.sleep(0.5)
    for pulse in pulses:
        pulse.stop()
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
    for (what, name), times in sorted(gaps.items()):
        print(f"without an acknowledgement, {what}, {name}: {len(times)} times, p50 {statistics.median(times) * 1000:.0f} ms, max {max(times) * 1000:.0f} ms", flush=True)
    figures("all replicas in sync after", settled)
    cluster.stop()
    expect("exit codes", [node.process.returncode for node in cluster.nodes], [143 if options.kafka else 0] * 3)


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--stalls", type=float, default=0.2, help="share of faults that stop a node for a while")
    parser.add_argument("--cuts", type=float, default=0.2, help="share of faults that cut a node off for a while")
    parser.add_argument("--controllers", type=float, default=0.2, help="share of faults that kill the active controller")
    parser.add_argument("--stall-seconds", type=float, default=12)
    parser.add_argument("--pause", type=float, default=0, help="more seconds between faults: clients go on backing off from a node that was killed lately")
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=3, help="partitions of each producer")
    parser.add_argument("--rate", type=int, default=1000, help="records a second of each producer")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--property", action="append", default=[], metavar="KEY=VALUE", help="a line for server.properties")
    options = parser.parse_args()
    options.namespaces = options.cuts > 0 and Network.is_possible()
    if options.cuts > 0 and not options.namespaces:
        print("no network namespaces here: nodes are stopped instead of cut off", flush=True)
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
