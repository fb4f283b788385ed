//! A local tree: staged in the same file system, published whole and durably, never replaced.

use std::fs::File;
use std::io::Read;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use rustix::io::Errno;
use tokio::task;

use crate::config;
use crate::content::{Asked, Hashing};
use crate::error::{Class, Error, Report};
use crate::object::{Content, Metadata};
use crate::path::{self, Part};
use crate::source::Body;

use super::{
    Destination, Item, Place, Published, Reread, Staged, Sum, check_own_name, reread, sidecar, wrong_length,
    wrong_version,
};

mod aside;
mod desk;
mod fault;
mod open;
pub mod probe;
mod publish;
mod reader;
mod reserve;
mod staging;
mod tree;
mod walk;
mod witness;

pub use reader::{Entry, Reader};
pub use reserve::Space;
pub use walk::{Found, Walk};

use desk::Desk;
use fault::failed;
use staging::{StagedFile, Writer};
use tree::{OWN, Tree};

/// Bytes that are collected before they are hashed and written, off the async threads.
const STEP_BYTES: usize = 256 * 1024;
/// User metadata have 2 KiB at S3; a file that is longer is not what was kept.
const MOST_METADATA: u64 = 256 * 1024;

/// A tree of files that this process alone writes to.
pub struct Local {
    tree: Arc<Tree>,
    desk: Arc<Desk>,
    path: PathBuf,
    reserve_mib: Option<u64>,
}

/// A staged file; it is removed when this is dropped before it was published.
pub struct Handle(StagedFile);

impl Local {
    /// Opens the tree at the configured root, and makes the root where it is missing. Blocks.
    ///
    /// Nothing of the tree is used before it is locked: a second process is refused, as is a second tree at
    /// the same root in this one. What an earlier process had staged is removed.
    ///
    /// # Errors
    /// `Fatal`, with the reason and its mend: the root is no directory, cannot be written, is used by another
    /// process, is on storage that forgets, or the kernel cannot keep us inside it. `Stream` while the file
    /// system is full or read-only.
    pub fn open(options: &config::Destination) -> Result<Self, Error> {
        Ok(Self::of(open::open(options)?, options))
    }

    fn of(tree: Tree, options: &config::Destination) -> Self {
        let tree = Arc::new(tree);
        Self { desk: Desk::new(tree.clone()), tree, path: options.path.clone(), reserve_mib: options.reserve_mib }
    }

    /// All that stands in the tree but our own files. Blocks while it is iterated.
    pub fn walk(&self) -> Walk {
        Walk::new(self.tree.clone())
    }

    /// Opens the copy of an object to read; `None` when no regular file stands in its place. Blocks.
    ///
    /// # Errors
    /// As for [`Destination::stage`].
    pub fn read(&self, place: &Place) -> Result<Option<File>, Error> {
        self.read_part(place, Part::Object)
    }

    /// The metadata that was kept beside an object; `None` when there is none that can be read. Blocks.
    ///
    /// # Errors
    /// As for [`Destination::stage`].
    pub fn read_metadata(&self, place: &Place) -> Result<Option<Metadata>, Error> {
        let Some(file) = self.read_part(place, Part::Metadata)? else { return Ok(None) };
        let bytes = self.read_whole(file, &place.key)?;
        Ok(sidecar::parse(&bytes).filter(|(key, _)| *key == place.key).map(|(_, metadata)| metadata))
    }

    /// A small file of our own; `None` when it was never kept. Blocks.
    ///
    /// # Errors
    /// As for [`Destination::stage`].
    pub fn read_kept(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        check_own_name(name)?;
        let path = format!("{OWN}/{name}");
        let file = self.tree.open_file(&path).map_err(|errno| failed("read", self.tree.shown(&path), errno))?;
        file.map(|file| self.read_whole(file, &path)).transpose()
    }

    /// How much room there is now.
    ///
    /// # Errors
    /// As for [`Destination::stage`].
    pub fn free_space(&self) -> Result<Space, Error> {
        Space::of(self.tree.root()).map_err(|errno| failed("statvfs", &self.tree.path, errno))
    }

    /// The same tree, for a thread of its own.
    fn another(&self) -> Self {
        let (tree, desk) = (self.tree.clone(), self.desk.clone());
        Self { tree, desk, path: self.path.clone(), reserve_mib: self.reserve_mib }
    }

    fn reread_now(&self, place: &Place, most: u64) -> Result<Option<Reread>, Error> {
        let Some(file) = self.read(place)? else { return Ok(None) };
        let mut gzip = Vec::new();
        let read = file.take(most + 1).read_to_end(&mut gzip);
        read.map_err(|error| failed("read", self.tree.shown(&place.key), fault::errno(&error)))?;
        Ok(Some(reread(&gzip, most, self.read_metadata(place)?)))
    }

    fn rehash_now(&self, place: &Place) -> Result<Option<Content>, Error> {
        let Some(mut file) = self.read(place)? else { return Ok(None) };
        let mut hashing = Hashing::new(place.key.ends_with(".gz"));
        let mut step = vec![0; STEP_BYTES];
        loop {
            let read = file.read(&mut step);
            match read.map_err(|error| failed("read", self.tree.shown(&place.key), fault::errno(&error)))? {
                0 => return Ok(Some(hashing.finish())),
                n => hashing.update(&step[..n]),
            }
        }
    }

    fn sum_now(&self, place: &Place) -> Result<Option<Sum>, Error> {
        let Some(file) = self.read(place)? else { return Ok(None) };
        let sum = aside::sum(file);
        sum.map(Some).map_err(|error| failed("read", self.tree.shown(&place.key), fault::errno(&error)))
    }

    fn sidecar_now(&self, place: &Place) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.read_part(place, Part::Metadata)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(MOST_METADATA).read_to_end(&mut bytes);
        read.map_err(|error| failed("read", self.tree.shown(&place.key), fault::errno(&error)))?;
        Ok(Some(bytes))
    }

    /// The root must still be what stands at its path: it may have been removed, or unmounted.
    fn present_now(&self) -> Result<(), Error> {
        let opened = rustix::fs::fstat(self.tree.root());
        let stands = rustix::fs::stat(&self.path);
        match (opened, stands) {
            (Ok(one), Ok(other)) if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino) => Ok(()),
            (Ok(_), Ok(_)) => Err(fault::gone(&self.tree.path, "another directory stands in its place now")),
            (Ok(_), Err(Errno::NOENT)) => Err(fault::gone(&self.tree.path, "it was removed, moved or unmounted")),
            (Err(errno), _) | (_, Err(errno)) => Err(failed("look at", &self.tree.path, errno)),
        }
    }

    fn read_part(&self, place: &Place, part: Part) -> Result<Option<File>, Error> {
        let path = path::of(&place.key, place.version.as_deref(), part).ok_or_else(|| wrong_version(place))?;
        self.tree.open_file(&path).map_err(|errno| failed("read", self.tree.shown(&path), errno))
    }

    fn read_whole(&self, mut file: File, subject: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        match file.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(failed("read", self.tree.shown(subject), fault::errno(&error))),
        }
    }
}

impl Destination for Local {
    type Handle = Handle;

    async fn stage(&self, mut body: Body, expected_size: u64, asked: Asked) -> Result<Staged<Handle>, Error> {
        reserve::check(self.tree.root(), &self.tree.path, expected_size, self.reserve_mib)?;
        if expected_size <= STEP_BYTES as u64 {
            return self.desk.stage(collect(body, expected_size).await?, asked).await;
        }
        let mut writer = None;
        let mut step = Vec::new();
        let mut received = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            received += chunk.len() as u64;
            if received > expected_size {
                return Err(wrong_length(expected_size, received));
            }
            step.extend_from_slice(&chunk);
            if step.len() >= STEP_BYTES {
                let bytes = mem::take(&mut step);
                let tree = self.tree.clone();
                writer = Some(blocking("stage", move || append(&tree, writer, &bytes, asked)).await?);
            }
        }
        if received < expected_size {
            return Err(wrong_length(expected_size, received));
        }
        let tree = self.tree.clone();
        blocking("stage", move || finish(append(&tree, writer, &step, asked)?, &tree)).await
    }

    async fn publish(&self, batch: Vec<Item<Handle>>) -> Result<Vec<Published>, Error> {
        let local = self.another();
        blocking("publish", move || {
            local.present_now()?;
            publish::publish(&local.tree, batch)
        })
        .await
    }

    async fn keep(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        check_own_name(name)?;
        let path = format!("{OWN}/{name}");
        let tree = self.tree.clone();
        blocking("keep", move || publish::keep(&tree, &path, &bytes)).await
    }

    async fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let (local, name) = (self.another(), name.to_owned());
        blocking("read", move || local.read_kept(&name)).await
    }

    async fn reread(&self, place: &Place, most: u64) -> Result<Option<Reread>, Error> {
        let (local, place) = (self.another(), place.clone());
        blocking("read", move || local.reread_now(&place, most)).await
    }

    async fn rehash(&self, place: &Place) -> Result<Option<Content>, Error> {
        let (local, place) = (self.another(), place.clone());
        blocking("read", move || local.rehash_now(&place)).await
    }

    async fn sum(&self, place: &Place) -> Result<Option<Sum>, Error> {
        let (local, place) = (self.another(), place.clone());
        blocking("read", move || local.sum_now(&place)).await
    }

    async fn sidecar(&self, place: &Place) -> Result<Option<Vec<u8>>, Error> {
        let (local, place) = (self.another(), place.clone());
        blocking("read", move || local.sidecar_now(&place)).await
    }

    async fn set_aside(&self, place: &Place, part: Part) -> Result<Option<String>, Error> {
        let path = path::of(&place.key, place.version.as_deref(), part).ok_or_else(|| wrong_version(place))?;
        let tree = self.tree.clone();
        blocking("set aside", move || aside::set_aside(&tree, &path)).await
    }

    async fn set_aside_kept(&self, name: &str) -> Result<Option<String>, Error> {
        check_own_name(name)?;
        let (tree, path) = (self.tree.clone(), format!("{OWN}/{name}"));
        blocking("set aside", move || aside::set_aside(&tree, &path)).await
    }

    async fn present(&self) -> Result<(), Error> {
        let local = self.another();
        blocking("look at", move || local.present_now()).await
    }
}

/// The whole of a small body, as it came.
async fn collect(mut body: Body, expected_size: u64) -> Result<Vec<Bytes>, Error> {
    let (mut chunks, mut received) = (Vec::new(), 0);
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        received += chunk.len() as u64;
        if received > expected_size {
            return Err(wrong_length(expected_size, received));
        }
        chunks.push(chunk);
    }
    if received < expected_size { Err(wrong_length(expected_size, received)) } else { Ok(chunks) }
}

/// Hashes and writes one step; the first makes the file. When it fails, nothing stays in the stage.
fn append(tree: &Arc<Tree>, writer: Option<Writer>, bytes: &[u8], asked: Asked) -> Result<Writer, Error> {
    let write = || {
        let mut writer = writer.map_or_else(|| Writer::create(tree, asked), Ok)?;
        writer.write(bytes).map(|()| writer)
    };
    write().map_err(|errno| failed("stage", &tree.path, errno))
}

fn finish(writer: Writer, tree: &Tree) -> Result<Staged<Handle>, Error> {
    match writer.finish() {
        Ok((content, staged)) => Ok(Staged { content, handle: Handle(staged) }),
        Err(errno) => Err(failed("stage", &tree.path, errno)),
    }
}

/// Runs what blocks where it holds nobody up. Once begun it goes on to its end, also when nobody waits.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => Err(Error::of(Class::Transient, Report::new(operation, "destination", stopped))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_util::stream;

    use super::tree::Durability;
    use super::*;

    fn open(root: &Path, durability: Durability) -> Local {
        let options = config::Destination {
            path: root.to_owned(),
            file_mode: 0o640,
            dir_mode: 0o750,
            group: None,
            allow_volatile: true,
            reserve_mib: Some(0),
        };
        let mut tree = open::open(&options).unwrap();
        tree.durability = durability;
        Local::of(tree, &options)
    }

    async fn publish(local: &Local, bytes: &'static [u8]) -> Published {
        let body = stream::iter([Ok(Bytes::from_static(bytes))]);
        let staged = local.stage(Box::pin(body), bytes.len() as u64, Asked::all(false)).await.unwrap();
        let place = Place { key: "a/b.gz".to_owned(), version: None };
        local.publish(vec![Item { place, staged, metadata: Some(Metadata::new()) }]).await.unwrap().remove(0)
    }

    #[tokio::test]
    async fn files_can_be_made_durable_each_or_together() {
        for durability in [Durability::Each, Durability::Together] {
            let root = tempfile::tempdir().unwrap();
            let local = open(root.path(), durability);
            assert_eq!(publish(&local, b"one").await, Published::New);
            assert_eq!(publish(&local, b"one").await, Published::Same);
            assert_eq!(publish(&local, b"two").await, Published::Other);
            local.keep("manifest", vec![1]).await.unwrap();
            assert_eq!(local.read_kept("manifest").unwrap(), Some(vec![1]));
        }
    }

    #[test]
    fn paths_longer_than_the_system_takes_are_entered_in_steps() {
        let root = tempfile::tempdir().unwrap();
        let local = open(root.path(), Durability::Together);
        let path = vec!["d".repeat(99); 100].join("/");
        assert!(local.tree.open_dir(&path).is_err());
        local.tree.make_dir(&path).unwrap();
        local.tree.open_dir(&path).unwrap();
    }
}
