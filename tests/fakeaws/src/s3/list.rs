//! Listings: of objects, in both versions, and of buckets.
//!
//! Their documents are written here, because S3 encodes keys in a way of its own when it is asked
//! to, and because a fault may ask for a document that no serializer would write.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::dto::{Bucket, HeadBucketOutput, ListBucketsOutput, ListObjectsInput, ListObjectsV2Input, Owner, Timestamp};

use super::NAMESPACE;
use crate::caller::Caller;
use crate::clock::iso_millis;
use crate::failure::Failure;
use crate::faults::Fault;
use crate::object::Entry;
use crate::store::{After, Last, Page, PageQuery};
use crate::world::World;
use crate::xml::Xml;

/// A page with what it says about its successor, which faults may falsify.
struct Claimed {
    page: Page,
    next: Option<String>,
    is_truncated: bool,
}

pub(super) fn v2(world: &World, input: &ListObjectsV2Input, faults: &[Fault]) -> Result<String, Failure> {
    let encoding = Encoding::named(input.encoding_type.as_ref().map(|kind| kind.as_str()))?;
    let token = input.continuation_token.as_deref();
    let resumed = token.map(|token| open_token(world, token)).transpose()?;
    let after = match &resumed {
        Some(Last::Key(key)) => Some(After::Key(key)),
        Some(Last::Prefix(prefix)) => Some(After::Prefix(prefix)),
        None => non_empty(input.start_after.as_deref()).map(After::Key),
    };
    let query = PageQuery {
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: non_empty(input.delimiter.as_deref()),
        after,
        max_keys: max_keys(world, input.max_keys)?,
    };
    let page = page(world, &input.bucket, &query)?;
    let next = page.last.as_ref().map(|last| seal_token(world, last));
    let honest = Claimed { page, is_truncated: next.is_some(), next };
    let start = token.map_or_else(|| seal_token(world, &start(&query)), str::to_owned);
    let claimed = faults.iter().fold(honest, |claimed, fault| falsified(claimed, fault, &start));
    let document = v2_document(world, input, &query, &claimed, encoding);
    Ok(spoil(document, faults))
}

/// `start` is a token that leads to this very page.
fn falsified(claimed: Claimed, fault: &Fault, start: &str) -> Claimed {
    let again = Some(start.to_owned());
    match fault {
        Fault::ListTokenLoop => Claimed { next: again, is_truncated: true, ..claimed },
        Fault::ListEmptyTruncated => Claimed { page: Page::default(), next: again, is_truncated: true },
        Fault::ListNoToken => Claimed { next: None, is_truncated: true, ..claimed },
        Fault::ListDropsKey => {
            let mut page = claimed.page;
            page.contents.pop();
            Claimed { page, ..claimed }
        }
        _ => claimed,
    }
}

fn v2_document(
    world: &World,
    input: &ListObjectsV2Input,
    query: &PageQuery<'_>,
    claimed: &Claimed,
    encoding: Encoding,
) -> String {
    let page = &claimed.page;
    let mut xml = Xml::document();
    xml.open_in("ListBucketResult", NAMESPACE).text("Name", &input.bucket).text("Prefix", &encoding.of(query.prefix));
    optional(&mut xml, "StartAfter", input.start_after.as_deref(), encoding);
    optional(&mut xml, "ContinuationToken", input.continuation_token.as_deref(), Encoding::Verbatim);
    optional(&mut xml, "NextContinuationToken", claimed.next.as_deref(), Encoding::Verbatim);
    xml.number("KeyCount", (page.contents.len() + page.common_prefixes.len()) as u64)
        .number("MaxKeys", query.max_keys as u64);
    optional(&mut xml, "Delimiter", query.delimiter, encoding);
    encoding.announce(&mut xml);
    xml.flag("IsTruncated", claimed.is_truncated);
    let owner = input.fetch_owner.unwrap_or_default();
    let owner = owner.then(|| owner_of(world, &input.bucket));
    items(&mut xml, page, encoding, owner.as_deref());
    xml.close("ListBucketResult").finish()
}

pub(super) fn v1(world: &World, input: &ListObjectsInput, faults: &[Fault]) -> Result<String, Failure> {
    let encoding = Encoding::named(input.encoding_type.as_ref().map(|kind| kind.as_str()))?;
    let marker = non_empty(input.marker.as_deref());
    let max_keys = max_keys(world, input.max_keys)?;
    let query = PageQuery {
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: non_empty(input.delimiter.as_deref()),
        after: marker.map(After::Key),
        max_keys,
    };
    let page = page(world, &input.bucket, &query)?;
    let mut xml = Xml::document();
    xml.open_in("ListBucketResult", NAMESPACE)
        .text("Name", &input.bucket)
        .text("Prefix", &encoding.of(query.prefix))
        .text("Marker", &encoding.of(marker.unwrap_or_default()));
    // Without a delimiter the last key itself is the next marker, and the element is absent.
    if let (Some(Last::Key(last) | Last::Prefix(last)), Some(_)) = (&page.last, query.delimiter) {
        xml.text("NextMarker", &encoding.of(last));
    }
    xml.number("MaxKeys", max_keys as u64);
    optional(&mut xml, "Delimiter", query.delimiter, encoding);
    encoding.announce(&mut xml);
    xml.flag("IsTruncated", page.last.is_some());
    let owner = owner_of(world, &input.bucket);
    items(&mut xml, &page, encoding, Some(&owner));
    Ok(spoil(xml.close("ListBucketResult").finish(), faults))
}

/// The buckets of the caller's own account.
pub(super) fn buckets(world: &World, caller: &Caller) -> ListBucketsOutput {
    let all = world.inner().buckets.read();
    let own = all.values().filter(|bucket| bucket.owner == caller.account());
    let shown = own.map(|bucket| Bucket {
        bucket_region: Some(bucket.region.clone()),
        creation_date: Some(Timestamp::from(crate::clock::system_time(bucket.created))),
        name: Some(bucket.name.clone()),
    });
    ListBucketsOutput {
        buckets: Some(shown.collect()),
        owner: Some(Owner { id: Some(canonical_user(caller.account())), ..Owner::default() }),
        ..ListBucketsOutput::default()
    }
}

pub(super) fn head_bucket(world: &World, bucket: &str) -> Result<HeadBucketOutput, Failure> {
    Ok(HeadBucketOutput { bucket_region: Some(region_of(world, bucket)?), ..HeadBucketOutput::default() })
}

/// The first region has no location constraint.
/// Whether a bucket's objects may be locked.
pub(super) fn object_lock(world: &World, bucket: &str) -> Result<String, Failure> {
    let locked = world.inner().buckets.read().get(bucket).is_some_and(|bucket| bucket.object_lock);
    if !locked {
        let message = "Object Lock configuration does not exist for this bucket";
        return Err(Failure::new(http::StatusCode::NOT_FOUND, "ObjectLockConfigurationNotFoundError", message));
    }
    let mut xml = Xml::document();
    xml.open_in("ObjectLockConfiguration", NAMESPACE).text("ObjectLockEnabled", "Enabled");
    Ok(xml.close("ObjectLockConfiguration").finish())
}

pub(super) fn location(world: &World, bucket: &str) -> Result<String, Failure> {
    let region = region_of(world, bucket)?;
    let constraint = if region == "us-east-1" { "" } else { &region };
    Ok(Xml::document().open_in("LocationConstraint", NAMESPACE).raw(constraint).close("LocationConstraint").finish())
}

fn region_of(world: &World, bucket: &str) -> Result<String, Failure> {
    let buckets = world.inner().buckets.read();
    let found = buckets.get(bucket).ok_or_else(|| Failure::no_such_bucket(bucket))?;
    Ok(found.region.clone())
}

fn owner_of(world: &World, bucket: &str) -> String {
    let buckets = world.inner().buckets.read();
    let owner = buckets.get(bucket).map(|bucket| canonical_user(&bucket.owner));
    owner.unwrap_or_default()
}

/// An account's canonical user id: 64 hexadecimal digits that say nothing.
fn canonical_user(account: &str) -> String {
    use aws_lc_rs::digest::{SHA256, digest};
    hex::encode(digest(&SHA256, account.as_bytes()))
}

fn page(world: &World, bucket: &str, query: &PageQuery<'_>) -> Result<Page, Failure> {
    let buckets = world.inner().buckets.read();
    let found = buckets.get(bucket).ok_or_else(|| Failure::no_such_bucket(bucket))?;
    Ok(found.store.page(query))
}

fn max_keys(world: &World, asked: Option<i32>) -> Result<usize, Failure> {
    let most = *world.inner().page_size.read();
    let asked = asked.map_or(Ok(most), usize::try_from);
    let negative = |_| {
        let message = "Argument maxKeys must be an integer between 0 and 2147483647";
        Failure::bad_request("InvalidArgument", message)
    };
    asked.map(|asked| asked.min(most)).map_err(negative)
}

fn items(xml: &mut Xml, page: &Page, encoding: Encoding, owner: Option<&str>) {
    for (key, entry) in &page.contents {
        contents(xml, key, entry, encoding, owner);
    }
    for prefix in &page.common_prefixes {
        xml.open("CommonPrefixes").text("Prefix", &encoding.of(prefix)).close("CommonPrefixes");
    }
}

fn contents(xml: &mut Xml, key: &str, entry: &Entry, encoding: Encoding, owner: Option<&str>) {
    let object = entry.listed();
    xml.open("Contents")
        .text("Key", &encoding.of(key))
        .text("LastModified", &iso_millis(object.modified))
        .text("ETag", &format!("\"{}\"", object.etag));
    if let Some(kind) = object.checksum {
        xml.text("ChecksumAlgorithm", kind.name()).text("ChecksumType", "FULL_OBJECT");
    }
    xml.number("Size", object.size);
    if let Some(owner) = owner {
        xml.open("Owner").text("ID", owner).close("Owner");
    }
    xml.text("StorageClass", object.storage_class).close("Contents");
}

fn optional(xml: &mut Xml, name: &str, value: Option<&str>, encoding: Encoding) {
    if let Some(value) = value {
        xml.text(name, &encoding.of(value));
    }
}

fn non_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// Whether keys are shown as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Verbatim,
    Url,
}

impl Encoding {
    pub(super) fn named(name: Option<&str>) -> Result<Encoding, Failure> {
        match name {
            None | Some("") => Ok(Encoding::Verbatim),
            Some("url") => Ok(Encoding::Url),
            Some(_) => {
                let message = "Invalid Encoding Method specified in Request";
                Err(Failure::bad_request("InvalidArgument", message))
            }
        }
    }

    /// Form style: a space is `+` and a plus is `%2B`, but slashes stay as they are.
    pub(super) fn of(self, text: &str) -> Cow<'_, str> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'*');
        if self == Encoding::Verbatim || text.bytes().all(plain) {
            return Cow::Borrowed(text);
        }
        let parts = text.split('/');
        let encoded = parts.map(|part| form_urlencoded::byte_serialize(part.as_bytes()).collect());
        Cow::Owned(encoded.collect::<Vec<String>>().join("/"))
    }

    pub(super) fn announce(self, xml: &mut Xml) {
        if self == Encoding::Url {
            xml.text("EncodingType", "url");
        }
    }
}

/// Where a page would have started.
fn start(query: &PageQuery<'_>) -> Last {
    match query.after {
        Some(After::Key(key)) => Last::Key(key.to_owned()),
        Some(After::Prefix(prefix)) => Last::Prefix(prefix.to_owned()),
        None => Last::Key(String::new()),
    }
}

/// Tokens are opaque: nobody should read a key out of one, or make one up.
fn seal_token(world: &World, last: &Last) -> String {
    let (kind, key) = match last {
        Last::Key(key) => ('k', key),
        Last::Prefix(prefix) => ('p', prefix),
    };
    let plain = format!("{:016x}{kind}{key}", world.inner().token_seal);
    URL_SAFE_NO_PAD.encode(masked(world, plain.into_bytes()))
}

fn open_token(world: &World, token: &str) -> Result<Last, Failure> {
    let incorrect = || {
        let message = "The continuation token provided is incorrect";
        Failure::bad_request("InvalidArgument", message).detail("ArgumentName", "continuation-token")
    };
    let sealed = URL_SAFE_NO_PAD.decode(token).map_err(|_| incorrect())?;
    let plain = String::from_utf8(masked(world, sealed)).map_err(|_| incorrect())?;
    let seal = format!("{:016x}", world.inner().token_seal);
    let rest = plain.strip_prefix(&seal).ok_or_else(incorrect)?;
    match (rest.strip_prefix('k'), rest.strip_prefix('p')) {
        (Some(key), _) => Ok(Last::Key(key.to_owned())),
        (_, Some(prefix)) => Ok(Last::Prefix(prefix.to_owned())),
        _ => Err(incorrect()),
    }
}

fn masked(world: &World, mut bytes: Vec<u8>) -> Vec<u8> {
    let mut mask = fastrand::Rng::with_seed(world.inner().token_seal);
    for byte in &mut bytes {
        *byte ^= mask.u8(..);
    }
    bytes
}

/// Applies the faults that concern the document as text.
fn spoil(mut document: String, faults: &[Fault]) -> String {
    for fault in faults {
        match fault {
            Fault::ListMalformedXml => {
                let half = document.floor_char_boundary(document.len() / 2);
                document.truncate(half);
                document.push_str("</Contents");
            }
            Fault::ListGiantXml { bytes } => document = with_giant_element(&document, *bytes),
            _ => {}
        }
    }
    document
}

fn with_giant_element(document: &str, bytes: usize) -> String {
    let mut attributes = String::with_capacity(bytes + 16);
    for number in 0_u64.. {
        if attributes.len() >= bytes {
            break;
        }
        attributes.push_str(&format!(" a{number}=\"x\""));
    }
    let end = "</ListBucketResult>";
    let body = document.strip_suffix(end).unwrap_or(document);
    format!("{body}<Giant{attributes}/>{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;

    #[test]
    fn url_encoding_is_form_style_with_bare_slashes() {
        assert_eq!(Encoding::Url.of("a b+c/d\u{1}\u{ffff}"), "a+b%2Bc/d%01%EF%BF%BF");
    }

    #[test]
    fn tokens_open_only_where_they_were_sealed() {
        let (here, elsewhere) = (World::new(FakeClock::system()), World::new(FakeClock::system()));
        let last = Last::Prefix("AWSLogs/\u{1}/".into());
        let token = seal_token(&here, &last);
        assert!(!token.contains("AWSLogs"));
        assert_eq!(open_token(&here, &token).expect("our own token"), last);
        assert!(open_token(&elsewhere, &token).is_err());
        assert!(open_token(&here, "bogus").is_err());
    }
}
