"""Produce and consume with confluent-kafka (librdkafka): what goes in comes out, with every codec and size."""

import random
import time

from confluent_kafka import OFFSET_END, TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from common import CODECS, QUIET, admin, consumer, create_topic, error_name, fresh, produce, producer, read_all, read_to_end, results, values
from harness import check, eventually, expect, expect_that


def peculiar_records(count, seed):
    """Records with and without keys, values and headers, of sizes around the bounds of a varint."""
    dice = random.Random(seed)
    blob = lambda: dice.choice([None, b"", b"\0", dice.randbytes(63), dice.randbytes(64), b"text " * dice.randrange(40), dice.randbytes(8192)])
    names = ["plain", "plain", "", "ключ", "x" * 200]
    start = int(time.time() * 1000) - 5000
    return [
        {
            "key": blob(),
            "value": blob(),
            "headers": [(dice.choice(names), blob()) for _ in range(dice.choice([0, 0, 1, 3]))],
            "timestamp": start + dice.randrange(-1000, 1000),
        }
        for _ in range(count)
    ]


@check
def each_codec_keeps_every_field(server):
    """Keys, values, headers and timestamps come back as they were sent, in order, with each codec."""
    for codec in CODECS:
        topic = create_topic(server, f"codec-{codec}")
        sent = peculiar_records(600, codec)
        produce(server, topic, sent, compression_type=codec)
        got = read_all(server, topic)
        expect(f"{codec}: offsets", [m.offset() for m in got], list(range(600)))
        for n, (record, message) in enumerate(zip(sent, got)):
            back = (message.key(), message.value(), message.headers() or [], message.timestamp())
            want = (record["key"], record["value"], record["headers"], (TIMESTAMP_CREATE_TIME, record["timestamp"]))
            expect(f"{codec}: record {n} (key, value, headers, timestamp)", back, want)


@check
def a_topic_recompresses(server):
    """compression.type of a topic other than the producer's: the broker compresses anew and nothing is lost."""
    sent = peculiar_records(200, "recompress")
    for codec in CODECS[1:] + ["uncompressed"]:
        topic = create_topic(server, f"recompress-{codec}", compression_type=codec)
        produce(server, topic, sent, compression_type="gzip" if codec == "zstd" else "zstd")
        got = read_all(server, topic)
        expect(f"{codec}: keys and values", [(m.key(), m.value()) for m in got], [(r["key"], r["value"]) for r in sent])


@check
def records_of_a_mebibyte(server):
    """A record of 1 MiB goes through a topic that allows it, plain and compressed, even past the consumer's own limits."""
    topic = create_topic(server, "large", max_message_bytes=4 << 20)
    noise = [random.Random(n).randbytes(1 << 20) for n in range(6)]
    for codec in ("none", "zstd", "lz4"):
        produce(server, topic, [{"value": v} for v in noise], message_max_bytes=4 << 20, compression_type=codec)
    got = read_all(server, topic)
    expect("records of 1 MiB", [m.value() == want for m, want in zip(got, noise * 3)], [True] * 18)
    got = read_all(server, topic, max_partition_fetch_bytes=10_000, fetch_max_bytes=1_100_000, message_max_bytes=1_000_000)
    expect("records of 1 MiB with max.partition.fetch.bytes 10,000", len(got), 18)


@check
def a_record_above_the_limit_is_refused(server):
    """max.message.bytes of 1048588 by default: just below passes, above is MSG_SIZE_TOO_LARGE and nothing is written."""
    topic = create_topic(server, "limit")
    produce(server, topic, [{"value": bytes(1_048_588 - 61 - 20)}], message_max_bytes=4 << 20)
    errors = []
    client = producer(server, message_max_bytes=4 << 20)
    client.produce(topic, bytes(1_048_588), on_delivery=lambda error, _: errors.append(error))
    client.flush(20)
    expect("error of a record above max.message.bytes", [error_name(e) for e in errors], ["MSG_SIZE_TOO_LARGE"])
    expect("records", len(read_all(server, topic)), 1)


@check
def sixteen_partitions(server):
    """20,000 keyed records over 16 partitions: a key stays in one partition, each partition comes in order."""
    topic = create_topic(server, "sixteen", 16)
    delivered = produce(server, topic, ({"key": f"k{n % 500}", "value": f"{n}"} for n in range(20_000)), partitioner="murmur2_random")
    got = read_all(server, topic, 16)
    place = lambda m: (m.partition(), m.offset(), m.value())
    expect("(partition, offset, value) consumed and reported", sorted(map(place, got)), sorted(map(place, delivered)))
    expect("values", sorted(int(m.value()) for m in got), list(range(20_000)))
    homes = {}
    for m in got:
        homes.setdefault(m.key(), set()).add(m.partition())
    expect("keys in more than one partition", [k for k, v in homes.items() if len(v) > 1], [])
    expect("partitions in use", len(set().union(*homes.values())), 16)
    for p in range(16):
        offsets = [m.offset() for m in got if m.partition() == p]
        expect(f"offsets of partition {p}, in the order they came", offsets, list(range(len(offsets))))


@check
def idempotent_producer(server):
    """enable.idempotence: 20,000 records in many batches, each once, in order, at the offset that was reported."""
    topic = create_topic(server, "idempotent", 4)
    records = ({"value": f"{n}", "partition": n % 4} for n in range(20_000))
    delivered = produce(server, topic, records, enable_idempotence=True, batch_num_messages=50, linger_ms=1)
    got = read_all(server, topic, 4)
    place = lambda m: (m.partition(), m.offset(), m.value())
    expect("(partition, offset, value) consumed and reported", sorted(map(place, got)), sorted(map(place, delivered)))
    for p in range(4):
        expect(f"partition {p}", [int(m.value()) for m in got if m.partition() == p], list(range(p, 20_000, 4)))


@check
def each_kind_of_acks(server):
    """acks 0, 1 and all: every record arrives; the reports of 1 and all carry offsets."""
    for acks in ("0", "1", "all"):
        topic = create_topic(server, f"acks-{acks}")
        delivered = produce(server, topic, values(500), acks=acks)
        eventually(f"acks={acks}: records", lambda: len(read_all(server, topic)), 500)
        if acks != "0":
            expect(f"acks={acks}: reported offsets", [m.offset() for m in delivered], list(range(500)))


@check
def topics_come_by_themselves(server):
    """Producing to a topic that does not exist creates it, with num.partitions partitions."""
    topic = fresh("auto")
    delivered = produce(server, topic, values(3))
    expect("offsets", [m.offset() for m in delivered], [0, 1, 2])
    expect("partitions", len(admin(server).list_topics(topic, timeout=10).topics[topic].partitions), 1)
    reader = consumer(server, allow_auto_create_topics=False, enable_partition_eof=False)
    absent = fresh("absent")
    reader.subscribe([absent])
    message = reader.poll(10)
    expect("error of a consumer of an absent topic", message and error_name(message.error()), "UNKNOWN_TOPIC_OR_PART")
    reader.close()
    expect("the absent topic was not created", absent in admin(server).list_topics(timeout=10).topics, False)


@check
def a_fetch_waits_and_wakes(server):
    """A consumer with fetch.wait.max.ms=5000 gets a new record at once, and an idle one does not spin."""
    topic = create_topic(server, "longpoll")
    reader = consumer(server, fetch_wait_max_ms=5000, enable_partition_eof=False)
    reader.assign([TopicPartition(topic, 0, 0)])
    expect("a record of an empty topic", reader.poll(1.0), None)
    client, waits = producer(server, linger_ms=0), []
    for n in range(20):
        time.sleep(0.02)
        started = time.monotonic()
        client.produce(topic, f"{n}")
        client.flush()
        message = reader.poll(5)
        waits.append(time.monotonic() - started)
        expect("the record that was just produced", message and message.value(), f"{n}".encode())
    reader.close()
    expect_that("median time from produce to consume is under 100 ms", sorted(waits)[10] < 0.1, sorted(waits))


@check
def offsets_by_time(server):
    """offsets_for_times finds the exact record, also inside compressed batches; watermarks and seek agree."""
    start = int(time.time() * 1000) - 100_000
    for codec in ("none", "zstd"):
        topic = create_topic(server, "bytime")
        for batch in range(5):
            produce(server, topic, [{"value": b"x", "timestamp": start + (batch * 20 + n) * 10} for n in range(20)], compression_type=codec)
        reader = consumer(server)
        for ask, want in [(0, 0), (start, 0), (start + 1, 1), (start + 370, 37), (start + 371, 38), (start + 990, 99), (start + 991, OFFSET_END)]:
            [found] = reader.offsets_for_times([TopicPartition(topic, 0, ask)], timeout=10)
            expect(f"{codec}: offset for start + {ask - start}", found.offset, want)
        expect(f"{codec}: watermarks", reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10), (0, 100))
        got = read_to_end(reader, [TopicPartition(topic, 0, 73)])
        expect(f"{codec}: offsets from 73 on", [m.offset() for m in got], list(range(73, 100)))
        reader.close()


@check
def list_offsets_by_kind(server):
    """ListOffsets: earliest, latest, the record of the greatest timestamp, and by time."""
    topic = create_topic(server, "listoffsets")
    now = int(time.time() * 1000)
    stamps = [now - 5000, now - 1000, now - 3000, now - 1000, now - 4000]
    produce(server, topic, [{"value": b"x", "timestamp": t} for t in stamps])
    kinds = {
        "earliest": (OffsetSpec.earliest(), (0, -1)),
        "latest": (OffsetSpec.latest(), (5, -1)),
        "max timestamp": (OffsetSpec.max_timestamp(), (1, now - 1000)),
        "by time": (OffsetSpec.for_timestamp(now - 3500), (1, now - 1000)),
        "after the end": (OffsetSpec.for_timestamp(now + 1), (-1, -1)),
    }
    for name, (spec, want) in kinds.items():
        [found] = results(admin(server).list_offsets({TopicPartition(topic, 0): spec})).values()
        expect(f"offset and timestamp, {name}", (found.offset, found.timestamp) if hasattr(found, "offset") else found, want)


@check
def log_append_time(server):
    """message.timestamp.type=LogAppendTime: the records carry the broker's time, and so do the reports."""
    topic = create_topic(server, "append-time", message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    delivered = produce(server, topic, values(50, timestamp=1000))
    after = int(time.time() * 1000)
    for m in read_all(server, topic) + delivered:
        kind, stamp = m.timestamp()
        expect("kind of timestamp", kind, TIMESTAMP_LOG_APPEND_TIME)
        expect_that(f"timestamp between {before} and {after}", before <= stamp <= after, stamp)


@check
def a_timestamp_from_the_future_is_refused(server):
    """Two hours ahead is beyond message.timestamp.after.max.ms: INVALID_TIMESTAMP, and nothing of the batch is written."""
    topic, errors = create_topic(server, "future"), []
    client = producer(server)
    client.produce(topic, b"x", timestamp=int(time.time() * 1000) + 7_200_000, on_delivery=lambda e, _: errors.append(e))
    client.flush(20)
    expect("error", [error_name(e) for e in errors], ["INVALID_TIMESTAMP"])
    expect("records", len(read_all(server, topic)), 0)


@check
def a_compacted_topic_wants_keys(server):
    """A record without a key is refused by a compacted topic, a keyed one is taken."""
    topic, errors = create_topic(server, "compacted", cleanup_policy="compact"), []
    produce(server, topic, [{"key": b"k", "value": b"v"}])
    client = producer(server)
    client.produce(topic, b"no key", on_delivery=lambda e, _: errors.append(e))
    client.flush(20)
    expect("error", [error_name(e) for e in errors], ["INVALID_RECORD"])
    expect("records", [m.key() for m in read_all(server, topic)], [b"k"])


@check
def an_offset_out_of_range_resets(server):
    """A position beyond the end follows auto.offset.reset: earliest, latest, or the error itself."""
    topic = create_topic(server, "range")
    produce(server, topic, values(5))
    expect("earliest", [m.offset() for m in read_all(server, topic, start=99)], [0, 1, 2, 3, 4])
    expect("latest", [m.offset() for m in read_all(server, topic, start=99, auto_offset_reset="latest")], [])
    reader = consumer(server, auto_offset_reset="error", enable_partition_eof=False)
    reader.assign([TopicPartition(topic, 0, 99)])
    message = reader.poll(10)
    expect("error", message and message.error() and message.error().code(), KafkaError._AUTO_OFFSET_RESET)
    reader.close()


@check
def many_clients_at_once(server):
    """Forty producers at the same time, each its own connection and idempotent, on one topic."""
    topic = create_topic(server, "many", 8)
    clients = [Producer({"bootstrap.servers": server.address, **QUIET, "enable.idempotence": n % 2 == 0, "linger.ms": n % 3}) for n in range(40)]
    for n in range(50):
        for c, client in enumerate(clients):
            client.produce(topic, f"{c}:{n}")
            client.poll(0)
    for client in clients:
        expect("records left", client.flush(20), 0)
    got = sorted(m.value().decode() for m in read_all(server, topic, 8))
    expect("records", got, sorted(f"{c}:{n}" for c in range(40) for n in range(50)))


@check
def transactions_are_refused(server):
    """What is not built is refused: a transactional producer does not get the idea that it has begun."""
    if server.original:
        return
    client = Producer({"bootstrap.servers": server.address, **QUIET, "transactional.id": fresh("tx")})
    try:
        client.init_transactions(3)
        outcome = "begun"
    except KafkaException as error:
        outcome = error_name(error)
    expect_that("init_transactions fails", outcome != "begun", outcome)
