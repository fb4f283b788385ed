//! A bucket asked once: nothing is retried, renewed or followed, and a refusal is told as it came.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::{ChecksumMode, EncodingType};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::delete::{Refused, delete};
use super::explain::{Bucket, Operation};
use super::{client, fetched, page};
use crate::clock::Timestamp;
use crate::config;
use crate::error::Error;
use crate::source::client::answer::{Bounded, EndsIn, ServedAt};
use crate::source::client::{Failure, timestamp};
use crate::source::{FetchRequest, Fetched, ListPage, ListRequest, Removal, RemoveRequest, Source};

/// A bucket, as certain credentials see it.
pub struct Probe {
    client: Client,
    bucket: Bucket,
}

/// Where a bucket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its region.
    pub region: String,
    /// The service's own time when it answered.
    pub served_at: Option<Timestamp>,
}

/// An object that is being read, and how it is encrypted.
pub struct Opened {
    /// The object.
    pub fetched: Fetched,
    /// `AES256`, `aws:kms`, …; `None` where nothing is said.
    pub encryption: Option<String>,
    /// The KMS key's ARN, under SSE-KMS.
    pub kms_key: Option<String>,
}

/// A bucket of the account that the credentials belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its region, where the service says it.
    pub region: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
}

impl Probe {
    /// The bucket of a source, as `credentials` see it.
    pub fn new(source: &config::Source, credentials: Credentials, http: SharedHttpClient) -> Self {
        let config = client(source, http).credentials_provider(SharedCredentialsProvider::new(credentials));
        Self { client: Client::from_conf(config.build()), bucket: Bucket::of(source) }
    }

    /// `GetBucketLocation`; `owned` asks that the bucket be the configured owner's.
    ///
    /// # Errors
    /// What the service said.
    pub async fn location(&self, owned: bool) -> Result<Located, Failure> {
        let served_at = ServedAt::default();
        let operation = self
            .client
            .get_bucket_location()
            .bucket(&self.bucket.name)
            .set_expected_bucket_owner(self.bucket.owner.clone().filter(|_| owned))
            .customize()
            .interceptor(served_at.clone())
            .interceptor(Bounded::Always);
        let answer = operation.send().await.map_err(|error| Failure::of(&error))?;
        let constraint = answer.location_constraint.map(|constraint| constraint.as_str().to_owned());
        // The first region has no constraint, and Ireland once had another name (`GetBucketLocation` reference).
        let region = match constraint.as_deref() {
            None | Some("") => "us-east-1",
            Some("EU") => "eu-west-1",
            Some(region) => region,
        };
        Ok(Located { region: region.to_owned(), served_at: served_at.get() })
    }

    /// `ListObjectsV2`, at most `most` entries.
    ///
    /// # Errors
    /// What the service said.
    pub async fn page(&self, request: &ListRequest, most: Option<i32>) -> Result<ListPage, Failure> {
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
            .set_max_keys(most)
            .encoding_type(EncodingType::Url)
            .customize()
            .interceptor(served_at.clone())
            .interceptor(Bounded::Always)
            .interceptor(EndsIn("</ListBucketResult>"));
        let answer = operation.send().await.map_err(|error| Failure::of(&error))?;
        page(&self.bucket, request, answer, served_at.get()).map_err(|error| said(&error))
    }

    /// `GetObject`
    ///
    /// # Errors
    /// What the service said.
    pub async fn open(&self, key: &str) -> Result<Opened, Failure> {
        let operation = self
            .client
            .get_object()
            .bucket(&self.bucket.name)
            .set_expected_bucket_owner(self.bucket.owner.clone())
            .key(key)
            .checksum_mode(ChecksumMode::Enabled)
            .customize()
            .interceptor(Bounded::Failures);
        let answer = operation.send().await.map_err(|error| Failure::of(&error))?;
        opened(key, answer)
    }

    /// `HeadObject`: whether the object could be read, without reading it.
    ///
    /// # Errors
    /// What the service said; it says no code, only a status.
    pub async fn head(&self, key: &str) -> Result<(), Failure> {
        let operation = self
            .client
            .head_object()
            .bucket(&self.bucket.name)
            .set_expected_bucket_owner(self.bucket.owner.clone())
            .key(key)
            .customize()
            .interceptor(Bounded::Always);
        operation.send().await.map(drop).map_err(|error| Failure::of(&error))
    }

    /// `DeleteObject` of one version.
    ///
    /// # Errors
    /// What the service said.
    pub async fn remove(&self, request: &RemoveRequest) -> Result<Removal, Failure> {
        delete(&self.client, &self.bucket, request, None).await.map_err(|refused| match refused {
            Refused::Said(failure) => failure,
            Refused::Untagged(error) => said(&error),
        })
    }

    /// `ListBuckets`: those of the account that the credentials belong to.
    ///
    /// # Errors
    /// What the service said.
    pub async fn buckets(&self) -> Result<Vec<Seen>, Failure> {
        let operation = self.client.list_buckets().customize().interceptor(Bounded::Always);
        let answer = operation.send().await.map_err(|error| Failure::of(&error))?;
        let seen = answer.buckets.unwrap_or_default().into_iter().filter_map(|bucket| {
            let created = bucket.creation_date.as_ref().and_then(timestamp);
            Some(Seen { name: bucket.name?, region: bucket.bucket_region, created })
        });
        Ok(seen.collect())
    }
}

impl Source for Probe {
    async fn list(&self, request: &ListRequest) -> Result<ListPage, Error> {
        let page = self.page(request, None).await;
        page.map_err(|failure| self.bucket.explain(Operation::List, &request.prefix, failure))
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<Fetched, Error> {
        let opened = self.open(&request.key).await.map(|opened| opened.fetched);
        opened.map_err(|failure| self.bucket.explain(Operation::Get, &request.key, failure))
    }
}

fn opened(key: &str, answer: GetObjectOutput) -> Result<Opened, Failure> {
    let encryption = answer.server_side_encryption.as_ref().map(|encryption| encryption.as_str().to_owned());
    let kms_key = answer.ssekms_key_id.clone();
    Ok(Opened { fetched: fetched(key, answer)?, encryption, kms_key })
}

/// An answer that could not be used, as if the service had said so.
fn said(error: &Error) -> Failure {
    let report = error.report();
    let (code, message) = (error.code().to_owned(), report.message.clone());
    Failure { status: Some(200), code, message, request_id: report.request_id.clone(), ..Failure::default() }
}
