//! The nodes' link, answered: wire in, one domain call, wire out.

pub(crate) mod node;
