//! Histories over real HTTP, SQLite and files: a server that a thread of histories has to itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use fakeaws::{BucketSpec, ChecksumKind, FakeClock, FaultId, ObjectSpec, Op, RoleSpec, policies};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use trailsync::clock::Timestamp;
use trailsync::config;
use trailsync::error::Class;
use trailsync::role::{Keeper, Process};
use trailsync::source::memory::{Fault, Object};
use trailsync::source::s3::S3Source;

use super::bucket::Bucket;
use super::disk::Disk;
use super::history::History;
use super::run::{Ground, play};
use super::tally::Tally;
use super::world::Checked;
use crate::account::{A, B, BUCKET, REGION, Shared};

const KEY: &str = "arn:aws:kms:eu-west-1:111111111111:key/trail";

/// One server and one runtime, for one history after the other.
///
/// B's user reads the bucket by the bucket's own policy: a session would end whenever a history lets hours pass, and
/// be renewed no sooner than a real minute later.
pub struct Loopback {
    runtime: Runtime,
    shared: Arc<Shared>,
    process: Process,
    source: config::Source,
}

impl Ground for Loopback {
    fn prepare() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let clock = FakeClock::fixed_at("2024-01-01T00:00:00Z".parse().expect("a time"));
        let spec = RoleSpec { trust: policies::trust_account_root(B), ..RoleSpec::default() };
        let shared = runtime.block_on(Shared::at(clock, spec));
        let shared = Arc::new(shared);
        let reader = format!("arn:aws:iam::{B}:user/mirror");
        let read = json!({"Effect": "Allow", "Action": ["s3:*", "kms:Decrypt"], "Resource": "*"});
        assert!(shared.world.set_user_policy(&reader, policies::with(&policies::nothing(), read)));
        let decrypt = json!({
            "Effect": "Allow", "Principal": {"AWS": reader}, "Action": "kms:Decrypt", "Resource": "*",
        });
        shared.world.set_key_policy(KEY, policies::with(&policies::nothing(), decrypt));
        let (process, source) = (shared.process(), shared.source_without_role());
        Self { runtime, shared, process, source }
    }

    fn play(&self, history: &History) -> Checked<Tally> {
        let dir = tempfile::tempdir_in(scratch()).map_err(|e| e.to_string())?;
        self.begin();
        let bucket = S3Bucket {
            shared: self.shared.clone(),
            process: self.process.clone(),
            source: self.source.clone(),
            refused: Arc::default(),
        };
        self.runtime.block_on(async {
            let (disk, ledger) = Disk::new(dir.path()).await?;
            let state = disk.state_dir();
            play(history, bucket, disk, ledger, &state).await
        })
    }
}

impl Loopback {
    /// An empty bucket, and nothing that goes wrong.
    fn begin(&self) {
        let world = &self.shared.world;
        world.faults().clear();
        world.add_bucket(BucketSpec::new(BUCKET, A, REGION));
        let reader = format!("arn:aws:iam::{B}:user/mirror");
        world.set_bucket_policy(BUCKET, Some(policies::bucket_read_for(BUCKET, &reader)));
    }
}

/// Where histories are played: on the disk that is named, else on the one of temporary files.
fn scratch() -> PathBuf {
    std::env::var_os("MODEL_REAL_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Account A's bucket; clones are the same.
#[derive(Clone)]
pub struct S3Bucket {
    shared: Arc<Shared>,
    process: Process,
    source: config::Source,
    /// Faults that stand for objects which cannot be read.
    refused: Arc<Mutex<BTreeMap<String, FaultId>>>,
}

impl S3Bucket {
    fn permit(&self, key: &str) {
        if let Some(fault) = self.refused.lock().expect("no panic holds it").remove(key) {
            self.shared.world.faults().remove(fault);
        }
    }

    fn fail(&self, op: Op, nth: u64, fault: fakeaws::Fault) {
        self.shared.world.faults().inject(fault).on(op).nth(nth);
    }
}

impl Bucket for S3Bucket {
    type Source = S3Source;

    /// Requests over HTTP take more polls.
    const POLLS: u32 = 10;

    /// What a new process connects with.
    fn source(&self) -> Arc<S3Source> {
        let keeper = Keeper::connect(&self.source, &self.process, 7).expect("a keeper");
        let http = self.process.http.get(&self.source.endpoints).expect("a client");
        Arc::new(S3Source::new(&self.source, keeper, http))
    }

    fn put(&self, key: &str, object: Object) {
        self.permit(key);
        if let Some((_, code)) = &object.error {
            let fault = self.shared.world.faults().inject(refusal(code)).on(Op::GetObject).key(key).always();
            self.refused.lock().expect("no panic holds it").insert(key.to_owned(), fault);
        }
        self.shared.world.put_object(BUCKET, key, spec(object));
    }

    fn remove(&self, key: &str) {
        self.permit(key);
        self.shared.world.delete_object(BUCKET, key);
    }

    fn set_time(&self, now: Timestamp) {
        self.shared.world.clock().set(now);
    }

    fn set_page_size(&self, entries: usize) {
        self.shared.world.set_page_size(entries);
    }

    fn fail_list(&self, nth: u64, fault: Fault) {
        self.fail(Op::ListObjectsV2, nth, list_fault(nth, &fault));
    }

    fn fail_fetch(&self, nth: u64, fault: Fault) {
        self.fail(Op::GetObject, nth, fetch_fault(nth, fault));
    }
}

fn spec(object: Object) -> ObjectSpec {
    let looks_like_md5 = object.etag.as_md5().is_some();
    let spec = ObjectSpec {
        metadata: object.metadata,
        etag: Some(object.etag.as_str().to_owned()),
        modified: Some(object.modified),
        checksum: object.checksummed.then_some(ChecksumKind::Crc64Nvme),
        ..ObjectSpec::log(object.bytes)
    };
    let spec = if looks_like_md5 && !object.etag_is_md5 { spec.kms(KEY) } else { spec };
    match &object.archived {
        Some(class) => spec.storage_class(class),
        None => spec,
    }
}

fn refusal(code: &str) -> fakeaws::Fault {
    match code {
        "AccessDenied" => fakeaws::Fault::AccessDenied,
        "KMS.DisabledException" => fakeaws::Fault::KmsDisabled,
        other => fakeaws::Fault::Refusal { status: 400, code: other.to_owned() },
    }
}

/// One of the faults of this class, by turns.
fn list_fault(nth: u64, fault: &Fault) -> fakeaws::Fault {
    use fakeaws::Fault::{
        AccessDenied, ExpiredToken, InternalError, InvalidToken, ListEmptyTruncated, ListMalformedXml, ListNoToken,
        ListTokenLoop, ServiceUnavailable, ShortBody, SlowDown,
    };
    let of = |faults: &[fakeaws::Fault]| faults[(nth as usize) % faults.len()].clone();
    match fault {
        Fault::Error(Class::Credentials, _) => of(&[ExpiredToken, InvalidToken]),
        Fault::Error(Class::Stream, _) => of(&[AccessDenied, ListNoToken, ListTokenLoop]),
        Fault::EmptyPage => ListEmptyTruncated,
        _ => of(&[InternalError, SlowDown, ServiceUnavailable, ListMalformedXml, ShortBody { by: 9 }]),
    }
}

fn fetch_fault(nth: u64, fault: Fault) -> fakeaws::Fault {
    use fakeaws::Fault::{
        CloseBeforeHeaders, ExpiredToken, InternalError, InvalidToken, Redirect307, Refusal, RequestTimeout,
        ServiceUnavailable, ShortBody, SlowDown, WrongLength,
    };
    let of = |faults: &[fakeaws::Fault]| faults[(nth as usize) % faults.len()].clone();
    let elsewhere = Redirect307 { to: "http://127.0.0.1:9".into() };
    match fault {
        Fault::Error(Class::Credentials, _) => of(&[ExpiredToken, InvalidToken]),
        Fault::Error(Class::Stream, _) => of(&[elsewhere, Refusal { status: 403, code: "AllAccessDisabled".into() }]),
        Fault::BrokenBody(after) => fakeaws::Fault::ResetMidBody { after },
        Fault::ShortBody(by) => of(&[ShortBody { by }, WrongLength { by }]),
        Fault::FlippedBit(at) => fakeaws::Fault::FlippedBit { at },
        _ => of(&[InternalError, SlowDown, ServiceUnavailable, RequestTimeout, CloseBeforeHeaders]),
    }
}
