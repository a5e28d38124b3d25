#!/usr/bin/env python3
"""The same log, compacted by us and by Apache Kafka: the batches that are left must be the same.

compaction.py [--binary PATH | --kafka] [NAME ...]. Kafka writes a directory: keys, tombstones, batches of every codec that
Python reads, idempotent producers, transactions of both kinds, one of them open. Each side gets a copy of it, compacts what it
may, gets some more records when the tombstones' time is over, and compacts again. Compared are the closed segments as they are
in their files: offsets, producers, sequences, flags, and the records. Not compared is what the clock makes different (when a
delete horizon passes), and how the batches are distributed over files.
"""

import gzip
import pathlib
import random
import shutil
import struct
import sys
import time

import harness
from harness import Kafka, check, eventually, expect, expect_that, new_server, scratch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "clients"))
from common import QUIET, admin, results  # noqa: E402

from confluent_kafka import Producer  # noqa: E402
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic  # noqa: E402

TOPIC = "compacted"
# The times of the records; a segment is begun when they go on by a second. Producers are forgotten a day after their last.
EPOCH_MS = int(time.time() * 1000) - 3_600_000
ROUND_MS = 10_000
DELETE_RETENTION_MS = 2_000
CONFIG = {
    "cleanup.policy": "compact",
    "segment.ms": 1000,
    # Never exceeded: nothing is compacted before it is said so.
    "min.cleanable.dirty.ratio": 1,
    "delete.retention.ms": DELETE_RETENTION_MS,
}
CLEANER = {"log_cleaner_backoff_ms": 50}
PLAIN, TRANSACTIONS, OPEN = range(3)


class Nobody:
    """In the place of a shared server: these checks have their own."""

    process = None


def producer(server, **config):
    config = {key.replace("_", "."): value for key, value in config.items()}
    return Producer({"bootstrap.servers": server.address, **QUIET, "linger.ms": 5, **config})


def send(one, partition, time_ms, records):
    for key, value in records:
        one.produce(TOPIC, value, key, partition, timestamp=EPOCH_MS + time_ms)
    one.flush(30)


def fill(server):
    """Several rounds of everything, from a seed."""
    config = {key: str(value) for key, value in CONFIG.items()}
    expect("create the topic", results(admin(server).create_topics([NewTopic(TOPIC, 3, 1, config=config)])), {TOPIC: None})
    choice = random.Random(5)
    pairs = lambda count: [(f"k{choice.randrange(12)}", choice.choice([None, "x" * choice.randrange(60), "v"])) for _ in range(count)]
    codecs = [producer(server, compression_type=codec) for codec in ("none", "gzip")]
    idempotent = producer(server, enable_idempotence=True)
    transactional = [producer(server, transactional_id=f"t{i}") for i in range(2)]
    for one in transactional:
        one.init_transactions(30)
    for index in range(8):
        at = index * ROUND_MS
        for one in (*codecs, idempotent):
            send(one, PLAIN, at, pairs(choice.randrange(1, 9)))
        for one in transactional:
            one.begin_transaction()
            for partition in (TRANSACTIONS, OPEN):
                send(one, partition, at, pairs(4))
        send(codecs[0], TRANSACTIONS, at, pairs(3))
        for number, one in enumerate(transactional):
            (one.commit_transaction if (index + number) % 3 else one.abort_transaction)(30)
    left_open = producer(server, transactional_id="open", transaction_timeout_ms=900_000)
    left_open.init_transactions(30)
    left_open.begin_transaction()
    send(left_open, OPEN, 8 * ROUND_MS, pairs(2))
    for index in (9, 10):
        for partition in (PLAIN, TRANSACTIONS, OPEN):
            # Every key, so that nothing but offsets and sequences is left of what the producers have written last.
            send(codecs[0], partition, index * ROUND_MS, [(f"k{key}", "newest") for key in range(12)])
    return left_open


def more(server):
    """What begins two more segments."""
    one = producer(server)
    for index in (11, 12):
        for partition in (PLAIN, TRANSACTIONS, OPEN):
            send(one, partition, index * ROUND_MS, [(f"k{index}", "late"), ("k1", "late")])


def set_ratio(server, ratio):
    entry = ConfigEntry("min.cleanable.dirty.ratio", str(ratio), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC, incremental_configs=[entry])
    (future,) = admin(server).incremental_alter_configs([resource]).values()
    future.result(20)


def checkpoint(server):
    path = server.data / "cleaner-offset-checkpoint"
    lines = path.read_text().splitlines()[2:] if path.exists() else []
    return {int(line.split()[1]): int(line.split()[2]) for line in lines if line.startswith(TOPIC + " ")}


def closed(server, partition):
    """The batches of all segments but the last one."""
    files = sorted((server.data / f"{TOPIC}-{partition}").glob("*.log"))
    return [batch for file in files[:-1] for batch in batches(file.read_bytes())]


def batches(data):
    at = 0
    while at + 61 <= len(data):
        base, length, epoch, magic, _, flags, delta, first, newest, pid, pepoch, sequence, count = struct.unpack_from(">qiibIhiqqqhii", data, at)
        if magic != 2:
            return
        body = data[at + 61 : at + 12 + length]
        at += 12 + length
        codec, has_horizon = flags & 7, bool(flags & 64)
        yield {
            "offsets": (base, base + delta),
            "leader epoch": epoch,
            "flags": flags,
            "newest": newest,
            "producer": (pid, pepoch, sequence),
            "records": list(records(gzip.decompress(body) if codec == 1 and count else body, count, base, first)),
            "has horizon": has_horizon,
        }


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def records(data, count, base, first):
    at = 0
    for _ in range(count):
        length, at = varint(data, at)
        end = at + length
        time_delta, at = varint(data, at + 1)
        offset_delta, at = varint(data, at)
        parts = []
        for _ in range(2):
            size, at = varint(data, at)
            parts.append(None if size < 0 else data[at : at + size])
            at += max(size, 0)
        yield (base + offset_delta, first + time_delta, *parts)
        at = end


def last_segment(server, partition):
    return int(max((server.data / f"{TOPIC}-{partition}").glob("*.log")).stem)


def cleaned(server, partitions):
    """Waits until everything is compacted that can be: these partitions up to the last segment, the one with the open
    transaction up to that."""
    wanted = {partition: last_segment(server, partition) for partition in partitions}
    reached = lambda: {partition: checkpoint(server).get(partition) for partition in partitions}
    eventually("compacted up to the last segment", reached, wanted, 60)
    eventually("compacted up to the open transaction", lambda: OPEN in checkpoint(server), True, 60)


@check
def the_same_batches_are_left(_):
    """What is left of a log of Kafka's after one compaction and after a second one."""
    original = Kafka(**CLEANER)
    original.start()
    left_open = fill(original)
    # Dies with its broker, and leaves its transaction open.
    original.kill()
    del left_open
    sides = []
    for server in (Kafka(**CLEANER), new_server(OPTIONS, **CLEANER)):
        shutil.copytree(original.data, server.data, ignore=shutil.ignore_patterns(".lock"))
        server.start()
        before = [len(closed(server, partition)) for partition in range(3)]
        set_ratio(server, 0)
        decided = (PLAIN, TRANSACTIONS)
        cleaned(server, decided)
        first = [closed(server, partition) for partition in range(3)]
        time.sleep(DELETE_RETENTION_MS / 1000 + 0.5)
        more(server)
        cleaned(server, decided)
        second = [closed(server, partition) for partition in range(3)]
        expect_that("fewer batches are left", all(len(first[p]) < before[p] for p in decided), (before, [len(f) for f in first]))
        sides.append((first, second))
        expect("the exit code of SIGTERM", server.stop() in (0, 143), True)
    (kafka_first, kafka_second), (our_first, our_second) = sides
    for what, kafka, ours in (("first", kafka_first, our_first), ("second", kafka_second, our_second)):
        for partition in range(3):
            pairs = zip(ours[partition], kafka[partition])
            for our, its in pairs:
                expect(f"partition {partition} after the {what} compaction", our, its)
            expect(f"batches of partition {partition} after the {what}", len(ours[partition]), len(kafka[partition]))
    horizons = [batch for partition in our_first for batch in partition if batch["has horizon"]]
    expect_that("tombstones got a horizon", horizons)
    empty = [batch for partition in our_second for batch in partition if not batch["records"]]
    expect_that("the last batches of producers stay, empty", empty)


if __name__ == "__main__":
    parser = harness.arguments(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    OPTIONS = parser.parse_args()
    harness.finish(*harness.run_checks(OPTIONS, Nobody(), harness.CHECKS, OPTIONS.names))
