//! Finds a source's streams: organizations, accounts, kinds and regions, by delimiter listings.
//!
//! With accounts configured nothing is ever listed above them: a role that may read only its own logs is
//! refused there.

use std::collections::BTreeMap;

use crate::error::{Class, Error, Report};
use crate::key::Shown;
use crate::layout::{Folder, Kind, Stream, root};
use crate::ledger::Alarm;
use crate::source::{ListRequest, Source};
use crate::status::{NOTHING_THERE, UNDISCOVERED, UNKNOWN_FOLDER};

/// What to look for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Name of the source.
    pub source: String,
    /// What stands before `AWSLogs/`.
    pub prefix: String,
    /// The organization, where it is configured.
    pub organization: Option<String>,
    /// Accounts, where they are configured.
    pub accounts: Vec<String>,
    /// Kinds to mirror.
    pub kinds: Vec<String>,
    /// Regions, where they are configured.
    pub regions: Vec<String>,
}

impl Wanted {
    /// Whether a stream is one that is to be mirrored.
    pub fn covers(&self, stream: &Stream) -> bool {
        let listed = |list: &[String], name: &str| list.is_empty() || list.iter().any(|entry| entry == name);
        listed(&self.accounts, &stream.account)
            && listed(&self.regions, &stream.region)
            && self.kinds.iter().any(|kind| kind == stream.kind.folder)
            && self.organization.as_ref().is_none_or(|organization| stream.organization.as_ref() == Some(organization))
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Streams, in a fixed order.
    pub streams: Vec<Stream>,
    /// Folders that are no organization, account or configured kind, and how many objects lie beside folders.
    pub unknown: BTreeMap<String, String>,
    /// Prefixes that could not be listed, or not to their end, and why; what is under them is unknown.
    pub failed: Vec<(String, Error)>,
    /// Configured accounts under which there is nothing.
    pub empty: Vec<String>,
    /// Further such folders, which are not named.
    pub unnamed: u64,
    /// LIST requests.
    pub lists: u64,
}

/// Folders that are reported by name; more are only counted.
const NAMED: usize = 50;
/// Folders that are kept of one level, and pages that are read of it: a planted million must fill neither the memory
/// nor the bill.
const MOST: usize = 20_000;
const PAGES: usize = 500;

/// Kinds of alarms that the next discovery raises again or clears.
pub const ALARMS: [&str; 3] = [UNKNOWN_FOLDER, UNDISCOVERED, NOTHING_THERE];

/// The alarm of a prefix that could not be listed; empty for the source as a whole.
pub fn undiscovered(prefix: &str, error: &Error) -> Alarm {
    Alarm { kind: UNDISCOVERED, subject: prefix.to_owned(), detail: error.to_string() }
}

/// Discovers the streams of a source.
///
/// One account that cannot be listed does not keep the others from being found.
///
/// # Errors
/// When the accounts cannot be listed: as for [`Source::list`].
pub async fn discover<S: Source>(source: &S, wanted: &Wanted) -> Result<Found, Error> {
    let mut search = Search { source, wanted, found: Found::default() };
    let root = root(&wanted.prefix);
    let accounts = match (&wanted.organization, wanted.accounts.is_empty()) {
        (organization, false) => {
            wanted.accounts.iter().map(|account| (organization.clone(), account.clone())).collect()
        }
        (Some(organization), true) => search.accounts_under(&root, Some(organization)).await?,
        (None, true) => search.accounts_everywhere(&root).await?,
    };
    for (organization, account) in &accounts {
        let before = (search.found.streams.len(), search.found.failed.len());
        search.streams_of(&root, organization.as_deref(), account).await;
        if before == (search.found.streams.len(), search.found.failed.len()) && !wanted.accounts.is_empty() {
            search.found.empty.push(account.clone());
        }
    }
    Ok(search.found)
}

impl Found {
    /// What must be told of this discovery, as alarms: folders that are not mirrored, accounts that could not be
    /// looked at, and accounts without logs.
    pub fn alarms(&self) -> Vec<Alarm> {
        let unknown = self.unknown.iter().map(|(folder, why)| Alarm {
            kind: UNKNOWN_FOLDER,
            subject: folder.clone(),
            detail: why.clone(),
        });
        let unnamed = (self.unnamed > 0).then(|| Alarm {
            kind: UNKNOWN_FOLDER,
            subject: String::new(),
            detail: format!("{} more folders are not mirrored", self.unnamed),
        });
        let failed = self.failed.iter().map(|(prefix, error)| undiscovered(prefix, error));
        let empty = self.empty.iter().map(|account| Alarm {
            kind: NOTHING_THERE,
            subject: account.clone(),
            detail: format!("no logs of account {account} were ever delivered under the configured prefix"),
        });
        unknown.chain(unnamed).chain(failed).chain(empty).collect()
    }

    /// Nothing was found, and not for want of logs.
    pub fn is_nothing(&self) -> bool {
        self.streams.is_empty() && !self.failed.is_empty()
    }
}

struct Search<'s, S> {
    source: &'s S,
    wanted: &'s Wanted,
    found: Found,
}

type Account = (Option<String>, String);

impl<S: Source> Search<'_, S> {
    async fn accounts_everywhere(&mut self, root: &str) -> Result<Vec<Account>, Error> {
        let mut accounts = Vec::new();
        let is_known = |name: &str| !matches!(Folder::of(name), Folder::Unknown(_));
        for name in self.folders(root, is_known, "no account and no organization").await? {
            match Folder::of(&name) {
                Folder::Organization(organization) => match self.accounts_under(root, Some(organization)).await {
                    Ok(found) => accounts.extend(found),
                    Err(error) => self.found.failed.push((format!("{root}{organization}/"), error)),
                },
                _ => accounts.push((None, name)),
            }
        }
        Ok(accounts)
    }

    async fn accounts_under(&mut self, root: &str, organization: Option<&str>) -> Result<Vec<Account>, Error> {
        let under = organization.map_or_else(|| root.to_owned(), |organization| format!("{root}{organization}/"));
        let is_account = |name: &str| matches!(Folder::of(name), Folder::Account(_));
        let names = self.folders(&under, is_account, "no account").await?;
        Ok(names.into_iter().map(|account| (organization.map(str::to_owned), account)).collect())
    }

    async fn streams_of(&mut self, root: &str, organization: Option<&str>, account: &str) {
        let organization_folder = organization.map(|organization| format!("{organization}/")).unwrap_or_default();
        let under = format!("{root}{organization_folder}{account}/");
        let wanted = self.wanted;
        let is_wanted = |name: &str| Kind::named(name).is_some() && wanted.kinds.iter().any(|kind| kind == name);
        let folders = match self.folders(&under, is_wanted, "no kind that is configured").await {
            Ok(folders) => folders,
            Err(error) => return self.found.failed.push((under, error)),
        };
        for kind in folders.iter().filter_map(|name| Kind::named(name)) {
            self.streams_of_kind(root, organization, account, kind, &format!("{under}{}/", kind.folder)).await;
        }
    }

    async fn streams_of_kind(
        &mut self,
        root: &str,
        organization: Option<&str>,
        account: &str,
        kind: &'static Kind,
        under: &str,
    ) {
        match self.folders(under, |_| true, "").await {
            Ok(regions) => {
                let wanted = &self.wanted.regions;
                let regions = regions.into_iter().filter(|region| wanted.is_empty() || wanted.contains(region));
                let streams =
                    regions.map(|region| Stream::new(&self.wanted.source, root, organization, account, kind, &region));
                self.found.streams.extend(streams);
            }
            Err(error) => self.found.failed.push((under.to_owned(), error)),
        }
    }

    /// The names of the folders directly under a prefix that are wanted, all pages; the others are reported.
    async fn folders(
        &mut self,
        under: &str,
        is_wanted: impl Fn(&str) -> bool,
        why_not: &str,
    ) -> Result<Vec<String>, Error> {
        let (mut names, mut token, mut stray, mut pages) = (Vec::new(), None, 0, 0);
        loop {
            let request = ListRequest { prefix: under.to_owned(), delimiter: true, start_after: None, token };
            self.found.lists += 1;
            pages += 1;
            let page = self.source.list(&request).await?;
            stray += page.objects.iter().filter(|object| object.key != under).count();
            for name in page.prefixes.iter().filter_map(|folder| folder.strip_prefix(under)?.strip_suffix('/')) {
                if is_wanted(name) {
                    names.push(name.to_owned())
                } else {
                    self.unknown(&format!("{under}{name}/"), why_not)
                }
            }
            // The same token again would go on for ever.
            let stuck = page.next.is_some() && page.next == request.token;
            token = page.next;
            if let Some(why) = too_much(stuck, names.len(), pages).filter(|_| token.is_some()) {
                let report = Report::new("ListObjectsV2", under, why).code("TooManyFolders");
                let mend = "name what is to be mirrored (`accounts`, `regions`), and ask Account A who writes there";
                self.found.failed.push((under.to_owned(), Error::of(Class::Stream, report.mend(mend))));
                break;
            }
            if token.is_none() {
                break;
            }
        }
        if stray > 0 {
            self.unknown(under, &format!("{stray} objects lie beside its folders and belong to no stream"));
        }
        Ok(names)
    }

    /// Notes a folder by name; the last note counts those for which there was no room.
    fn unknown(&mut self, folder: &str, why: &str) {
        let unknown = &mut self.found.unknown;
        if unknown.len() < NAMED || unknown.contains_key(folder) {
            unknown.insert(folder.to_owned(), format!("`{}` is not mirrored: {why}", Shown(folder)));
        } else {
            self.found.unnamed += 1;
        }
    }
}

/// Why a level is not read to its end.
fn too_much(stuck: bool, names: usize, pages: usize) -> Option<&'static str> {
    match () {
        () if stuck => Some("the listing gives the same continuation token again: it does not advance"),
        () if names >= MOST => Some("there are more than 20,000 folders; those after them are not looked at"),
        () if pages >= PAGES => Some("there are more than 500 pages of folders; those after them are not looked at"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::layout::KINDS;
    use crate::source::memory::MemorySource;

    fn wanted() -> Wanted {
        Wanted {
            source: "prod".into(),
            prefix: "logs".into(),
            organization: None,
            accounts: Vec::new(),
            kinds: KINDS.iter().map(|kind| kind.folder.to_owned()).collect(),
            regions: Vec::new(),
        }
    }

    fn bucket(keys: &[&str]) -> MemorySource {
        let source = MemorySource::new(Timestamp::from_second(1_700_000_000).unwrap());
        for key in keys {
            source.put(*key, "x");
        }
        source
    }

    const KEYS: [&str; 5] = [
        "logs/AWSLogs/222222222222/CloudTrail/us-east-1/2023/07/10/a.json.gz",
        "logs/AWSLogs/222222222222/Config/us-east-1/2023/07/10/a.json.gz",
        "logs/AWSLogs/o-abcdefghij/333333333333/CloudTrail-Digest/eu-west-1/2023/07/10/a.json.gz",
        "logs/AWSLogs/o-abcdefghij/333333333333/CloudTrail/../2023/07/10/a.json.gz",
        "logs/AWSLogs/strange/x",
    ];

    #[tokio::test]
    async fn organizations_accounts_kinds_and_regions_are_found_and_the_rest_is_reported() {
        let found = discover(&bucket(&KEYS), &wanted()).await.unwrap();
        let names: Vec<_> = found.streams.iter().map(ToString::to_string).collect();
        let expected = [
            "prod/222222222222/CloudTrail/us-east-1",
            "prod/o-abcdefghij/333333333333/CloudTrail-Digest/eu-west-1",
            "prod/o-abcdefghij/333333333333/CloudTrail/..",
        ];
        assert_eq!(names, expected);
        let unknown: Vec<_> = found.unknown.keys().map(String::as_str).collect();
        assert_eq!(unknown, ["logs/AWSLogs/222222222222/Config/", "logs/AWSLogs/strange/"]);
    }

    #[tokio::test]
    async fn with_accounts_configured_nothing_is_listed_above_them() {
        let source = bucket(&KEYS);
        let allowed = "logs/AWSLogs/222222222222/";
        source.allow_listing_only([allowed.to_owned()]);
        let wanted = Wanted { accounts: vec!["222222222222".into()], ..wanted() };
        assert_eq!(discover(&source, &wanted).await.unwrap().streams.len(), 1);
        assert!(source.list_log().iter().all(|request| request.prefix.starts_with(allowed)));
    }

    #[tokio::test]
    async fn one_account_that_is_denied_does_not_hide_the_others() {
        let source = bucket(&KEYS);
        source.deny("logs/AWSLogs/222222222222/");
        let found = discover(&source, &wanted()).await.unwrap();
        assert_eq!((found.streams.len(), found.failed.len()), (2, 1));
    }

    #[tokio::test]
    async fn thousands_of_planted_folders_hide_no_account() {
        let source = bucket(&KEYS);
        for n in 0..25_000 {
            source.put(format!("logs/AWSLogs/0000{n:05}/x/y.gz"), "x");
        }
        let found = discover(&source, &wanted()).await.unwrap();
        assert_eq!((found.streams.len(), found.failed.len()), (3, 0));
        assert_eq!(found.unknown.len() as u64 + found.unnamed, 25_002);
    }

    #[tokio::test]
    async fn more_folders_than_can_be_read_are_reported() {
        let source = bucket(&[]);
        for n in 0..21_000 {
            source.put(format!("logs/AWSLogs/222222222222/CloudTrail/{n:05}/x"), "x");
        }
        let found = discover(&source, &wanted()).await.unwrap();
        assert_eq!((found.streams.len(), found.failed.len()), (20_000, 1));
        assert!(found.failed[0].1.to_string().contains("more than 20,000 folders"), "{}", found.failed[0].1);
    }

    #[tokio::test]
    async fn a_configured_account_without_logs_is_told() {
        let accounts = ["222222222222", "999999999999"].map(str::to_owned).to_vec();
        let found = discover(&bucket(&KEYS), &Wanted { accounts, ..wanted() }).await.unwrap();
        assert_eq!(found.empty, ["999999999999"]);
    }
}
