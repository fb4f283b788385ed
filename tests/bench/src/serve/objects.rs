//! Reading objects of the source: computed ones, and those that were delivered since.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::bodies::Body;
use super::http::{Answer, Request, Sent};
use super::keys::Keys;
use super::{World, calendar};

/// A bucket whose keys are computed, but for what was delivered later.
pub struct Bucket {
    pub keys: Keys,
    /// By key: which body, and when it was written.
    pub later: BTreeMap<Vec<u8>, Entry>,
    bodies: Vec<Rc<Body>>,
}

/// What a listing says of an object.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub body: usize,
    pub modified: i64,
}

impl Bucket {
    pub fn new(keys: Keys, bodies: Vec<Body>) -> Self {
        Self { keys, later: BTreeMap::new(), bodies: bodies.into_iter().map(Rc::new).collect() }
    }

    pub fn body(&self, number: usize) -> Rc<Body> {
        self.bodies[number % self.bodies.len()].clone()
    }

    /// The computed object of a number.
    pub fn numbered(&self, number: u64) -> Entry {
        Entry { body: (number % self.bodies.len() as u64) as usize, modified: self.keys.modified(number) }
    }

    /// The object of a key.
    pub fn find(&self, key: &[u8]) -> Option<Entry> {
        if let Some(entry) = self.later.get(key) {
            return Some(*entry);
        }
        let (number, mut found) = (self.keys.lower_bound(key), Vec::with_capacity(160));
        if number >= self.keys.len() {
            return None;
        }
        self.keys.write(number, &mut found);
        (found == key).then(|| self.numbered(number))
    }
}

/// Answers GET and HEAD.
pub fn answer(world: &mut World, request: &Request) -> Answer {
    let is_get = request.method == "GET";
    match is_get {
        true => world.counters.gets += 1,
        false => world.counters.heads += 1,
    }
    let Some(entry) = world.source.find(&request.key) else {
        return Answer::error("404 Not Found", "NoSuchKey");
    };
    if let Some(deliveries) = &mut world.deliveries {
        deliveries.fetched(&request.key);
    }
    let body = world.source.body(entry.body);
    let wanted = request.header("if-match").map(|tag| tag.trim_matches('"'));
    if wanted.is_some_and(|wanted| wanted != body.etag) {
        return Answer::error("412 Precondition Failed", "PreconditionFailed");
    }
    let range = request.header("range").and_then(|range| within(range, body.bytes.len()));
    let mut answer = match (&range, is_get) {
        (Some(range), true) => Answer::new("206 Partial Content", &body.bytes[range.clone()])
            .header("content-range", &format!("bytes {}-{}/{}", range.start, range.end - 1, body.bytes.len())),
        (None, true) => Answer { body: Sent::Shared(entry.body), ..Answer::new("200 OK", "") },
        (_, false) => Answer { body: Sent::Nothing(body.bytes.len() as u64), ..Answer::new("200 OK", "") },
    };
    describe(&mut answer.headers, &body, entry.modified);
    if range.is_none() && request.header("x-amz-checksum-mode").is_some() {
        answer = answer.header("x-amz-checksum-crc64nvme", &body.crc64).header("x-amz-checksum-type", "FULL_OBJECT");
    }
    answer.after_ms = world.spec.get_ms;
    answer
}

fn describe(headers: &mut Vec<u8>, body: &Body, modified: i64) {
    headers.extend_from_slice(b"last-modified: ");
    calendar::http(modified, headers);
    headers.extend_from_slice(b"\r\netag: \"");
    headers.extend_from_slice(body.etag.as_bytes());
    headers.extend_from_slice(b"\"\r\naccept-ranges: bytes\r\ncontent-type: application/json\r\n");
    headers.extend_from_slice(b"x-amz-server-side-encryption: AES256\r\n");
}

/// `bytes=from-to`, as far as there is something.
pub fn within(range: &str, length: usize) -> Option<std::ops::Range<usize>> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from: usize = from.parse().ok()?;
    let to = to.parse().map_or(length, |last: usize| last.saturating_add(1).min(length));
    (from < to).then_some(from..to)
}
