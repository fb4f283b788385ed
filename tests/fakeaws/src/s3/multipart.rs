//! Multipart uploads: parts wait beside the bucket until they are put together.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use s3s::S3Request;
use s3s::dto::{
    AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag, ListMultipartUploadsInput, UploadPartInput,
    UploadPartOutput,
};

use super::NAMESPACE;
use super::list::Encoding;
use super::write::{
    PutConditions, check_checksums, check_md5, given_checksums, lock, receive, requested_encryption, store,
    stored_encoding,
};
use crate::failure::Failure;
use crate::object::{Body, ChecksumKind, ObjectSpec, STANDARD, Sse, md5_hex};
use crate::sync::Shared;
use crate::world::World;
use crate::xml::Xml;

/// The uploads that have begun and not ended.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Shared<BTreeMap<String, Upload>>);

impl Uploads {
    /// Keys of the uploads to a bucket, in order.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let uploads = self.0.read();
        let mut keys: Vec<String> =
            uploads.values().filter(|upload| upload.bucket == bucket).map(|upload| upload.key.clone()).collect();
        keys.sort_unstable();
        keys
    }
}

/// No part but the last may be smaller.
const LEAST_PART: usize = 5 << 20;

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

pub(super) fn create(world: &World, input: CreateMultipartUploadInput) -> Result<CreateMultipartUploadOutput, Failure> {
    let (mode, until) = (input.object_lock_mode.as_ref(), input.object_lock_retain_until_date.as_ref());
    let of_parts = input.checksum_algorithm.as_ref().is_some_and(|kind| kind.as_str() == "SHA256");
    let spec = ObjectSpec {
        metadata: input.metadata.unwrap_or_default().into_iter().collect(),
        content_type: input.content_type,
        content_encoding: stored_encoding(input.content_encoding.as_deref()),
        storage_class: input.storage_class.map_or(STANDARD.to_owned(), |class| class.as_str().to_owned()),
        sse: requested_encryption(input.server_side_encryption.as_ref(), input.ssekms_key_id),
        checksum: Some(if of_parts { ChecksumKind::Sha256 } else { ChecksumKind::Crc64Nvme }),
        lock: lock(world, &input.bucket, mode, until)?,
        ..ObjectSpec::default()
    };
    let id = hex::encode(fastrand::u128(..).to_be_bytes());
    let upload = Upload { bucket: input.bucket.clone(), key: input.key.clone(), spec, parts: BTreeMap::new() };
    world.inner().uploads.0.write().insert(id.clone(), upload);
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        ..CreateMultipartUploadOutput::default()
    })
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
        let (body, etag, composite) = assembled(upload, named.unwrap_or_default())?;
        let spec = upload.spec.clone();
        let composite = (spec.checksum == Some(ChecksumKind::Sha256)).then_some(composite);
        (body, etag, ObjectSpec { composite, ..spec })
    };
    spec.body = Body::Bytes(body);
    spec.etag = (spec.sse == Sse::None).then_some(etag);
    let conditions = PutConditions { if_match: input.if_match.as_ref(), if_none_match: input.if_none_match.is_some() };
    let stored = store(world, &input.bucket, &input.key, spec, &conditions)?;
    world.inner().uploads.0.write().remove(&input.upload_id);
    Ok(CompleteMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        checksum_crc64nvme: stored.checksum_value().filter(|_| stored.composite.is_none()),
        checksum_sha256: stored.composite.clone(),
        e_tag: Some(ETag::Strong(stored.etag)),
        key: Some(input.key.clone()),
        ..CompleteMultipartUploadOutput::default()
    })
}

/// The named parts in order, and the MD5 of their MD5s and the SHA-256 of their SHA-256s with their number.
fn assembled(upload: &Upload, named: &[s3s::dto::CompletedPart]) -> Result<(Bytes, String, String), Failure> {
    let invalid = || {
        let message = "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.";
        Failure::bad_request("InvalidPart", message)
    };
    let (mut body, mut sums, mut hashes, mut last) = (BytesMut::new(), Vec::new(), Vec::new(), 0);
    for (at, part) in named.iter().enumerate() {
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
        if at + 1 < named.len() && bytes.len() < LEAST_PART {
            let message = "Your proposed upload is smaller than the minimum allowed size";
            return Err(Failure::bad_request("EntityTooSmall", message));
        }
        sums.extend(hex::decode(&etag).unwrap_or_default());
        hashes.extend_from_slice(digest(&SHA256, bytes).as_ref());
        body.extend_from_slice(bytes);
    }
    if named.is_empty() {
        return Err(Failure::bad_request("MalformedXML", "The XML you provided was not well-formed."));
    }
    let composite = format!("{}-{}", BASE64.encode(digest(&SHA256, &hashes)), named.len());
    Ok((body.freeze(), format!("{}-{}", md5_hex(&sums), named.len()), composite))
}

pub(super) fn abort(world: &World, upload_id: &str) -> Result<AbortMultipartUploadOutput, Failure> {
    let removed = world.inner().uploads.0.write().remove(upload_id);
    removed.map(|_| AbortMultipartUploadOutput::default()).ok_or_else(no_such_upload)
}

/// A page of the uploads under a prefix, by key and id.
pub(super) fn list(world: &World, input: &ListMultipartUploadsInput) -> Result<String, Failure> {
    let encoding = Encoding::named(input.encoding_type.as_ref().map(|kind| kind.as_str()))?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let most = input.max_uploads.and_then(|most| usize::try_from(most).ok()).unwrap_or(1_000).min(1_000);
    let marker = (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone());
    let is_after = |key: &str, id: &str| match &marker {
        (after, None) => key > after.as_str(),
        (after, Some(after_id)) => (key, id) > (after.as_str(), after_id.as_str()),
    };
    let mut found: Vec<(String, String)> = {
        let uploads = world.inner().uploads.0.read();
        let here = uploads.iter().filter(|(_, upload)| upload.bucket == input.bucket && upload.key.starts_with(prefix));
        here.map(|(id, upload)| (upload.key.clone(), id.clone())).collect()
    };
    found.sort_unstable();
    found.retain(|(key, id)| is_after(key, id));
    let truncated = found.len() > most;
    found.truncate(most);
    let mut xml = Xml::document();
    xml.open_in("ListMultipartUploadsResult", NAMESPACE).text("Bucket", &input.bucket);
    encoding.announce(&mut xml);
    xml.text("Prefix", &encoding.of(prefix)).flag("IsTruncated", truncated);
    if let Some((key, id)) = found.last().filter(|_| truncated) {
        xml.text("NextKeyMarker", &encoding.of(key)).text("NextUploadIdMarker", id);
    }
    for (key, id) in &found {
        xml.open("Upload").text("Key", &encoding.of(key)).text("UploadId", id).close("Upload");
    }
    Ok(xml.close("ListMultipartUploadsResult").finish())
}
