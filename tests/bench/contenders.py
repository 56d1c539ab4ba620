"""The cases of the bench: who competes, and how each contender is run."""

import argparse
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from ferry import Failed, Ferry, Schema, activity_of
from sinks import KEY, TOOLS, Azurite, Receiver, Sink

HERE = Path(__file__).resolve().parent
PYTHON = str(TOOLS / "bench/venv/bin/python")
AZCOPY = str(TOOLS / "bench/bin/azcopy")
CORES = os.cpu_count() or 2
SECONDS_MAX = 1800


@dataclass
class Job:
    """One run of one contender."""

    sink: Sink
    scratch: Path
    source: Path
    files: list
    options: argparse.Namespace

    def target(self, name=""):
        return f"{self.sink.container}{'/' + name if name else ''}?{self.sink.sas}"


@dataclass
class Contender:
    """What competes. `run(job)` does the work and returns its figures."""

    name: str
    run: object
    source: str = "csv"
    # Blobs are the files as they are: then their bytes must add up.
    is_copy: bool = False
    files_max: int | None = None
    rounds_max: int | None = None


@dataclass
class Case:
    """Contenders whose figures are compared, and those they are compared with."""

    contenders: list
    rivals: list = field(default_factory=list)
    sink: type = Receiver
    rounds_max: int | None = None


# ----- how the rivals are run -----


def command(arguments, job, environment=None):
    """Runs a command to its end. Its figures are those of it and all its children, by wait4."""
    environment = {
        **os.environ,
        "AZCOPY_LOG_LOCATION": str(job.scratch / "azcopy"),
        "AZCOPY_JOB_PLAN_LOCATION": str(job.scratch / "azcopy"),
        "TMPDIR": str(job.scratch),
        "RCLONE_CONFIG": str(job.scratch / "rclone.conf"),
        **(environment or {}),
    }
    with open(job.scratch / "command.log", "wb") as log:
        began = time.monotonic()
        program = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(program.pid, signal.SIGKILL))
        signal.alarm(SECONDS_MAX)
        _, status, usage = os.wait4(program.pid, 0)
        seconds = time.monotonic() - began
        signal.alarm(0)
        program.returncode = os.waitstatus_to_exitcode(status)
    if program.returncode != 0:
        tail = (job.scratch / "command.log").read_text(errors="replace")[-600:]
        raise Failed(f"exit code {program.returncode}: {tail}")
    return {
        "seconds": seconds,
        "whole_seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * 1024 / 1e6,
    }


def shell(text, job, **variables):
    variables = {key: str(value) for key, value in variables.items()}
    return command(["bash", "-euo", "pipefail", "-c", text], job, variables)


AZCOPY_FLAGS = "--skip-version-check --output-level quiet --log-level NONE"


def azcopy(job):
    return shell(
        f'"$AZCOPY" copy "$SOURCE/*" "$TARGET" --from-to LocalBlob {AZCOPY_FLAGS}',
        job, AZCOPY=AZCOPY, SOURCE=job.source, TARGET=job.target(),
    )  # fmt: skip


def igzip_then_azcopy(job):
    return shell(
        'mkdir "$TMPDIR/gz"; ls "$SOURCE" | xargs -P "$CORES" -I{} igzip -1 -o "$TMPDIR/gz/{}.gz" "$SOURCE/{}"; '
        f'"$AZCOPY" copy "$TMPDIR/gz/*" "$TARGET" --from-to LocalBlob {AZCOPY_FLAGS}',
        job, AZCOPY=AZCOPY, SOURCE=job.source, TARGET=job.target(), CORES=CORES,
    )  # fmt: skip


def gzip_to_azcopy(job):
    one = f'gzip -1 -c "$SOURCE/$0" | "$AZCOPY" copy "$TARGET/$0.gz?$SAS" --from-to PipeBlob {AZCOPY_FLAGS}'
    return shell(
        f"ls \"$SOURCE\" | xargs -P \"$CORES\" -n 1 bash -euo pipefail -c '{one}'",
        job, AZCOPY=AZCOPY, SOURCE=job.source, TARGET=job.sink.container, SAS=job.sink.sas, CORES=CORES,
    )  # fmt: skip


def rclone_config(job):
    (job.scratch / "rclone.conf").write_text(f"[sink]\ntype = azureblob\nsas_url = {job.target()}\n")


def rclone(job, transfers=4):
    rclone_config(job)
    return shell('rclone copy "$SOURCE" sink:staging --transfers "$N"', job, SOURCE=job.source, N=transfers)


def gzip_to_rclone(job):
    rclone_config(job)
    one = 'gzip -1 -c "$SOURCE/$0" | rclone rcat "sink:staging/$0.gz"'
    text = f'ls "$SOURCE" | xargs -P "$CORES" -n 1 bash -euo pipefail -c \'{one}\''
    return shell(text, job, SOURCE=job.source, CORES=CORES)


def python_isal(job, *flags):
    return command([PYTHON, str(HERE / "rival.py"), job.target(), str(job.source), *flags], job)


def kusto_ingest(job):
    sink = f"http://127.0.0.1:{job.sink.port}/staging?{job.sink.sas}"
    return command([PYTHON, str(HERE / "rival_kusto.py"), sink, *map(str, job.files)], job)


def polars(job, kind):
    program = str(HERE / "rival_polars.py")
    return command([PYTHON, program, job.sink.endpoint, "staging", KEY, str(job.source), kind], job)


# ----- how ferry is run -----


def ferry(binary, **keys):
    """A contender's work: the activity has these keys beside the usual ones."""

    def run(job):
        schema = Schema(binary)
        pattern = "*.parquet" if keys.get("kind") == "Parquet" else "*.csv"
        given = dict(keys)
        if given.pop("maps", False):
            given["sink"] = mapped(job)
        integrity = job.options.integrity or job.sink.integrity
        activity = activity_of(schema, job.source, pattern, job.sink.container, integrity=integrity, **given)
        options = job.options
        with Ferry(binary, job.scratch, job.source, nodes=options.nodes, slots=options.slots, key=KEY) as cluster:
            return cluster.copy(activity, SECONDS_MAX)

    return run


def columns_of(job):
    """Names of the columns: those of the text files, which the Parquet files have too."""
    with open(next(Path(job.source).parent.glob("csv-*/csv-00.csv")), encoding="utf-8") as file:
        return file.readline().strip().split(",")


def mapped(job):
    """Other names, and one column of another type: the records must be written anew."""
    columns = []
    for name in columns_of(job):
        sink = {"name": f"{name}_mapped"}
        if name == "passenger_count":
            sink["type"] = "real"
        columns.append({"source": {"name": name}, "sink": sink})
    return {"mapping": {"columns": columns, "typeConversionSettings": {"allowDataTruncation": False}}}


# As the cluster would read them, but written out: every value of a typed column is parsed and written anew.
CONVERTED = {"mapping": {"by": "name", "typeConversionSettings": {"dateTimeFormat": "yyyy-MM-dd HH:mm:ss"}}}
# The rivals look at no value, so ferry does not either, where a contender's name does not say so.
GZIP = {"compression": "gzip", "compressionLevel": 1, "checkValues": False}
RAW = {"compression": "none", "checkValues": False}
CHECKED = {**GZIP, "checkValues": True}
ONE_BLOB_A_FILE = {"packSmallFiles": False}


def ferries(label="ferry", **keys):
    """ferry, and ferry with ISA-L where there is one."""
    found = [(f"{label}{suffix}", os.environ.get(name)) for name, suffix in (("FERRY", ""), ("FERRY_ISAL", ", ISA-L"))]
    source = keys.pop("source", "csv")
    return [Contender(name, ferry(binary, **keys), source) for name, binary in found if binary]


def cases(large):
    found = all_cases()
    if not large:
        found["growth"].contenders = [c for c in found["growth"].contenders if c.source != "large-10GB"]
        found = {name: case for name, case in found.items() if not name.endswith("-large")}
    return found


def text_as_it_is(source):
    return Case(
        [
            *ferries(settings=RAW, source=source),
            Contender("azcopy", azcopy, source, is_copy=True),
            Contender("rclone", rclone, source, is_copy=True),
            Contender("python", lambda job: python_isal(job, "--raw", "--chunk-mb", "100000"), source, is_copy=True),
        ],
        rivals=["azcopy", "python"],
    )


def all_cases():
    growth = [
        *ferries("ferry, 100 MB", source="large-100MB", settings=GZIP),
        *ferries("ferry, 1 GB", source="large-1GB", settings=GZIP),
        *ferries("ferry, 10 GB", source="large-10GB", settings=GZIP),
        *ferries("ferry, 10,000 x 20 KB", source="small", settings=GZIP),
    ]
    return {
        "csv-gz": Case(
            [
                *ferries(settings=GZIP),
                *ferries("ferry, checked", settings=CHECKED),
                Contender("igzip -1, then azcopy", igzip_then_azcopy),
                Contender("gzip -1 | azcopy", gzip_to_azcopy),
                Contender("gzip -1 | rclone rcat", gzip_to_rclone),
                Contender("python, isal 1", python_isal),
                Contender("azure-kusto-ingest", kusto_ingest, files_max=1, rounds_max=1),
            ],
            rivals=["igzip -1, then azcopy", "python, isal 1"],
        ),
        "csv-raw": text_as_it_is("csv"),
        "parquet": Case(
            [
                *ferries(source="parquet", kind="Parquet", settings={"checkValues": False}),
                *ferries("ferry, checked", source="parquet", kind="Parquet"),
                Contender("azcopy", azcopy, "parquet", is_copy=True),
                Contender("rclone", rclone, "parquet", is_copy=True),
            ],
            rivals=["azcopy"],
        ),
        "parquet-mapped": Case(
            [
                *ferries(source="parquet", kind="Parquet", maps=True, settings=GZIP),
                Contender("polars to csv.gz", lambda job: polars(job, "csv"), "parquet"),
                Contender("polars to parquet", lambda job: polars(job, "parquet"), "parquet"),
            ],
            rivals=["polars to csv.gz"],
        ),
        "csv-checked": Case(
            [*ferries("ferry, checked", settings=CHECKED), *ferries("ferry, not checked", settings=GZIP)]
        ),
        "csv-converted": Case(ferries("ferry, converted", settings=GZIP, sink=CONVERTED)),
        "small": Case(
            [
                *ferries("ferry, packed", source="small", settings={**GZIP, "packSmallFiles": True}),
                *ferries("ferry, a blob a file", source="small", settings={**GZIP, **ONE_BLOB_A_FILE}),
                *ferries("ferry, a blob a file, raw", source="small", settings={**RAW, **ONE_BLOB_A_FILE}),
                Contender("azcopy", azcopy, "small", is_copy=True),
                Contender("rclone", lambda job: rclone(job, 16), "small", is_copy=True),
            ],
            rivals=["azcopy"],
        ),
        "growth": Case(growth),
        # AzCopy looks every two seconds whether it is done: only long runs show its rate.
        "csv-gz-large": Case(
            [
                *ferries(settings=GZIP, source="csv-1GB"),
                Contender("igzip -1, then azcopy", igzip_then_azcopy, "csv-1GB"),
                Contender("python, isal 1", python_isal, "csv-1GB"),
            ],
            rivals=["igzip -1, then azcopy", "python, isal 1"],
        ),
        "csv-raw-large": text_as_it_is("csv-1GB"),
        "azurite": Case(
            [
                *ferries("ferry, gzip", settings=GZIP),
                *ferries("ferry, raw", settings=RAW),
                Contender("igzip -1, then azcopy", igzip_then_azcopy),
                Contender("azcopy", azcopy, is_copy=True),
            ],
            rivals=["azcopy"],
            sink=Azurite,
            rounds_max=1,
        ),
    }
