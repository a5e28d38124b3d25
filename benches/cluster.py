#!/usr/bin/env python3
"""What a failure costs a cluster of three nodes, and what the cluster costs, beside three nodes of Apache Kafka.

    ~/.cache/tidelog-ci/venv-*/bin/python benches/cluster.py [--binary PATH] [--kafka-libs DIR] [--only WORD ...]

Each cluster runs alone, every node broker and controller, on its defaults, with topics of 3 replicas and min.insync.replicas=2. The
measures, of which --only picks some:

    idle        resident memory of all three, and their processor time while nothing happens
    kill        kill -9 of the leader: how long clients on their defaults (librdkafka, Java) have no record acknowledged
    controller  kill -9 of the active controller: the same of producers (librdkafka) to partitions that others lead
    stall       SIGSTOP of the leader for --stall-seconds: until another node leads, and the same of both clients
    managed     the same of ours where systemd runs the nodes as docs/deploy/tidelog.service says, whose watchdog is played here
    rate        records of 1 KiB with acks=all by Kafka's ProducerPerformance: MB/s, and processor time of all nodes for a GB
    latency     20,000 records/s of 100 B by `tidelog bench latency`, three rounds: from when each is due until the consumer has it
    takeover    kill -9 of the active controller with 100,000 partitions in the image: until another leads the quorum, and until
                it has created a topic (minutes, and gigabytes of memory with Kafka)
    partitions  kill -9 of a node that leads a third of 10,000 partitions: until all have another leader (minutes with Kafka)

It uses the clusters and clients of .ci/cluster.py. All but the last two take some four minutes, half of them for Kafka.
"""

import argparse
import json
import os
import socket
import statistics
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / ".ci"), str(HERE.parent / ".ci" / "clients")]

import harness  # noqa: E402
from cluster import Cluster, JavaPulse, Pulse, partitions_of, settle  # noqa: E402
from common import QUIET  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from wire import Connection, leaders, metadata  # noqa: E402

MEASURES = ["idle", "kill", "controller", "stall", "managed", "rate", "latency", "takeover", "partitions"]
TICKS = os.sysconf("SC_CLK_TCK")


def cpu(cluster):
    """Seconds of processor time that the nodes have taken so far."""
    fields = [Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(")", 1)[1].split() for node in cluster.nodes]
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICKS


def create(admin, name, partitions, replicas=3):
    admin.create_topics([NewTopic(name, partitions, replicas)], operation_timeout=120, request_timeout=120)[name].result(120)
    settle(admin, [name])


def idle(cluster, admin, options):
    time.sleep(5)
    started, used = time.monotonic(), cpu(cluster)
    time.sleep(5)
    share = (cpu(cluster) - used) / (time.monotonic() - started)
    return {"MiB of all nodes": sum(node.status("VmRSS") for node in cluster.nodes) / 1024, "processor, % of one": share * 100}


def faults(cluster, admin, options, strike, heal, count):
    """How long each client had nothing acknowledged, fault by fault, and how long there was no other leader."""
    topic = f"faults-{time.monotonic_ns()}"
    create(admin, topic, 1)
    pulses = [Pulse(cluster, topic), JavaPulse(cluster, topic)]
    for pulse in pulses:
        pulse.start()
    harness.eventually("each producer has written something", lambda: all(len(pulse.acknowledged) > 1 for pulse in pulses))
    gaps, led = {pulse.name: [] for pulse in pulses}, []
    for _ in range(count):
        # Longer than clients go on backing off from a node that was gone.
        time.sleep(options.pause)
        leader = partitions_of(admin, topic)[0].leader
        victim = cluster.nodes[leader - 1]
        other = next(node for node in cluster.nodes if node is not victim)
        started = time.time()
        strike(victim)

        def is_led_by_another():
            # A client of a library may ask the very node that does not answer.
            with Connection(other.address, timeout=2) as connection:
                return leaders(connection.ask(metadata([topic])))[topic][1][0][1] not in (-1, leader)

        led.append(harness.eventually("another leader", is_led_by_another, seconds=60))
        heal(victim, started)
        settle(admin, [topic])
        healed = time.time()
        harness.eventually("each client goes on", lambda: all(pulse.acknowledged[-1] > healed for pulse in pulses), seconds=120)
        for pulse in pulses:
            gaps[pulse.name].append(pulse.longest_gap(started))
    for pulse in pulses:
        pulse.stop()
    figures = {"until another leads, p50 s": statistics.median(led), "until another leads, max s": max(led)}
    for name, times in gaps.items():
        figures[f"{name}, p50 s"], figures[f"{name}, max s"] = statistics.median(times), max(times)
    return figures


def kill(cluster, admin, options):
    def heal(victim, _):
        # Also where nobody notices the death before the session is over.
        time.sleep(3)
        victim.spawn()

    return faults(cluster, admin, options, lambda victim: victim.kill(), heal, options.faults)


def controller(cluster, admin, options):
    create(admin, "controller", 6)
    gaps = []
    while len(gaps) < options.faults:
        time.sleep(options.pause)
        victim = cluster.controller()
        number = cluster.nodes.index(victim) + 1
        pulses = [Pulse(cluster, "controller", n) for n, p in partitions_of(admin, "controller").items() if p.leader != number]
        for pulse in pulses:
            pulse.start()
        harness.eventually("each producer has written something", lambda: all(len(pulse.acknowledged) > 1 for pulse in pulses))
        started = time.time()
        victim.kill()
        time.sleep(5)
        for pulse in pulses:
            gaps.append(pulse.longest_gap(started))
            pulse.stop()
        victim.spawn()
        settle(admin, ["controller"])
    return {"p50 s": statistics.median(gaps), "max s": max(gaps)}


def stall(cluster, admin, options):
    def heal(victim, started):
        time.sleep(max(0, started + options.stall_seconds - time.time()))
        victim.process.send_signal(18)

    return faults(cluster, admin, options, lambda victim: victim.process.send_signal(19), heal, 2)


class Manager(threading.Thread):
    """What systemd does with a service that has a watchdog: kills the process when it has said nothing for so long, and starts it again."""

    WATCHDOG_SECONDS, RESTART_SECONDS = 2, 2

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.is_over = node, threading.Event()
        path = node.folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        node.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(self.WATCHDOG_SECONDS * 1_000_000)}

    def run(self):
        while not self.is_over.is_set():
            try:
                self.socket.recv(4096)
                self.socket.settimeout(self.WATCHDOG_SECONDS)
            except TimeoutError:
                self.node.kill()
                time.sleep(self.RESTART_SECONDS)
                # It is watched again from when it is ready.
                self.socket.settimeout(None)
                self.node.spawn()


def managed(cluster, admin, options):
    if options.kafka:
        return {}
    managers = [Manager(node) for node in cluster.nodes]
    for manager in managers:
        manager.node.stop()
        manager.node.start()
        manager.start()
    figures = faults(cluster, admin, options, lambda victim: victim.process.send_signal(19), lambda *_: time.sleep(5), options.faults)
    for manager in managers:
        manager.is_over.set()
        manager.join()
        manager.node.environment = {}
    return figures


def rate(cluster, admin, options):
    create(admin, "rate", 6)
    records = options.megabytes * 1024

    def load(count):
        settings = [f"bootstrap.servers={cluster.address}", "acks=all", "batch.size=262144", "linger.ms=5", "buffer.memory=134217728"]
        out = harness.java("org.apache.kafka.tools.ProducerPerformance", "--topic", "rate", "--num-records", count, "--record-size", 1024, "--throughput", -1, "--producer-props", *settings, seconds=300).out
        return float(out.rsplit("(", 1)[1].split()[0])

    load(records // 8)
    used = cpu(cluster)
    speed = load(records)
    return {"MB/s": speed, "processor s per GB": (cpu(cluster) - used) / (records * 1024 / 1e9)}


def latency(cluster, admin, options):
    create(admin, "latency", 3)
    rounds = []
    for _ in range(3):
        load = ["--rate", "20000", "--size", "100", "--warm-up", "4s", "--duration", "10s", "--json"]
        ran = harness.run([options.binary, "bench", "latency", "--bootstrap-server", cluster.address, "--topic", "latency", *load], seconds=60)
        rounds.append(json.loads(ran.out)["clusters"][0]["latencyMs"]["end to end"])
    return {f"{p} ms": statistics.median(found[p] for found in rounds) for p in ("p50", "p99", "p99.9", "max")}


def takeover(cluster, admin, options):
    for n in range(options.image // 5000):
        admin.create_topics([NewTopic(f"image-{n}", 5000, 1)], operation_timeout=120, request_timeout=120)[f"image-{n}"].result(120)
    time.sleep(5)
    victim = cluster.controller()
    number = cluster.nodes.index(victim) + 1
    others = [node for node in cluster.nodes if node is not victim]
    client = AdminClient({"bootstrap.servers": ",".join(node.address for node in others), **QUIET})
    partitions_of(client, "image-0")
    started = time.monotonic()
    victim.kill()
    harness.eventually("another leads the quorum", lambda: cluster.controller() not in (None, victim))
    elected = time.monotonic() - started
    client.create_topics([NewTopic("after", 1, 1)])["after"].result(60)
    created = time.monotonic() - started
    victim.spawn()
    return {f"{options.image} partitions, until another leads, s": elected, "until it has created a topic, s": created}


def partitions(cluster, admin, options):
    for n in range(10):
        admin.create_topics([NewTopic(f"many-{n}", options.partitions // 10, 3)], operation_timeout=120, request_timeout=120)[f"many-{n}"].result(120)
    names = [f"many-{n}" for n in range(10)]
    harness.eventually("all replicas are in sync", lambda: all(len(p.isrs) == 3 for name in names for p in partitions_of(admin, name).values()), seconds=300)
    victim = cluster.nodes[partitions_of(admin, names[0])[0].leader - 1]
    number = cluster.nodes.index(victim) + 1
    others = AdminClient({"bootstrap.servers": ",".join(node.address for node in cluster.nodes if node is not victim), **QUIET})
    partitions_of(others, names[0])
    victim.kill()
    led_by = lambda name: {p.leader for p in partitions_of(others, name).values()}
    took = harness.eventually("another leader of each partition", lambda: all(not led_by(name) & {-1, number} for name in names), seconds=120)
    return {f"until {options.partitions} partitions are led, s": took}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(HERE.parent / "target/release/tidelog"))
    parser.add_argument("--kafka-libs", type=Path, help="the folder with Kafka's jars; without it, only ours is measured")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=MEASURES[:-2])
    parser.add_argument("--faults", type=int, default=6, help="how often the leader is killed")
    parser.add_argument("--pause", type=float, default=12, help="seconds between two faults")
    parser.add_argument("--stall-seconds", type=float, default=20)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--partitions", type=int, default=10_000)
    parser.add_argument("--image", type=int, default=100_000, help="how many partitions `takeover` makes")
    parser.add_argument("--property", action="append", default=[], metavar="KEY=VALUE", help="a line for server.properties")
    options = parser.parse_args()
    kinds = ["tidelog"]
    if options.kafka_libs:
        harness.KAFKA_LIBS = options.kafka_libs.expanduser()
        kinds.append("kafka")
    found = {}
    for kind in kinds:
        options.kafka = kind == "kafka"
        cluster = Cluster(options)
        cluster.start()
        admin = AdminClient({"bootstrap.servers": cluster.address, **QUIET})
        for measure in options.only:
            for name, value in globals()[measure](cluster, admin, options).items():
                found.setdefault((measure, name), {})[kind] = value
                print(f"{kind}, {measure}: {name}: {value:.3f}", flush=True)
        for node in cluster.nodes:
            node.kill()
    if len(kinds) == 2:
        for (measure, name), of in found.items():
            if len(of) == 2:
                print(f"{measure}: {name}: {of['tidelog']:.3f}, Kafka {of['kafka']:.3f}, ratio {of['tidelog'] / of['kafka']:.3f}", flush=True)


if __name__ == "__main__":
    main()
