#!/usr/bin/env python3
"""The way of a record from end to end, by tidelog-client and by librdkafka, at 20,000 records a second.

    python3 benches/latency.py [--kafka-libs DIR]

One program (benches/rdkafka) with either client: one thread sends records of 100 B by the clock, to one partition, idempotent and
with acks=all; another one receives them. A record counts from when it was due until the application has it; the first second is
left out. Without linger, and with the 5 ms that both clients have by default; the other settings as each client has them. Rounds of
4 seconds alternate between the clients, on our broker (durability=page-cache) and, with --kafka-libs, on Apache Kafka. Given are the
medians of the rounds' p50, p99 and p99.9. --binary is the broker. Two minutes, and half of that without Kafka.
"""

import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import duel
import produce

RECORDS = 80_000
LINGERS = (0, 5)
CLIENTS = {"tidelog-client": "tidelog", "librdkafka": "rdkafka"}


def measure(client, address, topic, linger):
    """p50, p99 and p99.9 in milliseconds."""
    command = [produce.RDKAFKA, "latency", client, address, topic, str(RECORDS), str(linger)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [float(line.split()[1]) for line in printed.splitlines()]


def main():
    options = duel.arguments(__doc__).parse_args()
    produce.build()
    folder = Path(tempfile.mkdtemp(dir=options.dir))
    for number, (name, command) in enumerate(duel.commands(options).items()):
        own = {"tidelog.durability": "page-cache"} if name == "tidelog" else {}
        broker = duel.Broker(name, command, folder / name, options.port + 2 * number, **own)
        address = f"127.0.0.1:{broker.port}"
        try:
            broker.start()
            for linger in LINGERS:
                figures = {client: [] for client in CLIENTS}
                for round_number in range(options.rounds):
                    for client, argument in CLIENTS.items():
                        topic = f"l{linger}-{round_number}-{client}"
                        broker.create_topic(topic, 1)
                        figures[client].append(measure(argument, address, topic, linger))
                for client, runs in figures.items():
                    medians = (statistics.median(figure) for figure in zip(*runs))
                    line = "p50 {:.2f} ms, p99 {:.2f} ms, p99.9 {:.2f} ms".format(*medians)
                    print(f"{name}, linger {linger} ms, {client}: {line}", flush=True)
        finally:
            broker.end()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
