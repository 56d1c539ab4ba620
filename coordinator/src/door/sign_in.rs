//! Counts failed sign-ins by address, so that nobody tries tokens by the million.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Failed sign-ins of one address within [`WINDOW`], after which it is not listened to for the rest of it.
const FAILURES_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// Failed sign-ins of late.
#[derive(Debug, Default)]
pub(crate) struct SignIns(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl SignIns {
    /// How long the address is not listened to; `None`: it is.
    pub(crate) fn refuses(&self, ip: IpAddr) -> Option<Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (failures, since) = all.get(&ip)?;
        let left = WINDOW.checked_sub(since.elapsed()).filter(|left| !left.is_zero())?;
        (*failures >= FAILURES_MAX).then_some(left)
    }

    /// A sign-in failed.
    pub(crate) fn failed(&self, ip: IpAddr) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ADDRESSES_MAX {
            all.retain(|_, (_, since)| since.elapsed() < WINDOW);
            if all.len() >= ADDRESSES_MAX {
                // A crowd: those that are known stay known.
                return;
            }
        }
        let entry = all.entry(ip).or_insert_with(|| (0, Instant::now()));
        if entry.1.elapsed() >= WINDOW {
            *entry = (0, Instant::now());
        }
        entry.0 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_fails_often_waits_and_others_do_not() {
        let sign_ins = SignIns::default();
        let (bad, good) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..FAILURES_MAX {
            assert_eq!(sign_ins.refuses(bad), None);
            sign_ins.failed(bad);
        }
        assert!(sign_ins.refuses(bad).is_some());
        assert_eq!(sign_ins.refuses(good), None);
        tokio::time::advance(WINDOW).await;
        assert_eq!(sign_ins.refuses(bad), None);
        sign_ins.failed(bad);
        assert_eq!(sign_ins.refuses(bad), None, "the count begins anew");
    }
}
