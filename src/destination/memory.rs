//! A destination in memory: the same promises as on disk, with faults to order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::StreamExt;

use crate::content::{Asked, Hashing};
use crate::error::{Class, Error, Report};
use crate::object::Content;
use crate::path::{self, Part};
use crate::source::Body;

use super::{
    DAMAGED, Destination, Item, Place, Published, Reread, Staged, Sum, check_own_name, reread, sidecar, wrong_length,
    wrong_version,
};

/// A tree in memory; clones share it.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Tree>>);

/// Staged bytes.
pub struct Handle(Vec<u8>);

#[derive(Default)]
struct Tree {
    files: BTreeMap<String, File>,
    kept: BTreeMap<String, Vec<u8>>,
    damaged: BTreeMap<String, Vec<u8>>,
    failing_stages: usize,
    publish_fails_after: Option<usize>,
    full: bool,
}

struct File {
    bytes: Vec<u8>,
    durable: bool,
}

impl Memory {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// All visible files by their path: objects, versions and metadata.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.tree().files.iter().map(|(path, file)| (path.clone(), file.bytes.clone())).collect()
    }

    /// The first version of an object, where there is one.
    pub fn read(&self, key: &str) -> Option<Vec<u8>> {
        self.tree().files.get(&path::encode(key)).map(|file| file.bytes.clone())
    }

    /// A small file of our own, where there is one.
    pub fn kept(&self, name: &str) -> Option<Vec<u8>> {
        self.tree().kept.get(name).cloned()
    }

    /// The next `count` stages fail as if a local write had.
    pub fn fail_next_stage(&self, count: usize) {
        self.tree().failing_stages = count;
    }

    /// The next publish fails when `visible` of its items can be seen and none of them is durable.
    pub fn fail_publish_after(&self, visible: usize) {
        self.tree().publish_fails_after = Some(visible);
    }

    /// Nothing can be stored while the storage is full.
    pub fn set_full(&self, full: bool) {
        self.tree().full = full;
    }

    /// Puts other bytes in the place of an object, or nothing.
    pub fn damage(&self, key: &str, bytes: Option<Vec<u8>>) {
        let (mut tree, path) = (self.tree(), path::encode(key));
        match bytes {
            Some(bytes) => drop(tree.files.insert(path, File { bytes, durable: true })),
            None => drop(tree.files.remove(&path)),
        }
    }

    /// Loses what was never made durable.
    pub fn cut_power(&self) {
        self.tree().files.retain(|_, file| file.durable);
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Destination for Memory {
    type Handle = Handle;

    async fn stage(&self, mut body: Body, expected_size: u64, asked: Asked) -> Result<Staged<Handle>, Error> {
        self.tree().begin_stage()?;
        let mut hashing = Hashing::asked(asked, Vec::new());
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            hashing.update(&chunk);
            bytes.extend_from_slice(&chunk);
        }
        let content = hashing.finish();
        if content.size != expected_size {
            return Err(wrong_length(expected_size, content.size));
        }
        Ok(Staged { content, handle: Handle(bytes) })
    }

    async fn publish(&self, batch: Vec<Item<Handle>>) -> Result<Vec<Published>, Error> {
        self.tree().publish(batch)
    }

    async fn keep(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        check_own_name(name)?;
        let mut tree = self.tree();
        tree.refuse_when_full("keep")?;
        tree.kept.insert(name.to_owned(), bytes);
        Ok(())
    }

    async fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        check_own_name(name)?;
        Ok(self.kept(name))
    }

    async fn reread(&self, place: &Place, most: u64) -> Result<Option<Reread>, Error> {
        let (object, metadata) = (path_of(place, Part::Object)?, path_of(place, Part::Metadata)?);
        let tree = self.tree();
        let beside = tree.files.get(&metadata).and_then(|file| sidecar::parse(&file.bytes));
        let metadata = beside.filter(|(key, _)| *key == place.key).map(|(_, metadata)| metadata);
        Ok(tree.files.get(&object).map(|file| reread(&file.bytes, most, metadata)))
    }

    async fn rehash(&self, place: &Place) -> Result<Option<Content>, Error> {
        let path = path_of(place, Part::Object)?;
        let Some(bytes) = self.tree().files.get(&path).map(|file| file.bytes.clone()) else { return Ok(None) };
        let mut hashing = Hashing::new(place.key.ends_with(".gz"));
        hashing.update(&bytes);
        Ok(Some(hashing.finish()))
    }

    async fn sum(&self, place: &Place) -> Result<Option<Sum>, Error> {
        let path = path_of(place, Part::Object)?;
        let sum = |file: &File| Sum { size: file.bytes.len() as u64, sha256: crate::manifest::sha256(&file.bytes) };
        Ok(self.tree().files.get(&path).map(sum))
    }

    async fn sidecar(&self, place: &Place) -> Result<Option<Vec<u8>>, Error> {
        let path = path_of(place, Part::Metadata)?;
        Ok(self.tree().files.get(&path).map(|file| file.bytes.clone()))
    }

    async fn set_aside(&self, place: &Place, part: Part) -> Result<Option<String>, Error> {
        let path = path_of(place, part)?;
        let mut tree = self.tree();
        let Some(file) = tree.files.remove(&path) else { return Ok(None) };
        Ok(Some(tree.keep_damaged(&path, file.bytes)))
    }

    async fn set_aside_kept(&self, name: &str) -> Result<Option<String>, Error> {
        check_own_name(name)?;
        let mut tree = self.tree();
        let Some(bytes) = tree.kept.remove(name) else { return Ok(None) };
        Ok(Some(tree.keep_damaged(name, bytes)))
    }

    async fn present(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Tree {
    /// Keeps what was damaged over nothing that is there already.
    fn keep_damaged(&mut self, path: &str, bytes: Vec<u8>) -> String {
        let mut target = format!(".trailsync/{DAMAGED}/{path}");
        let mut number = 2;
        while self.damaged.contains_key(&target) {
            target = format!(".trailsync/{DAMAGED}/{number}/{path}");
            number += 1;
        }
        self.damaged.insert(target.clone(), bytes);
        target
    }

    fn refuse_when_full(&self, operation: &'static str) -> Result<(), Error> {
        let full = || Report::new(operation, "memory", "No space left on device").code("ENOSPC");
        if self.full { Err(Error::of(Class::Stream, full())) } else { Ok(()) }
    }

    fn begin_stage(&mut self) -> Result<(), Error> {
        self.refuse_when_full("stage")?;
        if self.failing_stages > 0 {
            self.failing_stages -= 1;
            return Err(failed("stage"));
        }
        Ok(())
    }

    fn publish(&mut self, batch: Vec<Item<Handle>>) -> Result<Vec<Published>, Error> {
        self.refuse_when_full("publish")?;
        let fails_after = self.publish_fails_after.take();
        let mut published = Vec::with_capacity(batch.len());
        let mut touched = Vec::new();
        for item in batch {
            if fails_after == Some(published.len()) {
                return Err(failed("publish"));
            }
            published.push(self.publish_one(item, &mut touched)?);
        }
        if fails_after.is_some() {
            return Err(failed("publish"));
        }
        for path in touched {
            if let Some(file) = self.files.get_mut(&path) {
                file.durable = true;
            }
        }
        Ok(published)
    }

    /// An object's metadata is visible before it; other bytes under its place keep both out.
    fn publish_one(&mut self, item: Item<Handle>, touched: &mut Vec<String>) -> Result<Published, Error> {
        let path = path_of(&item.place, Part::Object)?;
        let Handle(bytes) = item.staged.handle;
        if self.files.get(&path).is_some_and(|there| there.bytes != bytes) {
            return Ok(Published::Other);
        }
        if let Some(metadata) = item.metadata {
            let beside = path_of(&item.place, Part::Metadata)?;
            let json = sidecar::render(&item.place.key, &metadata);
            if self.put(beside, json, touched) == Published::Other {
                return Ok(Published::Other);
            }
        }
        Ok(self.put(path, bytes, touched))
    }

    fn put(&mut self, path: String, bytes: Vec<u8>, touched: &mut Vec<String>) -> Published {
        let published = match self.files.get(&path) {
            Some(there) if there.bytes != bytes => return Published::Other,
            Some(_) => Published::Same,
            None => {
                self.files.insert(path.clone(), File { bytes, durable: false });
                Published::New
            }
        };
        touched.push(path);
        published
    }
}

fn path_of(place: &Place, part: Part) -> Result<String, Error> {
    path::of(&place.key, place.version.as_deref(), part).ok_or_else(|| wrong_version(place))
}

fn failed(operation: &'static str) -> Error {
    Error::of(Class::Transient, Report::new(operation, "memory", "Input/output error").code("EIO"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::object::Metadata;

    use super::*;

    async fn item(memory: &Memory, key: &str, bytes: &'static [u8]) -> Item<Handle> {
        let staged = memory.stage(body(bytes), bytes.len() as u64, Asked::all(false)).await.unwrap();
        Item { place: Place { key: key.to_owned(), version: None }, staged, metadata: None }
    }

    fn body(bytes: &'static [u8]) -> Body {
        Box::pin(futures_util::stream::iter(bytes.chunks(2).map(|chunk| Ok(Bytes::from_static(chunk)))))
    }

    #[tokio::test]
    async fn what_is_published_is_there_once_and_never_replaced() {
        let memory = Memory::new();
        let batch =
            vec![item(&memory, "a", b"1").await, item(&memory, "a", b"1").await, item(&memory, "a", b"2").await];
        assert!(memory.files().is_empty(), "staged bytes are not visible");
        let published = memory.publish(batch).await.unwrap();
        assert_eq!(published, [Published::New, Published::Same, Published::Other]);
        assert_eq!(memory.read("a").unwrap(), b"1");

        let mut later = item(&memory, "a", b"2").await;
        later.place.version = Some("0123456789abcdef".to_owned());
        assert_eq!(memory.publish(vec![later]).await.unwrap(), [Published::New]);
        assert_eq!(memory.files()["a%_file%_v0123456789abcdef"], b"2");
    }

    #[tokio::test]
    async fn metadata_belongs_to_the_object() {
        let memory = Memory::new();
        let metadata = |value: &str| Some(Metadata::from([("signature".to_owned(), value.to_owned())]));
        for (value, bytes, expected) in [
            ("x", b"1", Published::New),
            ("x", b"1", Published::Same),
            ("y", b"1", Published::Other),
            ("x", b"2", Published::Other),
        ] {
            let item = Item { metadata: metadata(value), ..item(&memory, "d.gz", bytes).await };
            assert_eq!(memory.publish(vec![item]).await.unwrap(), [expected]);
        }
        let files = memory.files();
        assert_eq!(sidecar::parse(&files["d.gz%_meta.json"]), Some(("d.gz".to_owned(), metadata("x").unwrap())));
        assert_eq!(files.len(), 2);
    }

    #[tokio::test]
    async fn faults_come_as_ordered() {
        let memory = Memory::new();
        memory.fail_next_stage(1);
        assert_eq!(
            memory.stage(body(b"1"), 1, Asked::all(false)).await.err().map(|e| e.class()),
            Some(Class::Transient)
        );
        assert_eq!(
            memory.stage(body(b"12"), 1, Asked::all(false)).await.err().map(|e| e.class()),
            Some(Class::Transient)
        );

        memory.fail_publish_after(1);
        let batch = vec![item(&memory, "a", b"1").await, item(&memory, "b", b"2").await];
        assert_eq!(memory.publish(batch).await.unwrap_err().class(), Class::Transient);
        assert_eq!(memory.files().len(), 1, "one was visible");
        memory.cut_power();
        assert_eq!(memory.files().len(), 0, "and not durable");

        let batch = vec![item(&memory, "a", b"1").await];
        memory.set_full(true);
        let error = memory.publish(batch).await.unwrap_err();
        assert_eq!((error.class(), error.code()), (Class::Stream, "ENOSPC"));
        assert!(memory.keep("m", vec![]).await.is_err());
        memory.set_full(false);
        memory.publish(vec![item(&memory, "a", b"1").await]).await.unwrap();
        memory.keep("m", vec![1]).await.unwrap();
        memory.cut_power();
        assert_eq!(memory.read("a").unwrap(), b"1");
        assert_eq!(memory.kept("m"), Some(vec![1]));
    }
}
