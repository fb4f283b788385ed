//! A bucket of our own: each copy is written on the condition that nothing is there yet, and counts once S3 said so.
//!
//! Bytes that are fetched wait in memory or in a file beside the state (`bucket/spool.rs`); publishing uploads them, a
//! bounded number at once, with the SHA-256 that was made when they arrived, so that what S3 stores is what was checked. S3
//! answers when a copy is durable, so nothing is recorded before. A copy that is there already is compared: by the
//! checksum that S3 keeps of it, or by reading it.
//!
//! There is no lock as for a tree. Two writers do no harm: of two that write one key, the condition lets one win, and
//! the other finds the same bytes. User metadata is kept with the copy where it belongs to the object (digests), and
//! not at all elsewhere, as beside a tree.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use aws_sdk_s3::primitives::DateTime;
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::clock::Clock;
use crate::config::{self, OwnBucket};
use crate::content::{self, Asked, Hashing};
use crate::error::{Class, Error, Report};
use crate::failpoint::reached;
use crate::object::{Content, Metadata};
use crate::path::Part;
use crate::role::{Keeper, Process};
use crate::source::s3::S3Source;
use crate::source::{Body, Fetched, ListRequest, Source as _};

use super::{
    Destination, Item, Place, Published, Reread, Staged, Sum, check_own_name, reread, sidecar, wrong_length,
    wrong_version,
};

mod body;
mod copy;
mod explain;
pub mod name;
mod prepare;
mod read;
mod requests;
mod spool;
mod upload;

use copy::Copying;
pub use read::fetch;
use requests::Requests;
use spool::{Spool, Spooled, Waiting};
use upload::{Manner, Upload, is_condition};

/// Bytes that are collected before they are hashed, off the async threads; more are written to a file.
const STEP_BYTES: usize = 256 * 1024;
/// What is written, twice, to see whether conditions hold; it stays.
const PROBE: &str = "conditional-writes";
/// Uploads of one destination at once.
const AT_ONCE: usize = 16;
/// What S3 takes of user metadata, names and values together.
const METADATA_BYTES: usize = 2048;

/// A bucket of our own, and the folder in it that is this source's.
pub struct Bucket {
    requests: Requests,
    /// Reads what stands there.
    reader: S3Source,
    manner: Manner,
    /// With its slash, or empty.
    prefix: String,
    /// Where copies of logs go, under which nobody else uploads.
    logs: String,
    spool: Arc<Spool>,
    uploads: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    /// Objects are copied by the service where they can be.
    copying: Option<Copying>,
    prepared: OnceCell<()>,
}

/// Staged bytes; discarded when this is dropped.
pub struct Handle(Waiting);

impl Bucket {
    /// The bucket that a source's copies go to; nothing is asked of it yet. Blocks.
    ///
    /// `source` is the source as its own options say, `keeper` holds what signs, `spool` is a directory for bytes that
    /// wait to be uploaded, of this process alone.
    ///
    /// # Errors
    /// `Stream` when endpoints cannot be used, or the spool's disk is full; `Fatal` when the spool cannot be made.
    pub fn open(
        source: &config::Source,
        own: &OwnBucket,
        keeper: Arc<Keeper>,
        process: &Process,
        spool: PathBuf,
    ) -> Result<Self, Error> {
        let client = process.http.get(&own.endpoints)?;
        let subject = spool.display().to_string();
        let spool = Spool::open(spool).map_err(|error| match broken("open", &subject, &error) {
            error if error.class() == Class::Stream => error,
            error => error.into_class(Class::Fatal),
        })?;
        let prefix = folder(own);
        Ok(Self {
            requests: Requests::new(own, keeper.clone(), client.clone()),
            reader: S3Source::new(&as_source(source, own), keeper, client),
            manner: Manner::of(own),
            logs: format!("{prefix}{}", crate::layout::root(&source.prefix)),
            prefix,
            spool: Arc::new(spool),
            uploads: Arc::new(Semaphore::new(AT_ONCE)),
            clock: process.clock.clone(),
            copying: own.server_side_copy.then(|| Copying::of(source)),
            prepared: OnceCell::new(),
        })
    }

    /// Multiplies the delays between tries, for tests.
    #[must_use]
    pub fn paced(mut self, pace: f64) -> Self {
        self.requests.pace = pace;
        self
    }

    /// Sees, once, that the bucket can be written, keeps conditions and has Object Lock where it must, and aborts what
    /// an earlier run left open.
    ///
    /// # Errors
    /// `Stream` with the mend when it cannot, or does not.
    pub async fn prepare(&self) -> Result<(), Error> {
        let prepare = || async {
            let (requests, reader, manner) = (&self.requests, &self.reader, &self.manner);
            let copying = self.copying.as_ref();
            check(requests, reader, manner, self.clock.as_ref(), &self.prefix, copying).await?;
            let prefixes = [self.logs.clone(), format!("{}{}", self.prefix, name::OWN)];
            prepare::abort_orphans(&self.requests, &prefixes).await;
            Ok(())
        };
        self.prepared.get_or_try_init(prepare).await.copied()
    }

    fn upload<'a>(
        &'a self,
        key: &'a str,
        content: &'a Content,
        metadata: Option<&'a Metadata>,
        waiting: &'a Waiting,
        from: Option<&'a str>,
    ) -> Upload<'a> {
        let retained = retained(&self.manner, self.clock.as_ref());
        let (requests, reader, manner) = (&self.requests, &self.reader, &self.manner);
        let from = self.copying.as_ref().zip(from);
        Upload { requests, reader, manner, retained, key, content, metadata, waiting, from }
    }

    async fn publish_one(&self, item: Item<Handle>) -> Result<Published, Error> {
        let key = name::of(&self.prefix, &item.place).ok_or_else(|| wrong_version(&item.place))?;
        if let Some(why) = refusal(&item.place, &key, item.metadata.as_ref()) {
            return Ok(Published::Refused(Box::new(why)));
        }
        let _permit = self.uploads.acquire().await;
        let staged = &item.staged;
        let from = Some(item.place.key.as_str());
        let upload = self.upload(&key, &staged.content, item.metadata.as_ref(), &staged.handle.0, from);
        let published = upload.publish().await;
        reached("bucket_put");
        published
    }
}

impl Destination for Bucket {
    type Handle = Handle;

    async fn stage(&self, mut body: Body, expected_size: u64, asked: Asked) -> Result<Staged<Handle>, Error> {
        // Buckets with a retention period want the MD5 of what they are sent.
        let inflate = asked.inflate;
        self.prepare().await?;
        let mut writer = None;
        let mut step = Vec::new();
        let mut received = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            received += chunk.len() as u64;
            if received > expected_size {
                return Err(wrong_length(expected_size, received));
            }
            step.extend_from_slice(&chunk);
            if step.len() >= STEP_BYTES {
                let (bytes, spool) = (mem::take(&mut step), self.spool.clone());
                writer = Some(self.blocking(move || append(&spool, writer, &bytes, inflate)).await?);
            }
        }
        if received < expected_size {
            return Err(wrong_length(expected_size, received));
        }
        let spool = self.spool.clone();
        self.blocking(move || finish(&spool, writer, step, inflate)).await
    }

    async fn publish(&self, batch: Vec<Item<Handle>>) -> Result<Vec<Published>, Error> {
        self.prepare().await?;
        let mut published: Vec<Option<Published>> = batch.iter().map(|_| None).collect();
        for round in rounds(batch) {
            let uploads = round.into_iter().map(|(at, item)| async move { (at, self.publish_one(item).await) });
            // All are waited for: what was begun is not left half done because another failed.
            let outcomes: Vec<_> = iter(uploads).buffer_unordered(AT_ONCE).collect().await;
            for (at, outcome) in outcomes {
                published[at] = Some(outcome?);
            }
        }
        Ok(published.into_iter().flatten().collect())
    }

    async fn keep(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        check_own_name(name)?;
        let reserved = || Error::of(Class::Stream, Report::new("keep", name, "no name for a file of our own"));
        let key = name::of_own(&self.prefix, name).ok_or_else(reserved)?;
        self.prepare().await?;
        let spool = self.spool.clone();
        let Staged { content, handle } = self.blocking(move || finish(&spool, None, bytes, false)).await?;
        let _permit = self.uploads.acquire().await;
        self.upload(&key, &content, None, &handle.0, None).write(false).await?;
        reached("bucket_kept");
        Ok(())
    }

    async fn present(&self) -> Result<(), Error> {
        self.prepare().await
    }

    async fn sum(&self, place: &Place) -> Result<Option<Sum>, Error> {
        let content = self.rehash(place).await?;
        Ok(content.map(|content| Sum { size: content.size, sha256: content.sha256 }))
    }

    async fn sidecar(&self, place: &Place) -> Result<Option<Vec<u8>>, Error> {
        let fetched = self.fetch(place).await?;
        Ok(fetched.map(|fetched| sidecar::render(&place.key, &fetched.metadata)))
    }

    async fn set_aside(&self, place: &Place, _: Part) -> Result<Option<String>, Error> {
        Err(immovable(&place.key))
    }

    async fn set_aside_kept(&self, name: &str) -> Result<Option<String>, Error> {
        Err(immovable(name))
    }

    async fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        check_own_name(name)?;
        let Some(key) = name::of_own(&self.prefix, name) else { return Ok(None) };
        // Most of what is asked for first is not there yet, and to be denied it would cost a new session.
        if read::is_missing(&self.reader, &key).await {
            return Ok(None);
        }
        match read::fetch(&self.reader, &key).await? {
            Some(fetched) => read::bytes(fetched.body, u64::MAX).await.map(Some),
            None => Ok(None),
        }
    }

    async fn reread(&self, place: &Place, most: u64) -> Result<Option<Reread>, Error> {
        let Some(fetched) = self.fetch(place).await? else { return Ok(None) };
        let metadata = fetched.metadata;
        Ok(Some(reread(&read::bytes(fetched.body, most).await?, most, Some(metadata))))
    }

    async fn rehash(&self, place: &Place) -> Result<Option<Content>, Error> {
        match self.fetch(place).await? {
            Some(fetched) => read::hash(fetched.body, place.key.ends_with(".gz")).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Bucket {
    async fn fetch(&self, place: &Place) -> Result<Option<Fetched>, Error> {
        let key = name::of(&self.prefix, place).ok_or_else(|| wrong_version(place))?;
        read::fetch(&self.reader, &key).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let done = joined("stage", spawn_blocking(work)).await?;
        done.map_err(|error| broken("stage", &self.spool.dir().display().to_string(), &error))
    }
}

/// A file that is being written, and what it turns out to be.
struct Writer {
    hashing: Hashing,
    file: File,
    spooled: Spooled,
}

fn append(spool: &Spool, writer: Option<Writer>, bytes: &[u8], inflate: bool) -> io::Result<Writer> {
    let mut writer = match writer {
        Some(writer) => writer,
        None => {
            let (file, spooled) = spool.create()?;
            Writer { hashing: Hashing::new(inflate), file, spooled }
        }
    };
    writer.hashing.update(bytes);
    spool::write(&mut writer.file, bytes)?;
    Ok(writer)
}

fn finish(spool: &Spool, writer: Option<Writer>, last: Vec<u8>, inflate: bool) -> io::Result<Staged<Handle>> {
    if writer.is_some() {
        return finish_file(append(spool, writer, &last, inflate)?);
    }
    let content = content::of(&last, inflate);
    match spool.hold(last) {
        Ok(held) => Ok(Staged { content, handle: Handle(held) }),
        Err(bytes) => finish_file(append(spool, None, &bytes, inflate)?),
    }
}

fn finish_file(writer: Writer) -> io::Result<Staged<Handle>> {
    let Writer { hashing, spooled, .. } = writer;
    Ok(Staged { content: hashing.finish(), handle: Handle(Waiting::Spooled(Arc::new(spooled))) })
}

/// Items of one place one after the other, in their order; all others together.
fn rounds<H>(batch: Vec<Item<H>>) -> Vec<Vec<(usize, Item<H>)>> {
    let mut rounds: Vec<Vec<(usize, Item<H>)>> = Vec::new();
    let mut seen: HashMap<(String, Option<String>), usize> = HashMap::new();
    for (at, item) in batch.into_iter().enumerate() {
        let times = seen.entry((item.place.key.clone(), item.place.version.clone())).or_default();
        if rounds.len() <= *times {
            rounds.push(Vec::new());
        }
        rounds[*times].push((at, item));
        *times += 1;
    }
    rounds
}

/// Why S3 would never take this copy, if it would not.
fn refusal(place: &Place, key: &str, metadata: Option<&Metadata>) -> Option<Report> {
    let refuse = |why: String, code: &str| Report::new("PutObject", &place.key, why).code(code);
    if key.len() > name::KEY_BYTES {
        let why = format!("its key in the bucket would have {} bytes, and S3 takes {}", key.len(), name::KEY_BYTES);
        let mend = "use a shorter `destination.prefix`, or a tree as destination";
        return Some(refuse(why, "KeyTooLongError").mend(mend));
    }
    let metadata = metadata?;
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    let sendable = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.trim() == text;
    let token = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    if bytes > METADATA_BYTES {
        return Some(refuse(
            format!("its user metadata has {bytes} bytes, and S3 takes {METADATA_BYTES}"),
            "MetadataTooLarge",
        ));
    }
    let odd = metadata.iter().find(|(name, value)| !token(name) || !sendable(value))?.0;
    Some(refuse(format!("its user metadata `{odd}` cannot be sent in a header"), "InvalidMetadata"))
}

/// We hold no permission to delete copies, and Object Lock would not let us; an earlier version can be restored.
fn immovable(subject: &str) -> Error {
    let why = "a copy in a bucket is never moved or deleted";
    let mend = "restore the object version with the recorded SHA-256";
    Error::of(Class::Object, Report::new("set aside", subject, why).mend(mend))
}

/// All keys of ours start with this.
fn folder(own: &OwnBucket) -> String {
    if own.prefix.is_empty() { String::new() } else { format!("{}/", own.prefix) }
}

/// Sees that a bucket can be written, keeps conditions, has Object Lock where it must, and lets us read, list and clean
/// up; leaves one small object there.
///
/// # Errors
/// `Stream` with the mend when it cannot, or does not.
pub async fn probe(source: &config::Source, own: &OwnBucket, process: &Process) -> Result<(), Error> {
    let (keeper, client) = (keeper(source, own, process, 0)?, process.http.get(&own.endpoints)?);
    let reader = S3Source::new(&as_source(source, own), keeper.clone(), client.clone());
    let requests = Requests::new(own, keeper, client);
    let folder = folder(own);
    let copying = own.server_side_copy.then(|| Copying::of(source));
    check(&requests, &reader, &Manner::of(own), process.clock.as_ref(), &folder, copying.as_ref()).await?;
    prepare::rehearse(&requests, &reader, &format!("{folder}{}", name::OWN), PROBE).await
}

/// What must hold before anything is stored. A service that takes no notice of conditions would let copies be replaced.
async fn check(
    requests: &Requests,
    reader: &S3Source,
    manner: &Manner,
    clock: &dyn Clock,
    prefix: &str,
    copying: Option<&Copying>,
) -> Result<(), Error> {
    if manner.lock.is_some() {
        prepare::check_lock(requests).await?;
    }
    let key = format!("{prefix}{}{PROBE}", name::OWN);
    let bytes = b"Written only where nothing is.\n".to_vec();
    let (content, waiting, retained) = (content::of(&bytes, false), Waiting::alone(bytes), retained(manner, clock));
    let (content, waiting) = (&content, &waiting);
    let upload = Upload { requests, reader, manner, retained, key: &key, content, metadata: None, waiting, from: None };
    for _ in 0..2 {
        match upload.write(true).await {
            Ok(()) => {}
            Err(error) if is_condition(error.code()) => {
                return match copying {
                    Some(copying) => upload.try_copying(copying).await,
                    None => Ok(()),
                };
            }
            Err(error) => return Err(error),
        }
    }
    let why = "the service replaced an object that was to be written only where nothing is";
    let report = Report::new("PutObject", &key, why).code("NoConditionalWrites");
    Err(Error::of(Class::Stream, report.mend("use a service with conditional writes (`If-None-Match: *`), or a tree")))
}

/// The end of a copy's retention, where there is one; a second later, for the part of one that the header cannot say.
fn retained(manner: &Manner, clock: &dyn Clock) -> Option<DateTime> {
    let until = |days: u32| clock.now().as_second() + 1 + i64::from(days) * 86_400;
    manner.lock.as_ref().map(|lock| DateTime::from_secs(until(lock.days)))
}

/// Whether anything of ours is there; what a check of the bucket left does not count.
///
/// # Errors
/// As for [`Source::list`](crate::source::Source::list).
pub async fn holds_objects(source: &config::Source, own: &OwnBucket, process: &Process) -> Result<bool, Error> {
    let Reading { source: reader, prefix } = reading(source, own, process)?;
    for below in [name::OWN, &crate::layout::root(&source.prefix)] {
        let request = ListRequest { prefix: format!("{prefix}{below}"), ..ListRequest::default() };
        let probe = format!("{prefix}{}{PROBE}", name::OWN);
        if reader.list(&request).await?.objects.iter().any(|listed| listed.key != probe) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A bucket of our own to be read only.
pub struct Reading {
    /// Lists and fetches, by keys of the bucket ([`name`]).
    pub source: S3Source,
    /// What all keys of ours start with.
    pub prefix: String,
}

/// The bucket that a source's copies are in, to read them.
///
/// # Errors
/// `Stream` when the endpoints cannot be used.
pub fn reading(source: &config::Source, own: &OwnBucket, process: &Process) -> Result<Reading, Error> {
    let keeper = keeper(source, own, process, 0)?;
    let reader = S3Source::new(&as_source(source, own), keeper, process.http.get(&own.endpoints)?);
    Ok(Reading { source: reader, prefix: folder(own) })
}

/// The bucket as a source that is read.
fn as_source(source: &config::Source, own: &OwnBucket) -> config::Source {
    config::Source {
        name: format!("{}/destination", source.name),
        bucket: own.bucket.clone(),
        region: own.region.clone(),
        bucket_owner: own.bucket_owner.clone(),
        role: own.role.clone(),
        credentials: own.credentials.clone(),
        endpoints: own.endpoints.clone(),
        ..source.clone()
    }
}

/// A failure of the spool's disk.
fn broken(operation: &'static str, subject: &str, error: &io::Error) -> Error {
    let report = Report::new(operation, subject, error);
    let (code, class) = match error.kind() {
        io::ErrorKind::StorageFull => ("ENOSPC", Class::Stream),
        io::ErrorKind::QuotaExceeded => ("EDQUOT", Class::Stream),
        io::ErrorKind::ReadOnlyFilesystem => ("EROFS", Class::Stream),
        _ => ("EIO", Class::Transient),
    };
    Error::of(class, report.code(code).mend("check the disk of the state directory, where bytes wait to be uploaded"))
}

async fn joined<T>(operation: &'static str, handle: JoinHandle<T>) -> Result<T, Error> {
    handle.await.map_err(|stopped| Error::of(Class::Transient, Report::new(operation, "destination", stopped)))
}

/// A source's own keeper for its destination: same rules, other role, narrowed to what writing needs.
///
/// # Errors
/// `Stream` when the endpoints cannot be used.
pub fn keeper(source: &config::Source, own: &OwnBucket, process: &Process, seed: u64) -> Result<Arc<Keeper>, Error> {
    let narrowed =
        own.role.as_ref().filter(|role| role.session_policy).map(|_| crate::policy::archive_policy(source, own));
    Keeper::connect_with(&as_source(source, own), narrowed, process, seed)
}
