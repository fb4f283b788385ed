//! The walk itself: each hop in order, up to the first that fails.

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::blame::{self, Blame, Scene};
use super::{Finding, Hop, Permission, State};
use crate::clock::{Timestamp, seconds_between};
use crate::config::Source;
use crate::error::{Class, Error};
use crate::role::{AwsSts, Identity, Process};
use crate::source::client::Failure;
use crate::source::s3::probe::{Probe, Seen};
use crate::status::Age;

mod bucket;
mod deletion;
mod objects;
mod ours;
mod session;

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
        self.deletion(&probe, &found.streams, &bodies).await
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

    fn skipped(&mut self, hop: Hop, why: &str) {
        self.findings.push(Finding::new(hop, State::Skipped, "nothing", why));
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

fn off_by(ahead: i64) -> String {
    match ahead {
        -2..=2 => "the same to the second".to_owned(),
        3.. => format!("{} ahead of the service's", Age(ahead)),
        _ => format!("{} behind the service's", Age(-ahead)),
    }
}
