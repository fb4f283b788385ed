//! Multipart uploads: parts wait beside the bucket until they are put together.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use s3s::S3Request;
use s3s::dto::{
    AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag, UploadPartInput, UploadPartOutput,
};

use super::write::{
    PutConditions, check_checksums, check_md5, given_checksums, receive, requested_encryption, store, stored_encoding,
};
use crate::failure::Failure;
use crate::object::{Body, ChecksumKind, ObjectSpec, STANDARD, Sse, md5_hex};
use crate::sync::Shared;
use crate::world::World;

/// The uploads that have begun and not ended.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Shared<BTreeMap<String, Upload>>);

#[derive(Debug)]
struct Upload {
    bucket: String,
    key: String,
    spec: ObjectSpec,
    parts: BTreeMap<i32, Bytes>,
}

fn no_such_upload() -> Failure {
    let message = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.";
    Failure::new(StatusCode::NOT_FOUND, "NoSuchUpload", message)
}

pub(super) fn create(world: &World, input: CreateMultipartUploadInput) -> CreateMultipartUploadOutput {
    let spec = ObjectSpec {
        metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        content_type: input.content_type,
        content_encoding: stored_encoding(input.content_encoding.as_deref()),
        storage_class: input.storage_class.map_or(STANDARD.to_owned(), |class| class.as_str().to_owned()),
        sse: requested_encryption(input.server_side_encryption.as_ref(), input.ssekms_key_id),
        ..ObjectSpec::default()
    };
    let id = hex::encode(fastrand::u128(..).to_be_bytes());
    let upload = Upload { bucket: input.bucket.clone(), key: input.key.clone(), spec, parts: BTreeMap::new() };
    world.inner().uploads.0.write().insert(id.clone(), upload);
    CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        ..CreateMultipartUploadOutput::default()
    }
}

pub(super) async fn upload_part(
    world: &World,
    request: S3Request<UploadPartInput>,
) -> Result<UploadPartOutput, Failure> {
    let input = request.input;
    let (body, trailers) = receive(input.body, request.trailing_headers.as_ref()).await?;
    check_md5(input.content_md5.as_deref(), &body)?;
    let given = given_checksums(&request.headers, &trailers);
    check_checksums(&given, &body)?;
    let sum = |wanted: ChecksumKind| {
        let found = given.iter().find(|(kind, _)| *kind == wanted);
        found.map(|(_, value)| value.clone())
    };
    let etag = md5_hex(&body);
    let mut uploads = world.inner().uploads.0.write();
    let upload = uploads.get_mut(&input.upload_id).ok_or_else(no_such_upload)?;
    upload.parts.insert(input.part_number, body);
    Ok(UploadPartOutput {
        checksum_crc32: sum(ChecksumKind::Crc32),
        checksum_crc32c: sum(ChecksumKind::Crc32C),
        checksum_crc64nvme: sum(ChecksumKind::Crc64Nvme),
        checksum_sha1: sum(ChecksumKind::Sha1),
        checksum_sha256: sum(ChecksumKind::Sha256),
        e_tag: Some(ETag::Strong(etag)),
        ..UploadPartOutput::default()
    })
}

pub(super) fn complete(
    world: &World,
    input: &CompleteMultipartUploadInput,
) -> Result<CompleteMultipartUploadOutput, Failure> {
    let named = input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_deref());
    let (body, etag, mut spec) = {
        let uploads = world.inner().uploads.0.read();
        let upload = uploads.get(&input.upload_id).ok_or_else(no_such_upload)?;
        if (&upload.bucket, &upload.key) != (&input.bucket, &input.key) {
            return Err(no_such_upload());
        }
        let (body, etag) = assembled(upload, named.unwrap_or_default())?;
        (body, etag, upload.spec.clone())
    };
    spec.body = Body::Bytes(body);
    spec.etag = (spec.sse == Sse::None).then_some(etag);
    let conditions = PutConditions { if_match: input.if_match.as_ref(), if_none_match: input.if_none_match.is_some() };
    let stored = store(world, &input.bucket, &input.key, spec, &conditions)?;
    world.inner().uploads.0.write().remove(&input.upload_id);
    Ok(CompleteMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        checksum_crc64nvme: stored.checksum_value(),
        e_tag: Some(ETag::Strong(stored.etag)),
        key: Some(input.key.clone()),
        ..CompleteMultipartUploadOutput::default()
    })
}

/// The named parts in order, and the MD5 of their MD5s with their number.
fn assembled(upload: &Upload, named: &[s3s::dto::CompletedPart]) -> Result<(Bytes, String), Failure> {
    let invalid = || {
        let message = "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.";
        Failure::bad_request("InvalidPart", message)
    };
    let (mut body, mut sums, mut last) = (BytesMut::new(), Vec::new(), 0);
    for part in named {
        let number = part.part_number.unwrap_or_default();
        if number <= last {
            let message = "The list of parts was not in ascending order. Parts must be ordered by part number.";
            return Err(Failure::bad_request("InvalidPartOrder", message));
        }
        last = number;
        let bytes = upload.parts.get(&number).ok_or_else(invalid)?;
        let etag = md5_hex(bytes);
        if part.e_tag.as_ref().is_some_and(|given| given.value() != etag) {
            return Err(invalid());
        }
        sums.extend(hex::decode(&etag).unwrap_or_default());
        body.extend_from_slice(bytes);
    }
    if named.is_empty() {
        return Err(Failure::bad_request("MalformedXML", "The XML you provided was not well-formed."));
    }
    Ok((body.freeze(), format!("{}-{}", md5_hex(&sums), named.len())))
}

pub(super) fn abort(world: &World, upload_id: &str) -> Result<AbortMultipartUploadOutput, Failure> {
    let removed = world.inner().uploads.0.write().remove(upload_id);
    removed.map(|_| AbortMultipartUploadOutput::default()).ok_or_else(no_such_upload)
}
