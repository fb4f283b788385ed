//! Whether a tree could be used, without using it: it may be another process's at this moment.

use std::path::Path;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access as Rights, AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result as SystemResult};

use super::fault::failed;
use super::open::{check_file_system, check_kernel, group_of};
use super::reserve;
use super::tree::{DIRECTORY, OWN};
use crate::config;
use crate::error::Error;

/// What a tree stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The file system's name, or its number where it has none here.
    pub file_system: String,
    /// It loses everything with the machine, and the configuration allows that.
    pub is_volatile: bool,
    /// Bytes that can be written before mirroring pauses.
    pub free_bytes: u64,
    /// Bytes that stay reserved beside them.
    pub reserved_bytes: u64,
    /// Files that can still be made.
    pub free_files: u64,
    /// Whether the root is there; if not, it can be made.
    pub exists: bool,
}

/// One block: enough to find a full disk.
const PROBE: [u8; 4096] = [b't'; 4096];

/// Names of file systems by their magic numbers (`statfs(2)`).
const NAMES: [(u32, &str); 12] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0xf2f5_2010, "f2fs"),
    (0x2fc1_2fc1, "zfs"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb"),
    (0x6573_5546, "fuse"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlayfs"),
];

/// Looks at the root of a tree, writes one small file there, reads it and removes it again. Blocks.
///
/// Where the root is missing nothing is written: it is only asked whether it could be made.
///
/// # Errors
/// As for [`super::Local::open`], but that another process may hold the tree.
pub fn probe(options: &config::Destination) -> Result<Probed, Error> {
    let shown = options.path.display().to_string();
    if let Some(group) = &options.group {
        group_of(group, Path::new("/etc/group"))?;
    }
    let (root, exists) = nearest(&options.path).map_err(|errno| failed("open", &shown, errno))?;
    check_kernel(&shown, root.as_fd())?;
    check_file_system(&shown, root.as_fd(), options.allow_volatile)?;
    if exists {
        write_and_read(root.as_fd()).map_err(|errno| failed("write", &shown, errno))?;
    } else {
        // A directory is entered to make one in it.
        let rights = Rights::WRITE_OK | Rights::EXEC_OK;
        let asked = rustix::fs::accessat(&root, ".", rights, AtFlags::EACCESS);
        asked.map_err(|errno| failed("make", &shown, errno))?;
    }
    let magic = rustix::fs::fstatfs(&root).map_err(|errno| failed("statfs", &shown, errno))?.f_type as u32;
    reserve::check(&root, &shown, 0, options.reserve_mib)?;
    let space = reserve::Space::of(&root).map_err(|errno| failed("statvfs", &shown, errno))?;
    let name = NAMES.iter().find(|(number, _)| *number == magic).map(|(_, name)| (*name).to_owned());
    let is_volatile = matches!(name.as_deref(), Some("tmpfs" | "ramfs" | "overlayfs"));
    let reserved_bytes = space.reserve(options.reserve_mib);
    Ok(Probed {
        file_system: name.unwrap_or_else(|| format!("{magic:#x}")),
        is_volatile,
        free_bytes: space.free_bytes.saturating_sub(reserved_bytes),
        reserved_bytes,
        free_files: space.free_files,
        exists,
    })
}

/// The root, or the nearest directory above it that is there.
fn nearest(path: &Path) -> SystemResult<(OwnedFd, bool)> {
    for (depth, at) in path.ancestors().enumerate() {
        match rustix::fs::open(at, DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => {}
            opened => return opened.map(|opened| (opened, depth == 0)),
        }
    }
    Err(Errno::NOENT)
}

/// In our own directory where there is one, so that nobody takes the file for a copy.
fn write_and_read(root: BorrowedFd<'_>) -> SystemResult<()> {
    let own = rustix::fs::openat(root, OWN, DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let place = match own {
        Ok(own) => own,
        Err(Errno::NOENT) => rustix::fs::openat(root, ".", DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
        Err(errno) => return Err(errno),
    };
    let name = format!(".trailsync-check.{}", std::process::id());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&place, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
    let written = written(&file);
    rustix::fs::unlinkat(&place, name.as_str(), AtFlags::empty())?;
    written
}

fn written(file: &OwnedFd) -> SystemResult<()> {
    let mut rest = &PROBE[..];
    while !rest.is_empty() {
        match rustix::io::write(file, rest)? {
            0 => return Err(Errno::NOSPC),
            length => rest = &rest[length..],
        }
    }
    rustix::fs::fsync(file)?;
    let mut back = [0; PROBE.len()];
    let length = rustix::io::pread(file, &mut back, 0)?;
    if length == back.len() && back == PROBE { Ok(()) } else { Err(Errno::IO) }
}
