"""The proxy of examples/ between confluent-kafka and a broker: everything goes through it, and is printed."""

import os
import pathlib
import re

from common import CODECS, Member, admin, await_records, await_shares, create_topic, fresh, produce, read_all
from harness import REPOSITORY, Kafka, check, eventually, expect, expect_that, java, scratch, spawn

LINE = re.compile(r"\d+>\S+ (->|<-) #\d+ .*? v\d+ ([A-Z][A-Za-z]+) (?:request|response) ")


class Proxy:
    """The proxy in front of a server; to clients it is that server."""

    def __init__(self, server):
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
        self.output = scratch("proxy") / "stdout.log"
        with open(self.output, "w") as output:
            self.process = spawn([target / "debug/examples/proxy", "127.0.0.1:0", server.address], stdout=output)
        eventually("the proxy listens", lambda: self.printed().startswith("listening on "), seconds=10)
        self.address = self.printed().split()[2]

    def printed(self):
        return self.output.read_text()

    def seen(self, arrow):
        """The APIs of all requests (->) or responses (<-) so far, in their order."""
        return [found[2] for found in map(LINE.match, self.printed().splitlines()) if found and found[1] == arrow]


def through_the_proxy(server):
    proxy = Proxy(server)
    topic = create_topic(proxy, "proxied", 4)
    host, port = proxy.address.split(":")
    brokers = admin(proxy).list_topics(timeout=10).brokers.values()
    expect("the brokers that clients are told", [(b.host, str(b.port)) for b in brokers], [(host, port)])
    endpoints = java("org.apache.kafka.tools.ClusterTool", "list-endpoints", "--bootstrap-server", proxy.address).out
    expect("the endpoints that tools are told", endpoints.splitlines()[1].split()[1:3], [host, port])
    described = java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", proxy.address, "--describe", "--topic", topic).out
    expect_that("a tool describes the topic", "PartitionCount: 4" in described, described)

    sent = []
    for codec in CODECS:
        records = [{"key": f"{codec}-{n}", "value": f"{codec}-{n}" * 20, "partition": n % 4} for n in range(200)]
        produce(proxy, topic, records, compression_type=codec, enable_idempotence=True)
        sent += [record["value"] for record in records]
    expect("what is read", sorted(r.value().decode() for r in read_all(proxy, topic, 4)), sorted(sent))
    produce(proxy, topic, [{"value": "not waited for", "partition": 0}], acks=0)

    group = fresh("group")
    members = [Member(proxy, group, topic) for _ in range(2)]
    await_shares("two members share", members, [2, 2])
    await_records("two members", members, [*sent, "not waited for"])
    for member in members:
        member.leave()

    asked, answered = proxy.seen("->"), proxy.seen("<-")
    apis = ["ApiVersions", "Metadata", "CreateTopics", "DescribeCluster", "DescribeTopicPartitions", "InitProducerId", "Produce", "Fetch"]
    for api in [*apis, "FindCoordinator", "JoinGroup", "SyncGroup", "LeaveGroup"]:
        expect_that(f"a request of {api} is printed", api in asked, set(asked))
        expect_that(f"a response of {api} is printed", api in answered, set(answered))
    for line in proxy.printed().splitlines():
        expect_that("every message is understood", "not understood" not in line and "not asked for" not in line, line)
    proxy.process.terminate()


@check
def the_proxy_prints_everything(server):
    """confluent-kafka through the proxy: topics, each codec, a group."""
    through_the_proxy(server)


@check
def the_proxy_before_kafka(server):
    """The same before a real Kafka, if that is not what is checked anyway."""
    if server.original:
        return
    kafka = Kafka()
    kafka.start()
    try:
        through_the_proxy(kafka)
    finally:
        kafka.kill()
