"""What the duels beside Apache Kafka share: a broker of either kind on a folder of its own, and what a round costs it.

One broker runs at a time, from a server.properties that both read alike; rounds alternate. On a machine that does nothing else.
"""

import argparse
import os
import re
import signal
import statistics
import struct
import subprocess
import time
from pathlib import Path

from start import Connection, request, string

CREATE_TOPICS = 19
PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
}


def create_topic(name, partitions, config):
    body = struct.pack(">i", 1) + string(name) + struct.pack(">ihi", partitions, 1, 0) + struct.pack(">i", len(config))
    for key, value in config.items():
        body += string(key) + string(str(value))
    return request(CREATE_TOPICS, 2, body + struct.pack(">ib", 30_000, 0))


def resident_max(pid):
    """The most memory that a process has had, in MiB; None if it has ended.

    It begins anew where a program is executed. What is known of a process that was waited for (ru_maxrss) does not: it is at least
    what the process had that started it.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)
    return int(found.group(1)) / 1024 if found else None


class Broker:
    """One broker on a new folder, formatted but not started."""

    def __init__(self, name, command, folder, port, **properties):
        self.name, self.data, self.port, self.process = name, folder / "data", port, None
        folder.mkdir(parents=True)
        properties = {
            **PROPERTIES,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{port + 1}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{port + 1}",
            "log.dirs": self.data,
            **properties,
        }
        file = folder / "server.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        self.output = open(folder / "output.log", "wb")
        if name == "kafka":
            storage = [*command[:-1], "kafka.tools.StorageTool"]
            random_uuid = subprocess.run([*storage, "random-uuid"], capture_output=True, text=True, check=True)
            cluster = random_uuid.stdout.split()[-1]
            subprocess.run([*storage, "format", "--standalone", "-t", cluster, "-c", file], stdout=self.output, check=True)
            self.command = [*command, file]
        else:
            format = [*command, "format", "--standalone", "--cluster-id", "duel", "--config", file]
            subprocess.run(format, stdout=self.output, check=True)
            self.command = [*command, "broker", "--config", file]

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=self.output, stderr=self.output)

    def connect(self, seconds=120):
        """The first connection that is accepted."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                return Connection(self.port)
            except OSError:
                time.sleep(0.002)
        raise TimeoutError(f"{self.name} does not answer")

    def create_topic(self, name, partitions, **config):
        """A connection to the broker, as soon as it has a leader for the new topic."""
        deadline = time.monotonic() + 120
        while True:
            try:
                connection = self.connect()
                connection.call(create_topic(name, partitions, {key.replace("_", "."): value for key, value in config.items()}))
                connection.await_topic(name)
                return connection
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def cpu(self):
        """Seconds of processor time that the process has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_max(self):
        """The most memory that the process has had, in MiB."""
        return resident_max(self.process.pid)

    def end(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            self.process.wait(timeout=60)
            self.process = None


def arguments(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/tidelog")
    parser.add_argument("--kafka-libs", help="the folder with Kafka's jars; without it, only ours is measured")
    parser.add_argument("--dir", default="target", help="the folders lie on its file system")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=9260)
    return parser


def commands(options):
    """How each broker is started, by its name."""
    found = {"tidelog": [options.binary]}
    if options.kafka_libs:
        log = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.logFile=System.out"]
        libs = f"{Path(options.kafka_libs).expanduser()}/*"
        found["kafka"] = ["java", "-Xmx1g", *log, "-cp", libs, "kafka.Kafka"]
    return found


def compare(what, figures):
    """The medians of (wall time, processor time) side by side."""
    if len(figures) == 2:
        for i, measure in enumerate(("wall time", "processor")):
            ours, its = (statistics.median(run[i] for run in figures[name]) for name in ("tidelog", "kafka"))
            print(f"{what}, {measure}: {ours:.2f} s, Kafka {its:.2f} s, ratio {ours / its:.2f}", flush=True)
