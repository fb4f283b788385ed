//! Deleting at the source: apart from [`Source`], so that whoever only mirrors cannot.

use std::future::Future;

use super::Source;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::object::ETag;

/// One object to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveRequest {
    /// The whole key.
    pub key: String,
    /// The version that is meant, and no other: there is no request without it.
    pub if_match: ETag,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// It was there and is deleted. A bucket with versions keeps it behind a delete marker, of this version.
    Deleted(Option<String>),
    /// Nothing stands under the key.
    Absent,
    /// Another version stands there, or a delete marker; nothing was done.
    Changed,
}

/// An answer to a [`RemoveRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// What became of the object.
    pub removed: Removed,
    /// The service's own time when it answered (the `Date` header).
    pub served_at: Option<Timestamp>,
}

/// A source whose objects can be deleted.
pub trait Remove: Source {
    /// Deletes one version of an object, if it is the one that stands there.
    ///
    /// # Errors
    /// `Credentials` and `Transient` as for [`Source::list`], and then it is not known whether it was deleted; `Stream`
    /// with the service's code when it was refused.
    fn remove(&self, request: &RemoveRequest) -> impl Future<Output = Result<Removal, Error>> + Send;
}
