//! Copies that S3 makes itself, from the source's bucket into ours, where one set of credentials may do both.
//!
//! The bytes are fetched all the same: only that gives the hash of what is inside. What is saved is the upload. S3 says
//! which SHA-256 it stored, and only that of the bytes that were fetched counts. A service that does not keep the
//! condition of a copy (`If-None-Match: *`) is not asked for one, since it would write over what is there.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aws_sdk_s3::operation::copy_object::CopyObjectOutput;
use aws_sdk_s3::types::{ChecksumAlgorithm, MetadataDirective};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tracing::warn;

use super::explain::Operation;
use super::upload::{Upload, is_condition};
use crate::config;
use crate::destination::Published;
use crate::error::{Class, Error};
use crate::source::client::Failure;
use crate::source::client::answer::{Bounded, EndsIn};

/// Refusals in a row that are still taken for the objects' own trouble, once copying has worked.
const REFUSALS: u32 = 3;
/// S3 copies no larger object at once (`CopyObject` of the S3 reference).
const MOST_BYTES: u64 = 5 << 30;

/// The bucket that copies come from, as the destination's credentials see it.
pub struct Copying {
    pub bucket: String,
    pub owner: Option<String>,
    off: AtomicBool,
    /// Objects that were refused in a row; without a success before, the first counts for all.
    refused: AtomicU32,
}

/// How a copy by the service ended.
pub enum Copied {
    /// It is stored.
    Done,
    /// Something stood there already, or the object is another by now.
    Condition,
    /// The bytes that were fetched are to be uploaded.
    Declined,
}

impl Copying {
    /// Copies from the bucket of a source.
    pub fn of(source: &config::Source) -> Self {
        Self {
            bucket: source.bucket.clone(),
            owner: source.bucket_owner.clone(),
            off: AtomicBool::new(false),
            refused: AtomicU32::new(REFUSALS),
        }
    }

    pub fn is_on(&self) -> bool {
        !self.off.load(Ordering::Relaxed)
    }

    /// Who may not list the source is refused what is gone from it, as is everything where the policy lacks us.
    fn was_refused(&self, why: &Error) {
        if self.refused.fetch_add(1, Ordering::Relaxed) >= REFUSALS {
            self.turn_off(why);
        }
    }

    /// Until the process ends.
    fn turn_off(&self, why: &dyn std::fmt::Display) {
        if !self.off.swap(true, Ordering::Relaxed) {
            warn!(bucket = %self.bucket, "Objects are uploaded, not copied by the service: {why}");
        }
    }
}

impl Upload<'_> {
    /// Sees, before anything is copied, that the service keeps the condition of a copy: what stands under our own key is
    /// copied onto itself, which must be refused.
    pub async fn try_copying(&self, copying: &Copying) -> Result<(), Error> {
        match self.copy(&self.requests.bucket, self.requests.owner.as_deref(), self.key).await {
            Err(error) if is_condition(error.code()) => Ok(()),
            Err(error) if error.class() == Class::Stream => {
                copying.turn_off(&error);
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => {
                copying.turn_off(&"the service takes no notice of `If-None-Match` with CopyObject");
                Ok(())
            }
        }
    }

    /// Lets the service copy an object of the source.
    pub async fn copied(&self, copying: &Copying, key: &str) -> Result<Copied, Error> {
        if self.content.size > MOST_BYTES {
            return Ok(Copied::Declined);
        }
        let answer = match self.copy(&copying.bucket, copying.owner.as_deref(), key).await {
            Ok(answer) => answer,
            Err(error) if is_condition(error.code()) => return Ok(Copied::Condition),
            // This object's own trouble: it is gone, or archived, since it was fetched.
            Err(error) if matches!(error.code(), "NoSuchKey" | "ObjectNotInActiveTierError" | "InvalidObjectState") => {
                return Ok(Copied::Declined);
            }
            Err(error) if error.class() == Class::Stream => {
                copying.was_refused(&error);
                return Ok(Copied::Declined);
            }
            Err(error) => return Err(error),
        };
        copying.refused.store(0, Ordering::Relaxed);
        let stored = answer.copy_object_result.and_then(|result| result.checksum_sha256);
        if stored.as_deref() == Some(&BASE64.encode(self.content.sha256)) {
            return Ok(Copied::Done);
        }
        // The service does not say what it stored, or the object was replaced since it was fetched.
        match self.compare().await? {
            Some(Published::Same) => Ok(Copied::Done),
            _ => Ok(Copied::Condition),
        }
    }

    async fn copy(&self, bucket: &str, owner: Option<&str>, key: &str) -> Result<CopyObjectOutput, Error> {
        self.requests
            .call(Operation::Copy, self.key, self.content.size, |config| {
                let operation = self
                    .requests
                    .client
                    .copy_object()
                    .bucket(&self.requests.bucket)
                    .set_expected_bucket_owner(self.requests.owner.clone())
                    .key(self.key)
                    .copy_source(encoded(bucket, key))
                    .set_expected_source_bucket_owner(owner.map(str::to_owned))
                    .if_none_match("*")
                    .checksum_algorithm(ChecksumAlgorithm::Sha256)
                    .metadata_directive(MetadataDirective::Replace)
                    .set_metadata(self.metadata.map(|metadata| metadata.clone().into_iter().collect()))
                    .set_storage_class(self.manner.storage_class.clone())
                    .set_server_side_encryption(self.manner.sse.clone())
                    .set_ssekms_key_id(self.manner.kms_key_id.clone())
                    .set_object_lock_mode(self.manner.lock_mode())
                    .set_object_lock_retain_until_date(self.retained)
                    .customize()
                    .interceptor(Bounded::Always)
                    .interceptor(EndsIn("</CopyObjectResult>"))
                    .config_override(config);
                async move { operation.send().await.map_err(|error| Failure::of(&error)) }
            })
            .await
    }
}

/// Bucket and key as the header takes them: percent-encoded, slashes as they are.
fn encoded(bucket: &str, key: &str) -> String {
    let mut out = format!("{bucket}/");
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_key_fits_into_the_header() {
        assert_eq!(super::encoded("b", "a b/\u{e9}+%.gz"), "b/a%20b/%C3%A9%2B%25.gz");
    }
}
