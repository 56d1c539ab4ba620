# What CI runs, one line a recipe. `.ci/run` runs the same without just.

check: format lint test

format:
    cargo fmt --all --check

lint:
    cargo clippy --workspace --all-targets -- --deny warnings

# Installs Azurite and Microsoft's clients on first use.
test:
    cargo test --workspace

# Needs cargo-deny.
deny:
    cargo deny check

# Memory of a node that copies one large file.
bench-memory:
    tests/bench/memory.sh
