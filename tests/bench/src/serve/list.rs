//! Listings, in both versions, in the order of keys, with delimiters, of computed keys and of stored ones.

use std::collections::BTreeMap;

use super::control::{self, Counters};
use super::http::{Answer, Request, decoded};
use super::objects::Entry;
use super::{World, calendar};

const PAGE: usize = 1_000;
const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                    <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";

/// What is listed.
struct Query {
    prefix: Vec<u8>,
    delimiter: Option<u8>,
    /// From this key on.
    from: Vec<u8>,
    most: usize,
}

/// What a page says of an object.
pub struct Line<'a> {
    pub etag: &'a str,
    pub size: u64,
    pub modified: i64,
}

/// A page under way.
struct Page {
    items: Vec<u8>,
    count: usize,
    /// The last key or folder; the next page begins after it.
    last: Vec<u8>,
    more: bool,
}

/// Answers whatever is asked of a bucket.
pub fn answer(world: &mut World, request: &Request) -> Answer {
    if request.asks("location").is_some() {
        return Answer::xml("<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>");
    }
    if request.asks("uploads").is_some() {
        let text = "<ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                    <IsTruncated>false</IsTruncated></ListMultipartUploadsResult>";
        return Answer::xml(text);
    }
    if request.asks("object-lock").is_some() {
        return Answer::error("404 Not Found", "ObjectLockConfigurationNotFoundError");
    }
    let query = Query::of(request);
    let counters: &mut Counters = &mut world.counters;
    counters.lists += 1;
    match query.delimiter {
        Some(_) => counters.folders += 1,
        None if counters.first_listing == 0.0 => counters.first_listing = control::precise(),
        None => {}
    }
    let page = match request.bucket == world.spec.bucket {
        true => of_source(world, &query),
        false => of_own(world, &request.bucket, &query),
    };
    let after_ms = world.spec.list_ms;
    Answer { after_ms, ..Answer::xml(document(request, &query, &page)) }
}

impl Query {
    fn of(request: &Request) -> Self {
        let asked = |name| request.asks(name).filter(|value| !value.is_empty());
        let prefix = request.asks("prefix").unwrap_or_default().as_bytes().to_vec();
        let after = asked("continuation-token").map(decoded).or_else(|| {
            let marker = asked("start-after").or_else(|| asked("marker"))?;
            Some(marker.as_bytes().to_vec())
        });
        let delimiter = asked("delimiter").and_then(|value| value.bytes().next());
        let from = after.map_or_else(|| prefix.clone(), |after| next_after(after, delimiter).max(prefix.clone()));
        let most = asked("max-keys").and_then(|value| value.parse().ok()).unwrap_or(PAGE).min(PAGE);
        Self { prefix, delimiter, from, most }
    }

    /// The folder that a key is folded into.
    fn folder<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        let rest = &key[self.prefix.len()..];
        let at = rest.iter().position(|byte| Some(*byte) == self.delimiter)?;
        Some(&key[..self.prefix.len() + at + 1])
    }
}

/// The first key after this one; after a folder, the first that is not in it.
fn next_after(mut after: Vec<u8>, delimiter: Option<u8>) -> Vec<u8> {
    match after.last_mut() {
        Some(last) if Some(*last) == delimiter => *last += 1,
        _ => after.push(0),
    }
    after
}

impl Page {
    fn new() -> Self {
        Self { items: Vec::with_capacity(400 * PAGE), count: 0, last: Vec::new(), more: false }
    }

    /// Takes a key; gives the key to go on from, or nothing where the page is full or the prefix at its end.
    fn take(&mut self, query: &Query, key: &[u8], line: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u8>> {
        if !key.starts_with(&query.prefix) {
            return None;
        }
        if self.count == query.most {
            self.more = true;
            return None;
        }
        self.count += 1;
        let Some(folder) = query.folder(key) else {
            line(&mut self.items);
            self.last.clear();
            self.last.extend_from_slice(key);
            return Some(Vec::new());
        };
        self.items.extend_from_slice(b"<CommonPrefixes><Prefix>");
        escaped(folder, &mut self.items);
        self.items.extend_from_slice(b"</Prefix></CommonPrefixes>");
        self.last = folder.to_vec();
        Some(next_after(folder.to_vec(), query.delimiter))
    }
}

fn of_source(world: &World, query: &Query) -> Page {
    let bucket = &world.source;
    let (mut page, mut key) = (Page::new(), Vec::with_capacity(160));
    let mut number = bucket.keys.lower_bound(&query.from);
    let mut later = bucket.later.range(query.from.clone()..).peekable();
    loop {
        let computed = number < bucket.keys.len();
        if computed {
            bucket.keys.write(number, &mut key);
        }
        let is_later = later.peek().is_some_and(|(other, _)| !computed || **other < key);
        let (taken, entry) = match (is_later, later.peek()) {
            (true, Some((key, entry))) => (key.as_slice(), **entry),
            _ if computed => (key.as_slice(), bucket.numbered(number)),
            _ => return page,
        };
        let next = page.take(query, taken, |items| {
            let Entry { body, modified } = entry;
            let body = bucket.body(body);
            object(items, taken, &Line { etag: &body.etag, size: body.bytes.len() as u64, modified });
        });
        match next {
            None => return page,
            Some(next) if next.is_empty() && is_later => drop(later.next()),
            Some(next) if next.is_empty() => number += 1,
            Some(next) => {
                number = bucket.keys.lower_bound(&next);
                later = bucket.later.range(next..).peekable();
            }
        }
    }
}

fn of_own(world: &World, bucket: &str, query: &Query) -> Page {
    let mut page = Page::new();
    let none = BTreeMap::new();
    let stored = world.own.objects(bucket).unwrap_or(&none);
    let mut from = query.from.clone();
    'again: loop {
        for (key, object_of) in stored.range(from.clone()..) {
            let next = page.take(query, key, |items| object(items, key, &object_of.line()));
            match next {
                None => return page,
                Some(next) if next.is_empty() => {}
                Some(next) => {
                    from = next;
                    continue 'again;
                }
            }
        }
        return page;
    }
}

fn object(items: &mut Vec<u8>, key: &[u8], line: &Line<'_>) {
    items.extend_from_slice(b"<Contents><Key>");
    escaped(key, items);
    items.extend_from_slice(b"</Key><LastModified>");
    calendar::iso(line.modified, items);
    items.extend_from_slice(b"</LastModified><ETag>&quot;");
    items.extend_from_slice(line.etag.as_bytes());
    items.extend_from_slice(b"&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>");
    items.extend_from_slice(b"<ChecksumType>FULL_OBJECT</ChecksumType><Size>");
    items.extend_from_slice(line.size.to_string().as_bytes());
    items.extend_from_slice(b"</Size><StorageClass>STANDARD</StorageClass></Contents>");
}

/// Keys here need no escape, neither XML's nor that of a URL; others are written as a URL.
fn escaped(key: &[u8], text: &mut Vec<u8>) {
    for byte in key {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'*' => text.push(*byte),
            byte => text.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

fn document(request: &Request, query: &Query, page: &Page) -> Vec<u8> {
    let mut text = Vec::with_capacity(page.items.len() + 1_024);
    let element = |name: &str, value: &[u8], text: &mut Vec<u8>| {
        text.extend_from_slice(format!("<{name}>").as_bytes());
        escaped(value, text);
        text.extend_from_slice(format!("</{name}>").as_bytes());
    };
    text.extend_from_slice(HEAD.as_bytes());
    element("Name", request.bucket.as_bytes(), &mut text);
    element("Prefix", &query.prefix, &mut text);
    let is_v2 = request.asks("list-type") == Some("2");
    for (asked, name) in [("start-after", "StartAfter"), ("delimiter", "Delimiter"), ("marker", "Marker")] {
        if let Some(value) = request.asks(asked) {
            element(name, value.as_bytes(), &mut text);
        }
    }
    if request.asks("encoding-type").is_some() {
        element("EncodingType", b"url", &mut text);
    }
    if is_v2 {
        element("KeyCount", page.count.to_string().as_bytes(), &mut text);
    }
    element("MaxKeys", query.most.to_string().as_bytes(), &mut text);
    element("IsTruncated", page.more.to_string().as_bytes(), &mut text);
    if page.more {
        element(if is_v2 { "NextContinuationToken" } else { "NextMarker" }, &page.last, &mut text);
    }
    text.extend_from_slice(&page.items);
    text.extend_from_slice(b"</ListBucketResult>");
    text
}
