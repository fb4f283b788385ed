//! What is done once before the first copy: is there Object Lock, and which uploads did an earlier run leave open.

use aws_sdk_s3::operation::list_multipart_uploads::ListMultipartUploadsOutput;
use aws_sdk_s3::types::{EncodingType, ObjectLockEnabled};
use tracing::{info, warn};

use super::explain::Operation;
use super::requests::Requests;
use super::upload::abort;
use crate::error::{Class, Error};
use crate::key::decode_listed;
use crate::source::client::Failure;
use crate::source::client::answer::{Bounded, EndsIn};
use crate::source::s3::S3Source;
use crate::source::{FetchRequest, ListRequest, Source as _};

/// Refuses a bucket without Object Lock.
pub async fn check_lock(requests: &Requests) -> Result<(), Error> {
    let answer = requests
        .call(Operation::GetObjectLock, &requests.bucket, 0, |config| {
            let operation = requests
                .client
                .get_object_lock_configuration()
                .bucket(&requests.bucket)
                .set_expected_bucket_owner(requests.owner.clone())
                .customize()
                .interceptor(Bounded::Always)
                .config_override(config);
            async move { operation.send().await.map_err(|error| Failure::of(&error)) }
        })
        .await;
    let locked = match answer {
        Ok(answer) => answer.object_lock_configuration.and_then(|lock| lock.object_lock_enabled),
        Err(error) if error.code() == "ObjectLockConfigurationNotFoundError" => None,
        Err(error) => return Err(error),
    };
    if locked == Some(ObjectLockEnabled::Enabled) { Ok(()) } else { Err(requests.target.unlocked()) }
}

/// Tries what is needed besides writing: to list and read copies, and to find and abort uploads that were left open.
///
/// Nothing comes of it: the upload that is aborted does not exist.
///
/// # Errors
/// `Stream` with the mend when one of these is not allowed.
pub async fn rehearse(requests: &Requests, reader: &S3Source, own: &str, probe: &str) -> Result<(), Error> {
    reader.list(&ListRequest { prefix: own.to_owned(), ..ListRequest::default() }).await?;
    let key = format!("{own}{probe}");
    let read = reader.fetch(&FetchRequest { key: key.clone(), if_match: None }).await;
    read.map_err(|error| error.into_class(Class::Stream))?;
    uploads(requests, own, &(None, None)).await?;
    abort(requests, &key, "none").await
}

/// Aborts the uploads that an earlier run left open under these prefixes, under which nobody else uploads anything.
///
/// A service or role that does not let us look only earns a warning: open uploads cost storage, no copy.
pub async fn abort_orphans(requests: &Requests, prefixes: &[String]) -> usize {
    let mut aborted = 0;
    for prefix in prefixes {
        match abort_under(requests, prefix).await {
            Ok(count) => aborted += count,
            Err(error) => {
                warn!(bucket = %requests.bucket, %error, "Uploads of earlier runs cannot be aborted; a lifecycle rule of the bucket (AbortIncompleteMultipartUpload) can")
            }
        }
    }
    if aborted > 0 {
        info!(bucket = %requests.bucket, aborted, "Aborted {aborted} uploads that an earlier run had left open");
    }
    aborted
}

async fn abort_under(requests: &Requests, prefix: &str) -> Result<usize, Error> {
    let mut aborted = 0;
    let mut after = (None::<String>, None::<String>);
    loop {
        let page = uploads(requests, prefix, &after).await?;
        let encoded = page.encoding_type == Some(EncodingType::Url);
        let decode = |text: &str| if encoded { decode_listed(text) } else { Some(text.to_owned()) };
        for upload in page.uploads() {
            let key = upload.key().and_then(decode).filter(|key| key.starts_with(prefix));
            if let (Some(key), Some(id)) = (key, upload.upload_id()) {
                abort(requests, &key, id).await?;
                aborted += 1;
            }
        }
        let next = (page.next_key_marker().and_then(decode), page.next_upload_id_marker.clone());
        if page.is_truncated != Some(true) || next == after {
            return Ok(aborted);
        }
        after = next;
    }
}

/// One page of the uploads that are open, after a key and an id.
async fn uploads(
    requests: &Requests,
    prefix: &str,
    after: &(Option<String>, Option<String>),
) -> Result<ListMultipartUploadsOutput, Error> {
    requests
        .call(Operation::ListUploads, prefix, 0, |config| {
            let operation = requests
                .client
                .list_multipart_uploads()
                .bucket(&requests.bucket)
                .set_expected_bucket_owner(requests.owner.clone())
                .prefix(prefix)
                .encoding_type(EncodingType::Url)
                .set_key_marker(after.0.clone())
                .set_upload_id_marker(after.1.clone())
                .customize()
                .interceptor(Bounded::Always)
                .interceptor(EndsIn("</ListMultipartUploadsResult>"))
                .config_override(config);
            async move { operation.send().await.map_err(|error| Failure::of(&error)) }
        })
        .await
}
