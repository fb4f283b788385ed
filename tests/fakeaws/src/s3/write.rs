//! Writing, copying and deleting objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::HeaderMap;
use s3s::S3Request;
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, Error, ObjectLockMode, PutObjectInput,
    PutObjectOutput, ServerSideEncryption, StreamingBlob, Timestamp, TimestampFormat,
};

use super::Buckets;
use super::access::may;
use super::read::{condition_holds, encryption, readable, stamp};
use crate::caller::Caller;
use crate::failure::Failure;
use crate::faults::Fault;
use crate::object::{Body, ChecksumKind, Entry, Lock, ObjectSpec, STANDARD, Sse, StoredObject, md5_hex};
use crate::world::World;

pub(super) async fn put(world: &World, request: S3Request<PutObjectInput>) -> Result<PutObjectOutput, Failure> {
    let deaf = Buckets::known(&request)?.faults.contains(&Fault::IgnoresConditions);
    let input = request.input;
    let lock =
        lock(world, &input.bucket, input.object_lock_mode.as_ref(), input.object_lock_retain_until_date.as_ref())?;
    let summed = ["content-md5", "x-amz-sdk-checksum-algorithm"].iter().any(|name| request.headers.contains_key(*name));
    if lock.is_some() && !summed {
        let message = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
        return Err(Failure::bad_request("InvalidRequest", message));
    }
    let (body, trailers) = receive(input.body, request.trailing_headers.as_ref()).await?;
    check_md5(input.content_md5.as_deref(), &body)?;
    let given = given_checksums(&request.headers, &trailers);
    let kind = check_checksums(&given, &body)?;
    let spec = ObjectSpec {
        body: Body::Bytes(body),
        metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        content_type: input.content_type,
        content_encoding: stored_encoding(input.content_encoding.as_deref()),
        storage_class: input.storage_class.map_or(STANDARD.to_owned(), |class| class.as_str().to_owned()),
        sse: requested_encryption(input.server_side_encryption.as_ref(), input.ssekms_key_id),
        checksum: Some(kind),
        lock,
        ..ObjectSpec::default()
    };
    let if_none_match = input.if_none_match.is_some() && !deaf;
    let conditions = PutConditions { if_match: input.if_match.as_ref(), if_none_match };
    let stored = store(world, &input.bucket, &input.key, spec, &conditions)?;
    let sum = |kind| checksum_of(&stored, kind);
    let (server_side_encryption, ssekms_key_id) = encryption(&stored.sse);
    Ok(PutObjectOutput {
        checksum_crc32: sum(ChecksumKind::Crc32),
        checksum_crc32c: sum(ChecksumKind::Crc32C),
        checksum_crc64nvme: sum(ChecksumKind::Crc64Nvme),
        checksum_sha1: sum(ChecksumKind::Sha1),
        checksum_sha256: sum(ChecksumKind::Sha256),
        e_tag: Some(ETag::Strong(stored.etag.clone())),
        server_side_encryption: Some(server_side_encryption),
        ssekms_key_id,
        ..PutObjectOutput::default()
    })
}

/// The retention that comes with an object: mode and date together, for a bucket that has Object Lock.
pub(super) fn lock(
    world: &World,
    bucket: &str,
    mode: Option<&ObjectLockMode>,
    until: Option<&Timestamp>,
) -> Result<Option<Lock>, Failure> {
    let (mode, until) = match (mode, until) {
        (None, None) => return Ok(None),
        (Some(mode), Some(until)) => (mode.as_str().to_owned(), until),
        _ => {
            let message = "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied";
            return Err(Failure::bad_request("InvalidArgument", message));
        }
    };
    let may_lock = world.inner().buckets.read().get(bucket).is_some_and(|bucket| bucket.object_lock);
    if !may_lock {
        return Err(Failure::bad_request("InvalidRequest", "Bucket is missing Object Lock Configuration"));
    }
    let mut text = Vec::new();
    let written = until.format(TimestampFormat::DateTime, &mut text).is_ok();
    let until = String::from_utf8(text).ok().filter(|_| written).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match until {
        Some(retain_until) if retain_until > world.clock().now() => Ok(Some(Lock { mode, retain_until })),
        _ => Err(Failure::bad_request("InvalidArgument", "The retain until date must be in the future!")),
    }
}

/// What must hold at the moment of writing.
#[derive(Default)]
pub(super) struct PutConditions<'a> {
    pub if_match: Option<&'a ETagCondition>,
    /// S3 knows `*` only.
    pub if_none_match: bool,
}

/// Checks the conditions and writes, as one step.
pub(super) fn store(
    world: &World,
    bucket: &str,
    key: &str,
    spec: ObjectSpec,
    conditions: &PutConditions<'_>,
) -> Result<StoredObject, Failure> {
    if key.len() > 1_024 {
        return Err(Failure::bad_request("KeyTooLongError", "Your key is too long"));
    }
    let stored = StoredObject::new(spec, world.clock().now());
    let mut buckets = world.inner().buckets.write();
    let found = buckets.get_mut(bucket).ok_or_else(|| Failure::no_such_bucket(bucket))?;
    let present = found.store.get(key).map(Entry::object);
    if conditions.if_none_match && present.is_some() {
        return Err(Failure::precondition("If-None-Match"));
    }
    match (conditions.if_match, present) {
        (Some(_), None) => return Err(Failure::no_such_key(key)),
        (Some(wanted), Some(present)) if !condition_holds(wanted, &present.etag) => {
            return Err(Failure::precondition("If-Match"));
        }
        _ => {}
    }
    found.store.put(key, Entry::Whole(stored.clone().into()));
    Ok(stored)
}

/// Reads a body to its end, and the headers that trail it.
pub(super) async fn receive(
    body: Option<StreamingBlob>,
    trailers: Option<&s3s::TrailingHeaders>,
) -> Result<(Bytes, HeaderMap), Failure> {
    let mut received = BytesMut::new();
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|why| Failure::bad_request("IncompleteBody", why.to_string()))?;
            received.extend_from_slice(&chunk);
        }
    }
    let trailers = trailers.and_then(s3s::TrailingHeaders::take).unwrap_or_default();
    Ok((received.freeze(), trailers))
}

pub(super) fn check_md5(given: Option<&str>, body: &[u8]) -> Result<(), Failure> {
    let Some(given) = given else {
        return Ok(());
    };
    match BASE64.decode(given) {
        Ok(given) if given.len() == 16 && hex::encode(&given) == md5_hex(body) => Ok(()),
        Ok(given) if given.len() == 16 => {
            Err(Failure::bad_request("BadDigest", "The Content-MD5 you specified did not match what we received."))
        }
        _ => Err(Failure::bad_request("InvalidDigest", "The Content-MD5 you specified was invalid.")),
    }
}

const CHECKSUMS: [(&str, ChecksumKind); 5] = [
    ("x-amz-checksum-crc64nvme", ChecksumKind::Crc64Nvme),
    ("x-amz-checksum-crc32", ChecksumKind::Crc32),
    ("x-amz-checksum-crc32c", ChecksumKind::Crc32C),
    ("x-amz-checksum-sha1", ChecksumKind::Sha1),
    ("x-amz-checksum-sha256", ChecksumKind::Sha256),
];

/// The checksums that came with a body, before or behind it.
pub(super) fn given_checksums(headers: &HeaderMap, trailers: &HeaderMap) -> Vec<(ChecksumKind, String)> {
    let find = |(name, kind): (&str, ChecksumKind)| {
        let value = headers.get(name).or_else(|| trailers.get(name))?;
        Some((kind, value.to_str().ok()?.to_owned()))
    };
    CHECKSUMS.into_iter().filter_map(find).collect()
}

/// Which checksum is to be kept: the one given, if it is right, else S3's own choice.
pub(super) fn check_checksums(given: &[(ChecksumKind, String)], body: &[u8]) -> Result<ChecksumKind, Failure> {
    for (kind, value) in given {
        if kind.of(body) != *value {
            let name = kind.name();
            let message = format!("The {name} you specified did not match the calculated checksum.");
            return Err(Failure::bad_request("BadDigest", message));
        }
    }
    Ok(given.first().map_or(ChecksumKind::Crc64Nvme, |(kind, _)| *kind))
}

fn checksum_of(stored: &StoredObject, kind: ChecksumKind) -> Option<String> {
    (stored.checksum == Some(kind)).then(|| stored.checksum_value()).flatten()
}

/// `aws-chunked` describes the transfer and is not stored.
pub(super) fn stored_encoding(given: Option<&str>) -> Option<String> {
    let kept: Vec<&str> = given?
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

pub(super) fn requested_encryption(kind: Option<&ServerSideEncryption>, key: Option<String>) -> Sse {
    match (kind.map(ServerSideEncryption::as_str), key) {
        (Some("aws:kms" | "aws:kms:dsse"), Some(key_arn)) => Sse::Kms { key_arn },
        _ => Sse::None,
    }
}

pub(super) fn copy(
    world: &World,
    caller: &Caller,
    request: &S3Request<CopyObjectInput>,
) -> Result<CopyObjectOutput, Failure> {
    let input = &request.input;
    let source = copy_source(world, caller, input)?;
    let deaf = Buckets::known(request)?.faults.contains(&Fault::IgnoresConditions);
    let if_none_match = request.headers.contains_key("if-none-match") && !deaf;
    let conditions = PutConditions { if_match: None, if_none_match };
    let (mode, until) = (&input.object_lock_mode, &input.object_lock_retain_until_date);
    let lock = lock(world, &input.bucket, mode.as_ref(), until.as_ref())?;
    let spec = ObjectSpec { lock, ..copied(&source, input) };
    let stored = store(world, &input.bucket, &input.key, spec, &conditions)?;
    let result = CopyObjectResult {
        e_tag: Some(ETag::Strong(stored.etag.clone())),
        last_modified: Some(stamp(&stored)),
        checksum_crc64nvme: checksum_of(&stored, ChecksumKind::Crc64Nvme),
        checksum_sha256: checksum_of(&stored, ChecksumKind::Sha256),
        ..CopyObjectResult::default()
    };
    Ok(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() })
}

/// What is to be copied; the same credentials must be allowed to read it.
fn copy_source(world: &World, caller: &Caller, input: &CopyObjectInput) -> Result<Arc<StoredObject>, Failure> {
    let CopySource::Bucket { bucket, key, version_id } = &input.copy_source else {
        let message = "Copying from an access point is not supported here.";
        return Err(Failure::bad_request("InvalidRequest", message));
    };
    let context = caller.context(world.clock().now());
    if !may(world, caller, "s3:GetObject", bucket, Some(key), context) {
        return Err(Failure::access_denied());
    }
    let source = readable(world, caller, bucket, key, version_id.as_deref())?;
    if source.is_archived() {
        let message = "The source object of the COPY action is not in the active tier.";
        return Err(Failure::forbidden("ObjectNotInActiveTierError", message));
    }
    match &input.copy_source_if_match {
        Some(wanted) if !condition_holds(wanted, &source.etag) => {
            Err(Failure::precondition("x-amz-copy-source-If-Match"))
        }
        _ => Ok(source),
    }
}

/// Metadata goes with the bytes unless it is replaced; storage class and encryption never do.
fn copied(source: &StoredObject, input: &CopyObjectInput) -> ObjectSpec {
    let directive = input.metadata_directive.as_ref().map(|directive| directive.as_str());
    let sse = requested_encryption(input.server_side_encryption.as_ref(), input.ssekms_key_id.clone());
    let storage_class = input.storage_class.as_ref();
    let storage_class = storage_class.map_or(STANDARD.to_owned(), |class| class.as_str().to_owned());
    let (metadata, content_type, content_encoding): (BTreeMap<_, _>, _, _) = if directive == Some("REPLACE") {
        let metadata = input.metadata.clone().unwrap_or_default();
        (metadata.into_iter().collect(), input.content_type.clone(), input.content_encoding.clone())
    } else {
        (source.metadata.clone(), source.content_type.clone(), source.content_encoding.clone())
    };
    let asked = input.checksum_algorithm.as_ref().filter(|algorithm| algorithm.as_str() == "SHA256");
    let asked = asked.map(|_| ChecksumKind::Sha256);
    ObjectSpec {
        body: source.body.clone(),
        metadata,
        content_type,
        content_encoding,
        storage_class,
        sse,
        checksum: asked.or(source.checksum).or(Some(ChecksumKind::Crc64Nvme)),
        ..ObjectSpec::default()
    }
}

/// Removes an object; with `If-Match`, only the version that is meant ("How to perform conditional deletes").
///
/// Without it, one that is not there is removed as well as any other.
pub(super) fn delete(
    world: &World,
    caller: &Caller,
    input: &DeleteObjectInput,
    deaf: bool,
) -> Result<DeleteObjectOutput, Failure> {
    let sees = may(world, caller, "s3:ListBucket", &input.bucket, None, caller.context(world.clock().now()));
    let mut buckets = world.inner().buckets.write();
    let found = buckets.get_mut(&input.bucket).ok_or_else(|| Failure::no_such_bucket(&input.bucket))?;
    let etag = found.store.get(&input.key).map(Entry::object).map(|object| object.etag.clone());
    if let Some(wanted) = input.if_match.as_ref().filter(|_| !deaf) {
        // Whoever may not list does not learn what is not there.
        let absent = || if sees { Failure::no_such_key(&input.key) } else { Failure::access_denied() };
        let etag = etag.ok_or_else(absent)?;
        if !condition_holds(wanted, &etag) {
            return Err(Failure::precondition("If-Match"));
        }
    }
    found.store.delete(&input.key);
    Ok(DeleteObjectOutput::default())
}

/// Answers 200 whatever happens; each refusal is an entry of its own.
pub(super) fn delete_many(world: &World, caller: &Caller, input: &DeleteObjectsInput) -> DeleteObjectsOutput {
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for object in &input.delete.objects {
        let context = caller.context(world.clock().now());
        if may(world, caller, "s3:DeleteObject", &input.bucket, Some(&object.key), context) {
            world.delete_object(&input.bucket, &object.key);
            deleted.push(DeletedObject { key: Some(object.key.clone()), ..DeletedObject::default() });
        } else {
            errors.push(Error {
                code: Some("AccessDenied".to_owned()),
                key: Some(object.key.clone()),
                message: Some("Access Denied".to_owned()),
                ..Error::default()
            });
        }
    }
    let quiet = input.delete.quiet.unwrap_or_default();
    DeleteObjectsOutput {
        deleted: (!quiet).then_some(deleted),
        errors: (!errors.is_empty()).then_some(errors),
        ..DeleteObjectsOutput::default()
    }
}
