"""`tidelog consume` beside confluent-kafka: members of one group, by both protocols, and every codec of librdkafka."""

import os
import signal
import subprocess

from common import Member, await_records, create_topic, fresh, produce, values
from harness import REPOSITORY, check, eventually, expect, scratch, spawn

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def command(server):
    """Ours, also where the broker is not."""
    built = os.path.join(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"), "release/tidelog")
    return str(getattr(server, "binary", built))


class Ours:
    """A member that prints what it reads."""

    def __init__(self, server, group, topic, *more):
        self.log = scratch("ours") / "records"
        arguments = [command(server), "consume", topic, "--follow", "-g", group, "-b", server.address, *more]
        with open(self.log, "w") as out:
            self.process = spawn(arguments, stdout=out)

    def records(self):
        return self.log.read_text().split("\n")[:-1]

    def leave(self):
        self.process.send_signal(signal.SIGINT)
        expect("exit code of our member", self.process.wait(20), 0)


def share(server, *more, **config):
    topic, group = create_topic(server, "beside", 4), fresh("group")
    theirs, ours = Member(server, group, topic, auto_offset_reset="earliest", **config), Ours(server, group, topic, *more)
    eventually("librdkafka's half", lambda: len(theirs.owned()), 2)
    sent = []
    for number, codec in enumerate(CODECS):
        batch = [f"{n}" for n in range(100 * number, 100 * number + 100)]
        produce(server, topic, ({"value": value, "partition": int(value) % 4} for value in batch), compression_type=codec)
        sent += batch
    await_records("both", [theirs, ours], sent)
    expect("our half", len(ours.records()), 250)
    ours.leave()
    eventually("what librdkafka has when ours has left", lambda: len(theirs.owned()), 4)
    theirs.leave()


@check
def ours_shares_a_classic_group(server):
    """Our consumer and librdkafka's are members of one classic group"""
    share(server, "--classic", partition_assignment_strategy="range")


@check
def ours_shares_a_consumer_group(server):
    """Our consumer and librdkafka's are members of one group of the new protocol"""
    share(server, group_protocol="consumer")


@check
def a_topic_is_copied(server):
    """What consume prints as JSON, produce reads: each codec of librdkafka, and of ours"""
    for codec in CODECS:
        source, copy = create_topic(server, "source"), create_topic(server, "copy")
        produce(server, source, values(50), compression_type=codec)
        where = ["-b", server.address]
        lines = subprocess.run([command(server), "consume", source, "--json", *where], capture_output=True, check=True, timeout=60).stdout
        subprocess.run([command(server), "produce", copy, "--json-lines", "-z", codec, *where], input=lines, capture_output=True, check=True, timeout=60)
        texts = [subprocess.run([command(server), "consume", topic, *where], capture_output=True, check=True, timeout=60).stdout for topic in (source, copy)]
        expect(f"the copy with {codec}", texts[1], texts[0])
        expect(f"lines with {codec}", texts[0].count(b"\n"), 50)
