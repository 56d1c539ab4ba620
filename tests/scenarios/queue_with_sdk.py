"""Queues files into a cluster with Microsoft's own client, and prints what its status queues say.

queue_with_sdk.py ENDPOINT DATABASE TABLE FOLDER
"""

import json
import pathlib
import sys
import time
import uuid

from azure.kusto.data import KustoConnectionStringBuilder
from azure.kusto.data.data_format import DataFormat
from azure.kusto.ingest import (
    BlobDescriptor,
    ColumnMapping,
    FileDescriptor,
    IngestionProperties,
    QueuedIngestClient,
    ReportLevel,
    ReportMethod,
)
from azure.kusto.ingest.status import KustoIngestStatusQueues

endpoint, database, table, folder = sys.argv[1:5]
folder = pathlib.Path(folder)
client = QueuedIngestClient(KustoConnectionStringBuilder(endpoint))


def properties(**more):
    return IngestionProperties(
        database,
        table,
        report_level=ReportLevel.FailuresAndSuccesses,
        report_method=ReportMethod.Queue,
        flush_immediately=True,
        **more,
    )


expected = {}
for name, count in (("a.csv", 1000), ("b.csv", 2500)):
    path = folder / name
    path.write_text("".join(f"{i},{name} {i}\n" for i in range(count)))
    sent = client.ingest_from_file(FileDescriptor(str(path)), properties(data_format=DataFormat.CSV))
    expected[str(sent.source_id)] = "success"

lines = folder / "c.json"
lines.write_text("".join(json.dumps({"n": i, "s": f"c {i}"}) + "\n" for i in range(300)))
mapping = [ColumnMapping("id", "long", path="$.n"), ColumnMapping("text", "string", path="$.s")]
sent = client.ingest_from_file(str(lines), properties(data_format=DataFormat.JSON, column_mappings=mapping))
expected[str(sent.source_id)] = "success"

# The same blob twice under one tag: the second has no effect.
once = properties(data_format=DataFormat.CSV, ingest_by_tags=["once"], ingest_if_not_exists=["once"])
sent = client.ingest_from_file(FileDescriptor(str(folder / "a.csv")), once)
expected[str(sent.source_id)] = "success"


def pop(queue, into, kind):
    for message in queue.pop(10):
        into[str(message.IngestionSourceId)] = kind
        if kind == "failure":
            print(message.ErrorCode, message.Details, file=sys.stderr)


status = KustoIngestStatusQueues(client)
seen = {}
deadline = time.monotonic() + 120


def wait_for(wanted):
    while not wanted <= seen.keys():
        if time.monotonic() > deadline:
            sys.exit(f"no word of {wanted - seen.keys()}; seen: {seen}")
        pop(status.success, seen, "success")
        pop(status.failure, seen, "failure")
        time.sleep(0.2)


wait_for(expected.keys())
again = client.ingest_from_blob(BlobDescriptor(sent.blob_uri, 8, uuid.uuid4()), once)
expected[str(again.source_id)] = "success"
gone = sent.blob_uri.replace(".csv.gz", ".nowhere.csv.gz")
missing = client.ingest_from_blob(BlobDescriptor(gone, 8, uuid.uuid4()), properties(data_format=DataFormat.CSV))
expected[str(missing.source_id)] = "failure"
wait_for(expected.keys())

print(json.dumps({"asExpected": seen == expected, "seen": seen, "expected": expected}))
