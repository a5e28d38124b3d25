#!/usr/bin/env python3
"""The test-suite of tidelog-client against a running broker: client_suite.py [--binary PATH | --kafka] [TEST ...]

The very tests that `cargo test -p tidelog-client` runs against a broker in their own process, here against the release binary, or
with --kafka against a real Apache Kafka 4.3.1. Tests that restart their broker or set its properties pass over it, and are counted.
What counts as a result is written in docs/testing.md.
"""

import json
import os
import re
import subprocess
import sys

import harness

SUITES = [("tidelog-client", "it")]
SECONDS_MAX = 300


def executable(package, test):
    """The path of a test binary, built as for a test."""
    command = ["cargo", "test", "--quiet", "--no-run", "-p", package, "--test", test, "--message-format=json"]
    built = subprocess.run(command, cwd=harness.REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    messages = map(json.loads, built.stdout.splitlines())
    return [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == test][-1]


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("test", nargs="*")
    options = parser.parse_args()
    binaries = [executable(*suite) for suite in SUITES]
    server = harness.new_server(options)
    print(f"started in {server.start() * 1000:.0f} ms on {server.address}", flush=True)
    environment = {**os.environ, "TIDELOG_TEST_BOOTSTRAP": server.address}
    passed = failed = over = 0
    for binary in binaries:
        # One after another: a broker that all of them share shall not be what makes one of them late.
        command = [binary, "--test-threads=2", "--show-output", *options.test]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS_MAX)
        counts = re.search(r"^test result: .*?(\d+) passed; (\d+) failed", done.stdout, re.M)
        if done.returncode or not counts:
            print(done.stdout)
        passed += int(counts[1]) if counts else 0
        failed += int(counts[2]) if counts else 1
        over += len(re.findall(r"^passed over: ", done.stdout, re.M))
    server.expect_sound()
    server.stop()
    print(f"{over} of them restart their broker or set its properties, and passed over this one", flush=True)
    harness.finish(passed - over, failed)


if __name__ == "__main__":
    try:
        main()
    except harness.Failed as failure:
        print(f"FAILED {failure}")
        sys.exit(1)
