"""Clients that share no code with Kafka's or librdkafka's: Go (franz-go) and JavaScript (kafkajs).

.ci/run builds the one and installs the other into $OTHER_CLIENTS: `go-client`, and `node_modules`.
"""

import os
import pathlib

from common import fresh
from harness import CACHE, check, expect, run

HERE = pathlib.Path(__file__).resolve().parent
CLIENTS = pathlib.Path(os.environ.get("OTHER_CLIENTS") or CACHE / "other-clients")


@check
def go_client(server):
    """franz-go: each codec, an idempotent producer, a group that resumes, the admin client."""
    ran = run([CLIENTS / "go-client", server.address, fresh("go"), fresh("go")], code=None, seconds=90)
    expect("what it says", ran.out.strip(), "ok")


@check
def node_client(server):
    """kafkajs: plain and gzip, an idempotent producer, a group that resumes, the admin client."""
    os.environ["NODE_PATH"] = str(CLIENTS / "node_modules")
    ran = run(["node", HERE / "node" / "client.js", server.address, fresh("node"), fresh("node")], code=None, seconds=90)
    expect("what it says", ran.out.strip(), "ok")
