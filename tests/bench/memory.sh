#!/usr/bin/env bash
# Copies one CSV of SIZE_MB (default 2000) through a node of its own and prints the node's peak memory (VmHWM).
# Usage: tests/bench/memory.sh [SIZE_MB]. Works below a scratch folder in $TMPDIR, which must have room for about twice that.
set -euo pipefail
cd "$(dirname "$0")/../.."
size_mb=${1:-2000}
limit_mb=300
cargo build --release --quiet -p ferry-cli
ferry=$PWD/target/release/ferry
work=$(mktemp -d)
pids=()
finish() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT
mkdir "$work/source" "$work/staging"
python3 - "$work/source/large.csv" "$size_mb" <<'PY'
import random, sys
random.seed(7)
block = "".join(f"{n},2026-01-{1 + n % 28:02}T00:00:00Z,{random.random():.6f},\"text, {random.getrandbits(60):x}\",{random.getrandbits(30)}\n" for n in range(200_000)).encode()
target = int(sys.argv[2]) * 1_000_000
with open(sys.argv[1], "wb") as file:
    file.write(b"id,at,value,text,number\n")
    while file.tell() < target:
        file.write(block)
PY
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
adx=$(port) grpc=$(port) http=$(port)
"$ferry" local-adx --listen "127.0.0.1:$adx" --data "$work/adx" >"$work/adx.log" 2>&1 & pids+=($!)
"$ferry" coordinator --grpc "127.0.0.1:$grpc" --http "127.0.0.1:$http" --store "sqlite:$work/ferry.db" >"$work/coordinator.log" 2>&1 & pids+=($!)
"$ferry" node --coordinator "http://127.0.0.1:$grpc" --allow-root "$work/source" >"$work/node.log" 2>&1 & node=$!; pids+=("$node")
cat >"$work/activity.yaml" <<YAML
name: large
source: {type: FileSystem, folderPath: $work/source, format: {type: DelimitedText, firstRowAsHeader: true}}
sink: {type: AzureDataExplorer, endpoint: "http://127.0.0.1:$adx", database: Bench, table: Large, createTable: true}
staging: {type: FileSystem, folderPath: $work/staging}
YAML
until "$ferry" nodes list --coordinator "http://127.0.0.1:$http" 2>/dev/null | grep -q Ready; do sleep 0.2; done
"$ferry" run "$work/activity.yaml" --coordinator "http://127.0.0.1:$http" --watch
peak=$(awk '/VmHWM/ {print int($2 / 1024)}' "/proc/$node/status")
echo "peak memory of the node: $peak MB (limit $limit_mb MB)"
[ "$peak" -lt "$limit_mb" ]
