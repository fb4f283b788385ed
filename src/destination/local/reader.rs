//! A tree that is only looked at: nothing is locked, made or changed.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, Result as SystemResult};

use super::fault::failed;
use super::tree::{DIRECTORY, open_beneath, open_regular, split};
use super::walk::entries;
use crate::error::{Class, Error, Report};

/// A tree to read, also while a daemon writes to it, and on storage that cannot be written at all.
pub struct Reader {
    root: OwnedFd,
    path: String,
    /// The directory of the file that was opened last: most often the next one stands there, too.
    last: Mutex<Option<Arc<Directory>>>,
}

struct Directory {
    path: String,
    opened: OwnedFd,
}

/// What stands in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, device, socket or pipe: never followed.
    Other,
}

impl Reader {
    /// Opens the tree at this root.
    ///
    /// # Errors
    /// `Fatal` when there is no directory that can be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let root = rustix::fs::open(path, DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let root = root.and_then(|root| open_beneath(root.as_fd(), "", DIRECTORY));
        let mend = "give the root of a copy, the directory that holds `AWSLogs` or its prefix";
        match root {
            Ok(root) => Ok(Self { root, path: shown, last: Mutex::default() }),
            Err(errno) => Err(Error::of(Class::Fatal, Report::new("open", shown, errno).mend(mend))),
        }
    }

    /// What stands in a directory, in the order of names; nothing where there is no such directory.
    ///
    /// # Errors
    /// As for [`Destination::stage`](crate::destination::Destination::stage).
    pub fn entries(&self, directory: &str) -> Result<Vec<(String, Entry)>, Error> {
        let found = match open_beneath(self.root(), directory, DIRECTORY) {
            Ok(opened) => entries(&opened),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Vec::new()),
            Err(errno) => Err(errno),
        };
        let found = found.map_err(|errno| failed("list", self.shown(directory), errno))?;
        let entry = |kind| match kind {
            FileType::RegularFile => Entry::File,
            FileType::Directory => Entry::Directory,
            _ => Entry::Other,
        };
        Ok(found.into_iter().map(|(name, kind)| (name, entry(kind))).collect())
    }

    /// Opens a regular file; `None` when anything else, or nothing, stands there.
    ///
    /// # Errors
    /// As for [`Destination::stage`](crate::destination::Destination::stage).
    pub fn file(&self, path: &str) -> Result<Option<File>, Error> {
        let (directory, name) = split(path);
        let opened = match self.directory(directory) {
            Ok(directory) => open_regular(directory.opened.as_fd(), name),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno),
        };
        opened.map_err(|errno| failed("read", self.shown(path), errno))
    }

    fn directory(&self, path: &str) -> SystemResult<Arc<Directory>> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = last().as_ref().filter(|directory| directory.path == path) {
            return Ok(directory.clone());
        }
        let opened = open_beneath(self.root(), path, DIRECTORY)?;
        let directory = Arc::new(Directory { path: path.to_owned(), opened });
        *last() = Some(directory.clone());
        Ok(directory)
    }

    fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.path)
    }
}
