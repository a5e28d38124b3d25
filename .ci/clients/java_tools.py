"""Apache Kafka's own tools and Java clients, as its users call them."""

import json
import re
import time

from common import CODECS, admin, consumer, create_topic, fresh, produce, read_all, results, values
from harness import check, expect, expect_that, java, scratch

TOOLS = "org.apache.kafka.tools."

# What Kafka 4.3.1 advertises for the APIs that this broker has: the version ranges are to be exactly these.
VERSIONS = {
    "Produce": "0 to 13",
    "Fetch": "4 to 18",
    "ListOffsets": "1 to 11",
    "Metadata": "0 to 13",
    "OffsetCommit": "2 to 10",
    "OffsetFetch": "1 to 10",
    "FindCoordinator": "0 to 6",
    "JoinGroup": "0 to 9",
    "Heartbeat": "0 to 4",
    "LeaveGroup": "0 to 5",
    "SyncGroup": "0 to 5",
    "DescribeGroups": "0 to 6",
    "ListGroups": "0 to 5",
    "ApiVersions": "0 to 4",
    "CreateTopics": "2 to 7",
    "DeleteTopics": "1 to 6",
    "DeleteRecords": "0 to 2",
    "InitProducerId": "0 to 5",
    "OffsetForLeaderEpoch": "2 to 4",
    "WriteTxnMarkers": "1 to 2",
    "DescribeConfigs": "1 to 4",
    "AlterConfigs": "0 to 2",
    "AlterReplicaLogDirs": "1 to 2",
    "DescribeLogDirs": "1 to 5",
    "CreatePartitions": "0 to 3",
    "DeleteGroups": "0 to 2",
    "ElectLeaders": "0 to 2",
    "IncrementalAlterConfigs": "0 to 1",
    "AlterPartitionReassignments": "0 to 1",
    "ListPartitionReassignments": "0",
    "OffsetDelete": "0",
    "DescribeQuorum": "0 to 2",
    "UpdateFeatures": "0 to 2",
    "DescribeCluster": "0 to 2",
    "UnregisterBroker": "0",
    "DescribeTopicPartitions": "0",
    "ConsumerGroupHeartbeat": "0 to 1",
    "ConsumerGroupDescribe": "0 to 1",
    "AddRaftVoter": "0 to 1",
    "RemoveRaftVoter": "0",
}


def tool(server, name, *arguments, **options):
    return java(name if name.startswith("kafka.") else TOOLS + name, "--bootstrap-server", server.address, *arguments, **options)


def lines_with(text, *words):
    return [line for line in text.splitlines() if all(word in line for word in words)]


@check
def java_api_versions(server):
    """BrokerApiVersionsCommand: each API in just the versions of Kafka 4.3.1, and none that is not built."""
    said = tool(server, "BrokerApiVersionsCommand").out
    found = dict(re.findall(r"^\t(\w+)\(\d+\): (\d+(?: to \d+)?) \[usable", said, re.M))
    unusable = re.findall(r"^\t(\w+)\(\d+\): .*UNSUPPORTED", said, re.M)
    expect_that("the tool lists APIs", found, said)
    expect("APIs with other versions", {name: found.get(name) for name, want in VERSIONS.items() if found.get(name) != want}, {})
    if not server.original:
        expect("APIs that are advertised but not expected here", sorted(set(found) - set(VERSIONS)), [])
    expect("APIs both advertised and unsupported", sorted(set(unusable) & set(VERSIONS)), [])


@check
def java_topic_command(server):
    """TopicCommand: create, list, describe, alter, delete; its errors and exit codes."""
    topic = fresh("java-topic")
    ask = lambda *arguments, **options: tool(server, "TopicCommand", *arguments, **options)
    ask("--create", "--topic", topic, "--partitions", "3", "--replication-factor", "1", "--config", "retention.ms=123456")
    expect_that("the topic is listed", topic in ask("--list").out.split())
    described = ask("--describe", "--topic", topic).out
    expect_that("describe names partitions and configs", re.search(r"PartitionCount: 3\s+ReplicationFactor: 1\s+Configs: .*retention\.ms=123456", described), described)
    expect("lines with leader and ISR", len(re.findall(r"Partition: \d\s+Leader: 1\s+Replicas: 1\s+Isr: 1", described)), 3)
    again = ask("--create", "--topic", topic, code=1)
    expect_that("a second create says why it fails", "TopicExistsException" in again.out + again.err, str(again))
    ask("--create", "--topic", topic, "--if-not-exists")
    ask("--alter", "--topic", topic, "--partitions", "5")
    expect("partitions after alter", len(lines_with(ask("--describe", "--topic", topic).out, "Leader: 1")), 5)
    ask("--create", "--topic", fresh("assigned"), "--replica-assignment", "1,1")
    wrong = ask("--create", "--topic", fresh("assigned"), "--replica-assignment", "9", code=1)
    expect_that("an assignment to a broker that is not there fails", "InvalidReplicaAssignment" in wrong.out + wrong.err, str(wrong))
    ask("--delete", "--topic", topic)
    expect_that("the deleted topic is out of the list", topic not in ask("--list").out.split())
    ask("--describe", "--topic", topic, code=1)


@check
def java_console_clients(server):
    """ConsoleProducer and ConsoleConsumer: keys, headers, a group that resumes, a partition, an offset."""
    topic, group = create_topic(server, "console"), fresh("console")
    properties = [x for name in ("parse.key", "parse.headers") for x in ("--reader-property", f"{name}=true")]
    text = "".join(f"h:{n}\tkey{n}\tvalue {n}\n" for n in range(20))
    tool(server, "ConsoleProducer", "--topic", topic, *properties, text=text)
    shown = [x for name in ("print.key", "print.headers", "print.offset") for x in ("--formatter-property", f"{name}=true")]
    consume = lambda *arguments: tool(server, "consumer.ConsoleConsumer", "--topic", topic, *arguments).out.splitlines()
    got = consume("--from-beginning", "--max-messages", "20", *shown)
    expect("consumed from the beginning", got, [f"Offset:{n}\th:{n}\tkey{n}\tvalue {n}" for n in range(20)])
    first = consume("--group", group, "--from-beginning", "--max-messages", "8")
    second = consume("--group", group, "--max-messages", "12")
    expect("consumed by a group in two runs", first + second, [f"value {n}" for n in range(20)])
    expect("consumed from offset 17 on", consume("--partition", "0", "--offset", "17", "--max-messages", "3"), ["value 17", "value 18", "value 19"])


@check
def java_codecs_meet_librdkafka(server):
    """What Java's producer compresses librdkafka reads, and the other way round, with each codec."""
    words = [f"line {n} {'ab' * n}" for n in range(200)]
    both = create_topic(server, "both-ways")
    for codec in CODECS[1:]:
        topic = create_topic(server, f"from-java-{codec}")
        tool(server, "ConsoleProducer", "--topic", topic, "--compression-codec", codec, text="\n".join(words) + "\n")
        expect(f"{codec}: from Java", [m.value().decode() for m in read_all(server, topic)], words)
        produce(server, both, [{"value": f"{codec} {word}"} for word in words], compression_type=codec)
    got = tool(server, "consumer.ConsoleConsumer", "--topic", both, "--from-beginning", "--max-messages", "800").out.splitlines()
    expect("to Java", got, [f"{codec} {word}" for codec in CODECS[1:] for word in words])


@check
def java_offsets(server):
    """GetOffsetShell: latest, earliest, the greatest timestamp, by time, and DeleteRecordsCommand in between."""
    topic = create_topic(server, "offset-shell", 2)
    stamp = int(time.time() * 1000) - 60_000
    produce(server, topic, [{"value": "x", "partition": 1, "timestamp": stamp + n} for n in (0, 20, 40, 10, 30)])
    ask = lambda *arguments: tool(server, "GetOffsetShell", "--topic", topic, *arguments).out.split()
    expect("latest", ask(), [f"{topic}:0:0", f"{topic}:1:5"])
    expect("earliest", ask("--time", "earliest"), [f"{topic}:0:0", f"{topic}:1:0"])
    expect("max timestamp", ask("--time", "-3", "--partitions", "1"), [f"{topic}:1:2"])
    expect("by time", ask("--time", str(stamp + 21), "--partitions", "1"), [f"{topic}:1:2"])
    wanted = scratch("java") / "delete.json"
    wanted.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 1, "offset": 3}]}))
    said = tool(server, "DeleteRecordsCommand", "--offset-json-file", wanted).out
    expect_that("records deleted", f"partition: {topic}-1\tlow_watermark: 3" in said, said)
    expect("earliest after delete", ask("--time", "earliest"), [f"{topic}:0:0", f"{topic}:1:3"])


@check
def java_consumer_groups(server):
    """ConsumerGroupCommand: list, describe offsets, members and state, reset and delete offsets, delete."""
    topic, group = create_topic(server, "java-group", 2), fresh("java-group")
    produce(server, topic, [{"value": f"{n}", "partition": n % 2} for n in range(20)])
    ask = lambda *arguments, **options: tool(server, "consumer.group.ConsumerGroupCommand", *arguments, **options).out
    tool(server, "consumer.ConsoleConsumer", "--topic", topic, "--group", group, "--from-beginning", "--max-messages", "20")
    produce(server, topic, values(3, partition=1))
    expect_that("the group is listed as empty", [x for x in ask("--list", "--state").splitlines() if x.split() == [group, "Empty"]])
    offsets = lambda: [line.split()[1:6] for line in lines_with(ask("--describe", "--group", group), group, topic)]
    expect("offsets (topic, partition, current, end, lag)", sorted(offsets()), [[topic, "0", "10", "10", "0"], [topic, "1", "10", "13", "3"]])

    member = consumer(server, group, client_id="the-member", enable_partition_eof=False)
    member.subscribe([topic])
    member.poll(10)
    found = lines_with(ask("--describe", "--group", group, "--members", "--verbose"), "the-member", "/127.0.0.1")
    expect_that("the living member is described", len(found) == 1 and f"{topic}:0,1" in found[0], found)
    expect_that("the state is described", lines_with(ask("--describe", "--group", group, "--state"), group, "range", "Stable"))
    member.close()

    ask("--reset-offsets", "--group", group, "--topic", f"{topic}:0", "--to-offset", "4", "--execute")
    ask("--reset-offsets", "--group", group, "--topic", f"{topic}:1", "--to-earliest", "--execute")
    expect("offsets after reset", sorted(offsets()), [[topic, "0", "4", "10", "6"], [topic, "1", "0", "13", "13"]])
    ask("--delete-offsets", "--group", group, "--topic", f"{topic}:0")
    expect("offsets after delete", [o for o in offsets() if o[2] != "-"], [[topic, "1", "0", "13", "13"]])
    ask("--delete", "--group", group)
    expect_that("the deleted group is out of the list", group not in ask("--list").split())


@check
def java_configs(server):
    """ConfigCommand: alter and describe a topic, describe the broker."""
    topic = create_topic(server, "java-config")
    ask = lambda kind, name, *arguments: tool(server, "kafka.admin.ConfigCommand", "--entity-type", kind, "--entity-name", name, *arguments).out
    ask("topics", topic, "--alter", "--add-config", "retention.ms=5555555,cleanup.policy=[compact,delete]")
    said = ask("topics", topic, "--describe")
    expect_that("retention.ms is described with its source", "retention.ms=5555555 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=5555555" in said, said)
    expect_that("cleanup.policy is described with its synonyms", "cleanup.policy=compact,delete sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete, DEFAULT_CONFIG:log.cleanup.policy=delete}" in said, said)
    ask("topics", topic, "--alter", "--delete-config", "retention.ms")
    expect_that("the deleted config is gone", "retention.ms" not in ask("topics", topic, "--describe"))
    said = ask("topics", topic, "--describe", "--all")
    expect_that("--all shows defaults", "segment.bytes=1073741824" in said and "max.message.bytes=1048588" in said, said)
    said = ask("brokers", "1", "--describe", "--all")
    expect_that("the broker's configs", "node.id=1 " in said and "advertised.listeners=" in said, said)


@check
def java_client_compatibility(server):
    """ClientCompatibilityTest: Kafka's own list of what a client needs of a broker."""
    results(admin(server).delete_topics(["newtopic"]))  # the test creates it and expects to be the first
    expected = {
        "offsets-for-times-supported": "true",
        "cluster-id-supported": "true",
        "expect-record-too-large-exception": "false",
        "num-cluster-nodes": "1",
        "create-topics-supported": "true",
        "describe-acls-supported": "true" if server.original else "false",
        "describe-configs-supported": "true",
        "idempotent-producer-supported": "true",
    }
    said = tool(server, "ClientCompatibilityTest", "--topic", fresh("compatibility"), *[x for key, value in expected.items() for x in (f"--{key}", value)])
    expect_that("it says SUCCESS", "SUCCESS" in said.out, str(said))


@check
def java_verifiable_clients(server):
    """VerifiableProducer (idempotent, acks=all) and VerifiableConsumer in a group: each of 20,000 records once."""
    topic, group, count = create_topic(server, "verifiable", 4), fresh("verifiable"), 20_000
    said = [json.loads(x) for x in tool(server, "VerifiableProducer", "--topic", topic, "--max-messages", count).out.splitlines() if x.startswith("{")]
    acked = sorted(int(e["value"]) for e in said if e["name"] == "producer_send_success")
    expect("acknowledged", acked, list(range(count)))
    said = [json.loads(x) for x in tool(server, "VerifiableConsumer", "--topic", topic, "--group-id", group, "--max-messages", count).out.splitlines() if x.startswith("{")]
    expect("consumed", sum(e["count"] for e in said if e["name"] == "records_consumed"), count)
    expect("failed commits", [e for e in said if e["name"] == "offsets_committed" and not e["success"]], [])


@check
def java_throughput_tools(server):
    """ProducerPerformance and ConsumerPerformance run through: 100,000 records of 1 KiB."""
    topic = create_topic(server, "performance", 3)
    said = tool(server, "ProducerPerformance", "--topic", topic, "--num-records", "100000", "--record-size", "1024", "--throughput", "-1").out
    expect_that("all records were sent", re.search(r"^100000 records sent", said, re.M), said)
    said = tool(server, "ConsumerPerformance", "--topic", topic, "--num-records", "100000").out
    expect_that("all records came", re.search(r", 100000, ", said), said)


@check
def java_leader_election_command(server):
    """LeaderElectionCommand: nothing to elect, for one partition and for all; a partition that is not there."""
    topic = create_topic(server, "elect", 2)
    ask = lambda *arguments, **options: tool(server, "LeaderElectionCommand", "--election-type", "preferred", *arguments, **options)
    said = ask("--topic", topic, "--partition", "1").out
    expect_that("the leader is the preferred one already", f"{topic}-1" in said and "Valid replica already elected" in said, said)
    ask("--all-topic-partitions")
    absent = ask("--topic", topic, "--partition", "7", code=1)
    expect_that("an unknown partition is an error", f"{topic}-7" in absent.out + absent.err, str(absent))


@check
def java_reassign_partitions_command(server):
    """ReassignPartitionsCommand: a partition is where it shall be, none is on its way, and there is nothing to cancel."""
    topic = create_topic(server, "move")
    plan = scratch("plan") / "plan.json"
    plan.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": [1]}]}))
    ask = lambda *arguments: tool(server, "reassign.ReassignPartitionsCommand", *arguments).out
    done = ask("--verify", "--reassignment-json-file", str(plan), "--preserve-throttles")
    expect_that("it is complete", f"Reassignment of partition {topic}-0 is completed." in done, done)
    listed = ask("--list")
    expect_that("none is listed", "No partition reassignments found." in listed, listed)
    cancelled = ask("--cancel", "--reassignment-json-file", str(plan), "--preserve-throttles")
    expect_that("none is cancelled", "None of the specified partition reassignments are active." in cancelled, cancelled)
