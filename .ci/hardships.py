#!/usr/bin/env python3
"""Three nodes to which happens what seldom happens, one thing after the other, under a producer: hardships.py [--binary PATH] [NAME ...]

A minute without a sign of life, two nodes with one id, a node of another cluster, a metadata log that ends in a torn batch, damaged snapshots, a full disk, a
slow network. Each must leave a clear line in the log of a node that is concerned, and every acknowledged record must be there at the end. Run by
hand: it takes some minutes. What this machine cannot do is left out with words.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time
import types

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

import harness
from cluster import Cluster, Network, Pulse, settle
from crash import Writer, verify
from harness import Failed, eventually, expect_that

HARDSHIPS = []


def hardship(one):
    HARDSHIPS.append(one)
    return one


class Skipped(Exception):
    """This machine cannot do it."""


def said(node, since=0):
    text = node.errors.read_text(errors="replace") if node.errors.exists() else ""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)[since:]


def says(node, words, since=0, seconds=60):
    eventually(f"the log says {words!r}", lambda: words in said(node, since), seconds=seconds)


def leader_of(world):
    leader = world.admin.list_topics("pulse", timeout=10).topics["pulse"].partitions[0].leader
    return world.cluster.nodes[leader - 1]


def stranger(world, node_id, cluster_id):
    """A node that does not belong here, with the configuration of one that does."""
    node = harness.new_server(world.options)
    of = world.cluster.nodes[node_id - 1]
    node.host = of.host
    node.prefix = of.prefix
    node.properties = {
        **of.properties,
        "log.dirs": node.data,
        "listeners": f"PLAINTEXT://{node.address},CONTROLLER://{node.host}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{node.address}",
    }
    node.write_properties()
    harness.run([world.options.binary, "format", "-t", cluster_id, "-c", node.properties_file])
    return node


def cluster_id(world):
    return re.search(r"cluster.id=(\S+)", (world.cluster.nodes[0].data / "meta.properties").read_text())[1]


def begone(node):
    if node.process.poll() is None:
        node.process.kill()
    node.process.wait(30)


@hardship
def a_node_is_stopped_for_a_minute(world):
    """SIGSTOP of the leader of the partition that is written to."""
    victim = leader_of(world)
    victim.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(60)
    finally:
        victim.process.send_signal(signal.SIGCONT)


@hardship
def two_nodes_have_one_id(world):
    """A second node 2 with a disk of its own: it is told, and node 2 goes on."""
    twin = stranger(world, 2, cluster_id(world))
    marks = [len(said(node)) for node in world.cluster.nodes]
    twin.spawn()
    words = ("give it a node.id of its own", "is a node id used twice", "this broker is not registered yet")
    try:
        nodes = [(twin, 0), *zip(world.cluster.nodes, marks)]
        eventually("a node says so", lambda: any(word in said(node, mark) for node, mark in nodes for word in words), seconds=60)
        expect_that("node 2 runs", world.cluster.nodes[1].process.poll() is None)
    finally:
        begone(twin)


@hardship
def a_node_of_another_cluster_comes(world):
    """It has the addresses of this one."""
    other = stranger(world, 3, "4L6g3nShT-eMCtK--X86sw")
    marks = [len(said(node)) for node in world.cluster.nodes]
    other.spawn()
    try:
        says(other, "another cluster")
        nodes = list(zip(world.cluster.nodes, marks))
        eventually("a node of this one says so", lambda: any("a node of another cluster" in said(node, mark) for node, mark in nodes), seconds=60)
    finally:
        begone(other)


@hardship
def a_metadata_log_ends_in_a_torn_batch(world):
    """A node is killed, and the last bytes of its metadata log are gone."""
    victim = world.cluster.nodes[2]
    victim.kill()
    segment = sorted((victim.data / "__cluster_metadata-0").glob("*.log"))[-1]
    os.truncate(segment, segment.stat().st_size - 7)
    victim.start()


@hardship
def no_snapshot_of_the_metadata_is_whole(world):
    """Of a node whose log does not go back to the beginning: all are cut short while it is down."""
    victim = world.cluster.nodes[2]
    folder = victim.data / "__cluster_metadata-0"
    often = {"metadata.log.max.record.bytes.between.snapshots": 500, "metadata.max.retention.bytes": 0}
    before = dict(victim.properties)
    victim.properties.update(often)
    victim.stop()
    victim.start()

    def has_snapshot():
        world.admin.incremental_alter_configs([ConfigResource("topic", "hard", incremental_configs=[ConfigEntry(
            "retention.ms", str(random.randrange(1 << 40, 1 << 41)), incremental_operation=AlterConfigOpType.SET)])])
        return any(not path.name.startswith("0" * 20) for path in folder.glob("*.checkpoint"))

    eventually("a snapshot was made", has_snapshot)
    victim.kill()
    for first in folder.glob(f"{0:020}.*"):
        first.unlink()
    victim.start()
    settle(world.admin, ["hard", "pulse"])
    victim.kill()
    expect_that("the log begins with a snapshot", not (folder / f"{0:020}.log").exists())
    for snapshot in folder.glob("*.checkpoint"):
        os.truncate(snapshot, snapshot.stat().st_size // 2)
    victim.properties = before
    mark = len(said(victim))
    victim.start()
    says(victim, "a part of the metadata was lost from this disk", mark)
    says(victim, "all of the metadata is there again", mark)


@hardship
def a_disk_is_full(world):
    """Of one node: a small file system in memory. It ends, others go on, and with room it catches up."""
    if os.geteuid() != 0:
        raise Skipped("only root can mount a file system")
    victim = world.cluster.nodes[1]
    victim.stop()
    small = harness.scratch("small")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tidelog-small", small], capture_output=True)
    if mounted.returncode != 0:
        victim.start()
        raise Skipped(f"no file system can be mounted: {mounted.stderr.decode().strip()}")
    try:
        shutil.copytree(victim.data, small / "data", dirs_exist_ok=True)
        before = victim.properties["log.dirs"]
        victim.properties["log.dirs"] = small / "data"
        mark = len(said(victim))
        victim.start()
        (small / "ballast").write_bytes(b"x" * (shutil.disk_usage(small).free - (1 << 20)))
        says(victim, "out of service until the next start", mark)
        eventually("it ends", lambda: victim.process.poll() is not None, seconds=60)
        expect_that("its exit code is 1", victim.process.returncode == 1, victim.process.returncode)
        (small / "ballast").unlink()
        victim.start()
        settle(world.admin, ["pulse"])
        victim.stop()
        shutil.rmtree(before)
        shutil.copytree(small / "data", before)
        victim.properties["log.dirs"] = before
        victim.start()
    finally:
        if victim.process.poll() is None and victim.properties["log.dirs"] == small / "data":
            victim.stop()
        subprocess.run(["umount", "-l", small], check=False)


@hardship
def the_network_of_a_node_is_slow(world):
    """200 ms there and a twentieth of all packets lost, or else little through at a time, for half a minute."""
    if not world.cluster.network or not shutil.which("tc"):
        raise Skipped("there is no tc here, or no network namespaces")
    prefix = world.cluster.network.prefix(1)
    for how in ("netem delay 200ms 50ms loss 5%", "tbf rate 1mbit burst 8kb latency 400ms"):
        if subprocess.run([*prefix, "tc", "qdisc", "add", "dev", "eth0", "root", *how.split()], capture_output=True).returncode == 0:
            break
    else:
        raise Skipped("this kernel can neither delay nor shape traffic")
    try:
        time.sleep(30)
    finally:
        subprocess.run([*prefix, "tc", "qdisc", "del", "dev", "eth0", "root"], check=True)


# What a process is given in front of the C library, so that its wall clock is ahead.
WALL_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, at);
    if (id == CLOCK_REALTIME) at->tv_sec += atol(getenv("SECONDS_AHEAD"));
    return done;
}
"""


@hardship
def clocks_are_hours_apart(world):
    """Of two nodes, five and ten hours ahead of the first and of the clients; each of them goes, and comes back, meanwhile."""
    folder = harness.scratch("clock")
    (folder / "clock.c").write_text(WALL_CLOCK)
    made = subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "clock.so", folder / "clock.c", "-ldl"], capture_output=True)
    if made.returncode != 0:
        raise Skipped(f"no C compiler: {made.stderr.decode().strip()}")
    nodes = world.cluster.nodes
    marks = [len(said(node)) for node in nodes]
    for node, hours in zip(nodes[1:], (5, 10)):
        node.stop()
        node.environment.update({"LD_PRELOAD": folder / "clock.so", "SECONDS_AHEAD": str(hours * 3600)})
        node.start()
        settle(world.admin, ["hard", "pulse"])
    controller = world.cluster.controller()
    for node, mark in zip(nodes, marks):
        if node is not controller:
            says(node, "that of the active controller are apart", mark)
    for node in nodes:
        node.kill()
        time.sleep(1)
        node.start()
        settle(world.admin, ["hard", "pulse"])
    for node in nodes[1:]:
        node.stop()
        node.environment.clear()
        node.start()
        settle(world.admin, ["hard", "pulse"])


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("name", nargs="*")
    options = parser.parse_args()
    options.property, options.namespaces = [], Network.is_possible()
    options.producers, options.partitions, options.rate, options.seed = 1, 3, 200, random.randrange(1 << 32)
    chosen = [one for one in HARDSHIPS if not options.name or any(name in one.__name__ for name in options.name)]
    cluster = Cluster(options)
    cluster.start()
    admin = AdminClient({"bootstrap.servers": cluster.address, "log_level": 2})
    for future in admin.create_topics([NewTopic("hard", 3, 3), NewTopic("pulse", 1, 3)]).values():
        future.result(30)
    settle(admin, ["hard", "pulse"])
    world = types.SimpleNamespace(cluster=cluster, admin=admin, options=options)
    writer, pulse = Writer(cluster, "hard", 0, options), Pulse(cluster, "pulse")
    writer.start()
    pulse.start()
    passed = failed = 0
    for one in chosen:
        started = time.time()
        try:
            one(world)
            settled = settle(admin, ["hard", "pulse"])
            healed = time.time()
            eventually("the client goes on", lambda: pulse.acknowledged[-1] > healed)
            print(f"ok    {one.__name__} ({time.time() - started:.0f} s): {pulse.longest_gap(started) * 1000:.0f} ms without an acknowledgement, all in sync {settled:.1f} s later", flush=True)
            passed += 1
        except Skipped as reason:
            print(f"left  {one.__name__}: {reason}", flush=True)
        except Failed as failure:
            print(f"FAIL  {one.__name__}: {failure}", flush=True)
            failed += 1
            break
    pulse.stop()
    writer.finish()
    if not failed:
        verify(cluster, "hard", [writer], 3)
        cluster.expect_sound()
        print(f"{len(writer.acknowledged)} records, each there once and in order", flush=True)
        cluster.stop()
    harness.finish(passed, failed)


if __name__ == "__main__":
    main()
