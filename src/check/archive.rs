//! Which permission a bucket of our own withholds, and what `trailsync policy` prints for it.

use super::blame::Scene;
use super::{Permission, PolicyLine};
use crate::config::OwnBucket;
use crate::error::Error;
use crate::policy::Partition;
use crate::policy::install::{Attachment, sid};

/// What keeps us from the bucket when nobody there said anything.
pub(super) fn unreached(own: &OwnBucket, error: &Error) -> Option<String> {
    let address = own.endpoints.s3.as_deref();
    let place = address.map_or_else(
        || format!("the service's endpoint in {}", own.region),
        |address| format!("{address} (`destination.endpoints.s3`)"),
    );
    match error.code() {
        "ConnectionFailed" => {
            Some(format!("nothing answers at {place}: check the address, name resolution, routes, firewall and proxy"))
        }
        "Timeout" => Some(format!("no answer came in time from {place}: check routes, firewall and proxy")),
        "UntrustedCertificate" => Some(format!(
            "who answers at {place} shows a certificate that is not trusted: behind a private authority, set \
             `destination.endpoints.ca_bundle`"
        )),
        _ => None,
    }
}

/// What is missing when the destination refuses; `None` when it did not refuse for want of a permission.
pub(super) fn missing(scene: &Scene<'_>, own: &OwnBucket, error: &Error) -> Option<(Permission, Vec<PolicyLine>)> {
    if !matches!(error.code(), "AccessDenied" | "HTTP 403" | "Forbidden") {
        return None;
    }
    let bucket = format!("arn:{}:s3:::{}", Partition::of(&own.region).name, own.bucket);
    let folder = if own.prefix.is_empty() { String::new() } else { format!("{}/", own.prefix) };
    let (action, sid, resource) = match error.report().operation {
        "AssumeRole" => {
            let role = own.role.as_ref()?;
            let lines = vec![
                scene.line(Attachment::ArchiveTrust, sid::ARCHIVE_TRUST),
                scene.line(Attachment::Caller, sid::ARCHIVE_ASSUME),
            ];
            let permission = Permission { action: "sts:AssumeRole", resource: role.arn.clone(), condition: None };
            return Some((permission, lines));
        }
        "ListObjectsV2" => ("s3:ListBucket", sid::ARCHIVE_LIST, bucket),
        "ListMultipartUploads" => ("s3:ListBucketMultipartUploads", sid::ARCHIVE_UPLOADS, bucket),
        "GetObjectLockConfiguration" => ("s3:GetBucketObjectLockConfiguration", sid::ARCHIVE_UPLOADS, bucket),
        "GetObject" | "HeadObject" => ("s3:GetObject", sid::ARCHIVE_WRITE, format!("{bucket}/{folder}*")),
        "AbortMultipartUpload" => ("s3:AbortMultipartUpload", sid::ARCHIVE_WRITE, format!("{bucket}/{folder}*")),
        "PutObject" => ("s3:PutObject", sid::ARCHIVE_WRITE, format!("{bucket}/{folder}*")),
        _ => return None,
    };
    let lines = match own.role {
        Some(_) => vec![scene.line(Attachment::ArchiveAccess, sid)],
        None => vec![scene.line(Attachment::Caller, sid), scene.line(Attachment::ArchiveBucket, sid)],
    };
    let below = (action == "s3:ListBucket" && !folder.is_empty()).then(|| format!("s3:prefix = {folder}"));
    Some((Permission { action, resource, condition: below }, lines))
}
