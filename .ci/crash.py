#!/usr/bin/env python3
"""kill -9 again and again while idempotent producers write; then every acknowledged record must be there once, in order.

crash.py [--binary PATH | --kafka] [--kills 100] [--prefill-mib 1024] [--seed N] [--property KEY=VALUE ...]

Each producer writes numbered records to partitions of its own, a record's number in its value. The broker is killed at random
moments, some of them while it starts, and started again at once. Timed from that start: until a new connection gets an
ApiVersions answer, until Metadata names a leader for every partition, and until the next record is acknowledged.
"""

import collections
import os
import pathlib
import random
import sys
import threading
import time

from confluent_kafka import Producer

import harness
from harness import Failed, expect, expect_that
from wire import Connection, api_versions, leaders, metadata

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "clients"))
from common import QUIET, create_topic, read_all  # noqa: E402

RECOVERY_SECONDS_MAX = 90


class Writer(threading.Thread):
    """One idempotent producer with partitions of its own, at a steady rate."""

    def __init__(self, server, topic, index, options):
        super().__init__(daemon=True)
        self.topic, self.index = topic, index
        self.partitions = range(index * options.partitions, (index + 1) * options.partitions)
        self.rate = options.rate
        self.stopping = threading.Event()
        self.written = 0
        self.acknowledged = {}  # number -> (partition, offset)
        self.errors = []
        self.last_ack = 0.0
        self.producer = Producer(
            {
                "bootstrap.servers": server.address,
                **QUIET,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "message.timeout.ms": 600_000,
                "request.timeout.ms": 10_000,
                "retry.backoff.ms": 20,
                "retry.backoff.max.ms": 100,
                "reconnect.backoff.ms": 10,
                "reconnect.backoff.max.ms": 50,
                "queue.buffering.max.messages": 1_000_000,
            }
        )

    def report(self, number):
        def delivered(error, message):
            if error is not None:
                self.errors.append(f"record {number}: {error}")
                return
            self.last_ack = time.monotonic()
            if number in self.acknowledged:
                self.errors.append(f"record {number} was acknowledged twice")
            self.acknowledged[number] = (message.partition(), message.offset())

        return delivered

    def run(self):
        started, pad = time.monotonic(), "x" * 80
        while not self.stopping.is_set():
            due = int((time.monotonic() - started) * self.rate)
            # What waits is bounded, so that a slow recovery does not turn into a long queue.
            while self.written < due and len(self.producer) < 20_000:
                partition = self.partitions[self.written % len(self.partitions)]
                self.producer.produce(self.topic, f"{self.index}:{self.written}:{pad}", partition=partition, on_delivery=self.report(self.written))
                self.written += 1
            if self.written < due:
                started = time.monotonic() - self.written / self.rate
            self.producer.poll(0.002)

    def finish(self):
        self.stopping.set()
        self.join()
        left = self.producer.flush(RECOVERY_SECONDS_MAX)
        expect(f"producer {self.index}: records never acknowledged", left, 0)
        expect(f"producer {self.index}: errors", self.errors[:5], [])


def prefill(server, mebibytes, partitions):
    """Random bytes, so that the log on disk is as large as it says."""
    topic = create_topic(server, "prefill", partitions)
    blocks = [os.urandom(10_000) for _ in range(64)]
    client, errors = Producer({"bootstrap.servers": server.address, **QUIET, "linger.ms": 20, "batch.size": 900_000}), []
    for n in range(mebibytes * (1 << 20) // 10_000):
        while True:
            try:
                client.produce(topic, blocks[n % 64], partition=n % partitions, on_delivery=lambda e, _: errors.append(e) if e else None)
                break
            except BufferError:
                client.poll(0.1)
        client.poll(0)
    expect("records of the first fill left", client.flush(120), 0)
    expect("errors of the first fill", errors[:3], [])
    return sum(f.stat().st_size for f in server.data.glob(f"{topic}-*/*.log"))


def until(what, probe, server, started):
    while True:
        if server.process.poll() is not None:
            raise Failed(f"the broker ended with {server.process.returncode} as it started after a kill\n{server.last_words()}")
        try:
            if probe():
                return time.monotonic() - started
        except (OSError, KeyError):
            pass
        if time.monotonic() - started > RECOVERY_SECONDS_MAX:
            raise Failed(f"{what}: not within {RECOVERY_SECONDS_MAX} s of the start\n{server.last_words()}")
        time.sleep(0.001)


def recover(server, topic, partitions, writers):
    """Starts the broker and times how it comes back."""
    started = time.monotonic()
    server.spawn()

    def answers():
        with Connection(server.address, timeout=2) as c:
            c.ask(api_versions())
            return True

    def leads():
        with Connection(server.address, timeout=2) as c:
            error, found = leaders(c.ask(metadata([topic])))[topic]
            return error == 0 and len(found) == partitions and all(fault == 0 for fault, _ in found.values())

    port = until("an ApiVersions answer", answers, server, started)
    led = until("a leader for every partition", leads, server, started)
    acked = until("an acknowledged record", lambda: all(w.last_ack > started for w in writers), server, started)
    return port, led, acked


def verify(server, topic, writers, partitions):
    """Reads everything back and compares it with what was acknowledged."""
    found = collections.defaultdict(list)
    for message in read_all(server, topic, partitions, seconds=240):
        index, number, _ = message.value().decode().split(":")
        found[int(index)].append((int(number), message.partition(), message.offset()))
    for writer in writers:
        got = found[writer.index]
        numbers = [number for number, _, _ in got]
        counts = collections.Counter(numbers)
        missing = sorted(set(writer.acknowledged) - set(counts))
        expect(f"producer {writer.index}: acknowledged records that are missing ({len(missing)})", missing[:10], [])
        twice = sorted(n for n, c in counts.items() if c > 1)
        expect(f"producer {writer.index}: records that are there more than once ({len(twice)})", twice[:10], [])
        expect(f"producer {writer.index}: records there that were never written", sorted(set(counts) - set(range(writer.written)))[:10], [])
        for partition in writer.partitions:
            line = [number for number, p, _ in sorted(got, key=lambda x: (x[1], x[2])) if p == partition]
            back = [b for a, b in zip(line, line[1:]) if b <= a]
            expect(f"producer {writer.index}: records out of order in partition {partition}", back[:10], [])
        # Where a batch comes again that is older than what is known of a producer, the answer (46) has no offset.
        moved = [(n, p, o, writer.acknowledged[n]) for n, p, o in got if writer.acknowledged.get(n, (p, o)) not in ((p, o), (p, None))]
        expect(f"producer {writer.index}: records at another place than was acknowledged (number, partition, offset, acknowledged)", moved[:5], [])


def figures(name, times):
    times = sorted(times)
    if times:
        pick = lambda q: times[min(len(times) - 1, int(len(times) * q))] * 1000
        print(f"  {name:34} median {pick(0.5):7.0f} ms   90 % {pick(0.9):7.0f} ms   worst {times[-1] * 1000:7.0f} ms", flush=True)


def torment(server, options):
    dice = random.Random(options.seed)
    partitions = options.producers * options.partitions
    server.start()
    if options.prefill_mib:
        started = time.monotonic()
        size = prefill(server, options.prefill_mib, options.prefill_partitions)
        print(f"filled with {size / (1 << 20):.0f} MiB of log in {time.monotonic() - started:.1f} s", flush=True)
    topic = create_topic(server, "crash", partitions)
    writers = [Writer(server, topic, index, options) for index in range(options.producers)]
    for writer in writers:
        writer.start()
    times, early, kills = [], 0, 0
    while kills < options.kills:
        time.sleep(dice.uniform(options.pause_min, options.pause_max))
        server.kill()
        kills += 1
        while kills < options.kills and dice.random() < options.while_starting:
            server.spawn()
            time.sleep(dice.uniform(0, 0.1))
            server.kill()
            kills, early = kills + 1, early + 1
        times.append(recover(server, topic, partitions, writers))
        if kills % 10 < 1 or options.kills <= 10:
            print(f"  {kills:4} kills, {sum(len(w.acknowledged) for w in writers):9} records acknowledged", flush=True)
    time.sleep(0.5)
    for writer in writers:
        writer.finish()
    verify(server, topic, writers, partitions)
    server.expect_sound()
    total = sum(w.written for w in writers)
    print(f"{kills} kills ({early} of them while starting), seed {options.seed}: {total} records by {len(writers)} producers, each there once, in order", flush=True)
    for name, column in zip(("port answers after", "every partition led after", "every producer acknowledged after"), zip(*times)):
        figures(name, column)
    slow = [t[0] for t in times if t[0] > options.port_seconds_max]
    expect_that(f"the port answers within {options.port_seconds_max} s of every start", not slow or server.original, slow)


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--producers", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=2, help="partitions of each producer")
    parser.add_argument("--rate", type=int, default=3000, help="records a second of each producer")
    parser.add_argument("--prefill-mib", type=int, default=0, help="write that much log first")
    parser.add_argument("--prefill-partitions", type=int, default=1)
    parser.add_argument("--pause-min", type=float, default=0.1, help="least seconds from recovery to the next kill")
    parser.add_argument("--pause-max", type=float, default=1.0)
    parser.add_argument("--while-starting", type=float, default=0.1, help="share of kills that are followed by another within 100 ms")
    parser.add_argument("--port-seconds-max", type=float, default=1.0, help="fail when the port answers later than that")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--property", action="append", default=[], metavar="KEY=VALUE", help="a line for server.properties")
    options = parser.parse_args()
    server = harness.new_server(options)
    server.properties.update(line.split("=", 1) for line in options.property)
    try:
        torment(server, options)
    except Failed as failure:
        print(f"FAIL  seed {options.seed}: {failure}", flush=True)
        harness.finish(0, 1)
    server.stop()
    harness.finish(1, 0)


if __name__ == "__main__":
    main()
