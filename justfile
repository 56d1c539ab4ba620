# What CI runs, one line a recipe. `.ci/run` runs the same without just.

check: format lint deploy deny test api

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
    tests/deploy/release.sh

# The HTTP API against its own OpenAPI document; installs Schemathesis on first use.
api *OPTIONS:
    tests/api/schemathesis.sh {{OPTIONS}}

# The simulation, with other seeds each time: `just soak SEEDS=100000`.
soak SEEDS="SEEDS=10000":
    env SEED_FROM=$(date +%s) {{SEEDS}} cargo test -p ferry-tests --test simulation no_row -- --nocapture

# Random faults against real programs: `just chaos 200`.
chaos N="20":
    env CHAOS={{N}} CHAOS_FROM=$(date +%s) cargo test -p ferry-tests --test scenarios chaos -- --nocapture

# Licences, banned crates, registries, and advisories where their database can be reached. Installs cargo-deny on first use.
deny:
    tests/deploy/deny.sh

# The release archive, built in two folders and compared; goes to target/release-archive.
release:
    deploy/release/twice.sh

# The Debian package of this checkout, installed, upgraded and removed in a root of its own.
package:
    tests/deploy/deb.sh

# The image, by the steps of its Dockerfile, and what it can do.
image:
    tests/deploy/image.sh

# Made-up bytes for the node's readers, each target for so many seconds: `just fuzz 600`.
fuzz SECONDS="60":
    node/fuzz/run.sh {{SECONDS}}

# How many units and nodes a coordinator can look after: `just bench-control --units 10000`.
bench-control *OPTIONS:
    cargo build --release
    cargo run -p ferry-tests --features bench --example control -- {{OPTIONS}}

# Memory of a node that copies one large file.
bench-memory:
    tests/bench/memory.sh
