#!/usr/bin/env python3
"""How fast tidelog-client reads records, and what that takes of processor and memory, beside librdkafka.

    python3 benches/consume.py [--kafka-libs DIR]

Records of 100 B and of 1 KiB, uncompressed, in one partition that is in the page cache, from its beginning, without a group, with the
settings as each client has them; checksums are checked by both (librdkafka leaves that out by default). Rounds alternate between
librdkafka, our client record by record, and our client batch by batch; on our broker and, with --kafka-libs, on Apache Kafka. Given
are the medians of records/s of the whole process, of the client's processor time for a million records, and its largest resident
memory. The load generators are built first, as in produce.py; --binary is the broker. A minute or two.
"""

import shutil
import tempfile
from pathlib import Path

import duel
import produce

LOADS = {"100 B": (5_000_000, 100), "1 KiB": (1_000_000, 1024)}
BROKER = {"tidelog": {"tidelog.durability": "page-cache"}, "kafka": {}}


def ours(by):
    return lambda address, topic, records: [produce.TARGET / "release/examples/consume_load", address, topic, str(records), by]


def librdkafka(address, topic, records):
    return [produce.RDKAFKA, "consume", address, topic, str(records)]


CLIENTS = {"librdkafka": librdkafka, "tidelog-client": ours("records"), "tidelog-client by batches": ours("batches")}


def main():
    options = duel.arguments(__doc__).parse_args()
    produce.build("produce_load", "consume_load")
    folder = Path(tempfile.mkdtemp(dir=options.dir))
    for number, (name, command) in enumerate(duel.commands(options).items()):
        broker = duel.Broker(name, command, folder / name, options.port + 2 * number, **BROKER[name])
        address = f"127.0.0.1:{broker.port}"
        try:
            broker.start()
            for load, (records, size) in LOADS.items():
                topic = f"t{size}"
                broker.create_topic(topic, 1)
                produce.run(produce.ours(address, topic, records, size), records)
                figures = {client: [] for client in CLIENTS}
                for _ in range(options.rounds):
                    for client, make in CLIENTS.items():
                        figures[client].append(produce.run(make(address, topic, records), records))
                produce.report(f"{name}, {load}", figures)
        finally:
            broker.end()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
