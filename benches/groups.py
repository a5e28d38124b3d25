#!/usr/bin/env python3
"""What groups cost: commits, loading, idle groups, and rebalances beside a real Apache Kafka.

    python3 benches/groups.py commits      100,000 offsets/s in commits of 10, each flushed before it is answered
    python3 benches/groups.py load         a restart with 1,000,000 offsets
    python3 benches/groups.py idle         the memory of 10,000 groups
    python3 benches/groups.py rebalance    1,000 members and 1,000 partitions, both protocols, both brokers

Each ends in a minute or two. The load generator (examples/group_load.rs) and the broker are built first, in release. Brokers are
processes of their own with data below --dir, on the same machine as the load. Kafka needs its jars (see .ci/run) and runs with
its own defaults; what differs from them is the same for both and said here. --ours leaves Kafka out.

commits: 64 connections, a group each, so that most of the 50 partitions of __consumer_offsets have work at once. First
10,000 requests a second for 10 s, at times fixed beforehand, so that a slow answer also counts for those that were due behind
it; then 10 s as fast as they are answered. Every answer is checked. Ours flushes (durability=fsync), Kafka does not.

load: one partition of __consumer_offsets, 1,000 groups of which each commits an offset for each of 1,000 partitions; then SIGTERM, a
start, and the time from the ready line of the broker until a group of that partition is answered. The time from the start of
the process to the ready line is given too: the rest of what an operator waits for.

idle: 10,000 classic groups over 64 connections, each with one member that has its partition, and ten committed offsets; the
growth of the memory of the process (RssAnon) from before the first to a second after the last one.

rebalance: every member is a connection and sends a heartbeat 50 ms after the last one was answered (--pace), so that the figures
are the coordinator's: at the 3 or 5 s that clients have by default, both brokers wait for heartbeats nearly all the time.
Classic: all have joined and are stable; then one changes its subscription, and all rejoin as they hear of it by heartbeat. Given
are the time from the last JoinGroup request to the last SyncGroup answer, and that from the change to the last SyncGroup
answer, in which members wait for their next heartbeat. New protocol: all join at once, and the time until each partition is
owned by one member, each member owns one, and all are of one epoch; then one leaves, all settle, and after
group.consumer.assignment.interval.ms (1 s) it joins again: the time from its first heartbeat until all are settled. Medians of
5, and the CPU time of the broker's process for all of it. group.initial.rebalance.delay.ms=1000.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / ".ci"))
from harness import Kafka, Tidelog  # noqa: E402

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target").resolve() / "release"
CONNECTIONS, SECONDS, REQUESTS = 64, 10, 10_000
GROUPS_LOADED, GROUPS_IDLE, MEMBERS = 1_000, 10_000, 1_000


def build():
    cargo = ["cargo", "build", "--release", "--quiet"]
    subprocess.run([*cargo, "-p", "tidelog-cli"], cwd=REPOSITORY, check=True)
    subprocess.run([*cargo, "-p", "tidelog-benches", "--example", "group_load"], cwd=REPOSITORY, check=True)


def load(server, command, *arguments):
    """Runs the load generator; answers its figures by name."""
    words = [TARGET / "examples/group_load", server.address, command, *arguments]
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def cpu_seconds(server):
    fields = open(f"/proc/{server.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(server, what, figures):
    print(f"{type(server).__name__:8} {what:28} " + "  ".join(f"{name} {value}" for name, value in figures.items()), flush=True)


class Bench:
    def __init__(self, options):
        self.options = options
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="tidelog-groups-", dir=options.dir))

    def servers(self, **properties):
        ours = Tidelog(TARGET / "tidelog", self.folder("ours"), **properties)
        return [ours] if self.options.ours else [ours, Kafka(self.folder("kafka"), **properties)]

    def folder(self, name):
        folder = self.home / f"{name}-{len(list(self.home.iterdir()))}"
        folder.mkdir()
        return folder

    def commits(self):
        for server in self.servers():
            server.start()
            for what, rate in ((f"{REQUESTS * 10} offsets/s due", REQUESTS), ("as many as it can", 0)):
                before = cpu_seconds(server)
                figures = load(server, "commits", CONNECTIONS, SECONDS, rate)
                show(server, what, {**figures, "broker_cpu_s": f"{cpu_seconds(server) - before:.1f}"})
            server.stop()

    def load(self):
        for server in self.servers(offsets_topic_num_partitions=1):
            server.start()
            written = load(server, "offsets", GROUPS_LOADED)
            server.stop()
            started = server.start()
            answered = load(server, "ready")
            show(server, "load", {**written, "until_ready_ms": f"{started * 1000:.0f}", **answered, "rss_anon_mib": server.status("RssAnon") // 1024})
            server.stop()

    def idle(self):
        for server in self.servers(group_initial_rebalance_delay_ms=0):
            server.start()
            load(server, "commits", CONNECTIONS, 1, 0)
            before = server.status("RssAnon")
            figures = load(server, "idle", GROUPS_IDLE)
            time.sleep(1)
            grown = (server.status("RssAnon") - before) / 1024
            show(server, "idle groups", {**figures, "grown_mib": f"{grown:.1f}"})
            server.stop()

    def rebalance(self):
        for protocol in self.options.protocol or ("classic", "consumer"):
            for server in self.servers(group_initial_rebalance_delay_ms=1000):
                server.start()
                before = cpu_seconds(server)
                figures = load(server, protocol, MEMBERS, self.options.pace)
                show(server, protocol, {**figures, "broker_cpu_s": f"{cpu_seconds(server) - before:.1f}"})
                server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["commits", "load", "idle", "rebalance"])
    parser.add_argument("--ours", action="store_true", help="leave Kafka out")
    parser.add_argument("--protocol", action="append", choices=["classic", "consumer"], help="rebalance only this one")
    parser.add_argument("--pace", type=int, default=50, metavar="MS", help="between the heartbeats of a member")
    parser.add_argument("--dir", help="where the data goes (default: the directory for temporary files)")
    parser.add_argument("--no-build", action="store_true", help="what is built is up to date")
    options = parser.parse_args()
    if not options.no_build:
        build()
    bench = Bench(options)
    try:
        print(f"load average {os.getloadavg()[0]:.1f}", flush=True)
        getattr(bench, options.what)()
    finally:
        shutil.rmtree(bench.home, ignore_errors=True)


if __name__ == "__main__":
    main()
