//! Directories and files below one root, reached without ever following a link out of it.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::witness::Witness;

/// The directory of our own beside the copy; no key has such a path.
pub const OWN: &str = ".trailsync";
/// Where objects wait until they are published.
pub const STAGE: &str = ".trailsync/stage";
/// Held while a process uses the tree.
pub const LOCK: &str = ".trailsync/lock";

/// Leaves room below the system's limit of 4,096 bytes for a path: deeper ones are entered in steps.
const PATH_BYTES: usize = 4_000;
/// How many directories are remembered as durable, about 10 MB at worst.
const REMEMBERED: usize = 500_000;

/// Above this many directories one `syncfs` takes the place of their `fsync`s: measured, a thousand new ones
/// are durable in 0.4 s instead of 1.2 s.
const SYNCED_EACH: usize = 16;

/// A root directory that this process alone writes to.
pub struct Tree {
    /// The root as configured, for messages.
    pub path: String,
    /// Rights of what is made here.
    pub access: Access,
    /// How data become durable.
    pub durability: Durability,
    /// Held open so that the lock is.
    pub _lock: OwnedFd,
    root: OwnedFd,
    stage: OwnedFd,
    witness: Mutex<Arc<Witness>>,
    directories: Mutex<Directories>,
}

/// Rights of files and directories, whatever the process's umask.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Permission bits of files.
    pub file_mode: Mode,
    /// Permission bits of directories.
    pub dir_mode: Mode,
    /// Group of both.
    pub group: Option<rustix::fs::Gid>,
}

/// How data become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// One `syncfs` for a whole batch: the kernel reports its errors (Linux 5.8), the file system is known.
    Together,
    /// One `fsync` for each file, before its descriptor is closed.
    Each,
}

/// What is known of directories since this process began, by a keyed hash of their paths: those can be long,
/// and another account chooses them.
#[derive(Default)]
struct Directories {
    hasher: RandomState,
    /// They, and all above them, are entered durably in their parents.
    durable: HashSet<u64>,
    /// A sync of them failed once: what stood in them then may be in memory only, though a later one succeeds.
    suspect: HashSet<u64>,
}

impl Directories {
    fn is_durable(&self, path: &str) -> bool {
        path.is_empty() || self.durable.contains(&self.hasher.hash_one(path))
    }

    fn remember_durable(&mut self, paths: &HashSet<&str>) {
        if self.durable.len() + paths.len() > REMEMBERED {
            self.durable.clear();
        }
        self.durable.extend(paths.iter().take(REMEMBERED).map(|path| self.hasher.hash_one(path)));
    }

    fn remember_suspect(&mut self, paths: &HashSet<&str>) {
        self.suspect.extend(paths.iter().map(|path| self.hasher.hash_one(path)));
    }

    fn forget_durable(&mut self, path: &str) {
        self.durable.remove(&self.hasher.hash_one(path));
    }
}

impl Access {
    /// Gives a new file its rights.
    pub fn file(&self, file: impl AsFd) -> Result<()> {
        self.apply(file, self.file_mode)
    }

    /// Gives a new directory its rights.
    pub fn directory(&self, directory: impl AsFd) -> Result<()> {
        self.apply(directory, self.dir_mode)
    }

    /// The group first: a change of owner takes special bits away.
    fn apply(&self, fd: impl AsFd, mode: Mode) -> Result<()> {
        if self.group.is_some() {
            rustix::fs::fchown(&fd, None, self.group)?;
        }
        rustix::fs::fchmod(&fd, mode)
    }
}

impl Tree {
    /// A tree whose own directories exist and whose lock is held.
    pub fn new(path: String, root: OwnedFd, lock: OwnedFd, access: Access, durability: Durability) -> Result<Self> {
        let stage = open_beneath(root.as_fd(), STAGE, DIRECTORY)?;
        let witness = Mutex::new(Arc::new(Witness::new(root.as_fd())?));
        let directories = Mutex::default();
        Ok(Self { path, access, durability, _lock: lock, root, stage, witness, directories })
    }

    /// The root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory of staged files.
    pub fn stage(&self) -> BorrowedFd<'_> {
        self.stage.as_fd()
    }

    /// A path in the tree as messages name it.
    pub fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.path)
    }

    /// Opens a directory; the empty path is the root.
    pub fn open_dir(&self, path: &str) -> Result<OwnedFd> {
        open_beneath(self.root(), path, DIRECTORY)
    }

    /// Opens a regular file to read; `None` when anything else, or nothing, stands there.
    pub fn open_file(&self, path: &str) -> Result<Option<File>> {
        let (directory, name) = split(path);
        match self.open_dir(directory) {
            Ok(directory) => open_regular(directory.as_fd(), name),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens a directory and makes it, and those above it, where they are missing.
    pub fn make_dir(&self, path: &str) -> Result<OwnedFd> {
        match self.open_dir(path) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let mut end = 0;
        let mut directory = self.open_dir("")?;
        for name in path.split('/') {
            end += name.len() + usize::from(end > 0);
            directory = self.enter(directory.as_fd(), name, &path[..end])?;
        }
        Ok(directory)
    }

    fn enter(&self, parent: BorrowedFd<'_>, name: &str, path: &str) -> Result<OwnedFd> {
        // One at a time: a second maker would replace the first one's directory.
        let mut directories = self.directories();
        match open_beneath(parent, name, DIRECTORY) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        directories.forget_durable(path);
        self.create(parent, name)?;
        open_beneath(parent, name, DIRECTORY)
    }

    /// Makes a directory that is never seen without its rights, not even after a crash.
    fn create(&self, parent: BorrowedFd<'_>, name: &str) -> Result<()> {
        let staged = random_name();
        rustix::fs::mkdirat(self.stage(), &staged, Mode::RWXU)?;
        let renamed = open_beneath(self.stage(), &staged, DIRECTORY)
            .and_then(|directory| self.access.directory(directory))
            .and_then(|()| rustix::fs::renameat(self.stage(), &staged, parent, name));
        if renamed.is_err() {
            let _ = rustix::fs::unlinkat(self.stage(), &staged, AtFlags::REMOVEDIR);
        }
        renamed
    }

    /// Makes directories durable: what stands in them, and they themselves up to the root.
    ///
    /// Each is synced whether it changed now or not; those above it only once in this process's life, for a
    /// process that was killed may have made them and synced nothing.
    pub fn sync_dirs<'a>(&self, touched: impl IntoIterator<Item = &'a str>, witness: &Witness) -> Result<()> {
        let (sync, entered) = self.unsynced(touched);
        let result = if self.durability == Durability::Together && sync.len() > SYNCED_EACH {
            // Kernels before 5.17 tell of a journal that was given up only by fsync.
            self.sync_data(witness).and_then(|()| rustix::fs::fsync(self.root()))
        } else {
            sync.iter().try_for_each(|path| rustix::fs::fsync(self.open_dir(path)?))
        };
        match result {
            Ok(()) => self.directories().remember_durable(&entered),
            Err(_) => self.directories().remember_suspect(&sync),
        }
        result
    }

    /// The directories to sync, and those that are entered durably once that is done.
    fn unsynced<'a>(&self, touched: impl IntoIterator<Item = &'a str>) -> (HashSet<&'a str>, HashSet<&'a str>) {
        let directories = self.directories();
        let (mut sync, mut entered) = (HashSet::new(), HashSet::new());
        for mut path in touched {
            sync.insert(path);
            while !directories.is_durable(path) && entered.insert(path) {
                path = split(path).0;
                sync.insert(path);
            }
        }
        (sync, entered)
    }

    /// Whether a sync of this directory ever failed.
    pub fn is_suspect(&self, directory: &str) -> bool {
        let directories = self.directories();
        directories.suspect.contains(&directories.hasher.hash_one(directory))
    }

    /// Who will know of every error in writing back from now on.
    pub fn witness(&self) -> Arc<Witness> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes durable all that was written since the witness was called.
    ///
    /// After an error this witness is not asked again, nor anyone who was called before: what was staged
    /// with them is lost.
    pub fn sync_data(&self, witness: &Witness) -> Result<()> {
        let result = witness.sync();
        if result.is_err() {
            let mut current = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
            if std::ptr::eq(Arc::as_ptr(&current), witness) {
                *current = Arc::new(Witness::new(self.root())?);
            }
        }
        result
    }

    fn directories(&self) -> MutexGuard<'_, Directories> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How directories are opened.
pub const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Opens what stands at a relative path, below `from` and through no link of any kind.
pub fn open_beneath(from: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    if path.len() > PATH_BYTES
        && let Some(cut) = path.as_bytes()[..PATH_BYTES].iter().rposition(|&byte| byte == b'/')
    {
        let step = open_beneath(from, &path[..cut], OFlags::PATH | OFlags::DIRECTORY)?;
        return open_beneath(step.as_fd(), &path[cut + 1..], flags);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // A device or FIFO that was planted must neither hold us up nor become our terminal.
    let safe = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let safe = if flags.contains(OFlags::PATH) { OFlags::CLOEXEC | OFlags::NOFOLLOW } else { safe };
    let mode = if flags.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
    match rustix::fs::openat2(from, path, flags | safe, mode, resolve) {
        // Sandboxes that cannot see its arguments hide it: systemd's RestrictSUIDSGID=, old container runtimes.
        Err(Errno::NOSYS | Errno::PERM) => open_in_steps(from, path, flags | safe, mode),
        result => result,
    }
}

/// The same without `openat2`: each component is opened by itself, and none of them through a link.
fn open_in_steps(from: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(Errno::XDEV);
    }
    let (directories, name) = split(path);
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut entered: Option<OwnedFd> = None;
    for part in directories.split('/').filter(|part| !part.is_empty()) {
        let at = entered.as_ref().map_or(from, AsFd::as_fd);
        entered = Some(enter(at, part, step)?);
    }
    rustix::fs::openat(entered.as_ref().map_or(from, AsFd::as_fd), name, flags | OFlags::NOFOLLOW, mode)
}

/// Opens a directory on the way; a link in its place is told as `openat2` tells it.
fn enter(at: BorrowedFd<'_>, name: &str, step: OFlags) -> Result<OwnedFd> {
    rustix::fs::openat(at, name, step, Mode::empty()).map_err(|errno| {
        let is_link = || {
            let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink())
        };
        if errno == Errno::NOTDIR && is_link() { Errno::LOOP } else { errno }
    })
}

/// Opens a regular file in a directory to read; `None` when anything else, or nothing, stands there.
pub fn open_regular(directory: BorrowedFd<'_>, name: &str) -> Result<Option<File>> {
    // Looked at before it is opened: to open a device may already do something.
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    match open_beneath(directory, name, OFlags::RDONLY) {
        Ok(file) => {
            let regular = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_file();
            Ok(regular.then(|| File::from(file)))
        }
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Directory and name of a path.
pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// A name that nobody can have prepared.
pub fn random_name() -> String {
    format!("{:032x}", fastrand::u128(..))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// What a way to open says of a path: the kind of what it opened, or the error.
    fn told(opened: Result<OwnedFd>) -> Result<FileType> {
        rustix::fs::fstat(opened?).map(|stat| FileType::from_raw_mode(stat.st_mode))
    }

    #[test]
    fn without_openat2_the_same_is_opened_and_the_same_is_refused() {
        let outside = tempfile::tempdir().expect("a directory");
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("a/b/c")).expect("made");
        fs::write(root.path().join("a/b/file"), "x").expect("written");
        fs::write(outside.path().join("file"), "secret").expect("written");
        symlink(outside.path(), root.path().join("a/out")).expect("a link");
        symlink("b", root.path().join("a/in")).expect("a link");
        symlink(outside.path().join("file"), root.path().join("a/b/leaf")).expect("a link");
        symlink("nowhere", root.path().join("a/dangling")).expect("a link");
        let directory = rustix::fs::open(root.path(), DIRECTORY, Mode::empty()).expect("the root");
        let paths = [
            "",
            "a",
            "a/b",
            "a/b/c",
            "a/b/file",
            "a/b/leaf",
            "a/in",
            "a/in/file",
            "a/out",
            "a/out/file",
            "a/dangling",
            "a/dangling/x",
            "a/none",
            "a/none/x",
            "a/b/file/x",
            "/etc/passwd",
            "a/../../etc",
            "..",
            "a//b/./c",
        ];
        for path in paths {
            for flags in [OFlags::RDONLY, DIRECTORY, OFlags::PATH, OFlags::PATH | OFlags::DIRECTORY] {
                let usual = told(open_beneath(directory.as_fd(), path, flags));
                let own = if path.is_empty() { "." } else { path };
                let steps = told(open_in_steps(directory.as_fd(), own, flags | OFlags::NOFOLLOW, Mode::empty()));
                assert_eq!(usual, steps, "{path:?} {flags:?}");
            }
        }
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        for path in ["a/b/new", "a/b/leaf", "a/out/new", "a/b/file"] {
            let steps = told(open_in_steps(directory.as_fd(), path, new, Mode::RUSR));
            let expected = match path {
                "a/b/new" => Ok(FileType::RegularFile),
                "a/out/new" => Err(Errno::LOOP),
                _ => Err(Errno::EXIST),
            };
            assert_eq!(steps, expected, "{path}");
        }
        assert_eq!(fs::read_dir(outside.path()).expect("a directory").count(), 1, "nothing was made outside");
    }
}
