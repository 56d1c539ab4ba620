"""Polars: each Parquet file, columns renamed and cast, as one blob of CSV in gzip or of Parquet.

    rival_polars.py BLOB_ENDPOINT CONTAINER KEY FOLDER csv|parquet
"""

import sys
from pathlib import Path

import polars as pl

endpoint, container, key, folder, kind = sys.argv[1:]
options = {
    "account_name": "devstoreaccount1",
    "account_key": key,
    "endpoint": endpoint,
    "allow_http": "true",
}
for path in sorted(Path(folder).glob("*.parquet")):
    rows = pl.scan_parquet(path)
    columns = rows.collect_schema()
    # As the mapped copies of ferry: other names, and whole numbers and texts of other types.
    mapped = [
        (pl.col(name).cast(pl.Float64) if name == "passenger_count" else pl.col(name)).alias(f"{name}_mapped")
        for name in columns
    ]
    target = f"az://{container}/{path.stem}"
    if kind == "csv":
        rows.select(mapped).sink_csv(
            f"{target}.csv.gz", include_header=False, compression="gzip", compression_level=1, storage_options=options
        )
    else:
        rows.select(mapped).sink_parquet(f"{target}.parquet", compression="snappy", storage_options=options)
