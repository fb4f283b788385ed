//! The walk itself: each hop in order, up to the first that fails.

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::time::timeout;

use super::blame::{self, Blame, Denied, Evidence, Scene};
use super::content::{self, Log};
use super::newest::{Newest, newest};
use super::public_keys::{CloudTrail, PublicKeys as _};
use super::{Finding, Hop, Permission, State};
use crate::assemble::wanted;
use crate::clock::{Timestamp, seconds_between};
use crate::config::{self, Role, Source, shape};
use crate::destination::local::probe::{Probed, probe};
use crate::discover::{Found, discover};
use crate::error::{Class, Error};
use crate::key::Shown;
use crate::layout::{Stream, root};
use crate::policy::install::{Attachment, sid};
use crate::policy::{Partition, SessionPolicy, session_policy, wider_policy};
use crate::renewal::duration_for;
use crate::role::{AssumeRequest, Assumed, AwsSts, Identity, LONGEST_BASE, Process, Sts as _, base, explain};
use crate::source::ListRequest;
use crate::source::client::Failure;
use crate::source::s3::probe::{Opened, Probe, Seen};
use crate::status::Age;
use crate::window::SKEW_SECONDS;

/// Free space below which somebody should know.
const LITTLE_SPACE: u64 = 1 << 30;
/// The same for files: each object is one.
const LITTLE_FILES: u64 = 10_000;
/// Prefixes of the bucket that are searched for `AWSLogs/` when nothing is under the configured one.
const PREFIXES: usize = 20;

/// Walks one source; the findings are in the order of the hops, and end with the first that failed.
pub async fn walk(source: &Source, process: &Process) -> Vec<Finding> {
    let mut walk = Walk::new(source, process);
    // What ended it is the last finding.
    let _ = walk.every_hop().await;
    walk.findings.sort_by_key(|finding| finding.hop);
    walk.findings
}

/// The buckets that the source's role can see, without our own session policy, which would hide them.
///
/// # Errors
/// The findings up to the hop that failed.
pub async fn buckets(source: &Source, process: &Process) -> Result<Vec<Seen>, Vec<Finding>> {
    let mut walk = Walk::new(source, process);
    match walk.visible_buckets().await {
        Ok(seen) => Ok(seen),
        Err(Stopped) => Err(walk.findings),
    }
}

/// A hop failed: it is the last finding, and nothing after it is tried.
struct Stopped;

type Step<T> = Result<T, Stopped>;

struct Walk<'a> {
    source: &'a Source,
    process: &'a Process,
    caller: Option<Identity>,
    served_at: Option<Timestamp>,
    findings: Vec<Finding>,
}

/// Who reads the bucket.
struct Reader {
    base: Credentials,
    chained: bool,
    /// As the daemon reads it.
    narrow: Credentials,
}

/// What was read.
#[derive(Default)]
struct Bodies {
    log: Option<(String, Vec<u8>)>,
    digest: Option<(String, Vec<u8>)>,
    encryption: Vec<(String, Option<String>, Option<String>)>,
}

impl<'a> Walk<'a> {
    fn new(source: &'a Source, process: &'a Process) -> Self {
        Self { source, process, caller: None, served_at: None, findings: Vec::new() }
    }

    async fn every_hop(&mut self) -> Step<()> {
        let http = self.http()?;
        let sts = AwsSts::new(self.source, http.clone());
        let reader = self.session(&sts, http.clone()).await?;
        self.external_id(&sts, &reader).await;
        let probe = Probe::new(self.source, reader.narrow.clone(), http.clone());
        self.bucket(&probe).await?;
        let wide = self.wide(&sts, &reader, http.clone()).await;
        let found = self.list(&probe, wide.as_ref()).await?;
        self.others(wide.as_ref().unwrap_or(&probe)).await;
        let bodies = self.read(&probe, &found.streams).await?;
        let log = self.content(&bodies);
        self.public_keys(&reader, &found.streams, http).await?;
        self.destination().await?;
        self.clock();
        self.feedback(&bodies, log.as_ref());
        Ok(())
    }

    fn http(&mut self) -> Step<SharedHttpClient> {
        let client = self.process.http.get(&self.source.endpoints);
        client.map_err(|error| self.stop(of_error(Hop::Credentials, "to open the way to the services", &error)))
    }

    fn scene(&self) -> Scene<'_> {
        Scene { source: self.source, caller: self.caller.as_ref() }
    }

    fn passed(&mut self, hop: Hop, tried: impl Into<String>, found: impl Into<String>) {
        self.findings.push(Finding::new(hop, State::Passed, tried, found));
    }

    fn stop(&mut self, finding: Finding) -> Stopped {
        self.findings.push(finding);
        Stopped
    }

    /// The hop failed, unless it is the clock's fault: then that is what is said.
    fn refused(&mut self, hop: Hop, tried: impl Into<String>, failure: Failure, blame: Blame) -> Stopped {
        let mut finding = Finding::new(hop, State::Failed, tried, failure.message.clone());
        finding.causes = blame.causes;
        finding.permission = blame.permission;
        finding.policy = blame.policy;
        finding.passing = blame.passing;
        if blame::is_clock(&failure) {
            let now = self.process.clock.now();
            let off = failure.served_at.map(|theirs| format!(": it is {}", off_by(seconds_between(theirs, now))));
            finding.hop = Hop::Clock;
            finding.causes = vec![format!("set this machine's clock{}", off.unwrap_or_default())];
            finding.passing = false;
        }
        finding.code = Some(failure.code).filter(|code| !code.is_empty());
        finding.request_id = failure.request_id;
        self.stop(finding)
    }

    /// Base credentials, who they are, and the role.
    async fn session(&mut self, sts: &AwsSts, http: SharedHttpClient) -> Step<Reader> {
        let base = self.credentials(sts, http).await?;
        let chained = base.session_token().is_some() || self.caller.as_ref().is_some_and(Identity::is_session);
        let narrow = match &self.source.role {
            Some(role) => self.assume(sts, role, &base, chained).await?,
            None => {
                self.skipped(Hop::AssumeRole, "no role is configured");
                base.clone()
            }
        };
        Ok(Reader { base, chained, narrow })
    }

    async fn credentials(&mut self, sts: &AwsSts, http: SharedHttpClient) -> Step<Credentials> {
        let credentials = &self.source.credentials;
        let provider = base::provider(self.source, &self.process.environment, http);
        let loaded = match timeout(LONGEST_BASE, provider.provide_credentials()).await {
            Ok(Ok(base)) => Ok(base),
            Ok(Err(error)) => Err(explain::base(credentials, &error)),
            Err(_) => Err(explain::base_timeout(credentials)),
        };
        let base = loaded.map_err(|error| {
            self.stop(of_error(Hop::Credentials, &format!("to read {}", described(credentials)), &error))
        })?;
        let tried = format!("GetCallerIdentity with {}", described(credentials));
        match sts.caller_identity(&base).await {
            Ok(identity) => self.identified(identity, &base, tried)?,
            // Nobody needs a permission for this call, but a VPC endpoint's policy may not let it through.
            Err(failure) if blame::is_denial(&failure) => {
                let mut finding = Finding::new(Hop::Credentials, State::Warned, tried, failure.message);
                finding.causes =
                    vec!["the policy of a VPC endpoint does not let `sts:GetCallerIdentity` through".into()];
                finding.code = Some(failure.code);
                self.findings.push(finding);
            }
            Err(failure) => {
                let blame = self.scene().identity(&failure);
                return Err(self.refused(Hop::Credentials, tried, failure, blame));
            }
        }
        Ok(base)
    }

    fn identified(&mut self, identity: Identity, base: &Credentials, tried: String) -> Step<()> {
        if identity.is_root() && self.source.role.is_some() {
            return Err(self.stop(of_error(Hop::Credentials, &tried, &explain::root(&identity))));
        }
        let chained = base.session_token().is_some() || identity.is_session();
        let cut = self.source.role.as_ref().is_some_and(|role| duration_for(role.duration, chained).1);
        let mut finding = Finding::new(Hop::Credentials, State::Passed, tried, identity.arn.clone());
        if chained {
            finding.found += ", itself a session: roles that it assumes last an hour at most";
        }
        if cut {
            finding.state = State::Warned;
            finding.causes = vec![
                "`role.duration` is longer than an hour and is cut to one: set it to `1h`, or start \
                                   from the keys of an IAM user"
                    .to_owned(),
            ];
        }
        self.findings.push(finding);
        self.caller = Some(identity);
        Ok(())
    }

    async fn assume(&mut self, sts: &AwsSts, role: &Role, base: &Credentials, chained: bool) -> Step<Credentials> {
        let tried = format!("AssumeRole of {} as `{}`", role.arn, role.session_name);
        let mut policy = role.session_policy.then(|| session_policy(self.source));
        loop {
            match assumed(sts, role, base, chained, policy.as_ref()).await {
                Ok(session) => {
                    self.served_at = session.served_at.or(self.served_at);
                    let note =
                        policy.and_then(|policy| policy.note).map(|note| format!("; {note}")).unwrap_or_default();
                    self.passed(Hop::AssumeRole, tried, format!("a session until {}{note}", session.expires));
                    return Ok(session.credentials);
                }
                Err(failure) => match next_wider(self.source, &failure, policy.as_ref()) {
                    Some(wider) => policy = Some(wider),
                    None => {
                        let blame = self.scene().assume(&failure);
                        return Err(self.refused(Hop::AssumeRole, tried, failure, blame));
                    }
                },
            }
        }
    }

    /// Whoever learns the role's ARN must not get in without the external ID (IAM guide, "The confused deputy problem").
    async fn external_id(&mut self, sts: &AwsSts, reader: &Reader) {
        let Some(role) = self.source.role.as_ref() else {
            return self.skipped(Hop::ExternalId, "no role is configured");
        };
        if role.external_id.is_none() {
            return self.skipped(Hop::ExternalId, "no external ID is configured");
        }
        let without = Role { external_id: None, ..role.clone() };
        let tried = "AssumeRole without the external ID, which must be refused";
        let mut finding = Finding::new(Hop::ExternalId, State::Warned, tried, "");
        match assumed(sts, &without, &reader.base, reader.chained, None).await {
            Ok(_) => {
                finding.found = "a session, although no external ID was named".into();
                finding.causes = vec![
                    "the trust policy has no `sts:ExternalId` condition: somebody who can make us use this role's ARN \
                     reaches these logs (the confused deputy)"
                        .into(),
                ];
                finding.policy = vec![self.scene().line(Attachment::RoleTrust, sid::TRUST)];
            }
            Err(failure) if blame::is_denial(&failure) => {
                finding.state = State::Passed;
                finding.found = "refused, as it must be".into();
            }
            Err(failure) => {
                finding.found = failure.message;
                finding.code = Some(failure.code);
                finding.causes = vec!["it could not be told whether the external ID is asked for: try again".into()];
                finding.passing = true;
            }
        }
        self.findings.push(finding);
    }

    fn skipped(&mut self, hop: Hop, why: &str) {
        self.findings.push(Finding::new(hop, State::Skipped, "nothing", why));
    }

    async fn bucket(&mut self, probe: &Probe) -> Step<()> {
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

    /// The bucket without our own session policy, which would hide what the role could do.
    async fn wide(&self, sts: &AwsSts, reader: &Reader, http: SharedHttpClient) -> Option<Probe> {
        let role = self.source.role.as_ref().filter(|role| role.session_policy)?;
        let session = assumed(sts, role, &reader.base, reader.chained, None).await.ok()?;
        Some(Probe::new(self.source, session.credentials, http))
    }

    async fn list(&mut self, probe: &Probe, wide: Option<&Probe>) -> Step<Found> {
        let under = folders(self.source);
        let tried = format!("ListObjectsV2 under {}", under.join(", "));
        let found = match discover(probe, &wanted(self.source)).await {
            Ok(mut found) if !found.failed.is_empty() => Err(found.failed.remove(0)),
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
        self.passed(Hop::List, tried, listed(&found));
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
    async fn others(&mut self, probe: &Probe) {
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

    /// Reads the newest log and digest, and says how they are encrypted.
    async fn read(&mut self, probe: &Probe, streams: &[Stream]) -> Step<Bodies> {
        let is_digest = |stream: &&Stream| stream.kind.folder == "CloudTrail-Digest";
        let mut logs: Vec<&Stream> = streams.iter().filter(|stream| !is_digest(stream)).collect();
        // What every trail writes comes first.
        logs.sort_by_key(|stream| stream.kind.folder != "CloudTrail");
        let digests: Vec<&Stream> = streams.iter().filter(is_digest).collect();
        let (log, digest) = (self.find(probe, &logs).await?, self.find(probe, &digests).await?);
        let mut bodies = Bodies::default();
        let read = self.get(probe, log.as_ref(), digest.as_ref(), &mut bodies).await?;
        let digests_wanted = self.source.kinds.iter().any(|kind| kind == "CloudTrail-Digest");
        let mut finding = Finding::new(Hop::Get, State::Passed, read.join(", "), sizes(&bodies));
        if digest.is_none() && digests_wanted {
            finding.state = State::Warned;
            finding.causes =
                vec!["there is no digest: Account A must turn log file validation on, or nothing can be proved".into()];
        }
        if read.is_empty() {
            finding.state = State::Warned;
            finding.tried = "to find a log and a digest".into();
            finding.found = "there are folders, but no dated object in them".into();
        }
        self.findings.push(finding);
        let (tried, found) = encryption(&bodies, &self.source.kms_keys);
        self.passed(Hop::Kms, tried, found);
        Ok(bodies)
    }

    async fn find<'s>(&mut self, probe: &Probe, streams: &[&'s Stream]) -> Step<Option<Newest<'s>>> {
        let now = self.served_at.unwrap_or_else(|| self.process.clock.now());
        newest(probe, streams, now).await.map_err(|failure| {
            let prefix = streams.first().map_or_else(String::new, |stream| stream.prefix.clone());
            let blame = self.scene().list(&failure, &prefix);
            self.refused(Hop::List, format!("ListObjectsV2 under {}", Shown(&prefix)), failure, blame)
        })
    }

    /// Reads both; one that is let through is evidence about the other.
    async fn get(
        &mut self,
        probe: &Probe,
        log: Option<&Newest<'_>>,
        digest: Option<&Newest<'_>>,
        bodies: &mut Bodies,
    ) -> Step<Vec<String>> {
        let (mut read, mut failed) = (Vec::new(), None);
        for (is_digest, newest) in [(false, log), (true, digest)] {
            let Some(newest) = newest else { continue };
            let key = &newest.object.key;
            read.push(format!("GetObject of the newest {} {}", if is_digest { "digest" } else { "log" }, Shown(key)));
            match whole(probe, key).await {
                Ok((opened, bytes)) => {
                    bodies.encryption.push((key.clone(), opened.0, opened.1));
                    let slot = if is_digest { &mut bodies.digest } else { &mut bodies.log };
                    // Only logs of the usual kind are read as such.
                    *slot = (is_digest || newest.stream.kind.folder == "CloudTrail").then(|| (key.clone(), bytes));
                }
                Err(failure) => failed = failed.or(Some((key.clone(), failure))),
            }
        }
        let Some((key, failure)) = failed else { return Ok(read) };
        let head_was_allowed = blame::is_denial(&failure) && probe.head(&key).await.is_ok();
        let evidence = Evidence { another_was_read: !bodies.encryption.is_empty(), head_was_allowed };
        let denied = blame::denied(&failure, evidence);
        let is_kms = failure.code.starts_with("KMS.") || (blame::is_denial(&failure) && denied == Denied::Decrypting);
        let hop = if is_kms { Hop::Kms } else { Hop::Get };
        if is_kms {
            let tried = read.join(", ");
            self.passed(Hop::Get, tried, "let through as far as S3 is concerned");
        }
        let blame = self.scene().get(&failure, &key, denied);
        Err(self.refused(hop, format!("GetObject of {}", Shown(&key)), failure, blame))
    }

    fn content(&mut self, bodies: &Bodies) -> Option<Log> {
        let (reader, mut broken) = (self.logged_as(), None);
        let mut whole = |key: &String, why: String| broken = Some(format!("{}: {why}", Shown(key)));
        let log = bodies.log.as_ref().and_then(|(key, bytes)| {
            content::log(bytes, &self.source.bucket, &reader).map_err(|why| whole(key, why)).ok()
        });
        let digest =
            bodies.digest.as_ref().and_then(|(key, bytes)| content::digest(bytes).map_err(|why| whole(key, why)).ok());
        let read = [log.as_ref().map(events), digest.map(|()| "a digest".into())];
        let read: Vec<String> = read.into_iter().flatten().collect();
        let mut finding = Finding::new(Hop::Content, State::Passed, "to inflate and parse them", read.join(" and "));
        if let Some(broken) = broken {
            finding.state = State::Warned;
            finding.found = broken;
            finding.causes = vec![
                "something else than CloudTrail writes under this name, or has altered it: it is mirrored as it is"
                    .into(),
            ];
        } else if read.is_empty() {
            self.skipped(Hop::Content, "nothing was read");
            return log;
        }
        self.findings.push(finding);
        log
    }

    /// The keys of a region whose digests are mirrored, asked for with our own credentials.
    async fn public_keys(&mut self, reader: &Reader, streams: &[Stream], http: SharedHttpClient) -> Step<()> {
        if !self.source.kinds.iter().any(|kind| kind == "CloudTrail-Digest") {
            self.skipped(Hop::PublicKeys, "digests are not mirrored");
            return Ok(());
        }
        let partition = Partition::of(&self.source.region);
        // Another account chooses the names of folders; what becomes part of a host name is a region.
        let sound = |region: &&str| shape::region(region) && Partition::of(region) == partition;
        let digests = streams.iter().filter(|stream| stream.kind.folder == "CloudTrail-Digest");
        let region = digests.map(|stream| stream.region.as_str()).find(sound).unwrap_or(&self.source.region).to_owned();
        let tried = format!("ListPublicKeys in {region}");
        let service = CloudTrail::new(&self.source.endpoints, reader.base.clone(), http);
        match service.valid(&region).await {
            Ok(0) => {
                let mut finding = Finding::new(Hop::PublicKeys, State::Warned, tried, "no key is valid there now");
                finding.causes =
                    vec!["no trail has written digests in this region lately: older ones have their keys".into()];
                self.findings.push(finding);
            }
            Ok(keys) => self.passed(Hop::PublicKeys, tried, format!("{keys} in {region}")),
            Err(failure) => {
                let blame = self.scene().public_keys(&failure);
                return Err(self.refused(Hop::PublicKeys, tried, failure, blame));
            }
        }
        Ok(())
    }

    /// The ARN that CloudTrail logs our requests under.
    fn logged_as(&self) -> String {
        match &self.source.role {
            Some(role) => session_arn(role),
            None => self.caller.as_ref().map(|caller| caller.arn.clone()).unwrap_or_default(),
        }
    }

    async fn destination(&mut self) -> Step<()> {
        let options = self.source.destination.clone();
        let tried = format!("to write, read and remove a file under {}", options.path.display());
        let probed = tokio::task::spawn_blocking(move || probe(&options)).await;
        let probed = match probed {
            Ok(probed) => probed,
            Err(panicked) => {
                let finding = Finding::new(Hop::Destination, State::Failed, tried, panicked.to_string());
                return Err(self.stop(finding));
            }
        };
        let probed = probed.map_err(|error| self.stop(of_error(Hop::Destination, &tried, &error)))?;
        let mut finding = Finding::new(Hop::Destination, State::Passed, tried, room(&probed));
        if !probed.exists {
            finding.tried = format!("whether {} can be made", self.source.destination.path.display());
        }
        finding.causes = shortcomings(&probed);
        if !finding.causes.is_empty() {
            finding.state = State::Warned;
        }
        self.findings.push(finding);
        Ok(())
    }

    fn clock(&mut self) {
        let Some(theirs) = self.served_at else { return self.skipped(Hop::Clock, "the service does not say its time") };
        let ahead = seconds_between(theirs, self.process.clock.now());
        let mut finding = Finding::new(Hop::Clock, State::Passed, "to compare with the service's clock", off_by(ahead));
        if ahead.abs() > SKEW_SECONDS {
            finding.state = State::Warned;
            finding.causes = vec![
                "set this machine's clock: beyond 5 minutes days are not sealed, beyond 15 every request is refused"
                    .into(),
            ];
        }
        self.findings.push(finding);
    }

    fn feedback(&mut self, bodies: &Bodies, log: Option<&Log>) {
        let (Some((key, _)), Some(log)) = (&bodies.log, log) else {
            return self.skipped(Hop::Loop, "no log could be read");
        };
        let tried = format!("to find our own reads in {}", Shown(key));
        let mut finding = Finding::new(Hop::Loop, State::Passed, tried, "none");
        if log.reads > 0 {
            finding.found = format!("reads of this bucket's objects: {}, ours: {}", log.reads, log.own_reads);
        }
        if log.own_reads > 0 {
            finding.state = State::Warned;
            finding.causes = vec![
                "the trail logs data events of the bucket that it writes to: each log that is mirrored makes another; \
                 Account A should exclude this bucket from the trail's data events"
                    .into(),
            ];
        }
        self.findings.push(finding);
    }

    async fn visible_buckets(&mut self) -> Step<Vec<Seen>> {
        let http = self.http()?;
        let sts = AwsSts::new(self.source, http.clone());
        let reader = self.session(&sts, http.clone()).await?;
        let probe = match self.wide(&sts, &reader, http.clone()).await {
            Some(probe) => probe,
            None => Probe::new(self.source, reader.narrow, http),
        };
        probe.buckets().await.map_err(|failure| {
            let mut blame = self.scene().service(&failure, blame::Service::S3);
            if blame::is_denial(&failure) {
                let resource = "*".to_owned();
                blame.permission = Some(Permission { action: "s3:ListAllMyBuckets", resource, condition: None });
                blame.causes = vec!["the role may not list buckets, which mirroring does not need either".to_owned()];
            }
            self.refused(Hop::Bucket, "ListBuckets", failure, blame)
        })
    }
}

/// One try, with this session policy.
async fn assumed(
    sts: &AwsSts,
    role: &Role,
    base: &Credentials,
    chained: bool,
    policy: Option<&SessionPolicy>,
) -> Result<Assumed, Failure> {
    let (duration, _) = duration_for(role.duration, chained);
    sts.assume(AssumeRequest { role, base, duration, policy: policy.map(|policy| policy.json.as_str()) }).await
}

fn next_wider(source: &Source, failure: &Failure, policy: Option<&SessionPolicy>) -> Option<SessionPolicy> {
    let too_large = failure.code.starts_with("PackedPolicyTooLarge");
    policy.filter(|_| too_large).and_then(|policy| wider_policy(source, policy))
}

/// The object's encryption and key, and its bytes.
async fn whole(probe: &Probe, key: &str) -> Result<((Option<String>, Option<String>), Vec<u8>), Failure> {
    let Opened { fetched, encryption, kms_key } = probe.open(key).await?;
    Ok(((encryption, kms_key), content::collect(fetched).await?))
}

/// A finding from an error that explains itself.
fn of_error(hop: Hop, tried: &str, error: &Error) -> Finding {
    let report = error.report();
    let mut finding = Finding::new(hop, State::Failed, tried, report.message.clone());
    finding.code.clone_from(&report.code);
    finding.request_id.clone_from(&report.request_id);
    finding.causes = report.mend.iter().cloned().collect();
    finding.passing = matches!(error.class(), Class::Transient | Class::Credentials);
    finding
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

fn described(credentials: &config::Credentials) -> String {
    let place = explain::place(credentials);
    match credentials {
        config::Credentials::Default => "the default chain of credentials".to_owned(),
        config::Credentials::Profile(_) => format!("the {place}"),
        config::Credentials::Files { .. } | config::Credentials::Environment { .. } => format!("the key in {place}"),
    }
}

fn events(log: &Log) -> String {
    if log.events == 1 { "a log of one event".to_owned() } else { format!("a log of {} events", log.events) }
}

fn sizes(bodies: &Bodies) -> String {
    let sizes = [("log", &bodies.log), ("digest", &bodies.digest)];
    let sizes =
        sizes.into_iter().filter_map(|(what, body)| Some(format!("{what} of {} bytes", body.as_ref()?.1.len())));
    sizes.collect::<Vec<_>>().join(", ")
}

fn encryption(bodies: &Bodies, known: &[String]) -> (String, String) {
    let keys: Vec<&String> = bodies.encryption.iter().filter_map(|(_, _, key)| key.as_ref()).collect();
    let tried = "how they are encrypted".to_owned();
    let Some(key) = keys.first() else { return (tried, "without a KMS key: nothing is needed".to_owned()) };
    let hint = if known.contains(key) { "" } else { "; name it in `kms_keys`, so that `trailsync policy` prints it" };
    (tried, format!("with {}, which decrypts for us{hint}", Shown(key)))
}

fn room(probed: &Probed) -> String {
    let [free, reserved] = [probed.free_bytes, probed.reserved_bytes].map(indicatif::HumanBytes);
    let made = if probed.exists { "" } else { ", not there yet" };
    let allowed = if probed.is_volatile { ", which forgets and is allowed" } else { "" };
    format!("on {}{allowed}, {free} free and {reserved} reserved{made}", probed.file_system)
}

fn shortcomings(probed: &Probed) -> Vec<String> {
    let mut causes = Vec::new();
    if probed.free_bytes < LITTLE_SPACE {
        causes.push("less than 1 GiB is free: make room, or give the copy a volume of its own".to_owned());
    }
    if probed.free_files < LITTLE_FILES {
        causes.push(format!("only {} more files can be made: use a file system with more inodes", probed.free_files));
    }
    causes
}

/// The session's ARN, which drops the role's path (IAM guide, "IAM identifiers").
fn session_arn(role: &Role) -> String {
    let mut parts = role.arn.splitn(6, ':');
    let partition = parts.nth(1).unwrap_or("aws");
    let account = parts.nth(2).unwrap_or_default();
    let name = role.arn.rsplit('/').next().unwrap_or_default();
    format!("arn:{partition}:sts::{account}:assumed-role/{name}/{}", role.session_name)
}

fn off_by(ahead: i64) -> String {
    match ahead {
        -2..=2 => "the same to the second".to_owned(),
        1.. => format!("{} ahead of the service's", Age(ahead)),
        _ => format!("{} behind the service's", Age(-ahead)),
    }
}
