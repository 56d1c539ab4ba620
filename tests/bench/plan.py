"""How long `ferry plan` takes over many small files, and how near its estimate comes to the run.

    plan.py                     # 100,000 files; then a folder of CSV, planned and copied twice
    plan.py --files 1000 --command-seconds 0

Of the first plan of the folder stage 2 is assumed; of the second it is measured in the first run's commands. local-adx takes
`--command-seconds` longer for each command, as a cluster would. Runs with the Python of `.tools/bench/venv`, as `data.py` needs it.
FERRY names another binary than the release build.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data import make
from ferry import Failed, Ferry, Schema, activity_of

HERE = Path(__file__).resolve().parent
BINARY = os.environ.get("FERRY") or str(HERE.parent.parent / "target/release/ferry")
# Small chunks, so that there are commands to measure.
SETTINGS = {"chunkSizeMB": 10}
PARTS = ("planning", "stage 1", "stage 2", "in all")


def call(ferry, *arguments):
    """What `ferry` prints as JSON."""
    command = [ferry.binary, *arguments, "--coordinator", ferry.coordinator_url, "--output", "json"]
    answer = subprocess.run(command, capture_output=True, env=ferry.environment)
    if answer.returncode != 0:
        raise Failed(answer.stderr.decode().strip())
    return json.loads(answer.stdout)


def written(ferry, folder):
    """The file of an activity that copies a folder's CSV, staged in a folder."""
    activity = activity_of(Schema(ferry.binary), folder, "*.csv", "", settings=SETTINGS, integrity=None)
    staging = ferry.folder / "staging"
    staging.mkdir(exist_ok=True)
    activity["staging"] = {"type": "FileSystem", "folderPath": str(staging)}
    activity["sink"]["endpoint"] = ferry.endpoint
    path = ferry.folder / f"{Path(folder).name}.json"
    path.write_text(json.dumps(activity, indent=1))
    return str(path)


def many(ferry, folder):
    """Times a plan of many files."""
    path = written(ferry, folder)
    began = time.monotonic()
    plan = call(ferry, "plan", path)
    took = time.monotonic() - began
    files = plan["files"]["count"]
    print(f"{files:,} files: planned in {took:.1f} s, {files / took:,.0f} files/s, {plan['units']['count']:,} units")


def estimated(plan):
    estimate = plan["estimate"]
    keys = ("planningSeconds", "stage1Seconds", "stage2Seconds", "totalSeconds")
    return [estimate.get(key) for key in keys]


def real(report):
    copy, ingest = (report["stages"][stage]["durationSeconds"] for stage in ("copy", "ingest"))
    whole = report["copyDuration"]
    return [whole - copy - ingest, copy, ingest, whole]


def compare(ferry, folder, rounds):
    """Plans and copies a folder, again and again: estimate, run, and one as a multiple of the other."""
    path = written(ferry, folder)
    print(f"{'plan':>6} {'stage 2 is':>12} {'part':>10} {'estimate s':>11} {'run s':>8} {'estimate/run':>13}")
    for number in range(1, rounds + 1):
        plan = call(ferry, "plan", path)
        report = call(ferry, "run", path, "--watch", "--run-id", f"bench-plan-{number}")
        basis = (plan["estimate"].get("stage2") or {}).get("basis", "not told")
        for part, estimate, took in zip(PARTS, estimated(plan), real(report)):
            known = estimate is not None
            ratio = f"{estimate / took:.2f}" if known and took > 0 else ""
            estimate = f"{estimate:.2f}" if known else "not known"
            print(f"{number:>6} {basis:>12} {part:>10} {estimate:>11} {took:>8.2f} {ratio:>13}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    temporary = os.environ.get("TMPDIR", "/tmp")
    parser.add_argument("--data", default=f"{temporary}/ferry-bench/data", help="where inputs are kept")
    parser.add_argument("--files", type=int, default=100_000, help="small files that are planned")
    parser.add_argument("--rounds", type=int, default=2, help="plans and runs of the folder of CSV")
    parser.add_argument("--command-seconds", type=int, default=2, help="what a command takes longer")
    given = parser.parse_args()
    small = make(given.data, "small", given.files, "1KB")
    normal = make(given.data, "csv", 8, "25MB")
    fault = f"slow:1000000:{given.command_seconds}"
    with tempfile.TemporaryDirectory(prefix="ferry-plan-") as scratch:
        try:
            with Ferry(BINARY, Path(scratch) / "ferry", given.data, fault=fault) as ferry:
                many(ferry, small)
                compare(ferry, normal, given.rounds)
        except Failed as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
