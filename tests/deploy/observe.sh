#!/usr/bin/env bash
# Checks deploy/observe: rules and queries with Prometheus' own promtool, its unit tests of the rules, and every metric that is named against
# docs/metrics.md (observe.py). Installs what it lacks below .tools/, or below FERRY_TOOLS. Fails on any finding, and if something cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=${FERRY_TOOLS:-.tools}/observe

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

mkdir -p "$tools"
tools=$(realpath "$tools")
python=python3
if ! python3 -c 'import yaml' 2>/dev/null; then
  python=$tools/venv/bin/python
  if ! "$python" -c 'import yaml' 2>/dev/null; then
    echo "tests/deploy/observe.sh: PyYAML from PyPI" >&2
    if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
      as_root apt-get update -q >&2
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq python3 python3-venv >&2
    fi
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install -q --disable-pip-version-check PyYAML==6.0.3 >&2
  fi
fi

promtool=$(command -v promtool || true)
if [ -z "$promtool" ]; then
  promtool=$tools/prometheus/usr/bin/promtool
  if [ ! -x "$promtool" ]; then
    echo "tests/deploy/observe.sh: promtool from Debian's package prometheus" >&2
    # Unpacked and not installed: that would start a server.
    rm -rf "$tools/download" && mkdir -p "$tools/download"
    (cd "$tools/download" && { apt-get download -q prometheus || { as_root apt-get update -q && apt-get download -q prometheus; }; }) >&2
    dpkg --extract "$tools"/download/prometheus_*.deb "$tools/prometheus"
    rm -rf "$tools/download"
  fi
fi

failed=0
queries=$(mktemp "$tools/queries.XXXXXX.yaml")
trap 'rm -f "$queries"' EXIT
"$python" tests/deploy/observe.py "$queries" || failed=1
"$promtool" check rules deploy/observe/alerts.yaml "$queries" || failed=1
"$promtool" test rules tests/deploy/alerts.yaml || failed=1
[ "$failed" = 0 ] && echo "tests/deploy/observe.sh: all is well"
exit "$failed"
