//! What the test needs of a bucket and of a place for copies, and the twins in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use trailsync::clock::Timestamp;
use trailsync::destination::Destination;
use trailsync::destination::memory::Memory;
use trailsync::ledger::Ledger;
use trailsync::source::Source;
use trailsync::source::memory::{Fault, MemorySource, Object};

use super::world::Checked;

/// A bucket of Account A, as its owner and its service see it.
pub trait Bucket: Clone + Send + Sync + 'static {
    /// How the mirror sees it.
    type Source: Source;

    /// How often a turn is polled where it is polled once over the twins.
    const POLLS: u32 = 1;

    fn source(&self) -> Arc<Self::Source>;
    fn put(&self, key: &str, object: Object);
    fn remove(&self, key: &str);
    fn set_time(&self, now: Timestamp);
    fn set_page_size(&self, entries: usize);
    fn fail_list(&self, nth: u64, fault: Fault);
    fn fail_fetch(&self, nth: u64, fault: Fault);
}

/// A place for copies, and for the state beside it, as its owner sees it.
pub trait Vault: Clone + Send + Sync + 'static {
    /// How the mirror sees it.
    type Destination: Destination;

    fn destination(&self) -> Arc<Self::Destination>;
    /// Every visible file by its path below the root, our own in `.trailsync` excepted.
    fn files(&self) -> BTreeMap<String, Vec<u8>>;
    /// A file of our own.
    fn kept(&self, name: &str) -> Option<Vec<u8>>;
    /// Whatever else stands there and should not.
    fn leftovers(&self) -> Vec<String>;
    /// A new process over what the old one left.
    fn reopen(&self, ledger: Ledger) -> impl Future<Output = Checked<Ledger>>;
    fn fail_next_stage(&self, count: usize);
    fn fail_publish_after(&self, visible: usize);
    fn set_full(&self, full: bool);
    fn cut_power(&self);
}

impl Bucket for MemorySource {
    type Source = MemorySource;

    fn source(&self) -> Arc<MemorySource> {
        Arc::new(self.clone())
    }

    fn put(&self, key: &str, object: Object) {
        self.put_object(key, object);
    }

    fn remove(&self, key: &str) {
        MemorySource::remove(self, key);
    }

    fn set_time(&self, now: Timestamp) {
        MemorySource::set_time(self, now);
    }

    fn set_page_size(&self, entries: usize) {
        MemorySource::set_page_size(self, entries);
    }

    fn fail_list(&self, nth: u64, fault: Fault) {
        MemorySource::fail_list(self, nth, fault);
    }

    fn fail_fetch(&self, nth: u64, fault: Fault) {
        MemorySource::fail_fetch(self, nth, fault);
    }
}

impl Vault for Memory {
    type Destination = Memory;

    fn destination(&self) -> Arc<Memory> {
        Arc::new(self.clone())
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        Memory::files(self)
    }

    fn kept(&self, name: &str) -> Option<Vec<u8>> {
        Memory::kept(self, name)
    }

    fn leftovers(&self) -> Vec<String> {
        Vec::new()
    }

    /// Memory stays.
    async fn reopen(&self, ledger: Ledger) -> Checked<Ledger> {
        Ok(ledger)
    }

    fn fail_next_stage(&self, count: usize) {
        Memory::fail_next_stage(self, count);
    }

    fn fail_publish_after(&self, visible: usize) {
        Memory::fail_publish_after(self, visible);
    }

    fn set_full(&self, full: bool) {
        Memory::set_full(self, full);
    }

    fn cut_power(&self) {
        Memory::cut_power(self);
    }
}
