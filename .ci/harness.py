"""What every check of the running broker needs: a server to check, and a way to say what was expected and what came.

A server is either the release binary (`Tidelog`) or a real Apache Kafka 4.3.1 (`Kafka`), started from the same
`server.properties`, so that every check can be proven against the original before it judges ours.
"""

import argparse
import atexit
import ctypes
import inspect
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tidelog-ci"
KAFKA_LIBS = pathlib.Path(os.environ.get("KAFKA_LIBS") or CACHE / "kafka-4.3.1")
CHECK_SECONDS_MAX = 120

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Failed(AssertionError):
    """A check found something other than what it expected."""


def short(value, limit=600):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def expect(what, got, want):
    if got != want:
        raise Failed(f"{what}\n    expected: {short(want)}\n    got:      {short(got)}")


def expect_that(what, condition, got=""):
    if not condition:
        raise Failed(f"{what}\n    got:      {short(got)}")


def eventually(what, probe, want=True, seconds=30.0):
    """Calls `probe` until it returns `want`; answers how long that took."""
    started = time.monotonic()
    while True:
        got = probe()
        if got == want:
            return time.monotonic() - started
        if time.monotonic() - started > seconds:
            raise Failed(f"{what} within {seconds:g} s\n    expected: {short(want)}\n    got:      {short(got)}")
        time.sleep(0.02)


def spawn(command, file_bytes_max=None, **options):
    """A child that cannot outlive this process, however this process ends; writes to files past `file_bytes_max` fail (EFBIG)."""
    parent = os.getpid()

    def die_with_parent():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        if file_bytes_max is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

    child = subprocess.Popen([str(part) for part in command], preexec_fn=die_with_parent, **options)
    atexit.register(child.kill)
    return child


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def scratch(name):
    """A fresh folder that goes away with this process, unless KEEP_SCRATCH is set."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"tidelog-{name}-"))
    if not os.environ.get("KEEP_SCRATCH"):
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Server:
    """One broker on a data directory and a port of its own. `start`, `stop` and `kill` may be repeated."""

    ready = "Kafka Server started"
    ready_seconds_max = 30

    def __init__(self, folder=None, **properties):
        self.folder = folder or scratch(type(self).__name__.lower())
        self.host = "127.0.0.1"
        self.prefix = []  # what runs the command, such as `ip netns exec`
        self.port = free_port()
        self.controller_port = free_port()
        self.data = self.folder / "data"
        self.properties_file = self.folder / "server.properties"
        self.output = self.folder / "stdout.log"
        self.errors = self.folder / "stderr.log"
        self.process = None
        self.environment = {}
        self.file_bytes_max = None
        self.properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": self.data,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            **{key.replace("_", "."): value for key, value in properties.items()},
        }

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def write_properties(self):
        lines = [f"{key}={value}" for key, value in self.properties.items()]
        self.properties_file.write_text("\n".join(lines) + "\n")

    def spawn(self):
        """Starts the process and returns at once."""
        self.write_properties()
        self.output_start = self.output.stat().st_size if self.output.exists() else 0
        with open(self.output, "ab") as output, open(self.errors, "ab") as errors:
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": errors}
            self.process = spawn([*self.prefix, *self.command()], self.file_bytes_max, env={**os.environ, **self.environment}, **streams)

    def start(self):
        self.spawn()
        started = time.monotonic()
        while self.ready not in self.printed():
            if self.process.poll() is not None:
                raise Failed(f"the broker ended with {self.process.returncode} as it started\n{self.last_words()}")
            if time.monotonic() - started > self.ready_seconds_max:
                raise Failed(f"the broker did not print {self.ready!r}\n{self.last_words()}")
            time.sleep(0.002)
        return time.monotonic() - started

    def printed(self):
        """What this run has written to standard output so far."""
        with open(self.output, errors="replace") as output:
            output.seek(self.output_start)
            return output.read()

    def stop(self, seconds=30):
        """SIGTERM, and the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"the broker did not stop within {seconds} s of SIGTERM\n{self.last_words()}") from None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def last_words(self):
        tail = lambda path: "".join(path.read_text(errors="replace").splitlines(True)[-15:]) if path.exists() else ""
        return f"--- stdout\n{tail(self.output)}--- stderr\n{tail(self.errors)}"

    def expect_sound(self):
        """The process lives, and no thread of it has panicked."""
        expect_that("the broker is running", self.process.poll() is None, self.last_words())
        words = self.errors.read_text(errors="replace") + self.output.read_text(errors="replace")
        expect_that("no thread of the broker panicked", "panicked at" not in words, self.last_words())

    def status(self, key):
        """A line of /proc/PID/status in KiB, such as VmRSS."""
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise Failed(f"/proc/PID/status has no {key}")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class Tidelog(Server):
    original = False

    def __init__(self, binary, folder=None, **properties):
        super().__init__(folder, **properties)
        self.binary = binary

    def command(self):
        return [self.binary, "broker", "--config", self.properties_file]


class Kafka(Server):
    original = True
    ready_seconds_max = 120  # on a machine that compiles meanwhile

    def __init__(self, folder=None, features=(), **properties):
        super().__init__(folder, **properties)
        self.features = [argument for feature in features for argument in ("--feature", feature)]

    def command(self):
        if not self.data.exists():
            cluster_id = java("kafka.tools.StorageTool", "random-uuid").out.split()[-1]
            java("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", self.properties_file, *self.features)
        return [*JAVA, "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-Dorg.slf4j.simpleLogger.logFile=System.out",
                "-cp", f"{KAFKA_LIBS}/*", "kafka.Kafka", self.properties_file]


class Ran:
    """What a finished command said."""

    def __init__(self, command, done):
        self.command, self.code, self.out, self.err = command, done.returncode, done.stdout, done.stderr

    def __str__(self):
        return f"{' '.join(self.command)}\n    exit code {self.code}\n    stdout: {short(self.out, 3000)}\n    stderr: {short(self.err, 3000)}"


def run(command, text=None, code=0, seconds=60):
    """Runs a command to its end; with `code` None any exit code will do."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, input=text if text is not None else "", capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode(errors="replace") + (late.stderr or b"").decode(errors="replace")
        raise Failed(f"{' '.join(command)}\n    did not end within {seconds} s and said: {short(said, 2000)}") from None
    ran = Ran(command, done)
    if code is not None and ran.code != code:
        raise Failed(f"expected exit code {code} of: {ran}")
    return ran


# Tiered compilation stops at the first tier: the tools live for a second each.
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]


def java(main_class, *arguments, text=None, code=0, seconds=60):
    """Runs a main class of Kafka's jars; warnings go to standard error."""
    return run([*JAVA, "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{KAFKA_LIBS}/*", main_class, *arguments], text, code, seconds)


CHECKS = []


def check(function):
    """Marks a function `(server) -> None` as a check; its name and first doc line are what is printed."""
    CHECKS.append(function)
    return function


def arguments(description):
    """The arguments that every harness takes; also lets this process and its children open as many files as they may."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--binary", default=REPOSITORY / "target/release/tidelog", help="the broker to check (default: target/release/tidelog)")
    which.add_argument("--kafka", action="store_true", help="check a real Apache Kafka 4.3.1 instead, to prove the checks themselves")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failed check")
    return parser


def new_server(options, folder=None, **properties):
    return Kafka(folder, **properties) if options.kafka else Tidelog(options.binary, folder, **properties)


def run_checks(options, server, checks, names):
    """Runs the checks (those whose name contains one of `names`, or all); prints a line each, and answers (passed, failed)."""

    def too_long(*_):
        raise Failed(f"the check took longer than {CHECK_SECONDS_MAX} s")

    signal.signal(signal.SIGALRM, too_long)
    chosen = [c for c in checks if not names or any(name in c.__name__ for name in names)]
    if not chosen:
        sys.exit(f"no check is called {names}; there are: {', '.join(c.__name__ for c in checks)}")
    passed = failed = 0
    for one in chosen:
        started = time.monotonic()
        signal.alarm(CHECK_SECONDS_MAX)
        try:
            one(server)
            if server.process is not None:
                server.expect_sound()
            problem = None
        except Failed as failure:
            problem = str(failure)
        except Exception:
            problem = traceback.format_exc()
        finally:
            signal.alarm(0)
        took = time.monotonic() - started
        if problem is None:
            passed += 1
            print(f"ok    {one.__name__} ({took:.1f} s)", flush=True)
            continue
        failed += 1
        print(f"FAIL  {one.__name__} ({took:.1f} s): {(inspect.getdoc(one) or '').splitlines()[0]}\n    {problem}", flush=True)
        if server.process is not None and server.process.poll() is not None:
            print(f"the broker has ended with {server.process.returncode}\n{server.last_words()}", flush=True)
            break
        if not options.keep_going:
            break
    return passed, failed


def finish(passed, failed):
    """The closing line, and the count for .ci/run."""
    if os.environ.get("CHECKS_PASSED"):
        with open(os.environ["CHECKS_PASSED"], "a") as counts:
            print(passed, file=counts)
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)
