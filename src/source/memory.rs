//! A bucket in memory, with S3's semantics and faults on demand: the twin of [`super::s3`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use md5::{Digest as _, Md5};

use super::{Body, FetchRequest, Fetched, ListPage, ListRequest, Removal, Remove, RemoveRequest, Removed, Source};
use crate::clock::Timestamp;
use crate::error::{Class, Error, Report};
use crate::object::{ETag, Listed, Metadata};

/// How many bytes one chunk of a body has at most.
const CHUNK: usize = 16 * 1024;

/// A bucket in memory. Clones are the same bucket.
#[derive(Clone)]
pub struct MemorySource(Arc<Mutex<Bucket>>);

/// An object in a [`MemorySource`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What a fetch sends.
    pub bytes: Bytes,
    /// Its tag.
    pub etag: ETag,
    /// Whether the tag is the MD5 of the bytes, as it is not under SSE-KMS or after a multipart upload.
    pub etag_is_md5: bool,
    /// When it was stored.
    pub modified: Timestamp,
    /// User metadata.
    pub metadata: Metadata,
    /// `Content-Type`
    pub content_type: Option<String>,
    /// `Content-Encoding`
    pub content_encoding: Option<String>,
    /// Its storage class, when it cannot be read at once: a fetch fails with `InvalidObjectState`.
    pub archived: Option<String>,
    /// Every fetch of it fails with this class and code.
    pub error: Option<(Class, String)>,
    /// The service keeps a checksum of it: a body that is not what was stored ends in an error.
    pub checksummed: bool,
}

impl Object {
    /// A single-part object of these bytes, stored at `modified`.
    pub fn new(bytes: impl Into<Bytes>, modified: Timestamp) -> Self {
        let bytes = bytes.into();
        let etag = ETag::new(&hex::encode(Md5::digest(&bytes)));
        Self {
            bytes,
            etag,
            etag_is_md5: true,
            modified,
            metadata: Metadata::new(),
            content_type: None,
            content_encoding: None,
            archived: None,
            error: None,
            checksummed: false,
        }
    }
}

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this class and code.
    Error(Class, String),
    /// A listing answers with no objects and a token that goes on where it began; a fetch is not concerned.
    EmptyPage,
    /// The body breaks off with a transient error after so many bytes; a listing is not concerned.
    BrokenBody(usize),
    /// The body ends cleanly after so many bytes although the headers promised more.
    ShortBody(usize),
    /// The body stalls for ever after so many bytes.
    StalledBody(usize),
    /// One bit of the byte at this offset is flipped; the length stays.
    FlippedBit(usize),
}

/// How many requests were made, failed ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// `ListObjectsV2`
    pub lists: u64,
    /// `GetObject`
    pub fetches: u64,
    /// `DeleteObject`
    pub removes: u64,
}

struct Bucket {
    objects: BTreeMap<String, Object>,
    now: Timestamp,
    page_size: usize,
    requests: Requests,
    list_log: Vec<ListRequest>,
    list_faults: BTreeMap<u64, Fault>,
    fetch_faults: BTreeMap<u64, Fault>,
    denied: BTreeSet<String>,
    listable: Option<Vec<String>>,
}

impl MemorySource {
    /// An empty bucket whose service's clock shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Bucket {
            objects: BTreeMap::new(),
            now,
            page_size: 1000,
            requests: Requests::default(),
            list_log: Vec::new(),
            list_faults: BTreeMap::new(),
            fetch_faults: BTreeMap::new(),
            denied: BTreeSet::new(),
            listable: None,
        })))
    }

    /// Stores bytes under a key at the service's present time, and gives their tag.
    pub fn put(&self, key: impl Into<String>, bytes: impl Into<Bytes>) -> ETag {
        let mut bucket = self.bucket();
        let object = Object::new(bytes, bucket.now);
        let etag = object.etag.clone();
        bucket.objects.insert(key.into(), object);
        etag
    }

    /// Stores a whole object under a key.
    pub fn put_object(&self, key: impl Into<String>, object: Object) {
        self.bucket().objects.insert(key.into(), object);
    }

    /// Changes an object that is there; says whether it was.
    pub fn change(&self, key: &str, change: impl FnOnce(&mut Object)) -> bool {
        self.bucket().objects.get_mut(key).map(change).is_some()
    }

    /// Removes an object, and gives it if it was there.
    pub fn remove(&self, key: &str) -> Option<Object> {
        self.bucket().objects.remove(key)
    }

    /// Everything that is there.
    pub fn objects(&self) -> BTreeMap<String, Object> {
        self.bucket().objects.clone()
    }

    /// Sets the service's clock.
    pub fn set_time(&self, now: Timestamp) {
        self.bucket().now = now;
    }

    /// Lists at most so many entries a page; 1,000 at first, as S3 does, and at least one.
    pub fn set_page_size(&self, entries: usize) {
        self.bucket().page_size = entries.max(1);
    }

    /// The `nth` listing from now on (1 is the next) goes wrong.
    pub fn fail_list(&self, nth: u64, fault: Fault) {
        let mut bucket = self.bucket();
        let at = bucket.requests.lists + nth;
        bucket.list_faults.insert(at, fault);
    }

    /// The `nth` fetch from now on (1 is the next) goes wrong.
    pub fn fail_fetch(&self, nth: u64, fault: Fault) {
        let mut bucket = self.bucket();
        let at = bucket.requests.fetches + nth;
        bucket.fetch_faults.insert(at, fault);
    }

    /// Denies listings and fetches under a prefix.
    pub fn deny(&self, prefix: impl Into<String>) {
        self.bucket().denied.insert(prefix.into());
    }

    /// Allows again what [`MemorySource::deny`] denied.
    pub fn allow(&self, prefix: &str) {
        self.bucket().denied.remove(prefix);
    }

    /// Only listings under one of these prefixes are allowed, as for a role under an `s3:prefix` condition.
    pub fn allow_listing_only(&self, prefixes: impl IntoIterator<Item = String>) {
        self.bucket().listable = Some(prefixes.into_iter().collect());
    }

    /// How many requests were made so far.
    pub fn requests(&self) -> Requests {
        self.bucket().requests
    }

    /// Every listing that was asked for, in order.
    pub fn list_log(&self) -> Vec<ListRequest> {
        self.bucket().list_log.clone()
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for MemorySource {
    async fn list(&self, request: &ListRequest) -> Result<ListPage, Error> {
        self.bucket().list(request)
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<Fetched, Error> {
        self.bucket().fetch(request)
    }
}

impl Remove for MemorySource {
    async fn remove(&self, request: &RemoveRequest) -> Result<Removal, Error> {
        self.bucket().remove(request)
    }
}

impl Bucket {
    fn list(&mut self, request: &ListRequest) -> Result<ListPage, Error> {
        self.requests.lists += 1;
        self.list_log.push(request.clone());
        let fault = self.list_faults.remove(&self.requests.lists);
        let error = |class, code: &str| Error::of(class, report("ListObjectsV2", &request.prefix, code));
        if let Some(Fault::Error(class, code)) = &fault {
            return Err(error(*class, code));
        }
        let listable = self.listable.as_ref().is_none_or(|all| all.iter().any(|p| request.prefix.starts_with(p)));
        if !listable || self.denies(&request.prefix) {
            return Err(error(Class::Stream, "AccessDenied"));
        }
        let after = After::of(request).ok_or_else(|| error(Class::Stream, "InvalidArgument"))?;
        let served_at = Some(self.now);
        if fault == Some(Fault::EmptyPage) {
            return Ok(ListPage { next: Some(self.token(&after)), served_at, ..ListPage::default() });
        }
        Ok(ListPage { served_at, ..self.page(request, after) })
    }

    fn page(&self, request: &ListRequest, after: After) -> ListPage {
        let mut page = ListPage::default();
        let mut last = after;
        loop {
            let next = self.objects.range::<str, _>((last.bound(), Bound::Unbounded)).find(|(key, _)| last.admits(key));
            let Some((key, object)) = next.filter(|(key, _)| key.starts_with(&request.prefix)) else { return page };
            if page.objects.len() + page.prefixes.len() == self.page_size {
                page.next = Some(self.token(&last));
                return page;
            }
            match folded(key, request) {
                None => {
                    page.objects.push(object.listed(key));
                    last = After::Key(key.clone());
                }
                Some(prefix) => {
                    if request.start_after.as_deref().is_none_or(|start| prefix > start) || request.token.is_some() {
                        page.prefixes.push(prefix.to_owned());
                    }
                    last = After::Prefix(prefix.to_owned());
                }
            }
        }
    }

    /// A token that goes on after `last`; no two are the same.
    fn token(&self, last: &After) -> String {
        let (kind, place) = match last {
            After::Key(key) => ('k', key),
            After::Prefix(prefix) => ('p', prefix),
            After::Nothing(prefix) => ('n', prefix),
        };
        format!("{}/{kind}/{place}", self.requests.lists)
    }

    fn fetch(&mut self, request: &FetchRequest) -> Result<Fetched, Error> {
        self.requests.fetches += 1;
        let fault = self.fetch_faults.remove(&self.requests.fetches);
        let error = |class, code: &str| Error::of(class, report("GetObject", &request.key, code));
        if let Some(Fault::Error(class, code)) = &fault {
            return Err(error(*class, code));
        }
        if self.denies(&request.key) {
            return Err(error(Class::Object, "AccessDenied"));
        }
        let object = self.objects.get(&request.key).ok_or_else(|| error(Class::Object, "NoSuchKey"))?;
        if let Some((class, code)) = &object.error {
            return Err(error(*class, code));
        }
        if request.if_match.as_ref().is_some_and(|wanted| *wanted != object.etag) {
            return Err(error(Class::Object, "PreconditionFailed"));
        }
        if object.archived.is_some() {
            return Err(error(Class::Object, "InvalidObjectState"));
        }
        Ok(object.fetched(body(&request.key, object, fault)))
    }

    fn remove(&mut self, request: &RemoveRequest) -> Result<Removal, Error> {
        self.requests.removes += 1;
        if self.denies(&request.key) {
            return Err(Error::of(Class::Stream, report("DeleteObject", &request.key, "AccessDenied")));
        }
        let removed = match self.objects.get(&request.key) {
            None => Removed::Absent,
            Some(object) if object.etag != request.if_match => Removed::Changed,
            Some(_) => {
                self.objects.remove(&request.key);
                Removed::Deleted(None)
            }
        };
        Ok(Removal { removed, served_at: Some(self.now) })
    }

    fn denies(&self, key_or_prefix: &str) -> bool {
        self.denied.iter().any(|denied| key_or_prefix.starts_with(denied))
    }
}

impl Object {
    fn listed(&self, key: &str) -> Listed {
        Listed {
            key: key.to_owned(),
            size: self.bytes.len().try_into().unwrap_or(u64::MAX),
            etag: self.etag.clone(),
            modified: self.modified,
            archived: self.archived.clone(),
        }
    }

    fn fetched(&self, body: Body) -> Fetched {
        Fetched {
            size: self.bytes.len().try_into().unwrap_or(u64::MAX),
            etag: self.etag.clone(),
            modified: self.modified,
            metadata: self.metadata.clone(),
            content_type: self.content_type.clone(),
            content_encoding: self.content_encoding.clone(),
            checksummed: self.checksummed,
            etag_is_md5: self.etag_is_md5,
            body,
        }
    }
}

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum After {
    /// At the first key that sorts after this one.
    Key(String),
    /// At the first key after all that are folded under this prefix.
    Prefix(String),
    /// At the first key of the prefix that is listed.
    Nothing(String),
}

impl After {
    /// Reads the token, else the start of a request; `None` for a token that was never given.
    fn of(request: &ListRequest) -> Option<Self> {
        let begin = || Self::Nothing(request.prefix.clone());
        match (&request.token, &request.start_after) {
            (Some(token), _) => match token.split_once('/')?.1.split_at_checked(2)? {
                ("k/", key) => Some(Self::Key(key.to_owned())),
                ("p/", prefix) => Some(Self::Prefix(prefix.to_owned())),
                ("n/", _) => Some(begin()),
                _ => None,
            },
            (None, Some(start)) if *start >= request.prefix => Some(Self::Key(start.clone())),
            (None, _) => Some(begin()),
        }
    }

    fn bound(&self) -> Bound<&str> {
        match self {
            Self::Key(key) => Bound::Excluded(key),
            Self::Prefix(prefix) | Self::Nothing(prefix) => Bound::Included(prefix),
        }
    }

    fn admits(&self, key: &str) -> bool {
        !matches!(self, Self::Prefix(prefix) if key.starts_with(prefix.as_str()))
    }
}

/// The prefix that a key is folded into: up to the first `/` after the prefix that is listed.
fn folded<'a>(key: &'a str, request: &ListRequest) -> Option<&'a str> {
    let rest = request.delimiter.then(|| key.get(request.prefix.len()..)).flatten()?;
    let slash = rest.find('/')?;
    key.get(..=request.prefix.len() + slash)
}

fn body(key: &str, object: &Object, fault: Option<Fault>) -> Body {
    let mut bytes = object.bytes.clone();
    if let Some(Fault::FlippedBit(at)) = fault {
        let mut flipped = bytes.to_vec();
        flipped.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
        bytes = flipped.into();
    }
    let end = match fault {
        Some(Fault::BrokenBody(at) | Fault::ShortBody(at) | Fault::StalledBody(at)) => at.min(bytes.len()),
        _ => bytes.len(),
    };
    let chunks: Vec<_> = (0..end).step_by(CHUNK).map(|at| Ok(bytes.slice(at..end.min(at + CHUNK)))).collect();
    let sent = stream::iter(chunks);
    let broken = |code| {
        let error = Error::of(Class::Transient, report("GetObject", key, code));
        stream::once(async { Err(error) })
    };
    match fault {
        Some(Fault::BrokenBody(_)) => sent.chain(broken("ConnectionReset")).boxed(),
        Some(Fault::StalledBody(_)) => sent.chain(stream::pending()).boxed(),
        _ if object.checksummed && bytes[..end] != object.bytes => sent.chain(broken("ChecksumMismatch")).boxed(),
        _ => sent.boxed(),
    }
}

fn report(operation: &'static str, subject: &str, code: &str) -> Report {
    Report::new(operation, subject, "the bucket in memory was told to fail").code(code)
}
