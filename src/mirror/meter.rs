//! Counts what a mirror has done, for progress bars and status lines.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only grow.
#[derive(Debug, Default)]
pub struct Meter {
    listed: AtomicU64,
    wanted: AtomicU64,
    wanted_bytes: AtomicU64,
    stored: AtomicU64,
    stored_bytes: AtomicU64,
    failed: AtomicU64,
    lists: AtomicU64,
    gets: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Objects seen in listings.
    pub listed: u64,
    /// Objects that were not here.
    pub wanted: u64,
    /// Their bytes, as listed.
    pub wanted_bytes: u64,
    /// Objects stored, durably and recorded.
    pub stored: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Tries that failed.
    pub failed: u64,
    /// LIST requests.
    pub lists: u64,
    /// GET requests.
    pub gets: u64,
}

impl Meter {
    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            listed: read(&self.listed),
            wanted: read(&self.wanted),
            wanted_bytes: read(&self.wanted_bytes),
            stored: read(&self.stored),
            stored_bytes: read(&self.stored_bytes),
            failed: read(&self.failed),
            lists: read(&self.lists),
            gets: read(&self.gets),
        }
    }

    pub(super) fn listed(&self, objects: usize) {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.listed.fetch_add(objects as u64, Ordering::Relaxed);
    }

    pub(super) fn wanted(&self, objects: usize, bytes: u64) {
        self.wanted.fetch_add(objects as u64, Ordering::Relaxed);
        self.wanted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn stored(&self, objects: usize, bytes: u64) {
        self.stored.fetch_add(objects as u64, Ordering::Relaxed);
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn got(&self) {
        self.gets.fetch_add(1, Ordering::Relaxed);
    }
}
