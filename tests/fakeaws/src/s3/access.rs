//! Whether a request may be: the bucket is here, it is the expected one, and policies allow it.

use http::StatusCode;
use http::header::HeaderMap;
use s3s::access::{S3Access, S3AccessContext};
use s3s::{S3Error, S3Result};

use super::Known;
use crate::caller::{Ask, Caller};
use crate::failure::Failure;
use crate::iam::Context;
use crate::world::World;

pub(super) struct Access(pub World);

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        if cx.credentials().is_none() {
            return Err(Failure::access_denied().into());
        }
        let bucket = cx.s3_path().get_bucket_name().map(str::to_owned);
        let key = cx.s3_path().get_object_key().map(str::to_owned);
        let op = cx.s3_op().name().to_owned();
        let Some(known) = cx.extensions_mut().get::<Known>().cloned() else {
            return Err(Failure::access_denied().into());
        };
        let Some(bucket) = bucket else {
            return root_access(&self.0, &known.caller);
        };
        check_bucket(&self.0, &op, &bucket, &known.region, cx.headers())?;
        // Each object that is to go is asked about when it is its turn.
        if op == "DeleteObjects" {
            return Ok(());
        }
        let query = cx.uri().query().unwrap_or_default();
        let action = action(&op, query);
        let context = list_context(&op, query, known.caller.context(self.0.clock().now()));
        let mut context = write_context(&op, cx.headers(), context);
        let condition = cx.headers().get("if-match").and_then(|value| value.to_str().ok()).map(str::to_owned);
        if let Some(tag) = condition.as_ref().filter(|_| op == "DeleteObject") {
            context.set("s3:if-match", tag.as_str());
        }
        let may = |action: &str| may(&self.0, &known.caller, action, &bucket, key.as_deref(), context.clone());
        // Whoever deletes by a tag learns whether it is right: that takes what reading takes.
        let compares = op == "DeleteObject" && condition.as_deref().is_some_and(|tag| tag != "*");
        if may(&action) && (!compares || may("s3:GetObject")) { Ok(()) } else { Err(Failure::access_denied().into()) }
    }
}

fn root_access(world: &World, caller: &Caller) -> S3Result<()> {
    let ask = Ask {
        action: "s3:ListAllMyBuckets",
        resource: "*",
        owner: caller.account(),
        resource_policy: None,
        context: caller.context(world.clock().now()),
    };
    match caller.may(&ask) {
        true => Ok(()),
        false => Err(S3Error::from(Failure::access_denied())),
    }
}

/// What must hold before permissions matter.
fn check_bucket(world: &World, op: &str, bucket: &str, signed: &str, headers: &HeaderMap) -> Result<(), Failure> {
    let (owner, region) = {
        let buckets = world.inner().buckets.read();
        let found = buckets.get(bucket).ok_or_else(|| Failure::no_such_bucket(bucket))?;
        (found.owner.clone(), found.region.clone())
    };
    // The location of any bucket may be asked of the first region.
    if !(op == "GetBucketLocation" && signed == "us-east-1") {
        check_region(world, bucket, &region, signed)?;
    }
    let expected = headers.get("x-amz-expected-bucket-owner");
    match expected {
        Some(expected) if expected.as_bytes() != owner.as_bytes() => Err(Failure::access_denied()),
        _ => Ok(()),
    }
}

fn check_region(world: &World, bucket: &str, region: &str, signed: &str) -> Result<(), Failure> {
    let pinned = world.inner().endpoint_region.read().clone();
    let endpoint = pinned.as_deref().unwrap_or(signed);
    if endpoint != region {
        return Err(elsewhere(bucket, region));
    }
    if signed != endpoint {
        let message =
            format!("The authorization header is malformed; the region '{signed}' is wrong; expecting '{endpoint}'");
        return Err(Failure::bad_request("AuthorizationHeaderMalformed", message)
            .detail("Region", endpoint)
            .header("x-amz-bucket-region", region));
    }
    Ok(())
}

/// A redirect that names no place to go: only the region's name, in a header.
fn elsewhere(bucket: &str, region: &str) -> Failure {
    let message = "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.";
    Failure::new(StatusCode::MOVED_PERMANENTLY, "PermanentRedirect", message)
        .detail("Endpoint", format!("{bucket}.s3.{region}.amazonaws.com"))
        .detail("Bucket", bucket)
        .header("x-amz-bucket-region", region)
}

/// Whether the caller may do this to a bucket, or to a key in it.
pub(super) fn may(
    world: &World,
    caller: &Caller,
    action: &str,
    bucket: &str,
    key: Option<&str>,
    context: Context,
) -> bool {
    let (owner, policy) = {
        let buckets = world.inner().buckets.read();
        let Some(found) = buckets.get(bucket) else {
            return false;
        };
        (found.owner.clone(), found.policy.clone())
    };
    let resource = match key {
        Some(key) => format!("arn:aws:s3:::{bucket}/{key}"),
        None => format!("arn:aws:s3:::{bucket}"),
    };
    caller.may(&Ask { action, resource: &resource, owner: &owner, resource_policy: policy.as_deref(), context })
}

/// The permission that an operation needs.
fn action(op: &str, query: &str) -> String {
    let versioned = parameter(query, "versionId").is_some();
    let name = match op {
        "GetObject" | "HeadObject" if versioned => "GetObjectVersion",
        "DeleteObject" if versioned => "DeleteObjectVersion",
        "HeadObject" => "GetObject",
        "ListObjects" | "ListObjectsV2" | "HeadBucket" => "ListBucket",
        "CopyObject" | "CreateMultipartUpload" | "UploadPart" | "UploadPartCopy" | "CompleteMultipartUpload" => {
            "PutObject"
        }
        "ListParts" => "ListMultipartUploadParts",
        "ListMultipartUploads" => "ListBucketMultipartUploads",
        "GetObjectLockConfiguration" => "GetBucketObjectLockConfiguration",
        "ListObjectVersions" => "ListBucketVersions",
        other => other,
    };
    format!("s3:{name}")
}

/// The keys that only listings have.
fn list_context(op: &str, query: &str, mut context: Context) -> Context {
    if !matches!(op, "ListObjects" | "ListObjectsV2") {
        return context;
    }
    // A listing without a prefix has an empty one.
    context.set("s3:prefix", parameter(query, "prefix").unwrap_or_default());
    for name in ["delimiter", "max-keys"] {
        if let Some(value) = parameter(query, name) {
            context.set(&format!("s3:{name}"), value);
        }
    }
    context
}

/// The keys that only writes have ("Enforce conditional writes on Amazon S3 buckets").
fn write_context(op: &str, headers: &HeaderMap, mut context: Context) -> Context {
    let creates = match op {
        "PutObject" | "CopyObject" | "CompleteMultipartUpload" => true,
        "CreateMultipartUpload" | "UploadPart" | "UploadPartCopy" => false,
        _ => return context,
    };
    context.set("s3:ObjectCreationOperation", creates.to_string());
    for name in ["if-none-match", "if-match"] {
        if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
            context.set(&format!("s3:{name}"), value.to_owned());
        }
    }
    context
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
