//! A local ADX-compatible endpoint for first runs and tests.
