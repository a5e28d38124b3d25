#!/usr/bin/env python3
"""What it costs to build `tidelog-broker` as a dependency, from nothing.

    python3 benches/build.py [--release] [--features testing,zstd] [--jobs 2]

A new package outside the workspace depends on the crate by its path and has cargo's own profiles, as it is with
`cargo add tidelog-broker`. It is built into an empty directory; downloads are over before the clock runs. Prints how long it took, the
seconds of processor in all processes, how many crates, and the crates that took longest.
"""

import argparse
import json
import pathlib
import re
import resource
import subprocess
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def units(target):
    """What cargo says about each crate in the page of --timings."""
    page = max(target.glob("cargo-timings/cargo-timing*.html"))
    found = re.search(r"UNIT_DATA = (\[.*?\]);\n", page.read_text(), re.DOTALL)
    return json.loads(found.group(1)) if found else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", action="store_true")
    parser.add_argument("--features", default="", help="beside the default ones")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "src").mkdir()
        (scratch / "src/lib.rs").write_text("pub use tidelog_broker::Broker;\n")
        features = json.dumps([feature for feature in options.features.split(",") if feature])
        dependency = f'tidelog-broker = {{ path = "{REPOSITORY}/crates/broker", features = {features} }}\n'
        manifest = '[package]\nname = "embedder"\nversion = "0.1.0"\nedition = "2024"\n\n[dependencies]\n' + dependency + "\n[workspace]\n"
        (scratch / "Cargo.toml").write_text(manifest)
        # The versions that are tested, not the newest of today.
        (scratch / "Cargo.lock").write_bytes((REPOSITORY / "Cargo.lock").read_bytes())
        subprocess.run(["cargo", "fetch", "--quiet"], cwd=scratch, check=True)
        target = scratch / "target"
        command = ["cargo", "build", "--quiet", "--offline", "--timings", "--jobs", str(options.jobs), "--target-dir", target]
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command + (["--release"] if options.release else []), cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        took, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        crates = [unit for unit in units(target) if "build-script" not in unit.get("target", "") and unit["mode"] != "run-custom-build"]
        print(f"{'release' if options.release else 'debug'}: {took:.1f} s, {processor:.1f} s of processor, {len(crates) - 1} crates, {options.jobs} jobs")
        for unit in sorted(crates, key=lambda unit: -unit["duration"])[:8]:
            print(f"  {unit['duration']:5.1f} s  {unit['name']} {unit['version']}")


if __name__ == "__main__":
    main()
