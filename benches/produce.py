#!/usr/bin/env python3
"""How fast tidelog-client sends records, and what that takes of the processor, beside librdkafka.

    python3 benches/produce.py --perf .../rdkafka_performance [--kafka-libs DIR]

Records of 100 B and of 1 KiB without a key, to 4 partitions, uncompressed, acks=all, idempotent, linger 5 ms, the other settings as
each client has them. Rounds alternate between the clients, on our broker (durability=page-cache) and, with --kafka-libs, on
Apache Kafka. Given are the medians of records/s, of the client's processor time for a million records, and its largest
resident memory; and, of 30 processes each that send one record and end, the median time of such a life. The load generator
(examples/produce_load.rs) is built first, in release; --binary is the broker. A minute or two.

`rdkafka_performance` builds with gcc from the folder librdkafka inside the crate rdkafka-sys: `./configure && make libs && make -C
examples rdkafka_performance`.
"""

import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import duel

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target").resolve() / "release"
LOADS = {"100 B": (2_000_000, 100), "1 KiB": (400_000, 1024)}
PARTITIONS = 4
COLD_STARTS = 30


def ours(address, topic, records, size, _):
    return [TARGET / "examples/produce_load", address, topic, str(records), str(size)]


def librdkafka(address, topic, records, size, perf):
    settings = ["-X", "enable.idempotence=true", "-X", "acks=all", "-X", "linger.ms=5"]
    return [perf, "-P", "-t", topic, "-s", str(size), "-c", str(records), "-b", address, "-u", *settings]


def run(command, records):
    """Records/s of the whole process, processor seconds for a million records, and the largest resident MiB."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or re.search(r"[1-9]\d* failed", output):
        raise RuntimeError(f"{command[0]}: {output[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return records / seconds, cpu / records * 1e6, usage.ru_maxrss / 1024


def main():
    parser = duel.arguments(__doc__)
    parser.add_argument("--perf", required=True, help="librdkafka's rdkafka_performance")
    options = parser.parse_args()
    build = ["cargo", "build", "--release", "--quiet", "-p", "tidelog-benches", "--example", "produce_load"]
    subprocess.run(build, cwd=REPOSITORY, check=True)
    folder = Path(tempfile.mkdtemp(dir=options.dir))
    for number, (name, command) in enumerate(duel.commands(options).items()):
        own = {"tidelog.durability": "page-cache"} if name == "tidelog" else {}
        broker = duel.Broker(name, command, folder / name, options.port + 2 * number, **own)
        try:
            broker.start()
            for load, (records, size) in LOADS.items():
                figures = {"tidelog-client": [], "librdkafka": []}
                for round_number in range(options.rounds):
                    for client, make in (("tidelog-client", ours), ("librdkafka", librdkafka)):
                        topic = f"t{size}-{round_number}-{client}"
                        broker.create_topic(topic, PARTITIONS)
                        address = f"127.0.0.1:{broker.port}"
                        figures[client].append(run(make(address, topic, records, size, options.perf), records))
                for client, runs in figures.items():
                    rate, cpu, resident = (statistics.median(figure) for figure in zip(*runs))
                    print(f"{name}, {load}, {client}: {rate:,.0f} rec/s, {cpu:.2f} CPU s per million, {resident:.0f} MiB", flush=True)
            broker.create_topic("cold", 1)
            for client, make in (("tidelog-client", ours), ("librdkafka", librdkafka)):
                command = make(f"127.0.0.1:{broker.port}", "cold", 1, 100, options.perf)
                seconds = statistics.median(1 / run(command, 1)[0] for _ in range(COLD_STARTS))
                print(f"{name}, one record by a new process, {client}: {seconds * 1000:.1f} ms", flush=True)
        finally:
            broker.end()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
