//! The coordinator: plans, leases, ingests, remembers; never reads source data.
