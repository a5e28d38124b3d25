#!/usr/bin/env python3
"""How fast a new broker serves, and how much memory it takes.

    cargo build --release && python3 benches/start.py

Start: the time from just before the binary is executed to the acknowledgement of the first record, on a directory that does
not exist. In between the broker formats the directory, listens and prints its ready line; the client reads the port from that
line, connects, asks for a topic that does not exist (Metadata) until it has a leader, and produces one record with acks=all. The
directories lie on the file system of --dir, not in memory. As many runs as --runs; median, least and most.

Memory: VmRSS of the process, and its anonymous part (RssAnon, without the pages of the binary itself), a second after the
first record; then while --load-mib MiB of 64 KiB batches of 1 KiB records are produced into 16 partitions over 4 connections, 5
requests in flight on each, and consumed again from 4 others at the same time: the most that VmRSS reached (VmHWM), and what is
left two seconds later.

Plain Python, raw sockets: only the standard library.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

PRODUCE, FETCH, METADATA = 0, 1, 3
PARTITIONS = 16
CONNECTIONS = 4
IN_FLIGHT = 5


def crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def varint(value):
    value = (value << 1) ^ (value >> 31)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def batch(count, size):
    """A record batch of format 2 with `count` records of `size` bytes."""
    records = b""
    for delta in range(count):
        body = b"\0" + varint(0) + varint(delta) + varint(-1) + varint(size) + b"x" * size + varint(0)
        records += varint(len(body)) + body
    now = int(time.time() * 1000)
    after_crc = struct.pack(">hiqqqhii", 0, count - 1, now, now, -1, -1, -1, count) + records
    rest = struct.pack(">ibI", -1, 2, crc32c(after_crc)) + after_crc
    return struct.pack(">qi", 0, len(rest)) + rest


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def request(key, version, body):
    message = struct.pack(">hhi", key, version, 1) + string("start.py") + body
    return struct.pack(">i", len(message)) + message


def metadata(topic):
    return request(METADATA, 4, struct.pack(">i", 1) + string(topic) + b"\1")


def produce(topic, partition, records):
    body = struct.pack(">hhii", -1, -1, 30_000, 1) + string(topic)
    return request(PRODUCE, 7, body + struct.pack(">iii", 1, partition, len(records)) + records)


def fetch(topic, partition, offset):
    body = struct.pack(">iiiibi", -1, 500, 1, 50 << 20, 0, 1) + string(topic)
    return request(FETCH, 4, body + struct.pack(">iiqi", 1, partition, offset, 1 << 20))


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, frame):
        self.socket.sendall(frame)

    def take(self, length):
        data = bytearray(length)
        view = memoryview(data)
        while view:
            read = self.socket.recv_into(view)
            if read == 0:
                raise ConnectionError("the broker closed the connection")
            view = view[read:]
        return data

    def receive(self):
        """The body of the next response."""
        return self.take(struct.unpack(">i", self.take(4))[0])[4:]

    def call(self, frame):
        self.send(frame)
        return self.receive()

    def await_topic(self, topic):
        """Asks for the topic, which creates it, until its first partition has a leader."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            body = self.call(metadata(topic))
            # Throttle time, brokers (id, host, port, rack), cluster id, controller, then topics from their error code on.
            at, (brokers,) = 8, struct.unpack_from(">i", body, 4)
            for _ in range(brokers):
                at += 4
                at += 2 + struct.unpack_from(">h", body, at)[0] + 4
                at += 2 + max(0, struct.unpack_from(">h", body, at)[0])
            at += 2 + max(0, struct.unpack_from(">h", body, at)[0]) + 4 + 4
            (error,) = struct.unpack_from(">h", body, at)
            at += 2
            at += 2 + struct.unpack_from(">h", body, at)[0] + 1
            (partitions,) = struct.unpack_from(">i", body, at)
            if error == 0 and partitions > 0 and struct.unpack_from(">h", body, at + 4)[0] == 0:
                return
            time.sleep(0.001)
        raise TimeoutError(f"{topic} has no leader")


def acknowledged(body, topic):
    """Asserts that a produce response has no error, and gives the base offset."""
    error, offset = struct.unpack_from(">hq", body, 4 + 2 + len(topic) + 4 + 4)
    if error != 0:
        raise RuntimeError(f"produce: error {error}")
    return offset


class Broker:
    def __init__(self, binary, directory, arguments=()):
        self.directory = directory
        # Lines of the log, should there be any, go where the user sees them.
        self.process = subprocess.Popen(
            [binary, "broker", "--listener", "127.0.0.1:0", "--data", str(directory), *arguments],
            stdout=subprocess.PIPE,
        )

    def ready(self):
        line = self.process.stdout.readline().decode()
        match = re.search(r"ready on \S*:(\d+)", line)
        if match is None:
            raise RuntimeError(f"not a ready line: {line!r}")
        return int(match.group(1))

    def memory(self):
        """Figures of /proc/PID/status in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return {name: int(kib) / 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB$", status, re.M)}

    def cpu(self):
        """CPU seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.process.stdout.close()
        # With --durability memory there is none.
        shutil.rmtree(self.directory, ignore_errors=True)
        if code != 0:
            raise RuntimeError(f"the broker ended with {code}")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            self.process.kill()
            self.process.wait()


def start_times(binary, root, runs, arguments):
    ready, first = [], []
    frame = produce("first", 0, batch(1, 100))
    for run in range(runs):
        began = time.perf_counter()
        with Broker(binary, root / f"start-{run}", arguments) as broker:
            port = broker.ready()
            ready.append(time.perf_counter() - began)
            connection = Connection(port)
            connection.await_topic("first")
            offset = acknowledged(connection.call(frame), "first")
            first.append(time.perf_counter() - began)
            assert offset == 0
            connection.socket.close()
    return ready, first


def load(port, mib):
    """Produces and consumes at the same time; what was consumed must be what was produced."""
    records = batch(63, 1024)
    per_connection = (mib << 20) // len(records) // CONNECTIONS
    own = PARTITIONS // CONNECTIONS
    problems = []

    def in_thread(work, number):
        try:
            work(number)
        except Exception as error:  # pylint: disable=broad-except
            problems.append(error)

    def producer(number):
        connection = Connection(port)
        frames = [produce("load", number * own + i, records) for i in range(own)]
        for sent in range(per_connection + IN_FLIGHT):
            if sent < per_connection:
                connection.send(frames[sent % own])
            if sent >= IN_FLIGHT:
                acknowledged(connection.receive(), "load")

    def consumer(number):
        connection = Connection(port)
        offsets = [0] * own
        missing = per_connection * 63
        turn = 0
        while missing > 0:
            turn = (turn + 1) % own
            body = connection.call(fetch("load", number * own + turn, offsets[turn]))
            # Throttle time, one topic with one partition: index, error, high watermark, last stable offset, aborted
            # transactions (a null array), records.
            at = 4 + 4 + 2 + len("load") + 4 + 4
            (error,) = struct.unpack_from(">h", body, at)
            if error != 0:
                raise RuntimeError(f"fetch: error {error}")
            at += 2 + 8 + 8
            aborted = max(0, struct.unpack_from(">i", body, at)[0])
            at += 4 + 16 * aborted + 4
            while at + 61 <= len(body):
                base, length = struct.unpack_from(">qi", body, at)
                if at + 12 + length > len(body):
                    break
                at += 12 + length
                if base >= offsets[turn]:
                    offsets[turn] += 63
                    missing -= 63

    threads = [
        threading.Thread(target=in_thread, args=(work, number))
        for work in (producer, consumer)
        for number in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def memory(binary, root, mib, arguments):
    with Broker(binary, root / "memory", ["--set", f"num.partitions={PARTITIONS}", *arguments]) as broker:
        port = broker.ready()
        connection = Connection(port)
        connection.await_topic("load")
        connection.await_topic("first")
        acknowledged(connection.call(produce("first", 0, batch(1, 100))), "first")
        time.sleep(1)
        idle = broker.memory()
        print(f"idle        RSS {idle['VmRSS']:6.1f} MiB, anonymous {idle['RssAnon']:6.1f} MiB, {PARTITIONS * 2} partitions")
        cpu, began = broker.cpu(), time.perf_counter()
        load(port, mib)
        seconds, cpu = time.perf_counter() - began, broker.cpu() - cpu
        time.sleep(2)
        after = broker.memory()
        print(f"under load  RSS {after['VmHWM']:6.1f} MiB at most")
        print(f"after load  RSS {after['VmRSS']:6.1f} MiB, anonymous {after['RssAnon']:6.1f} MiB")
        print(f"            {mib} MiB in and out in {seconds:.1f} s, {cpu:.2f} s of CPU in the broker")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("CARGO_TARGET_DIR", str(Path(__file__).parent.parent / "target"))
    parser.add_argument("--binary", default=f"{target}/release/tidelog")
    parser.add_argument("--dir", help="where the data directories are made [default: beside the binary]")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--load-mib", type=int, default=512)
    parser.add_argument("arguments", nargs="*", help="further arguments of the broker, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir or Path(options.binary).parent) as root:
        ready, first = start_times(options.binary, Path(root), options.runs, options.arguments)
        for what, times in (("ready", ready), ("first record acknowledged", first)):
            times = [1000 * seconds for seconds in times]
            print(
                f"start: {what:<26} median {statistics.median(times):6.1f} ms, min {min(times):6.1f}, "
                f"max {max(times):6.1f} ({len(times)} runs)"
            )
        memory(options.binary, Path(root), options.load_mib, options.arguments)


if __name__ == "__main__":
    main()
