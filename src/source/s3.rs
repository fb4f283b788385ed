//! S3 as a source, through aws-sdk-s3.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_sdk_s3::operation::get_object::{GetObjectInput, GetObjectOutput};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{ChecksumMode, EncodingType, Object, ObjectStorageClass, ServerSideEncryption};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use tracing::warn;

use self::explain::{Bucket, Operation};
use self::get::{Get, Getter};
use super::client::answer::{Bounded, EndsIn, ServedAt};
use super::client::measure::Measured;
use super::client::{Failure, timeouts, timestamp};
use super::{FetchRequest, Fetched, ListPage, ListRequest, Source};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::config;
use crate::error::{Class, Error};
use crate::key::decode_listed;
use crate::object::{ETag, Listed};
use crate::role::Keeper;

mod body;
mod delete;
mod explain;
mod get;
pub mod probe;

pub use self::explain::class_of;
pub use super::memory::Requests;

/// An answer that has not begun by then is given up.
const FIRST_BYTE: Duration = Duration::from_secs(20);

/// A listing that is not here by then is given up; a page of 1,000 keys is a few hundred kilobytes.
const WHOLE_ANSWER: Duration = Duration::from_secs(30);

/// A bucket of Account A in S3.
///
/// A request whose credentials are refused is made once more with renewed ones, and a request that was sent
/// to the wrong region once more to the right one. Nothing else is retried here.
pub struct S3Source {
    client: Client,
    /// Makes the GETs of ordinary buckets; the SDK makes all else.
    getter: Option<Getter>,
    bucket: Bucket,
    keeper: Arc<Keeper>,
    /// Where the bucket turned out to be, when that is not where the configuration says.
    moved_to: Mutex<Option<String>>,
    lists: AtomicU64,
    fetches: AtomicU64,
    removes: AtomicU64,
    measured: Operations,
}

/// How requests went, by operation.
struct Operations {
    list: Measured,
    get: Measured,
    delete: Measured,
}

/// How one try is made: with which credentials, in which region, and what was already done about failures.
struct Try {
    credentials: Credentials,
    region: Option<String>,
    renewed: bool,
    redirected: bool,
}

impl S3Source {
    /// The bucket of a source, read with what `keeper` holds.
    ///
    /// `AWS_ENDPOINT_URL` does not count: only the configuration names another endpoint.
    pub fn new(source: &config::Source, keeper: Arc<Keeper>, http: SharedHttpClient) -> Self {
        Self {
            getter: Getter::new(source, &http),
            client: Client::from_conf(client(source, http).build()),
            bucket: Bucket::of(source),
            keeper,
            moved_to: Mutex::new(None),
            lists: AtomicU64::new(0),
            fetches: AtomicU64::new(0),
            removes: AtomicU64::new(0),
            measured: Operations::of(&source.name),
        }
    }

    /// The same, with every request made by the SDK alone: what the other way is compared with.
    #[must_use]
    pub fn by_the_sdk_alone(self) -> Self {
        Self { getter: None, ..self }
    }

    /// How many requests were made so far, failed ones included.
    pub fn requests(&self) -> Requests {
        Requests {
            lists: self.lists.load(Ordering::Relaxed),
            fetches: self.fetches.load(Ordering::Relaxed),
            removes: self.removes.load(Ordering::Relaxed),
        }
    }

    async fn first_try(&self) -> Result<Try, Error> {
        let credentials = self.keeper.ready().await?;
        let region = self.moved_to.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Try { credentials, region, renewed: false, redirected: false })
    }

    /// What to try after a failure, or the error if nothing is left to try.
    async fn next_try(&self, operation: Operation, subject: &str, failed: Try, failure: Failure) -> Result<Try, Error> {
        if let Some(region) =
            self.bucket.redirected_to(&failure, failed.region.as_deref()).filter(|_| !failed.redirected)
        {
            self.follow(&region);
            return Ok(Try { region: Some(region), redirected: true, ..failed });
        }
        if failed.renewed {
            return Err(self.bucket.explain(operation, subject, failure));
        }
        match self.keeper.refused(failed.credentials.access_key_id(), &failure.code).await {
            Ok(true) => Ok(Try { credentials: self.keeper.current()?, renewed: true, ..failed }),
            Ok(false) => Err(self.bucket.explain(operation, subject, failure)),
            // That the role can no longer be assumed says more than that its session is refused.
            Err(error) if error.class() == Class::Stream => Err(error),
            Err(_) => Err(self.bucket.explain(operation, subject, failure)),
        }
    }

    fn follow(&self, region: &str) {
        let mut moved_to = self.moved_to.lock().unwrap_or_else(PoisonError::into_inner);
        if moved_to.as_deref() != Some(region) {
            let Bucket { name, region: configured, .. } = &self.bucket;
            warn!(bucket = %name, "The bucket is in {region}, not in {configured}: set `region = \"{region}\"`");
            *moved_to = Some(region.to_owned());
        }
    }

    async fn list_once(&self, request: &ListRequest, attempt: &Try) -> Result<ListPage, Outcome> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        let served_at = ServedAt::default();
        let operation = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket.name)
            .set_expected_bucket_owner(self.bucket.owner.clone())
            .prefix(&request.prefix)
            .set_delimiter(request.delimiter.then(|| "/".to_owned()))
            .set_start_after(request.start_after.clone().filter(|_| request.token.is_none()))
            .set_continuation_token(request.token.clone())
            // Without it, one key that XML cannot hold makes a whole page unreadable.
            .encoding_type(EncodingType::Url)
            .customize()
            .interceptor(served_at.clone())
            .interceptor(Bounded::Always)
            .interceptor(EndsIn("</ListBucketResult>"))
            .config_override(attempt.config());
        let sent_at = SystemClock.now();
        let answer = self.measured.list.time(operation.send()).await.map_err(|error| Failure::of(&error));
        let told = answer.as_ref().map_or_else(|failure| failure.served_at, |_| served_at.get());
        if let (Some(getter), Some(told)) = (&self.getter, told) {
            getter.told(told, sent_at, SystemClock.now());
        }
        let answer = answer.map_err(Outcome::Failed)?;
        page(&self.bucket, request, answer, served_at.get()).map_err(Outcome::Final)
    }

    async fn fetch_once(&self, request: &FetchRequest, attempt: &Try) -> Result<Fetched, Outcome> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let sending = async {
            let answer = match &self.getter {
                Some(getter) => getter.get(self.get(request, attempt)).await,
                None => None,
            };
            match answer {
                Some(answer) => answer,
                None => self.fetch_by_the_sdk(request, attempt).await,
            }
        };
        let answer = self.measured.get.time(sending).await.map_err(Outcome::Failed)?;
        fetched(&request.key, answer).map_err(Outcome::Failed)
    }

    async fn fetch_by_the_sdk(&self, request: &FetchRequest, attempt: &Try) -> Result<GetObjectOutput, Failure> {
        let operation = self
            .client
            .get_object()
            .bucket(&self.bucket.name)
            .set_expected_bucket_owner(self.bucket.owner.clone())
            .key(&request.key)
            .set_if_match(request.if_match.as_ref().and_then(tag))
            .checksum_mode(ChecksumMode::Enabled)
            .customize()
            .interceptor(Bounded::Failures)
            .config_override(attempt.config());
        operation.send().await.map_err(|error| Failure::of(&error))
    }

    /// The same request for the getter, which knows its bucket.
    fn get<'a>(&'a self, request: &FetchRequest, attempt: &'a Try) -> Get<'a> {
        let input = GetObjectInput::builder()
            .set_expected_bucket_owner(self.bucket.owner.clone())
            .key(&request.key)
            .set_if_match(request.if_match.as_ref().and_then(tag))
            .checksum_mode(ChecksumMode::Enabled);
        let region = attempt.region.as_deref().unwrap_or(&self.bucket.region);
        Get { input, credentials: &attempt.credentials, region }
    }
}

impl Operations {
    fn of(source: &str) -> Self {
        let of = |operation: Operation| Measured::of(source, operation.name());
        Self { list: of(Operation::List), get: of(Operation::Get), delete: of(Operation::Delete) }
    }
}

/// A client as every use of the bucket has it: no retries, no cached identities.
fn client(source: &config::Source, http: SharedHttpClient) -> Builder {
    let mut config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(source.region.clone()))
        .http_client(http)
        .timeout_config(timeouts(FIRST_BYTE, WHOLE_ANSWER))
        .retry_config(RetryConfig::disabled())
        .identity_cache(IdentityCache::no_cache())
        // Bodies are watched where they are read, see `body`.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .force_path_style(source.endpoints.path_style)
        .use_fips(source.endpoints.fips)
        .use_dual_stack(source.endpoints.dual_stack);
    config.set_endpoint_url(source.endpoints.s3.clone());
    config
}

/// How a try ended without what was asked for.
enum Outcome {
    /// Something else may be tried.
    Failed(Failure),
    /// Nothing else may be tried.
    Final(Error),
}

impl Source for S3Source {
    async fn list(&self, request: &ListRequest) -> Result<ListPage, Error> {
        let mut attempt = self.first_try().await?;
        loop {
            match self.list_once(request, &attempt).await {
                Ok(page) => return Ok(page),
                Err(Outcome::Final(error)) => return Err(error),
                Err(Outcome::Failed(failure)) => {
                    attempt = self.next_try(Operation::List, &request.prefix, attempt, failure).await?;
                }
            }
        }
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<Fetched, Error> {
        let mut attempt = self.first_try().await?;
        loop {
            match self.fetch_once(request, &attempt).await {
                Ok(fetched) => return Ok(fetched),
                Err(Outcome::Final(error)) => return Err(error),
                Err(Outcome::Failed(failure)) => {
                    attempt = self.next_try(Operation::Get, &request.key, attempt, failure).await?;
                }
            }
        }
    }
}

impl Try {
    /// This request's own credentials, which no cache keeps, and its region.
    fn config(&self) -> Builder {
        let config = Builder::new()
            .credentials_provider(SharedCredentialsProvider::new(self.credentials.clone()))
            .identity_cache(IdentityCache::no_cache());
        match &self.region {
            Some(region) => config.region(Region::new(region.clone())),
            None => config,
        }
    }
}

/// The tag as `If-Match` takes it: quoted.
fn tag(etag: &ETag) -> Option<String> {
    Some(etag.as_str()).filter(|tag| !tag.is_empty()).map(|tag| format!("\"{tag}\""))
}

/// A page as the rest of the program sees it.
///
/// # Errors
/// `Transient` when the answer lacks what every answer has, `Stream` when a listing would never end or a key
/// is not UTF-8.
fn page(
    bucket: &Bucket,
    request: &ListRequest,
    answer: ListObjectsV2Output,
    served_at: Option<Timestamp>,
) -> Result<ListPage, Error> {
    let encoded = answer.encoding_type == Some(EncodingType::Url);
    let decode = |text: &str| match encoded {
        true => decode_listed(text).ok_or_else(|| bucket.not_utf8(request, text)),
        false => Ok(text.to_owned()),
    };
    let missing = |what| bucket.malformed(request, what);
    let entries = answer.contents().len() + answer.common_prefixes().len();
    if answer.key_count.and_then(|count| usize::try_from(count).ok()).is_some_and(|count| entries < count) {
        return Err(missing("the page holds fewer keys than it says"));
    }
    let next = match (answer.is_truncated, answer.next_continuation_token) {
        (None, _) => return Err(missing("the page does not say whether it is the last")),
        (Some(false), _) => None,
        (Some(true), Some(token)) if Some(&token) != request.token.as_ref() && !token.is_empty() => Some(token),
        (Some(true), _) => return Err(bucket.endless(request)),
    };
    let objects = answer.contents.unwrap_or_default().into_iter().map(|object| {
        let key = decode(object.key.as_deref().ok_or_else(|| missing("an object without a key"))?)?;
        listed(key, object).ok_or_else(|| missing("an object without a size or time"))
    });
    let prefixes = answer
        .common_prefixes
        .unwrap_or_default()
        .into_iter()
        .map(|folded| decode(folded.prefix.as_deref().ok_or_else(|| missing("a common prefix without a prefix"))?));
    Ok(ListPage {
        objects: objects.collect::<Result<_, _>>()?,
        prefixes: prefixes.collect::<Result<_, _>>()?,
        next,
        served_at,
    })
}

fn listed(key: String, object: Object) -> Option<Listed> {
    let archived = object
        .storage_class
        .filter(|class| matches!(class, ObjectStorageClass::Glacier | ObjectStorageClass::DeepArchive));
    Some(Listed {
        key,
        size: object.size?.try_into().ok()?,
        etag: ETag::new(object.e_tag.as_deref().unwrap_or_default()),
        modified: timestamp(&object.last_modified?)?,
        archived: archived.map(|class| class.as_str().to_owned()),
    })
}

/// An object as the rest of the program sees it.
fn fetched(key: &str, answer: GetObjectOutput) -> Result<Fetched, Failure> {
    let missing = |what: &str| Failure {
        status: Some(200),
        code: "MalformedAnswer".to_owned(),
        message: format!("the answer has no {what}"),
        ..Failure::default()
    };
    let size = answer.content_length.and_then(|length| u64::try_from(length).ok());
    let etag = ETag::new(answer.e_tag.as_deref().ok_or_else(|| missing("entity tag"))?);
    Ok(Fetched {
        size: size.ok_or_else(|| missing("length"))?,
        modified: answer.last_modified.as_ref().and_then(timestamp).ok_or_else(|| missing("modification time"))?,
        checksummed: is_checksummed(&answer),
        etag_is_md5: etag.as_md5().is_some() && is_md5_encryption(&answer),
        etag,
        metadata: answer.metadata.unwrap_or_default().into_iter().collect(),
        content_type: answer.content_type,
        content_encoding: answer.content_encoding,
        body: body::watched(key.to_owned(), answer.body),
    })
}

/// Whether the SDK checks the body against a checksum of the whole object.
///
/// It takes the first of these that is there and checks nothing if that is of parts (`…-3`, which is no base64)
/// or nonsense (`check_headers_for_precalculated_checksum` in aws-sdk-s3); other algorithms it does not check.
fn is_checksummed(answer: &GetObjectOutput) -> bool {
    let checked = [
        &answer.checksum_crc64_nvme,
        &answer.checksum_crc32_c,
        &answer.checksum_crc32,
        &answer.checksum_sha1,
        &answer.checksum_sha256,
    ];
    let first = checked.into_iter().find_map(Option::as_deref);
    first.is_some_and(|value| aws_smithy_types::base64::decode(value).is_ok())
}

/// Whether a tag can be an MD5: not under SSE-KMS or SSE-C (`API_Object` of the S3 reference).
fn is_md5_encryption(answer: &GetObjectOutput) -> bool {
    let plain = matches!(answer.server_side_encryption, None | Some(ServerSideEncryption::Aes256));
    plain && answer.sse_customer_algorithm.is_none()
}
