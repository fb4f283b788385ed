//! A bucket of one's own as the place for copies, behind a server on loopback; opened anew at every restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use fakeaws::{BucketSpec, FakeAws, Fault, FaultId, Op, World, policies};
use trailsync::clock::SystemClock;
use trailsync::config::{Credentials, Endpoints, OwnBucket, Source};
use trailsync::content::Asked;
use trailsync::destination::bucket::{self, Bucket, Handle, name};
use trailsync::destination::{Destination, Item, Place, Published, Reread, Staged, Sum, sidecar};
use trailsync::error::{Class, Error, Report};
use trailsync::ledger::Ledger;
use trailsync::object::Content;
use trailsync::path::{self, Part};
use trailsync::role::Process;
use trailsync::source::Body;

use super::bucket::Vault;
use super::world::Checked;

const OURS: &str = "our-archive";
const ACCOUNT: &str = "222222222222";

/// A server with an empty bucket of ours; clones are the same.
#[derive(Clone)]
pub struct Archived(Arc<Inside>);

struct Inside {
    aws: FakeAws,
    source: Source,
    own: OwnBucket,
    process: Process,
    spool: PathBuf,
    state: Mutex<State>,
}

/// What goes wrong next.
#[derive(Default)]
struct State {
    failing_stages: usize,
    publish_fails_after: Option<usize>,
    full: Option<FaultId>,
}

/// The destination, with what was ordered to go wrong on our side of it.
pub struct Faulty {
    bucket: Bucket,
    vault: Archived,
}

impl Archived {
    /// An empty one, whose bytes wait below `dir`. `source` is any; its copies go here.
    pub async fn new(dir: &Path, source: Source) -> Self {
        let world = World::new(fakeaws::FakeClock::system());
        world.add_bucket(BucketSpec::new(OURS, ACCOUNT, "eu-west-1"));
        let key = world.add_user(ACCOUNT, "archivist", policies::write_copies(OURS, "p"));
        let aws = FakeAws::start(world).await.expect("a server");
        let variables = [("ID", key.id), ("SECRET", key.secret)].map(|(name, value)| (name.to_owned(), value));
        let own = OwnBucket {
            bucket: OURS.into(),
            prefix: "p".into(),
            region: "eu-west-1".into(),
            bucket_owner: Some(ACCOUNT.into()),
            role: None,
            credentials: Credentials::Environment {
                access_key_id: "ID".into(),
                secret_access_key: "SECRET".into(),
                session_token: None,
            },
            endpoints: Endpoints { s3: Some(aws.endpoint()), path_style: true, ..Endpoints::default() },
            storage_class: None,
            sse: None,
            kms_key_id: None,
            object_lock: None,
            multipart_mib: 5,
            server_side_copy: false,
        };
        let process = Process::new(Arc::new(SystemClock), BTreeMap::from(variables));
        let inside = Inside { aws, source, own, process, spool: dir.join("spool"), state: Mutex::default() };
        Self(Arc::new(inside))
    }

    fn world(&self) -> &World {
        self.0.aws.world()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic holds it")
    }
}

impl Vault for Archived {
    type Destination = Faulty;

    fn destination(&self) -> Arc<Faulty> {
        let Inside { source, own, process, spool, .. } = &*self.0;
        let keeper = bucket::keeper(source, own, process, 3).expect("a keeper");
        let bucket =
            Bucket::open(source, own, keeper, process, spool.clone()).unwrap_or_else(|error| panic!("{error}"));
        Arc::new(Faulty { bucket: bucket.paced(0.0), vault: self.clone() })
    }

    /// As a tree would hold them, which is what the reference knows.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for key in self.world().keys(OURS, "") {
            let place = match name::identify("p/", &key) {
                name::Named::Copy(place) => place,
                name::Named::Own(_) => continue,
                name::Named::Foreign => panic!("{key} is nobody's"),
            };
            let object = self.world().object(OURS, &key).expect("it was listed");
            let path = |part| path::of(&place.key, place.version.as_deref(), part).expect("a path");
            files.insert(path(Part::Object), object.body.bytes().to_vec());
            if !object.metadata.is_empty() {
                files.insert(path(Part::Metadata), sidecar::render(&place.key, &object.metadata));
            }
        }
        files
    }

    fn kept(&self, name: &str) -> Option<Vec<u8>> {
        self.world().body(OURS, &name::of_own("p/", name)?).map(|body| body.to_vec())
    }

    /// No history has an object that goes up in parts.
    fn leftovers(&self) -> Vec<String> {
        self.world().open_uploads(OURS)
    }

    /// What S3 holds stays, and so does a ledger in memory.
    async fn reopen(&self, ledger: Ledger) -> Checked<Ledger> {
        Ok(ledger)
    }

    fn fail_next_stage(&self, count: usize) {
        self.state().failing_stages = count;
    }

    fn fail_publish_after(&self, visible: usize) {
        self.state().publish_fails_after = Some(visible);
    }

    /// A bucket is never full; what pauses it is a permission that goes missing.
    fn set_full(&self, full: bool) {
        let mut state = self.state();
        match (full, state.full) {
            (true, None) => {
                state.full = Some(self.world().faults().inject(Fault::AccessDenied).on(Op::PutObject).always())
            }
            (false, Some(id)) => {
                self.world().faults().remove(id);
                state.full = None;
            }
            _ => {}
        }
    }

    /// What S3 has confirmed it keeps.
    fn cut_power(&self) {}
}

impl Destination for Faulty {
    type Handle = Handle;

    async fn stage(&self, body: Body, expected_size: u64, asked: Asked) -> Result<Staged<Handle>, Error> {
        let failing = {
            let mut state = self.vault.state();
            let failing = state.failing_stages > 0;
            state.failing_stages = state.failing_stages.saturating_sub(1);
            failing
        };
        if failing { Err(failed("stage")) } else { self.bucket.stage(body, expected_size, asked).await }
    }

    async fn publish(&self, mut batch: Vec<Item<Handle>>) -> Result<Vec<Published>, Error> {
        let fails_after = self.vault.state().publish_fails_after.take();
        batch.truncate(fails_after.unwrap_or(batch.len()));
        let published = self.bucket.publish(batch).await?;
        if fails_after.is_some() { Err(failed("publish")) } else { Ok(published) }
    }

    async fn keep(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        self.bucket.keep(name, bytes).await
    }

    async fn present(&self) -> Result<(), Error> {
        self.bucket.present().await
    }

    async fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.bucket.recall(name).await
    }

    async fn reread(&self, place: &Place, most: u64) -> Result<Option<Reread>, Error> {
        self.bucket.reread(place, most).await
    }

    async fn sum(&self, place: &Place) -> Result<Option<Sum>, Error> {
        self.bucket.sum(place).await
    }

    async fn sidecar(&self, place: &Place) -> Result<Option<Vec<u8>>, Error> {
        self.bucket.sidecar(place).await
    }

    async fn set_aside(&self, place: &Place, part: Part) -> Result<Option<String>, Error> {
        self.bucket.set_aside(place, part).await
    }

    async fn set_aside_kept(&self, name: &str) -> Result<Option<String>, Error> {
        self.bucket.set_aside_kept(name).await
    }

    async fn rehash(&self, place: &Place) -> Result<Option<Content>, Error> {
        self.bucket.rehash(place).await
    }
}

fn failed(operation: &'static str) -> Error {
    Error::of(Class::Transient, Report::new(operation, "bucket", "Input/output error").code("EIO"))
}
