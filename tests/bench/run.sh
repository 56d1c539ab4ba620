#!/usr/bin/env bash
# The whole bench: `tests/bench/run.sh`, or with arguments for run.py (`--help` lists them).
# FERRY names another binary than the release build; FERRY_ISAL one built with the feature isal, as one more contender.
set -euo pipefail
cd "$(dirname "$0")/../.."
bash tests/install.sh
bash tests/bench/install.sh
if [ -z "${FERRY:-}" ]; then
  cargo build --release -p ferry-cli
  FERRY=$PWD/target/release/ferry
fi
export FERRY
exec .tools/bench/venv/bin/python -B tests/bench/run.py "$@"
