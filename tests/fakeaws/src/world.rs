//! Everything that there is: accounts, buckets, objects, keys, and the faults upon them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::FakeClock;
use crate::counters::{Counters, Meter, RequestRecord};
use crate::delivery::Progress;
use crate::faults::Faults;
use crate::iam::Policy;
use crate::identity::{AccessKey, Directory, RoleSpec, account_of};
use crate::object::{Entry, ObjectSpec, StoredObject};
use crate::policies;
use crate::public_keys::{PublicKey, PublicKeys};
use crate::s3::Uploads;
use crate::store::Store;
use crate::sync::Shared;
use crate::trail::Trail;

/// No page of a listing has more keys, whatever is asked for.
const MOST_KEYS: usize = 1_000;

/// A bucket to create.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BucketSpec {
    pub name: String,
    /// Account id.
    pub owner: String,
    pub region: String,
    #[serde(default)]
    pub policy: Option<Value>,
    /// Whether objects may be locked.
    #[serde(default)]
    pub object_lock: bool,
}

impl BucketSpec {
    pub fn new(name: &str, owner: &str, region: &str) -> BucketSpec {
        BucketSpec {
            name: name.to_owned(),
            owner: owner.to_owned(),
            region: region.to_owned(),
            policy: None,
            object_lock: false,
        }
    }

    /// The same with Object Lock.
    #[must_use]
    pub fn locked(self) -> BucketSpec {
        BucketSpec { object_lock: true, ..self }
    }
}

#[derive(Debug)]
pub(crate) struct Bucket {
    pub name: String,
    pub owner: String,
    pub region: String,
    pub created: Timestamp,
    pub policy: Option<Arc<Policy>>,
    pub object_lock: bool,
    pub store: Store,
}

/// A small AWS. Clones share one state; every method takes effect with the next request.
#[derive(Clone)]
pub struct World(Arc<Inner>);

pub(crate) struct Inner {
    pub clock: FakeClock,
    pub directory: Shared<Directory>,
    pub buckets: Shared<BTreeMap<String, Bucket>>,
    pub kms_keys: Shared<BTreeMap<String, Arc<Policy>>>,
    pub public_keys: Shared<PublicKeys>,
    pub uploads: Uploads,
    pub faults: Faults,
    pub meter: Meter,
    pub endpoint_region: Shared<Option<String>>,
    /// Signatures are taken whatever their time.
    pub any_signing_time: Shared<bool>,
    /// No page of a listing is longer, whatever is asked for.
    pub page_size: Shared<usize>,
    /// What the control interface tells about this world.
    pub scenario: Shared<Value>,
    pub trails: Shared<Vec<Trail>>,
    pub progress: Shared<Progress>,
    /// Until when the server delivers by itself.
    pub live: Shared<Option<Timestamp>>,
    /// Seals continuation tokens, so that those of another world are refused.
    pub token_seal: u64,
}

impl World {
    pub fn new(clock: FakeClock) -> World {
        World(Arc::new(Inner {
            clock,
            directory: Shared::default(),
            buckets: Shared::default(),
            kms_keys: Shared::default(),
            public_keys: Shared::default(),
            uploads: Uploads::default(),
            faults: Faults::default(),
            meter: Meter::default(),
            endpoint_region: Shared::default(),
            any_signing_time: Shared::default(),
            page_size: Shared::new(MOST_KEYS),
            scenario: Shared::default(),
            trails: Shared::default(),
            progress: Shared::default(),
            live: Shared::default(),
            token_seal: fastrand::u64(..),
        }))
    }

    pub fn clock(&self) -> &FakeClock {
        &self.0.clock
    }

    /// Takes signatures of any time from now on: clients sign by the machine's clock, which a test that jumps ahead by
    /// months cannot move.
    pub fn take_any_signing_time(&self) {
        *self.0.any_signing_time.write() = true;
    }

    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.0.meter.snapshot()
    }

    pub fn reset_counters(&self) {
        self.0.meter.reset();
    }

    /// The latest requests, oldest first.
    pub fn recent(&self) -> Vec<RequestRecord> {
        self.0.meter.recent()
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }
}

/// Identities.
///
/// Methods that take a policy panic where it does not parse: a test that sets up nonsense should
/// fail where it does so.
impl World {
    /// An IAM user with one key pair; `name` may have a path.
    ///
    /// # Panics
    /// If the policy is malformed or uses what the evaluator does not model.
    pub fn add_user(&self, account: &str, name: &str, policy: Value) -> AccessKey {
        let policy = parsed(&policy, "the user's policy");
        self.0.directory.write().add_user(account, name, policy)
    }

    /// Replaces a user's policy; false if there is no such user.
    ///
    /// # Panics
    /// If the policy is malformed or uses what the evaluator does not model.
    pub fn set_user_policy(&self, arn: &str, policy: Value) -> bool {
        let policy = parsed(&policy, "the user's policy");
        self.0.directory.write().set_user_policy(arn, policy)
    }

    pub fn add_root_key(&self, account: &str) -> AccessKey {
        self.0.directory.write().add_root_key(account)
    }

    /// Secret key and token of every session that was issued, to look for where they must not be.
    pub fn issued_sessions(&self) -> Vec<(String, String)> {
        self.0.directory.read().sessions()
    }

    /// From now on the key is as unknown as one that never was.
    pub fn disable_key(&self, access_key_id: &str) {
        self.0.directory.write().disable_key(access_key_id);
    }

    /// Creates or replaces a role and returns its ARN; `name` may have a path.
    ///
    /// # Panics
    /// If a policy is malformed or uses what the evaluator does not model.
    pub fn add_role(&self, account: &str, name: &str, spec: RoleSpec) -> String {
        let added = self.0.directory.write().add_role(account, name, &spec);
        added.unwrap_or_else(|why| panic!("role {name}: {why}"))
    }

    /// How sharing is stopped: living sessions lose every permission at once.
    pub fn remove_role(&self, arn: &str) {
        self.0.directory.write().remove_role(arn);
    }

    /// Replaces what the role's sessions may do, the living ones included.
    ///
    /// # Panics
    /// If the policy is malformed or uses what the evaluator does not model.
    pub fn set_role_policy(&self, arn: &str, policy: Value) -> bool {
        let policy = Arc::new(parsed(&policy, "the role's policy"));
        let mut directory = self.0.directory.write();
        let role = directory.role_mut(arn);
        role.map(|role| role.policies = vec![policy]).is_some()
    }

    /// Replaces who may assume the role.
    ///
    /// # Panics
    /// If the policy is malformed or uses what the evaluator does not model.
    pub fn set_role_trust(&self, arn: &str, trust: Value) -> bool {
        let trust = Arc::new(parsed(&trust, "the trust policy"));
        let mut directory = self.0.directory.write();
        directory.role_mut(arn).map(|role| role.trust = trust).is_some()
    }

    /// "Revoke active sessions": denies everything to sessions issued before now; the next
    /// `AssumeRole` works.
    pub fn revoke_sessions(&self, arn: &str) {
        let deny = policies::revoke_older_sessions(self.0.clock.now());
        let deny = Arc::new(parsed(&deny, "the revocation"));
        if let Some(role) = self.0.directory.write().role_mut(arn) {
            role.policies.push(deny);
        }
    }

    /// Whom a KMS key serves; a key without a policy serves its own account's identities.
    ///
    /// # Panics
    /// If the policy is malformed or uses what the evaluator does not model.
    pub fn set_key_policy(&self, key_arn: &str, policy: Value) {
        let policy = Arc::new(parsed(&policy, "the key policy"));
        self.0.kms_keys.write().insert(key_arn.to_owned(), policy);
    }

    /// The key's own policy, or the default one, which leaves it to the account.
    pub(crate) fn key_policy(&self, key_arn: &str) -> Arc<Policy> {
        let known = self.0.kms_keys.read().get(key_arn).cloned();
        known.unwrap_or_else(|| {
            let root = format!("arn:aws:iam::{}:root", account_of(key_arn));
            let own = serde_json::json!({"Statement": {
                "Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*",
            }});
            Arc::new(parsed(&own, "the default key policy"))
        })
    }
}

/// Buckets and objects.
impl World {
    /// Creates a bucket; one of the same name is replaced, objects and all.
    ///
    /// # Panics
    /// If the policy is malformed or uses what the evaluator does not model.
    pub fn add_bucket(&self, spec: BucketSpec) {
        let policy = spec.policy.as_ref();
        let bucket = Bucket {
            owner: spec.owner,
            region: spec.region,
            created: self.0.clock.now(),
            policy: policy.map(|policy| Arc::new(parsed(policy, "the bucket policy"))),
            object_lock: spec.object_lock,
            store: Store::default(),
            name: spec.name.clone(),
        };
        self.0.buckets.write().insert(spec.name, bucket);
    }

    /// Replaces or removes a bucket policy.
    ///
    /// # Panics
    /// If the policy is malformed or uses what the evaluator does not model.
    pub fn set_bucket_policy(&self, bucket: &str, policy: Option<Value>) {
        let policy = policy.map(|policy| Arc::new(parsed(&policy, "the bucket policy")));
        if let Some(bucket) = self.0.buckets.write().get_mut(bucket) {
            bucket.policy = policy;
        }
    }

    /// Pins the region that the endpoint says it is in: a signature for another one is then
    /// `AuthorizationHeaderMalformed`. Unpinned, the endpoint is in whichever region was signed for.
    pub fn set_endpoint_region(&self, region: Option<&str>) {
        *self.0.endpoint_region.write() = region.map(str::to_owned);
    }

    /// How many keys a page of a listing has at most; S3 may give fewer than were asked for.
    pub fn set_page_size(&self, keys: usize) {
        *self.0.page_size.write() = keys.min(MOST_KEYS);
    }

    /// Creates or overwrites.
    ///
    /// # Panics
    /// If there is no such bucket.
    pub fn put_object(&self, bucket: &str, key: &str, object: ObjectSpec) {
        let entry = Entry::new(object, self.0.clock.now());
        self.with_store(bucket, |store| store.put(key, entry));
    }

    /// Creates or overwrites many under one lock.
    ///
    /// # Panics
    /// If there is no such bucket.
    pub fn put_objects(&self, bucket: &str, objects: impl IntoIterator<Item = (String, ObjectSpec)>) {
        let now = self.0.clock.now();
        self.with_store(bucket, |store| {
            for (key, object) in objects {
                store.put(&key, Entry::new(object, now));
            }
        });
    }

    /// Whether there was something to delete.
    ///
    /// # Panics
    /// If there is no such bucket.
    pub fn delete_object(&self, bucket: &str, key: &str) -> bool {
        self.with_store(bucket, |store| store.delete(key))
    }

    fn with_store<T>(&self, bucket: &str, act: impl FnOnce(&mut Store) -> T) -> T {
        let mut buckets = self.0.buckets.write();
        let found = buckets.get_mut(bucket);
        let found = found.unwrap_or_else(|| panic!("no bucket {bucket}"));
        act(&mut found.store)
    }

    pub fn object(&self, bucket: &str, key: &str) -> Option<Arc<StoredObject>> {
        let buckets = self.0.buckets.read();
        buckets.get(bucket)?.store.get(key).map(Entry::object)
    }

    pub fn body(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.object(bucket, key).map(|object| object.body.bytes())
    }

    /// Every key below the prefix, in listing order.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let buckets = self.0.buckets.read();
        let found = buckets.get(bucket);
        found.map_or_else(Vec::new, |bucket| bucket.store.below(prefix).map(|(key, _)| key).collect())
    }

    /// How many objects a bucket holds.
    pub fn object_count(&self, bucket: &str) -> usize {
        let buckets = self.0.buckets.read();
        buckets.get(bucket).map_or(0, |bucket| bucket.store.len())
    }

    /// Keys to which an upload in parts has begun and not ended.
    pub fn open_uploads(&self, bucket: &str) -> Vec<String> {
        self.0.uploads.keys(bucket)
    }

    pub fn bucket_names(&self) -> Vec<String> {
        self.0.buckets.read().keys().cloned().collect()
    }
}

/// The keys with which `CloudTrail` signs digests.
impl World {
    /// Publishes a key in one region, as `ListPublicKeys` of that region will show it.
    pub fn add_public_key(&self, region: &str, key: PublicKey) {
        self.0.public_keys.write().add(region, key);
    }

    /// The keys of one region that were valid at some time between the two.
    pub fn public_keys(&self, region: &str, from: Timestamp, to: Timestamp) -> Vec<PublicKey> {
        self.0.public_keys.read().valid_between(region, from, to)
    }

    /// Forgets a region's keys: digests signed with them can no longer be verified.
    pub fn remove_public_keys(&self, region: &str) {
        self.0.public_keys.write().remove(region);
    }
}

fn parsed(policy: &Value, what: &str) -> Policy {
    Policy::parse(policy).unwrap_or_else(|why| panic!("{what}: {why}"))
}
