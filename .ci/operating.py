#!/usr/bin/env python3
"""Three nodes with two log directories each, looked after by Kafka's own tools and by ours: operating.py [--binary PATH] [NAME ...]

Replicas move between brokers and between directories, a move is stopped, leaders are elected, voters and features are shown. NAME picks
the checks whose name contains it.
"""

import json
import re
import shutil

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


def replicas_of(cluster, topic):
    """Of partition 0: its replicas, and which of them are in sync."""
    return replicas(cluster, topic)[0][1:]


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
def a_move_between_brokers_is_slowed_down(cluster):
    """ReassignPartitionsCommand --throttle: set on topics and brokers, the copy is seen on its way, and --verify takes it back."""
    topic, throttle = "throttled", "--throttle"
    create(cluster, topic, "1:2")
    tool(cluster, "ConsoleProducer", "--topic", topic, text="".join(f"{n:01000}\n" for n in range(8000)))
    file = plan(topic, (0, [1, 3], None))
    reassign(cluster, file, "--execute", throttle, "100000")
    said = tidelog(cluster, "config", "list", "--topic", topic)
    for side, replicas in (("leader", "0:1,0:2"), ("follower", "0:3")):
        expect_that(f"replicas of the {side} are listed", re.search(rf"{side}.replication.throttled.replicas\s+{replicas}", said), said)
        for broker in "123":
            rates = tidelog(cluster, "config", "list", "--broker", broker)
            expect_that(f"broker {broker} has a rate", re.search(rf"{side}.replication.throttled.rate\s+100000", rates), rates)
    # Who is in sync is not held up.
    tool(cluster, "ConsoleProducer", "--topic", topic, "--command-property", "acks=all", text="".join(f"{n:01000}\n" for n in range(100)))
    said = reassign(cluster, file, "--verify", "--preserve-throttles").out
    expect_that("it is on its way", "is still in progress" in said, said)
    reassign(cluster, file, "--execute", "--additional", throttle, "1000000000")
    verified(cluster, file)
    expect("replicas", replicas_of(cluster, topic), ("1,3", ["1", "3"]))
    for what in (["--topic", topic], *(["--broker", broker] for broker in "123")):
        said = tidelog(cluster, "config", "list", *what)
        expect_that(f"{what} has no throttle any more", "throttled" not in said, said)


@check
def our_own_moves_are_slowed_down(cluster):
    """tidelog cluster reassign --throttle and --unthrottle."""
    topic = "slower"
    create(cluster, topic, "1:2")
    tool(cluster, "ConsoleProducer", "--topic", topic, text="".join(f"{n:01000}\n" for n in range(8000)))
    tidelog(cluster, "cluster", "reassign", "--topic", topic, "--brokers", "1,3", "--throttle", "100000")
    said = tidelog(cluster, "cluster", "reassign", "--status", "--topic", topic)
    expect_that("it is on its way", re.search(rf"{topic}\s+0\s+1,3,2\s+3\s+2", said), said)
    tidelog(cluster, "cluster", "reassign", "--unthrottle", "--topic", topic)
    eventually("it has moved", lambda: replicas_of(cluster, topic), ("1,3", ["1", "3"]), seconds=60)
    said = tidelog(cluster, "config", "list", "--topic", topic) + tidelog(cluster, "config", "list", "--broker", "3")
    expect_that("there is no throttle any more", "throttled" not in said, said)


@check
def a_directory_is_cordoned_while_its_broker_runs(cluster):
    """ConfigCommand cordoned.log.dirs (KIP-1066): refused where Kafka refuses it, and nothing new comes into the directory."""
    def configure(*arguments, code=0):
        return java("kafka.admin.ConfigCommand", "--bootstrap-server", cluster.address, "--alter", "--entity-type", "brokers", *arguments, code=code)

    first, second = cluster.directories(1)
    for arguments, complaint in (
        (("--entity-name", "1", "--add-config", "cordoned.log.dirs=/nowhere"), "must be present in log.dirs"),
        (("--entity-default", "--add-config", f"cordoned.log.dirs={first}"), "broker id must be specified"),
        (("--entity-name", "1", "--add-config", "num.replica.fetchers=9"), "should not be greater than double the current value 1"),
    ):
        said = configure(*arguments, code=1)
        expect_that(f"refused: {arguments}", complaint in said.out + said.err, said)
    configure("--entity-name", "1", "--add-config", f"cordoned.log.dirs={first}")
    eventually("log-dirs shows it", lambda: "cordoned" in tidelog(cluster, "cluster", "log-dirs", "1"), seconds=10)
    create(cluster, "cordoned", *["1"] * 8)
    expect("directories of new replicas", set(where(cluster, "cordoned").values()), {second})
    configure("--entity-name", "1", "--delete-config", "cordoned.log.dirs")
    eventually("it is in service again", lambda: "cordoned" not in tidelog(cluster, "cluster", "log-dirs", "1"), seconds=10)


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


def quorum(cluster):
    """Voters and observers by id, each with its directory, as MetadataQuorumCommand has them."""
    said = tool(cluster, "MetadataQuorumCommand", "describe", "--replication").out
    rows = re.findall(r"^(\d+)\s+(\S+)\s+.*\b(Leader|Follower|Observer)\s*$", said, re.MULTILINE)
    # Voters come first. What a node was before it got another disk is remembered for a while, as an observer.
    return {int(node): (directory, role) for node, directory, role in reversed(rows)}


def change_voters(cluster, *arguments, config=None, code=0):
    config = ["--command-config", config] if config else []
    return tool(cluster, "MetadataQuorumCommand", *config, *arguments, code=code)


@check
def configured_voters_go_into_the_log(cluster):
    """FeatureCommand upgrade --feature kraft.version=1: tried, done, and done again; it does not go down."""
    def upgrade(*arguments, code=0):
        return tool(cluster, "FeatureCommand", "upgrade", "--feature", "kraft.version=1", *arguments, code=code)

    def unknown():
        # The leader knows its own.
        return [role for directory, role in quorum(cluster).values() if directory == "AAAAAAAAAAAAAAAAAAAAAA"]

    expect("voters of which no directory is known", unknown(), ["Follower", "Follower"])
    eventually("every voter has said where its log is", lambda: upgrade("--dry-run", code=None).code, 0, seconds=30)
    expect("it was only tried, of as many", unknown(), ["Follower", "Follower"])
    upgrade()
    expect("directories of voters", len({directory for directory, _ in quorum(cluster).values()}), 3)
    expect("voters of which no directory is known", unknown(), [])
    said = tool(cluster, "FeatureCommand", "describe").out
    expect_that("it is finalized", re.search(r"Feature: kraft.version\s.*FinalizedVersionLevel: 1", said), said)
    upgrade(code=None)
    said = tool(cluster, "FeatureCommand", "downgrade", "--feature", "kraft.version=0", code=1)
    expect_that("it does not go down", "kraft.version" in said.out + said.err, said)


@check
def voters_come_and_go(cluster):
    """MetadataQuorumCommand remove-controller and add-controller; then a voter gets an empty disk, and joins by itself."""
    before = quorum(cluster)
    leader = next(node for node, (_, role) in before.items() if role == "Leader")
    changed = leader % 3 + 1
    node = cluster.nodes[changed - 1]
    change_voters(cluster, "remove-controller", "--controller-id", changed, "--controller-directory-id", before[changed][0])
    eventually("it votes no more", lambda: quorum(cluster).get(changed, (None, None))[1], "Observer")
    said = change_voters(cluster, "remove-controller", "--controller-id", changed, "--controller-directory-id", before[changed][0], code=1)
    expect_that("who does not vote cannot be taken out", "VoterNotFound" in said.out + said.err or "does not vote" in said.out + said.err, said)
    change_voters(cluster, "add-controller", config=node.properties_file)
    eventually("it votes again", lambda: quorum(cluster)[changed], (before[changed][0], "Follower"))
    # An empty disk: its vote went with the old one. Asked for, it takes its place by itself.
    node.stop()
    for directory in cluster.directories(changed):
        shutil.rmtree(directory)
    node.properties["controller.quorum.auto.join.enable"] = "true"
    cluster_id = re.search(r"cluster.id=(\S+)", (cluster.nodes[leader - 1].data / "meta.properties").read_text())[1]
    # Voters that are in the log are found, not configured.
    del node.properties["controller.quorum.voters"]
    node.properties["controller.quorum.bootstrap.servers"] = f"127.0.0.1:{cluster.nodes[leader - 1].controller_port}"
    node.write_properties()
    harness.run([cluster.binary, "format", "-t", cluster_id, "-c", node.properties_file, "--no-initial-controllers"])
    node.start()

    def votes_anew():
        directory, role = quorum(cluster).get(changed, ("", ""))
        return role == "Follower" and directory != before[changed][0]

    eventually("it votes with its new disk", votes_anew, seconds=60)
    tidelog(cluster, "cluster", "quorum")


@check
def who_was_in_sync_stays_eligible(cluster):
    """FeatureCommand upgrade --feature eligible.leader.replicas.version=1: TopicCommand shows who may lead, and one of them does."""
    topic = "eligible"
    tool(cluster, "FeatureCommand", "upgrade", "--feature", "eligible.leader.replicas.version=1")
    said = tool(cluster, "FeatureCommand", "describe").out
    expect_that("it is finalized", re.search(r"Feature: eligible.leader.replicas.version\s.*FinalizedVersionLevel: 1", said), said)
    said = java("kafka.admin.ConfigCommand", "--bootstrap-server", cluster.address, "--describe", "--entity-type", "brokers", "--entity-default").out
    expect_that("min.insync.replicas is a matter of the cluster", "min.insync.replicas=1" in said, said)
    refused = java("kafka.admin.ConfigCommand", "--bootstrap-server", cluster.address, "--alter", "--entity-type", "brokers", "--entity-name", "1",
                   "--add-config", "min.insync.replicas=2", code=1)
    expect_that("and not of one broker", "cannot be altered while ELR is enabled" in refused.out + refused.err, refused)
    tool(cluster, "TopicCommand", "--create", "--topic", topic, "--replica-assignment", "2:3", "--config", "min.insync.replicas=2")
    tool(cluster, "ConsoleProducer", "--topic", topic, "--command-property", "acks=all", text="one\ntwo\n")

    def eligible():
        said = tool(cluster, "TopicCommand", "--describe", "--topic", topic).out
        found = re.search(r"Leader: (\S+).*Isr: (\S*)\s+Elr: (\S*)\s+LastKnownElr: (\S*)", said)
        return found.groups() if found else said

    for number in (3, 2):
        cluster.nodes[number - 1].stop()
    try:
        # One controller of three is left, which decides nothing; with the other one back it finds out.
        cluster.nodes[0].process.poll()
        cluster.nodes[2].start()
        eventually("who was the first to leave leads again", lambda: eligible()[0], "3", seconds=60)
        expect("in sync and eligible", eligible()[1:3], ("3", "2"))
    finally:
        for number in (2, 3):
            if cluster.nodes[number - 1].process.poll() is not None:
                cluster.nodes[number - 1].start()
    eventually("nobody need be eligible", lambda: eligible()[2], "", seconds=60)
    got = tool(cluster, "consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--max-messages", "2").out.split()
    expect("records", sorted(got), ["one", "two"])


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
