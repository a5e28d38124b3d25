"""Consumer groups with confluent-kafka: sharing, leaving, dying, committed offsets, and what a restart of the broker leaves of them."""

import time

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import NewPartitions

from common import Member, admin, await_records, await_shares, consumer, create_topic, error_name, fresh, produce, results, topic_id, values
from harness import check, eventually, expect, expect_that


def numbered(server, topic, partitions, start, count):
    """Produces the numbers from `start` on, spread over all partitions; answers their texts."""
    produce(server, topic, ({"value": f"{n}", "partition": n % partitions} for n in range(start, start + count)))
    return [f"{n}" for n in range(start, start + count)]


def three_share(server, **config):
    """Sixteen partitions through a life of a group: three join, one leaves, one dies, one comes."""
    topic, group = create_topic(server, "shared", 16), fresh("group")
    members = [Member(server, group, topic, **config)]
    await_shares("the first member owns all", members, [16])
    members += [Member(server, group, topic, **config) for _ in range(2)]
    await_shares("three members share", members, [5, 5, 6])
    sent = numbered(server, topic, 16, 0, 1600)
    await_records("three members", members, sent)

    members[0].leave()
    took = await_shares("two members share after one left", members, [0, 8, 8])
    expect_that("a member that leaves is not waited for", took < 5, f"{took:.1f} s")
    sent += numbered(server, topic, 16, 1600, 800)
    await_records("two members", members, sent)

    members[1].kill()
    await_shares("one member owns all after one died", members, [0, 0, 16])
    sent += numbered(server, topic, 16, 2400, 800)
    await_records("one member", members, sent)

    members.append(Member(server, group, topic, **config))
    await_shares("two members share after one came", members, [0, 0, 8, 8])
    sent += numbered(server, topic, 16, 3200, 800)
    await_records("a new member", members, sent)
    expect("errors of the members", [m.errors() for m in members], [[], [], [], []])
    for member in members[2:]:
        member.leave()


@check
def three_members_range(server):
    """Three consumers of a group share 16 partitions (range): each record once while they come, leave and die."""
    three_share(server, partition_assignment_strategy="range")


@check
def three_members_cooperative(server):
    """The same with the cooperative-sticky assignor: partitions move one by one."""
    three_share(server, partition_assignment_strategy="cooperative-sticky")


@check
def cooperative_members_keep_what_they_have(server):
    """cooperative-sticky: when a second member comes, the first gives up half and never loses the rest in between."""
    topic, group = create_topic(server, "sticky", 8), fresh("group")
    first = Member(server, group, topic, partition_assignment_strategy="cooperative-sticky")
    await_shares("the first member owns all", [first], [8])
    second = Member(server, group, topic, partition_assignment_strategy="cooperative-sticky")
    await_shares("both members share", [first, second], [4, 4])
    expect("partitions revoked from the first", [len(e["partitions"]) for e in first.events("revoked")], [4])
    for member in (first, second):
        member.leave()


@check
def committed_offsets_resume(server):
    """A new consumer goes on where the last one committed; offset and metadata come back as they were."""
    topic, group = create_topic(server, "resume", 2), fresh("group")
    produce(server, topic, values(100, partition=0))
    produce(server, topic, values(100, partition=1))
    first = consumer(server, group, enable_partition_eof=False)
    first.subscribe([topic])
    got = []
    eventually("100 records", lambda: got.extend(m for m in first.consume(25, 0.5)) or len(got) >= 100)
    position = {p: max([m.offset() + 1 for m in got if m.partition() == p], default=0) for p in (0, 1)}
    first.commit(offsets=[TopicPartition(topic, p, o, metadata=f"note {p}") for p, o in position.items()], asynchronous=False)
    first.close()
    second = consumer(server, group)
    back = second.committed([TopicPartition(topic, p) for p in (0, 1)], timeout=10)
    expect("committed", [(t.partition, t.offset, t.metadata) for t in back], [(p, position[p], f"note {p}") for p in (0, 1)])
    second.subscribe([topic])
    rest = []
    eventually("the other 100 records", lambda: rest.extend(m for m in second.consume(25, 0.5) if not m.error()) or len(rest) >= 100)
    place = lambda m: (m.partition(), m.offset())
    expect("each record once", sorted(map(place, got + rest)), [(p, o) for p in (0, 1) for o in range(100)])
    second.close()
    third = consumer(server, fresh("group"))
    expect("committed by nobody", [t.offset for t in third.committed([TopicPartition(topic, 0)], timeout=10)], [-1001])
    third.close()


def committed(server, group, topic, partitions):
    """The committed offsets, as soon as the coordinator has loaded its log."""
    reader, back = consumer(server, group), []

    def asked():
        try:
            back[:] = reader.committed([TopicPartition(topic, p) for p in range(partitions)], timeout=10)
            return "answered"
        except KafkaException as error:
            return error_name(error)

    eventually(f"committed offsets of {group}", asked, "answered", 15)
    reader.close()
    return [t.offset for t in back]


def restart_keeps(server, restart):
    """Records, committed offsets, topics and configs outlive the broker; a living group goes on without losing a record."""
    topic, group = create_topic(server, "outlive", 4, retention_ms=77_000_000), fresh("group")
    sent = numbered(server, topic, 4, 0, 400)
    members = [Member(server, group, topic, session_timeout_ms=20_000) for _ in range(2)]
    await_shares("two members share", members, [2, 2])
    await_records("before the restart", members, sent)
    before = topic_id(server, topic)
    restart(server)
    sent += numbered(server, topic, 4, 400, 400)
    await_records("after the restart", members, sent)
    for member in members:
        expect("fatal errors of a member", [e for e in member.events("error") if e["fatal"]], [])
        member.leave()
    expect("committed", committed(server, group, topic, 4), [200] * 4)
    expect("topic id", topic_id(server, topic), before)
    restart(server)
    expect("committed, after another restart", committed(server, group, topic, 4), [200] * 4)
    reader = consumer(server, group)
    expect("end offsets", [reader.get_watermark_offsets(TopicPartition(topic, p), timeout=10) for p in range(4)], [(0, 200)] * 4)
    reader.close()


@check
def a_restart_keeps_everything(server):
    """SIGTERM and a start: exit code 0, and records, offsets, topics and living groups go on."""

    def restart(server):
        code = server.stop()
        expect("exit code after SIGTERM", code, 143 if server.original else 0)
        server.start()

    restart_keeps(server, restart)


@check
def a_kill_keeps_everything(server):
    """kill -9 and a start: what was acknowledged is there, and living groups go on."""

    def restart(server):
        server.kill()
        server.start()

    restart_keeps(server, restart)


@check
def static_members(server):
    """A static member (KIP-345) that dies and returns within its session timeout disturbs nobody; a twin fences the elder."""
    topic, group = create_topic(server, "static", 8), fresh("group")
    member = lambda name: Member(server, group, topic, session_timeout_ms=30_000, group_instance_id=name)
    one, two = member("one"), member("two")
    await_shares("both members share", [one, two], [4, 4])
    owned, heard = one.owned(), len(two.events())
    one.kill()
    again = member("one")
    await_shares("the returned member owns what it owned", [again, two], [4, 4])
    expect("partitions of the returned member", again.owned(), owned)
    time.sleep(1)
    expect("events of the other member meanwhile", two.events()[heard:], [])
    twin = member("one")
    eventually("the elder of two with the same instance id is fenced", lambda: again.errors()[-1:], ["_FATAL"], seconds=20)
    await_shares("the younger owns its partitions", [twin, two], [4, 4])
    expect("partitions of the younger", twin.owned(), owned)
    for left in (twin, two):
        left.leave()


@check
def two_groups_do_not_mix(server):
    """Two groups on one topic: each sees every record."""
    topic = create_topic(server, "two-groups", 4)
    members = [Member(server, fresh("group"), topic) for _ in range(2)]
    for member in members:
        await_shares("each owns all", [member], [4])
    sent = numbered(server, topic, 4, 0, 200)
    for member in members:
        await_records("each group", [member], sent)
        member.leave()


@check
def a_group_follows_new_partitions(server):
    """Partitions added to a subscribed topic are assigned without a restart of the member."""
    topic = create_topic(server, "growing", 2)
    member = Member(server, fresh("group"), topic, topic_metadata_refresh_interval_ms=500)
    await_shares("two partitions", [member], [2])
    expect("create partitions", results(admin(server).create_partitions([NewPartitions(topic, 6)])), {topic: None})
    await_shares("six partitions", [member], [6])
    await_records("all partitions", [member], numbered(server, topic, 6, 0, 60))
    member.leave()


@check
def groups_in_words(server):
    """List, describe, alter and delete groups and their offsets."""
    topic, group = create_topic(server, "described", 3), fresh("group")
    produce(server, topic, values(30, partition=0))
    client = admin(server)
    member = Member(server, group, topic, client_id="the-client")
    await_shares("the member owns all", [member], [3])
    await_records("the member", [member], [f"{n}" for n in range(30)])

    description = client.describe_consumer_groups([group])[group].result(10)
    expect("state", description.state.name, "STABLE")
    expect("assignor", description.partition_assignor, "range")
    expect("members", [(m.client_id, m.host.lstrip("/")) for m in description.members], [("the-client", "127.0.0.1")])
    expect("its assignment", sorted(t.partition for t in description.members[0].assignment.topic_partitions), [0, 1, 2])
    listed = {g.group_id: g.state.name for g in client.list_consumer_groups().result(10).valid}
    expect("state in the list", listed.get(group), "STABLE")
    expect("delete of a group in use", results(client.delete_consumer_groups([group])), {group: "NON_EMPTY_GROUP"})

    member.leave()
    eventually("state after the member left", lambda: client.describe_consumer_groups([group])[group].result(10).state.name, "EMPTY")
    offsets = lambda: {
        t.partition: t.offset for t in client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(10).topic_partitions
    }
    expect("committed", offsets().get(0), 30)
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 7), TopicPartition(topic, 2, 1)])
    altered = client.alter_consumer_group_offsets([wanted])[group].result(10)
    expect("errors of altered offsets", [t.error for t in altered.topic_partitions], [None, None])
    expect("altered", {p: o for p, o in offsets().items() if p != 1}, {0: 7, 2: 1})
    expect("delete of an empty group", results(client.delete_consumer_groups([group])), {group: None})
    expect("delete of a group that is not there", results(client.delete_consumer_groups([group])), {group: "GROUP_ID_NOT_FOUND"})
    expect("the group is out of the list", group in {g.group_id for g in client.list_consumer_groups().result(10).valid}, False)


@check
def stale_commits_are_refused(server):
    """A member that was thrown out of its group cannot commit."""
    topic, group = create_topic(server, "stale"), fresh("group")
    produce(server, topic, values(5))
    slow = consumer(server, group, max_poll_interval_ms=6000, session_timeout_ms=6000, enable_partition_eof=False)
    slow.subscribe([topic])
    eventually("a record", lambda: (m := slow.poll(0.5)) is not None and m.error() is None)
    time.sleep(7)
    other = Member(server, group, topic)
    await_shares("another member took over", [other], [1])
    try:
        slow.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
        outcome = None
    except KafkaException as error:
        outcome = error_name(error)
    expect_that("the commit failed", outcome in ("ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID"), outcome)
    slow.close()
    other.leave()
