"""A group member that commits each batch before it tells of it: member.py TOPIC CONFIG_AS_JSON, events as JSON lines on stdout.

SIGTERM makes it leave the group in order. Run by the checks in groups.py.
"""

import json
import signal
import sys
import time

from confluent_kafka import Consumer, KafkaException


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def told(event):
    return lambda _, partitions: tell(event, partitions=[p.partition for p in partitions])


leaving = False


def leave(*_):
    global leaving
    leaving = True


signal.signal(signal.SIGTERM, leave)
defaults = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 500,
    "topic.metadata.refresh.interval.ms": 2000,
}
config = json.loads(sys.argv[2])
if config.get("group.protocol") == "consumer":
    # The broker decides.
    del defaults["session.timeout.ms"], defaults["heartbeat.interval.ms"]
consumer = Consumer({**defaults, **config})
consumer.subscribe([sys.argv[1]], on_assign=told("assigned"), on_revoke=told("revoked"), on_lost=told("lost"))
while not leaving:
    batch = consumer.consume(500, 0.1)
    got_at, committed_at = time.time(), None
    good = [m for m in batch if m.error() is None]
    for message in batch:
        if message.error() is not None:
            tell("error", error=message.error().name(), fatal=message.error().fatal())
            leaving = leaving or message.error().fatal()
    if good:
        while True:
            try:
                consumer.commit(asynchronous=False)
                committed_at = time.time()
                break
            except KafkaException as error:
                tell("error", error=error.args[0].name(), fatal=error.args[0].fatal())
                if not error.args[0].retriable():
                    break
    for message in good:
        place = {"partition": message.partition(), "offset": message.offset()}
        tell("record", **place, value=message.value().decode(), got_at=got_at, committed_at=committed_at)
consumer.close()
tell("left")
