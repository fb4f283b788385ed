//! What the copy says of itself: public keys, and what it is a copy of.

use std::collections::BTreeMap;
use std::path::Path;

use super::archive::{Archive, whole};
use super::finding::{Finding, Verdict, What};
use super::settle::Keys;
use crate::copy_of::{self, CopyOf};
use crate::error::{Class, Error, Report};
use crate::own_file::Refused;
use crate::public_keys::{self, PublicKeys};

/// The keys of every region.
#[derive(Default)]
pub struct Ring(BTreeMap<String, Keys>);

impl Ring {
    /// Those of a region.
    pub fn of(&self, region: &str) -> &Keys {
        self.0.get(&public_keys::file_name(region)).unwrap_or(&Keys::Absent)
    }

    /// All that can be used.
    pub fn each(&self) -> impl Iterator<Item = &PublicKeys> {
        self.0.values().filter_map(|keys| match keys {
            Keys::Here(keys) => Some(keys),
            Keys::Damaged | Keys::Absent => None,
        })
    }

    /// The key files of a copy, each checked; with `trusted`, those of that directory count instead.
    ///
    /// # Errors
    /// When the copy or the directory cannot be read.
    pub fn read<A: Archive>(archive: &A, trusted: Option<&Path>, find: &mut dyn FnMut(Finding)) -> Result<Self, Error> {
        let mut ring = Self::default();
        for name in archive.kept_in(public_keys::FOLDER)?.1 {
            let name = format!("{}/{name}", public_keys::FOLDER);
            let Some(file) = archive.kept(&name)? else { continue };
            let keys = parsed(&whole(file, &name)?, &name).unwrap_or_else(|(verdict, why)| {
                find(finding(verdict, What::Keys, &name, why));
                Keys::Damaged
            });
            ring.0.insert(name, keys);
        }
        match trusted {
            Some(directory) => Self::trusted(directory),
            None => Ok(ring),
        }
    }

    /// Key files that somebody keeps elsewhere: one that is damaged is no basis.
    fn trusted(directory: &Path) -> Result<Self, Error> {
        let refused = |why: &dyn std::fmt::Display| {
            let report = Report::new("read the keys in", directory.display().to_string(), why);
            Error::of(Class::Stream, report.mend("give a directory of whole key files, as in `.trailsync/public-keys`"))
        };
        let mut ring = Self::default();
        for entry in std::fs::read_dir(directory).map_err(|error| refused(&error))? {
            let path = entry.map_err(|error| refused(&error))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let bytes = std::fs::read(&path).map_err(|error| refused(&error))?;
                let keys = PublicKeys::parse(&bytes).map_err(|why| refused(&format!("{} {why}", path.display())))?;
                ring.0.insert(public_keys::file_name(&keys.region), Keys::Here(keys));
            }
        }
        Ok(ring)
    }
}

/// What the sources of a copy are.
///
/// # Errors
/// When the copy cannot be read.
pub fn sources<A: Archive>(archive: &A, find: &mut dyn FnMut(Finding)) -> Result<Vec<CopyOf>, Error> {
    let mut sources = Vec::new();
    for name in archive.kept_in(copy_of::FOLDER)?.1 {
        let name = format!("{}/{name}", copy_of::FOLDER);
        let Some(file) = archive.kept(&name)? else { continue };
        match CopyOf::parse(&whole(file, &name)?) {
            Ok(source) if copy_of::file_name(&source.source) == name => sources.push(source),
            Ok(source) => {
                let why = format!("it is the file of another source, {}", source.source);
                find(finding(Verdict::Altered, What::Source, &name, why));
            }
            Err(why) => find(finding(verdict_of(&why), What::Source, &name, format!("it {why}"))),
        }
    }
    Ok(sources)
}

fn parsed(bytes: &[u8], name: &str) -> Result<Keys, (Verdict, String)> {
    match PublicKeys::parse(bytes) {
        Ok(keys) if public_keys::file_name(&keys.region) == name => Ok(Keys::Here(keys)),
        Ok(keys) => Err((Verdict::Altered, format!("it holds the keys of another region, {}", keys.region))),
        Err(why) => Err((verdict_of(&why), format!("it {why}"))),
    }
}

fn verdict_of(why: &Refused) -> Verdict {
    match why {
        Refused::Damaged(_) => Verdict::Altered,
        Refused::Newer => Verdict::Unreadable,
    }
}

fn finding(verdict: Verdict, what: What, name: &str, detail: String) -> Finding {
    let (account, region, trail) = Default::default();
    let key = format!(".trailsync/{name}");
    Finding { verdict, what, account, region, trail, key, from: None, to: None, detail }
}
