#!/usr/bin/env python3
"""The broker as the README starts it: no flags, an empty directory, the default port. first_programs.py [--binary PATH]

Runs ../shared/programs/check.py (or that of $SHARED) when it is there: three programs of a first-time user on localhost:9092.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import harness
from harness import Tidelog, check, expect, expect_that, scratch
from wire import Connection, api_versions, batch, leaders, metadata, produce, produced, record

PROGRAMS = pathlib.Path(os.environ.get("SHARED") or harness.REPOSITORY.parent / "shared") / "programs" / "check.py"
IDLE_MIB_MAX = 20


class Plain(Tidelog):
    """`tidelog broker` and nothing else, run in an empty folder."""

    ready = "tidelog ready"

    def __init__(self, binary):
        super().__init__(binary)
        self.port = 9092
        self.home = scratch("home")

    def command(self):
        return [self.binary, "broker"]

    def spawn(self):
        back = os.getcwd()
        os.chdir(self.home)
        try:
            super().spawn()
        finally:
            os.chdir(back)

    def write_properties(self):
        pass


@check
def the_first_start(server):
    """One ready line with address, data directory and durability; the first record is acknowledged soon after the start."""
    with socket.socket() as probe:
        expect_that("nothing else listens on port 9092", probe.connect_ex(("127.0.0.1", 9092)) != 0)
    started = time.monotonic()
    server.spawn()
    while True:
        try:
            connection = Connection("127.0.0.1:9092")
            break
        except ConnectionRefusedError:
            expect_that("the broker is running", server.process.poll() is None, server.last_words())
            expect_that("the port answers within 10 s", time.monotonic() - started < 10, server.last_words())
    with connection as c:
        while leaders(c.ask(metadata(["first"])))["first"] != (0, {0: (0, 1)}):
            expect_that("a topic is created within 10 s", time.monotonic() - started < 10)
        error, offset = produced(c.ask(produce("first", batch([record(b"hello")]))))
    took = time.monotonic() - started
    expect("error and offset of the first record", (error, offset), (0, 0))
    print(f"      from the start on an empty directory to the first acknowledged record: {took * 1000:.0f} ms", flush=True)
    expect_that("that took less than a second", took < 1, f"{took:.3f} s")
    ready = [line for line in server.printed().splitlines() if "tidelog ready" in line]
    expect("ready lines", len(ready), 1)
    [made] = list(server.home.iterdir())
    for word in ("localhost:9092", made.name, "fsync"):
        expect_that(f"the ready line names {word}", word in ready[0], ready[0])
    expect_that("the default directory holds meta.properties", (made / "meta.properties").exists(), sorted(made.iterdir()))


@check
def both_kinds_of_loopback(server):
    """127.0.0.1, [::1] and localhost all lead to the broker, and on to where its records are taken."""
    from confluent_kafka import Producer

    for address in ("127.0.0.1:9092", "[::1]:9092", "localhost:9092"):
        errors = []
        client = Producer({"bootstrap.servers": address, "log_level": 2})
        client.produce("first", b"hello", on_delivery=lambda error, _: errors.append(error))
        expect(f"records to {address} left", client.flush(10), 0)
        expect(f"errors at {address}", errors, [None])


def programs():
    if not PROGRAMS.exists():
        print(f"      {PROGRAMS} is not there; the group checks of clients/ cover its ground", flush=True)
        return
    done = subprocess.run([sys.executable, PROGRAMS], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200)
    expect(f"exit code of check.py, which said {done.stdout!r} {done.stderr[-2000:]!r}", done.returncode, 0)


@check
def the_programs(server):
    """check.py passes right after the first start."""
    programs()


@check
def the_programs_again(server):
    """check.py passes a second time."""
    programs()


@check
def the_programs_after_a_restart(server):
    """check.py passes after SIGTERM and a new start."""
    expect("exit code after SIGTERM", server.stop(), 0)
    server.start()
    programs()


@check
def the_programs_after_a_kill(server):
    """check.py passes after kill -9 and a new start."""
    server.kill()
    server.start()
    programs()


@check
def idle_memory(server):
    """An idle broker takes little memory."""
    server.stop()
    server.start()
    with Connection(server.address) as c:
        c.ask(api_versions())
    time.sleep(1)
    resident = server.status("VmRSS") / 1024
    print(f"      idle: {resident:.1f} MiB resident", flush=True)
    expect_that(f"idle memory is under {IDLE_MIB_MAX} MiB", resident < IDLE_MIB_MAX, f"{resident:.1f} MiB")


@check
def help_and_version(server):
    """--help tells of the broker's flags, --version of its version."""
    said = harness.run([server.binary, "broker", "--help"]).out
    for flag in ("--listener", "--data", "--durability", "--config"):
        expect_that(f"--help names {flag}", flag in said, said)
    version = harness.run([server.binary, "--version"]).out
    expect_that("--version", re.fullmatch(r"tidelog \d+\.\d+\.\d+\S*\n", version), version)


def main():
    options = harness.arguments(__doc__).parse_args()
    server = Plain(pathlib.Path(options.binary).resolve())
    passed, failed = harness.run_checks(options, server, harness.CHECKS, [])
    if server.process and server.process.poll() is None:
        server.stop()
    harness.finish(passed, failed)


if __name__ == "__main__":
    main()
