#!/usr/bin/env bash
# A coordinator, local-adx and nodes on this machine, until Ctrl-C.
# Usage: deploy/local/cluster.sh FOLDER [NODES]. Files to copy lie below FOLDER/source; all else is kept below FOLDER, too.
set -euo pipefail
folder=${1:?usage: deploy/local/cluster.sh FOLDER [NODES]}
nodes=${2:-2}
ferry=${FERRY:-$(dirname "$0")/../../target/release/ferry}
[ -x "$ferry" ] || { echo "there is no $ferry: run cargo build --release first, or set FERRY" >&2; exit 2; }
mkdir -p "$folder/source" "$folder/staging"
folder=$(cd "$folder" && pwd)
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
"$ferry" local-adx --data "$folder/adx" &
"$ferry" coordinator --store "sqlite:$folder/ferry.db" &
for number in $(seq "$nodes"); do
  "$ferry" node --name "node-$number" --allow-root "$folder/source" &
done
wait
