#!/usr/bin/env python3
"""What a broker must survive: broken frames, lying lengths, bad records, rude clients, and starts that cannot succeed.

bad_input.py [--binary PATH | --kafka] [--idle N] [NAME ...]. Needs nothing but Python. NAME picks the checks whose name contains it.
After each check the broker still runs, no thread of it has panicked, and it serves others.
"""

import gzip
import os
import pathlib
import random
import re
import shutil
import socket
import stat
import struct
import subprocess
import threading
import time
import zlib

import harness
from harness import Failed, Tidelog, eventually, expect, expect_that, free_port, run, scratch
from wire import (
    FETCH, FIND_COORDINATOR, HEARTBEAT, JOIN_GROUP, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, PRODUCE,
    Closed, Connection, api_versions, batch, fetch, fetched, framed, leaders, metadata, produce, produced, record, request, string, varint,
)  # fmt: skip

CHECKS = []
IDLE_CONNECTIONS = 1000
MIB = 1024  # KiB, the unit of /proc/PID/status


def check(function):
    CHECKS.append(function)
    return function


def new_topic(server, name):
    """Creates a topic by asking for its metadata, and waits for its leader."""
    name = f"{name}-{os.urandom(3).hex()}"
    with Connection(server.address) as c:
        eventually(f"a leader for {name}", lambda: leaders(c.ask(metadata([name]))).get(name), (0, {0: (0, 1)}))
    return name


def expect_serves(server, topic=None):
    """A fresh client produces a record and reads it back."""
    topic = topic or server.probe_topic
    with Connection(server.address) as c:
        error, offset = produced(c.ask(produce(topic, batch([record(b"alive")]))))
        expect("error of a good record", error, 0)
        error, high_watermark, records = fetched(c.ask(fetch(topic, offset)))
        expect("fetch of a good record", (error, high_watermark > offset, b"alive" in records), (0, True, True))


def expect_closed(server, what, data):
    with Connection(server.address, timeout=5) as c:
        try:
            c.send(data)
        except Closed:
            return
        expect(what, c.answer_or_end(), "closed")


# --- frames ---


@check
def a_length_below_zero_or_above_the_limit(server):
    """A frame that says it is of negative size, or larger than socket.request.max.bytes: the connection is closed, nothing is read."""
    for length in (-1, -(2**31), 104_857_601, 2**31 - 1):
        expect_closed(server, f"a frame of {length} bytes", struct.pack(">i", length) + b"x" * 100)


@check
def a_frame_too_small_for_a_header(server):
    """Frames of 0 to 7 bytes hold no request header: closed."""
    for length in range(8):
        expect_closed(server, f"a frame of {length} bytes", framed(api_versions()[:length]))


@check
def promised_bytes_are_not_allocated(server):
    """Two hundred clients announce 100 MiB each and send ten bytes: the memory stays where it was."""
    if server.original:
        return  # it allocates what was announced
    resident, virtual = server.status("VmRSS"), server.status("VmSize")
    clients = [Connection(server.address) for _ in range(200)]
    for c in clients:
        c.send(struct.pack(">i", 104_857_600) + b"\0\0\0\3\0\1\0\0\0\1")
    time.sleep(1)
    expect_serves(server)
    expect_that("resident memory grew by less than 16 MiB", server.status("VmRSS") - resident < 16 * MIB, f"{(server.status('VmRSS') - resident) / MIB:.1f} MiB")
    expect_that("virtual memory grew by less than 1 GiB", server.status("VmSize") - virtual < 1024 * MIB, f"{(server.status('VmSize') - virtual) / MIB:.1f} MiB")
    for c in clients:
        c.close()


@check
def lengths_that_lie_inside_a_request(server):
    """Array, string and byte lengths far beyond the frame, or below -1: closed, and nothing is allocated for them."""
    resident = server.status("VmPeak")
    huge = struct.pack(">i", 2**31 - 1)
    bodies = {
        "Metadata, topics": request(METADATA, 1, huge),
        "Metadata, name": request(METADATA, 1, struct.pack(">ih", 1, 32_767) + b"abc"),
        "Metadata, name below -1": request(METADATA, 1, struct.pack(">ih", 1, -9) + b"abc"),
        "Produce, topics": request(PRODUCE, 3, string(None) + struct.pack(">hi", 1, 1000) + huge),
        "Produce, records": request(PRODUCE, 3, string(None) + struct.pack(">hii", 1, 1000, 1) + string("t") + struct.pack(">ii", 1, 0) + huge),
        "Fetch, topics": request(FETCH, 4, struct.pack(">iiiib", -1, 0, 0, 1000, 0) + huge),
        "ListOffsets, topics": request(LIST_OFFSETS, 1, struct.pack(">i", -1) + huge),
        "JoinGroup, protocols": request(JOIN_GROUP, 0, string("g") + struct.pack(">i", 6000) + string("") + string("consumer") + huge),
        "Metadata 12, compact array": struct.pack(">hhi", METADATA, 12, 1) + string("c") + b"\0" + b"\xff\xff\xff\xff\x07" + b"\0" * 8,
        "Metadata 12, endless varint": struct.pack(">hhi", METADATA, 12, 1) + string("c") + b"\0" + b"\xff" * 20,
        "Metadata 12, tagged fields": struct.pack(">hhi", METADATA, 12, 1) + string("c") + b"\xff\xff\xff\xff\x07" + b"\0" * 8,
    }
    for what, message in bodies.items():
        expect_closed(server, what, framed(message))
    if not server.original:
        grown = server.status("VmPeak") - resident
        expect_that("peak of virtual memory grew by less than 512 MiB", grown < 512 * MIB, f"{grown / MIB:.1f} MiB")


@check
def unknown_apis_and_versions(server):
    """An unknown API key or version closes the connection, but ApiVersions answers UNSUPPORTED_VERSION in version 0 and goes on."""
    for key, version in [(999, 0), (-1, 0), (32_767, 0), (METADATA, 99), (METADATA, -1), (PRODUCE, 2), (FETCH, 3), (FETCH, 100), (4, 0), (FIND_COORDINATOR, 77)]:
        expect_closed(server, f"API {key} version {version}", framed(request(key, version, b"\0" * 40)))
    for version in (99, 127, 32_767, -1):
        with Connection(server.address, timeout=5) as c:
            answer = c.ask(request(18, version, b"\0" * 3))
            error, count, key, low, high = struct.unpack_from(">hihhh", answer)
            expect(f"ApiVersions {version}: error, entries, key, least version, length", (error, count, key, low, len(answer)), (35, 1, 18, 0, 12))
            again = c.ask(api_versions(2))
            expect(f"ApiVersions {version}: error of the next request", struct.unpack_from(">h", again), (0,))


@check
def truncated_requests(server):
    """Each good request cut off at every byte, in a frame of the right and of the whole size: closed or left waiting, never wrong."""
    samples = [api_versions(), metadata(["t"]), produce("t", batch()), fetch("t"), request(LIST_OFFSETS, 1, struct.pack(">ii", -1, 1) + string("t") + struct.pack(">iiq", 1, 0, -1))]
    for sample in samples:
        for cut in range(len(sample)):
            with Connection(server.address, timeout=5) as c:
                c.send(framed(sample)[: 4 + cut])
                c.socket.shutdown(socket.SHUT_WR)
                expect(f"API {sample[1]} cut after {cut} bytes, frame unfinished", c.answer_or_end(), "closed")
            if cut >= 10 + len("wire"):
                expect_closed(server, f"API {sample[1]} of only {cut} bytes", framed(sample[:cut]))


@check
def random_bytes(server):
    """Noise, framed noise, noise behind good headers, and good requests with flipped bits: the broker goes on."""
    dice = random.Random(20_260)
    samples = [api_versions(), metadata(["t"]), metadata(None), produce("t", batch()), fetch("t"), request(FIND_COORDINATOR, 0, string("g"))]
    for n in range(1500):
        kind = n % 4
        if kind == 0:
            data = dice.randbytes(dice.randrange(1, 400))
        elif kind == 1:
            data = framed(dice.randbytes(dice.randrange(1, 400)))
        elif kind == 2:
            data = framed(request(dice.randrange(0, 93), dice.randrange(0, 14), dice.randbytes(dice.randrange(0, 200))))
        else:
            sample = bytearray(dice.choice(samples))
            for _ in range(dice.randrange(1, 6)):
                sample[dice.randrange(8, len(sample))] ^= 1 << dice.randrange(8)
            data = framed(bytes(sample))
        with Connection(server.address) as c:
            try:
                c.send(data)
                if n % 10 == 0:
                    c.socket.settimeout(0.1)
                    c.answer_or_end()
            except Closed:
                pass
        if n % 250 == 249:
            expect_serves(server)


# --- clients ---


@check
def requests_in_one_go(server):
    """Three hundred requests in one write, cut at odd places, are answered in order."""
    topic, ids = server.probe_topic, range(1, 301)
    make = [api_versions, lambda i: metadata([topic], i), lambda i: produce(topic, batch(), correlation_id=i), lambda i: fetch(topic, max_wait_ms=0, max_bytes=1000, correlation_id=i)]
    data = b"".join(framed(make[i % 4](i)) for i in ids)
    with Connection(server.address) as c:
        for start in range(0, len(data), 777):
            c.send(data[start : start + 777])
        expect("correlation ids", [c.receive()[0] for _ in ids], list(ids))


@check
def a_waiting_request_does_not_overtake(server):
    """A fetch that waits holds back the answers behind it on its own connection, and nothing else."""
    topic = new_topic(server, "order")
    with Connection(server.address) as c:
        c.send(framed(fetch(topic, max_wait_ms=1500, correlation_id=1)) + framed(api_versions(2)))
        started = time.monotonic()
        expect_serves(server)
        expect_that("others are served meanwhile", time.monotonic() - started < 1, f"{time.monotonic() - started:.1f} s")
        expect("order of the answers", [c.receive()[0], c.receive()[0]], [1, 2])
        expect_that("the fetch waited", time.monotonic() - started > 1.3, f"{time.monotonic() - started:.1f} s")


@check
def one_byte_at_a_time(server):
    """Twenty clients send one byte a second: each gets its answer in the end, and others do not notice."""
    message = framed(api_versions())
    clients = [Connection(server.address) for _ in range(20)]
    slowest = 0
    for byte in message:
        for c in clients:
            c.send(bytes([byte]))
        until = time.monotonic() + 1
        while time.monotonic() < until:
            started = time.monotonic()
            expect_serves(server)
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.1)
    for c in clients:
        expect("answer to a slow client", struct.unpack(">h", c.receive()[1][:2]), (0,))
        c.close()
    expect_that("others were served within half a second", slowest < 0.5, f"{slowest:.2f} s")


@check
def a_client_that_never_reads(server):
    """Clients ask for a mebibyte again and again and read nothing: the broker stops listening to them, its memory stays bounded."""
    topic = new_topic(server, "unread")
    with Connection(server.address) as c:
        for _ in range(8):
            expect("error", produced(c.ask(produce(topic, batch([record(os.urandom(130_000))]))))[0], 0)
    before = server.status("VmRSS")
    clients, sent = [Connection(server.address) for _ in range(10)], 0
    for c in clients:
        c.socket.settimeout(0.5)
        try:
            for _ in range(20_000):
                c.socket.sendall(framed(fetch(topic, max_bytes=1 << 20)) * 10)
                sent += 10
        except (TimeoutError, ConnectionError):
            pass
    expect_serves(server)
    grown = server.status("VmRSS") - before
    if not server.original:
        expect_that("resident memory grew by less than 64 MiB", grown < 64 * MIB, f"{grown / MIB:.1f} MiB after {sent} requests by 10 clients")
    for c in clients:
        c.close()
    expect_serves(server)


@check
def a_client_that_goes_away(server):
    """Two thousand connections that end in the middle of something leave no file open."""
    expect_serves(server)
    before = server.open_files()
    dice = random.Random(7)
    for n in range(2000):
        c = Connection(server.address)
        message = framed(fetch(server.probe_topic, offset=0, max_wait_ms=60_000, min_bytes=1 << 30))
        c.send(message[: dice.randrange(len(message) + 1)] if n % 2 else message * 3)
        if n % 3 == 0:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a farewell
        c.close()
    eventually("open files as before", lambda: server.open_files() <= before + 5, seconds=20)


@check
def idle_connections(server):
    """Thousands of connections that have said hello and are silent: others are served as before, each costs little."""
    before, started = server.status("VmRSS"), time.monotonic()
    clients = []
    for _ in range(IDLE_CONNECTIONS):
        c = Connection(server.address)
        c.ask(api_versions())
        clients.append(c)
    took = time.monotonic() - started
    waits = []
    for _ in range(50):
        started = time.monotonic()
        expect_serves(server)
        waits.append(time.monotonic() - started)
    cost = (server.status("VmRSS") - before) / len(clients)
    print(f"      {len(clients)} idle connections in {took:.1f} s: {cost:.1f} KiB each, a record and its fetch in {sorted(waits)[25] * 1000:.1f} ms", flush=True)
    if not server.original:
        expect_that("an idle connection costs less than 40 KiB", cost < 40, f"{cost:.1f} KiB")
    expect_that("others are served within 200 ms (median)", sorted(waits)[25] < 0.2, f"{sorted(waits)[25]:.3f} s")
    for c in clients[::100]:
        expect("an idle connection still answers", struct.unpack(">h", c.ask(api_versions())[:2]), (0,))
    for c in clients:
        c.close()


# --- records ---

UNKNOWN_SERVER_ERROR, NONE, CORRUPT_MESSAGE, UNKNOWN_TOPIC_OR_PARTITION, MESSAGE_TOO_LARGE = -1, 0, 2, 3, 10
INVALID_REQUIRED_ACKS, INVALID_TIMESTAMP = 21, 32
OUT_OF_ORDER_SEQUENCE, INVALID_PRODUCER_EPOCH, TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 45, 47, 53
UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD = 76, 87

TWO = [record(b"one"), record(b"two", delta=1)]
NOW = int(time.time() * 1000)


# Kafka 4.3.1 answers these with UNKNOWN_SERVER_ERROR because an exception slips through; a code that says what is wrong is as good.
BROKEN = (UNKNOWN_SERVER_ERROR, CORRUPT_MESSAGE, INVALID_RECORD)
UNKNOWN_CODEC = (*BROKEN, UNSUPPORTED_COMPRESSION_TYPE)
# Kafka 4.3.1 takes these as they are although its own rules forbid them; a refusal is as good.
TAKEN_OR_REFUSED = (NONE, INVALID_RECORD, INVALID_TIMESTAMP)


def gzipped(records):
    return gzip.compress(b"".join(records), 1)


BAD_RECORDS = {
    "a good batch": (NONE, batch(TWO)),
    "an empty record set": (INVALID_RECORD, b""),
    "two batches": (INVALID_RECORD, batch() + batch()),
    "magic 0": (INVALID_RECORD, batch(magic=0)),
    "magic 1": (INVALID_RECORD, batch(magic=1)),
    "magic 3": (CORRUPT_MESSAGE, batch(magic=3)),
    "base offset 5": (INVALID_RECORD, batch(base_offset=5)),
    "a CRC that is wrong": (CORRUPT_MESSAGE, batch(crc=1)),
    "a batch length past the end": (INVALID_RECORD, batch(length=5000)),
    "a batch length of 10": (CORRUPT_MESSAGE, batch(length=10)),
    "a batch length of -1": (CORRUPT_MESSAGE, batch(length=-1)),
    "a batch cut off": (INVALID_RECORD, batch()[:-3]),
    "a header only": (INVALID_RECORD, batch()[:30]),
    "a control batch": (INVALID_RECORD, batch(attributes=0x20)),
    "no records": (INVALID_RECORD, batch([], count=0, last_offset_delta=-1)),
    "a count below zero": (INVALID_RECORD, batch(count=-1)),
    "a count above what is there": (INVALID_RECORD, batch(TWO, count=3, last_offset_delta=2)),
    "a count of two thousand million": (INVALID_RECORD, batch(TWO, count=2**31 - 1, last_offset_delta=2**31 - 2)),
    "a count below what is there": (INVALID_RECORD, batch(TWO, count=1, last_offset_delta=0)),
    "a last offset delta that is not count - 1": (INVALID_RECORD, batch(TWO, last_offset_delta=7)),
    "inner offsets 0 and 2": (TAKEN_OR_REFUSED, batch([record(b"a"), record(b"b", delta=2)], last_offset_delta=1)),
    "a producer id without a sequence": (INVALID_RECORD, batch(producer_id=77, producer_epoch=0, base_sequence=-1)),
    "a transactional batch without an id": (TRANSACTIONAL_ID_AUTHORIZATION_FAILED, batch(attributes=0x10, producer_id=78, producer_epoch=0, base_sequence=0)),
    "record attributes": (NONE, batch([record(b"a", attributes=3)])),
    "bytes left over": (INVALID_RECORD, batch(raw=record(b"a") + b"more")),
    "a record cut off": (INVALID_RECORD, batch(raw=record(b"value")[:-2])),
    "a record length past the end": (INVALID_RECORD, batch(raw=varint(1000) + record(b"a")[1:])),
    "a record length below zero": (INVALID_RECORD, batch(raw=varint(-3) + record(b"a")[1:])),
    "a varint without an end": (BROKEN, batch(raw=b"\xff" * 30)),
    "a key length past the record": (INVALID_RECORD, batch(raw=varint(20) + b"\0\0\0" + varint(1_000_000) + b"x" * 20)),
    "a header count below zero": (INVALID_RECORD, batch([record(b"a", headers=varint(-5))])),
    "a header count of a million": (INVALID_RECORD, batch([record(b"a", headers=varint(1_000_000))])),
    "a header without a key": (INVALID_RECORD, batch([record(b"a", headers=varint(1) + varint(-1) + varint(1) + b"v")])),
    "codec 5": (UNKNOWN_CODEC, batch(attributes=5)),
    "codec 7": (UNKNOWN_CODEC, batch(attributes=7)),
    "a good batch in gzip": (NONE, batch(TWO, raw=gzipped(TWO), attributes=1)),
    "gzip that is none": (BROKEN, batch(TWO, raw=b"not gzip at all", attributes=1)),
    "gzip cut off": (BROKEN, batch(TWO, raw=gzipped(TWO)[:-12], attributes=1)),
    "snappy that is none": (BROKEN, batch(TWO, raw=b"\xff not snappy", attributes=2)),
    "lz4 that is none": (BROKEN, batch(TWO, raw=b"\xff not lz4 at all", attributes=3)),
    "record attributes in gzip": (TAKEN_OR_REFUSED, batch([record(b"a", attributes=3)], raw=gzipped([record(b"a", attributes=3)]), attributes=1)),
    "bytes left over in gzip": (INVALID_RECORD, batch(TWO, raw=gzipped(TWO + [b"more"]), attributes=1)),
    "inner offsets 0 and 2 in gzip": (BROKEN, batch([b"", b""], raw=gzipped([record(b"a"), record(b"b", delta=2)]), attributes=1)),
    "zstd before Produce 7": (UNSUPPORTED_COMPRESSION_TYPE, batch(attributes=4)),
    "a timestamp in two hours": (INVALID_TIMESTAMP, batch(base_timestamp=NOW + 7_200_000, max_timestamp=NOW + 7_200_000)),
    "the append time bit set by a client": (TAKEN_OR_REFUSED, batch(attributes=8)),
    "a batch above max.message.bytes": (MESSAGE_TOO_LARGE, batch([record(bytes(1_048_600))])),
}  # fmt: skip


@check
def bad_records(server):
    """Each kind of broken batch gets the error code that Kafka 4.3.1 gives it, and nothing of it is written."""
    topic, wrong, end = new_topic(server, "records"), [], 0
    for what, (want, records) in BAD_RECORDS.items():
        with Connection(server.address, timeout=5) as c:
            c.send(framed(produce(topic, records)))
            answer = c.answer_or_end()
        got = answer if isinstance(answer, str) else produced(answer)[0]
        if got not in (want if isinstance(want, tuple) else (want,)):
            wrong.append(f"{what}: error {got}, expected {want}")
        with Connection(server.address) as c:
            grown, end = end, fetched(c.ask(fetch(topic, max_wait_ms=0)))[1]
        if (end > grown) != (got == NONE):
            wrong.append(f"{what}: error {got}, and the log has gone from {grown} to {end}")
    if wrong:
        raise Failed("records with another outcome than Kafka's:\n    " + "\n    ".join(wrong))


@check
def bad_produce_requests(server):
    """acks out of range, partitions and topics that are not there, no records at all; acks=0 closes instead of answering."""
    topic = new_topic(server, "requests")
    cases = {
        "acks 2": (INVALID_REQUIRED_ACKS, produce(topic, batch(), acks=2)),
        "acks -2": (INVALID_REQUIRED_ACKS, produce(topic, batch(), acks=-2)),
        "partition 1": (UNKNOWN_TOPIC_OR_PARTITION, produce(topic, batch(), partition=1)),
        "partition -1": (UNKNOWN_TOPIC_OR_PARTITION, produce(topic, batch(), partition=-1)),
        "a topic that is not there": (UNKNOWN_TOPIC_OR_PARTITION, produce("not-there", batch())),
        "an impossible topic": (UNKNOWN_TOPIC_OR_PARTITION, produce("a b/../c", batch())),
        "records null": (INVALID_RECORD, produce(topic, None)),
    }
    for what, (want, message) in cases.items():
        if server.original and what == "records null":
            continue  # it never answers
        with Connection(server.address) as c:
            c.send(framed(message))
            answer = c.answer_or_end()
            expect(f"{what}: error", answer if isinstance(answer, str) else produced(answer)[0], want)
    for what, message in {"to a partition that is not there": produce(topic, batch(), partition=7, acks=0), "with a bad CRC": produce(topic, batch(crc=1), acks=0)}.items():
        expect_closed(server, f"acks=0 {what}", framed(message))
    expect_serves(server, topic)


@check
def one_bad_partition_among_good_ones(server):
    """A bad batch fails for its own topic only; the others of the request are written."""
    topics = [new_topic(server, f"mixed{n}") for n in range(3)]
    body = string(None) + struct.pack(">hii", -1, 10_000, 3)
    for topic, records in zip(topics, (batch(), batch(crc=9), batch())):
        body += string(topic) + struct.pack(">iii", 1, 0, len(records)) + records
    with Connection(server.address) as c:
        answer, at, got = c.ask(request(PRODUCE, 3, body)), 4, {}
        for _ in range(3):
            [length] = struct.unpack_from(">h", answer, at)
            name = answer[at + 2 : at + 2 + length].decode()
            got[name] = struct.unpack_from(">ihq", answer, at + 2 + length + 4)[1:]
            at += 2 + length + 4 + 22
        expect("error and base offset", [got[t] for t in topics], [(NONE, 0), (CORRUPT_MESSAGE, -1), (NONE, 0)])


@check
def sequences(server):
    """Idempotence on the wire: a repeated batch gets its old offset, a gap 45, an old epoch 47, and a wrap past 2^31 - 1 works."""
    topic = new_topic(server, "sequences")
    with Connection(server.address) as c:
        send = lambda pid, epoch, sequence, count=1: produced(
            c.ask(produce(topic, batch([record(b"v", delta=n) for n in range(count)], producer_id=pid, producer_epoch=epoch, base_sequence=sequence)))
        )
        expect("six batches", [send(900, 3, n) for n in range(6)], [(NONE, n) for n in range(6)])
        expect("the last five again", [send(900, 3, n) for n in (5, 4, 3, 2, 1)], [(NONE, n) for n in (5, 4, 3, 2, 1)])
        expect("the sixth from the end again", send(900, 3, 0)[0], OUT_OF_ORDER_SEQUENCE)
        expect("a gap", send(900, 3, 8)[0], OUT_OF_ORDER_SEQUENCE)
        expect("the right one after the gap", send(900, 3, 6, 4), (NONE, 6))
        expect("an old epoch", send(900, 2, 10)[0], INVALID_PRODUCER_EPOCH)
        expect("a new epoch that does not start at 0", send(900, 4, 1)[0], OUT_OF_ORDER_SEQUENCE)
        expect("a new epoch", send(900, 4, 0), (NONE, 10))
        expect("an unknown producer may start anywhere", send(901, 0, 2**31 - 2, 2), (NONE, 11))
        expect("the sequence after 2^31 - 1", send(901, 0, 0), (NONE, 13))
    server.kill()
    server.start()
    with Connection(server.address) as c:
        again = lambda: produced(c.ask(produce(topic, batch([record(b"v")], producer_id=901, producer_epoch=0, base_sequence=0))))
        eventually("a repeated batch after kill -9", again, (NONE, 13))
        gap = produced(c.ask(produce(topic, batch([record(b"v")], producer_id=900, producer_epoch=4, base_sequence=5))))
        expect("a gap after kill -9", gap[0], OUT_OF_ORDER_SEQUENCE)


@check
def a_batch_that_unpacks_to_much(server):
    """A batch of 100 KiB that unpacks to 100 MiB does not take 100 MiB of memory."""
    topic = new_topic(server, "bomb")
    value = bytes(100 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    length = varint(0) + varint(0) + varint(-1) + varint(len(value))
    head = varint(1 + len(length) + len(value) + 1) + b"\0" + length
    raw = packer.compress(head) + packer.compress(value) + packer.compress(b"\0") + packer.flush()
    del value
    before = server.status("VmHWM")
    with Connection(server.address, timeout=30) as c:
        for _ in range(3):
            answer = c.ask(produce(topic, batch([b""], raw=raw, attributes=1)))
            expect("error of a batch that unpacks to 100 MiB", produced(answer)[0], NONE)
    if not server.original:
        grown = server.status("VmHWM") - before
        expect_that("peak memory grew by less than 32 MiB", grown < 32 * MIB, f"{grown / MIB:.1f} MiB")


@check
def a_disk_that_fails(server):
    """Writes fail once a file has 24 MiB: with its only directory lost the broker ends and says so; what was acknowledged is there again."""
    if server.original:
        return
    own = Tidelog(server.binary)
    own.file_bytes_max = 24 * 1024 * 1024
    own.start()
    full, other = new_topic(own, "full"), new_topic(own, "other")
    value, acknowledged, errors = os.urandom(900_000), [], []
    for _ in range(40):
        try:
            with Connection(own.address, timeout=10) as c:
                c.send(framed(produce(full, batch([record(value)]))))
                answer = c.answer_or_end()
        except ConnectionError:
            answer = "refused"
        error, offset = (answer, None) if isinstance(answer, str) else produced(answer)
        if errors and error == NONE:
            raise Failed(f"a record was acknowledged at offset {offset} after the partition had failed with {errors}")
        (errors.append(error) if error != NONE else acknowledged.append(offset))
        if len(errors) == 5:
            break
    expect_that("a failed write is an error to the client", errors, f"{len(acknowledged)} records acknowledged, the last at {acknowledged[-1]}")
    known = {56, 6, "closed", "refused"}
    expect_that("the error is KAFKA_STORAGE_ERROR or NOT_LEADER_OR_FOLLOWER, or the connection ends", set(errors) <= known, errors)
    expect("the exit code of a broker that has lost its only directory", own.process.wait(30), 1)
    expect_that("it says why it ended", str(own.data) in own.last_words(), own.last_words())
    own.file_bytes_max = None
    own.start()
    with Connection(own.address) as c:
        for offset in acknowledged:
            error, _, records = fetched(c.ask(fetch(full, offset, max_bytes=1_000_000)))
            expect(f"fetch of acknowledged offset {offset} after a restart (error, content)", (error, value in records), (NONE, True))
    expect_serves(own, full)
    expect_serves(own, other)
    own.stop()



# --- groups ---

UNKNOWN_MEMBER_ID = 25


def commit(group, topic, offset):
    body = string(group) + struct.pack(">i", -1) + string("") + struct.pack(">qi", -1, 1) + string(topic)
    return request(OFFSET_COMMIT, 2, body + struct.pack(">iiq", 1, 0, offset) + string("note"))


def committed(address, group, topic):
    """The committed offset, or the error code as text."""
    with Connection(address) as c:
        answer = c.ask(request(OFFSET_FETCH, 2, string(group) + struct.pack(">i", 1) + string(topic) + struct.pack(">ii", 1, 0)))
    error = struct.unpack(">h", answer[-2:])[0]
    return struct.unpack_from(">q", answer, 4 + 2 + len(topic) + 4 + 4)[0] if error == NONE else f"error {error}"


def commit_offset(address, group, topic, offset):
    """Commits as soon as the group has a coordinator that has loaded its log."""
    with Connection(address) as c:
        eventually(f"a coordinator of {group}", lambda: struct.unpack_from(">h", c.ask(request(FIND_COORDINATOR, 0, string(group))))[0], NONE)
        eventually(f"a commit of {group}", lambda: struct.unpack(">h", c.ask(commit(group, topic, offset))[-2:])[0], NONE)


@check
def a_damaged_record_of_a_group(server):
    """Records of __consumer_offsets that nobody can read: the log names their offsets, all other groups load."""
    if server.original:
        return
    own = Tidelog(server.binary, offsets_topic_num_partitions=1)
    own.start()
    topic = new_topic(own, "damaged")
    for n in range(3):
        commit_offset(own.address, f"before-{n}", topic, n)
    own.kill()
    log = own.data / "__consumer_offsets-0" / "00000000000000000000.log"
    good, end, at = log.read_bytes(), 0, 0
    while at + 61 <= len(good):
        base, size = struct.unpack_from(">qi", good, at)
        end, at = base + struct.unpack_from(">i", good, at + 23)[0] + 1, at + 12 + size
    bad = {
        "a key cut short": record(b"value", key=b"\0\1\0\x09cut"),
        "a key of no bytes": record(b"value", key=b""),
        "a value cut short": record(b"\0\4\0", key=struct.pack(">h", 1) + string("cut") + string(topic) + struct.pack(">i", 0)),
        "a value of an unknown version": record(b"\x7f\0", key=struct.pack(">h", 1) + string("new") + string(topic) + struct.pack(">i", 0)),
    }
    with open(log, "r+b") as file:
        file.seek(at)
        for n, one in enumerate(bad.values()):
            file.write(batch([one], base_offset=end + n, leader_epoch=0))
        file.truncate()
    own.start()
    for n in range(3):
        commit_offset(own.address, f"after-{n}", topic, 10 + n)
        expect(f"committed before the damage, {n}", committed(own.address, f"before-{n}", topic), n)
    own.kill()
    own.start()
    for n in range(3):
        commit_offset(own.address, "probe", topic, 0)
        got = [committed(own.address, f"{when}-{n}", topic) for when in ("before", "after")]
        expect(f"committed around the damage, {n}", got, [n, 10 + n])
    words = own.printed() + own.errors.read_text()
    for n, what in enumerate(bad):
        expect_that(f"{what}: the log names __consumer_offsets-0 and offset {end + n}", re.search(rf"__consumer_offsets-0\b.*\b{end + n}\b", words), words[-2000:])
    own.expect_sound()
    own.stop()


@check
def a_damaged_batch_of_a_group(server):
    """A bit that has flipped on the disk, in __consumer_offsets: the log names the offsets of the batch, all other groups load."""
    if server.original:
        return
    own = Tidelog(server.binary, offsets_topic_num_partitions=1)
    own.start()
    topic = new_topic(own, "flipped")
    for n in range(3):
        commit_offset(own.address, f"group-{n}", topic, n)
    own.stop()
    log = own.data / "__consumer_offsets-0" / "00000000000000000000.log"
    content = bytearray(log.read_bytes())
    content[content.index(b"group-1") + 1] ^= 1
    log.write_bytes(content)
    own.start()
    commit_offset(own.address, "probe", topic, 0)
    expect("committed", [committed(own.address, f"group-{n}", topic) for n in range(3)], [0, -1, 2])
    words = own.printed() + own.errors.read_text()
    expect_that("the log names the batch", re.search(r"__consumer_offsets-0\b.*offsets 1 to 1\b", words), words[-2000:])
    own.expect_sound()
    own.stop()


@check
def a_storm_of_heartbeats(server):
    """Forty thousand heartbeats of members and groups that nobody knows, all at once: each is refused, memory stays, others are served."""
    before, connections = server.status("VmRSS"), 10
    commit_offset(server.address, "storm", server.probe_topic, 1)
    beats = [request(HEARTBEAT, 0, string(group) + struct.pack(">i", n) + string(f"member-{n}"), n) for n in range(2000) for group in ("storm", f"unknown-{n}")]
    storm = b"".join(map(framed, beats))
    clients = [Connection(server.address, timeout=30) for _ in range(connections)]
    senders = [threading.Thread(target=c.send, args=[storm]) for c in clients]
    for sender in senders:
        sender.start()
    expect_serves(server)
    errors = set()
    for c in clients:
        for _ in beats:
            errors.add(struct.unpack(">h", c.receive()[1])[0])
        c.close()
    for sender in senders:
        sender.join()
    expect("errors", errors, {UNKNOWN_MEMBER_ID})
    if not server.original:
        grown = server.status("VmRSS") - before
        expect_that("memory grew by less than 16 MiB", grown < 16 * MIB, f"{grown / MIB:.1f} MiB")
    expect("the group that is there", committed(server.address, "storm", server.probe_topic), 1)


# --- starts ---


def tree(folder):
    """Every path below a folder with its kind, mode, time of change and content."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        state = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(state.st_mode) else None
        found[str(path.relative_to(folder))] = (stat.S_IFMT(state.st_mode), stat.S_IMODE(state.st_mode), state.st_mtime_ns, content)
    return found


def expect_refusal(binary, what, arguments, words, folder=None, **options):
    """The broker ends with exit code 2 and one line that has all of `words`, and leaves `folder` as it was."""
    before = tree(folder) if folder else None
    try:
        done = subprocess.run([binary, "broker", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, **options)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{what}: the broker did not end; it said {late.stdout!r} {late.stderr!r}") from None
    said = f"exit code {done.returncode}\n    stdout: {done.stdout!r}\n    stderr: {done.stderr!r}"
    expect_that(f"{what}: exit code 2", done.returncode == 2, said)
    expect_that(f"{what}: one line on standard error and nothing else", len(done.stderr.splitlines()) == 1 and not done.stdout, said)
    missing = [word for word in words if word not in done.stderr]
    expect_that(f"{what}: the line names {missing}", not missing, said)
    if folder:
        after = tree(folder)
        changed = {path: (before.get(path), after.get(path)) for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        expect(f"{what}: changes on disk", changed, {})


def listener():
    return "--listener", f"127.0.0.1:{free_port()}"


@check
def starts_that_cannot_succeed(server):
    """A second broker, a port in use, a directory that cannot be written, foreign data: exit code 2, one line, nothing changed."""
    if server.original:
        return
    home = scratch("starts")
    refuse = lambda *arguments, **options: expect_refusal(server.binary, *arguments, **options)

    refuse("a second broker on the directory", [*listener(), "--data", server.data], [str(server.data)])
    expect_serves(server)

    empty, absent = home / "empty", home / "absent"
    empty.mkdir()
    refuse("a port in use, empty directory", ["--listener", server.address, "--data", empty], [str(server.port)], folder=home)
    refuse("a port in use, no directory", ["--listener", server.address, "--data", absent], [str(server.port)], folder=home)
    refuse("an address that is not ours", ["--listener", "192.0.2.1:9092", "--data", empty], ["192.0.2.1"], folder=home)

    (home / "file").write_text("not a directory")
    refuse("a file for a directory", [*listener(), "--data", home / "file"], [str(home / "file")], folder=home)
    refuse("a directory below a file", [*listener(), "--data", home / "file" / "data"], [str(home / "file")], folder=home)
    as_nobody(server, home, refuse)


def as_nobody(server, home, refuse):
    """Root may write anywhere, so a directory that cannot be written needs another user."""
    sealed, binary = home / "sealed", home / "tidelog"
    sealed.mkdir(mode=0o755)
    shutil.copy(server.binary, binary)
    home.chmod(0o755)
    other = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    if not other:
        sealed.chmod(0o555)
    expect_refusal(binary, "a directory that cannot be written", [*listener(), "--data", sealed], [str(sealed)], folder=sealed, **other)
    expect_refusal(binary, "a directory that cannot be made", [*listener(), "--data", sealed / "new"], [str(sealed / "new")], folder=sealed, **other)


@check
def foreign_and_damaged_identity(server):
    """meta.properties of another node, of another format, or cut short: exit code 2, one line, nothing changed."""
    if server.original:
        return
    refuse = lambda *arguments, **options: expect_refusal(server.binary, *arguments, **options)
    own = Tidelog(server.binary)
    own.start()
    own.stop()
    good = (own.data / "meta.properties").read_text()
    broken = {
        "another node id": (good.replace("node.id=1\n", "node.id=7\n"), ["node.id", "7", str(own.data)]),
        "an unknown version": (good.replace("version=1\n", "version=99\n"), ["meta.properties", "version", "99"]),
        "no cluster id": ("".join(line for line in good.splitlines(True) if not line.startswith("cluster.id")), ["meta.properties", "cluster.id"]),
        "a node id that is no number": (good.replace("node.id=1\n", "node.id=one\n"), ["meta.properties", "node.id"]),
        "an empty file": ("", ["meta.properties"]),
        "bytes that are no text": ("\0\0\0\0", ["meta.properties"]),
    }
    for what, (text, words) in broken.items():
        expect_that(f"{what}: the test has changed the file", text != good, good)
        (own.data / "meta.properties").write_text(text)
        refuse(f"meta.properties with {what}", ["--config", own.properties_file], words, folder=own.data)
    (own.data / "meta.properties").write_text(good)
    own.start()
    own.stop()


@check
def damaged_configs(server):
    """A config file that is absent, not a file, or holds impossible values: exit code 2, one line that names what, nothing changed."""
    if server.original:
        return
    home = scratch("configs")
    path = home / "server.properties"
    refuse = lambda *arguments, **options: expect_refusal(server.binary, *arguments, **options)
    refuse("no such config", ["--config", home / "absent.properties"], [str(home / "absent.properties")], folder=home)
    refuse("a folder for a config", ["--config", home], [str(home)], folder=home)
    template = Tidelog(server.binary)
    values = {
        "num.partitions": ["many", "0", "-1"],
        "node.id": ["x", "-1"],
        "log.retention.ms": ["long"],
        "listeners": ["nonsense", "PLAINTEXT://127.0.0.1:notaport", "PLAINTEXT://127.0.0.1:99999"],
        "socket.request.max.bytes": ["0", "1e6"],
        "auto.create.topics.enable": ["perhaps"],
        "compression.type": ["brotli"],
        "log.segment.bytes": ["-1"],
        "group.min.session.timeout.ms": ["soon"],
    }
    for key, bad in values.items():
        for value in bad:
            properties = {**template.properties, "log.dirs": home / "data", key: value}
            path.write_text("".join(f"{k}={v}\n" for k, v in properties.items()))
            refuse(f"{key}={value}", ["--config", path], [key], folder=home)
    path.write_bytes(b"\xff\xfe\0\1 = \x80\n")
    refuse("a config that is no text", ["--config", path], [str(path)], folder=home)
    done = run([server.binary, "broker", "--durability", "hope"], code=2)
    expect_that("--durability hope: the message names the choices", all(word in done.err for word in ("fsync", "page-cache", "memory")), str(done))
    run([server.binary, "broker", "--no-such-flag"], code=2)


@check
def unknown_config_keys_warn(server):
    """A key that we do not know is a warning with its name, not an error."""
    if server.original:
        return
    own = Tidelog(server.binary, no_such_key_at_all="1")
    own.start()
    own.stop()
    words = own.errors.read_text() + own.output.read_text()
    expect_that("the unknown key is named", "no.such.key.at.all" in words, words)


def main():
    global IDLE_CONNECTIONS
    parser = harness.arguments(__doc__)
    parser.add_argument("--idle", type=int, default=IDLE_CONNECTIONS, help="idle connections to open (10000 needs `ulimit -n 20000`)")
    parser.add_argument("name", nargs="*")
    options = parser.parse_args()
    IDLE_CONNECTIONS = options.idle
    if not options.kafka:
        options.binary = pathlib.Path(options.binary).resolve()
    server = harness.new_server(options)
    server.start()
    server.probe_topic = new_topic(server, "probe")
    expect_serves(server)

    def then_serves(one):
        def checked(server):
            one(server)
            server.expect_sound()
            expect_serves(server)

        checked.__name__, checked.__doc__ = one.__name__, one.__doc__
        return checked

    passed, failed = harness.run_checks(options, server, [then_serves(c) for c in CHECKS], options.name)
    if server.process.poll() is None:
        server.stop()
    harness.finish(passed, failed)


if __name__ == "__main__":
    main()
