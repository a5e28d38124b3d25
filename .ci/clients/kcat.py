"""kcat, which carries an older librdkafka: metadata, produce, consume, offsets and a balanced group."""

import json
import time

from common import CODECS, create_topic, fresh, produce, values
from harness import check, eventually, expect, expect_that, run


def kcat(server, *arguments, **options):
    return run(["kcat", "-b", server.address, *arguments], **options)


@check
def kcat_lists(server):
    """kcat -L: broker, topic, partitions, leaders."""
    topic = create_topic(server, "kcat", 3)
    said = lambda: json.loads(kcat(server, "-L", "-J").out)
    expect("brokers", said()["brokers"], [{"id": 1, "name": server.address}])
    eventually("the topic is listed", lambda: topic in [t["topic"] for t in said()["topics"]])
    [found] = [t for t in said()["topics"] if t["topic"] == topic]
    want = [{"partition": p, "leader": 1, "replicas": [{"id": 1}], "isrs": [{"id": 1}]} for p in range(3)]
    expect("partitions", sorted(found["partitions"], key=lambda p: p["partition"]), want)
    text = kcat(server, "-L", "-t", topic).out
    expect_that("the plain text names the topic", f'topic "{topic}" with 3 partitions:' in text, text)


@check
def kcat_produces_and_consumes(server):
    """kcat -P and -C with each codec: keys, headers and values."""
    for codec in CODECS:
        topic = create_topic(server, f"kcat-{codec}")
        text = "".join(f"key{n}:value {n} {'x' * n}\n" for n in range(300))
        kcat(server, "-P", "-t", topic, "-K", ":", "-H", "name=worth", "-z", codec, text=text)
        got = kcat(server, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%o %k:%s %h\n").out
        want = "".join(f"{n} {line} name=worth\n" for n, line in enumerate(text.splitlines()))
        expect(f"{codec}: consumed", got, want)


@check
def kcat_finds_offsets(server):
    """kcat -Q by time, -C from an offset, from the end, and a count."""
    topic, now = create_topic(server, "kcat-offsets"), int(time.time() * 1000)
    produce(server, topic, [{"value": f"{n}", "timestamp": now - 10_000 + n} for n in range(50)])
    for ask, want in [("-2", 0), ("-1", 50), (str(now - 10_000 + 20), 20)]:
        expect(f"offset for {ask}", kcat(server, "-Q", "-t", f"{topic}:0:{ask}").out.split(), [topic, "[0]", "offset", str(want)])
    tail = kcat(server, "-C", "-t", topic, "-o", "-5", "-e", "-q").out.split()
    expect("the last five", tail, ["45", "46", "47", "48", "49"])
    middle = kcat(server, "-C", "-t", topic, "-o", "10", "-c", "3", "-q").out.split()
    expect("three from 10 on", middle, ["10", "11", "12"])


@check
def kcat_in_a_group(server):
    """kcat -G twice: the second goes on behind the first."""
    topic, group = create_topic(server, "kcat-group", 2), fresh("kcat")
    balanced = lambda: kcat(server, "-G", group, "-X", "auto.offset.reset=earliest", "-e", "-q", topic).out.split()
    produce(server, topic, values(40))
    expect("the first run", sorted(map(int, balanced())), list(range(40)))
    produce(server, topic, values(10, start=40))
    expect("the second run", sorted(map(int, balanced())), list(range(40, 50)))
