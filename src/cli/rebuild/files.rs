//! What a rebuild does to files: sets aside what is there, finds and copies manifests.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;
use crate::error::{Class, Error, Report};
use crate::ledger::DATABASE;

/// Renames the database, what belongs to it, and the manifests.
pub(super) fn set_aside(dir: &Path, now: Timestamp) -> Result<(), Error> {
    let aside = |name: &str| {
        let first = format!("{name}.before-rebuild-{}", now.as_second());
        let others = (2..).map(|n| format!("{first}.{n}"));
        std::iter::once(first.clone()).chain(others).find(|name| !dir.join(name).exists()).unwrap_or(first)
    };
    let (database, manifests) = (aside(DATABASE), aside("manifests"));
    // What SQLite keeps beside a database it finds under the database's name only.
    let names = [
        (format!("{DATABASE}-wal"), format!("{database}-wal")),
        (format!("{DATABASE}-shm"), format!("{database}-shm")),
        (DATABASE.to_owned(), database),
        ("manifests".to_owned(), manifests),
    ];
    for (from, to) in names {
        let from = dir.join(from);
        if from.exists() {
            std::fs::rename(&from, dir.join(to)).map_err(|e| broken("set aside", &from, &e))?;
        }
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| broken("set aside", dir, &e))
}

/// Every manifest below a directory.
pub(super) fn files_under(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(broken("read", &dir, &error)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| broken("read", &dir, &e))?;
            let kind = entry.file_type().map_err(|e| broken("read", &dir, &e))?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() && entry.path().extension().is_some_and(|extension| extension == "gz") {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

/// Copies a file, and makes the copy durable.
pub(super) fn copy_durably(from: &Path, to: &Path) -> std::io::Result<()> {
    let parent = to.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(parent)?;
    std::fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    File::open(parent)?.sync_all()
}

/// An error of the system that ends a rebuild.
pub(super) fn broken(operation: &'static str, path: &Path, error: &std::io::Error) -> Error {
    Error::of(Class::Fatal, Report::new(operation, path.display().to_string(), error))
}
