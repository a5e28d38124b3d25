#!/usr/bin/env python3
"""How long a test waits for a broker: ours as a value, librdkafka's mock cluster, kfake, and Apache Kafka as a process.

    python3 benches/start_compare.py --kafka-libs ~/.cache/tidelog-ci/kafka-4.3.1

Two times each, from the call (or from just before the process is started): until there is an address to connect to, and until the
first record is acknowledged, to a topic that does not exist before. Ours and the mock run in one Rust program (`.ci/rdkafka`, built
here for release) with librdkafka as the client of both, kfake in a Go program with franz-go (`benches/kfake`). The first run of each
program is left out, in which libraries are loaded; of the others median, least and most.

Apache Kafka is started as the entry point of its container does it: `StorageTool format --standalone`, then `kafka.Kafka`, with the
JVM's flags of its scripts, on a directory that does not exist. What a container costs besides (to be made, its network, its layers, and
to pull the image the first time) is not in it. Every run begins with a JVM that is not there.
"""

import argparse
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
# As kafka-run-class.sh has them.
JAVA = ["java", "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]
# As the tools are started by kafka-storage.sh.
JAVA_TOOL = ["java", "-Xmx256M", "-server", "-XX:+UseG1GC"]

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:{controller}
listeners=PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller}
advertised.listeners=PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller}
controller.listener.names=CONTROLLER
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.dirs={logs}
"""


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def times(command, runs):
    """The lines of a program that prints two times for each run, but for the first."""
    printed = subprocess.run([*command, str(runs + 1)], check=True, capture_output=True, text=True, cwd=tempfile.gettempdir()).stdout
    return [tuple(map(float, line.split())) for line in printed.splitlines()][1:]


def kafka(libs, client, folder):
    """One start; the client is asked for one record as soon as the port answers."""
    port, controller = free_port(), free_port()
    properties = folder / "server.properties"
    properties.write_text(PROPERTIES.format(port=port, controller=controller, logs=folder / "logs"))
    classes = ["-cp", f"{libs}/*", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    started = time.monotonic()
    subprocess.run([*JAVA_TOOL, *classes, "kafka.tools.StorageTool", "format", "--standalone", "-t", "q1Sh-9_ISia_zwGINzRvyQ", "-c", properties],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(folder / "output", "w") as output:
        process = subprocess.Popen([*JAVA, *classes, "kafka.Kafka", properties], stdout=output, stderr=output)
    try:
        while True:
            try:
                socket.create_connection(("localhost", port)).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit((folder / "output").read_text()[-2000:]) from None
                time.sleep(0.002)
        ready = time.monotonic() - started
        subprocess.run([*client, f"localhost:{port}"], check=True, stdout=subprocess.DEVNULL)
        return ready * 1e3, (time.monotonic() - started) * 1e3
    finally:
        process.kill()
        process.wait()


def line(name, measured):
    shown = []
    for column in zip(*measured):
        low, middle, high = min(column), statistics.median(column), max(column)
        digits = 0 if middle >= 100 else 1
        shown.append(f"{middle:,.{digits}f} ms ({low:,.{digits}f} to {high:,.{digits}f})")
    print(f"| {name} | {' | '.join(shown)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka-libs", type=pathlib.Path, help="the jars of Apache Kafka; without them it is left out")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kafka-runs", type=int, default=5)
    parser.add_argument("--debug", action="store_true", help="our program as a test has it, without optimization")
    options = parser.parse_args()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "start-compare"
    profile = "debug" if options.debug else "release"
    subprocess.run(["cargo", "build", "--quiet", "--bin", "start", *([] if options.debug else ["--release"])], check=True,
                   cwd=REPOSITORY / ".ci/rdkafka", env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    ours = target / profile / "start"
    fake = target / "kfake"
    subprocess.run(["go", "build", "-o", fake, "."], check=True, cwd=REPOSITORY / "benches/kfake")
    print("| | an address | the first record acknowledged |\n|---|---|---|")
    line("this, in memory, called directly", times([ours, "direct"], options.runs))
    line("this, in memory", times([ours, "memory"], options.runs))
    line("this, in a new directory, flushed", times([ours, "directory"], options.runs))
    line("mock cluster of librdkafka", times([ours, "mock"], options.runs))
    line("kfake", times([fake], options.runs))
    if options.kafka_libs:
        measured = []
        for _ in range(options.kafka_runs):
            with tempfile.TemporaryDirectory() as folder:
                measured.append(kafka(options.kafka_libs, [ours, "record"], pathlib.Path(folder)))
        line("Apache Kafka, the process alone", measured)


if __name__ == "__main__":
    main()
