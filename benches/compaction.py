#!/usr/bin/env python3
"""The same compaction by Tidelog and by Apache Kafka: wall time, processor time, memory.

    cargo build --release && python3 benches/compaction.py --kafka-libs ~/.cache/tidelog-ci/kafka-4.3.1

Each broker gets --mib MiB of the same batches (64 KiB, records of 1 KiB, keys at random out of --keys) into one partition of a
topic in segments of 64 MiB, whose share of dirty bytes never suffices. Then `min.cleanable.dirty.ratio` is set to 0.01, and the
clock runs until `cleaner-offset-checkpoint` says that all but the last segment is compacted. Both have one cleaner thread and
128 MiB for keys, and look for work every 20 ms. Processor time is that of the whole process in between. One broker runs at a
time; rounds alternate. On a machine that does nothing else; the folders lie on the file system of --dir.

Plain Python, raw sockets: only the standard library.
"""

import argparse
import os
import random
import re
import shutil
import signal
import statistics
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from start import Connection, acknowledged, crc32c, produce, request, string, varint

TOPIC = "compacted"
CREATE_TOPICS, INCREMENTAL_ALTER_CONFIGS = 19, 44
RECORDS = 63
BATCHES = 64

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "log.cleaner.backoff.ms": 20,
    "log.cleaner.threads": 1,
}
CONFIG = {"cleanup.policy": "compact", "segment.bytes": 64 << 20, "min.cleanable.dirty.ratio": 1}


def keyed_batch(keys, choice):
    """A record batch with records of 1 KiB, half of which does not compress."""
    now = int(time.time() * 1000)
    records = b""
    for delta in range(RECORDS):
        key, value = b"user-%011d" % choice.randrange(keys), b"x" * 512 + choice.randbytes(512)
        body = b"\0" + varint(0) + varint(delta) + varint(len(key)) + key + varint(len(value)) + value + varint(0)
        records += varint(len(body)) + body
    after_crc = struct.pack(">hiqqqhii", 0, RECORDS - 1, now, now, -1, -1, -1, RECORDS) + records
    rest = struct.pack(">ibI", -1, 2, crc32c(after_crc)) + after_crc
    return struct.pack(">qi", 0, len(rest)) + rest


def create_topic():
    body = struct.pack(">i", 1) + string(TOPIC) + struct.pack(">ihi", 1, 1, 0) + struct.pack(">i", len(CONFIG))
    for name, value in CONFIG.items():
        body += string(name) + string(str(value))
    return request(CREATE_TOPICS, 2, body + struct.pack(">ib", 30_000, 0))


def set_config(name, value):
    topic, set_it = 2, 0
    body = struct.pack(">ib", 1, topic) + string(TOPIC) + struct.pack(">i", 1)
    return request(INCREMENTAL_ALTER_CONFIGS, 0, body + string(name) + struct.pack(">b", set_it) + string(value) + b"\0")


class Broker:
    """One broker on a folder of its own, from a server.properties that both read alike."""

    def __init__(self, name, command, folder, port):
        self.name, self.data, self.port = name, folder / "data", port
        folder.mkdir()
        properties = {
            **PROPERTIES,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{port + 1}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{port + 1}",
            "log.dirs": self.data,
        }
        file = folder / "server.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        output = open(folder / "output.log", "wb")
        if name == "kafka":
            storage = [*command[:-1], "kafka.tools.StorageTool"]
            random_uuid = subprocess.run([*storage, "random-uuid"], capture_output=True, text=True, check=True)
            cluster = random_uuid.stdout.split()[-1]
            subprocess.run([*storage, "format", "--standalone", "-t", cluster, "-c", file], stdout=output, check=True)
            command = [*command, file]
        else:
            command = [*command, "broker", "--config", file]
        self.process = subprocess.Popen(command, stdout=output, stderr=output)

    def connect(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                connection = Connection(self.port)
                connection.call(create_topic())
                connection.await_topic(TOPIC)
                return connection
            except OSError:
                time.sleep(0.1)
        raise TimeoutError(f"{self.name} does not answer")

    def folder(self):
        return self.data / f"{TOPIC}-0"

    def last_segment(self):
        return int(max(self.folder().glob("*.log")).stem)

    def log_bytes(self):
        return sum(file.stat().st_size for file in sorted(self.folder().glob("*.log"))[:-1])

    def compacted_until(self):
        file = self.data / "cleaner-offset-checkpoint"
        found = re.search(rf"^{TOPIC} 0 (\d+)$", file.read_text(), re.M) if file.exists() else None
        return int(found.group(1)) if found else -1

    def cpu(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_max(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M).group(1)) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


def run(name, command, root, port, batches, mib):
    folder = Path(tempfile.mkdtemp(dir=root)) / name
    broker = Broker(name, command, folder, port)
    try:
        connection = broker.connect()
        frames = [produce(TOPIC, 0, batch) for batch in batches]
        for number in range((mib << 20) // len(batches[0])):
            acknowledged(connection.call(frames[number % len(frames)]), TOPIC)
        os.sync()
        until, before = broker.last_segment(), broker.log_bytes()
        cpu, began = broker.cpu(), time.perf_counter()
        connection.call(set_config("min.cleanable.dirty.ratio", "0.01"))
        while broker.compacted_until() < until:
            time.sleep(0.01)
        seconds, cpu = time.perf_counter() - began, broker.cpu() - cpu
        after = sum(f.stat().st_size for f in broker.folder().glob("*.log") if int(f.stem) < until)
        print(
            f"{name:<8} {before / 1e6:7.0f} MB to {after / 1e6:6.0f} MB in {seconds:6.2f} s, {before / seconds / 1e6:6.0f} MB/s, "
            f"{cpu:5.2f} s of processor, VmHWM {broker.resident_max():5.0f} MiB",
            flush=True,
        )
        return seconds, cpu
    finally:
        broker.stop()
        shutil.rmtree(folder.parent, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/tidelog")
    parser.add_argument("--kafka-libs", help="the folder with Kafka's jars; without it, only ours is measured")
    parser.add_argument("--dir", default="target")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--keys", type=int, default=1000, help="of them about 1 - 1/e to the power of 4032/keys are used")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=9260)
    options = parser.parse_args()
    choice = random.Random(1)
    batches = [keyed_batch(options.keys, choice) for _ in range(BATCHES)]
    sides = {"tidelog": [options.binary]}
    if options.kafka_libs:
        log = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.logFile=System.out"]
        libs = f"{Path(options.kafka_libs).expanduser()}/*"
        sides["kafka"] = ["java", "-Xmx1g", *log, "-cp", libs, "kafka.Kafka"]
    figures = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, command in sides.items():
            figures[name].append(run(name, command, options.dir, options.port, batches, options.mib))
    if len(figures) == 2:
        for i, what in enumerate(("wall time", "processor")):
            ours, its = (statistics.median(run[i] for run in figures[name]) for name in ("tidelog", "kafka"))
            print(f"{what}: {ours:.2f} s, Kafka {its:.2f} s, ratio {ours / its:.2f}")


if __name__ == "__main__":
    main()
