#!/usr/bin/env python3
"""The test-suite of tidelog-client against a running broker: client_suite.py [--binary PATH | --kafka | --kafka-2.1] [TEST ...]

The very tests that `cargo test -p tidelog-client` runs against a broker in their own process, here against the release binary, or
with --kafka against a real Apache Kafka 4.3.1, or with --kafka-2.1 against the oldest that the client speaks with (Maven fetches it). Tests that restart their broker or set its properties pass over it, and are counted.
What counts as a result is written in docs/testing.md.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import harness

SUITES = [("tidelog-client", "it")]
SECONDS_MAX = 300


class OldKafka(harness.Server):
    """Kafka 2.1.1, with a ZooKeeper."""

    original = True
    ready = "[KafkaServer id=0] started"
    ready_seconds_max = 120

    def __init__(self):
        super().__init__()
        self.zookeeper_port = harness.free_port()
        self.libs = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "tidelog-ci/kafka-2.1.1"
        kept = ("log.dirs", "offsets.topic.replication.factor", "transaction.state.log.replication.factor", "transaction.state.log.min.isr",
                "group.initial.rebalance.delay.ms")
        self.properties = {
            **{key: self.properties[key] for key in kept},
            "broker.id": 0,
            "listeners": f"PLAINTEXT://{self.address}",
            "zookeeper.connect": f"127.0.0.1:{self.zookeeper_port}",
        }

    def java(self, main_class, properties_file, heap):
        # What it reaches into is closed to it on today's Java.
        opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.lang", "java.nio", "sun.nio.ch")]
        return [*harness.JAVA, heap, *opened, "-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-Dorg.slf4j.simpleLogger.logFile=System.out",
                "-cp", f"{self.libs}/*", main_class, properties_file]

    def command(self):
        return self.java("kafka.Kafka", self.properties_file, "-Xmx512m")

    def start(self):
        if not self.libs.is_dir():
            copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
            part = self.libs.with_suffix(".part")
            harness.run(["mvn", "-q", "-B", "-f", harness.REPOSITORY / ".ci/old_kafka.xml", copy, "-DincludeScope=runtime", f"-DoutputDirectory={part}"],
                        seconds=300)
            part.rename(self.libs)
        properties = self.folder / "zookeeper.properties"
        properties.write_text(f"dataDir={self.folder / 'zookeeper'}\nclientPort={self.zookeeper_port}\nclientPortAddress=127.0.0.1\n"
                              "admin.enableServer=false\nmaxClientCnxns=0\n")
        with open(self.folder / "zookeeper.log", "w") as said:
            harness.spawn(self.java("org.apache.zookeeper.server.quorum.QuorumPeerMain", properties, "-Xmx128m"), stdout=said, stderr=said)
        until = time.monotonic() + self.ready_seconds_max
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.zookeeper_port)) == 0:
                    break
            time.sleep(0.1)
        return super().start()


def executable(package, test):
    """The path of a test binary, built as for a test."""
    command = ["cargo", "test", "--quiet", "--no-run", "-p", package, "--test", test, "--message-format=json"]
    built = subprocess.run(command, cwd=harness.REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    messages = map(json.loads, built.stdout.splitlines())
    return [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == test][-1]


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--kafka-2.1", action="store_true", dest="old_kafka", help="run them against Apache Kafka 2.1.1")
    parser.add_argument("test", nargs="*")
    options = parser.parse_args()
    binaries = [executable(*suite) for suite in SUITES]
    server = OldKafka() if options.old_kafka else harness.new_server(options)
    print(f"started in {server.start() * 1000:.0f} ms on {server.address}", flush=True)
    environment = {**os.environ, "TIDELOG_TEST_BOOTSTRAP": server.address}
    passed = failed = over = 0
    for binary in binaries:
        # One after another: a broker that all of them share shall not be what makes one of them late.
        command = [binary, "--test-threads=2", "--show-output", *options.test]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS_MAX)
        counts = re.search(r"^test result: .*?(\d+) passed; (\d+) failed", done.stdout, re.M)
        if done.returncode or not counts:
            print(done.stdout)
        passed += int(counts[1]) if counts else 0
        failed += int(counts[2]) if counts else 1
        over += len(re.findall(r"^passed over: ", done.stdout, re.M))
    server.expect_sound()
    server.stop()
    print(f"{over} of them restart their broker, set its properties or want a newer one, and passed over this one", flush=True)
    harness.finish(passed - over, failed)


if __name__ == "__main__":
    try:
        main()
    except harness.Failed as failure:
        print(f"FAILED {failure}")
        sys.exit(1)
