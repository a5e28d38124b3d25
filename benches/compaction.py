#!/usr/bin/env python3
"""The same compaction by Tidelog and by Apache Kafka: wall time, processor time, memory.

    cargo build --release && python3 benches/compaction.py --kafka-libs ~/.cache/tidelog-ci/kafka-4.3.1

Each broker gets --mib MiB of the same batches (64 KiB, records of 1 KiB, keys at random out of --keys) into one partition of a
topic in segments of 64 MiB, whose share of dirty bytes never suffices. Then `min.cleanable.dirty.ratio` is set to 0.01, and the
clock runs until `cleaner-offset-checkpoint` says that all but the last segment is compacted. Both have one cleaner thread and
128 MiB for keys, and look for work every 20 ms. Processor time is that of the whole process in between. About a minute.

Plain Python, raw sockets: only the standard library.
"""

import os
import random
import re
import shutil
import struct
import tempfile
import time
from pathlib import Path

import duel
from start import acknowledged, crc32c, produce, request, string, varint

TOPIC = "compacted"
INCREMENTAL_ALTER_CONFIGS = 44
RECORDS = 63
BATCHES = 64
CLEANER = {"log.cleaner.backoff.ms": 20, "log.cleaner.threads": 1}


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


def set_config(name, value):
    topic, set_it = 2, 0
    body = struct.pack(">ib", 1, topic) + string(TOPIC) + struct.pack(">i", 1)
    return request(INCREMENTAL_ALTER_CONFIGS, 0, body + string(name) + struct.pack(">b", set_it) + string(value) + b"\0")


def segments(broker):
    return sorted((broker.data / f"{TOPIC}-0").glob("*.log"))


def compacted_until(broker):
    file = broker.data / "cleaner-offset-checkpoint"
    found = re.search(rf"^{TOPIC} 0 (\d+)$", file.read_text(), re.M) if file.exists() else None
    return int(found.group(1)) if found else -1


def run(name, command, root, port, batches, mib):
    folder = Path(tempfile.mkdtemp(dir=root))
    broker = duel.Broker(name, command, folder / name, port, **CLEANER)
    try:
        broker.start()
        connection = broker.create_topic(TOPIC, 1, cleanup_policy="compact", segment_bytes=64 << 20, min_cleanable_dirty_ratio=1)
        frames = [produce(TOPIC, 0, batch) for batch in batches]
        for number in range((mib << 20) // len(batches[0])):
            acknowledged(connection.call(frames[number % len(frames)]), TOPIC)
        os.sync()
        until, before = int(segments(broker)[-1].stem), sum(file.stat().st_size for file in segments(broker)[:-1])
        cpu, began = broker.cpu(), time.perf_counter()
        connection.call(set_config("min.cleanable.dirty.ratio", "0.01"))
        while compacted_until(broker) < until:
            time.sleep(0.01)
        seconds, cpu = time.perf_counter() - began, broker.cpu() - cpu
        after = sum(file.stat().st_size for file in segments(broker) if int(file.stem) < until)
        print(
            f"{name:<8} {before / 1e6:7.0f} MB to {after / 1e6:6.0f} MB in {seconds:6.2f} s, {before / seconds / 1e6:6.0f} MB/s, "
            f"{cpu:5.2f} s of processor, VmHWM {broker.resident_max():5.0f} MiB",
            flush=True,
        )
        return seconds, cpu
    finally:
        broker.end()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = duel.arguments(__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--keys", type=int, default=1000, help="of them about 1 - 1/e to the power of 4032/keys are used")
    options = parser.parse_args()
    choice = random.Random(1)
    batches = [keyed_batch(options.keys, choice) for _ in range(BATCHES)]
    sides = duel.commands(options)
    figures = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, command in sides.items():
            figures[name].append(run(name, command, options.dir, options.port, batches, options.mib))
    duel.compare("compaction", figures)


if __name__ == "__main__":
    main()
