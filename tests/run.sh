#!/usr/bin/env bash
# Sets up and runs all tests: `tests/run.sh`, or with arguments for cargo test.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/install.sh
cargo test --workspace "$@"
