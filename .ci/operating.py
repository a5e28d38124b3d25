#!/usr/bin/env python3
"""Three nodes with two log directories each, looked after by Kafka's own tools and by ours: operating.py [--binary PATH] [NAME ...]

Replicas move between brokers and between directories, a move is stopped, leaders are elected, voters and features are shown. NAME picks
the checks whose name contains it.
"""

import json
import re

import harness
from cluster import Cluster
from harness import eventually, expect, expect_that, java, scratch

TOOLS = "org.apache.kafka.tools."
CHECKS = []


def check(one):
    CHECKS.append(one)
    return one


class TwoDisks(Cluster):
    """Each node has two log directories; the second one is formatted by the node itself."""

    def __init__(self, options):
        options.property = ["min.insync.replicas=1"]
        super().__init__(options)
        self.binary = options.binary
        for node in self.nodes:
            node.properties["log.dirs"] = f"{node.data},{node.data}-2"

    # The checks are made for one server: what they need of it.
    original = False

    @property
    def process(self):
        return self.nodes[0].process

    def last_words(self):
        return "\n".join(node.last_words() for node in self.nodes)

    def directories(self, number):
        node = self.nodes[number - 1]
        return [str(node.data), f"{node.data}-2"]


def tool(cluster, name, *arguments, **options):
    return java(TOOLS + name, "--bootstrap-server", cluster.address, *arguments, **options)


def tidelog(cluster, *arguments, code=0):
    return harness.run([cluster.binary, *arguments, "--bootstrap-server", cluster.address], code=code).out


def create(cluster, topic, *assignment):
    tool(cluster, "TopicCommand", "--create", "--topic", topic, "--replica-assignment", ",".join(assignment))


def replicas(cluster, topic):
    """Partition by partition what TopicCommand says: leader, replicas, in sync."""
    said = tool(cluster, "TopicCommand", "--describe", "--topic", topic).out
    rows = re.findall(r"Partition: (\d+)\s+Leader: (\S+)\s+Replicas: (\S*)\s+Isr: (\S*)", said)
    return {int(partition): (leader, replicas, sorted(isr.split(","))) for partition, leader, replicas, isr in rows}


def where(cluster, topic, brokers="1,2,3"):
    """(broker, partition) -> the directory, as LogDirsCommand has it."""
    said = tool(cluster, "LogDirsCommand", "--describe", "--broker-list", brokers, "--topic-list", topic).out
    found = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    return {
        (broker["broker"], int(replica["partition"].rsplit("-", 1)[1])): directory["logDir"]
        for broker in found["brokers"]
        for directory in broker["logDirs"]
        for replica in directory["partitions"]
        if not replica["isFuture"]
    }


def plan(topic, *partitions):
    """A file for ReassignPartitionsCommand: (partition, replicas, directories or None)."""
    file = scratch("operating") / f"{topic}.json"
    rows = [
        {"topic": topic, "partition": partition, "replicas": brokers, **({"log_dirs": directories} if directories else {})}
        for partition, brokers, directories in partitions
    ]
    file.write_text(json.dumps({"version": 1, "partitions": rows}))
    return file


def reassign(cluster, file, action, *more, **options):
    return tool(cluster, "reassign.ReassignPartitionsCommand", "--reassignment-json-file", file, action, *more, **options)


def verified(cluster, file, *more):
    def is_done():
        said = reassign(cluster, file, "--verify", *more).out
        return "still in progress" not in said and "is completed" in said

    eventually("the reassignment is completed", is_done, seconds=60)


@check
def replicas_change_brokers_and_directories(cluster):
    """ReassignPartitionsCommand: to other brokers and to named directories of them, verified, with all records kept."""
    topic = "moved"
    create(cluster, topic, "1:2", "2:3")
    tool(cluster, "ConsoleProducer", "--topic", topic, text="".join(f"value {n}\n" for n in range(500)))
    there = {n: cluster.directories(n) for n in (1, 2, 3)}
    file = plan(topic, (0, [3, 2], [there[3][1], "any"]), (1, [2, 1], [there[2][0], there[1][1]]))
    said = reassign(cluster, file, "--execute").out
    expect_that("it says that it has begun", "Successfully started partition reassignments for moved-0,moved-1" in said, said)
    verified(cluster, file)
    found = replicas(cluster, topic)
    expect("replicas", {n: row[1] for n, row in found.items()}, {0: "3,2", 1: "2,1"})
    expect("in sync", {n: row[2] for n, row in found.items()}, {0: ["2", "3"], 1: ["1", "2"]})
    lies = where(cluster, topic)
    expect("directories", [lies[3, 0], lies[2, 1], lies[1, 1]], [there[3][1], there[2][0], there[1][1]])
    expect("brokers", sorted(lies), [(1, 1), (2, 0), (2, 1), (3, 0)])
    # From one directory of a broker to the other, with nothing else changed.
    file = plan(topic, (1, [2, 1], [there[2][1], there[1][0]]))
    reassign(cluster, file, "--execute")
    eventually("both replicas have moved", lambda: (lambda lies: (lies[2, 1], lies[1, 1]) == (there[2][1], there[1][0]))(where(cluster, topic)), seconds=60)
    verified(cluster, file)
    got = tool(cluster, "consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--max-messages", "500").out.split("\n")
    expect("records", sorted(line for line in got if line), sorted(f"value {n}" for n in range(500)))


@check
def a_copy_between_directories_is_slowed_down(cluster):
    """ReassignPartitionsCommand --replica-alter-log-dirs-throttle: the copy is seen on its way, and ends when the rate is raised."""
    topic = "slow"
    create(cluster, topic, "1")
    tool(cluster, "ConsoleProducer", "--topic", topic, text="".join(f"{n:01000}\n" for n in range(8000)))
    here, there = where(cluster, topic)[1, 0], cluster.directories(1)
    there.remove(here)
    file = plan(topic, (0, [1], there))
    throttle = "--replica-alter-log-dirs-throttle"
    reassign(cluster, file, "--execute", throttle, "100000")
    said = reassign(cluster, file, "--verify", "--preserve-throttles").out
    expect_that("it is on its way", "is still in progress" in said, said)
    reassign(cluster, file, "--execute", "--additional", throttle, "1000000000")
    verified(cluster, file)
    expect("directory", where(cluster, topic)[1, 0], there[0])
    said = tidelog(cluster, "config", "list", "--broker", "1")
    expect_that("the throttle is taken back", "replica.alter.log.dirs" not in said, said)


@check
def a_reassignment_is_listed_and_stopped(cluster):
    """ReassignPartitionsCommand: --list and --cancel of one that cannot end, since a broker is away."""
    topic = "stopped"
    create(cluster, topic, "1:2")
    away = cluster.nodes[2]
    away.stop()
    try:
        file = plan(topic, (0, [1, 3], None))
        # Kafka's tool begins nothing with a broker that is away.
        tidelog(cluster, "cluster", "reassign", "--topic", topic, "--brokers", "1,3")
        said = tool(cluster, "reassign.ReassignPartitionsCommand", "--list").out
        expect_that("it is listed", re.search(r"stopped-0: replicas: 1,3,2.*adding: 3.*removing: 2", said), said)
        # To clear throttles the tool would wait for the broker that is away.
        said = reassign(cluster, file, "--cancel", "--preserve-throttles").out
        expect_that("it is stopped", "Successfully cancelled partition reassignment for: stopped-0" in said, said)
        expect("replicas", replicas(cluster, topic)[0][1], "1,2")
    finally:
        away.start()


@check
def preferred_replicas_lead_again(cluster):
    """LeaderElectionCommand after a restart of the broker that led, and what TopicCommand finds in between."""
    topic = "elected"
    create(cluster, topic, "2:1:3", "2:3:1")
    cluster.nodes[1].stop()
    eventually("others lead", lambda: {row[0] for row in replicas(cluster, topic).values()} == {"1", "3"}, seconds=30)
    said = tool(cluster, "TopicCommand", "--describe", "--under-replicated-partitions", "--topic", topic).out
    expect("under-replicated partitions", len(re.findall("Partition: ", said)), 2)
    cluster.nodes[1].start()
    eventually("it is in sync", lambda: all(len(row[2]) == 3 for row in replicas(cluster, topic).values()), seconds=60)
    said = tool(cluster, "LeaderElectionCommand", "--election-type", "preferred", "--all-topic-partitions").out
    expect_that("the tool says whom", "elected-0" in said and "elected-1" in said, said)
    eventually("it leads again", lambda: {row[0] for row in replicas(cluster, topic).values()} == {"2"}, seconds=30)


@check
def a_broker_is_drained(cluster):
    """tidelog cluster drain: leadership first, then every replica for which there is another broker; log-dirs has what is left."""
    topic = "drained"
    create(cluster, topic, "1:2", "1:3", "2:1")
    # Other checks have topics that stay: with one replica, or with one on each broker.
    tidelog(cluster, "cluster", "drain", "1", "--leaders-only", code=None)
    expect("leaders", {row[0] for row in replicas(cluster, topic).values()}, {"2", "3"})
    tidelog(cluster, "cluster", "drain", "1", code=None)
    expect("replicas", {n: sorted(row[1].split(",")) for n, row in replicas(cluster, topic).items()}, {n: ["2", "3"] for n in range(3)})
    eventually("nothing of it is left", lambda: [at for at in where(cluster, topic) if at[0] == 1], [])


@check
def the_quorum_and_the_features_are_shown(cluster):
    """MetadataQuorumCommand and FeatureCommand."""
    said = tool(cluster, "MetadataQuorumCommand", "describe", "--status").out
    expect_that("a leader is named", re.search(r"LeaderId:\s+[123]\n", said), said)
    expect("voters", sorted(re.findall(r'"id": ([123])', said.split("CurrentVoters")[1].split("CurrentObservers")[0])), ["1", "2", "3"])
    said = tool(cluster, "MetadataQuorumCommand", "describe", "--replication").out
    expect("rows", sorted(re.findall(r"\b(Leader|Follower|Observer)\b", said)), ["Follower", "Follower", "Leader"])
    said = tool(cluster, "FeatureCommand", "describe").out
    expect_that("metadata.version is shown", re.search(r"Feature: metadata.version\s.*FinalizedVersionLevel: 4\.3-IV0", said), said)


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("name", nargs="*")
    options = parser.parse_args()
    cluster = TwoDisks(options)
    cluster.start()
    passed, failed = harness.run_checks(options, cluster, CHECKS, options.name)
    cluster.stop()
    harness.finish(passed, failed)


if __name__ == "__main__":
    main()
