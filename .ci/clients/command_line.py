"""Our commands, which stand on our client, beside confluent-kafka, Java and kcat: members of one group, by both protocols, and records of
each read by the others, with every codec."""

import os
import signal
import subprocess

from common import CODECS, Member, await_records, create_topic, dotted, fresh, produce, read_all, values
from harness import JAVA, KAFKA_LIBS, REPOSITORY, check, eventually, expect, java, run, scratch, spawn

JAVA_MEMBER = os.path.join(os.path.dirname(__file__), "JavaMember.java")


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


class JavaMember(Member):
    """A member of Kafka's Java client."""

    def __init__(self, server, group, topic, **config):
        self.log = scratch("java-member") / "events.jsonl"
        settings = [f"{key}={value}" for key, value in {"bootstrap.servers": server.address, "group.id": group, **dotted(config)}.items()]
        with open(self.log, "w") as out, open(self.log.with_suffix(".err"), "w") as err:
            log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
            self.process = spawn([*JAVA, "-Xmx256m", log, "-cp", f"{KAFKA_LIBS}/*", JAVA_MEMBER, topic, *settings], stdout=out, stderr=err)

    def leave(self):
        self.process.send_signal(signal.SIGTERM)
        # 128 and the number of the signal, however orderly it ends.
        expect("exit code of the Java member that left", self.process.wait(20), 143)
        expect("its last word", self.events()[-1]["event"], "left")


def share_by_three(server, *more, **config):
    """Two partitions for each of ours, librdkafka's and Java's; then the others leave."""
    topic, group = create_topic(server, "three", 6), fresh("group")
    # Range is what all three have in common, and librdkafka's name for it is not Java's.
    theirs = {} if config else {"partition_assignment_strategy": "range"}
    others = [Member(server, group, topic, **theirs, **config), JavaMember(server, group, topic, **config)]
    ours = Ours(server, group, topic, *more)
    eventually("the shares of librdkafka and Java", lambda: [len(other.owned()) for other in others], [2, 2], 60)
    sent = []
    for number, codec in enumerate(CODECS):
        batch = [f"{n}" for n in range(120 * number, 120 * number + 120)]
        produce(server, topic, ({"value": value, "partition": int(value) % 6} for value in batch), compression_type=codec)
        sent += batch
    await_records("all three", [*others, ours], sent)
    expect("our third", len(ours.records()), 200)
    for other in others:
        other.leave()
    rest = [f"{n}" for n in range(1000, 1060)]
    produce(server, topic, ({"value": value, "partition": int(value) % 6} for value in rest))
    await_records("ours alone", [ours], rest)
    ours.leave()


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
def ours_shares_a_classic_group_with_java(server):
    """Ours, librdkafka's and Java's consumer are members of one classic group"""
    share_by_three(server, "--classic")


@check
def ours_shares_a_consumer_group_with_java(server):
    """Ours, librdkafka's and Java's consumer are members of one group of the new protocol"""
    share_by_three(server, group_protocol="consumer")


@check
def what_ours_writes_others_read(server):
    """Each codec of our producer, read by librdkafka, kcat and Java"""
    texts = {}
    for codec in CODECS:
        topic = create_topic(server, f"ours-{codec}")
        texts[topic] = [f"key{n}:{codec} {n} {'ab' * n}" for n in range(200)]
        arguments = ["produce", topic, "-K", ":", "-z", codec, "-H", "name=worth", "-b", server.address]
        run([command(server), *arguments], text="".join(f"{line}\n" for line in texts[topic]))
        got = read_all(server, topic)
        expect(f"{codec}: librdkafka", [f"{m.key().decode()}:{m.value().decode()}" for m in got], texts[topic])
        expect(f"{codec}: headers", {tuple(m.headers()) for m in got}, {(("name", b"worth"),)})
        seen = run(["kcat", "-b", server.address, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%k:%s %h\n"]).out
        expect(f"{codec}: kcat", seen.splitlines(), [f"{line} name=worth" for line in texts[topic]])
    console = ["--bootstrap-server", server.address, "--include", "|".join(texts), "--from-beginning", "--max-messages", str(200 * len(CODECS))]
    shown = ["--formatter-property", "print.key=true", "--formatter-property", "key.separator=:"]
    got = java("org.apache.kafka.tools.consumer.ConsoleConsumer", *console, *shown).out.splitlines()
    expect("Java", sorted(got), sorted(line for lines in texts.values() for line in lines))


@check
def ours_reads_what_others_write(server):
    """Each codec of Java, kcat and librdkafka, read by our consumer"""
    lines = [f"key{n}:{n} {'ab' * n}" for n in range(200)]
    text = "".join(f"{line}\n" for line in lines)

    def by_java(topic, codec):
        properties = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]
        java("org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", server.address, "--topic", topic, "--compression-codec", codec, *properties, text=text)

    def by_kcat(topic, codec):
        run(["kcat", "-b", server.address, "-P", "-t", topic, "-K", ":", "-z", codec], text=text)

    def by_librdkafka(topic, codec):
        pairs = (line.split(":", 1) for line in lines)
        produce(server, topic, ({"key": key, "value": value} for key, value in pairs), compression_type=codec)

    for writer in (by_java, by_kcat, by_librdkafka):
        for codec in CODECS:
            topic = create_topic(server, f"{writer.__name__}-{codec}".replace("_", "-"))
            writer(topic, codec)
            got = run([command(server), "consume", topic, "-K", ":", "-b", server.address]).out
            expect(f"{codec} {writer.__name__}", got.splitlines(), lines)


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
