//! The S3 operations, behind the protocol that `s3s` speaks.

mod access;
mod list;
mod multipart;
mod read;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CopyObjectInput, CopyObjectOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, GetBucketLocationInput, GetBucketLocationOutput,
    GetObjectInput, GetObjectLockConfigurationInput, GetObjectLockConfigurationOutput, GetObjectOutput,
    HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, PutObjectInput, PutObjectOutput, UploadPartInput, UploadPartOutput,
};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

pub(crate) use self::multipart::Uploads;

use crate::caller::Caller;
use crate::failure::Failure;
use crate::faults::Fault;
use crate::identity::Rejection;
use crate::op::Service;
use crate::world::World;

pub(crate) const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// What S3 sends after a 200 when it finds out later that it failed.
const ERROR_INSIDE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InternalError</Code><Message>We encountered an internal error. Please try again.</Message></Error>";

/// Carries a [`Failure`] through `s3s`, whose errors know neither details nor resource.
pub(crate) const FAILURE_HEADER: &str = "x-fakeaws-failure";

/// A body that replaces the one that `s3s` would write.
#[derive(Clone)]
pub(crate) struct RawBody(pub Bytes);

/// What the server learned about a request before `s3s` saw it.
#[derive(Clone)]
pub(crate) struct Known {
    pub caller: Arc<Caller>,
    /// The region that it was signed for.
    pub region: Arc<str>,
    pub faults: Arc<[Fault]>,
}

pub(crate) fn service(world: &World) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Buckets(world.clone()));
    builder.set_auth(Keys(world.clone()));
    builder.set_access(access::Access(world.clone()));
    // Skew is measured on the world's clock, before this.
    let mut config = S3Config::default();
    config.presigned_url_max_skew_time_secs = u32::MAX;
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}

struct Keys(World);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let secret = self.0.inner().directory.read().secret(access_key);
        let unknown = || Failure::rejected(Rejection::UnknownKey, Service::S3, access_key);
        Ok(SecretKey::from(secret.ok_or_else(unknown)?))
    }
}

impl From<Failure> for S3Error {
    fn from(failure: Failure) -> S3Error {
        let code = S3ErrorCode::Custom(failure.code.as_str().into());
        let mut error = S3Error::with_message(code, failure.message.clone());
        if let Ok(status) = http::StatusCode::from_u16(failure.status) {
            error.set_status_code(status);
        }
        let encoded = hex::encode(serde_json::to_vec(&failure).unwrap_or_default());
        if let Ok(value) = HeaderValue::try_from(encoded) {
            let mut headers = HeaderMap::new();
            headers.insert(FAILURE_HEADER, value);
            error.set_headers(headers);
        }
        error
    }
}

/// Reads back what [`From<Failure>`](S3Error) wrote.
pub(crate) fn carried_failure(headers: &HeaderMap) -> Option<Failure> {
    let encoded = headers.get(FAILURE_HEADER)?;
    serde_json::from_slice(&hex::decode(encoded).ok()?).ok()
}

/// An answer whose document we write ourselves.
fn raw<T: Default>(document: String) -> S3Response<T> {
    let mut response = S3Response::new(T::default());
    response.extensions.insert(RawBody(Bytes::from(document)));
    response
}

struct Buckets(World);

impl Buckets {
    /// What the server knows about this request; without it nobody may do anything.
    fn known<T>(request: &S3Request<T>) -> Result<Known, Failure> {
        request.extensions.get::<Known>().cloned().ok_or_else(Failure::access_denied)
    }
}

type Answer<T> = S3Result<S3Response<T>>;

fn answer<T>(output: Result<T, Failure>) -> Answer<T> {
    Ok(S3Response::new(output?))
}

#[async_trait::async_trait]
impl S3 for Buckets {
    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        let known = Buckets::known(&request)?;
        Ok(raw(list::v2(&self.0, &request.input, &known.faults)?))
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        let known = Buckets::known(&request)?;
        Ok(raw(list::v1(&self.0, &request.input, &known.faults)?))
    }

    async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        let known = Buckets::known(&request)?;
        answer(Ok(list::buckets(&self.0, &known.caller)))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        answer(list::head_bucket(&self.0, &request.input.bucket))
    }

    async fn get_bucket_location(&self, request: S3Request<GetBucketLocationInput>) -> Answer<GetBucketLocationOutput> {
        Ok(raw(list::location(&self.0, &request.input.bucket)?))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let known = Buckets::known(&request)?;
        answer(read::get(&self.0, &known.caller, &request.input))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let known = Buckets::known(&request)?;
        answer(read::head(&self.0, &known.caller, &request.input))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        answer(write::put(&self.0, request).await)
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let known = Buckets::known(&request)?;
        if known.faults.contains(&Fault::ErrorInside200) {
            return Ok(raw(ERROR_INSIDE.to_owned()));
        }
        answer(write::copy(&self.0, &known.caller, &request))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let known = Buckets::known(&request)?;
        let deaf = known.faults.contains(&Fault::IgnoresConditions);
        answer(write::delete(&self.0, &known.caller, &request.input, deaf))
    }

    async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        let known = Buckets::known(&request)?;
        answer(Ok(write::delete_many(&self.0, &known.caller, &request.input)))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        answer(multipart::create(&self.0, request.input))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        answer(multipart::upload_part(&self.0, request).await)
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        if Buckets::known(&request)?.faults.contains(&Fault::ErrorInside200) {
            return Ok(raw(ERROR_INSIDE.to_owned()));
        }
        answer(multipart::complete(&self.0, &request.input))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        Ok(raw(multipart::list(&self.0, &request.input)?))
    }

    async fn get_object_lock_configuration(
        &self,
        request: S3Request<GetObjectLockConfigurationInput>,
    ) -> Answer<GetObjectLockConfigurationOutput> {
        Ok(raw(list::object_lock(&self.0, &request.input.bucket)?))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        answer(multipart::abort(&self.0, &request.input.upload_id))
    }
}
