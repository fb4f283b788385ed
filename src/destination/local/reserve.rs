//! Room that is left to others: to the state on the same disk, and to whoever else writes there.

use rustix::fd::AsFd;

use crate::error::{Class, Error, Report};

use super::fault::failed;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What the file system has, and what of it can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be written without special rights.
    pub free_bytes: u64,
    /// Bytes of the whole file system.
    pub total_bytes: u64,
    /// Files that can still be made; `u64::MAX` where the file system does not count them.
    pub free_files: u64,
}

impl Space {
    /// What the file system of this directory has now.
    pub fn of(directory: impl AsFd) -> rustix::io::Result<Self> {
        let stat = rustix::fs::fstatvfs(directory)?;
        Ok(Self {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_files: if stat.f_files == 0 { u64::MAX } else { stat.f_favail },
        })
    }

    /// What the file system of the directory at this path has now.
    ///
    /// # Errors
    /// What the system says.
    pub fn at(path: &std::path::Path) -> std::io::Result<Self> {
        Ok(Self::of(std::fs::File::open(path)?)?)
    }

    /// The bytes that are left free: as configured, else 2 % of the file system, at least 1 GiB of a large one and a
    /// tenth of a small one.
    pub fn reserve(&self, configured_mib: Option<u64>) -> u64 {
        match configured_mib {
            Some(mib) => mib.saturating_mul(MIB),
            None => (self.total_bytes / 50).max(GIB.min(self.total_bytes / 10)),
        }
    }
}

/// Refuses to begin a file of so many bytes that would use what is reserved.
///
/// # Errors
/// `Stream` with code `ENOSPC`: the stream rests and goes on by itself when there is room.
pub fn check(directory: impl AsFd, shown: &str, bytes: u64, configured_mib: Option<u64>) -> Result<(), Error> {
    let space = Space::of(directory).map_err(|errno| failed("statvfs", shown, errno))?;
    let reserve = space.reserve(configured_mib);
    if space.free_bytes.saturating_sub(bytes) >= reserve {
        return Ok(());
    }
    let (free, reserve) = (space.free_bytes / MIB, reserve / MIB);
    let why = format!("{free} MiB are free, of which {reserve} MiB stay reserved, and {bytes} bytes are to be stored");
    let mend = "make room on the destination's file system, or lower `destination.reserve_mib`; \
                it goes on by itself then";
    Err(Error::of(Class::Stream, Report::new("stage", shown, why).code("ENOSPC").mend(mend)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_percent_stay_free_of_a_large_disk_and_a_tenth_of_a_small_one() {
        let disk = |total_bytes| Space { free_bytes: 0, total_bytes, free_files: 0 };
        assert_eq!(disk(1000 * GIB).reserve(None), 20 * GIB);
        assert_eq!(disk(20 * GIB).reserve(None), GIB);
        assert_eq!(disk(5 * GIB).reserve(None), GIB / 2);
        assert_eq!(disk(5 * GIB).reserve(Some(7)), 7 * MIB);
        assert_eq!(disk(5 * GIB).reserve(Some(0)), 0);
    }
}
