//! Buffers that go round within one attempt: the system clears each new one, which takes as long as filling it.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that nobody uses now.
#[derive(Debug, Clone)]
pub struct Pool {
    /// How many are kept, and up to which size.
    kept_max: usize,
    bytes_max: usize,
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A buffer that goes back to its pool.
struct Lent {
    buffer: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

impl Pool {
    /// A pool that keeps `kept_max` buffers of at most `bytes_max`: one that a huge record made large is let go.
    pub fn keeping(kept_max: usize, bytes_max: usize) -> Self {
        Self { kept_max, bytes_max, kept: Arc::default() }
    }

    /// A buffer with whatever its last user left in it, if there is one.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Takes a buffer back.
    pub fn give_back(&self, buffer: Vec<u8>) {
        if (1..=self.bytes_max).contains(&buffer.capacity()) {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < self.kept_max {
                kept.push(buffer);
            }
        }
    }

    /// Lends a filled buffer out; it comes back by itself.
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, pool: self.clone() })
    }

    /// Buffers that wait for their next use.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
