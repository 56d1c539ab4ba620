//! Stories with real programs: Azurite, local-adx, a coordinator, nodes, and Microsoft's own client at the end.

mod bad_input;
mod copies;
mod deaths;
mod faults;
mod parser;
