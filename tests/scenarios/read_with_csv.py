"""What Python's csv reads of the flights below a folder, as JSON."""
import csv, gzip, io, json, pathlib, sys

count = distance = flights = 0
carriers, hours = set(), set()
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.csv*")):
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    for row in csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline="")):
        count += 1
        distance += int(row["distance"])
        flights += int(row["flight"])
        carriers.add(row["carrier"])
        hours.add(row["time_hour"])
print(json.dumps({"count": count, "distance": distance, "flights": flights, "carriers": len(carriers),
                  "first_hour": min(hours), "last_hour": max(hours)}))
