//! A bucket of B's own beside account A's, and the role that writes to it.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fakeaws::{BucketSpec, RoleSpec, policies};
use trailsync::config::{Credentials, Endpoints, OwnBucket, Role};
use trailsync::destination::Place;
use trailsync::destination::bucket::{self, Bucket, name};
use trailsync::role::Keeper;

use crate::account::{B, REGION, Shared};

pub const ARCHIVE: &str = "our-archive";
pub const PREFIX: &str = "trails/acme";

/// A bucket of B, a role that may write below [`PREFIX`] in it, and what an operator writes about both.
pub struct Archive {
    pub role: String,
    pub own: OwnBucket,
}

impl Archive {
    pub fn new(shared: &Shared) -> Self {
        Self::with(shared, BucketSpec::new(ARCHIVE, B, REGION), |_| {})
    }

    pub fn with(shared: &Shared, spec: BucketSpec, change: impl FnOnce(&mut OwnBucket)) -> Self {
        let world = &shared.world;
        world.add_bucket(spec);
        let trust = policies::trust_account_root(B);
        let policy = policies::write_copies(ARCHIVE, PREFIX);
        let role = world.add_role(B, "Archive", RoleSpec { trust, policy, ..RoleSpec::default() });
        let user = format!("arn:aws:iam::{B}:user/mirror");
        assert!(world.set_user_policy(&user, policies::assume_roles(&[&shared.role, &role])));
        let endpoint = Some(shared.aws.endpoint());
        let mut own = OwnBucket {
            bucket: ARCHIVE.into(),
            prefix: PREFIX.into(),
            region: REGION.into(),
            bucket_owner: Some(B.into()),
            role: Some(Role {
                arn: role.clone(),
                session_name: "archive".into(),
                external_id: None,
                duration: std::time::Duration::from_secs(3600),
                source_identity: None,
                tags: BTreeMap::new(),
                session_policy: true,
                sts_region: REGION.into(),
            }),
            credentials: Credentials::Environment {
                access_key_id: "B_KEY".into(),
                secret_access_key: "B_SECRET".into(),
                session_token: None,
            },
            endpoints: Endpoints { s3: endpoint.clone(), sts: endpoint, path_style: true, ..Endpoints::default() },
            storage_class: None,
            sse: None,
            kms_key_id: None,
            object_lock: None,
            multipart_mib: 5,
            server_side_copy: false,
        };
        change(&mut own);
        Self { role, own }
    }

    pub fn open(&self, shared: &Shared, spool: &Path) -> Bucket {
        self.open_kept(shared, spool).1
    }

    pub fn open_kept(&self, shared: &Shared, spool: &Path) -> (Arc<Keeper>, Bucket) {
        let (source, process) = (shared.source("", ""), shared.process());
        let keeper = bucket::keeper(&source, &self.own, &process, 9).expect("a keeper");
        let opened = Bucket::open(&source, &self.own, keeper.clone(), &process, spool.to_owned());
        (keeper, opened.unwrap_or_else(|error| panic!("{error}")).paced(0.001))
    }
}

/// Every copy in the bucket; anything else that is not our own is a mistake.
pub fn copies(shared: &Shared) -> BTreeMap<(String, Option<String>), Vec<u8>> {
    let prefix = format!("{PREFIX}/");
    let mut copies = BTreeMap::new();
    for key in shared.world.keys(ARCHIVE, "") {
        match name::identify(&prefix, &key) {
            name::Named::Copy(Place { key: of, version }) => {
                let body = shared.world.body(ARCHIVE, &key).expect("a body").to_vec();
                copies.insert((of, version), body);
            }
            name::Named::Own(_) => {}
            name::Named::Foreign => panic!("{key} is nobody's"),
        }
    }
    copies
}
