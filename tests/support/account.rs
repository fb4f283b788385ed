//! Account A on a loopback port, account B's daemon in front of it.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use fakeaws::{AccessKey, BucketSpec, FakeAws, FakeClock, RoleSpec, World, policies};
use serde_json::Value;
use trailsync::clock::SystemClock;
use trailsync::config::{Input, Source, load};
use trailsync::role::{Keeper, Process};
use trailsync::source::s3::S3Source;

pub const A: &str = "111111111111";
pub const B: &str = "222222222222";
pub const BUCKET: &str = "trail-logs";
pub const REGION: &str = "eu-west-1";

/// A world with a bucket of A, a role for B that reads B's own logs, and a user of B that may assume it.
pub struct Shared {
    pub aws: FakeAws,
    pub world: World,
    pub role: String,
    pub user: AccessKey,
}

impl Shared {
    /// Scenario 1 of the guide, in its tight form.
    pub async fn own_logs() -> Self {
        let policy = policies::read_own_logs(BUCKET, "", B);
        Self::with(RoleSpec { trust: policies::trust_account_root(B), policy, ..RoleSpec::default() }).await
    }

    /// A role that reads the whole bucket.
    pub async fn all_logs() -> Self {
        let trust = policies::trust_account_root(B);
        Self::with(RoleSpec { trust, policy: policies::read_all(BUCKET), ..RoleSpec::default() }).await
    }

    /// Any role.
    pub async fn with(spec: RoleSpec) -> Self {
        Self::at(FakeClock::system(), spec).await
    }

    /// Any role, by any clock.
    pub async fn at(clock: FakeClock, spec: RoleSpec) -> Self {
        let world = World::new(clock);
        world.add_bucket(BucketSpec::new(BUCKET, A, REGION));
        let role = world.add_role(A, "logs/ReadB", spec);
        let user = world.add_user(B, "mirror", policies::assume_role(&role));
        let aws = FakeAws::start(world.clone()).await.expect("a server");
        Self { aws, world, role, user }
    }

    /// What the operator of B wrote, with `role` and `more` of the source's own options.
    pub fn source(&self, role: &str, more: &str) -> Source {
        let endpoint = self.aws.endpoint();
        let arn = &self.role;
        self.written(&format!(
            "{more}\n[source.acme.endpoints]\ns3 = \"{endpoint}\"\nsts = \"{endpoint}\"\ncloudtrail = \"{endpoint}\"\n\
             path_style = true\n[source.acme.role]\narn = \"{arn}\"\nsession_name = \"trailsync\"\n{role}"
        ))
    }

    /// The same without a role: the bucket's policy grants B's user directly.
    pub fn source_without_role(&self) -> Source {
        let endpoint = self.aws.endpoint();
        self.written(&format!("[source.acme.endpoints]\ns3 = \"{endpoint}\"\npath_style = true\n"))
    }

    fn written(&self, more: &str) -> Source {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("trailsync.toml");
        let text = format!(
            "[source.acme]\nbucket = \"{BUCKET}\"\nregion = \"{REGION}\"\nbucket_owner = \"{A}\"\n\
             destination = {{ path = \"/srv/trails\" }}\n\
             credentials = {{ access_key_id_env = \"B_KEY\", secret_access_key_env = \"B_SECRET\" }}\n{more}"
        );
        std::fs::write(&path, text).expect("written");
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let input = Input { file: Some(path), environment: self.environment(), overrides: Vec::new(), now };
        let loaded = load(&input).unwrap_or_else(|refused| panic!("{refused}"));
        loaded.config.sources.into_values().next().expect("a source")
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let pairs = [("B_KEY", &self.user.id), ("B_SECRET", &self.user.secret)];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }

    /// What the daemon's process shares.
    pub fn process(&self) -> Process {
        Process::new(Arc::new(SystemClock), self.environment())
    }

    /// A keeper of the source, which does nothing by itself.
    pub fn keeper(&self, source: &Source) -> Arc<Keeper> {
        Keeper::connect(source, &self.process(), 7).expect("a keeper")
    }

    /// The bucket, read through a keeper that does nothing by itself.
    pub fn bucket(&self, source: &Source) -> S3Source {
        self.kept_bucket(source).1
    }

    /// The bucket and its keeper.
    pub fn kept_bucket(&self, source: &Source) -> (Arc<Keeper>, S3Source) {
        let process = self.process();
        let keeper = Keeper::connect(source, &process, 7).expect("a keeper");
        let http = process.http.get(&source.endpoints).expect("a client");
        (keeper.clone(), S3Source::new(source, keeper, http))
    }

    /// Replaces what the role's sessions may do.
    pub fn allow(&self, policy: Value) {
        assert!(self.world.set_role_policy(&self.role, policy));
    }
}
