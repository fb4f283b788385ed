//! A copy in a bucket of our own, as verification sees it. Nothing is ever written.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes as Chunk;
use futures_util::StreamExt as _;
use tokio::runtime::Handle;

use super::archive::{Archive, Bytes, Listed, Standing};
use crate::destination::Place;
use crate::destination::bucket::{Reading, fetch, name};
use crate::destination::sidecar;
use crate::error::{Class, Error};
use crate::object::Metadata;
use crate::retry::PassDelays;
use crate::source::{Body, Fetched, ListPage, ListRequest, Source as _};

/// How often a request is made before its failure counts.
const TRIES: u32 = 5;
/// An object up to this size is read whole, so that a broken connection does not break what reads it.
const WHOLE_BYTES: u64 = 8 << 20;

/// A copy in a bucket. Its methods block on requests, so they belong on threads of their own.
pub struct Vault {
    reading: Reading,
    runtime: Handle,
    /// Where logs begin: `[prefix/]AWSLogs/` of each source that is mirrored there.
    roots: Vec<String>,
    /// Later versions by key; they are few, and stand apart from the first ones.
    later: BTreeMap<String, Vec<Box<str>>>,
    /// Metadata come with the bytes, and are asked for right after them.
    last: Mutex<Option<(Place, Metadata)>>,
}

impl Vault {
    /// The copy that `reading` reads, with the sources that have these roots.
    ///
    /// # Errors
    /// When the bucket cannot be listed.
    pub async fn open(reading: Reading, roots: Vec<String>) -> Result<Self, Error> {
        let runtime = Handle::current();
        let mut vault = Self { reading, runtime, roots, later: BTreeMap::new(), last: Mutex::new(None) };
        let versions = format!("{}{}", vault.reading.prefix, name::VERSIONS);
        let mut request = ListRequest { prefix: versions, ..ListRequest::default() };
        loop {
            let page = vault.page(&request).await?;
            for listed in page.objects {
                if let name::Named::Copy(Place { key, version: Some(version) }) = vault.named(&listed.key) {
                    vault.later.entry(key).or_default().push(version.into());
                }
            }
            match page.next {
                Some(token) => request.token = Some(token),
                None => return Ok(vault),
            }
        }
    }

    fn named(&self, key: &str) -> name::Named {
        name::identify(&self.reading.prefix, key)
    }

    async fn page(&self, request: &ListRequest) -> Result<ListPage, Error> {
        patiently(|| self.reading.source.list(request)).await
    }

    /// Folders and objects right below a folder of the bucket.
    fn pages(&self, folder: String) -> Result<(Vec<String>, Vec<String>), Error> {
        let (mut folders, mut keys) = (Vec::new(), Vec::new());
        let mut request = ListRequest { prefix: folder, delimiter: true, ..ListRequest::default() };
        loop {
            let page = self.runtime.block_on(self.page(&request))?;
            keys.extend(page.objects.into_iter().map(|listed| listed.key));
            let below =
                page.prefixes.iter().filter_map(|prefix| prefix.strip_prefix(&request.prefix)?.strip_suffix('/'));
            folders.extend(below.map(str::to_owned));
            match page.next {
                Some(token) => request.token = Some(token),
                None => return Ok((folders, keys)),
            }
        }
    }

    fn get(&self, key: &str) -> Result<Option<(Metadata, Bytes)>, Error> {
        let source = &self.reading.source;
        self.runtime.block_on(patiently(|| async {
            let Some(Fetched { body, size, metadata, .. }) = fetch(source, key).await? else { return Ok(None) };
            let bytes: Bytes = match size <= WHOLE_BYTES {
                true => Box::new(io::Cursor::new(whole(body).await?)),
                false => Box::new(Flow { runtime: self.runtime.clone(), body, chunk: Chunk::new() }),
            };
            Ok(Some((metadata, bytes)))
        }))
    }

    fn copy(&self, place: &Place) -> Result<Option<(Metadata, Bytes)>, Error> {
        match name::of(&self.reading.prefix, place) {
            Some(key) => self.get(&key),
            None => Ok(None),
        }
    }

    /// Later versions whose keys are below a folder, as they stand in it.
    fn add_later(&self, folder: &str, listed: &mut Listed) {
        let below = self.later.range(folder.to_owned()..).take_while(|(key, _)| key.starts_with(folder));
        for (key, versions) in below {
            let rest = &key[folder.len()..];
            match rest.split_once('/') {
                Some((name, _)) => listed.folders.push(name.to_owned()),
                None => listed
                    .objects
                    .extend(versions.iter().map(|v| Standing { name: rest.into(), version: Some(v.clone()) })),
            }
        }
    }
}

impl Archive for Vault {
    fn list(&self, folder: &str) -> Result<Listed, Error> {
        let mut listed = Listed::default();
        if !self.roots.iter().any(|root| folder.starts_with(root.as_str())) {
            // What else stands in the bucket is none of ours: only the way to the roots is shown.
            let below = self.roots.iter().filter_map(|root| root.strip_prefix(folder)?.split_once('/'));
            listed.folders.extend(below.map(|(name, _)| name.to_owned()));
        } else {
            let place = Place { key: folder.to_owned(), version: None };
            let (folders, keys) = self.pages(name::of(&self.reading.prefix, &place).unwrap_or_default())?;
            listed.folders = folders;
            for key in keys {
                let named = self.named(&key);
                let copy = match &named {
                    name::Named::Copy(Place { key, version: None }) => key.strip_prefix(folder),
                    _ => None,
                };
                // A key that ends in a slash is a folder that somebody made by hand.
                match copy.filter(|name| !name.is_empty()) {
                    Some(name) => listed.objects.push(Standing { name: name.into(), version: None }),
                    None => listed.foreign.push(key),
                }
            }
            self.add_later(folder, &mut listed);
        }
        listed.folders.sort_unstable();
        listed.folders.dedup();
        listed.objects.sort_unstable();
        Ok(listed)
    }

    fn object(&self, place: &Place) -> Result<Option<Bytes>, Error> {
        let Some((metadata, bytes)) = self.copy(place)? else { return Ok(None) };
        if !metadata.is_empty() {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((place.clone(), metadata));
        }
        Ok(Some(bytes))
    }

    fn metadata(&self, place: &Place) -> Result<Option<Vec<u8>>, Error> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let metadata = match last.filter(|(of, _)| of == place) {
            Some((_, metadata)) => Some(metadata),
            None => self.copy(place)?.map(|(metadata, _)| metadata),
        };
        Ok(metadata.filter(|metadata| !metadata.is_empty()).map(|metadata| sidecar::render(&place.key, &metadata)))
    }

    fn kept(&self, name: &str) -> Result<Option<Bytes>, Error> {
        match name::of_own(&self.reading.prefix, name) {
            Some(key) => Ok(self.get(&key)?.map(|(_, bytes)| bytes)),
            None => Ok(None),
        }
    }

    fn kept_in(&self, folder: &str) -> Result<(Vec<String>, Vec<String>), Error> {
        let prefix = format!("{}{}{folder}/", self.reading.prefix, name::OWN);
        let (folders, keys) = self.pages(prefix.clone())?;
        let names = keys.iter().filter_map(|key| key.strip_prefix(&prefix)).filter(|name| !name.is_empty());
        Ok((folders, names.map(str::to_owned).collect()))
    }
}

/// Makes a request again while waiting may help.
async fn patiently<T, F: Future<Output = Result<T, Error>>>(request: impl Fn() -> F) -> Result<T, Error> {
    let mut delays = PassDelays::default();
    loop {
        match request().await {
            Err(error) if error.class() == Class::Transient && delays.failures() + 1 < TRIES => {
                tokio::time::sleep(delays.after(&error, fastrand::f64())).await;
            }
            answer => return answer,
        }
    }
}

async fn whole(mut body: Body) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// A large body as it arrives.
struct Flow {
    runtime: Handle,
    body: Body,
    chunk: Chunk,
}

impl Read for Flow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.body.next()) {
                Some(chunk) => self.chunk = chunk.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let length = self.chunk.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.chunk.split_to(length));
        Ok(length)
    }
}
