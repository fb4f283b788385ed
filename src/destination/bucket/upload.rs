//! One copy into the bucket, on the condition that nothing is there yet; and what is there instead.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, ObjectLockMode, ServerSideEncryption,
    StorageClass,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tracing::warn;

use super::body::Piece;
use super::copy::{Copied, Copying};
use super::explain::{Operation, is_of_the_object};
use super::read;
use super::requests::Requests;
use super::spool::Waiting;
use super::{broken, joined};
use crate::config::{ObjectLock, OwnBucket};
use crate::destination::Published;
use crate::error::{Class, Error, Report};
use crate::failpoint::reached;
use crate::object::{Content, Metadata};
use crate::source::client::Failure;
use crate::source::client::answer::{Bounded, EndsIn};
use crate::source::s3::S3Source;

/// Bytes of one part: larger only where there would be more than [`MOST_PARTS`].
pub const PART_BYTES: u64 = 8 << 20;
const MOST_PARTS: u64 = 10_000;

/// Whether something stood there already.
pub fn is_condition(code: &str) -> bool {
    matches!(code, "PreconditionFailed" | "HTTP 412")
}

/// How copies are written.
pub struct Manner {
    pub storage_class: Option<StorageClass>,
    pub sse: Option<ServerSideEncryption>,
    pub kms_key_id: Option<String>,
    pub lock: Option<ObjectLock>,
    /// Above it, a copy is uploaded in parts.
    pub multipart_bytes: u64,
}

impl Manner {
    pub fn of(own: &OwnBucket) -> Self {
        Self {
            storage_class: own.storage_class.as_deref().map(StorageClass::from),
            sse: own.sse.as_deref().map(ServerSideEncryption::from),
            kms_key_id: own.kms_key_id.clone(),
            lock: own.object_lock.clone(),
            multipart_bytes: own.multipart_mib << 20,
        }
    }

    pub fn lock_mode(&self) -> Option<ObjectLockMode> {
        self.lock.as_ref().map(|lock| ObjectLockMode::from(lock.mode.as_str()))
    }
}

/// One copy to be written.
pub struct Upload<'a> {
    pub requests: &'a Requests,
    pub reader: &'a S3Source,
    pub manner: &'a Manner,
    /// The end of its retention, where there is one.
    pub retained: Option<DateTime>,
    /// Its key in the bucket.
    pub key: &'a str,
    pub content: &'a Content,
    pub metadata: Option<&'a Metadata>,
    pub waiting: &'a Waiting,
    /// Where the service may copy it from, and under which key.
    pub from: Option<(&'a Copying, &'a str)>,
}

impl Upload<'_> {
    /// Writes it, or says what stands in its place.
    pub async fn publish(&self) -> Result<Published, Error> {
        if let Some((copying, key)) = self.from.filter(|(copying, _)| copying.is_on()) {
            match self.copied(copying, key).await? {
                Copied::Done => return Ok(Published::New),
                Copied::Condition => {
                    if let Some(published) = self.compare().await? {
                        return Ok(published);
                    }
                }
                Copied::Declined => {}
            }
        }
        for _ in 0..2 {
            let error = match self.write(true).await {
                Ok(()) => return Ok(Published::New),
                Err(error) => error,
            };
            if is_of_the_object(error.code()) {
                return Ok(Published::Refused(Box::new(error.report().clone())));
            }
            if !is_condition(error.code()) && error.code() != "NoSuchUpload" {
                return Err(error);
            }
            if let Some(published) = self.compare().await? {
                return Ok(published);
            }
        }
        // Somebody writes and removes it again and again.
        let report = Report::new("publish", self.key, "it is there when it is written, and gone when it is compared");
        Err(Error::of(Class::Transient, report.code("ConditionalRequestConflict")))
    }

    /// Writes it; with `new`, only where nothing is.
    pub async fn write(&self, new: bool) -> Result<(), Error> {
        match self.waiting {
            Waiting::Spooled(spooled) => {
                let file = joined(
                    "publish",
                    tokio::task::spawn_blocking({
                        let spooled = spooled.clone();
                        move || spooled.open()
                    }),
                )
                .await?
                .map_err(|error| broken("publish", self.key, &error))?;
                let whole = Piece { file: Arc::new(file), from: 0, length: self.content.size };
                if self.content.size > self.manner.multipart_bytes {
                    self.write_in_parts(&whole, new).await
                } else {
                    self.put(|| whole.body(), new).await
                }
            }
            Waiting::Held(bytes, _) => self.put(|| ByteStream::from(bytes.clone()), new).await,
        }
    }

    async fn put(&self, body: impl Fn() -> ByteStream, new: bool) -> Result<(), Error> {
        let sha256 = BASE64.encode(self.content.sha256);
        let answer = self
            .requests
            .call(Operation::Put, self.key, self.content.size, |config| {
                let operation = self
                    .requests
                    .client
                    .put_object()
                    .bucket(&self.requests.bucket)
                    .set_expected_bucket_owner(self.requests.owner.clone())
                    .key(self.key)
                    .set_if_none_match(new.then(|| "*".to_owned()))
                    .content_length(i64::try_from(self.content.size).unwrap_or(i64::MAX))
                    .checksum_sha256(&sha256)
                    // Demanded where Object Lock is, be it by the bucket's own default (PutObject of the S3 reference).
                    .set_content_md5(self.content.md5.map(|md5| BASE64.encode(md5)))
                    .set_metadata(self.metadata.map(|metadata| metadata.clone().into_iter().collect()))
                    .set_storage_class(self.manner.storage_class.clone())
                    .set_server_side_encryption(self.manner.sse.clone())
                    .set_ssekms_key_id(self.manner.kms_key_id.clone())
                    .set_object_lock_mode(self.manner.lock_mode())
                    .set_object_lock_retain_until_date(self.retained)
                    .body(body())
                    .customize()
                    .interceptor(Bounded::Always)
                    .config_override(config);
                async move { operation.send().await.map_err(|error| Failure::of(&error)) }
            })
            .await?;
        self.stored_as(answer.checksum_sha256.as_deref(), &sha256)
    }

    /// The service's checksum of what it stored is ours, where it tells.
    fn stored_as(&self, theirs: Option<&str>, ours: &str) -> Result<(), Error> {
        if theirs.is_none_or(|theirs| theirs == ours) {
            return Ok(());
        }
        let report = Report::new("publish", self.key, "the service says that it stored other bytes than were sent");
        Err(Error::of(Class::Stream, report.code("ChecksumMismatch")))
    }

    async fn write_in_parts(&self, whole: &Piece, new: bool) -> Result<(), Error> {
        let id = self.begin().await?;
        let written = self.write_parts(whole, &id, new).await;
        if let Err(error) = &written {
            // What is not aborted now is aborted at the next start.
            if error.code() != "NoSuchUpload"
                && let Err(why) = abort(self.requests, self.key, &id).await
            {
                warn!(%error, %why, "An upload was left open");
            }
        }
        written
    }

    async fn begin(&self) -> Result<String, Error> {
        let answer = self
            .requests
            .call(Operation::CreateUpload, self.key, 0, |config| {
                let operation = self
                    .requests
                    .client
                    .create_multipart_upload()
                    .bucket(&self.requests.bucket)
                    .set_expected_bucket_owner(self.requests.owner.clone())
                    .key(self.key)
                    .checksum_algorithm(ChecksumAlgorithm::Sha256)
                    .set_metadata(self.metadata.map(|metadata| metadata.clone().into_iter().collect()))
                    .set_storage_class(self.manner.storage_class.clone())
                    .set_server_side_encryption(self.manner.sse.clone())
                    .set_ssekms_key_id(self.manner.kms_key_id.clone())
                    .set_object_lock_mode(self.manner.lock_mode())
                    .set_object_lock_retain_until_date(self.retained)
                    .customize()
                    .interceptor(Bounded::Always)
                    .interceptor(EndsIn("</InitiateMultipartUploadResult>"))
                    .config_override(config);
                async move { operation.send().await.map_err(|error| Failure::of(&error)) }
            })
            .await?;
        answer.upload_id.ok_or_else(|| {
            let report = Report::new(Operation::CreateUpload.name(), self.key, "the answer has no upload id");
            Error::of(Class::Transient, report.code("MalformedAnswer"))
        })
    }

    async fn write_parts(&self, whole: &Piece, id: &str, new: bool) -> Result<(), Error> {
        let (mut parts, mut hashes) = (Vec::new(), Vec::new());
        for (number, piece) in (1..).zip(pieces(whole)) {
            let (sha256, md5) = piece.hash().await.map_err(|error| broken("publish", self.key, &error))?;
            parts.push(self.write_part(&piece, id, number, sha256, md5).await?);
            hashes.extend_from_slice(&sha256);
            reached("bucket_part");
        }
        let composite = composite(&hashes);
        reached("bucket_parts");
        let upload = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let answer = self
            .requests
            .call(Operation::CompleteUpload, self.key, 0, |config| {
                let operation = self
                    .requests
                    .client
                    .complete_multipart_upload()
                    .bucket(&self.requests.bucket)
                    .set_expected_bucket_owner(self.requests.owner.clone())
                    .key(self.key)
                    .upload_id(id)
                    .set_if_none_match(new.then(|| "*".to_owned()))
                    .multipart_upload(upload.clone())
                    .customize()
                    .interceptor(Bounded::Always)
                    .interceptor(EndsIn("</CompleteMultipartUploadResult>"))
                    .config_override(config);
                async move { operation.send().await.map_err(|error| Failure::of(&error)) }
            })
            .await?;
        reached("bucket_completed");
        self.stored_as(answer.checksum_sha256.as_deref(), &composite)
    }

    async fn write_part(
        &self,
        piece: &Piece,
        id: &str,
        number: i32,
        sha256: [u8; 32],
        md5: [u8; 16],
    ) -> Result<CompletedPart, Error> {
        let sha256 = BASE64.encode(sha256);
        let answer = self
            .requests
            .call(Operation::UploadPart, self.key, piece.length, |config| {
                let operation = self
                    .requests
                    .client
                    .upload_part()
                    .bucket(&self.requests.bucket)
                    .set_expected_bucket_owner(self.requests.owner.clone())
                    .key(self.key)
                    .upload_id(id)
                    .part_number(number)
                    .content_length(i64::try_from(piece.length).unwrap_or(i64::MAX))
                    .checksum_sha256(&sha256)
                    .content_md5(BASE64.encode(md5))
                    .body(piece.body())
                    .customize()
                    .interceptor(Bounded::Always)
                    .config_override(config);
                async move { operation.send().await.map_err(|error| Failure::of(&error)) }
            })
            .await?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).checksum_sha256(sha256);
        Ok(part.build())
    }

    /// What stands in its place; `None` when nothing does any more.
    pub async fn compare(&self) -> Result<Option<Published>, Error> {
        let Some(there) = self.head().await? else { return Ok(None) };
        if there.content_length.and_then(|length| u64::try_from(length).ok()) != Some(self.content.size) {
            return Ok(Some(Published::Other));
        }
        if self.metadata.is_some_and(|ours| !is_metadata(&there, ours)) {
            return Ok(Some(Published::Other));
        }
        let same = match there.checksum_sha256.as_deref() {
            // A checksum of parts ends in their number; the parts may be others than ours.
            Some(whole) if !whole.contains('-') => whole == BASE64.encode(self.content.sha256),
            _ => match self.hash_there().await? {
                Some(sha256) => sha256 == self.content.sha256,
                None => return Ok(None),
            },
        };
        Ok(Some(if same { Published::Same } else { Published::Other }))
    }

    async fn head(&self) -> Result<Option<HeadObjectOutput>, Error> {
        let answer = self
            .requests
            .call(Operation::Head, self.key, 0, |config| {
                let operation = self
                    .requests
                    .client
                    .head_object()
                    .bucket(&self.requests.bucket)
                    .set_expected_bucket_owner(self.requests.owner.clone())
                    .key(self.key)
                    .checksum_mode(ChecksumMode::Enabled)
                    .customize()
                    .interceptor(Bounded::Always)
                    .config_override(config);
                async move { operation.send().await.map_err(|error| Failure::of(&error)) }
            })
            .await;
        match answer {
            Ok(there) => Ok(Some(there)),
            Err(error) if error.class() == Class::Object => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn hash_there(&self) -> Result<Option<[u8; 32]>, Error> {
        match read::fetch(self.reader, self.key).await? {
            Some(fetched) => Ok(Some(read::hash(fetched.body, false).await?.sha256)),
            None => Ok(None),
        }
    }
}

/// Gives an upload up, with the parts that it has.
pub async fn abort(requests: &Requests, key: &str, id: &str) -> Result<(), Error> {
    let aborted = requests
        .call(Operation::AbortUpload, key, 0, |config| {
            let operation = requests
                .client
                .abort_multipart_upload()
                .bucket(&requests.bucket)
                .set_expected_bucket_owner(requests.owner.clone())
                .key(key)
                .upload_id(id)
                .customize()
                .interceptor(Bounded::Always)
                .config_override(config);
            async move { operation.send().await.map_err(|error| Failure::of(&error)) }
        })
        .await;
    match aborted {
        Err(error) if error.code() != "NoSuchUpload" => Err(error),
        _ => Ok(()),
    }
}

/// The pieces that are uploaded as parts.
fn pieces(whole: &Piece) -> Vec<Piece> {
    let length = PART_BYTES.max(whole.length.div_ceil(MOST_PARTS));
    let starts = (0..whole.length).step_by(usize::try_from(length).unwrap_or(usize::MAX));
    starts.map(|from| Piece { from, length: length.min(whole.length - from), ..whole.clone() }).collect()
}

/// The checksum of a copy that was uploaded in parts, as S3 makes it of theirs.
fn composite(hashes: &[u8]) -> String {
    format!("{}-{}", BASE64.encode(digest(&SHA256, hashes)), hashes.len() / 32)
}

fn is_metadata(there: &HeadObjectOutput, ours: &Metadata) -> bool {
    let theirs = there.metadata().map(|metadata| metadata.iter().collect::<std::collections::BTreeMap<_, _>>());
    theirs.unwrap_or_default().into_iter().eq(ours)
}
