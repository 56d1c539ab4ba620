#!/usr/bin/env bash
# Builds the fuzz targets with the project's own compiler and lets each run for a while. Usage: node/fuzz/run.sh [SECONDS [TARGET...]]
#
# Without SECONDS each runs a minute. What is found goes to node/fuzz/artifacts/TARGET-..., the inputs that led to new code to
# node/fuzz/corpus/TARGET. Ends with an error where something was found. The flags are those that cargo-fuzz gives, without what needs nightly.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true
targets=("$@")
if [ "${#targets[@]}" = 0 ]; then targets=(packing delimited json); fi

host=$(rustc --version --verbose | sed -n 's/^host: //p')
coverage=(sanitizer-coverage-level=4 sanitizer-coverage-inline-8bit-counters sanitizer-coverage-pc-table sanitizer-coverage-trace-compares)
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module ${coverage[*]/#/-Cllvm-args=-} -Ccodegen-units=1"
# Overflow and the like are to be found, too.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --release --locked --target "$host"
mkdir -p artifacts
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target"
  "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -rss_limit_mb=1500 -max_len=20000 \
    -artifact_prefix="artifacts/$target-" "corpus/$target"
done
