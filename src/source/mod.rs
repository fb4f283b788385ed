//! Where log objects come from: list a page, fetch one object.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

pub use self::remove::{Removal, Remove, RemoveRequest, Removed};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::object::{ETag, Listed, Metadata};

pub mod client;
pub mod memory;
mod remove;
pub mod s3;

/// One page to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys that start with this; never empty above what the role may list.
    pub prefix: String,
    /// Fold keys at the next `/` after the prefix.
    pub delimiter: bool,
    /// Only keys that sort after this one, which need not exist.
    pub start_after: Option<String>,
    /// Go on where the page that gave this token ended; wins over `start_after`.
    pub token: Option<String>,
}

/// One page as listed.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// Objects in UTF-8 byte order.
    pub objects: Vec<Listed>,
    /// Folded prefixes, whole, in UTF-8 byte order.
    pub prefixes: Vec<String>,
    /// The token of the next page; `None` ends the listing.
    pub next: Option<String>,
    /// The service's own time when it answered (the `Date` header).
    pub served_at: Option<Timestamp>,
}

/// One object to fetch.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// The whole key.
    pub key: String,
    /// Only this version of it; `None` takes what is there.
    pub if_match: Option<ETag>,
}

/// The bytes of an object as they arrive; an error ends them.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// An object whose headers have arrived.
pub struct Fetched {
    /// Length that the headers promise.
    pub size: u64,
    /// The tag of the version that is being sent.
    pub etag: ETag,
    /// When the service stored it.
    pub modified: Timestamp,
    /// User metadata: for digests it holds the signature.
    pub metadata: Metadata,
    /// `Content-Type` as stored.
    pub content_type: Option<String>,
    /// `Content-Encoding` as stored; the body is never decoded by it.
    pub content_encoding: Option<String>,
    /// The body is checked against a checksum that the service keeps: a mismatch is an error of the body.
    pub checksummed: bool,
    /// The tag is the MD5 of the bytes (single part, not SSE-KMS or SSE-C).
    pub etag_is_md5: bool,
    /// The bytes, verbatim.
    pub body: Body,
}

/// A bucket of somebody else's.
///
/// Implementations make a request once more only when renewed credentials or the right region may mend it;
/// every other retry is the caller's, so that there is one layer of each.
pub trait Source: Send + Sync + 'static {
    /// Lists one page.
    ///
    /// # Errors
    /// `Credentials` when a new session may help, `Transient` when waiting may, else `Stream`.
    fn list(&self, request: &ListRequest) -> impl Future<Output = Result<ListPage, Error>> + Send;

    /// Starts to fetch one object.
    ///
    /// # Errors
    /// `Credentials` and `Transient` as for [`Source::list`]; `Object` with the service's code when only
    /// this object is concerned (`NoSuchKey`, `PreconditionFailed`, `InvalidObjectState`, `AccessDenied`,
    /// `KMS.…`).
    fn fetch(&self, request: &FetchRequest) -> impl Future<Output = Result<Fetched, Error>> + Send;
}
