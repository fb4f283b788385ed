//! All that stands in a tree, for those who rebuild or check what was recorded.

use std::collections::VecDeque;
use std::sync::Arc;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::{Errno, Result as SystemResult};

use crate::destination::Place;
use crate::error::Error;
use crate::path::{self, Part};

use super::fault::failed;
use super::tree::{OWN, Tree};

/// Something that stands in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The copy of an object.
    Object(Place),
    /// The metadata of an object.
    Metadata(Place),
    /// Nothing that was published here; links and hidden directories are not entered.
    Foreign(String),
}

/// Goes through a tree directory by directory, each in the order of its names.
///
/// Holds the names of one directory at a time, and those of directories that are still to come. A directory
/// that cannot be read is an error, after which the walk goes on.
pub struct Walk {
    tree: Arc<Tree>,
    directories: Vec<String>,
    found: VecDeque<Found>,
}

impl Walk {
    /// Starts at the root.
    pub fn new(tree: Arc<Tree>) -> Self {
        Self { tree, directories: vec![String::new()], found: VecDeque::new() }
    }

    fn read(&mut self, path: &str) -> SystemResult<()> {
        let directory = match self.tree.open_dir(path) {
            Ok(directory) => directory,
            // The file system's own; only its administrator can look inside.
            Err(Errno::ACCESS) if path == "lost+found" => {
                self.found.push_back(Found::Foreign(path.to_owned()));
                return Ok(());
            }
            Err(errno) => return Err(errno),
        };
        let mut deeper = Vec::new();
        for (name, kind) in entries(&directory)? {
            let hidden = name.starts_with('.');
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            match kind {
                FileType::Directory if path == OWN => {}
                FileType::Directory if !hidden => deeper.push(path),
                FileType::RegularFile => self.found.push_back(identify(path)),
                _ => self.found.push_back(Found::Foreign(path)),
            }
        }
        self.directories.extend(deeper.into_iter().rev());
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = Result<Found, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(Ok(found));
            }
            let path = self.directories.pop()?;
            if let Err(errno) = self.read(&path) {
                return Some(Err(failed("walk", self.tree.shown(&path), errno)));
            }
        }
    }
}

/// Names and kinds in the order of names; a name that is not UTF-8 is shown with replacements, as foreign.
pub fn entries(directory: &OwnedFd) -> SystemResult<Vec<(String, FileType)>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let raw = entry.file_name();
        if matches!(raw.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match (raw.to_str(), entry.file_type()) {
            (Err(_), _) => FileType::Unknown,
            (Ok(name), FileType::Unknown) => {
                let stat = rustix::fs::statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            (Ok(_), kind) => kind,
        };
        entries.push((raw.to_string_lossy().into_owned(), kind));
    }
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(entries)
}

fn identify(path: String) -> Found {
    match path::identify(&path) {
        Some(named) => {
            let place = Place { key: named.key, version: named.version };
            match named.part {
                Part::Object => Found::Object(place),
                Part::Metadata => Found::Metadata(place),
            }
        }
        None => Found::Foreign(path),
    }
}
