//! The destinations under test, each with a look at what it holds that does not go through it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use trailsync::config;
use trailsync::content::Asked;
use trailsync::destination::bucket::{Bucket, name};
use trailsync::destination::local::{Found, Local};
use trailsync::destination::memory::Memory;
use trailsync::destination::{Destination, Item, Place, Published, sidecar};
use trailsync::error::Error;
use trailsync::object::Metadata;
use trailsync::path::{self, Part};
use trailsync::source::Body;

use crate::account::Shared;
use crate::archive::{self, ARCHIVE, Archive, PREFIX};

/// Copies by key and version.
pub type Copies = BTreeMap<(String, Option<String>), Vec<u8>>;

/// One kind of destination.
pub trait Bench: Sync {
    type D: Destination;

    /// The destination as a process opens it that starts; an earlier one is gone.
    fn open(&self) -> impl Future<Output = Self::D> + Send;
    /// What it holds.
    fn copies(&self, at: &Self::D) -> Copies;
    fn metadata(&self, at: &Self::D, place: &Place) -> Option<Metadata>;
    fn kept(&self, at: &Self::D, name: &str) -> Option<Vec<u8>>;
    /// Files that wait.
    fn staged(&self) -> usize;
    /// Whether it takes a key of so many bytes.
    fn takes(&self, key: &str) -> bool;
}

pub struct Tree(tempfile::TempDir);

impl Tree {
    pub async fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Deeper than the standard library can remove with the usual number of descriptors.
        let _ = std::process::Command::new("rm").arg("-rf").arg("--").arg(self.0.path().join("tree")).status();
    }
}

impl Bench for Tree {
    type D = Local;

    async fn open(&self) -> Local {
        let options = config::Destination {
            path: self.0.path().join("tree"),
            file_mode: 0o640,
            dir_mode: 0o750,
            group: None,
            allow_volatile: true,
            reserve_mib: Some(0),
        };
        Local::open(&options).expect("a tree")
    }

    fn copies(&self, at: &Local) -> Copies {
        let mut copies = Copies::new();
        for found in at.walk() {
            match found.expect("readable") {
                Found::Object(place) => {
                    let mut bytes = Vec::new();
                    at.read(&place).expect("readable").expect("a copy").read_to_end(&mut bytes).expect("read");
                    copies.insert((place.key, place.version), bytes);
                }
                Found::Metadata(_) => {}
                Found::Foreign(path) => panic!("{path} is nobody's"),
            }
        }
        copies
    }

    fn metadata(&self, at: &Local, place: &Place) -> Option<Metadata> {
        at.read_metadata(place).expect("readable")
    }

    fn kept(&self, at: &Local, name: &str) -> Option<Vec<u8>> {
        at.read_kept(name).expect("readable")
    }

    fn staged(&self) -> usize {
        files(&self.0.path().join("tree/.trailsync/stage"))
    }

    fn takes(&self, _: &str) -> bool {
        true
    }
}

pub struct InMemory(Memory);

impl InMemory {
    pub async fn new() -> Self {
        Self(Memory::new())
    }
}

impl Bench for InMemory {
    type D = Memory;

    async fn open(&self) -> Memory {
        self.0.clone()
    }

    fn copies(&self, at: &Memory) -> Copies {
        let mut copies = Copies::new();
        for (path, bytes) in at.files() {
            let named = path::identify(&path).unwrap_or_else(|| panic!("{path} is nobody's"));
            if named.part == Part::Object {
                copies.insert((named.key, named.version), bytes);
            }
        }
        copies
    }

    fn metadata(&self, at: &Memory, place: &Place) -> Option<Metadata> {
        let path = path::of(&place.key, place.version.as_deref(), Part::Metadata).expect("a path");
        sidecar::parse(at.files().get(&path)?).map(|(_, metadata)| metadata)
    }

    fn kept(&self, at: &Memory, name: &str) -> Option<Vec<u8>> {
        at.kept(name)
    }

    fn staged(&self) -> usize {
        0
    }

    fn takes(&self, _: &str) -> bool {
        true
    }
}

pub struct InBucket {
    pub shared: Shared,
    pub archive: Archive,
    spool: tempfile::TempDir,
}

impl InBucket {
    pub async fn new() -> Self {
        Self::with(Archive::new).await
    }

    pub async fn with(archive: impl FnOnce(&Shared) -> Archive) -> Self {
        let shared = Shared::own_logs().await;
        Self { archive: archive(&shared), shared, spool: tempfile::tempdir().expect("a directory") }
    }

    pub fn spool(&self) -> std::path::PathBuf {
        self.spool.path().join("spool")
    }

    /// What the bucket holds under a key of ours.
    pub fn object(&self, place: &Place) -> Option<std::sync::Arc<fakeaws::StoredObject>> {
        self.shared.world.object(ARCHIVE, &name::of(&format!("{PREFIX}/"), place).expect("a name"))
    }
}

impl Bench for InBucket {
    type D = Bucket;

    async fn open(&self) -> Bucket {
        let bucket = self.archive.open(&self.shared, &self.spool());
        // What cannot be prepared is refused again by the first copy.
        let _ = bucket.prepare().await;
        bucket
    }

    fn copies(&self, _: &Bucket) -> Copies {
        archive::copies(&self.shared)
    }

    fn metadata(&self, _: &Bucket, place: &Place) -> Option<Metadata> {
        self.object(place).map(|object| object.metadata.clone()).filter(|metadata| !metadata.is_empty())
    }

    fn kept(&self, _: &Bucket, name: &str) -> Option<Vec<u8>> {
        self.shared.world.body(ARCHIVE, &format!("{PREFIX}/.trailsync/{name}")).map(|body| body.to_vec())
    }

    fn staged(&self) -> usize {
        files(&self.spool())
    }

    fn takes(&self, key: &str) -> bool {
        name::of(&format!("{PREFIX}/"), &first(key)).expect("a name").len() <= name::KEY_BYTES
    }
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

pub fn body(bytes: impl Into<Bytes>) -> Body {
    let bytes = bytes.into();
    let step = 10_000;
    let cuts = (0..bytes.len()).step_by(step).map(|at| bytes.slice(at..bytes.len().min(at + step))).collect::<Vec<_>>();
    Box::pin(stream::iter(cuts.into_iter().map(Ok)))
}

pub fn first(key: &str) -> Place {
    Place { key: key.to_owned(), version: None }
}

pub fn version(key: &str) -> Place {
    Place { version: Some("0123456789abcdef".to_owned()), ..first(key) }
}

pub async fn item<D: Destination>(at: &D, key: &str, bytes: impl Into<Bytes>) -> Item<D::Handle> {
    let bytes = bytes.into();
    let staged = at
        .stage(body(bytes.clone()), bytes.len() as u64, Asked::all(false))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    Item { place: first(key), staged, metadata: None }
}

pub async fn publish<D: Destination>(at: &D, key: &str, bytes: impl Into<Bytes>) -> Result<Published, Error> {
    let batch = vec![item(at, key, bytes).await];
    Ok(at.publish(batch).await?.remove(0))
}
