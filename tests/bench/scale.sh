#!/usr/bin/env bash
# How stage 1 grows with nodes when each node's link is what it runs out of: every node in a network namespace of its
# own behind a link of RATE; receiver, coordinator and local-adx in another one. Needs root and socat.
# Usage: tests/bench/scale.sh. Set by environment: FERRY (the binary), RATE (160mbit), SPLIT_SIZE (4GB), FILE_SIZE
# (250MB), COMPRESSION (none), SLOTS (2), STORIES ("split four eight"), BENCH_DATA.
set -euo pipefail
cd "$(dirname "$0")/../.."
bash tests/bench/install.sh
if [ -z "${FERRY:-}" ]; then
  cargo build --release -p ferry-cli
  FERRY=target/release/ferry
fi
ferry=$(realpath "$FERRY")
rate=${RATE:-160mbit}
split_size=${SPLIT_SIZE:-4GB}
file_size=${FILE_SIZE:-250MB}
compression=${COMPRESSION:-none}
slots=${SLOTS:-2}
stories=${STORIES:-split four eight}
data=${BENCH_DATA:-${TMPDIR:-/tmp}/ferry-bench/data}
python=$PWD/.tools/bench/venv/bin/python
receiver=$PWD/.tools/bench/receiver
work=$(mktemp -d)
hub=ferry-bench-hub
nodes_max=8
export FERRY_BENCH_KEY=ZmVycnliZW5jaA== RUST_LOG=warn NO_COLOR=1

servers=()  # for the whole bench
cluster=()  # for one measurement
stop() { # PID...
  local pid
  for pid in "$@"; do kill -KILL "$pid" 2>/dev/null || true; done
  for pid in "$@"; do wait "$pid" 2>/dev/null || true; done
}
finish() {
  stop "${cluster[@]}" "${servers[@]}"
  ip netns del "$hub" 2>/dev/null || true
  for i in $(seq 0 $((nodes_max - 1))); do ip netns del "ferry-bench-$i" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

within() { ip netns exec "$@"; } # NAMESPACE COMMAND...
# Starts a program whose process id is then $!: `ip netns exec` becomes the program.
launch() { # LOG NAMESPACE COMMAND...
  local log=$1
  shift
  exec ip netns exec "$@" >"$log" 2>&1
}

# A port of the loopback of one namespace, led elsewhere: ferry serves and dials loopback only.
forward() { # NAMESPACE LISTEN_ADDRESS PORT TARGET
  launch "$work/socat.log" "$1" socat -b 262144 "TCP-LISTEN:$3,bind=$2,fork,reuseaddr,nodelay" "TCP:$4,nodelay" &
  servers+=($!)
}

# Both ends of every link are inside namespaces. `data` is the limited link, `control` carries the gRPC of the node.
ip netns add "$hub"
ip -n "$hub" link set lo up
for side in data control; do
  ip -n "$hub" link add "$side" type bridge
  ip -n "$hub" link set "$side" up
done
ip -n "$hub" addr add 10.77.0.1/24 dev data
ip -n "$hub" addr add 10.78.0.1/24 dev control
for i in $(seq 0 $((nodes_max - 1))); do
  node=ferry-bench-$i
  ip netns add "$node"
  ip -n "$node" link set lo up
  for side in data control; do
    ip -n "$hub" link add "$side$i" type veth peer name "$side" netns "$node"
    ip -n "$hub" link set "$side$i" master "$side" up
    ip -n "$node" link set "$side" up
  done
  ip -n "$node" addr add "10.77.0.$((10 + i))/24" dev data
  ip -n "$node" addr add "10.78.0.$((10 + i))/24" dev control
  within "$node" tc qdisc add dev data root tbf rate "$rate" burst 256kb latency 50ms
  within "$hub" tc qdisc add dev "data$i" root tbf rate "$rate" burst 256kb latency 50ms
  forward "$node" 127.0.0.1 7400 10.78.0.1:7400
  forward "$node" 127.0.0.1 10000 10.77.0.1:10000
done
forward "$hub" 10.78.0.1 7400 127.0.0.1:7400
launch "$work/receiver.log" "$hub" "$receiver" --listen 0.0.0.0:10000 &
servers+=($!)
sleep 1

container=http://127.0.0.1:10000/devstoreaccount1/staging
endpoint=http://127.0.0.1:7490
coordinator=http://127.0.0.1:7480

within ferry-bench-0 "$python" - <<'PY'
import http.client, time
link = http.client.HTTPConnection("127.0.0.1", 10000)
began = time.monotonic()
for number in range(3):
    link.request("PUT", f"/devstoreaccount1/staging/probe-{number}", body=bytes(20_000_000))
    link.getresponse().read()
print(f"one link, by a plain upload: {60 / (time.monotonic() - began):.1f} MB/s")
PY

# Seconds from admission to the last unit staged.
seconds() { # NODES FOLDER [--set KEY=VALUE]...
  local count=$1 folder=$2 home i ready
  shift 2
  home=$(mktemp -d "$work/run-XXXXXX")
  cluster=()
  launch "$home/local-adx.log" "$hub" "$ferry" local-adx --listen 127.0.0.1:7490 --data "$home/adx" \
    --fault hang:1000000:86400 & cluster+=($!)
  launch "$home/coordinator.log" "$hub" "$ferry" coordinator --grpc 127.0.0.1:7400 --http 127.0.0.1:7480 \
    --store "sqlite:$home/ferry.db" & cluster+=($!)
  for i in $(seq 0 $((count - 1))); do
    launch "$home/node-$i.log" "ferry-bench-$i" "$ferry" node --coordinator http://127.0.0.1:7400 --name "node-$i" \
      --slots "$slots" --allow-root "$folder" & cluster+=($!)
  done
  for _ in $(seq 100); do
    ready=$(within "$hub" "$ferry" nodes list --coordinator "$coordinator" 2>/dev/null | grep -c Ready || true)
    [ "$ready" = "$count" ] && break
    sleep 0.2
  done
  within "$hub" "$python" tests/bench/ferry.py --coordinator "$coordinator" --ferry "$ferry" --folder "$folder" \
    --container "$container" --endpoint "$endpoint" --set "compression=$compression" --set checkValues=false \
    "$@" >"$home/result.json" ||
    { tail -n 5 "$home"/*.log >&2; return 1; }
  stop "${cluster[@]}"
  cluster=()
  result="$home/result.json"
}

story() { # NAME NODES FOLDER [--set KEY=VALUE]...
  local name=$1 count=$2 folder=$3
  shift 3
  seconds 1 "$folder" "$@"; local one=$result
  seconds "$count" "$folder" "$@"
  "$python" - "$name" "$count" "$one" "$result" <<'PY'
import json, sys
name, count, *paths = sys.argv[1:]
one, many = (json.load(open(path)) for path in paths)
def told(run):
    seconds, read, sent = run["whole_seconds"], run["bytes_read"] / 1e6, run["staged_bytes"] / 1e6
    return f"{seconds:.1f} s, {read / seconds:.1f} MB/s of source, {sent / seconds:.1f} MB/s sent"
print(f"{name}\n  1 node: {told(one)}\n  {count} nodes: {told(many)}")
print(f"  ratio {one['whole_seconds'] / many['whole_seconds']:.2f}", flush=True)
PY
}

make() { "$python" tests/bench/data.py "$data" "$@"; }
for each in $stories; do
  case $each in
    split)
      folder=$(make large --size "$split_size")
      story "one file of $split_size, split, 4 nodes against one" 4 "$folder" --set splitLargeFiles=true
      ;;
    four | eight)
      count=4
      [ "$each" = eight ] && count=8
      folder=$(make csv --files "$count" --size "$file_size")
      story "$count files of $file_size, $count nodes against one" "$count" "$folder"
      ;;
    *) echo "unknown story $each: split, four, eight" >&2; exit 2 ;;
  esac
done
