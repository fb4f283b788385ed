//! The twins, and what a check needs to arrange in them.

use std::cell::Cell;

use fakeaws::{ObjectSpec, policies};
use serde_json::json;
use trailsync::clock::{Timestamp, shift};
use trailsync::object::ETag;
use trailsync::source::Source;
use trailsync::source::memory::{MemorySource, Object, Requests};
use trailsync::source::s3::S3Source;

use crate::account::{BUCKET, Shared};

/// An object to put.
#[derive(Debug, Clone, Default)]
pub struct Thing {
    pub bytes: Vec<u8>,
    pub metadata: Vec<(&'static str, &'static str)>,
    pub content_type: Option<&'static str>,
    pub content_encoding: Option<&'static str>,
    pub archived: Option<&'static str>,
    /// A tag that is not the MD5 of the bytes.
    pub tag: Option<&'static str>,
    pub modified: Option<Timestamp>,
}

/// A bucket that checks can arrange.
pub trait Twin {
    type S: Source;

    fn source(&self) -> &Self::S;
    fn put(&self, key: &str, thing: Thing);
    /// Denies listings and fetches under a prefix.
    fn deny(&self, prefix: &str);
    fn requests(&self) -> Requests;
    /// The service's time.
    fn now(&self) -> Timestamp;
}

pub struct Memory {
    source: MemorySource,
    now: Timestamp,
}

impl Memory {
    pub async fn new() -> Self {
        let now = "2026-03-04T05:06:07Z".parse().expect("a time");
        Self { source: MemorySource::new(now), now }
    }
}

impl Twin for Memory {
    type S = MemorySource;

    fn source(&self) -> &MemorySource {
        &self.source
    }

    fn put(&self, key: &str, thing: Thing) {
        let mut object = Object::new(thing.bytes, thing.modified.unwrap_or(self.now));
        object.metadata = thing.metadata.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        object.content_type = thing.content_type.map(str::to_owned);
        object.content_encoding = thing.content_encoding.map(str::to_owned);
        object.archived = thing.archived.map(str::to_owned);
        if let Some(tag) = thing.tag {
            object.etag = ETag::new(tag);
            object.etag_is_md5 = false;
        }
        self.source.put_object(key, object);
    }

    fn deny(&self, prefix: &str) {
        self.source.deny(prefix);
    }

    fn requests(&self) -> Requests {
        self.source.requests()
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

thread_local! {
    /// The tests of this thread make every request by the SDK alone.
    pub static BY_THE_SDK_ALONE: Cell<bool> = const { Cell::new(false) };
}

/// The bucket as it is to be asked in this test.
pub fn road(bucket: S3Source) -> S3Source {
    if BY_THE_SDK_ALONE.get() { bucket.by_the_sdk_alone() } else { bucket }
}

pub struct S3 {
    shared: Shared,
    source: S3Source,
}

impl S3 {
    pub async fn new() -> Self {
        let shared = Shared::all_logs().await;
        let source = shared.bucket(&shared.source("session_policy = false\n", ""));
        Self { shared, source }
    }

    pub async fn by_the_sdk_alone() -> Self {
        let S3 { shared, source } = Self::new().await;
        Self { shared, source: source.by_the_sdk_alone() }
    }
}

impl Twin for S3 {
    type S = S3Source;

    fn source(&self) -> &S3Source {
        &self.source
    }

    fn put(&self, key: &str, thing: Thing) {
        let spec = ObjectSpec {
            content_type: thing.content_type.map(str::to_owned),
            content_encoding: thing.content_encoding.map(str::to_owned),
            metadata: thing.metadata.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            storage_class: thing.archived.unwrap_or("STANDARD").to_owned(),
            modified: thing.modified,
            etag: thing.tag.map(str::to_owned),
            ..ObjectSpec::bytes(thing.bytes)
        };
        self.shared.world.put_object(BUCKET, key, spec);
    }

    fn deny(&self, prefix: &str) {
        let all = policies::read_all(BUCKET);
        let list = json!({
            "Effect": "Deny", "Action": "s3:ListBucket", "Resource": "*",
            "Condition": { "StringLike": { "s3:prefix": format!("{prefix}*") } },
        });
        let get = json!({ "Effect": "Deny", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{BUCKET}/{prefix}*") });
        self.shared.allow(policies::with(&policies::with(&all, list), get));
    }

    fn requests(&self) -> Requests {
        self.source.requests()
    }

    fn now(&self) -> Timestamp {
        shift(self.shared.world.clock().now(), 0)
    }
}
