#!/usr/bin/env python3
"""Our client and command line against an Apache Kafka that protects itself: security.py [--binary PATH] [NAME ...]

One Kafka 4.3.1 with a listener for each security protocol and the StandardAuthorizer; its users, ACLs and quotas are made by our commands.
NAME picks the checks whose name contains it.
"""

import json
import subprocess
import time

import harness
from harness import check, eventually, expect, expect_that, free_port, java, run

CLEAR_WITHIN_SECONDS = 5
PLAIN_USERS = 'user_admin="admin-secret" user_alice="alice-plain"'


def certificates(folder):
    """An authority, a certificate for localhost, one for the client, and another authority that nobody trusts."""

    def openssl(*arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], cwd=folder, capture_output=True, text=True)
        expect_that(f"openssl {arguments[0]} succeeds", done.returncode == 0, done.stderr)

    for authority in ("ca", "other-ca"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2, "-subj", f"/CN={authority}",
                "-keyout", f"{authority}.key", "-out", f"{authority}.pem")
    for name, authority, subject, names in (
        ("broker", "ca", "/CN=broker", "DNS:localhost"),
        ("admin", "ca", "/CN=admin", "DNS:admin"),
        ("stranger", "other-ca", "/CN=stranger", "DNS:stranger"),
    ):
        (folder / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject,
                "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", 2,
                "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        (folder / f"{name}.store").write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.pem").read_text())


class Secured(harness.Kafka):
    """A Kafka whose listeners are plain, TLS with client certificates, SASL over TLS, and SASL."""

    def __init__(self, binary):
        super().__init__()
        self.binary = binary
        certificates(self.folder)
        self.ports = {name: free_port() for name in ("SSL", "SASL_SSL", "SASL_PLAINTEXT")}
        listeners = ",".join(f"{name}://localhost:{port}" for name, port in self.ports.items())
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        plain = f"org.apache.kafka.common.security.plain.PlainLoginModule required {PLAIN_USERS};"
        bearer = 'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        self.properties.update({
            "listeners": f"{self.properties['listeners']},{listeners}",
            "advertised.listeners": f"{self.properties['advertised.listeners']},{listeners}",
            "listener.security.protocol.map": ",".join(["CONTROLLER:PLAINTEXT", "PLAINTEXT:PLAINTEXT", *(f"{name}:{name}" for name in self.ports)]),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:CN=admin;User:admin",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.folder / "broker.store",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.folder / "ca.pem",
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.sasl_ssl.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.plain.sasl.jaas.config": plain,
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "SCRAM-SHA-256,PLAIN,OAUTHBEARER",
            "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": plain,
            "listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config": bearer,
            # Sessions of this mechanism are short, so that a check sees them renewed.
            "listener.name.sasl_plaintext.scram-sha-256.connections.max.reauth.ms": 3000,
        })

    def at(self, name):
        return f"localhost:{self.ports[name]}" if name in self.ports else self.address

    def command_line(self, listener, *arguments, **properties):
        """A command with these properties, underscores for dots."""
        settings = {"security.protocol": listener, **{key.replace("_", "."): value for key, value in properties.items()}}
        flags = [flag for key, value in settings.items() for flag in ("-X", f"{key}={value}")]
        return [self.binary, *arguments, "-b", self.at(listener), *flags]

    def run(self, listener, *arguments, code=0, text=None, **properties):
        return run(self.command_line(listener, *arguments, **properties), text, code)

    def admin(self, *arguments, **options):
        """As the administrator, with a certificate."""
        return self.run("SSL", *arguments, ssl_ca_location=self.folder / "ca.pem", ssl_certificate_location=self.folder / "admin.pem",
                        ssl_key_location=self.folder / "admin.key", **options)

    def scram(self, user, password, mechanism="SCRAM-SHA-512"):
        return {"sasl_mechanism": mechanism, "sasl_username": user, "sasl_password": password}

    @property
    def tls(self):
        return {"ssl_ca_location": self.folder / "ca.pem"}

    def refused(self, expected, listener, *arguments, **properties):
        """The command, `topic list` if none is given, fails within seconds, and says this."""
        arguments = arguments or ("topic", "list")
        started = time.monotonic()
        ran = self.run(listener, *arguments, code=2, text="a record\n", **properties)
        took = time.monotonic() - started
        said = ran.err
        expect_that(f"{' '.join(arguments)} by {listener} {sorted(properties)}: it says {expected!r}", expected in said, said)
        expect_that("it says so within seconds", took < CLEAR_WITHIN_SECONDS, f"{took:.1f} s")
        for secret in ("secret", "alice-plain"):
            expect_that("it prints no password", secret not in said + ran.out, said)
        return said

    def command(self):
        """Its selector says when a session is renewed."""
        said = super().command()
        return [said[0], "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.network.Selector=debug", *said[1:]]


@check
def every_protocol_and_mechanism(kafka):
    """Clients come in by each security protocol and mechanism, and are served."""
    expect("SSL with a certificate", json.loads(kafka.admin("topic", "create", "orders", "--if-not-exists", "--json").out)["failed"], [])
    ways = [
        ("SASL_SSL", {**kafka.tls, "sasl_mechanism": "PLAIN", "sasl_username": "admin", "sasl_password": "admin-secret"}),
        ("SASL_PLAINTEXT", {"sasl_mechanism": "PLAIN", "sasl_username": "admin", "sasl_password": "admin-secret"}),
        ("SASL_PLAINTEXT", {"sasl_mechanism": "OAUTHBEARER", "enable.sasl.oauthbearer.unsecure.jwt": "true",
                            "sasl.oauthbearer.config": "principal=admin extension_team=red"}),
    ]
    for listener, settings in ways:
        expect_that(f"{listener} {settings['sasl_mechanism']}: the topic is listed", "orders" in kafka.run(listener, "topic", "list", **settings).out)
    # The file of a Java client, with JAAS and stores in PEM, does as well.
    file = kafka.folder / "client.properties"
    file.write_text(f"""bootstrap.servers={kafka.at('SASL_SSL')}
security.protocol=SASL_SSL
ssl.truststore.type=PEM
ssl.truststore.location={kafka.folder / 'ca.pem'}
sasl.mechanism=PLAIN
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  username="admin" password="admin-secret";
""")
    ran = run([kafka.binary, "topic", "list", "--command-config", file])
    expect("no warning about the file", ran.err, "")
    expect_that("the topic is listed", "orders" in ran.out, ran)


@check
def wrong_settings_are_told(kafka):
    """Each wrong setting is told clearly within seconds, and no password with it."""
    wrong = lambda name: {"ssl_ca_location": kafka.folder / name}
    identity = lambda name: {"ssl_certificate_location": kafka.folder / f"{name}.pem", "ssl_key_location": kafka.folder / f"{name}.key"}
    plain = lambda user, password: {"sasl_mechanism": "PLAIN", "sasl_username": user, "sasl_password": password}
    kafka.refused("signed by none of those whom this client trusts", "SSL", **wrong("other-ca.pem"), **identity("admin"))
    kafka.refused("it wants a certificate of the client", "SSL", **kafka.tls)
    kafka.refused("it does not accept this client's certificate", "SSL", **kafka.tls, **identity("stranger"))
    kafka.refused("cannot read /nowhere", "SSL", ssl_ca_location="/nowhere")
    kafka.refused("do not make an identity", "SSL", **kafka.tls, ssl_certificate_location=kafka.folder / "admin.pem", ssl_key_location=kafka.folder / "stranger.key")
    kafka.refused("Invalid username or password", "SASL_SSL", **kafka.tls, **plain("alice", "wrong-secret"))
    kafka.refused("invalid credentials", "SASL_SSL", **kafka.tls, **kafka.scram("nobody", "wrong-secret"))
    kafka.refused("SCRAM-SHA-512, PLAIN", "SASL_SSL", **kafka.tls, **kafka.scram("nobody", "wrong-secret", "SCRAM-SHA-256"))
    kafka.refused("OAUTHBEARER has failed", "SASL_PLAINTEXT", **{"sasl_mechanism": "OAUTHBEARER", "enable.sasl.oauthbearer.unsecure.jwt": "true",
                  "sasl.oauthbearer.config": "principal=admin lifeSeconds=0"})

    kafka.admin("topic", "create", "crossed", "--if-not-exists")
    commands = [("topic", "list"), ("produce", "crossed"), ("consume", "crossed"), ("consume", "crossed", "--group", "crossed", "--follow"),
                ("consume", "crossed", "--group", "crossed", "--follow", "--classic"), ("group", "list")]

    def crossed(expected, protocol, listener, host="localhost", **properties):
        """A protocol at the listener of another one, whatever is done."""
        address = kafka.at(listener).replace("localhost", host)
        kafka_at, kafka.at = kafka.at, lambda _: address
        try:
            for arguments in commands:
                kafka.refused(expected, protocol, *arguments, **properties)
        finally:
            kafka.at = kafka_at

    crossed("expects TLS, and this client speaks without", "PLAINTEXT", "SSL")
    crossed("expects TLS, and this client speaks without", "SASL_PLAINTEXT", "SASL_SSL", **plain("admin", "admin-secret"))
    crossed("it does not answer in TLS", "SSL", "PLAINTEXT", **kafka.tls)
    crossed("it does not answer in TLS", "SASL_SSL", "SASL_PLAINTEXT", **kafka.tls, **plain("admin", "admin-secret"))
    crossed("wants to know who the client is", "PLAINTEXT", "SASL_PLAINTEXT")
    crossed("the listener asks nobody who they are", "SASL_PLAINTEXT", "PLAINTEXT", **plain("admin", "admin-secret"))
    crossed("its certificate is for DnsName(\"localhost\")", "SSL", "SSL", host="127.0.0.1", **kafka.tls, **identity("admin"))


@check
def users_of_ours_and_of_kafkas_tools(kafka):
    """Users that our command makes come in by SCRAM, and so do those that Kafka's tool makes, whatever letters are in the password."""
    kafka.admin("user", "set", "alice", text="alice-secret\n")
    kafka.admin("user", "set", "alice", "--mechanism", "scram-sha-256", "--iterations", 4096, text="alice-secret\n")
    listed = json.loads(kafka.admin("user", "list", "alice", "--json").out)["credentials"]
    expect("alice's credentials", [(it["mechanism"], it["iterations"]) for it in listed], [("SCRAM-SHA-256", 4096), ("SCRAM-SHA-512", 8192)])
    kafka.run("SASL_SSL", "topic", "list", **kafka.tls, **kafka.scram("alice", "alice-secret"))
    kafka.run("SASL_PLAINTEXT", "topic", "list", **kafka.scram("alice", "alice-secret", "SCRAM-SHA-256"))
    # Letters that SASLprep would change: Kafka does not do it.
    letters = "\u00aab\u212b"
    java("kafka.admin.ConfigCommand", "--bootstrap-server", kafka.address, "--alter", "--add-config", f"SCRAM-SHA-256=[password={letters}]",
         "--entity-type", "users", "--entity-name", "letters")
    kafka.run("SASL_PLAINTEXT", "topic", "list", **kafka.scram("letters", letters, "SCRAM-SHA-256"))
    kafka.admin("user", "set", "bob", text="bob-secret\n")
    kafka.admin("user", "delete", "bob")
    eventually("bob is gone", lambda: kafka.run("SASL_SSL", "topic", "list", code=None, **kafka.tls, **kafka.scram("bob", "bob-secret")).code, 2)
    ran = kafka.admin("user", "delete", "nobody", code=2)
    expect_that("who is not there cannot be deleted", "user nobody" in ran.err and "RESOURCE_NOT_FOUND" in ran.err, ran)


@check
def acls_let_in_and_keep_out(kafka):
    """alice is denied with a clear text until our command allows it; then she produces, and consumes in a group."""
    kafka.admin("user", "set", "alice", text="alice-secret\n")
    kafka.admin("topic", "create", "orders", "--if-not-exists")
    alice = {**kafka.tls, **kafka.scram("alice", "alice-secret")}

    def as_alice(*arguments, **options):
        return kafka.run("SASL_SSL", *arguments, **alice, **options)

    denied = as_alice("produce", "orders", text="one\n", code=2)
    expect_that("the topic is denied, and what is needed is said", "needs the right to" in denied.err, denied)
    said = kafka.admin("acl", "create", "--allow", "User:alice", "--operation", "write,describe", "--topic", "ord", "--prefixed").out
    expect("created", said, "created: ALLOW User:alice WRITE on TOPIC ord (PREFIXED)\ncreated: ALLOW User:alice DESCRIBE on TOPIC ord (PREFIXED)\n")
    eventually("alice may produce", lambda: as_alice("produce", "orders", text="one\ntwo\n", code=None).code, 0)
    kafka.admin("acl", "create", "--allow", "User:alice", "--operation", "read", "--topic", "orders")
    eventually("alice may read the topic", lambda: as_alice("consume", "orders", code=None).out, "one\ntwo\n")
    denied = as_alice("consume", "orders", "--group", "readers", "--count", 2, code=2)
    expect_that("the group is denied, and what is needed is said", "needs the right to READ the group" in denied.err, denied)
    kafka.admin("acl", "create", "--allow", "User:alice", "--operation", "read", "--group", "readers")
    eventually("alice may read in the group", lambda: as_alice("consume", "orders", "--group", "readers", "--count", 2, code=None).out, "one\ntwo\n")
    listed = json.loads(kafka.admin("acl", "list", "--topic", "orders", "--matching", "--json").out)["acls"]
    expect("ACLs that apply to orders", sorted((it["operation"], it["patternType"]) for it in listed),
           [("DESCRIBE", "PREFIXED"), ("READ", "LITERAL"), ("WRITE", "PREFIXED")])
    would = kafka.admin("acl", "delete", "--principal", "User:alice", "--operation", "write", "--dry-run").out
    expect("what would be deleted", would, "would be deleted: ALLOW User:alice WRITE on TOPIC ord (PREFIXED)\n")
    kafka.admin("acl", "delete", "--principal", "User:alice", "--operation", "write")
    eventually("alice may no longer produce", lambda: as_alice("produce", "orders", text="three\n", code=None).code, 2)


@check
def sessions_are_renewed(kafka):
    """Sessions of 3 s are renewed while records go through, without a loss, and by the same connections."""
    kafka.admin("user", "set", "alice", "--mechanism", "scram-sha-256", text="alice-secret\n")
    alice = kafka.scram("alice", "alice-secret", "SCRAM-SHA-256")
    kafka.admin("acl", "create", "--allow", "User:alice", "--operation", "all", "--topic", "renewed", "--group", "renewed")
    kafka.admin("topic", "create", "renewed")
    before = kafka.printed().count("Successfully re-authenticated")
    numbers = "".join(f"{n}\n" for n in range(140))
    consumer = harness.spawn(kafka.command_line("SASL_PLAINTEXT", "consume", "renewed", "--group", "renewed", "--follow", "--count", 140, **alice),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    kafka.run("SASL_PLAINTEXT", "produce", "renewed", "--rate", 20, text=numbers, **alice)
    consumed, _ = consumer.communicate(timeout=20)
    expect("what was consumed", consumed, numbers)
    renewed = kafka.printed().count("Successfully re-authenticated") - before
    expect_that("sessions were renewed", renewed >= 4, renewed)


@check
def quotas_and_features(kafka):
    """Quotas and features as our commands show and change them."""
    kafka.admin("quota", "set", "--user", "alice", "--client-id-default", "producer_byte_rate=1048576", "request_percentage=12.5")
    want = [{"entity": {"client-id": None, "user": "alice"}, "quotas": {"producer_byte_rate": 1048576.0, "request_percentage": 12.5}}]
    eventually("the quotas are listed", lambda: json.loads(kafka.admin("quota", "list", "--user", "alice", "--json").out)["quotas"], want)
    kafka.admin("quota", "unset", "--user", "alice", "--client-id-default", "producer_byte_rate", "request_percentage")
    eventually("no quotas are left", lambda: kafka.admin("quota", "list").out, "there are no such quotas\n")
    ran = kafka.admin("quota", "set", "--user", "alice", "no_such_rate=1", code=2)
    expect_that("a quota that does not exist is refused", "no_such_rate" in ran.err, ran)
    level = json.loads(kafka.admin("feature", "list", "--json").out)["features"]["metadata.version"]
    expect_that("the level is within what the broker can do", level["lowest"] <= level["level"] <= level["highest"], level)
    ran = kafka.admin("feature", "upgrade", "metadata.version=9999", "--dry-run", code=2)
    expect_that("a level that nobody knows is refused", "metadata.version" in ran.err, ran)


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    kafka = Secured(options.binary)
    kafka.start()
    passed, failed = harness.run_checks(options, kafka, harness.CHECKS, options.names)
    kafka.kill()
    harness.finish(passed, failed)


if __name__ == "__main__":
    main()
