//! Finds a source's streams: organizations, accounts, kinds and regions, by delimiter listings.
//!
//! With accounts configured nothing is ever listed above them: a role that may read only its own logs is
//! refused there.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::key::Shown;
use crate::layout::{Folder, Kind, Stream, root};
use crate::source::{ListRequest, Source};

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
    /// Prefixes that could not be listed, and why; what is under them is unknown.
    pub failed: Vec<Error>,
    /// LIST requests.
    pub lists: u64,
}

/// Folders that are reported by name; more are only counted.
const NAMED: usize = 50;
/// Folders that are read at one level: a planted million must not fill the memory.
const MOST: usize = 20_000;

/// Discovers the streams of a source.
///
/// One account that cannot be listed does not keep the others from being found.
///
/// # Errors
/// When nothing at all can be listed: as for [`Source::list`].
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
        search.streams_of(&root, organization.as_deref(), account).await;
    }
    match search.found.failed.pop() {
        Some(error) if search.found.streams.is_empty() && search.found.failed.len() + 1 >= accounts.len().max(1) => {
            Err(error)
        }
        Some(error) => {
            search.found.failed.push(error);
            Ok(search.found)
        }
        None => Ok(search.found),
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
        for name in self.folders(root).await? {
            match Folder::of(&name) {
                Folder::Account(account) => accounts.push((None, account.to_owned())),
                Folder::Organization(organization) => match self.accounts_under(root, Some(organization)).await {
                    Ok(found) => accounts.extend(found),
                    Err(error) => self.found.failed.push(error),
                },
                Folder::Unknown(name) => self.unknown(&format!("{root}{name}/"), "no account and no organization"),
            }
        }
        Ok(accounts)
    }

    async fn accounts_under(&mut self, root: &str, organization: Option<&str>) -> Result<Vec<Account>, Error> {
        let under = organization.map_or_else(|| root.to_owned(), |organization| format!("{root}{organization}/"));
        let mut accounts = Vec::new();
        for name in self.folders(&under).await? {
            match Folder::of(&name) {
                Folder::Account(account) => accounts.push((organization.map(str::to_owned), account.to_owned())),
                _ => self.unknown(&format!("{under}{name}/"), "no account"),
            }
        }
        Ok(accounts)
    }

    async fn streams_of(&mut self, root: &str, organization: Option<&str>, account: &str) {
        let organization_folder = organization.map(|organization| format!("{organization}/")).unwrap_or_default();
        let under = format!("{root}{organization_folder}{account}/");
        let folders = match self.folders(&under).await {
            Ok(folders) => folders,
            Err(error) => return self.found.failed.push(error),
        };
        for name in folders {
            match Kind::named(&name).filter(|_| self.wanted.kinds.contains(&name)) {
                Some(kind) => self.streams_of_kind(root, organization, account, kind, &format!("{under}{name}/")).await,
                None => self.unknown(&format!("{under}{name}/"), "no kind that is configured"),
            }
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
        match self.folders(under).await {
            Ok(regions) => {
                let wanted = &self.wanted.regions;
                let regions = regions.into_iter().filter(|region| wanted.is_empty() || wanted.contains(region));
                let streams =
                    regions.map(|region| Stream::new(&self.wanted.source, root, organization, account, kind, &region));
                self.found.streams.extend(streams);
            }
            Err(error) => self.found.failed.push(error),
        }
    }

    /// The names of the folders directly under a prefix, all pages.
    async fn folders(&mut self, under: &str) -> Result<Vec<String>, Error> {
        let (mut names, mut token, mut stray) = (Vec::new(), None, 0);
        loop {
            let request = ListRequest { prefix: under.to_owned(), delimiter: true, start_after: None, token };
            self.found.lists += 1;
            let page = self.source.list(&request).await?;
            stray += page.objects.iter().filter(|object| object.key != under).count();
            let folders = page.prefixes.iter().filter_map(|folder| folder.strip_prefix(under)?.strip_suffix('/'));
            names.extend(folders.map(str::to_owned));
            // The same token again would go on for ever.
            let stuck = page.next.is_some() && page.next == request.token;
            token = page.next;
            if token.is_none() || stuck || names.len() >= MOST {
                break;
            }
        }
        if stray > 0 {
            self.unknown(under, &format!("{stray} objects lie beside its folders and belong to no stream"));
        }
        Ok(names)
    }

    fn unknown(&mut self, folder: &str, why: &str) {
        if self.found.unknown.len() < NAMED {
            self.found.unknown.insert(folder.to_owned(), format!("`{}` is not mirrored: {why}", Shown(folder)));
        }
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
}
