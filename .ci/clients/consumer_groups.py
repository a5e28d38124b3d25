"""Groups whose partitions the broker divides (KIP-848), with confluent-kafka and Kafka's own consumer, alone and beside members with the classic protocol."""

import re

from confluent_kafka import Consumer

from common import Member, QUIET, admin, await_records, await_shares, create_topic, fresh, produce, results, values
from groups import numbered, three_share
from harness import check, eventually, expect, expect_that
from java_tools import tool


def state(server, group):
    return admin(server).describe_consumer_groups([group])[group].result(10).state.name


def kind(server, group):
    listed = {g.group_id: g.type.name for g in admin(server).list_consumer_groups().result(10).valid}
    return listed.get(group)


@check
def three_members_consumer_protocol(server):
    """group.protocol=consumer: three members share 16 partitions, each record once while they come, leave and die."""
    three_share(server, group_protocol="consumer")


@check
def a_group_changes_its_protocol(server):
    """Members of both protocols in one group: it is upgraded when the first new one comes, downgraded when the last one leaves."""
    topic, group = create_topic(server, "mixed", 8), fresh("mixed")
    old = Member(server, group, topic, partition_assignment_strategy="cooperative-sticky")
    await_shares("the classic member owns all", [old], [8])
    expect("type", kind(server, group), "CLASSIC")
    sent = numbered(server, topic, 8, 0, 400)
    await_records("a classic member", [old], sent)
    new = Member(server, group, topic, group_protocol="consumer")
    await_shares("both share", [old, new], [4, 4])
    expect("type with both", kind(server, group), "CONSUMER")
    sent += numbered(server, topic, 8, 400, 400)
    await_records("both", [old, new], sent)
    new.leave()
    await_shares("the classic member owns all again", [old, new], [0, 8])
    eventually("type after the new one left", lambda: kind(server, group), "CLASSIC")
    sent += numbered(server, topic, 8, 800, 400)
    await_records("the classic member again", [old, new], sent)
    expect("errors", [old.errors(), new.errors()], [[], []])
    old.leave()


def expect_no_stale_work(members):
    """No member got a record after another one had committed an offset behind it."""
    records = [(number, e) for number, m in enumerate(members) for e in m.events("record")]
    for partition in {e["partition"] for _, e in records}:
        ours = [(number, e) for number, e in records if e["partition"] == partition]
        committed = [(number, e["committed_at"], e["offset"]) for number, e in ours if e["committed_at"] is not None]
        for number, event in ours:
            late = [c for c in committed if c[0] != number and c[1] < event["got_at"] and c[2] >= event["offset"]]
            expect(f"others had committed partition {partition} when member {number} got offset {event['offset']}", late[:3], [])


@check
def ten_members_come_and_go_over_a_restart(server):
    """Ten members of both protocols come, go and die, and the broker restarts in the middle: every record at least once, and none after the next owner went on behind it."""
    topic, group = create_topic(server, "crowd", 12), fresh("crowd")
    member = lambda n: Member(server, group, topic, **({"group_protocol": "consumer"} if n % 2 else {"partition_assignment_strategy": "range"}))
    members = [member(n) for n in range(6)]
    await_shares("six share", members, [2] * 6, 60)
    sent = numbered(server, topic, 12, 0, 600)
    members[0].leave()
    members[1].kill()
    members += [member(n) for n in range(6, 8)]
    server.stop()
    server.start()
    sent += numbered(server, topic, 12, 600, 600)
    members += [member(n) for n in range(8, 10)]
    await_shares("eight share", members, [0, 0, 1, 1, 1, 1, 2, 2, 2, 2], 90)
    sent += numbered(server, topic, 12, 1200, 600)
    seen = lambda: {value for m in members for value in m.records()}
    eventually("records since the restart not seen", lambda: len(set(sent[600:]) - seen()), 0, 60)
    # Before it, a member was killed that may have committed what it did not tell of, one batch at most.
    expect_that("records before the restart not seen", len(set(sent[:600]) - seen()) <= 200, len(set(sent[:600]) - seen()))
    for n in (2, 3, 4, 5, 6, 7, 8, 9):
        members[n].leave()
    eventually("state in the end", lambda: state(server, group), "EMPTY")
    expect_no_stale_work(members)


@check
def a_regular_expression_finds_new_topics(server):
    """A pattern is resolved by the broker, and again when a topic comes that it matches."""
    prefix, group = fresh("pattern"), fresh("pattern-group")
    first = create_topic(server, prefix, 2)
    consumer = Consumer({"bootstrap.servers": server.address, **QUIET, "group.id": group, "group.protocol": "consumer", "auto.offset.reset": "earliest"})
    consumer.subscribe([f"^{prefix}.*"])
    topics = lambda: (consumer.poll(0.1), sorted({p.topic for p in consumer.assignment()}))[1]
    eventually("the first topic", topics, [first])
    second = create_topic(server, prefix, 1)
    eventually("both topics", topics, sorted([first, second]), 40)
    consumer.close()


@check
def java_consumers_of_both_protocols(server):
    """Kafka's console consumer with each group.protocol, one after the other in one group."""
    topic, group = create_topic(server, "java-protocols", 2), fresh("java-protocols")
    produce(server, topic, values(30))
    got = []
    for protocol in ("consumer", "classic", "consumer"):
        run = tool(server, "consumer.ConsoleConsumer", "--topic", topic, "--group", group, "--max-messages", "10", "--consumer-property", f"group.protocol={protocol}", "--consumer-property", "auto.offset.reset=earliest")
        got += run.out.splitlines()
    expect("each record once", sorted(map(int, re.findall(r"\d+", " ".join(got)))), list(range(30)))
    expect_that("the group is there", kind(server, group) in ("CONSUMER", "CLASSIC"), kind(server, group))
    expect("delete", results(admin(server).delete_consumer_groups([group])), {group: None})
