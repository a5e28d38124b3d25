#!/usr/bin/env python3
"""How fast tidelog-client reads records, and what that takes of the processor, beside librdkafka.

    python3 benches/consume.py --perf .../rdkafka_performance [--kafka-libs DIR]

Records of 100 B and of 1 KiB, uncompressed, in one partition that is in the page cache, from its beginning, without a group, with the
settings as each client has them; checksums are checked by both (librdkafka leaves that out by default). Rounds alternate between
librdkafka, our client record by record, and our client batch by batch; on our broker and, with --kafka-libs, on Apache Kafka. Given
are the medians of records/s of the whole process, of the client's processor time for a million records, and its largest resident
memory. The load generators are built first, in release; --binary is the broker. A minute or two.

Where `rdkafka_performance` comes from stands in produce.py.
"""

import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import duel
import produce

LOADS = {"100 B": (5_000_000, 100), "1 KiB": (1_000_000, 1024)}
BROKER = {"tidelog": {"tidelog.durability": "page-cache"}, "kafka": {}}


def ours(by):
    return lambda address, topic, records, _: [produce.TARGET / "examples/consume_load", address, topic, str(records), by]


def librdkafka(address, topic, records, perf):
    settings = ["-X", "check.crcs=true"]
    return [perf, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-c", str(records), "-b", address, "-u", *settings]


CLIENTS = {"librdkafka": librdkafka, "tidelog-client": ours("records"), "tidelog-client by batches": ours("batches")}


def main():
    parser = duel.arguments(__doc__)
    parser.add_argument("--perf", required=True, help="librdkafka's rdkafka_performance")
    options = parser.parse_args()
    for example in ("produce_load", "consume_load"):
        build = ["cargo", "build", "--release", "--quiet", "-p", "tidelog-benches", "--example", example]
        subprocess.run(build, cwd=produce.REPOSITORY, check=True)
    folder = Path(tempfile.mkdtemp(dir=options.dir))
    for number, (name, command) in enumerate(duel.commands(options).items()):
        broker = duel.Broker(name, command, folder / name, options.port + 2 * number, **BROKER[name])
        try:
            broker.start()
            address = f"127.0.0.1:{broker.port}"
            for load, (records, size) in LOADS.items():
                topic = f"t{size}"
                broker.create_topic(topic, 1)
                produce.run(produce.ours(address, topic, records, size, None), records)
                figures = {client: [] for client in CLIENTS}
                for _ in range(options.rounds):
                    for client, make in CLIENTS.items():
                        figures[client].append(produce.run(make(address, topic, records, options.perf), records))
                for client, runs in figures.items():
                    rate, cpu, resident = (statistics.median(figure) for figure in zip(*runs))
                    print(f"{name}, {load}, {client}: {rate:,.0f} rec/s, {cpu:.2f} CPU s per million, {resident:.0f} MiB", flush=True)
        finally:
            broker.end()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
