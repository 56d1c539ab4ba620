#!/usr/bin/env bash
# Checks what is in the tree against deny.toml: licences, banned crates and registries always; advisories where the database of RustSec can be
# reached, which is on GitHub. Installs cargo-deny below .tools/ where the machine has none: that compiles it, once.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=${FERRY_TOOLS:-.tools}
version=0.20.2
export PATH=$PATH:$tools/cargo-deny/bin
if ! command -v cargo-deny >/dev/null; then
  echo "tests/deploy/deny.sh: installing cargo-deny $version" >&2
  cargo install --quiet --locked --root "$tools/cargo-deny" "cargo-deny@$version" >&2
fi
cargo deny check bans licenses sources
# Without the database nothing can be said, and that is said.
if timeout "${ADVISORIES_PATIENCE:-60}" cargo deny fetch db; then
  cargo deny check --disable-fetch advisories
else
  echo "tests/deploy/deny.sh: advisories were not checked: their database cannot be reached" >&2
fi
