//! The destination that a configuration names: a tree or a bucket.

use crate::content::Asked;
use crate::error::Error;
use crate::object::Content;
use crate::path::Part;
use crate::source::Body;

use super::bucket::{self, Bucket};
use super::local::{self, Local};
use super::{Destination, Item, Place, Published, Reread, Staged, Sum};

/// Storage of either kind.
#[expect(clippy::large_enum_variant, reason = "there is one for each source")]
pub enum Store {
    /// Files and directories.
    Tree(Local),
    /// Objects in S3.
    Bucket(Bucket),
}

/// Staged bytes of either kind.
pub enum Handle {
    /// In a tree.
    Tree(local::Handle),
    /// For a bucket.
    Bucket(bucket::Handle),
}

impl Store {
    /// Does, once, what a destination needs before its first copy.
    ///
    /// # Errors
    /// As for [`Bucket::prepare`].
    pub async fn prepare(&self) -> Result<(), Error> {
        match self {
            Self::Tree(_) => Ok(()),
            Self::Bucket(bucket) => bucket.prepare().await,
        }
    }
}

impl Destination for Store {
    type Handle = Handle;

    async fn stage(&self, body: Body, expected_size: u64, asked: Asked) -> Result<Staged<Handle>, Error> {
        Ok(match self {
            Self::Tree(tree) => rewrapped(tree.stage(body, expected_size, asked).await?, Handle::Tree),
            Self::Bucket(bucket) => rewrapped(bucket.stage(body, expected_size, asked).await?, Handle::Bucket),
        })
    }

    async fn publish(&self, batch: Vec<Item<Handle>>) -> Result<Vec<Published>, Error> {
        match self {
            Self::Tree(tree) => tree.publish(batch.into_iter().filter_map(of_a_tree).collect()).await,
            Self::Bucket(bucket) => bucket.publish(batch.into_iter().filter_map(of_a_bucket).collect()).await,
        }
    }

    async fn keep(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Tree(tree) => tree.keep(name, bytes).await,
            Self::Bucket(bucket) => bucket.keep(name, bytes).await,
        }
    }

    async fn present(&self) -> Result<(), Error> {
        match self {
            Self::Tree(tree) => tree.present().await,
            Self::Bucket(bucket) => bucket.present().await,
        }
    }

    async fn sum(&self, place: &Place) -> Result<Option<Sum>, Error> {
        match self {
            Self::Tree(tree) => tree.sum(place).await,
            Self::Bucket(bucket) => bucket.sum(place).await,
        }
    }

    async fn sidecar(&self, place: &Place) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Tree(tree) => tree.sidecar(place).await,
            Self::Bucket(bucket) => bucket.sidecar(place).await,
        }
    }

    async fn set_aside(&self, place: &Place, part: Part) -> Result<Option<String>, Error> {
        match self {
            Self::Tree(tree) => tree.set_aside(place, part).await,
            Self::Bucket(bucket) => bucket.set_aside(place, part).await,
        }
    }

    async fn set_aside_kept(&self, name: &str) -> Result<Option<String>, Error> {
        match self {
            Self::Tree(tree) => tree.set_aside_kept(name).await,
            Self::Bucket(bucket) => bucket.set_aside_kept(name).await,
        }
    }

    async fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Tree(tree) => tree.recall(name).await,
            Self::Bucket(bucket) => bucket.recall(name).await,
        }
    }

    async fn reread(&self, place: &Place, most: u64) -> Result<Option<Reread>, Error> {
        match self {
            Self::Tree(tree) => tree.reread(place, most).await,
            Self::Bucket(bucket) => bucket.reread(place, most).await,
        }
    }

    async fn rehash(&self, place: &Place) -> Result<Option<Content>, Error> {
        match self {
            Self::Tree(tree) => tree.rehash(place).await,
            Self::Bucket(bucket) => bucket.rehash(place).await,
        }
    }
}

fn rewrapped<H>(staged: Staged<H>, wrap: impl FnOnce(H) -> Handle) -> Staged<Handle> {
    Staged { content: staged.content, handle: wrap(staged.handle) }
}

/// What a tree staged; a store only ever gets back what it staged itself.
fn of_a_tree(item: Item<Handle>) -> Option<Item<local::Handle>> {
    let Item { place, staged: Staged { content, handle }, metadata } = item;
    match handle {
        Handle::Tree(handle) => Some(Item { place, staged: Staged { content, handle }, metadata }),
        Handle::Bucket(_) => None,
    }
}

fn of_a_bucket(item: Item<Handle>) -> Option<Item<bucket::Handle>> {
    let Item { place, staged: Staged { content, handle }, metadata } = item;
    match handle {
        Handle::Bucket(handle) => Some(Item { place, staged: Staged { content, handle }, metadata }),
        Handle::Tree(_) => None,
    }
}
