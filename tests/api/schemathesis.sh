#!/usr/bin/env bash
# Asks a coordinator everything that its OpenAPI document allows, and much that it does not: no answer may be a server's error, or
# another one than is documented. Builds ferry, or takes the one that FERRY_UNDER_TEST names. Installs Schemathesis (PyPI) below
# .tools/ on first use. Arguments go to it: `tests/api/schemathesis.sh --max-examples 500`.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=4.32.5
venv=.tools/schemathesis-$version
if [ ! -f "$venv/installed" ]; then
  echo "tests/api/schemathesis.sh: installing Schemathesis from PyPI" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check "schemathesis==$version" >&2
  touch "$venv/installed"
fi
ferry=${FERRY_UNDER_TEST:-}
if [ -z "$ferry" ]; then
  cargo build --quiet -p ferry-cli
  ferry=${CARGO_TARGET_DIR:-target}/debug/ferry
fi

folder=$(mktemp -d)
coordinator=
finish() {
  status=$?
  if [ -n "$coordinator" ]; then
    kill "$coordinator" 2>/dev/null || true
    wait "$coordinator" 2>/dev/null || true
  fi
  if [ "$status" -ne 0 ]; then
    tail -n 50 "$folder/coordinator.log" >&2 || true
  fi
  rm -rf "$folder"
  exit "$status"
}
trap finish EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
grpc=$(free_port)
http=$(free_port)
"$ferry" coordinator --grpc "127.0.0.1:$grpc" --http "127.0.0.1:$http" --store "sqlite:$folder/ferry.db" \
  >"$folder/coordinator.log" 2>&1 &
coordinator=$!
api=http://127.0.0.1:$http
for _ in $(seq 300); do
  curl --silent --fail --noproxy '*' "$api/readyz" >/dev/null && break
  kill -0 "$coordinator"
  sleep 0.2
done

# Something to look at. Its folder is not there, and nobody copies it.
folder_of_run="$folder/source"
curl --silent --fail --noproxy '*' "$api/api/v1/runs" --data @- >/dev/null <<EOF
{"runId": "known", "activity": {
  "name": "known",
  "source": {"type": "FileSystem", "folderPath": "$folder_of_run", "format": {"type": "Json"}},
  "sink": {"type": "AzureDataExplorer", "endpoint": "http://127.0.0.1:1", "database": "D", "table": "T"},
  "staging": {"type": "FileSystem", "folderPath": "$folder"}}}
EOF

# Streams have no end: the scenarios read those.
NO_PROXY=127.0.0.1 "$venv/bin/schemathesis" run "$api/api/v1/openapi.json" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method \
  --exclude-path-regex '/events$' --phases examples,coverage,fuzzing --max-examples 50 --seed 1 --request-timeout 120 \
  --suppress-health-check all --workers 1 "$@"
kill -0 "$coordinator"
! grep -E 'panicked|ERROR' "$folder/coordinator.log"
