"""The controls of a broker under test, as a real client feels them: confluent-kafka (librdkafka) against the example `test_broker`.

The crate `rdkafka`, which wraps the same library, has the broker in its own process: see .ci/rdkafka.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from confluent_kafka import Consumer, Producer

from harness import REPOSITORY, Failed, expect, expect_that, finish, spawn

QUIET = {"log_level": 0}


class TestBroker:
    """The example, as a child."""

    def __init__(self, program):
        self.process = spawn([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().split()[1]

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        verdict, _, answer = self.process.stdout.readline().rstrip("\n").partition(" ")
        if verdict != "ok":
            raise Failed(f"{line!r} was answered: {answer}")
        return answer

    def end(self):
        self.process.stdin.close()
        expect("how the broker ends with its input", self.process.wait(20), 0)

    def producer(self, **config):
        return Producer({"bootstrap.servers": self.address, **QUIET, **{k.replace("_", "."): v for k, v in config.items()}})

    def consumer(self, group, **config):
        settings = {
            "bootstrap.servers": self.address,
            "group.id": group,
            "client.id": group,
            "auto.offset.reset": "earliest",
            **QUIET,
            **{k.replace("_", "."): v for k, v in config.items()},
        }
        return Consumer(settings)


def send(producer, topic, values):
    """Sends records one after the other; gives the error or the offset of each."""
    outcomes = []

    def delivered(error, message):
        outcomes.append(error.name() if error else message.offset())

    for value in values:
        producer.produce(topic, value, on_delivery=delivered)
        producer.flush(30)
    return outcomes


def texts(broker, topic):
    return [stored.split(":")[2] for stored in broker.tell(f"records {topic}").split()]


def a_retriable_error_is_retried(broker):
    """Twice NOT_LEADER_OR_FOLLOWER, and the record is there once all the same; an error that is none is told."""
    producer = broker.producer(retry_backoff_ms=10)
    expect("before", send(producer, "retried", ["0"]), [0])
    fault = broker.tell("fault Produce answer NOT_LEADER_OR_FOLLOWER topic=retried times=2")
    expect("sent", send(producer, "retried", ["1"]), [1])
    expect("how often it was refused", broker.tell(f"fired {fault}"), "2")
    broker.tell("fault Produce answer MESSAGE_TOO_LARGE topic=retried times=1")
    expect("refused for good", send(producer, "retried", ["2"]), ["MSG_SIZE_TOO_LARGE"])
    expect("records", texts(broker, "retried"), ["0", "1"])


def a_dropped_connection_causes_no_duplicate(broker):
    """An idempotent producer whose answers are lost writes each record once; one that is not writes what was lost twice."""
    for idempotent, count in ((True, 20), (False, 22)):
        topic = f"dropped-{idempotent}".lower()
        producer = broker.producer(enable_idempotence=idempotent, retry_backoff_ms=10, reconnect_backoff_ms=10, reconnect_backoff_max_ms=50)
        # With the topic the connection is there.
        first = send(producer, topic, ["0"])
        expect("the first", first, [0])
        faults = [
            broker.tell(f"fault Produce drop-after topic={topic} after=3 times=1"),
            broker.tell(f"fault Produce drop-before topic={topic} after=6 times=1"),
            broker.tell(f"fault Produce partial 7 topic={topic} after=9 times=1"),
        ]
        values = [str(n) for n in range(1, 20)]
        expect_that("delivered", all(isinstance(o, int) for o in send(producer, topic, values)))
        expect("fired", [broker.tell(f"fired {fault}") for fault in faults], ["1", "1", "1"])
        stored = texts(broker, topic)
        expect(f"records, idempotence {idempotent}", len(stored), count)
        expect("each of them in order", sorted(set(stored), key=int), [str(n) for n in range(20)])
        for fault in faults:
            broker.tell(f"remove {fault}")


def a_paused_clock_ends_a_session_exactly(broker):
    """A member that is gone stays in its group until the broker's clock was moved by its session timeout, to the millisecond."""
    send(broker.producer(), "clocked", ["0"])
    for protocol, session in (("classic", 45_000), ("consumer", 45_000)):
        group = f"clocked-{protocol}"
        settings = {"session_timeout_ms": session} if protocol == "classic" else {}
        # From here on every heartbeat is of the same moment.
        broker.tell("clock pause")
        consumer = broker.consumer(group, group_protocol=protocol, **settings)
        consumer.subscribe(["clocked"])
        message = None
        while message is None:
            message = consumer.poll(1)
        broker.tell(f"await group {group} 1")
        # From now on the client cannot say that it is alive, nor that it goes.
        api = "Heartbeat" if protocol == "classic" else "ConsumerGroupHeartbeat"
        faults = [broker.tell(f"fault {each} drop-before client={group}") for each in (api, "LeaveGroup")]
        broker.tell(f"clock advance-ms {session - 1}")
        before = broker.tell(f"group {group}")
        expect_that("the member is there", "MemberState" in before, before)
        broker.tell("clock advance-ms 1")
        after = broker.tell(f"group {group}")
        expect_that("the member is gone", "MemberState" not in after, after)
        broker.tell("clock resume")
        for fault in faults:
            broker.tell(f"remove {fault}")
        consumer.close()


def a_crash_costs_nothing_that_was_acknowledged(broker):
    """The same producer and consumer go on after power failures, at the same address."""
    producer = broker.producer(enable_idempotence=True, retry_backoff_ms=10, reconnect_backoff_ms=10, reconnect_backoff_max_ms=50)
    values = [str(n) for n in range(30)]
    for n, value in enumerate(values):
        expect("sent", send(producer, "crashed", [value]), [n])
        if n % 10 == 9:
            broker.tell("crash")
    expect("records", texts(broker, "crashed"), values)


CHECKS = [
    a_retriable_error_is_retried,
    a_dropped_connection_causes_no_duplicate,
    a_paused_clock_ends_a_session_exactly,
    a_crash_costs_nothing_that_was_acknowledged,
]


def build():
    """The path of the example, built as for a test."""
    command = ["cargo", "build", "--quiet", "-p", "tidelog-examples", "--example", "test_broker", "--message-format=json"]
    built = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    messages = map(json.loads, built.stdout.splitlines())
    return [pathlib.Path(m["executable"]) for m in messages if m.get("executable")][-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=pathlib.Path, help="the example, if it is built already")
    parser.add_argument("names", nargs="*", help="only checks whose name contains one of these")
    options = parser.parse_args()
    program = options.program or build()
    passed = 0
    for check in CHECKS:
        if options.names and not any(name in check.__name__ for name in options.names):
            continue
        broker = TestBroker(program)
        check(broker)
        broker.end()
        passed += 1
        print(f"ok   {check.__name__}", flush=True)
    finish(passed, 0)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        print(f"FAILED {failure}")
        sys.exit(1)
