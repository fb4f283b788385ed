//! Who may write a manifest: the pass that waits for it, and nobody once that was given up.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Holds the right to write one manifest; gives it up when it is dropped.
///
/// A write goes on in a thread of its own when the pass that waits for it is dropped. Once this is dropped, that
/// write touches no name any more: the next pass may write other rows under the same one.
#[derive(Debug, Default)]
pub struct Claim(Claimed);

/// Whether a [`Claim`] is still held.
#[derive(Debug, Clone, Default)]
pub struct Claimed(Arc<Mutex<bool>>);

impl Claim {
    /// What the thread that writes looks at.
    pub fn claimed(&self) -> Claimed {
        self.0.clone()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        *self.0.given_up() = true;
    }
}

impl Claimed {
    /// Does what touches names, while the claim cannot be given up; not at all when it was.
    pub(super) fn act<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let given_up = self.given_up();
        if *given_up { Err(io::Error::other("the pass that wrote this manifest was given up")) } else { act() }
    }

    fn given_up(&self) -> MutexGuard<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
