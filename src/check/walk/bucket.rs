//! Where the bucket is, what of it can be listed, and what should not be.

use super::{Step, Walk};
use crate::assemble::wanted;
use crate::check::{Finding, Hop, Permission, State, blame};
use crate::config::Source;
use crate::discover::{Found, discover};
use crate::error::Error;
use crate::key::Shown;
use crate::layout::root;
use crate::policy::install::{Attachment, sid};
use crate::source::ListRequest;
use crate::source::client::Failure;
use crate::source::s3::probe::Probe;

/// Prefixes of the bucket that are searched for `AWSLogs/` when nothing is under the configured one.
const PREFIXES: usize = 20;

impl Walk<'_> {
    pub(super) async fn bucket(&mut self, probe: &Probe) -> Step<()> {
        let owner = self.source.bucket_owner.as_ref();
        let tried = format!("GetBucketLocation of {}", self.source.bucket);
        match probe.location(true).await {
            Ok(located) if located.region == self.source.region => {
                self.served_at = located.served_at.or(self.served_at);
                let whose = owner.map_or_else(String::new, |owner| format!(", of account {owner}"));
                self.passed(Hop::Bucket, tried, format!("in {}{whose}", located.region));
                Ok(())
            }
            Ok(located) => {
                let found = format!("the bucket is in {}", located.region);
                let mut finding = Finding::new(Hop::Bucket, State::Failed, tried, found);
                finding.causes =
                    vec![format!("`region` says {}: set `region = \"{}\"`", self.source.region, located.region)];
                Err(self.stop(finding))
            }
            Err(failure) => {
                let other_owner = blame::is_denial(&failure) && owner.is_some() && probe.location(false).await.is_ok();
                let blame = self.scene().bucket(&failure, other_owner);
                Err(self.refused(Hop::Bucket, tried, failure, blame))
            }
        }
    }

    pub(super) async fn list(&mut self, probe: &Probe, wide: Option<&Probe>) -> Step<Found> {
        let under = folders(self.source);
        let tried = format!("ListObjectsV2 under {}", under.join(", "));
        let found = match discover(probe, &wanted(self.source)).await {
            Ok(mut found) if !found.failed.is_empty() => Err(found.failed.remove(0).1),
            found => found,
        };
        let found = found.map_err(|error| {
            let prefix = error.report().subject.clone();
            let failure = failure_of(&error);
            let blame = self.scene().list(&failure, &prefix);
            self.refused(Hop::List, format!("ListObjectsV2 under {}", Shown(&prefix)), failure, blame)
        })?;
        if found.streams.is_empty() {
            let mut finding = Finding::new(Hop::List, State::Failed, tried, "nothing to mirror");
            finding.causes = self.nothing_there(wide.unwrap_or(probe)).await;
            return Err(self.stop(finding));
        }
        let mut finding = Finding::new(Hop::List, State::Passed, tried, listed(&found));
        if !found.empty.is_empty() {
            finding.state = State::Warned;
            finding.causes = vec![format!("there is nothing under {}: check `accounts`", found.empty.join(", "))];
        }
        self.findings.push(finding);
        Ok(found)
    }

    /// Why nothing may be under the configured folders; where logs are instead, if the role may see that.
    async fn nothing_there(&self, probe: &Probe) -> Vec<String> {
        let mut causes: Vec<String> = elsewhere(probe, self.source).await.into_iter().collect();
        if causes.is_empty() {
            causes.push("`prefix`, `organization` or `accounts` is not exactly the trail's".to_owned());
        }
        causes.push("`kinds` or `regions` leave out what there is".to_owned());
        causes.push("the trail is new, or does not write here: its first log comes within minutes".to_owned());
        causes
    }

    /// With accounts configured the role should show these and no others.
    pub(super) async fn others(&mut self, probe: &Probe) {
        if self.source.accounts.is_empty() {
            return self.skipped(Hop::Others, "all accounts are to be read");
        }
        let above = above(self.source);
        let tried = format!("ListObjectsV2 under {above}, which must be refused");
        let request = ListRequest { prefix: above.clone(), delimiter: true, ..ListRequest::default() };
        let mut finding = Finding::new(Hop::Others, State::Passed, tried, "refused, as it must be");
        match probe.page(&request, Some(100)).await {
            Ok(page) => {
                let folder = |account: &String| format!("{above}{account}/");
                let own: Vec<String> = self.source.accounts.iter().map(folder).collect();
                let others = page.prefixes.iter().filter(|prefix| !own.contains(prefix)).count();
                finding.state = State::Warned;
                finding.found = format!("allowed: it shows {others} more folders");
                finding.causes = vec![
                    "`s3:ListBucket` is allowed without an `s3:prefix` condition, as AWS's own example has it: whoever \
                     assumes the role sees every account's keys"
                        .into(),
                ];
                finding.permission = Some(Permission {
                    action: "s3:ListBucket",
                    resource: self.scene().bucket_arn(),
                    condition: Some(format!("s3:prefix = {}*", own.join("*, "))),
                });
                let attachment =
                    if self.source.role.is_some() { Attachment::RoleAccess } else { Attachment::BucketPolicy };
                finding.policy = vec![self.scene().line(attachment, sid::LIST)];
            }
            Err(failure) if blame::is_denial(&failure) => {}
            Err(failure) => {
                finding.state = State::Warned;
                finding.found = failure.message;
                finding.code = Some(failure.code);
                finding.passing = true;
                finding.causes = vec!["it could not be told what else the role may list: try again".into()];
            }
        }
        self.findings.push(finding);
    }
}

/// What a listing's error tells of the service's answer.
fn failure_of(error: &Error) -> Failure {
    let report = error.report();
    Failure {
        code: error.code().to_owned(),
        message: report.message.clone(),
        request_id: report.request_id.clone(),
        ..Failure::default()
    }
}

/// `[prefix/]AWSLogs/[o-…/]`
fn above(source: &Source) -> String {
    let organization = source.organization.as_ref().map(|organization| format!("{organization}/"));
    format!("{}{}", root(&source.prefix), organization.unwrap_or_default())
}

/// The folders that are configured.
fn folders(source: &Source) -> Vec<String> {
    let above = above(source);
    match source.accounts.as_slice() {
        [] => vec![above],
        accounts => accounts.iter().map(|account| format!("{above}{account}/")).collect(),
    }
}

/// Looks for `AWSLogs/` and organizations where the configuration does not have them.
async fn elsewhere(probe: &Probe, source: &Source) -> Option<String> {
    let folders = async |prefix: &str| {
        let request = ListRequest { prefix: prefix.to_owned(), delimiter: true, ..ListRequest::default() };
        probe.page(&request, Some(100)).await.map(|page| page.prefixes).unwrap_or_default()
    };
    let organization = |names: &[String], under: &str| {
        let names = names.iter().filter_map(|name| name.strip_prefix(under)?.strip_suffix('/'));
        names.filter(|name| crate::layout::is_organization(name)).map(str::to_owned).next()
    };
    let under = root(&source.prefix);
    if let Some(found) =
        organization(&folders(&under).await, &under).filter(|found| source.organization.as_ref() != Some(found))
    {
        return Some(format!("logs are under {under}{found}/: set `organization = \"{found}\"`"));
    }
    let top = folders("").await;
    if !source.prefix.is_empty() && top.iter().any(|folder| folder == "AWSLogs/") {
        return Some("logs are under AWSLogs/ at the top of the bucket: set `prefix = \"\"`".to_owned());
    }
    for folder in top.iter().take(PREFIXES).filter(|folder| **folder != under) {
        let here = format!("{folder}AWSLogs/");
        if folders(folder).await.contains(&here) {
            return Some(format!(
                "logs are under {}: set `prefix = \"{}\"`",
                Shown(&here),
                Shown(folder.trim_end_matches('/'))
            ));
        }
    }
    None
}

fn listed(found: &Found) -> String {
    let mut accounts: Vec<&str> = found.streams.iter().map(|stream| stream.account.as_str()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let mut kinds: Vec<&str> = found.streams.iter().map(|stream| stream.kind.folder).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let accounts = match accounts.len() {
        1 => format!("account {}", accounts[0]),
        many => format!("{many} accounts"),
    };
    format!("{accounts}, {} streams of {}", found.streams.len(), kinds.join(", "))
}
