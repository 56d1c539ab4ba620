"""Runs contenders over the same files into the same sink and prints medians. `tests/bench/run.sh` starts it.

Needs the standard library alone; runs with the Python of `.tools/bench/venv`, whose packages the rivals need.
What the columns mean: tests/bench/README.md.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contenders import CORES, HERE, PYTHON, Job, cases
from ferry import Failed, NotSupported
from sinks import TOOLS


def source_of(name, options):
    """The folder of an input, such as `csv`, `csv-1GB`, `large-1GB`, `small`; made if it is not there.

    By a process of its own: a command that this one starts would inherit its peak memory.
    """
    kind, _, size = name.partition("-")
    flags = []
    if kind in ("csv", "parquet"):
        flags = ["--files", str(options.files), "--size", size or options.size]
    elif size:
        flags = ["--size", size]
    command = [PYTHON, str(HERE / "data.py"), str(options.data), kind, *flags]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def busy_seconds():
    """What all cores of the machine have worked, by anybody."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]]
    user, nice, system, _idle, _wait, interrupts, soft = fields
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def one_run(contender, sink, options):
    source = options.sources[contender.source]
    files = sorted(path for path in source.iterdir() if path.is_file())[: contender.files_max]
    source_bytes = sum(path.stat().st_size for path in files)
    # What is read is in the page cache.
    with open(os.devnull, "wb") as nowhere:
        for at in range(0, len(files), 500):
            subprocess.run(["cat", *files[at : at + 500]], stdout=nowhere, check=True)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=options.scratch))
    try:
        sink.empty()
        sink_cpu, busy, began = sink.cpu_seconds(), busy_seconds(), time.monotonic()
        figures = contender.run(Job(sink, scratch, source, files, options))
        figures["sink_cpu_seconds"] = sink.cpu_seconds() - sink_cpu
        others = busy_seconds() - busy - figures["cpu_seconds"] - figures["sink_cpu_seconds"]
        figures["others_percent"] = max(0.0, others / (time.monotonic() - began) / CORES * 100)
        there = sink.stats()
    finally:
        if options.keep:
            print(f"    kept {scratch}", file=sys.stderr)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    if contender.is_copy and (there["bytes"], there["blobs"]) != (source_bytes, len(files)):
        raise Failed(f"{there['blobs']} blobs of {there['bytes']} bytes for {len(files)} files of {source_bytes}")
    if there["blobs"] == 0 or there["bytes"] == 0:
        raise Failed("nothing arrived")
    if figures.get("bytes_read", source_bytes) != source_bytes:
        raise Failed(f"{figures['bytes_read']} bytes were read of {source_bytes}")
    if figures.get("staged_bytes") not in (None, there["bytes"]) or figures.get("retried"):
        told = f"{figures['staged_bytes']} bytes told as staged, {there['bytes']} there; {figures['retried']}"
        print(f"  {contender.name}: {told}", file=sys.stderr)
    gigabytes = source_bytes / 1e9
    return {
        **figures,
        "source_bytes": source_bytes,
        "blobs": there["blobs"],
        "sent_bytes": there["bytes"],
        "mb_per_second": source_bytes / 1e6 / figures["seconds"],
        "whole_mb_per_second": source_bytes / 1e6 / figures["whole_seconds"],
        "cpu_seconds_per_gb": figures["cpu_seconds"] / gigabytes,
        "sink_cpu_seconds_per_gb": figures["sink_cpu_seconds"] / gigabytes,
    }


def run_case(name, case, options):
    """All rounds of a case: in each round every contender once, in turn, so that the machine's moods hit all."""
    contenders = [c for c in case.contenders if not options.only or any(o in c.name for o in options.only)]
    if not contenders:
        return None
    for contender in contenders:
        if contender.source not in options.sources:
            options.sources[contender.source] = source_of(contender.source, options)
    runs = {c.name: [] for c in contenders}
    problems = {}
    sink = case.sink(options.scratch)
    try:
        for number in range(min(options.rounds, case.rounds_max or options.rounds)):
            for contender in contenders:
                if contender.name in problems or (contender.rounds_max or options.rounds) <= number:
                    continue
                try:
                    figures = one_run(contender, sink, options)
                except (Failed, NotSupported) as error:
                    problems[contender.name] = f"{type(error).__name__}: {error}"
                    print(f"  {name}, {contender.name}: {problems[contender.name]}", file=sys.stderr)
                    continue
                runs[contender.name].append(figures)
                print(
                    f"  {name}, round {number + 1}, {contender.name}: {figures['mb_per_second']:.0f} MB/s,"
                    f" {figures['cpu_seconds_per_gb']:.2f} CPU s/GB, others {figures['others_percent']:.0f} %",
                    file=sys.stderr,
                )
    finally:
        sink.stop()
    return summary(runs, problems, case.rivals)


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def summary(runs, problems, rivals):
    rows = []
    for name, done in runs.items():
        row = {"contender": name, "runs": done, "problem": problems.get(name)}
        if done and not row["problem"]:
            keys = ["mb_per_second", "whole_mb_per_second", "cpu_seconds_per_gb", "peak_mb", "sent_bytes", "blobs"]
            keys += ["source_bytes", "sink_cpu_seconds_per_gb", "others_percent"]
            row["median"] = {key: median(done, key) for key in keys}
            rates = [run["whole_mb_per_second"] for run in done]
            row["median"]["slowest"], row["median"]["fastest"] = min(rates), max(rates)
            for rival in rivals:
                if runs.get(rival) and rival not in problems:
                    ratio = row["median"]["whole_mb_per_second"] / median(runs[rival], "whole_mb_per_second")
                    row["median"][f"ratio to {rival}"] = ratio
        rows.append(row)
    return {"rivals": rivals, "rows": rows}


def print_case(name, result):
    head = [
        "contender",
        "MB/s",
        "whole MB/s",
        "slowest-fastest",
        "CPU s/GB",
        "peak MB",
        "sent MB",
        "blobs",
        "others %",
        "runs",
    ]
    head += [f"x {rival}" for rival in result["rivals"]]
    lines = []
    for row in result["rows"]:
        m = row.get("median")
        if m is None:
            lines.append([row["contender"], (row["problem"] or "not run").splitlines()[0][:100]])
            continue
        ratios = [m.get(f"ratio to {rival}") for rival in result["rivals"]]
        lines.append(
            [
                row["contender"],
                f"{m['mb_per_second']:.0f}",
                f"{m['whole_mb_per_second']:.0f}",
                f"{m['slowest']:.0f}-{m['fastest']:.0f}",
                f"{m['cpu_seconds_per_gb']:.2f}",
                f"{m['peak_mb']:.0f}",
                f"{m['sent_bytes'] / 1e6:.0f}",
                f"{m['blobs']:.0f}",
                f"{m['others_percent']:.0f}",
                str(len(row["runs"])),
                *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
            ]
        )
    full = [line for line in lines if len(line) > 2]
    widths = [max(len(line[at]) for line in [head, *full]) for at in range(len(head))]
    widths[0] = max(widths[0], *(len(line[0]) for line in lines))
    print(f"\n{name}")
    for line in [head, *lines]:
        print("  ".join(t.ljust(w) if at == 0 else t.rjust(w) for at, (t, w) in enumerate(zip(line, widths))).rstrip())


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help="may be given more than once; default: all")
    parser.add_argument("--only", action="append", help="contenders with this text in their name; more than once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--large", action="store_true", help="also csv-gz-large, csv-raw-large and, in growth, a file of 10 GB"
    )
    parser.add_argument("--files", type=int, default=8, help="files of csv and parquet")
    parser.add_argument("--size", default="125MB", help="size of each")
    parser.add_argument("--nodes", type=int, default=1, help="ferry nodes")
    parser.add_argument("--slots", type=int, default=CORES, help="slots of each")
    parser.add_argument("--integrity", help="staging.integrity; default crc64, where ferry knows it; md5 with Azurite")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "ferry-bench/data")
    parser.add_argument("--out", type=Path, default=TOOLS / "bench/results.json")
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder of each run, with its logs")
    options = parser.parse_args()
    known = cases(options.large or any(name.endswith("-large") for name in options.case or ()))
    unknown = set(options.case or ()) - set(known)
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return options, {name: case for name, case in known.items() if not options.case or name in options.case}


def main():
    options, chosen = arguments()
    if not os.environ.get("FERRY"):
        print("FERRY is not set: rivals only", file=sys.stderr)
    options.data.mkdir(parents=True, exist_ok=True)
    results = {}
    options.sources = {}
    options.scratch = Path(tempfile.mkdtemp(prefix="ferry-bench-"))
    try:
        for name, case in chosen.items():
            result = run_case(name, case, options)
            if result:
                results[name] = result
                print_case(name, result)
                sys.stdout.flush()
                options.out.write_text(json.dumps({"rounds": options.rounds, "cases": results}, indent=1) + "\n")
    finally:
        if not options.keep:
            shutil.rmtree(options.scratch, ignore_errors=True)
    print(f"\n{options.out}")


if __name__ == "__main__":
    main()
