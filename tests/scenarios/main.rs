//! Stories with real programs: Azurite, local-adx, a coordinator, nodes, and Microsoft's own client at the end.
#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod api;
mod attacks;
mod bad_input;
mod chaos;
mod checks;
mod clearing;
mod copies;
mod deaths;
mod entra;
mod faults;
mod formats;
mod joining;
mod leaks;
mod lent;
mod limits;
mod loaded;
mod observe;
mod oidc;
mod old_client;
mod pages;
mod parser;
mod plans;
mod proxies;
mod publish;
mod queued;
mod rollout;
mod schedules;
mod screen;
mod storage;
mod stores;
mod support;
mod traces;
