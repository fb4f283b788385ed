//! Opens a tree, or says why it must not be used.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FlockOperation, Gid, Mode, OFlags};
use rustix::io::{Errno, Result as SystemResult};

use crate::config;
use crate::error::{Class, Error};

use super::fault::{errno, failed, refused};
use super::tree::{Access, DIRECTORY, Durability, LOCK, OWN, STAGE, Tree, open_beneath};

/// File systems whose `syncfs` writes everything and tells of every error.
const SYNCED_TOGETHER: [u32; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];
/// File systems that lose everything with the machine or the container.
const VOLATILE: [(u32, &str); 3] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs"), (0x794c_7630, "overlayfs")];
/// The first kernel with `openat2`; where a sandbox hides it, directories are entered step by step.
const OLDEST: (u32, u32) = (5, 6);
/// The first kernel whose `syncfs` tells of errors in writing back.
const SYNCFS_TELLS: (u32, u32) = (5, 8);

/// Opens the tree and makes it ours: locked, with nothing left in its stage.
pub fn open(options: &config::Destination) -> Result<Tree, Error> {
    let shown = options.path.display().to_string();
    let access = Access {
        file_mode: Mode::from_raw_mode(options.file_mode),
        dir_mode: Mode::from_raw_mode(options.dir_mode),
        group: options.group.as_deref().map(|group| group_of(group, Path::new("/etc/group"))).transpose()?,
    };
    let root = open_root(&options.path, &access).map_err(|errno| cannot_open(&shown, errno))?;
    check_kernel(&shown, root.as_fd())?;
    let durability = check_file_system(&shown, root.as_fd(), options.allow_volatile)?;
    let lock = claim(&shown, root.as_fd(), &access)?;
    let prepare = || {
        clean_stage(root.as_fd())?;
        rustix::fs::fsync(open_beneath(root.as_fd(), OWN, DIRECTORY)?)?;
        rustix::fs::fsync(&root)?;
        sync_above(root.as_fd())
    };
    prepare().map_err(|errno| cannot_open(&shown, errno))?;
    Tree::new(shown.clone(), root, lock, access, durability).map_err(|errno| cannot_open(&shown, errno))
}

/// Nothing of the program's work can begin, unless room or a mount is all that is missing.
fn cannot_open(shown: &str, errno: Errno) -> Error {
    let error = failed("open", shown, errno);
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::ROFS => error,
        _ => error.into_class(Class::Fatal),
    }
}

/// Opens the root; one that is missing is made, with all above it that is missing.
fn open_root(path: &Path, access: &Access) -> SystemResult<OwnedFd> {
    let open = || rustix::fs::open(path, DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let parent = open_root(&parent, access)?;
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) => access.directory(open()?)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::fsync(parent)?;
    open()
}

/// Makes the root durable in its file system, for a process that was killed may have made it just before.
fn sync_above(root: BorrowedFd<'_>) -> SystemResult<()> {
    let mut below = rustix::fs::fstat(root)?;
    let mut directory = rustix::fs::openat(root, "..", DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    loop {
        // What we may not read we did not make.
        let above = match directory {
            Err(Errno::ACCESS | Errno::PERM) => return Ok(()),
            result => result?,
        };
        let stat = rustix::fs::fstat(&above)?;
        if stat.st_dev != below.st_dev || stat.st_ino == below.st_ino {
            return Ok(());
        }
        rustix::fs::fsync(&above)?;
        below = stat;
        directory = rustix::fs::openat(&above, "..", DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    }
}

pub(super) fn check_kernel(shown: &str, root: BorrowedFd<'_>) -> Result<(), Error> {
    if kernel() < OLDEST {
        return Err(refused(shown, "this kernel is older than any that it was tested on", "use Linux 5.6 or later"));
    }
    open_beneath(root, "", DIRECTORY).map(|_| ()).map_err(|errno| cannot_open(shown, errno))
}

/// Refuses storage that forgets; says how data become durable on the others.
pub(super) fn check_file_system(shown: &str, root: BorrowedFd<'_>, allow_volatile: bool) -> Result<Durability, Error> {
    let stat = rustix::fs::fstatfs(root).map_err(|errno| cannot_open(shown, errno))?;
    // The field's type differs between processors; magic numbers have 32 bits.
    let magic = stat.f_type as u32;
    if let Some((_, name)) = VOLATILE.iter().find(|(volatile, _)| *volatile == magic)
        && !allow_volatile
    {
        let why = format!("it is on {name}, which loses everything with the machine or container");
        return Err(refused(shown, why, "use a real volume, or set `allow_volatile = true` for a trial"));
    }
    let told = kernel() >= SYNCFS_TELLS && SYNCED_TOGETHER.contains(&magic);
    Ok(if told { Durability::Together } else { Durability::Each })
}

/// The running kernel's version; 0.0 when its name says none.
fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Makes our own directories where they are missing and takes the lock.
fn claim(shown: &str, root: BorrowedFd<'_>, access: &Access) -> Result<OwnedFd, Error> {
    let take = || {
        let own = own_directory(root, OWN)?;
        access.directory(own)?;
        rustix::fs::fchmod(own_directory(root, STAGE)?, Mode::RWXU)?;
        let lock = open_beneath(root, LOCK, OFlags::RDWR | OFlags::CREATE)?;
        let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
        Ok((File::from(lock), locked))
    };
    let (mut lock, locked) = take().map_err(|errno| cannot_open(shown, errno))?;
    match locked {
        Ok(()) => {
            write_holder(&mut lock).map_err(|error| cannot_open(shown, errno(&error)))?;
            Ok(lock.into())
        }
        Err(Errno::WOULDBLOCK) => {
            let holder = read_holder(&mut lock);
            if holder == std::process::id().to_string() {
                let why = "two sources have this tree as their destination, perhaps one of them through a link";
                return Err(refused(shown, why, "give each source a tree of its own"));
            }
            let why = format!("process {holder} uses it already");
            Err(refused(shown, why, "give each process, and each source, a tree of its own"))
        }
        Err(errno) => Err(cannot_open(shown, errno)),
    }
}

fn own_directory(root: BorrowedFd<'_>, path: &str) -> SystemResult<OwnedFd> {
    match rustix::fs::mkdirat(root, path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => open_beneath(root, path, DIRECTORY),
        Err(errno) => Err(errno),
    }
}

fn write_holder(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

fn read_holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.rewind().and_then(|()| lock.take(20).read_to_string(&mut text));
    match read {
        Ok(_) if text.trim().parse::<u32>().is_ok() => text.trim().to_owned(),
        _ => "(unknown)".to_owned(),
    }
}

/// Removes what a process that was killed had staged.
fn clean_stage(root: BorrowedFd<'_>) -> SystemResult<()> {
    let stage = open_beneath(root, STAGE, DIRECTORY)?;
    for entry in Dir::read_from(&stage)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(&stage, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => rustix::fs::unlinkat(&stage, name, AtFlags::REMOVEDIR)?,
            result => result?,
        }
    }
    Ok(())
}

/// The number of a group that is given by number, or by its name in the system's file.
pub(super) fn group_of(group: &str, file: &Path) -> Result<Gid, Error> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    let groups = fs::read_to_string(file).unwrap_or_default();
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    let unknown = || refused(group, "no such group in /etc/group", "create it, or give the group's number");
    number.map(Gid::from_raw).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_number_and_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "root:x:0:\nlogs:x:1234:a,b\nbroken\n").unwrap();
        assert_eq!(group_of("77", file.path()).unwrap(), Gid::from_raw(77));
        assert_eq!(group_of("logs", file.path()).unwrap(), Gid::from_raw(1234));
        for unknown in ["log", "broken", "", "-1"] {
            let error = group_of(unknown, file.path()).unwrap_err();
            assert!(error.to_string().contains("give the group's number"), "{error}");
        }
    }

    #[test]
    fn the_kernel_says_its_version() {
        assert!(kernel() > (2, 6));
    }
}
