//! Which operation a request is, told from its line and headers alone.

use http::Method;
use http::header::HeaderMap;
use serde::{Deserialize, Serialize};

/// The operations that faults and counters speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Op {
    ListObjectsV2,
    ListObjects,
    GetObject,
    HeadObject,
    PutObject,
    CopyObject,
    DeleteObject,
    DeleteObjects,
    HeadBucket,
    GetBucketLocation,
    ListBuckets,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListMultipartUploads,
    GetObjectLockConfiguration,
    AssumeRole,
    GetCallerIdentity,
    ListPublicKeys,
    Other,
}

/// Whose protocol a request speaks, and whose errors it expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    S3,
    Sts,
    CloudTrail,
}

/// The parts of a request by which faults find it and logs show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub bucket: Option<String>,
    pub key: Option<String>,
    pub prefix: Option<String>,
    pub start_after: Option<String>,
    pub continuation: Option<String>,
    pub delimiter: Option<String>,
    pub role_arn: Option<String>,
}

/// Reads an S3 request line.
pub(crate) fn s3(method: &Method, path: &str, query: &str, headers: &HeaderMap) -> (Op, Target) {
    let (bucket, key) = bucket_and_key(path);
    let parameters: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let get = |name: &str| {
        let found = parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    };
    let has = |name: &str| get(name).is_some();
    let target = Target {
        prefix: get("prefix"),
        start_after: get("start-after").or_else(|| get("marker")),
        continuation: get("continuation-token"),
        delimiter: get("delimiter"),
        bucket,
        key,
        role_arn: None,
    };
    let op = match (method.as_str(), target.bucket.is_some(), target.key.is_some()) {
        ("GET", false, _) => Op::ListBuckets,
        (_, true, false) => bucket_op(method, has),
        (_, true, true) => object_op(method, has, headers),
        _ => Op::Other,
    };
    (op, target)
}

fn bucket_op(method: &Method, has: impl Fn(&str) -> bool) -> Op {
    const SUBRESOURCES: [&str; 5] = ["versions", "acl", "policy", "versioning", "tagging"];
    match method.as_str() {
        "GET" if has("location") => Op::GetBucketLocation,
        "GET" if has("list-type") => Op::ListObjectsV2,
        "GET" if has("uploads") => Op::ListMultipartUploads,
        "GET" if has("object-lock") => Op::GetObjectLockConfiguration,
        "GET" if SUBRESOURCES.iter().any(|name| has(name)) => Op::Other,
        "GET" => Op::ListObjects,
        "HEAD" => Op::HeadBucket,
        "POST" if has("delete") => Op::DeleteObjects,
        _ => Op::Other,
    }
}

fn object_op(method: &Method, has: impl Fn(&str) -> bool, headers: &HeaderMap) -> Op {
    match method.as_str() {
        "GET" if has("uploadId") || has("acl") || has("tagging") || has("attributes") => Op::Other,
        "GET" => Op::GetObject,
        "HEAD" => Op::HeadObject,
        "PUT" if has("partNumber") => Op::UploadPart,
        "PUT" if headers.contains_key("x-amz-copy-source") => Op::CopyObject,
        "PUT" => Op::PutObject,
        "POST" if has("uploads") => Op::CreateMultipartUpload,
        "POST" if has("uploadId") => Op::CompleteMultipartUpload,
        "DELETE" if has("uploadId") => Op::AbortMultipartUpload,
        "DELETE" => Op::DeleteObject,
        _ => Op::Other,
    }
}

/// Path style: `/bucket/key`, where the key may hold anything, dots and doubled slashes included.
fn bucket_and_key(path: &str) -> (Option<String>, Option<String>) {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let some = |text: &str| (!text.is_empty()).then(|| percent_decode(text));
    (some(bucket), some(key))
}

/// Decodes `%xx`; unlike in a query, `+` is itself.
pub(crate) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let value = escape
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, line: &str) -> (Op, Target) {
        let method: Method = method.parse().expect("a method");
        let (path, query) = line.split_once('?').unwrap_or((line, ""));
        s3(&method, path, query, &HeaderMap::new())
    }

    #[test]
    fn a_request_line_names_its_operation() {
        for (method, line, expected) in [
            ("GET", "/", Op::ListBuckets),
            ("GET", "/b", Op::ListObjects),
            ("GET", "/b/?list-type=2&prefix=a", Op::ListObjectsV2),
            ("GET", "/b?location", Op::GetBucketLocation),
            ("GET", "/b?uploads&prefix=a", Op::ListMultipartUploads),
            ("GET", "/b?object-lock", Op::GetObjectLockConfiguration),
            ("HEAD", "/b/", Op::HeadBucket),
            ("GET", "/b/k", Op::GetObject),
            ("GET", "/b//", Op::GetObject),
            ("PUT", "/b/k?partNumber=1&uploadId=x", Op::UploadPart),
            ("POST", "/b?delete", Op::DeleteObjects),
        ] {
            assert_eq!(read(method, line).0, expected, "{method} {line}");
        }
    }

    #[test]
    fn keys_are_read_verbatim() {
        for (line, key) in [
            ("/b/../x", "../x"),
            ("/b//a//b/", "/a//b/"),
            ("/b/a+b%20c%2Bd%01", "a+b c+d\u{1}"),
            ("/b/%EF%BF%BF", "\u{ffff}"),
            ("/b/100%", "100%"),
        ] {
            assert_eq!(read("GET", line).1.key.as_deref(), Some(key));
        }
    }
}
