//! A node: lists sources, reads one file per attempt, stages its chunks; dials out only.
