//! What stands in the bucket, read again.

use futures_util::StreamExt as _;

use crate::content::Hashing;
use crate::error::{Class, Error};
use crate::object::Content;
use crate::source::s3::S3Source;
use crate::source::{Body, FetchRequest, Fetched, ListRequest, Source as _};

/// Starts to read what stands under a key; `None` when nothing does.
pub async fn fetch(reader: &S3Source, key: &str) -> Result<Option<Fetched>, Error> {
    match reader.fetch(&FetchRequest { key: key.to_owned(), if_match: None }).await {
        Ok(fetched) => Ok(Some(fetched)),
        Err(error) if error.code() == "NoSuchKey" => Ok(None),
        // Who may list below a prefix only is denied what is missing.
        Err(error) if error.code() == "AccessDenied" && is_missing(reader, key).await => Ok(None),
        // That a copy cannot be read is no fault of the object: others cannot be read either.
        Err(error) if error.class() == Class::Object => Err(error.into_class(Class::Stream)),
        Err(error) => Err(error),
    }
}

/// Whether a listing shows that nothing stands under a key.
pub async fn is_missing(reader: &S3Source, key: &str) -> bool {
    let request = ListRequest { prefix: key.to_owned(), ..ListRequest::default() };
    // A key sorts before all others that start with it.
    reader.list(&request).await.is_ok_and(|page| page.objects.first().is_none_or(|first| first.key != key))
}

/// Hashes a body to its end.
pub async fn hash(mut body: Body, inflate: bool) -> Result<Content, Error> {
    let mut hashing = Hashing::new(inflate);
    while let Some(bytes) = body.next().await {
        hashing.update(&bytes?);
    }
    Ok(hashing.finish())
}

/// The bytes of a body, up to one more than `most`.
pub async fn bytes(mut body: Body, most: u64) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(bytes) = body.next().await {
        all.extend_from_slice(&bytes?);
        if all.len() as u64 > most {
            break;
        }
    }
    Ok(all)
}
