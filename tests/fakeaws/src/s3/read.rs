//! Reading objects: who may, under which conditions, and what comes with the bytes.

use std::sync::Arc;

use http::StatusCode;
use s3s::Body;
use s3s::dto::{
    ChecksumType, ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
    ObjectLockMode, Range, ServerSideEncryption, StorageClass, StreamingBlob, Timestamp,
};

use super::access::may;
use crate::caller::{Ask, Caller};
use crate::failure::Failure;
use crate::identity::account_of;
use crate::object::{ChecksumKind, Lock, STANDARD, Sse, StoredObject};
use crate::world::World;

/// The conditions that reads share.
struct Conditions<'a> {
    if_match: Option<&'a ETagCondition>,
    if_none_match: Option<&'a ETagCondition>,
    if_modified_since: Option<&'a Timestamp>,
    if_unmodified_since: Option<&'a Timestamp>,
}

pub(super) fn get(world: &World, caller: &Caller, input: &GetObjectInput) -> Result<GetObjectOutput, Failure> {
    let version = input.version_id.as_deref();
    let object = readable(world, caller, &input.bucket, &input.key, version)?;
    if object.is_archived() {
        return Err(Failure::archived(&object.storage_class));
    }
    Conditions {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    }
    .check(&object)?;
    let whole = object.body.bytes();
    let range = input.range.as_ref().map(|range| within(range, object.size())).transpose()?;
    let wants_checksum = input.checksum_mode.as_ref().is_some_and(|mode| mode.as_str() == "ENABLED");
    let sum = |kind| checksum(&object, kind, wants_checksum && range.is_none());
    let described = Described::of(&object);
    let body = match &range {
        Some(range) => whole.slice(range.clone()),
        None => whole,
    };
    Ok(GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        checksum_crc32: sum(ChecksumKind::Crc32),
        checksum_crc32c: sum(ChecksumKind::Crc32C),
        checksum_crc64nvme: sum(ChecksumKind::Crc64Nvme),
        checksum_sha1: sum(ChecksumKind::Sha1),
        checksum_sha256: sum(ChecksumKind::Sha256),
        checksum_type: (wants_checksum && range.is_none()).then(|| described.checksum_type.clone()).flatten(),
        content_length: i64::try_from(body.len()).ok(),
        content_range: range.map(|range| format!("bytes {}-{}/{}", range.start, range.end - 1, object.size())),
        body: Some(StreamingBlob::from(Body::from(body))),
        content_encoding: object.content_encoding.clone(),
        content_type: described.content_type,
        e_tag: Some(described.etag),
        last_modified: Some(described.modified),
        metadata: described.metadata,
        object_lock_mode: object.lock.as_ref().map(|lock| ObjectLockMode::from(lock.mode.clone())),
        object_lock_retain_until_date: object.lock.as_ref().map(retained_until),
        server_side_encryption: Some(described.encryption),
        ssekms_key_id: described.key_arn,
        storage_class: described.storage_class,
        ..GetObjectOutput::default()
    })
}

pub(super) fn head(world: &World, caller: &Caller, input: &HeadObjectInput) -> Result<HeadObjectOutput, Failure> {
    let version = input.version_id.as_deref();
    let object = readable(world, caller, &input.bucket, &input.key, version)?;
    Conditions {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    }
    .check(&object)?;
    let wants_checksum = input.checksum_mode.as_ref().is_some_and(|mode| mode.as_str() == "ENABLED");
    let sum = |kind| checksum(&object, kind, wants_checksum);
    let described = Described::of(&object);
    Ok(HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        checksum_crc32: sum(ChecksumKind::Crc32),
        checksum_crc32c: sum(ChecksumKind::Crc32C),
        checksum_crc64nvme: sum(ChecksumKind::Crc64Nvme),
        checksum_sha1: sum(ChecksumKind::Sha1),
        checksum_sha256: sum(ChecksumKind::Sha256),
        checksum_type: wants_checksum.then(|| described.checksum_type.clone()).flatten(),
        content_length: i64::try_from(object.size()).ok(),
        content_encoding: object.content_encoding.clone(),
        content_type: described.content_type,
        e_tag: Some(described.etag),
        last_modified: Some(described.modified),
        metadata: described.metadata,
        object_lock_mode: object.lock.as_ref().map(|lock| ObjectLockMode::from(lock.mode.clone())),
        object_lock_retain_until_date: object.lock.as_ref().map(retained_until),
        server_side_encryption: Some(described.encryption),
        ssekms_key_id: described.key_arn,
        storage_class: described.storage_class,
        ..HeadObjectOutput::default()
    })
}

/// The object, if it is there and its key may be used. Whether it is missing is told only to those
/// who may list.
pub(super) fn readable(
    world: &World,
    caller: &Caller,
    bucket: &str,
    key: &str,
    version: Option<&str>,
) -> Result<Arc<StoredObject>, Failure> {
    let context = caller.context(world.clock().now());
    let found = world.object(bucket, key);
    let Some(object) = found else {
        return Err(match may(world, caller, "s3:ListBucket", bucket, None, context) {
            true => Failure::no_such_key(key),
            false => Failure::access_denied(),
        });
    };
    if version.is_some_and(|version| version != "null") {
        let message = "The specified version does not exist.";
        return Err(Failure::new(StatusCode::NOT_FOUND, "NoSuchVersion", message));
    }
    match &object.sse {
        Sse::Kms { key_arn } if !may_decrypt(world, caller, bucket, key, key_arn) => {
            Err(Failure::decrypt_denied(&caller.arn, key_arn))
        }
        _ => Ok(object),
    }
}

fn may_decrypt(world: &World, caller: &Caller, bucket: &str, key: &str, key_arn: &str) -> bool {
    let region = key_arn.split(':').nth(3).unwrap_or_default();
    let policy = world.key_policy(key_arn);
    let context = caller
        .context(world.clock().now())
        .with("kms:ViaService", format!("s3.{region}.amazonaws.com"))
        .with("kms:CallerAccount", caller.account())
        .with("kms:EncryptionContext:aws:s3:arn", format!("arn:aws:s3:::{bucket}/{key}"));
    let context = match key.contains("/CloudTrail") {
        // What CloudTrail writes is encrypted in the context of its trail (`Encrypting CloudTrail log files`).
        true => context
            .with("kms:EncryptionContext:aws:cloudtrail:arn", "arn:aws:cloudtrail:us-east-1:111111111111:trail/t"),
        false => context,
    };
    caller.may(&Ask {
        action: "kms:Decrypt",
        resource: key_arn,
        owner: account_of(key_arn),
        resource_policy: Some(&policy),
        context,
    })
}

impl Conditions<'_> {
    /// In the order of RFC 9110: an `ETag` that matches outweighs a date.
    fn check(&self, object: &StoredObject) -> Result<(), Failure> {
        let is = |condition: &ETagCondition| condition_holds(condition, &object.etag);
        let modified = stamp(object);
        let unmodified = self.if_unmodified_since.is_none_or(|since| modified <= *since);
        if self.if_match.is_some_and(|wanted| !is(wanted)) {
            return Err(Failure::precondition("If-Match"));
        }
        if self.if_match.is_none() && !unmodified {
            return Err(Failure::precondition("If-Unmodified-Since"));
        }
        let changed = match self.if_none_match {
            Some(unwanted) => !is(unwanted),
            None => self.if_modified_since.is_none_or(|since| modified > *since),
        };
        if changed {
            return Ok(());
        }
        let etag = format!("\"{}\"", object.etag);
        Err(Failure::new(StatusCode::NOT_MODIFIED, "NotModified", "Not Modified").header("etag", etag))
    }
}

pub(super) fn condition_holds(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == etag,
    }
}

fn within(range: &Range, size: u64) -> Result<std::ops::Range<usize>, Failure> {
    let unsatisfiable = || {
        let message = "The requested range is not satisfiable";
        Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message)
            .detail("ActualObjectSize", size.to_string())
            .header("content-range", format!("bytes */{size}"))
    };
    let range = range.check(size).map_err(|_| unsatisfiable())?;
    let start = usize::try_from(range.start).map_err(|_| unsatisfiable())?;
    let end = usize::try_from(range.end).map_err(|_| unsatisfiable())?;
    Ok(start..end)
}

fn checksum(object: &StoredObject, kind: ChecksumKind, wanted: bool) -> Option<String> {
    (wanted && object.checksum == Some(kind)).then(|| object.checksum_value()).flatten()
}

/// What every answer about an object says of it.
struct Described {
    etag: ETag,
    modified: Timestamp,
    metadata: Option<s3s::dto::Metadata>,
    content_type: Option<String>,
    encryption: ServerSideEncryption,
    key_arn: Option<String>,
    storage_class: Option<StorageClass>,
    checksum_type: Option<ChecksumType>,
}

impl Described {
    fn of(object: &StoredObject) -> Described {
        let (encryption, key_arn) = encryption(&object.sse);
        let metadata = object.metadata.clone().into_iter().collect();
        let content_type = object.content_type.as_deref().unwrap_or("binary/octet-stream");
        let of_parts = object.composite.is_some();
        let checksum_type =
            ChecksumType::from_static(if of_parts { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT });
        Described {
            etag: ETag::Strong(object.etag.clone()),
            modified: stamp(object),
            metadata: (!object.metadata.is_empty()).then_some(metadata),
            content_type: Some(content_type.to_owned()),
            encryption,
            key_arn,
            storage_class: (object.storage_class != STANDARD).then(|| StorageClass::from(object.storage_class.clone())),
            checksum_type: object.checksum.map(|_| checksum_type),
        }
    }
}

pub(super) fn encryption(sse: &Sse) -> (ServerSideEncryption, Option<String>) {
    match sse {
        Sse::None => (ServerSideEncryption::from_static(ServerSideEncryption::AES256), None),
        Sse::Kms { key_arn } => {
            let kms = ServerSideEncryption::from_static(ServerSideEncryption::AWS_KMS);
            (kms, Some(key_arn.clone()))
        }
    }
}

fn retained_until(lock: &Lock) -> Timestamp {
    Timestamp::from(crate::clock::system_time(lock.retain_until))
}

pub(super) fn stamp(object: &StoredObject) -> Timestamp {
    Timestamp::from(crate::clock::system_time(object.modified))
}
