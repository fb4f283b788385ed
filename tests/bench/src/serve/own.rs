//! Buckets that are written into: what is put there, on which condition, with which checksum.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::bodies::{Body, sha256};
use super::http::{Answer, Request, decoded};
use super::list::Line;
use super::{World, calendar, control};

/// Every bucket but the source, by name.
#[derive(Default)]
pub struct Buckets(HashMap<String, BTreeMap<Vec<u8>, Stored>>);

/// An object that was put.
pub struct Stored {
    body: Rc<Body>,
    sha256: String,
    metadata: Vec<(String, String)>,
    modified: i64,
}

impl Stored {
    pub fn line(&self) -> Line<'_> {
        Line { etag: &self.body.etag, size: self.body.bytes.len() as u64, modified: self.modified }
    }
}

impl Buckets {
    pub fn objects(&self, bucket: &str) -> Option<&BTreeMap<Vec<u8>, Stored>> {
        self.0.get(bucket)
    }
}

/// Answers what is asked of an object.
pub fn answer(world: &mut World, request: &Request) -> Answer {
    match request.method.as_str() {
        "PUT" if request.header("x-amz-copy-source").is_some() => copy(world, request),
        "PUT" => put(world, request),
        "GET" | "HEAD" => read(world, request),
        _ => {
            world.counters.others += 1;
            Answer::error("501 Not Implemented", "NotImplemented")
        }
    }
}

fn put(world: &mut World, request: &Request) -> Answer {
    world.counters.puts += 1;
    let sum = sha256(&request.body);
    if request.header("x-amz-checksum-sha256").is_some_and(|claimed| claimed != sum) {
        return Answer::error("400 Bad Request", "BadDigest");
    }
    let body = Rc::new(Body::of(request.body.clone()));
    let etag = body.etag.clone();
    match store(world, request, body, sum.clone()) {
        false => Answer::error("412 Precondition Failed", "PreconditionFailed"),
        true => Answer::new("200 OK", "")
            .header("etag", &format!("\"{etag}\""))
            .header("x-amz-checksum-sha256", &sum)
            .header("x-amz-checksum-type", "FULL_OBJECT")
            .header("x-amz-server-side-encryption", "AES256"),
    }
}

fn copy(world: &mut World, request: &Request) -> Answer {
    world.counters.copies += 1;
    let from = decoded(request.header("x-amz-copy-source").unwrap_or_default());
    let from = from.strip_prefix(b"/").unwrap_or(&from);
    let at = from.iter().position(|byte| *byte == b'/').unwrap_or(from.len());
    let (bucket, key) = (&from[..at], from.get(at + 1..).unwrap_or_default());
    let Some(body) = found(world, bucket, key) else {
        return Answer::error("404 Not Found", "NoSuchKey");
    };
    let wanted = request.header("x-amz-copy-source-if-match").map(|tag| tag.trim_matches('"'));
    if wanted.is_some_and(|wanted| wanted != body.etag) {
        return Answer::error("412 Precondition Failed", "PreconditionFailed");
    }
    let (sum, etag) = (sha256(&body.bytes), body.etag.clone());
    if !store(world, request, body, sum.clone()) {
        return Answer::error("412 Precondition Failed", "PreconditionFailed");
    }
    let mut modified = Vec::new();
    calendar::iso(control::now(), &mut modified);
    Answer::xml(format!(
        "<CopyObjectResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LastModified>{}</LastModified>\
         <ETag>&quot;{etag}&quot;</ETag><ChecksumSHA256>{sum}</ChecksumSHA256>\
         <ChecksumType>FULL_OBJECT</ChecksumType></CopyObjectResult>",
        String::from_utf8_lossy(&modified)
    ))
}

/// What stands under a key of any bucket.
fn found(world: &World, bucket: &[u8], key: &[u8]) -> Option<Rc<Body>> {
    if bucket == world.spec.bucket.as_bytes() {
        return world.source.find(key).map(|entry| world.source.body(entry.body));
    }
    let objects = world.own.objects(std::str::from_utf8(bucket).ok()?)?;
    objects.get(key).map(|stored| stored.body.clone())
}

/// Keeps an object, unless something is there and the request says that nothing may be.
fn store(world: &mut World, request: &Request, body: Rc<Body>, sha256: String) -> bool {
    let objects = world.own.0.entry(request.bucket.clone()).or_default();
    if request.header("if-none-match").is_some() && objects.contains_key(&request.key) {
        return false;
    }
    let metadata = request.named("x-amz-meta-");
    objects.insert(request.key.clone(), Stored { body, sha256, metadata, modified: control::now() });
    true
}

fn read(world: &mut World, request: &Request) -> Answer {
    let is_get = request.method == "GET";
    match is_get {
        true => world.counters.gets += 1,
        false => world.counters.heads += 1,
    }
    let found = world.own.objects(&request.bucket).and_then(|objects| objects.get(&request.key));
    let Some(stored) = found else {
        return Answer::error("404 Not Found", "NoSuchKey");
    };
    let mut answer = Answer::new("200 OK", "").header("etag", &format!("\"{}\"", stored.body.etag));
    answer.body = match is_get {
        true => super::http::Sent::Own(stored.body.bytes.clone()),
        false => super::http::Sent::Nothing(stored.body.bytes.len() as u64),
    };
    let mut modified = Vec::new();
    calendar::http(stored.modified, &mut modified);
    answer = answer.header("last-modified", &String::from_utf8_lossy(&modified));
    for (name, value) in &stored.metadata {
        answer = answer.header(name, value);
    }
    if request.header("x-amz-checksum-mode").is_some() {
        answer = answer.header("x-amz-checksum-sha256", &stored.sha256).header("x-amz-checksum-type", "FULL_OBJECT");
    }
    answer.header("x-amz-server-side-encryption", "AES256")
}

impl Request {
    /// Headers whose names start like this.
    fn named(&self, start: &str) -> Vec<(String, String)> {
        self.headers().iter().filter(|(name, _)| name.starts_with(start)).cloned().collect()
    }
}
