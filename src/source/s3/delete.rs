//! `DeleteObject` of one version, one key at a time.
//!
//! `DeleteObjects` takes a tag for each key as well, but names keys in XML, which cannot hold every key that another
//! account may choose; and one refusal among a thousand is easier to overlook in its answer.

use std::sync::atomic::Ordering;

use aws_sdk_s3::Client;

use super::explain::{Bucket, Operation};
use super::{Outcome, S3Source, Try, tag};
use crate::error::{Class, Error, Report};
use crate::source::client::Failure;
use crate::source::client::answer::{Bounded, ServedAt};
use crate::source::{Removal, Remove, RemoveRequest, Removed};

impl Remove for S3Source {
    async fn remove(&self, request: &RemoveRequest) -> Result<Removal, Error> {
        let mut attempt = self.first_try().await?;
        loop {
            match self.remove_once(request, &attempt).await {
                Ok(removal) => return Ok(removal),
                Err(Outcome::Final(error)) => return Err(error),
                Err(Outcome::Failed(failure)) => {
                    attempt = self.next_try(Operation::Delete, &request.key, attempt, failure).await?;
                }
            }
        }
    }
}

impl S3Source {
    async fn remove_once(&self, request: &RemoveRequest, attempt: &Try) -> Result<Removal, Outcome> {
        self.removes.fetch_add(1, Ordering::Relaxed);
        let config = Some(attempt.config());
        match self.measured.delete.time(delete(&self.client, &self.bucket, request, config)).await {
            Ok(removal) => Ok(removal),
            Err(Refused::Untagged(error)) => Err(Outcome::Final(*error)),
            Err(Refused::Said(failure)) => Err(Outcome::Failed(failure)),
        }
    }
}

/// Why there is no answer that can be used.
pub(super) enum Refused {
    /// It was not sent: without a tag every version would be meant.
    Untagged(Box<Error>),
    /// What the service said.
    Said(Failure),
}

/// Sends one request; that nothing, or another version, stands there is an answer.
pub(super) async fn delete(
    client: &Client,
    bucket: &Bucket,
    request: &RemoveRequest,
    config: Option<aws_sdk_s3::config::Builder>,
) -> Result<Removal, Refused> {
    let Some(tag) = tag(&request.if_match) else { return Err(Refused::Untagged(Box::new(untagged(&request.key)))) };
    let served_at = ServedAt::default();
    let mut operation = client
        .delete_object()
        .bucket(&bucket.name)
        .set_expected_bucket_owner(bucket.owner.clone())
        .key(&request.key)
        .if_match(tag)
        .customize()
        .interceptor(served_at.clone())
        .interceptor(Bounded::Always);
    if let Some(config) = config {
        operation = operation.config_override(config);
    }
    let answered = |removed| Ok(Removal { removed, served_at: served_at.get() });
    match operation.send().await {
        Ok(answer) => answered(Removed::Deleted(answer.version_id.filter(|_| answer.delete_marker == Some(true)))),
        Err(error) => match Failure::of(&error) {
            failure if failure.code == "NoSuchKey" => answered(Removed::Absent),
            failure if failure.code == "PreconditionFailed" => answered(Removed::Changed),
            failure => Err(Refused::Said(failure)),
        },
    }
}

fn untagged(key: &str) -> Error {
    Error::of(Class::Stream, Report::new(Operation::Delete.name(), key, "nothing is deleted without its entity tag"))
}
