//! What coordinator and node must agree on to be correct: copy activities, ids, units, failures, the wire between them,
//! staging storage and time. Nothing here decides; nothing here belongs to one program alone.

pub mod activity;
pub mod address;
pub mod clock;
pub mod failure;
pub mod id;
pub mod link;
pub mod pattern;
pub mod plan;
pub mod scalar;
pub mod spans;
pub mod staging;
pub mod storage;
pub mod telemetry;
pub mod timetable;
pub mod trust;
pub mod unit;
pub mod vault;
pub mod wire;

/// Installs the TLS provider that every client of this process uses. Calling it again changes nothing.
pub fn install_tls_provider() {
    // A second caller finds it installed, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
