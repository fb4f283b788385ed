//! What a rebuild reads: the copies and manifests of a tree, or of a bucket, in the same words.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use tokio::sync::Mutex;

use super::files::{broken, copy_durably, files_under};
use crate::assemble::holds_objects;
use crate::clock::Timestamp;
use crate::config::{Source, Storage};
use crate::content::Hashing;
use crate::destination::bucket::{self, Bucket, Reading, name};
use crate::destination::local::{Found, Local, Walk};
use crate::destination::{Destination as _, Place};
use crate::error::{Class, Error, Report};
use crate::identity;
use crate::ledger::Ledger;
use crate::object::{Content, Listed};
use crate::role::Process;
use crate::source::{FetchRequest, ListRequest, Source as _};

/// Where the copies of one source are.
pub enum Shelf {
    Tree {
        root: PathBuf,
        tree: Local,
        holds: bool,
    },
    Bucket {
        reading: Box<Reading>,
        bucket: Box<Bucket>,
        shown: String,
        holds: bool,
        /// The folder that was asked for last, and the keys in it.
        folder: Mutex<(String, HashSet<String>)>,
    },
}

/// A walk over all copies, in the order of their keys.
pub enum Books {
    Tree(Walk),
    Bucket(Box<Pages>),
}

/// A walk through a bucket, page by page.
pub struct Pages {
    waiting: VecDeque<(Found, Option<Timestamp>)>,
    /// The later versions by key, and when each was written: they are few, and stand apart from the first ones.
    later: BTreeMap<String, (Place, Timestamp)>,
    token: Option<String>,
    /// The folders that are still to come.
    folders: Vec<String>,
}

impl Shelf {
    /// Opens the destination of a source to read it; a tree is locked.
    pub async fn open(source: &Source, state_dir: &Path, process: &Process) -> Result<Self, Error> {
        Ok(match &source.destination {
            Storage::Tree(options) => Self::Tree {
                root: options.path.clone(),
                holds: holds_objects(&options.path),
                tree: Local::open(options)?,
            },
            Storage::Bucket(own) => {
                let keeper = bucket::keeper(source, own, process, 0)?;
                let spool = state_dir.join("spool").join(&source.name);
                Self::Bucket {
                    reading: Box::new(bucket::reading(source, own, process)?),
                    bucket: Box::new(Bucket::open(source, own, keeper, process, spool)?),
                    shown: format!("{}/{}", own.bucket, own.prefix),
                    holds: bucket::holds_objects(source, own, process).await?,
                    folder: Mutex::default(),
                }
            }
        })
    }

    /// Makes sure that this is where the copies of the source are, and remembers it.
    pub async fn check(&self, source: &str, ledger: &Ledger) -> Result<(), Error> {
        match self {
            Self::Tree { root, tree, holds } => {
                identity::check(source, &root.display().to_string(), tree, *holds, ledger).await
            }
            Self::Bucket { bucket, shown, holds, .. } => {
                identity::check(source, shown, bucket.as_ref(), *holds, ledger).await
            }
        }
    }

    /// Whether a copy is there.
    pub async fn holds(&self, place: &Place) -> Result<bool, Error> {
        let (reading, folder) = match self {
            Self::Tree { tree, .. } => return Ok(tree.read(place)?.is_some()),
            Self::Bucket { reading, folder, .. } => (reading, folder),
        };
        let Some(key) = name::of(&reading.prefix, place) else { return Ok(false) };
        // The lines of a manifest come in the order of their keys: one listing of a folder answers for all in it.
        let above = key[..key.rfind('/').map_or(0, |at| at + 1)].to_owned();
        let mut folder = folder.lock().await;
        if folder.0 != above || folder.1.is_empty() {
            let keys = all_under(reading, &above).await?.into_iter().map(|listed| listed.key).collect();
            *folder = (above, keys);
        }
        Ok(folder.1.contains(&key))
    }

    /// Takes the manifests of a source into the state directory; returns where they are now.
    pub async fn take_manifests(&self, source: &str, state_dir: &Path) -> Result<Vec<PathBuf>, Error> {
        match self {
            Self::Tree { root, .. } => {
                let kept = root.join(".trailsync/manifests");
                let mut copies = Vec::new();
                for path in files_under(&kept.join(source))? {
                    let copy = state_dir.join("manifests").join(path.strip_prefix(&kept).unwrap_or(&path));
                    copy_durably(&path, &copy).map_err(|e| broken("copy", &path, &e))?;
                    copies.push(copy);
                }
                Ok(copies)
            }
            Self::Bucket { reading, .. } => {
                let folder = format!("{}{}manifests/", reading.prefix, name::OWN);
                let mut copies = Vec::new();
                for listed in all_under(reading, &format!("{folder}{source}/")).await? {
                    let Some(below) = listed.key.strip_prefix(&folder).filter(|below| is_own_path(below)) else {
                        continue;
                    };
                    let copy = state_dir.join("manifests").join(below);
                    let (bytes, _) = fetch(reading, &listed.key, true).await?;
                    write_durably(&copy, &bytes).map_err(|e| broken("copy", Path::new(&listed.key), &e))?;
                    copies.push(copy);
                }
                Ok(copies)
            }
        }
    }

    /// A small file of our own that is kept beside the copies.
    pub async fn kept(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Tree { tree, .. } => tree.recall(name).await,
            Self::Bucket { bucket, .. } => bucket.recall(name).await,
        }
    }

    /// Goes through all copies.
    pub async fn walk(&self, source: &Source) -> Result<Books, Error> {
        let reading = match self {
            Self::Tree { tree, .. } => return Ok(Books::Tree(tree.walk())),
            Self::Bucket { reading, .. } => reading,
        };
        let own = format!("{}{}", reading.prefix, name::OWN);
        let mut later: BTreeMap<String, (Place, Timestamp)> = BTreeMap::new();
        for listed in all_under(reading, &format!("{own}versions/")).await? {
            if let name::Named::Copy(place) = name::identify(&reading.prefix, &listed.key) {
                let written = (place.clone(), listed.modified);
                match later.get(&place.key) {
                    Some((_, known)) if *known > listed.modified => {}
                    _ => _ = later.insert(place.key, written),
                }
            }
        }
        let folders =
            vec![format!("{own}objects/"), format!("{}{}", reading.prefix, crate::layout::root(&source.prefix))];
        Ok(Books::Bucket(Box::new(Pages { waiting: VecDeque::new(), later, token: None, folders })))
    }

    /// The next copy, and when it was written where the walk knows.
    pub async fn next(&self, books: &mut Books) -> Result<Option<(Found, Option<Timestamp>)>, Error> {
        match (self, books) {
            (Self::Bucket { reading, .. }, Books::Bucket(pages)) => pages.next(reading).await,
            (_, Books::Tree(walk)) => walk.next().transpose().map(|found| found.map(|found| (found, None))),
            (Self::Tree { .. }, Books::Bucket(_)) => Ok(None),
        }
    }

    /// What a copy is, and when it was written.
    pub async fn content(
        &self,
        place: &Place,
        written: Option<Timestamp>,
    ) -> Result<(Content, Option<Timestamp>), Error> {
        match self {
            Self::Tree { tree, .. } => hash_file(tree, place),
            Self::Bucket { reading, .. } => {
                let missing = || Error::of(Class::Fatal, Report::new("read", &place.key, "it is no copy of ours"));
                let key = name::of(&reading.prefix, place).ok_or_else(missing)?;
                Ok((fetch(reading, &key, false).await?.1, written))
            }
        }
    }
}

impl Pages {
    async fn next(&mut self, reading: &Reading) -> Result<Option<(Found, Option<Timestamp>)>, Error> {
        loop {
            if let Some(found) = self.waiting.pop_front() {
                return Ok(Some(found));
            }
            let Some(prefix) = self.folders.last().cloned() else {
                // Versions without a first one: what stood there was none of ours.
                return Ok(self.later.pop_first().map(|(_, (place, at))| (Found::Object(place), Some(at))));
            };
            let request = ListRequest { prefix, token: self.token.take(), ..ListRequest::default() };
            let page = reading.source.list(&request).await?;
            self.token = page.next;
            if self.token.is_none() {
                self.folders.pop();
            }
            for listed in page.objects {
                let found = self.found(reading, &listed);
                self.waiting.push_back(found);
            }
        }
    }

    /// Of several versions of a key the one that was written last is what the source has shown last.
    fn found(&mut self, reading: &Reading, listed: &Listed) -> (Found, Option<Timestamp>) {
        let name::Named::Copy(place) = name::identify(&reading.prefix, &listed.key) else {
            return (Found::Foreign(listed.key.clone()), None);
        };
        match self.later.remove(&place.key) {
            Some((later, at)) => (Found::Object(later), Some(at)),
            None => (Found::Object(place), Some(listed.modified)),
        }
    }
}

async fn all_under(reading: &Reading, prefix: &str) -> Result<Vec<Listed>, Error> {
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let request = ListRequest { prefix: prefix.to_owned(), token, ..ListRequest::default() };
        let page = reading.source.list(&request).await?;
        all.extend(page.objects);
        token = page.next;
        if token.is_none() {
            return Ok(all);
        }
    }
}

/// What stands under a key of the bucket; its bytes only where they are wanted.
async fn fetch(reading: &Reading, key: &str, whole: bool) -> Result<(Vec<u8>, Content), Error> {
    let fetched = reading.source.fetch(&FetchRequest { key: key.to_owned(), if_match: None }).await?;
    let (mut body, mut bytes, mut hashing) = (fetched.body, Vec::new(), Hashing::new(key.ends_with(".gz")));
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        hashing.update(&chunk);
        if whole {
            bytes.extend_from_slice(&chunk);
        }
    }
    Ok((bytes, hashing.finish()))
}

fn hash_file(tree: &Local, place: &Place) -> Result<(Content, Option<Timestamp>), Error> {
    let subject = Path::new(&place.key);
    let missing = || broken("read", subject, &std::io::ErrorKind::NotFound.into());
    let mut file = tree.read(place)?.ok_or_else(missing)?;
    let mut hashing = Hashing::new(place.key.ends_with(".gz"));
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer).map_err(|e| broken("read", subject, &e))? {
            0 => break,
            n => hashing.update(&buffer[..n]),
        }
    }
    let written = file.metadata().and_then(|m| m.modified()).map_err(|e| broken("read", subject, &e))?;
    Ok((hashing.finish(), Timestamp::try_from(written).ok()))
}

/// Whether a name from a listing stays below the directory that it is written to.
fn is_own_path(name: &str) -> bool {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+@%".contains(&byte);
    name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(safe))
}

fn write_durably(to: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let parent = to.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(parent)?;
    let mut file = File::create(to)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(parent)?.sync_all()
}
