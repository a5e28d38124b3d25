#!/usr/bin/env python3
"""The same recovery after kill -9 by Tidelog and by Apache Kafka: wall time and processor time from the start of the process
until the last record of every partition is served.

    cargo build --release && python3 benches/recovery.py --kafka-libs ~/.cache/tidelog-ci/kafka-4.3.1

Each broker gets the same --mib MiB of batches (64 KiB, records of 1 KiB) into --partitions partitions, and is killed. In each
round, one broker after the other starts and is killed again. What is on the disk is the same then: before each start,
`recovery-point-offset-checkpoint` is removed, so that nothing counts as flushed and both look through all of it. All files are
in the page cache as the kill has left them; with --cold they are written back and dropped from it before each start. A start
after an orderly end tells what of it is not recovery. About a minute; --mib of disk for each.

Plain Python, raw sockets: only the standard library.
"""

import os
import shutil
import signal
import struct
import tempfile
import time
from pathlib import Path

import duel
from start import acknowledged, batch, fetch, produce

TOPIC = "recovered"
RECORDS = 63


def fetched(connection, partition, offset):
    """The error and how many bytes of records came."""
    body = connection.call(fetch(TOPIC, partition, offset))
    # Throttle time, topics, the name, partitions, the index, then the error, two watermarks, aborted transactions, records.
    error, _, _, _, size = struct.unpack_from(">hqqii", body, 4 + 4 + 2 + len(TOPIC) + 4 + 4)
    return error, size


def is_served(connection, partition, offset):
    error, size = fetched(connection, partition, offset)
    return error == 0 and size > 0


def fill(broker, partitions, mib):
    """Answers how many records each partition has."""
    connection = broker.create_topic(TOPIC, partitions)
    records = batch(RECORDS, 1024)
    frames = [produce(TOPIC, partition, records) for partition in range(partitions)]
    while any(fetched(connection, partition, 0)[0] for partition in range(partitions)):
        time.sleep(0.01)
    rounds = (mib << 20) // len(records) // partitions
    for _ in range(rounds):
        for frame in frames:
            connection.send(frame)
        for _ in frames:
            acknowledged(connection.receive(), TOPIC)
    return rounds * RECORDS


def start(broker, partitions, records):
    """Starts the broker; answers the wall time and the processor time until the last record of each partition is served."""
    began = time.perf_counter()
    broker.start()
    waiting = list(range(partitions))
    connection = broker.connect()
    while waiting:
        try:
            waiting = [partition for partition in waiting if not is_served(connection, partition, records - 1)]
        except OSError:
            connection = broker.connect()
        time.sleep(0.001)
    return time.perf_counter() - began, broker.cpu()


def forget_flushes(broker):
    (broker.data / "recovery-point-offset-checkpoint").unlink(missing_ok=True)


def drop_from_cache(broker):
    for file in broker.data.glob("*/*"):
        with open(file, "rb") as opened:
            os.fdatasync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def report(name, what, figures):
    seconds, cpu = figures
    print(f"{name:<8} {what:<28} {seconds:6.2f} s, {cpu:6.2f} s of processor", flush=True)


def main():
    parser = duel.arguments(__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--cold", action="store_true", help="nothing is in the page cache")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=options.dir))
    brokers, records = [], 0
    figures, orderly = {}, {}
    try:
        for name, command in duel.commands(options).items():
            broker = duel.Broker(name, command, root / name, options.port)
            brokers.append(broker)
            figures[name], orderly[name] = [], []
            broker.start()
            records = fill(broker, options.partitions, options.mib)
            broker.end()
        for _ in range(options.rounds):
            for broker in brokers:
                if options.cold:
                    drop_from_cache(broker)
                orderly[broker.name].append(start(broker, options.partitions, records))
                report(broker.name, "start after an orderly end", orderly[broker.name][-1])
                broker.end(signal.SIGKILL)
                forget_flushes(broker)
                if options.cold:
                    drop_from_cache(broker)
                figures[broker.name].append(start(broker, options.partitions, records))
                report(broker.name, "start after kill -9", figures[broker.name][-1])
                broker.end()
    finally:
        for broker in brokers:
            broker.end(signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)
    duel.compare("start after an orderly end", orderly)
    duel.compare("start after kill -9", figures)


if __name__ == "__main__":
    main()
