#!/usr/bin/env python3
"""Real clients against a running broker, all on one fresh data directory: run.py [--binary PATH | --kafka] [NAME ...]

Needs confluent-kafka, kcat, a JDK, and Kafka's jars (KAFKA_LIBS, or where .ci/run puts them). NAME picks the checks whose
name contains it.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import harness  # noqa: E402
import librdkafka  # noqa: E402,F401
import groups  # noqa: E402,F401
import consumer_groups  # noqa: E402,F401
import topics  # noqa: E402,F401
import kcat  # noqa: E402,F401
import command_line  # noqa: E402,F401
import java_tools  # noqa: E402,F401
import other_languages  # noqa: E402,F401
import proxy  # noqa: E402,F401


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("name", nargs="*")
    options = parser.parse_args()
    # Members of consumer groups cannot ask for a shorter session themselves.
    times = {f"group_consumer_{bound}{what}_ms": ms for bound in ("", "min_") for what, ms in (("session_timeout", 6000), ("heartbeat_interval", 500))}
    server = harness.new_server(options, log_retention_check_interval_ms=500, log_initial_task_delay_ms=500, **times)
    print(f"started in {server.start() * 1000:.0f} ms on {server.address}, data in {server.data}", flush=True)
    passed, failed = harness.run_checks(options, server, harness.CHECKS, options.name)
    if server.process.poll() is None:
        server.stop()
    harness.finish(passed, failed)


if __name__ == "__main__":
    main()
