#!/usr/bin/env bash
# Prints what a release of ferry is made of, as CycloneDX 1.6 in JSON. Usage: deploy/release/sbom.sh [TARGET [FEATURES]]
#
# From Cargo.lock and what cargo says of it: the crates that go into the program for this target with these features, those that are only used to
# build it (scope "excluded"), versions, licences, checksums, and who needs whom.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${1:-$(rustc --version --verbose | sed -n 's/^host: //p')}
features=${2:-}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Of the program alone: what the tests need is not in it, and neither are features that only they ask for.
tree() {
  cargo tree --locked --package ferry-cli --target "$target" ${features:+--features "$features"} --edges "$1" --prefix none --no-dedupe \
    --format '{p}' >"$work/$2"
}
tree normal,no-proc-macro runtime
tree normal,build all
cargo metadata --locked --format-version 1 --filter-platform "$target" ${features:+--features "ferry-cli/$features"} >"$work/metadata"
python3 deploy/release/sbom.py "$work/metadata" "$work/runtime" "$work/all" Cargo.lock "$target"
