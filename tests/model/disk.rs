//! Copies and state on a disk, opened anew at every restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use trailsync::config;
use trailsync::content::Asked;
use trailsync::destination::local::{Handle, Local};
use trailsync::destination::{Destination, Item, Place, Published, Reread, Staged, Sum};
use trailsync::error::{Class, Error, Report};
use trailsync::ledger::{DATABASE, Ledger, Lock};
use trailsync::object::Content;
use trailsync::path::{self, Part};
use trailsync::source::Body;

use super::bucket::Vault;
use super::world::Checked;

/// What a process that died had begun to write is written by then, on the slowest disk.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the state directory may hold.
const STATE: [&str; 6] = [DATABASE, "trailsync.db-wal", "trailsync.db-shm", "initialized", "lock", "manifests"];

/// A directory with a copy and a state in it; clones are the same.
#[derive(Clone)]
pub struct Disk(Arc<Inside>);

struct Inside {
    dir: PathBuf,
    state: Mutex<State>,
}

/// What is open, and what goes wrong next.
#[derive(Default)]
struct State {
    open: Option<(Arc<Local>, Lock)>,
    failing_stages: usize,
    publish_fails_after: Option<usize>,
    full: bool,
    /// Visible, though publishing them failed: a power cut may take them.
    doubtful: BTreeSet<String>,
}

impl Disk {
    /// An empty one below `dir`, and its ledger.
    pub async fn new(dir: &Path) -> Checked<(Self, Ledger)> {
        let disk = Self(Arc::new(Inside { dir: dir.to_owned(), state: Mutex::default() }));
        let ledger = disk.open().await?;
        Ok((disk, ledger))
    }

    /// Where the state is kept.
    pub fn state_dir(&self) -> PathBuf {
        self.0.dir.join("state")
    }

    fn copy_dir(&self) -> PathBuf {
        self.0.dir.join("copy")
    }

    /// A new process: it takes the locks and opens everything.
    async fn open(&self) -> Checked<Ledger> {
        let opened = Ledger::open(&self.state_dir(), false).await.map_err(|e| e.to_string())?;
        let local = self.open_copy().await?;
        self.state().open = Some((Arc::new(local), opened.lock));
        Ok(opened.ledger)
    }

    /// What the process before had begun to write goes on to its end, and holds the lock until then.
    async fn open_copy(&self) -> Checked<Local> {
        let options = config::Destination {
            path: self.copy_dir(),
            file_mode: 0o640,
            dir_mode: 0o750,
            group: None,
            // What the test says of a tree holds in memory, too.
            allow_volatile: true,
            reserve_mib: Some(0),
        };
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match Local::open(&options) {
                Err(error) if error.to_string().contains("uses it already") => tokio::task::yield_now().await,
                opened => return opened.map_err(|e| e.to_string()),
            }
        }
        Err("the copy is never let go".into())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic holds it")
    }

    fn local(&self) -> Arc<Local> {
        self.state().open.as_ref().expect("it is open").0.clone()
    }
}

impl Vault for Disk {
    type Destination = Disk;

    fn destination(&self) -> Arc<Disk> {
        Arc::new(self.clone())
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let paths = paths_below(&self.copy_dir());
        for path in paths.into_iter().filter(|path| !path.starts_with(".trailsync/")) {
            let bytes = fs::read(self.copy_dir().join(&path)).expect("a file");
            files.insert(path, bytes);
        }
        files
    }

    fn kept(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.copy_dir().join(".trailsync").join(name)).ok()
    }

    fn leftovers(&self) -> Vec<String> {
        let is_own = |path: &str| match path.split_once('/') {
            Some(("copy", path)) => match path.strip_prefix(".trailsync/") {
                Some(own) => own == "lock" || is_manifest(own),
                // Judged by its name and bytes elsewhere.
                None => true,
            },
            Some(("state", path)) => is_manifest(path) || STATE.contains(&path),
            _ => false,
        };
        paths_below(&self.0.dir).into_iter().filter(|path| !is_own(path)).collect()
    }

    async fn reopen(&self, ledger: Ledger) -> Checked<Ledger> {
        ledger.close().await;
        self.state().open = None;
        self.open().await
    }

    fn fail_next_stage(&self, count: usize) {
        self.state().failing_stages = count;
    }

    fn fail_publish_after(&self, visible: usize) {
        self.state().publish_fails_after = Some(visible);
    }

    fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    fn cut_power(&self) {
        for path in std::mem::take(&mut self.state().doubtful) {
            fs::remove_file(self.copy_dir().join(path)).expect("it was visible");
        }
    }
}

fn is_manifest(path: &str) -> bool {
    path.starts_with("manifests/prod/") && path.ends_with(".tsv.gz")
}

/// Every file below a directory, by its path there.
fn paths_below(dir: &Path) -> Vec<String> {
    let (mut paths, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(&at).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let below = path.strip_prefix(dir).expect("it is below");
                paths.push(below.to_str().expect("names are UTF-8").to_owned());
            }
        }
    }
    paths
}

impl Destination for Disk {
    type Handle = Handle;

    async fn stage(&self, body: Body, expected_size: u64, asked: Asked) -> Result<Staged<Handle>, Error> {
        self.state().begin_stage()?;
        self.local().stage(body, expected_size, asked).await
    }

    async fn publish(&self, mut batch: Vec<Item<Handle>>) -> Result<Vec<Published>, Error> {
        let fails_after = self.state().begin_publish()?;
        let local = self.local();
        let Some(visible) = fails_after else {
            let places: Vec<Place> = batch.iter().map(|item| item.place.clone()).collect();
            let published = local.publish(batch).await?;
            let durable = places.iter().flat_map(paths_of);
            let mut state = self.state();
            durable.for_each(|path| _ = state.doubtful.remove(&path));
            return Ok(published);
        };
        batch.truncate(visible);
        let places: Vec<Place> = batch.iter().map(|item| item.place.clone()).collect();
        let before: BTreeSet<String> = places.iter().flat_map(paths_of).filter(|path| self.is_there(path)).collect();
        local.publish(batch).await?;
        let new = places.iter().flat_map(paths_of).filter(|path| !before.contains(path) && self.is_there(path));
        let new: Vec<String> = new.collect();
        self.state().doubtful.extend(new);
        Err(failed("publish"))
    }

    async fn keep(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        self.state().refuse_when_full("keep")?;
        self.local().keep(name, bytes).await
    }

    async fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.local().recall(name).await
    }

    async fn reread(&self, place: &Place, most: u64) -> Result<Option<Reread>, Error> {
        self.local().reread(place, most).await
    }

    async fn rehash(&self, place: &Place) -> Result<Option<Content>, Error> {
        self.local().rehash(place).await
    }

    async fn sum(&self, place: &Place) -> Result<Option<Sum>, Error> {
        self.local().sum(place).await
    }

    async fn sidecar(&self, place: &Place) -> Result<Option<Vec<u8>>, Error> {
        self.local().sidecar(place).await
    }

    async fn set_aside(&self, place: &Place, part: Part) -> Result<Option<String>, Error> {
        self.local().set_aside(place, part).await
    }

    async fn set_aside_kept(&self, name: &str) -> Result<Option<String>, Error> {
        self.local().set_aside_kept(name).await
    }

    async fn present(&self) -> Result<(), Error> {
        self.local().present().await
    }
}

impl Disk {
    fn is_there(&self, path: &str) -> bool {
        self.copy_dir().join(path).exists()
    }
}

fn paths_of(place: &Place) -> impl Iterator<Item = String> {
    let of = |part| path::of(&place.key, place.version.as_deref(), part);
    [of(Part::Object), of(Part::Metadata)].into_iter().flatten()
}

impl State {
    fn refuse_when_full(&self, operation: &'static str) -> Result<(), Error> {
        let full = || Report::new(operation, "disk", "No space left on device").code("ENOSPC");
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

    fn begin_publish(&mut self) -> Result<Option<usize>, Error> {
        self.refuse_when_full("publish")?;
        Ok(self.publish_fails_after.take())
    }
}

fn failed(operation: &'static str) -> Error {
    Error::of(Class::Transient, Report::new(operation, "disk", "Input/output error").code("EIO"))
}
