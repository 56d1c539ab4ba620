# What CI runs, one line a recipe. `.ci/run` runs the same without just.

check: format lint deploy test

format:
    cargo fmt --all --check

lint:
    cargo clippy --workspace --all-targets -- --deny warnings
    cargo clippy -p ferry-tests --features bench --example control -- --deny warnings

# Installs Azurite and Microsoft's clients on first use.
test:
    cargo test --workspace

# Manifests, dashboard, rules and units; installs what it needs.
deploy:
    tests/deploy/k8s.sh
    tests/deploy/observe.sh
    tests/deploy/systemd.sh

# The simulation, with other seeds each time: `just soak SEEDS=100000`.
soak SEEDS="SEEDS=10000":
    env SEED_FROM=$(date +%s) {{SEEDS}} cargo test -p ferry-tests --test simulation no_row -- --nocapture

# Random faults against real programs: `just chaos 200`.
chaos N="20":
    env CHAOS={{N}} CHAOS_FROM=$(date +%s) cargo test -p ferry-tests --test scenarios chaos -- --nocapture

# Needs cargo-deny.
deny:
    cargo deny check

# How many units and nodes a coordinator can look after: `just bench-control --units 10000`.
bench-control *OPTIONS:
    cargo build --release
    cargo run -p ferry-tests --features bench --example control -- {{OPTIONS}}

# Memory of a node that copies one large file.
bench-memory:
    tests/bench/memory.sh
