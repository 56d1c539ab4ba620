"""Microsoft's azure-kusto-ingest: what its queued client does with a file up to the point where it queues the blob.

    rival_kusto.py CONTAINER_URL_WITH_SAS FILE...

The client asks a cluster for its containers and queues before the first byte, so it cannot be pointed at a container
alone. Here `_get_containers` is answered in the cluster's place; then the client's own steps run as `ingest_from_file`
has them: `_prepare_file`, `FileDescriptor.open(should_compress)`, `upload_blob`. Only the queue message is left out.
One file after the other, as its users' loops do.
"""

import sys

from azure.kusto.data import KustoConnectionStringBuilder
from azure.kusto.data.data_format import DataFormat
from azure.kusto.ingest import FileDescriptor, IngestionProperties, QueuedIngestClient
from azure.kusto.ingest._resource_manager import _ResourceUri
from azure.kusto.ingest.base_ingest_client import BaseIngestClient

url, *files = sys.argv[1:]
client = QueuedIngestClient(KustoConnectionStringBuilder("http://localhost:1"))
client._get_containers = lambda: [_ResourceUri(url)]
client._resource_manager.report_resource_usage_result = lambda account, succeeded: None
properties = IngestionProperties(database="Bench", table="Bench", data_format=DataFormat.CSV)
for file in files:
    descriptor, should_compress = BaseIngestClient._prepare_file(FileDescriptor(file), properties)
    with descriptor.open(should_compress) as stream:
        client.upload_blob(
            client._get_containers(),
            descriptor,
            properties.database,
            properties.table,
            stream,
            None,
            client._SERVICE_CLIENT_TIMEOUT_SECONDS,
            client._MAX_RETRIES,
        )
