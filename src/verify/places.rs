//! Which accounts and regions a copy has, by its folders and by what was recorded of it.

use std::collections::BTreeSet;

use super::archive::Archive;
use crate::error::Error;
use crate::layout::{Folder, Kind, Stream};

/// The folder of digests.
pub const DIGESTS: &str = "CloudTrail-Digest";
/// Prefixes are looked for so deep: a key has no more than 1,024 bytes.
const DEEPEST: usize = 512;

/// One account and region of a copy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// `[prefix/]AWSLogs/`
    pub root: String,
    /// `o-…`
    pub organization: Option<String>,
    /// 12 digits.
    pub account: String,
    /// The region's folder.
    pub region: String,
}

impl Spot {
    /// Where a stream belongs.
    pub fn of(stream: &Stream) -> Option<Self> {
        let (organization, account, region) =
            (stream.organization.clone(), stream.account.clone(), stream.region.clone());
        let org = organization.as_ref().map(|organization| format!("{organization}/")).unwrap_or_default();
        let below = format!("{org}{account}/{}/{region}/", stream.kind.folder);
        let root = stream.prefix.strip_suffix(&below)?.to_owned();
        Some(Self { root, organization, account, region })
    }

    /// The stream of a kind here.
    pub fn stream(&self, kind: &'static Kind) -> Stream {
        Stream::new("", &self.root, self.organization.as_deref(), &self.account, kind, &self.region)
    }

    /// What stands before `AWSLogs/`.
    pub fn prefix(&self) -> &str {
        self.root.strip_suffix("AWSLogs/").unwrap_or_default()
    }
}

/// Every account and region that has a folder of a known kind.
///
/// # Errors
/// When the copy cannot be read.
pub fn spots<A: Archive>(archive: &A) -> Result<BTreeSet<Spot>, Error> {
    let mut spots = BTreeSet::new();
    for root in roots(archive)? {
        for name in archive.list(&root)?.folders {
            match Folder::of(&name) {
                Folder::Account(account) => in_account(archive, &root, None, account, &mut spots)?,
                Folder::Organization(organization) => {
                    for account in archive.list(&format!("{root}{organization}/"))?.folders {
                        if let Folder::Account(account) = Folder::of(&account) {
                            in_account(archive, &root, Some(organization), account, &mut spots)?;
                        }
                    }
                }
                Folder::Unknown(_) => {}
            }
        }
    }
    Ok(spots)
}

/// Every `[prefix/]AWSLogs/`.
fn roots<A: Archive>(archive: &A) -> Result<Vec<String>, Error> {
    let (mut roots, mut folders) = (Vec::new(), vec![(String::new(), 0)]);
    while let Some((folder, depth)) = folders.pop() {
        for name in archive.list(&folder)?.folders {
            let below = format!("{folder}{name}/");
            if name == "AWSLogs" {
                roots.push(below);
            } else if depth < DEEPEST {
                folders.push((below, depth + 1));
            }
        }
    }
    roots.sort_unstable();
    Ok(roots)
}

fn in_account<A: Archive>(
    archive: &A,
    root: &str,
    organization: Option<&str>,
    account: &str,
    spots: &mut BTreeSet<Spot>,
) -> Result<(), Error> {
    let org = organization.map(|organization| format!("{organization}/")).unwrap_or_default();
    let folder = format!("{root}{org}{account}/");
    for kind in archive.list(&folder)?.folders.iter().filter_map(|name| Kind::named(name)) {
        for region in archive.list(&format!("{folder}{}/", kind.folder))?.folders {
            let organization = organization.map(str::to_owned);
            spots.insert(Spot { root: root.to_owned(), organization, account: account.to_owned(), region });
        }
    }
    Ok(())
}

/// Walks a stream's folders in the order of names, each day's folder with all that is below it.
pub struct Folders<'a, A> {
    archive: &'a A,
    prefix: String,
    waiting: Vec<String>,
}

impl<'a, A: Archive> Folders<'a, A> {
    /// All folders below a stream's prefix.
    pub fn new(archive: &'a A, prefix: &str) -> Self {
        Self { archive, prefix: prefix.to_owned(), waiting: vec![String::new()] }
    }
}

impl<A: Archive> Iterator for Folders<'_, A> {
    /// A folder below the prefix, and what stands in it.
    type Item = Result<(String, super::archive::Listed), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let folder = self.waiting.pop()?;
        let listed = match self.archive.list(&format!("{}{folder}", self.prefix)) {
            Ok(listed) => listed,
            Err(error) => return Some(Err(error)),
        };
        self.waiting.extend(listed.folders.iter().rev().map(|name| format!("{folder}{name}/")));
        Some(Ok((folder, listed)))
    }
}
