"""Runs ferry as it is run for real (local-adx, coordinator, nodes: a process each) and measures stage 1 of a copy.

Stage 2 is not followed: the sinks of the bench throw the bytes away, so there is nothing to ingest, and local-adx is
told not to answer ingest commands. The coordinator keeps the times of a run; stage 1 lasts from the stored plan to the
last unit staged. Both times below are its own: `seconds` is stage 1, `whole_seconds` begins when the run is admitted
and so has the listing, the sample and the look at the sink in it.

    ferry.py --coordinator URL --ferry BINARY --folder DIR --container URL --endpoint URL [--set KEY=VALUE]...

submits a copy of DIR/*.csv to a coordinator that runs already and prints the figures as JSON. `--set` is for settings.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

# As `ferry run --watch` looks.
LOOK_INTERVAL_SECONDS = 0.3
# Ingest commands get no answer: stage 2 begins and does nothing that could be counted as stage 1.
NO_INGESTION = "hang:1000000:86400"
START_SECONDS_MAX = 30
KEY_VARIABLE = "FERRY_BENCH_KEY"


class NotSupported(Exception):
    """This ferry does not know what a case needs."""


class Failed(Exception):
    """A contender did not do its work."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def wait_until(what, is_so):
    end = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < end:
        try:
            if is_so():
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.05)
    raise Failed(f"{what} did not come up")


def cpu_seconds(pid):
    """User and system time of a process that runs."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid):
    """Peak resident memory of a process that runs. wait4 would count the memory of whoever started it, too."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


class Schema:
    """What a ferry binary knows, from its own JSON Schema: older ones lack newer keys."""

    def __init__(self, binary):
        text = subprocess.run([binary, "schema"], check=True, capture_output=True).stdout
        self.types = json.loads(text).get("$defs", {})

    def has_key(self, kind, key):
        return key in self.types.get(kind, {}).get("properties", {})

    def has_value(self, kind, value):
        return f'"{value}"' in json.dumps(self.types.get(kind, {}))


# What older ferries do without being told.
WITHOUT_SAYING = [
    ("compression", "gzip"),
    ("checkValues", False),
    ("packSmallFiles", False),
    ("splitLargeFiles", False),
]


def activity_of(schema, folder, pattern, container, *, kind="DelimitedText", settings=(), sink=(), integrity="crc64"):
    """A copy activity. Keys that this ferry does not know and that change nothing here are left out."""
    source_format = {"type": kind}
    if kind == "DelimitedText":
        source_format["firstRowAsHeader"] = True
    if not schema.has_value("FormatType", kind):
        raise NotSupported(f"no format {kind}")
    chosen = {}
    for key, value in dict(settings).items():
        if schema.has_key("Settings", key):
            chosen[key] = value
        elif (key, value) not in WITHOUT_SAYING:
            raise NotSupported(f"no settings.{key}")
    staging = {"type": "AzureBlob", "container": container, "accountKey": {"secret": f"env:{KEY_VARIABLE}"}}
    if integrity and schema.has_value("Integrity", integrity):
        staging["integrity"] = integrity
    return {
        "name": "bench",
        "source": {
            "type": "FileSystem",
            "folderPath": str(folder),
            "wildcardFileName": pattern,
            "format": source_format,
        },
        "sink": {
            "type": "AzureDataExplorer",
            "endpoint": "http://127.0.0.1:0",
            "database": "Bench",
            "table": "Bench",
            "createTable": True,
            **dict(sink),
        },
        "staging": staging,
        "settings": chosen,
    }


def follow(coordinator, run_id, seconds_max=3600):
    """Waits for the end of stage 1. Returns the run as the coordinator shows it then."""
    end = time.monotonic() + seconds_max
    while time.monotonic() < end:
        run = get(f"{coordinator}/api/v1/runs/{run_id}")
        if run["ingest"]["durationSeconds"] > 0 and run["copy"]["filesTotal"] > 0:
            return run
        if run["isFinal"] or run["state"] in ("Failing", "Cancelling"):
            raise Failed(f"run {run['state']}: {json.dumps(run.get('failure'))}")
        time.sleep(LOOK_INTERVAL_SECONDS)
    raise Failed(f"no end of stage 1 within {seconds_max} s: {json.dumps(run.get('lastFailure'))}")


def measured(run):
    """The figures of a run whose stage 1 has ended."""
    copy = run["copy"]
    return {
        "seconds": copy["durationSeconds"],
        "whole_seconds": run["durationSeconds"] - run["ingest"]["durationSeconds"],
        "bytes_read": copy["bytesTotal"],
        "rows": copy["rowsRead"],
        "files": copy["filesTotal"],
        "staged_bytes": copy["stagedBytes"],
        "retried": run.get("lastFailure"),
    }


class Ferry:
    """local-adx, a coordinator and nodes, in one folder. Leaving the block ends them."""

    def __init__(self, binary, folder, root, *, nodes=1, slots=2, key="ZmVycnliZW5jaA==", fault=NO_INGESTION):
        self.binary, self.folder, self.root, self.fault = binary, Path(folder), str(root), fault
        self.slots, self.node_count = slots, nodes
        self.environment = {**os.environ, "NO_COLOR": "1", "RUST_LOG": "warn", KEY_VARIABLE: key}
        self.programs, self.nodes = [], []

    def start(self, *arguments):
        log = open(self.folder / f"{arguments[0]}.log", "ab")
        program = subprocess.Popen(
            [self.binary, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
        )
        self.programs.append(program)
        return program

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        adx, grpc, http = free_port(), free_port(), free_port()
        self.endpoint, self.coordinator_url = f"http://127.0.0.1:{adx}", f"http://127.0.0.1:{http}"
        try:
            listen = ("--listen", f"127.0.0.1:{adx}")
            self.start("local-adx", *listen, "--data", str(self.folder / "adx"), "--fault", self.fault)
            store = f"sqlite:{self.folder / 'ferry.db'}"
            listen = ("--grpc", f"127.0.0.1:{grpc}", "--http", f"127.0.0.1:{http}")
            self.coordinator = self.start("coordinator", *listen, "--store", store)
            wait_until("the coordinator", lambda: get(f"{self.coordinator_url}/api/v1/nodes") is not None)
            for number in range(self.node_count):
                flags = ("--name", f"node-{number}", "--slots", str(self.slots), "--allow-root", self.root)
                self.nodes.append(self.start("node", "--coordinator", f"http://127.0.0.1:{grpc}", *flags))
            wait_until("a node", self.nodes_are_ready)
            with socket.create_connection(("127.0.0.1", adx), timeout=10):
                pass
        except BaseException:
            self.__exit__()
            raise
        return self

    def nodes_are_ready(self):
        views = get(f"{self.coordinator_url}/api/v1/nodes")["nodes"]
        return sum(view["state"] == "Ready" for view in views) == self.node_count

    def __exit__(self, *_):
        for program in self.programs:
            if program.returncode is None:
                program.kill()
                program.wait()

    def copy(self, activity, seconds_max=3600):
        """Runs an activity to the end of stage 1 and the nodes to theirs. Can be done once.

        CPU seconds are those of the nodes, the coordinator and `ferry run`, not those of local-adx, which stands for
        the cluster. Memory is the largest node's.
        """
        activity["sink"]["endpoint"] = self.endpoint
        path = self.folder / "activity.json"
        path.write_text(json.dumps(activity, indent=1))
        command = [self.binary, "run", str(path), "--coordinator", self.coordinator_url, "--output", "json"]
        before = os.times()
        answer = subprocess.run(command, capture_output=True, env=self.environment)
        after = os.times()
        if answer.returncode != 0:
            raise Failed(answer.stderr.decode().strip())
        run = follow(self.coordinator_url, json.loads(answer.stdout)["runId"], seconds_max)
        result = measured(run)
        result["coordinator_cpu_seconds"] = cpu_seconds(self.coordinator.pid)
        result["coordinator_peak_mb"] = peak_mb(self.coordinator.pid)
        result["peak_mb"] = max(peak_mb(node.pid) for node in self.nodes)
        result["cpu_seconds"] = (
            result["coordinator_cpu_seconds"]
            + (after.children_user - before.children_user + after.children_system - before.children_system)
            + sum(end(node) for node in self.nodes)
        )
        return result


def end(program):
    """Ends a process. Returns its CPU seconds."""
    program.send_signal(signal.SIGTERM)
    limit = time.monotonic() + 5
    while True:
        pid, status, usage = os.wait4(program.pid, os.WNOHANG)
        if pid:
            program.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime
        if time.monotonic() > limit:
            program.kill()
        time.sleep(0.01)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--coordinator", "--ferry", "--folder", "--container", "--endpoint"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="VALUE is JSON, or else text")
    given = parser.parse_args()
    settings = {}
    for key, _, value in (item.partition("=") for item in given.set):
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    try:
        activity = activity_of(Schema(given.ferry), given.folder, "*.csv", given.container, settings=settings)
    except NotSupported as error:
        sys.exit(f"this ferry does not know it: {error}")
    activity["sink"]["endpoint"] = given.endpoint
    body = json.dumps({"activity": activity}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{given.coordinator}/api/v1/runs", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            run_id = json.load(answer)["runId"]
        print(json.dumps(measured(follow(given.coordinator, run_id))))
    except urllib.error.HTTPError as error:
        sys.exit(error.read().decode())
    except Failed as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
