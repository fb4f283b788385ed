//! Where copies go: stage one object, publish a batch durably.

use std::future::Future;

use crate::content::Asked;
use crate::error::{Class, Error, Report};
use crate::object::{Content, Metadata};
use crate::path::Part;
use crate::source::Body;

pub mod bucket;
pub mod local;
pub mod memory;
pub mod sidecar;
pub mod store;

/// What an object is to be stored as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The object's key.
    pub key: String,
    /// `None` for the first version that was seen. A later version stands beside the first and carries
    /// the first 16 hexadecimal digits of the SHA-256 of its bytes, so that publishing it twice is harmless.
    pub version: Option<String>,
}

/// What became of one staged object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is new here, and durable.
    New,
    /// The same bytes were here already, and are durable.
    Same,
    /// Other bytes are here under this place, and stay; nothing was stored.
    Other,
    /// This storage can never take it, and why; nothing was stored, and the rest of the batch is not concerned.
    Refused(Box<Report>),
}

/// Bytes that wait to be published, with what they turned out to be.
pub struct Staged<H> {
    /// What the bytes are.
    pub content: Content,
    /// How the destination finds them again. Dropping it discards the bytes.
    pub handle: H,
}

/// One staged object and its place.
pub struct Item<H> {
    /// Where it goes.
    pub place: Place,
    /// The bytes.
    pub staged: Staged<H>,
    /// Kept beside the copy, as a small JSON file: user metadata of digests, in which their signature lives.
    ///
    /// It belongs to the object: the same bytes with other metadata are [`Published::Other`].
    pub metadata: Option<Metadata>,
}

/// A copy that was read again.
#[derive(Debug, Clone)]
pub struct Reread {
    /// What its one gzip member holds, or why that cannot be had.
    pub inflated: Result<Vec<u8>, &'static str>,
    /// What was kept beside it; empty when nothing was, or it cannot be read.
    pub metadata: Metadata,
}

/// Storage of our own.
///
/// Append-only: nothing that was published is ever replaced or removed through this trait. What was damaged since is
/// moved aside, and stays.
pub trait Destination: Send + Sync + 'static {
    /// How staged bytes are found again; dropping it discards them.
    type Handle: Send + 'static;

    /// Reads a body to its end, hashing it, into storage that is not yet visible.
    ///
    /// What else than length and SHA-256 is to be found out is `asked`, at least. `expected_size` is what the headers
    /// promised; another length is an error.
    ///
    /// # Errors
    /// Errors of the body pass through. `Transient` for a wrong length or a local write that failed,
    /// `Stream` with code `ENOSPC`, `EDQUOT` or `EROFS` when the storage cannot take anything now.
    fn stage(
        &self,
        body: Body,
        expected_size: u64,
        asked: Asked,
    ) -> impl Future<Output = Result<Staged<Self::Handle>, Error>> + Send;

    /// Makes a batch durable and visible, and says for each, in order, what became of it.
    ///
    /// When this returns `Ok`, everything in it survives a power cut; when it returns an error, nothing may
    /// be recorded (some of the batch may be visible: a second publish finds it `Same`).
    ///
    /// # Errors
    /// As for [`Destination::stage`].
    fn publish(&self, batch: Vec<Item<Self::Handle>>) -> impl Future<Output = Result<Vec<Published>, Error>> + Send;

    /// Keeps a small file of our own beside the copy, durably, under `.trailsync/`; replaces what was there.
    ///
    /// The name may have directories. Each part of it is letters, digits and `-_.=+@%`, and starts with no dot.
    ///
    /// # Errors
    /// As for [`Destination::stage`].
    fn keep(&self, name: &str, bytes: Vec<u8>) -> impl Future<Output = Result<(), Error>> + Send;

    /// Reads a file of our own again; `None` when it was never kept.
    ///
    /// # Errors
    /// As for [`Destination::stage`].
    fn recall(&self, name: &str) -> impl Future<Output = Result<Option<Vec<u8>>, Error>> + Send;

    /// Reads a small gzipped copy again, with its metadata; `None` when there is none.
    ///
    /// Neither the copy nor what it holds may be longer than `most` bytes.
    ///
    /// # Errors
    /// As for [`Destination::stage`].
    fn reread(&self, place: &Place, most: u64) -> impl Future<Output = Result<Option<Reread>, Error>> + Send;

    /// Reads a copy again to hash it, however large it is; `None` when there is none.
    ///
    /// # Errors
    /// As for [`Destination::stage`].
    fn rehash(&self, place: &Place) -> impl Future<Output = Result<Option<Content>, Error>> + Send;

    /// Size and SHA-256 of a copy's bytes as they stand now; `None` when there is none.
    ///
    /// # Errors
    /// As for [`Destination::stage`]; `EIO` when the storage cannot read them any more.
    fn sum(&self, place: &Place) -> impl Future<Output = Result<Option<Sum>, Error>> + Send;

    /// The file of metadata beside an object, as it stands now; `None` when there is none.
    ///
    /// # Errors
    /// As for [`Destination::sum`].
    fn sidecar(&self, place: &Place) -> impl Future<Output = Result<Option<Vec<u8>>, Error>> + Send;

    /// Moves what stands in the place of an object, or of its metadata, to `.trailsync/damaged/`, durably and over
    /// nothing that is there already; says where it is now, `None` when nothing stood there.
    ///
    /// # Errors
    /// As for [`Destination::stage`].
    fn set_aside(&self, place: &Place, part: Part) -> impl Future<Output = Result<Option<String>, Error>> + Send;

    /// The same for a file of our own.
    ///
    /// # Errors
    /// As for [`Destination::stage`].
    fn set_aside_kept(&self, name: &str) -> impl Future<Output = Result<Option<String>, Error>> + Send;

    /// Whether the storage is still where it was opened, as far as that costs nothing to know.
    ///
    /// # Errors
    /// `Stream` when it is not; what was opened may be written to, but nobody would find it.
    fn present(&self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What a copy's bytes are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: [u8; 32],
}

/// Where what was damaged is kept, below our own directory.
const DAMAGED: &str = "damaged";

/// A copy's bytes as [`Destination::reread`] gives them.
fn reread(gzip: &[u8], most: u64, metadata: Option<Metadata>) -> Reread {
    let is_small = gzip.len() as u64 <= most;
    let inflated = if is_small { crate::content::inflate(gzip, most) } else { Err("it is too large") };
    Reread { inflated, metadata: metadata.unwrap_or_default() }
}

fn wrong_length(expected: u64, found: u64) -> Error {
    let message = format!("the body has {found} bytes or more where the headers promised {expected}");
    Error::of(Class::Transient, Report::new("stage", "body", message))
}

fn wrong_version(place: &Place) -> Error {
    Error::of(Class::Fatal, Report::new("publish", &place.key, "a version must be 16 hexadecimal digits"))
}

/// Names of our own files are ours: one that could leave the directory, or hide in it, is a mistake of ours.
///
/// Whatever [`file_safe`](crate::key::file_safe) makes may be a part of one. Some are made of what another account
/// chose, so a mistake here is never more than one stream's trouble.
fn check_own_name(name: &str) -> Result<(), Error> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+@%".contains(&byte);
    let whole = |part: &str| (1..=200).contains(&part.len()) && !part.starts_with('.') && part.bytes().all(safe);
    let reserved = matches!(name.split('/').next(), Some("stage" | "lock" | "damaged"));
    if name.len() <= 1024 && name.split('/').all(whole) && !reserved {
        return Ok(());
    }
    Err(Error::of(Class::Stream, Report::new("keep", name, "no name for a file of our own")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::{Day, Kind, Stream};
    use crate::manifest::file_name;

    /// Text of any length up to that of a key, often of characters that are escaped.
    fn text() -> impl Strategy<Value = String> {
        let any = prop_oneof![Just(' '), Just('%'), Just('.'), Just('é'), Just('\u{1}'), Just('/'), any::<char>()];
        (prop::collection::vec(any, 0..400), 0..1024_usize).prop_map(|(text, room)| {
            let text: String = text.into_iter().collect();
            text[..text.floor_char_boundary(room)].to_owned()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_manifest_of_any_region_and_any_prefix_has_a_name_that_can_be_kept(
            prefix in text(),
            region in text(),
            generation in 1..u32::MAX,
        ) {
            let kind = Kind::named("CloudTrail").unwrap();
            let source = "s".repeat(64);
            let stream = Stream::new(&source, &format!("{prefix}AWSLogs/"), None, "222222222222", kind, &region);
            let name = format!("manifests/{}", file_name(&stream, Day(20_200_101), generation));
            prop_assert!(check_own_name(&name).is_ok(), "{name}");
            prop_assert!(name.split('/').all(|part| part.len() <= 255), "{name}");
        }
    }
}
