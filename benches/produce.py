#!/usr/bin/env python3
"""How fast tidelog-client sends records, and what that takes of processor and memory, beside librdkafka.

    python3 benches/produce.py [--kafka-libs DIR]

Records of 100 B and of 1 KiB without a key, to 4 partitions, uncompressed, acks=all, idempotent, linger 5 ms, the other settings as
each client has them. Rounds alternate between the clients, on our broker (durability=page-cache) and, with --kafka-libs, on
Apache Kafka. Given are the medians of records/s of the whole process, of the client's processor time for a million records, and its
largest resident memory; and, of 30 processes each that send one record and end, the median time of such a life.

The load generators are built first, in release: examples/produce_load.rs for ours, benches/rdkafka for the crate `rdkafka`. Both send
from one thread, which looks at what was delivered now and then. --binary is the broker. A minute or two.
"""

import os
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import duel

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target").resolve()
RDKAFKA_TARGET = TARGET / "rdkafka"
RDKAFKA = RDKAFKA_TARGET / "release/tidelog-beside-rdkafka"
LOADS = {"100 B": (2_000_000, 100), "1 KiB": (400_000, 1024)}
PARTITIONS = 4
COLD_STARTS = 30


def build(*examples):
    """The load generators of both clients."""
    for example in examples:
        command = ["cargo", "build", "--release", "--quiet", "-p", "tidelog-benches", "--example", example]
        subprocess.run(command, cwd=REPOSITORY, check=True)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(RDKAFKA_TARGET)}
    command = ["cargo", "build", "--release", "--quiet"]
    subprocess.run(command, cwd=REPOSITORY / "benches/rdkafka", env=environment, check=True)


def ours(address, topic, records, size):
    return [TARGET / "release/examples/produce_load", address, topic, str(records), str(size)]


def librdkafka(address, topic, records, size):
    return [RDKAFKA, "produce", address, topic, str(records), str(size)]


CLIENTS = {"tidelog-client": ours, "librdkafka": librdkafka}


def run(command, records):
    """Records/s of the whole process, processor seconds for a million records, and the largest resident MiB, looked at every 5 ms."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    most = 0

    def watch():
        nonlocal most
        while resident := duel.resident_max(process.pid):
            most = resident
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    watcher.join()
    if process.returncode or re.search(r"[1-9]\d* failed", output):
        raise RuntimeError(f"{command[0]}: {output[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return records / seconds, cpu / records * 1e6, most


def report(where, figures, reference="librdkafka"):
    """The medians of each client, and what they are of the reference's."""
    medians = {client: [statistics.median(figure) for figure in zip(*runs)] for client, runs in figures.items()}
    for client, (rate, cpu, resident) in medians.items():
        line = f"{where}, {client}: {rate:,.0f} rec/s, {cpu:.2f} CPU s per million, {resident:.1f} MiB"
        if client != reference:
            ratios = (own / its for own, its in zip(medians[client], medians[reference]))
            line += " ({:.2f} x, {:.2f} x, {:.2f} x)".format(*ratios)
        print(line, flush=True)


def main():
    options = duel.arguments(__doc__).parse_args()
    build("produce_load")
    folder = Path(tempfile.mkdtemp(dir=options.dir))
    for number, (name, command) in enumerate(duel.commands(options).items()):
        own = {"tidelog.durability": "page-cache"} if name == "tidelog" else {}
        broker = duel.Broker(name, command, folder / name, options.port + 2 * number, **own)
        address = f"127.0.0.1:{broker.port}"
        try:
            broker.start()
            for load, (records, size) in LOADS.items():
                figures = {client: [] for client in CLIENTS}
                for round_number in range(options.rounds):
                    for client, make in CLIENTS.items():
                        topic = f"t{size}-{round_number}-{client}"
                        broker.create_topic(topic, PARTITIONS)
                        figures[client].append(run(make(address, topic, records, size), records))
                report(f"{name}, {load}", figures)
            broker.create_topic("cold", 1)
            for client, make in CLIENTS.items():
                seconds = statistics.median(1 / run(make(address, "cold", 1, 100), 1)[0] for _ in range(COLD_STARTS))
                print(f"{name}, one record by a new process, {client}: {seconds * 1000:.1f} ms", flush=True)
        finally:
            broker.end()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
