//! A copy as verification sees it: folders, objects, what is kept beside them. Nothing is ever written.

use std::io::Read;
use std::path::Path;

use crate::destination::Place;
use crate::destination::local::{Entry, Reader};
use crate::error::Error;
use crate::path::{self, Part};

/// Bytes of one file, read once.
pub type Bytes = Box<dyn Read + Send>;

/// A copy of a bucket: a local tree, or a bucket of our own.
pub trait Archive: Sync {
    /// What stands in a folder of keys (empty, or with a slash at its end), each in the order of names.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list(&self, folder: &str) -> Result<Listed, Error>;

    /// Opens a copy; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    fn object(&self, place: &Place) -> Result<Option<Bytes>, Error>;

    /// The whole file of an object's user metadata; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    fn metadata(&self, place: &Place) -> Result<Option<Vec<u8>>, Error>;

    /// Opens a file of our own below `.trailsync/`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn kept(&self, name: &str) -> Result<Option<Bytes>, Error>;

    /// Folders and files of our own in a folder below `.trailsync/`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn kept_in(&self, folder: &str) -> Result<(Vec<String>, Vec<String>), Error>;
}

/// What stands in one folder of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Names of folders, without slashes.
    pub folders: Vec<String>,
    /// Objects: what follows the folder in their keys.
    pub objects: Vec<Standing>,
    /// Paths of files that no key has.
    pub foreign: Vec<String>,
}

/// One object in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// What follows the folder in its key.
    pub name: Box<str>,
    /// The version that stands beside the first.
    pub version: Option<Box<str>>,
}

/// A local tree.
pub struct Tree {
    reader: Reader,
}

impl Tree {
    /// The tree at this root.
    ///
    /// # Errors
    /// `Fatal` when it cannot be read.
    pub fn open(root: &Path) -> Result<Self, Error> {
        Ok(Self { reader: Reader::open(root)? })
    }

    fn list_into(&self, folder: &str, directory: &str, listed: &mut Listed) -> Result<(), Error> {
        let is_split = directory.rsplit('/').next().is_some_and(path::is_head);
        for (name, entry) in self.reader.entries(directory)? {
            if name.starts_with('.') {
                continue;
            }
            // A name that goes on below its directory is a name of its own nowhere else.
            let object = if entry == Entry::File && !is_split { in_folder(&name) } else { None };
            if let Some(object) = object {
                listed.objects.push(object);
                continue;
            }
            let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
            match entry {
                Entry::File => file(folder, path, listed),
                Entry::Directory if path::is_head(&name) => self.list_into(folder, &path, listed)?,
                Entry::Directory => match folder_of(&path) {
                    Some(key) => listed.folders.push(last_part(&key)),
                    None => listed.foreign.push(path),
                },
                Entry::Other => listed.foreign.push(path),
            }
        }
        Ok(())
    }

    fn open_part(&self, place: &Place, part: Part) -> Result<Option<std::fs::File>, Error> {
        match path::of(&place.key, place.version.as_deref(), part) {
            Some(path) => self.reader.file(&path),
            None => Ok(None),
        }
    }
}

impl Archive for Tree {
    fn list(&self, folder: &str) -> Result<Listed, Error> {
        let mut listed = Listed::default();
        self.list_into(folder, &directory_of(folder), &mut listed)?;
        listed.folders.sort_unstable();
        listed.folders.dedup();
        listed.objects.sort_unstable();
        Ok(listed)
    }

    fn object(&self, place: &Place) -> Result<Option<Bytes>, Error> {
        Ok(self.open_part(place, Part::Object)?.map(|file| Box::new(file) as Bytes))
    }

    fn metadata(&self, place: &Place) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.open_part(place, Part::Metadata)? else { return Ok(None) };
        whole(Box::new(file), &place.key).map(Some)
    }

    fn kept(&self, name: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.reader.file(&format!(".trailsync/{name}"))?.map(|file| Box::new(file) as Bytes))
    }

    fn kept_in(&self, folder: &str) -> Result<(Vec<String>, Vec<String>), Error> {
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        for (name, entry) in self.reader.entries(&format!(".trailsync/{folder}"))? {
            match entry {
                Entry::Directory => folders.push(name),
                Entry::File => files.push(name),
                Entry::Other => {}
            }
        }
        Ok((folders, files))
    }
}

/// Reads a small file whole; what is larger than any of ours is cut, and then not taken.
///
/// # Errors
/// `Transient`, with the system's words.
pub fn whole(file: Bytes, subject: &str) -> Result<Vec<u8>, Error> {
    const MOST: u64 = 64 << 20;
    let mut bytes = Vec::new();
    match file.take(MOST).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(unreadable(subject, &error)),
    }
}

/// A file that the system does not let us read.
pub fn unreadable(subject: &str, error: &std::io::Error) -> Error {
    let report = crate::error::Report::new("read", subject, error);
    Error::of(crate::error::Class::Transient, report.mend("check its permissions and the disk"))
}

/// The object of a file that has its whole name, by that name alone.
fn in_folder(name: &str) -> Option<Standing> {
    let named = path::identify(name).filter(|named| named.part == Part::Object)?;
    Some(Standing { name: named.key.into(), version: named.version.map(Into::into) })
}

fn file(folder: &str, path: String, listed: &mut Listed) {
    match path::identify(&path) {
        Some(named) if named.part == Part::Metadata => {}
        Some(named) => match named.key.strip_prefix(folder) {
            Some(name) => {
                listed.objects.push(Standing { name: name.into(), version: named.version.map(Into::into) });
            }
            None => listed.foreign.push(path),
        },
        None => listed.foreign.push(path),
    }
}

/// The directory of a folder of keys.
fn directory_of(folder: &str) -> String {
    let path = path::encode(&format!("{folder}x.gz"));
    path.strip_suffix("x.gz").unwrap_or_default().trim_end_matches('/').to_owned()
}

/// The folder of keys, with a slash at its end, whose directory this is.
fn folder_of(directory: &str) -> Option<String> {
    let key = path::decode(&format!("{directory}/x.gz"))?;
    key.strip_suffix("x.gz").map(str::to_owned)
}

fn last_part(folder: &str) -> String {
    folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_objects_are_listed_by_the_names_in_their_keys() {
        let root = tempfile::tempdir().unwrap();
        let long = format!("d/{}.gz", "n".repeat(400));
        for key in ["d/a.gz", "d/b\n.gz", "d/e.gz/f.gz", "d/\u{202e}/f.gz", &long] {
            let path = root.path().join(path::encode(key));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        std::fs::write(root.path().join("d/a.gz%_v0123456789abcdef"), b"y").unwrap();
        std::fs::write(root.path().join("d/a.gz%_meta.json"), b"{}").unwrap();
        std::fs::write(root.path().join("d/odd"), b"").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("d/link.gz")).unwrap();
        let tree = Tree::open(root.path()).unwrap();
        assert_eq!(tree.list("").unwrap().folders, ["d"]);
        let listed = tree.list("d/").unwrap();
        assert_eq!(listed.folders, ["e.gz", "\u{202e}"]);
        let names: Vec<_> = listed.objects.iter().map(|o| (&*o.name, o.version.as_deref())).collect();
        let long = long.strip_prefix("d/").unwrap();
        let version = Some("0123456789abcdef");
        assert_eq!(names, [("a.gz", None), ("a.gz", version), ("b\n.gz", None), (long, None)]);
        assert_eq!(listed.foreign, ["d/link.gz", "d/odd"]);
        assert!(tree.object(&Place { key: "d/link.gz".into(), version: None }).unwrap().is_none());
        assert!(tree.list("nowhere/").unwrap() == Listed::default());
    }
}
