//! Bytes that wait to be uploaded: small ones in memory up to a bound, all others in files beside the state.
//!
//! What waits is not durable and need not be: it counts only once the bucket has it. Files of an earlier process are
//! removed when the next one begins.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Objects of all passes of one destination that wait in memory have so many bytes at most.
pub const HELD_BYTES: usize = 8 << 20;
/// The unit in which held bytes are counted.
const UNIT: usize = 256;

/// Where bytes wait.
pub struct Spool {
    dir: PathBuf,
    next: AtomicU64,
    memory: Arc<Semaphore>,
}

/// Bytes of one object; dropping it discards them.
pub enum Waiting {
    /// In memory.
    Held(Bytes, #[expect(dead_code, reason = "gives its room back when it is dropped")] Option<OwnedSemaphorePermit>),
    /// In a file.
    Spooled(Arc<Spooled>),
}

/// A file that is removed when this is dropped.
pub struct Spooled {
    path: PathBuf,
}

impl Waiting {
    /// A few bytes that wait outside any spool.
    pub fn alone(bytes: Vec<u8>) -> Self {
        Self::Held(Bytes::from(bytes), None)
    }
}

impl Spool {
    /// A spool in this directory, which is this process's alone: what is left in it is removed. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be made or emptied.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        let memory = Arc::new(Semaphore::new(HELD_BYTES / UNIT));
        Ok(Self { dir, next: AtomicU64::new(0), memory })
    }

    /// Holds bytes in memory, where there is room for them now.
    pub fn hold(&self, bytes: Vec<u8>) -> Result<Waiting, Vec<u8>> {
        let units = u32::try_from(bytes.len().div_ceil(UNIT).max(1)).unwrap_or(u32::MAX);
        match self.memory.clone().try_acquire_many_owned(units) {
            Ok(room) => Ok(Waiting::Held(Bytes::from(bytes), Some(room))),
            Err(_) => Err(bytes),
        }
    }

    /// A new file to write to. Blocks.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self) -> io::Result<(File, Spooled)> {
        let path = self.dir.join(format!("{:016x}", self.next.fetch_add(1, Ordering::Relaxed)));
        let file = File::create_new(&path)?;
        Ok((file, Spooled { path }))
    }

    /// Where files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Spooled {
    /// The file, to read. Blocks.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

/// Writes all bytes. Blocks.
///
/// # Errors
/// As the system says.
pub fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)
}

/// Reads exactly so many bytes from there. Blocks.
///
/// # Errors
/// As the system says, or `UnexpectedEof`.
pub fn read_at(file: &File, from: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bytes_wait_in_memory_until_it_is_full_and_files_go_with_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let spool = Spool::open(path.clone()).unwrap();
        let held: Vec<_> = (0..8).map(|_| spool.hold(vec![7; HELD_BYTES / 8]).ok().unwrap()).collect();
        let refused = spool.hold(vec![7; 1]).err().unwrap();
        drop(held);
        assert!(spool.hold(refused).is_ok());

        let (mut file, spooled) = spool.create().unwrap();
        write(&mut file, b"abcdef").unwrap();
        let reader = spooled.open().unwrap();
        assert_eq!(read_at(&reader, 2, 3).unwrap(), "cde");
        assert!(read_at(&reader, 4, 3).is_err());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        drop(spooled);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        fs::write(path.join("left"), "x").unwrap();
        Spool::open(path.clone()).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }
}
