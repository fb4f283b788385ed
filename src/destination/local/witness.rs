//! An open descriptor as a witness of every write that failed behind our back.

use std::sync::{Mutex, PoisonError};

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result};

use super::tree::{DIRECTORY, open_beneath};

/// Learns of every error in writing back to the file system since it was opened.
///
/// The kernel tells each open descriptor once. So a witness is called before the first byte of a batch is
/// written, and the first error is remembered: what depends on this witness is never taken for durable again.
pub struct Witness {
    descriptor: OwnedFd,
    failed: Mutex<bool>,
}

impl Witness {
    /// Called for the file system of this directory.
    pub fn new(directory: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self { descriptor: open_beneath(directory, "", DIRECTORY)?, failed: Mutex::new(false) })
    }

    /// Makes durable all that was written; one at a time, so that nobody overtakes another's bad news.
    pub fn sync(&self) -> Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(Errno::IO);
        }
        let result = rustix::fs::syncfs(&self.descriptor);
        *failed = result.is_err();
        result
    }
}
