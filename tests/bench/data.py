"""Makes the inputs of the bench: the same bytes each time. What is there already is kept.

    data.py FOLDER csv      FILES of SIZE each: taxi-like delimited text, 19 columns, header row
    data.py FOLDER parquet  the same rows, one Parquet file (Snappy) for each of the csv files
    data.py FOLDER small    10,000 files of 20 KB (--files, --size)
    data.py FOLDER large    one file of --size

Sizes take KB, MB and GB, of 1,000. Prints the folder of the files.
"""

import argparse
import io
import os
import sys
from pathlib import Path

BLOCK_BYTES = 16_000_000
MONTHS = [f"20{24 + n // 12}-{1 + n % 12:02}-".encode() for n in range(36)]


def size_of(text):
    """Bytes of a size such as 125MB."""
    for unit, factor in (("KB", 10**3), ("MB", 10**6), ("GB", 10**9)):
        if text.upper().endswith(unit):
            return int(float(text[: -len(unit)]) * factor)
    return int(text)


def make_block():
    """Header row, and records of about BLOCK_BYTES; all of one month, so that a block can be moved to another."""
    import numpy as np
    import polars as pl

    rows = 140_000
    rng = np.random.default_rng(7)
    start, second = np.datetime64("2024-01-01T00:00:00", "us"), np.timedelta64(1_000_000, "us")
    pickup = start + np.sort(rng.integers(0, 27 * 86_400, rows)) * second
    seconds = rng.gamma(2.2, 380, rows).astype(int) + 40
    distance = np.round(seconds / 260 * rng.uniform(0.5, 1.5, rows), 2)
    fare = np.round((3 + distance * 2.5 + seconds / 120) * 10) / 10
    extra = rng.choice([0.0, 0.5, 1.0, 2.5, 3.5], rows)
    tip = np.where(rng.random(rows) < 0.65, np.round(fare * rng.choice([0.1, 0.2, 0.22, 0.25], rows), 2), 0.0)
    tolls = np.where(rng.random(rows) < 0.06, 6.94, 0.0)
    congestion = rng.choice([2.5, 0.0], rows, p=[0.9, 0.1])
    airport = rng.choice([0.0, 1.75], rows, p=[0.92, 0.08])
    zones = np.array(
        ["Midtown", "JFK Airport, Queens", "Harlem", "Battery Park, Manhattan", "Astoria", "SoHo", "Upper East Side",
         'Corona "West", Queens', "Chelsea", "Gramercy", "LaGuardia Airport, Queens", "Bushwick"]
    )  # fmt: skip
    table = pl.DataFrame(
        {
            "vendor_id": rng.choice([1, 2, 6], rows, p=[0.3, 0.69, 0.01]),
            "pickup_at": pickup,
            "dropoff_at": pickup + seconds * second,
            "passenger_count": rng.choice([1, 2, 3, 4, 5], rows, p=[0.72, 0.15, 0.05, 0.05, 0.03]),
            "trip_distance": distance,
            "rate_code": rng.choice([1, 2, 5], rows, p=[0.94, 0.04, 0.02]),
            "store_and_forward": rng.choice(["N", "Y"], rows, p=[0.99, 0.01]),
            "pickup_location_id": rng.integers(1, 266, rows),
            "dropoff_location_id": rng.integers(1, 266, rows),
            "pickup_zone": zones[rng.integers(0, len(zones), rows)],
            "payment_type": rng.choice(["Card", "Cash", "No charge"], rows, p=[0.7, 0.28, 0.02]),
            "fare_amount": fare,
            "extra": extra,
            "tip_amount": tip,
            "tolls_amount": tolls,
            "improvement_surcharge": np.full(rows, 1.0),
            "total_amount": np.round(fare + extra + tip + tolls + congestion + airport + 1.5, 2),
            "congestion_surcharge": congestion,
            "airport_fee": airport,
        }
    )
    out = io.BytesIO()
    table.write_csv(out, float_precision=2, datetime_format="%Y-%m-%d %H:%M:%S", quote_style="necessary")
    header, _, records = out.getvalue().partition(b"\n")
    end = records.rfind(b"\n", 0, BLOCK_BYTES) + 1
    return header + b"\n", records[:end]


def write_text(path, size, block, number):
    """One file of `size` bytes or a record less."""
    if path.exists() and path.stat().st_size > 0:
        return
    header, records = block
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        left = size - file.write(header)
        month = number
        while left > 0:
            moved = records.replace(MONTHS[0], MONTHS[month % len(MONTHS)])
            if left < len(moved):
                moved = moved[: moved.rfind(b"\n", 0, left) + 1]
            file.write(moved)
            left -= len(moved) if len(moved) == len(records) else left
            month += 1
    os.replace(part, path)


def write_small(folder, files, size, block):
    """Slices of a block, each with the header row."""
    header, records = block
    at = 0
    for n in range(files):
        path = folder / f"small-{n:05}.csv"
        end = records.rfind(b"\n", 0, at + size - len(header)) + 1
        if end <= at or at + size > len(records):
            at = n % 1000
            at = records.find(b"\n", at) + 1
            end = records.rfind(b"\n", 0, at + size - len(header)) + 1
        if not path.exists():
            path.write_bytes(header + records[at:end])
        at = end


def write_parquet(source, path):
    """The rows of a text file."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if path.exists():
        return
    times = {name: pa.timestamp("us") for name in ("pickup_at", "dropoff_at")}
    options = pyarrow.csv.ConvertOptions(column_types=times)
    table = pyarrow.csv.read_csv(source, convert_options=options)
    part = path.with_name(path.name + ".part")
    pyarrow.parquet.write_table(table, part, compression="snappy")
    os.replace(part, path)


def make(root, kind, files=None, size=None):
    """Makes one kind of input below `root`. Returns its folder."""
    root = Path(root)
    defaults = {"csv": (8, "125MB"), "parquet": (8, "125MB"), "small": (10_000, "20KB"), "large": (1, "1GB")}
    files, size = files or defaults[kind][0], size or defaults[kind][1]
    folder = root / f"{kind}-{files}x{size}"
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the folder: what is in it is copied.
    done = root / f"{folder.name}.done"
    if done.exists():
        return folder
    if kind == "parquet":
        for source in sorted(make(root, "csv", files, size).glob("*.csv")):
            write_parquet(source, folder / f"{source.stem}.parquet")
    elif kind == "small":
        write_small(folder, files, size_of(size), make_block())
    else:
        block = make_block()
        for n in range(files):
            write_text(folder / f"{kind}-{n:02}.csv", size_of(size), block, n * 5)
    done.touch()
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("kind", choices=["csv", "parquet", "small", "large"])
    parser.add_argument("--files", type=int)
    parser.add_argument("--size")
    given = parser.parse_args()
    print(make(given.folder, given.kind, given.files, given.size))


if __name__ == "__main__":
    sys.exit(main())
